"""What the documentation shows works word for word: its Python is run, and the plain example gives our numbers."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shutil
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stagepose
from stagepose.cli import COMMANDS, main
from stagepose.heatmaps import CODECS, Codec
from stagepose.images import write_image
from stagepose.modelinfo import KEY
from stagepose.onnxfile import read_metadata, with_metadata
from stagepose.runtime import PoseModel, resolve

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "examples/two_people.jpg"
PLAIN = ROOT / "examples/plain_onnxruntime.py"


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def run(page: str, without: str | None = None, **names: Any) -> dict[str, Any]:
    """All Python of a page, one snippet after the other, each with what those before it have defined.

    Snippets that have ``without`` in them are left out.
    """
    for number, snippet in enumerate(snippets(page), 1):
        if without is not None and without in snippet:
            continue
        exec(compile(snippet, f"{page}, snippet {number}", "exec"), names)
    return names


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(PHOTO, "photo.jpg")
    return tmp_path


def film(path: str) -> None:
    """A few frames of the two people, who drift to the left."""
    pixels = stagepose.read_image(PHOTO).pixels
    with stagepose.VideoWriter(path, 640, 480, 10) as writer:
        for number in range(3):
            writer.add(np.ascontiguousarray(pixels[:480, 8 * number : 8 * number + 640]), number / 10)


@pytest.mark.usefixtures("desk")
def test_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md")
    assert capsys.readouterr().out.count("(17, 2)") == 2


def test_from_python(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    film("video.mp4")
    assert main(["predict", "photo.jpg"]) == 0
    run("docs/python.md", without="stagepose.training")
    out = capsys.readouterr().out
    assert len(re.findall(r"^photo.jpg (\d+\.\d+|nan)$", out, re.MULTILINE)) == 2
    assert '"left_wrist": [' in out and (desk / "photo.pose.jpg").exists()
    assert (desk / "photo.csv").read_text().startswith("score,box_score,x1,") and (desk / "person-1.jpg").exists()
    assert len(json.loads((desk / "photo.json").read_text())) == 2
    assert re.search(r"^2 [1-9]$", out, re.MULTILINE), "the video's third frame"


@pytest.mark.usefixtures("desk")
def test_training_from_python() -> None:
    pytest.importorskip("torch")
    from tiny import two_sets

    for path in two_sets(Path()):
        path.rename(path.with_name("people.json"))
    [snippet] = [each for each in snippets("docs/python.md") if "stagepose.training" in each]
    names: dict[str, Any] = {"Path": Path, "stagepose": stagepose}  # as snippets before it have them
    exec(compile(snippet, "docs/python.md", "exec"), names)
    assert names["task"].seed == 1 and json.loads(Path("runs/mine/judged.json").read_text())["step"] == 2
    stagepose.load("mine.onnx", threads=1)


def test_the_python_page_has_every_setting_with_its_default() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    for setting in fields(stagepose.PredictorConfig):
        default = json.dumps(setting.default) if isinstance(setting.default, str) else repr(setting.default)
        assert f"\n| `{setting.name}` | `{default}` |" in page


def test_the_results_page_counts_the_keypoints_in_their_order() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    listed = "".join(f"{number}. `{name}`\n" for number, name in enumerate(stagepose.COCO_17.names, 1))
    assert f"\n\n{listed}\n" in page


@pytest.mark.usefixtures("desk")
def test_video(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a video in the webcam's place."""
    pytest.importorskip("av")
    import cv2

    film("clip.mp4")
    device = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: device({0: "clip.mp4"}[number]))
    camera = run("docs/video.md")["camera"]
    out = capsys.readouterr().out
    assert "2 0.2 1 (" in out and "\n2 1 (" in out
    pixels = stagepose.read_image("photo.jpg").pixels
    assert (camera(0.0, pixels) != pixels).any()
    with stagepose.VideoReader("mine.mp4") as reader:
        assert len(list(reader)) == 3


@pytest.mark.usefixtures("desk")
def test_files_that_are_changed_and_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pixels = stagepose.read_image("photo.jpg").pixels
    crops = np.stack([pixels[:256, x : x + 192] for x in range(0, 800, 50)])
    run("docs/deploy.md", crops=crops)
    people, exact = (stagepose.load(name, threads=1)("photo.jpg")[0] for name in ("int8.onnx", "pose-small"))
    boxes, exact_boxes = (sorted(tuple(person.box) for person in found[:2]) for found in (people, exact))
    assert len(exact) == 2 and boxes == exact_boxes  # who scores just below the threshold may come out above in 8 bits
    of_8 = stagepose.load("changed.onnx", threads=1)("photo.jpg")[0]
    for person, same in zip(of_8, stagepose.load(threads=1)("photo.jpg")[0], strict=True):
        assert person.keypoints == pytest.approx(same.keypoints, abs=1e-3)
    assert PoseModel("changed.onnx", threads=1).batch == 8
    assert Path("int8.onnx").stat().st_size < resolve("pose-small").stat().st_size


