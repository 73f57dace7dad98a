"""``stagepose show``: a set's labels over its pictures, for any skeleton; what cannot be read is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import contents, tiny_coco, tiny_dict

from stagepose import cli
from stagepose.coco import read_dataset
from stagepose.draw import CENTRE, LEFT, RIGHT
from stagepose.labelled import draw_labels
from stagepose.skeleton import COCO_17, LSP_14

GREY, SIZE = 128, (1000, 800)  # pictures of this width are not enlarged
Grid = NDArray[np.uint8]


def row(points: NDArray[np.float64], v: list[int], box: list[float], **more: Any) -> dict[str, Any]:
    """An annotation of keypoints (K, 2) with their visibility and a box (x, y, width, height)."""
    triples = np.column_stack([points, v]) * (np.array(v) > 0)[:, None]
    return {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box, "area": box[2] * box[3] / 2,
            "keypoints": triples.ravel().tolist(), "num_keypoints": int((np.array(v) > 0).sum()), **more}


def grey_set(folder: Path, rows: list[dict[str, Any]], names: tuple[str, ...] = COCO_17.names,
             size: tuple[int, int] = SIZE) -> Path:
    """One grey picture of ``size`` and who is in it."""
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", size, (GREY,) * 3).save(folder / "images/grey.png")
    data = {"images": [{"id": 1, "file_name": "grey.png", "width": size[0], "height": size[1]}],
            "annotations": [{"id": n, **each} for n, each in enumerate(rows, 1)],
            "categories": [{"id": 1, "name": "person", "keypoints": list(names), "skeleton": []}]}
    (folder / "people.json").write_text(json.dumps(data))
    return folder / "people.json"


def zigzag(count: int) -> NDArray[np.float64]:
    """(count, 2) points well apart, on whole pixels."""
    return np.column_stack([np.where(np.arange(count) % 2, 200, 600), 60 + 30 * np.arange(count)]).astype(float)


def show(file: Path, *options: str, out: str = "out") -> int:
    return cli.main(["show", str(file), "--out", str(file.parent / out), *options])


def shown(file: Path, name: str = "grey.labels.png", out: str = "out") -> Grid:
    return np.asarray(Image.open(file.parent / out / name))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_visible_joint_is_full_a_hidden_one_hollow_an_unlabelled_one_not_there(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple(f"{side}_{k}" for k in range(8) for side in ("left", "right"))
    points, v = zigzag(16), [k % 3 for k in range(16)]
    file = grey_set(tmp_path, [row(points, v, [150, 20, 500, 560])], names)
    assert show(file) == 0
    assert capsys.readouterr() == ("grey.png: 1 person, 10 joints, 5 of them hidden: grey.labels.png\n",
                                   f"1 of 1 picture; written to {tmp_path / 'out'}\n")
    picture = shown(file)
    assert picture.shape == (800, 1000, 3)
    for name, (x, y), level in zip(names, points.astype(int), v, strict=True):
        side = LEFT if name.startswith("left") else RIGHT
        around = picture[y - 12 : y + 13, x - 12 : x + 13].reshape(-1, 3)
        assert ((around == side).all(1).sum() > 8) == (level > 0) == (around != GREY).any(), name
        assert tuple(picture[y, x]) == (side if level == 2 else (GREY,) * 3), name


def test_a_crowd_has_a_dashed_frame_a_person_corners(tmp_path: Path) -> None:
    unseen = [0] * 17
    file = grey_set(tmp_path, [row(zigzag(17), [2] * 17, [150, 20, 500, 560]),
                               row(zigzag(17), unseen, [700, 100, 200, 400], iscrowd=1),
                               row(zigzag(17), unseen, [20, 600, 300, 150])])
    assert show(file) == 0
    picture = shown(file)

    def changed(y: int, x: slice) -> NDArray[np.bool_]:
        return np.asarray((picture[y, x] != GREY).any(-1))

    dashes = changed(100, slice(720, 880))
    assert 5 < np.diff(dashes.astype(int)).clip(0).sum() < 15
    box = changed(600, slice(18, 322))  # of somebody without a labelled joint
    assert box[:30].all() and box[-30:].all() and not box[60:240].any()


@pytest.mark.parametrize("names", [tuple(f"point_{k}" for k in range(21)), LSP_14.names])
def test_any_skeleton_and_several_people(names: tuple[str, ...], tmp_path: Path) -> None:
    points, small = zigzag(len(names)), zigzag(len(names)) / 10 + [700, 20]
    file = grey_set(tmp_path, [row(small, [2] * len(names), [710, 20, 60, 80]),
                               row(points, [2] * len(names), [150, 20, 500, 700])], names)
    assert show(file) == 0
    picture = shown(file)
    for x, y in points.astype(int):
        assert tuple(picture[y, x]) in (LEFT, RIGHT, CENTRE)
    assert (picture[20:100, 715:765] != GREY).any(-1).mean() > 0.03
    if names == LSP_14.names:  # what the file does not label is not there
        assert show(file, "--skeleton", "coco17", out="coco") == 0
        neck, wrist = points[names.index("neck")].astype(int), points[names.index("left_wrist")].astype(int)
        picture = shown(file, out="coco")
        assert tuple(picture[neck[1], neck[0]]) != CENTRE and tuple(picture[wrist[1], wrist[0]]) == LEFT


def test_the_smaller_of_two_is_in_front(tmp_path: Path) -> None:
    near, far = zigzag(17), zigzag(17)[COCO_17.flip_index]
    rows = [row(far, [2] * 17, [250, 60, 300, 500]), row(near, [2] * 17, [150, 20, 500, 560])]
    for order in (rows, rows[::-1]):
        picture = shown(file) if show(file := grey_set(tmp_path / f"set-{order[0]['bbox'][0]}", order)) == 0 else None
        assert picture is not None
        x, y = far[COCO_17.index("left_wrist")].astype(int)
        assert tuple(picture[y, x]) == LEFT


def test_small_pictures_are_enlarged_by_a_whole_number(tmp_path: Path) -> None:
    file = grey_set(tmp_path, [row(zigzag(17) / 4, [2] * 17, [40, 5, 120, 140])], size=(220, 160))
    assert show(file) == 0
    picture = shown(file)
    assert picture.shape == (800, 1100, 3)
    for x, y in zigzag(17) / 4:
        at = np.rint((np.array([x, y]) + 0.5) * 5 - 0.5).astype(int)  # the middle of the pixel's block
        assert tuple(picture[at[1], at[0]]) in (LEFT, RIGHT, CENTRE)
    dataset = read_dataset(file)
    once = draw_labels(np.full((160, 220, 3), GREY, np.uint8), dataset, 1)
    assert once.shape == (160, 220, 3) and dataset.keypoints[0, 0, 0] == zigzag(17)[0, 0] / 4, "the labels stay"


def test_the_seed_draws_and_more_are_the_same_and_others(tmp_path: Path) -> None:
    file = tiny_coco(tmp_path, images=12, people=1)
    for out, options in {"three": ("--count", "3"), "six": ("--count", "6"), "again": ("--count", "3"),
                         "other": ("--count", "3", "--seed", "1"), "all": ("--count", "all")}.items():
        assert show(file, *options, out=out) == 0
    three, six, other = (set(names_in(tmp_path / out)) for out in ("three", "six", "other"))
    assert len(three) == 3 and len(six) == 6 and three < six and three != other
    assert contents(tmp_path / "three") == contents(tmp_path / "again")
    assert len(names_in(tmp_path / "all")) == 12


def test_pictures_without_labelled_people_are_left_out_unless_asked_for(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_coco(tmp_path, images=3, people=1)
    data = json.loads(file.read_text())
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] == 2]
    file.write_text(json.dumps(data))
    assert show(file) == 0 and names_in(tmp_path / "out") == ["000000000002.labels.png"]
    assert show(file, "--all-images", out="all") == 0 and len(names_in(tmp_path / "all")) == 3
    assert "000000000003.png: 0 people, 0 joints, 0 of them hidden: " in capsys.readouterr().out
    file.write_text(json.dumps({**data, "annotations": []}))
    assert show(file, out="none") == 1 and not (tmp_path / "none").exists()
    assert capsys.readouterr().err == (f"error: {file}: no picture has people with labelled keypoints, of 3 pictures; "
                                       "--all-images draws them all the same\n")


def test_missing_and_damaged_pictures_are_said_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_coco(tmp_path, images=3, people=1)
    pictures = [tmp_path / f"images/{n:012d}.png" for n in (1, 2, 3)]
    pictures[0].unlink()
    pictures[1].write_bytes(pictures[1].read_bytes()[:900])
    assert show(file) == 0
    err = capsys.readouterr().err.splitlines()
    assert [line.startswith("skipped: ") for line in err] == [True, True, False, False]
    assert pictures[0].name in err[0] and pictures[1].name in err[1]
    assert err[2:] == [f"1 of 3 pictures; written to {tmp_path / 'out'}", "2 pictures could not be used, see above"]
    assert names_in(tmp_path / "out") == ["000000000003.labels.png"]
    pictures[2].unlink()
    assert show(file) == 1
    assert "3 pictures could not be used" in capsys.readouterr().err
    assert show(file, "--images", str(tmp_path / "nowhere")) == 1
    assert capsys.readouterr().err == (f"error: {tmp_path / 'nowhere'}: no such folder; --images names the one that "
                                       f"holds the pictures of {file}\n")


def test_a_picture_of_another_size_is_drawn_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tiny_coco(tmp_path, images=1)
    Image.new("RGB", (300, 200)).save(tmp_path / "images/000000000001.png")
    assert show(file) == 0
    err = capsys.readouterr().err
    assert "000000000001.png: is 300x200, but its labels are for 192x160; drawn all the same\n" in err


def test_one_name_in_two_folders_and_no_picture_is_written_over(tmp_path: Path) -> None:
    data = tiny_dict(images=3, people=1)
    for image, name in zip(data["images"], ("a/same.jpg", "b/same.jpg", "same.labels.jpg"), strict=True):
        image["file_name"] = name
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (192, 160), (GREY,) * 3).save(tmp_path / name)
    (tmp_path / "people.json").write_text(json.dumps(data))
    before = (tmp_path / "same.labels.jpg").read_bytes()
    assert cli.main(["show", str(tmp_path / "people.json"), "--images", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "same.labels.jpg").read_bytes() == before
    assert {"same-2.labels.jpg", "same-3.labels.jpg", "same.labels.labels.jpg"} <= set(names_in(tmp_path))


@pytest.mark.parametrize(("options", "message"), [
    (["--count", "0"], "--count is 0; use at least 1, or all"),
    (["--count", "some"], "--count some: expected a whole number or all"),
    (["--no-mirror"], "name its preset with --augmented"),
    (["--augment", "shift=0"], "name its preset with --augmented"),
    (["--augmented", "pose-small", "--count", "all"], "give --count a number"),
    (["--augmented", "pose-small", "--all-images"], "leave out --all-images"),
])  # fmt: skip
def test_wrong_usage(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(tiny_coco(tmp_path, images=1), *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


WITHOUT_TORCH = """
import sys
from stagepose import cli

class NoTorch:
    def find_spec(name, *_):
        if name == "torch":
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, NoTorch)
words = ["show", sys.argv[1], "--out", sys.argv[2]]
assert cli.main(words) == 0
sys.exit(cli.main([*words, "--augmented", "pose-small"]))
"""


def test_labels_are_drawn_without_torch_and_samples_ask_for_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_TORCH, str(tiny_coco(tmp_path, images=1)), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith('error: torch is not installed; run: pip install "stagepose[train]"\n')
