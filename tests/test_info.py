"""What ``stagepose info`` says of model files, runs and packed people."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_coco
from toy_models import TOY, coco_bytes, detector_bytes, pose_bytes

from stagepose import cli
from stagepose.modelinfo import ModelInfo, stamp, verify
from stagepose.runtime import shipped


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def described(**changes: object) -> ModelInfo:
    """Write m.onnx, a toy with another description -> what it says."""
    data = pose_bytes()
    Path("m.onnx").write_bytes(stamp(data, replace(verify(data), **changes)))  # type: ignore[arg-type]
    return verify(Path("m.onnx").read_bytes())


def rows_of(text: str) -> dict[str, str]:
    """The values by their names, on one line each again."""
    joined = re.sub(r"\n {2,}", " ", text)
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in joined.splitlines())


def info(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["info", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_pose_model_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    about = described(name="mine", licence="CC0-1.0", training_data=("set one", "set two"),
                      metrics={"set": "val, small", "ap": 0.451234567, "more": {"ap50": 0.8}}, extra={"author": "me"})
    rows = rows_of(info(capsys, "m.onnx"))
    data = Path("m.onnx").read_bytes()
    width, height = about.input_size
    assert rows["kind"] == "pose model" and rows["name"] == "mine" and rows["licence"] == "CC0-1.0"
    assert rows["keypoints"] == f"{len(TOY)} of {TOY.name}: {', '.join(TOY.names)}"
    assert rows["input"] == f"crops, uint8 RGB (N, {height}, {width}, 3); normalisation inside"
    assert rows["output"] == f"heatmaps, float32 (N, 3, {height // 4}, {width // 4})" and rows["opset"] == "17"
    assert about.codec is not None and rows["codec"].startswith(f"{about.codec.to_json()['name']}: ")
    assert rows["box padding"] == f"{about.box_padding:g} times the box"
    assert rows["trained on"] == "set one; set two" and rows["more"] == "author me"
    assert rows["metrics"] == 'set "val, small", ap 0.451235, more (ap50 0.8)'
    assert rows["file"] == f"m.onnx, {len(data) / 1e6:.1f} MB ({len(data):,} bytes)"
    assert rows["sha256"] == hashlib.sha256(data).hexdigest() and rows["sha256 of weights"] == about.sha256


def test_what_a_file_does_not_say_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    described(licence="", training_data=(), metrics={}, extra={})
    rows = rows_of(info(capsys, "m.onnx"))
    assert rows["licence"] == rows["trained on"] == "not said in the file" and rows["metrics"] == "none in the file"
    assert "more" not in rows and "card" not in rows
    assert rows["threshold"] == "0.5 (none in the file), the least score of a person"


def test_a_pose_models_own_threshold_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    described(threshold=0.35)
    assert rows_of(info(capsys, "m.onnx"))["threshold"] == "0.35, the least score of a person"


def test_a_description_cannot_write_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    described(name="a\nlicence  CC0", metrics={"ap\x1b[31m": "x\ny"})
    out = info(capsys, "m.onnx")
    assert "\x1b" not in out and rows_of(out)["name"] == r"a\nlicence  CC0"


def test_a_pair_of_paddings_is_told_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    described(box_padding=(1.09, 1.135))
    told = rows_of(info(capsys, "m.onnx"))["box padding"]
    assert told == "1.09 times the box's width and 1.135 times its height, then to the crop's shape"


def test_a_detector_tells_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    data = detector_bytes()
    Path("d.onnx").write_bytes(stamp(data, replace(verify(data), detector={"nms": 0.6, "trunk": "lite0"})))
    rows = rows_of(info(capsys, "d.onnx"))
    assert rows["kind"] == "person detector" and rows["settings"] == "nms 0.6, trunk lite0"
    assert rows["input"] == ("image, uint8 RGB (H, W, 3), one picture of any size, looked at in 640 x 640; "
                             "normalisation inside")
    assert rows["output"] == "boxes and kept_scores, float32 (n, 4) and (n,)" and "keypoints" not in rows


@pytest.mark.parametrize("name", ["pose-small", "person-small"])
def test_shipped_models_have_a_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name not in shipped():
        pytest.skip(f"{name} does not ship in this build")
    rows = rows_of(info(capsys, name))
    assert Path(rows["card"]).is_file() and "not said" not in rows["licence"] + rows["trained on"]


def test_json_holds_all_that_the_file_says(capsys: pytest.CaptureFixture[str]) -> None:
    Path("m.onnx").write_bytes(coco_bytes())
    told = json.loads(info(capsys, "m.onnx", "--json"))
    data = Path("m.onnx").read_bytes()
    assert told["bytes"] == len(data) and told["file_sha256"] == hashlib.sha256(data).hexdigest()
    assert ModelInfo.from_json({key: value for key, value in told.items() if key not in
                                ("file", "bytes", "file_sha256", "graph")}) == verify(data)
    assert told["graph"]["inputs"] == [{"name": "crops", "dtype": "uint8", "shape": ["N", 128, 96, 3]}]
    assert told["graph"]["opsets"] == {"": 17}
    assert told["input"] == {"name": "crops", "layout": "NHWC", "dtype": "uint8", "colour": "RGB",
                             "normalisation": "inside"}


def test_what_is_no_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.onnx").write_bytes(pose_bytes()[:-200])
    Path("folder").mkdir()
    Path("run").mkdir()
    Path("run/config.json").write_text('{"kind": "pose", "pose": 3}')
    Path("store").mkdir()
    Path("store/store.json").write_text("{}")
    for name, message in (("bad.onnx", "bad.onnx: "), ("none", "no such file"), ("folder", "neither a run (no"),
                          ("run", "not the settings of a run"), ("store", "not what packed people have there")):
        assert cli.main(["info", name]) == 1
        out, err = capsys.readouterr()
        assert message in err and err.count("\n") == 1 and out == ""


@pytest.mark.parametrize(("depth", "where"), [(400, "run"), (100_000, "run/best.json")])  # parsed, and too deep for it
def test_json_nested_without_end_is_one_line(depth: int, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    train, nested = '{"samples": 8, "batch": 2, "lr": 0.1, "seed": 0}', '{"a": ' * depth + "1" + "}" * depth
    Path("run").mkdir()
    Path("run/config.json").write_text(f'{{"kind": "repair", "train": {train}}}')
    Path("run/best.json").write_text(nested)
    assert cli.main(["info", "run"]) == 1
    said = f"error: {where}: the JSON in it is nested too deeply; StagePose writes none such\n"
    assert capsys.readouterr() == ("", said)


def test_the_command_for_a_run_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my run/steps/000000002").mkdir(parents=True)
    Path("my run/steps/000000002/MANIFEST.json").write_text("{}")
    Path("my run/config.json").write_text('{"kind": "detector", "detector": {}, "train": {}}')
    line = "stagepose export 'my run' --out MODEL.onnx"
    assert rows_of(info(capsys, "my run"))["a file of it"] == line
    assert cli.main(["predict", "x.jpg", "--pose", "my run"]) == 1
    assert line in capsys.readouterr().err


def test_a_run_and_its_packed_people(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    path = tiny_coco(Path("set"), images=2, people=2)
    words = ["--input-size", "64", "64", "--batch", "2", "--threads", "1", "--steps", "2", "--seed", "7"]
    assert cli.main(["train", "u-300m", "--data", str(path), "--out", "run", *words]) == 0
    capsys.readouterr()
    rows = rows_of(info(capsys, "run"))
    assert rows["kind"] == "run of a pose network" and rows["network"] == "u-300m" and rows["trained to"] == "step 2"
    assert rows["learns from"] == "4 people" and rows["input"].startswith("crops of 64 x 64 pixels")
    assert "batch 2" in rows["schedule"] and "seed 7" in rows["schedule"] and "best" not in rows
    assert rows["a file of it"] == "stagepose export run --out MODEL.onnx"
    told = json.loads(info(capsys, "run", "--json"))
    assert told["steps"] == [2] and told["config"]["kind"] == "pose"
    [store] = (folder for folder in Path("crops").iterdir() if (folder / "store.json").is_file())
    rows = rows_of(info(capsys, str(store)))
    assert rows["kind"] == "packed people, raw pixels" and rows["people"] == "4"
    assert json.loads(info(capsys, str(store), "--json"))["people"] == 4


def test_what_else_lies_in_a_run_is_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    train = {"samples": 8, "batch": 2, "lr": 0.1, "seed": 0}
    Path("run/steps/mine mine").mkdir(parents=True)
    Path("run/steps/mine mine/MANIFEST.json").write_text("{}")
    Path("run/config.json").write_text(json.dumps({"kind": "repair", "train": train}))
    assert rows_of(info(capsys, "run"))["trained to"] == "no checkpoint yet"


def test_runs_of_other_kinds_are_told_too(capsys: pytest.CaptureFixture[str]) -> None:
    """From settings as those runs write them; a run that has not come to its first checkpoint has nothing to export."""
    Path("run").mkdir()
    Path("run/config.json").write_text(json.dumps({
        "kind": "detector", "train": {"samples": 8, "batch": 2, "lr": 0.001, "seed": 0},
        "detector": {"trunk": "lite0"}, "data": {"pictures": 1, "categories": ["person"]}}))
    Path("run/best.json").write_text('{"step": 40, "ap": 0.25}')
    rows = rows_of(info(capsys, "run"))
    assert rows["kind"] == "run of a person detector" and rows["learns from"] == "1 picture"
    assert rows["trained to"] == "no checkpoint yet" and rows["best"] == "step 40, ap 0.25"
    assert rows["settings"] == "trunk lite0" and "a file of it" not in rows


def test_it_needs_no_torch() -> None:
    Path("m.onnx").write_bytes(pose_bytes())
    code = ("import sys; from stagepose import cli; code = cli.main(['info', 'm.onnx']); "
            "assert not {'torch', 'onnx', 'faster_coco_eval'} & set(sys.modules); sys.exit(code)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_run_stage_by_stage_tells_the_last_stage_that_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    width, skeleton = 64, TOY.to_json()
    pose = {"network": "3xu-300m", "codec": {"name": "udp-oks", "input_size": [width, width]}}
    Path("run/stages").mkdir(parents=True)
    Path("run/config.json").write_text(json.dumps({"kind": "stages", "row": 3, "pose": pose, "skeleton": skeleton,
                                                   "train": {"samples": 8}, "data": [{"people": 4}]}))
    for stage, ap in ((1, 0.25), (2, 0.5)):
        Path(f"run/stages/{stage}.safetensors").touch()
        Path(f"run/stages/{stage}.json").write_text(json.dumps({"ap": ap, "people": 4}))
    Path("run/stages/2-fold0.safetensors").touch()
    rows = rows_of(info(capsys, "run"))
    assert rows["trained to"] == "stage 2 of 3 done" and rows["last judged"] == "ap 0.5, people 4"
    assert json.loads(info(capsys, "run", "--json"))["judged"]["ap"] == 0.5