def test_serve(desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client, but for the port, which may be taken here."""
    pytest.importorskip("fastapi")
    from servers import serving

    monkeypatch.setenv("no_proxy", "*")
    with serving(desk, "--pose", "pose-small", "--threads", "1") as server:
        [client] = snippets("docs/serve.md")
        exec(client.replace("http://127.0.0.1:8000", server.url), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(("name", "factor"), [("pose-small", 1), ("pose-small", 0.2), ("pose-small", 3),
                                              ("pose-medium", 1)])
def test_plain_onnx_runtime_gives_our_numbers(name: str, factor: float) -> None:
    """Of people larger and smaller than a crop, in a picture that the detector's file is given whole and shrunk."""
    import cv2

    pixels = cv2.resize(stagepose.read_image(PHOTO).pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    plain = runpy.run_path(str(PLAIN))
    pose, detector = (plain["open_model"](resolve(file)) for file in (name, "person-small"))
    found, ours = plain["find_people"](pose, detector, pixels), stagepose.load(name)(pixels)[0]
    assert len(found) == len(ours) > 0
    for (points, joints, score), person in zip(found, ours, strict=True):
        assert points == pytest.approx(person.keypoints, abs=1e-6)
        assert joints == pytest.approx(person.scores, abs=1e-9)
        assert score == pytest.approx(person.score, abs=1e-9)


@pytest.mark.parametrize("padding", [None, [1.09, 1.135]], ids=["none", "a pair"])
def test_plain_onnx_runtime_pads_boxes_as_the_file_says(padding: list[float] | None, tmp_path: Path) -> None:
    import cv2

    data = resolve("pose-small").read_bytes()
    about = {key: value for key, value in json.loads(read_metadata(data)[KEY]).items()
             if key not in ("box_padding", "info_sha256")}
    about |= {"box_padding": padding} if padding else {}
    (tmp_path / "mine.onnx").write_bytes(with_metadata(data, {KEY: json.dumps(about)}))
    pixels = cv2.resize(stagepose.read_image(PHOTO).pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    plain = runpy.run_path(str(PLAIN))
    pose, detector = (plain["open_model"](str(file)) for file in (tmp_path / "mine.onnx", resolve("person-small")))
    found, ours = plain["find_people"](pose, detector, pixels), stagepose.load(tmp_path / "mine.onnx")(pixels)[0]
    assert len(found) == len(ours) > 0
    for (points, _, _), person in zip(found, ours, strict=True):
        assert points == pytest.approx(person.keypoints, abs=1e-6)


@pytest.mark.parametrize("codec", [kind(input_size=(96, 128)) for kind in CODECS.values()], ids=list(CODECS))
def test_plain_onnx_runtime_reads_its_own_codec_alone(codec: Codec, tmp_path: Path) -> None:
    """Any other would be read without an error, and some pixels wrong."""
    pytest.importorskip("onnx")
    from toy_models import pose_bytes

    (tmp_path / "mine.onnx").write_bytes(pose_bytes(codec=codec))
    open_model = runpy.run_path(str(PLAIN))["open_model"]
    if codec.name == "udp-oks":
        open_model(str(tmp_path / "mine.onnx"))
        return
    with pytest.raises(SystemExit, match=rf"its codec is '{codec.name}'; this program reads 'udp-oks' alone"):
        open_model(str(tmp_path / "mine.onnx"))


def test_the_deploy_page_names_the_presets_of_the_other_codec() -> None:
    pytest.importorskip("torch")
    from stagepose.training.presets import POSE_PRESETS

    others = [name for name, recipe in POSE_PRESETS.items() if recipe().pose.codec.name != "udp-oks"]
    assert others == [f"{count}xmspn50" for count in range(1, 5)]


def test_the_architecture_page_names_every_file_and_no_other() -> None:
    """Of the command line all but those that have their verb's name."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "src").rglob("*.py")} - {"__init__.py", "__main__.py"}
    verbs = {verb.replace("-", "_") + ".py" for verb in COMMANDS}
    named = set(re.findall(r"\w+\.py", page))
    assert named <= files and files - named <= verbs


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_the_benchmarks_import_of_us_is_there(script: Path) -> None:
    """They take too long to be run here, and would break unseen where a name changes."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stagepose":
            module = import_module(str(node.module))
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or find_spec(f"{node.module}.{name}"), f"{node.module} has no {name}"


def test_plain_onnx_runtime_finds_nobody_in_nothing() -> None:
    plain = runpy.run_path(str(PLAIN))
    pose, detector = (plain["open_model"](resolve(name)) for name in ("pose-small", "person-small"))
    assert plain["find_people"](pose, detector, np.full((96, 128, 3), 127, np.uint8)) == []


def test_plain_onnx_runtime_is_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "photo.png", stagepose.read_image(PHOTO).pixels)
    files = [str(resolve("pose-small")), str(resolve("person-small")), str(tmp_path / "photo.png")]
    monkeypatch.setattr("sys.argv", [str(PLAIN), *files])
    runpy.run_path(str(PLAIN), run_name="__main__")
    out = capsys.readouterr().out
    assert out.count("person: score 0.") == 2 and out.count("left_wrist") == 2
