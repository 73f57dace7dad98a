"""A rendered set: valid, the same from the same seed, whole after an end by force, and plain about wrong wishes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import contents, tiny_coco
from waiting import until

from stagepose import cli
from stagepose.coco import check_dataset, read_dataset
from stagepose.errors import StagePoseError
from stagepose.images import read_image
from stagepose.rendering.settings import RenderConfig
from stagepose.rendering.worker import Order, Workshop

SMALL = ("--size", "48", "--people", "2")


def render(*arguments: str) -> int:
    return cli.main(["render", *arguments])


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures, made by one process."""
    home = tmp_path_factory.mktemp("rendered") / "set"
    assert render("20", "--out", str(home), *SMALL, "--jobs", "1") == 0
    return home


def test_a_set_is_an_ordinary_coco_set(rendered: Path) -> None:
    file = rendered / "person_keypoints.json"
    assert check_dataset(file, images_dir=rendered / "images") == []
    found = read_dataset(file)
    assert len(found.images) == 20 and found.with_keypoints().sum() > 10
    assert found.skeleton.names[0] == "nose" and {0, 1, 2} >= set(np.unique(found.keypoints[..., 2]))
    raw = json.loads(file.read_text())
    assert raw["info"]["generated"] is True and raw["info"]["seed"] == 0
    assert all(image["generated"] and image["license"] == 1 for image in raw["images"])
    with Image.open(rendered / "sheet.jpg") as sheet:
        assert sheet.size == (6 * 256, 4 * 256)


def test_the_number_of_processes_does_not_change_a_byte(rendered: Path, tmp_path: Path) -> None:
    assert render("20", "--out", str(tmp_path / "set"), *SMALL, "--jobs", "3") == 0
    assert contents(tmp_path / "set") == contents(rendered)


def test_another_seed_gives_other_people(rendered: Path, tmp_path: Path) -> None:
    assert render("2", "--out", str(tmp_path / "set"), *SMALL, "--seed", "1") == 0
    other = contents(tmp_path / "set")
    assert all(other[name] != contents(rendered)[name] for name in other if name.startswith("images"))


def test_a_set_grows(rendered: Path, tmp_path: Path) -> None:
    for count in ("3", "20"):
        assert render(count, "--out", str(tmp_path / "set"), *SMALL) == 0
    assert contents(tmp_path / "set") == contents(rendered)


def test_a_killed_rendering_goes_on_to_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    home = tmp_path / "set"
    command = ["render", "20", "--out", str(home), *SMALL, "--jobs", "1"]
    process = subprocess.Popen([sys.executable, "-m", "stagepose.cli", *command], stderr=subprocess.DEVNULL)
    until(lambda: list(home.glob("images/*.jpg")), process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (home / "person_keypoints.json").exists()
    assert cli.main(command) == 0
    left = {name: data for name, data in contents(home).items() if not name.endswith(".tmp")}
    assert left == contents(rendered)


def test_a_lost_picture_is_made_again(rendered: Path, tmp_path: Path) -> None:
    home = tmp_path / "set"
    assert render("4", "--out", str(home), *SMALL) == 0
    whole = contents(home)
    (home / "images" / "000000000002.jpg").unlink()
    assert render("4", "--out", str(home), *SMALL) == 0
    assert contents(home) == whole


def test_backgrounds_and_poses_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "places").mkdir()
    Image.new("RGB", (90, 60), (0, 200, 0)).save(tmp_path / "places" / "green.png")
    poses = tiny_coco(tmp_path)
    home, places = tmp_path / "set", str(tmp_path / "places")
    assert render("3", "--out", str(home), *SMALL, "--backgrounds", places, "--poses", str(poses)) == 0
    assert check_dataset(home / "person_keypoints.json", images_dir=home / "images") == []
    raw = json.loads((home / "person_keypoints.json").read_text())
    assert "licenses" not in raw  # the pictures' rights are whoever's they were
    pixels = [read_image(file).pixels.reshape(-1, 3) for file in (home / "images").iterdir()]
    colours = np.median(np.concatenate(pixels), axis=0).astype(int)
    assert colours[1] > colours[0] + 20 and colours[1] > colours[2] + 20


def test_a_skeleton_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "feet.toml").write_text("""
        [points]
        heel = { bone = "foot.L", reach = 0.08 }
        toe = { vertices = [12923], reach = 0.05 }
        head = { bone = "head", reach = 0.2 }
    """)
    home = tmp_path / "set"
    assert render("2", "--out", str(home), *SMALL, "--skeleton", str(tmp_path / "feet.toml")) == 0
    assert read_dataset(home / "person_keypoints.json").skeleton.names == ("heel", "toe", "head")


# --- wrong wishes


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("0",), "0 pictures asked for; expected 1 or more"),
        (("-3",), "-3 pictures asked for"),
        (("2", "--jobs", "0"), "jobs is 0"),
        (("2", "--size", "8"), "size is 8; expected 32 to 2048"),
        (("2", "--people", "99"), "people is 99; expected 1 to 12"),
        (("2", "--backgrounds", "nowhere"), "nowhere: no such folder; --backgrounds names one"),
        (("2", "--backgrounds", "empty"), "empty: no pictures in this folder"),
        (("2", "--backgrounds", "broken"), "broken.jpg: "),
        (("2", "--poses", "nowhere.json"), "nowhere.json: "),
        (("2", "--skeleton", "nowhere.toml"), "nowhere.toml: cannot read"),
        (("2", "--out", "full"), "full: is not an empty folder"),
    ],
)
def test_a_wrong_wish_is_one_line(arguments: tuple[str, ...], fault: str, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "broken", "full"):
        Path(folder).mkdir()
    Path("broken/broken.jpg").write_bytes(b"no picture")
    Path("full/something.txt").write_text("mine")
    out = () if "--out" in arguments else ("--out", "out")
    assert render(*arguments, *out) == 1
    captured = capsys.readouterr()
    assert fault in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert not Path("out/images").exists()


def test_a_set_of_other_settings_is_left_alone(rendered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(rendered)
    for arguments, fault in ((("--size", "64"), "was begun with size 48, now it is 64"),
                             (SMALL, "has come to picture 20 already")):
        assert render("3", "--out", str(rendered), *arguments, *(() if arguments is SMALL else SMALL[2:])) == 1
        error = capsys.readouterr().err
        assert fault in error and error.count("\n") == 1
    assert contents(rendered) == before


def test_a_set_of_another_version_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "render.json").write_text('{"format": 0}')
    assert render("3", "--out", str(tmp_path), *SMALL) == 1
    error = capsys.readouterr().err
    assert "was begun by another version of render" in error and "choose another folder" in error
    assert [file.name for file in tmp_path.iterdir()] == ["render.json"]


def test_a_full_disk_is_told_and_what_is_done_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "set"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert render("2", "--out", str(home), *SMALL) == 0
    before = contents(home)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert render("2", "--out", str(home), *SMALL) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: {home / 'person_keypoints.json'}: disk full")
        order = Order(home, RenderConfig(size=48, people=2), ())
        with pytest.raises(StagePoseError, match=r"000000000006\.jpg: disk full"):  # as a process would meet it
            Workshop(order).picture(5)
    assert contents(home) == before


def test_rendering_never_imports_torch() -> None:
    code = "import sys, stagepose.commands.render; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
