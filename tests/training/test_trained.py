"""A finished run opened again, alone and averaged with others."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.errors import CheckpointError, ConfigError
from stagepose.heatmaps import UdpDark
from stagepose.runtime import read_info
from stagepose.skeleton import COCO_17
from stagepose.training import loop
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.trained import Mixed, averaged_weights, open_pose

CONFIG = PoseConfig(network="u-300m", codec=UdpDark(input_size=(64, 64)), box_padding=1.1)
TRAIN = loop.TrainConfig(batch=4, samples=8, warmup=4, lr=1e-3, bf16=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    path = tiny_coco(folder, images=2, people=2)
    store = open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=(64, 64)),
                         skeleton=COCO_17)
    for seed, network in enumerate(("u-300m", "u-300m", "slim-u")):
        torch.manual_seed(seed)
        task = PoseTask(build(network, 17), replace(CONFIG, network=network), PeopleSets([store]), seed=seed)
        loop.train(task, replace(TRAIN, seed=seed), folder / f"run{seed}")
    return folder


def test_the_mean_of_two_runs(runs):
    first, second = (averaged_weights(runs / f"run{seed}") for seed in (0, 1))
    mixed = averaged_weights(runs / "run0", mix=[Mixed(runs / "run1", 0.25)])
    name = next(name for name, tensor in first.items() if tensor.ndim == 4)
    assert torch.allclose(mixed[name], 0.75 * first[name] + 0.25 * second[name], atol=1e-7)
    assert not torch.allclose(first[name], second[name], atol=1e-3)  # else the test could not fail
    counted = [name for name, tensor in first.items() if not tensor.is_floating_point()]
    assert counted and all(torch.equal(mixed[name], first[name]) for name in counted)


def test_a_file_of_the_mean(runs, tmp_path, capsys):
    out = tmp_path / "mixed.onnx"
    assert main(["export", str(runs / "run0"), "--out", str(out), "--mix", f"{runs / 'run1'}:0.5"]) == 0
    assert read_info(out).box_padding == 1.1
    assert main(["export", str(runs / "run0"), "--out", str(tmp_path / "alone.onnx")]) == 0
    assert read_info(out).sha256 != read_info(tmp_path / "alone.onnx").sha256
    assert open_pose(runs / "run0").box_padding == 1.1


@pytest.mark.parametrize("text", ["run", "run:", ":0.5", "run:1", "run:0", "run:half", "run:nan"])
def test_shares_that_are_none(text):
    with pytest.raises(ConfigError, match=f"--mix {text}: expected RUN:SHARE"):
        Mixed.parse(text)


def test_what_has_no_mean(runs):
    with pytest.raises(CheckpointError, match=r"run2: weights of another network than .*run0: \d+ tensors"):
        averaged_weights(runs / "run0", mix=[Mixed(runs / "run2", 0.5)])
    with pytest.raises(ConfigError, match=r"add up to 1; leave something of .*run0"):
        averaged_weights(runs / "run0", mix=[Mixed(runs / "run1", 0.5)] * 2)


@pytest.mark.parametrize(("change", "says"), [
    (lambda c: c["skeleton"]["names"].reverse(), r"keypoints \['right_ankle', .*, not \['nose', "),
    (lambda c: c["pose"]["codec"].update(sigma=3.0), r"codec \{.*'sigma': 3\.0"),
    (lambda c: c["pose"].update(loss="mse"), "loss 'mse', not 'kl'"),
    (lambda c: c["pose"].update(box_padding=1.25), r"box_padding 1\.25, not 1\.1; give a run of the same settings"),
    (lambda c: c["pose"]["join"].update(residual=True), "join .*'residual': True"),
])
def test_weights_that_mean_something_else_have_no_mean(change, says, runs, tmp_path):
    shutil.copytree(runs / "run1", tmp_path / "other")
    config = json.loads((tmp_path / "other/config.json").read_text())
    change(config)
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"--mix .*other: trained otherwise than .*run0: {says}"):
        averaged_weights(runs / "run0", mix=[Mixed(tmp_path / "other", 0.5)])


def test_a_mean_is_taken_with_run_folders_alone(runs):
    with pytest.raises(CheckpointError, match=r"--mix pose-small: no run folder; .*give its folder"):
        averaged_weights(runs / "run0", mix=[Mixed.parse("pose-small:0.5")])


POSE = {"network": "u-300m", "codec": CONFIG.codec.to_json(), "loss": "kl"}


@pytest.mark.parametrize(("config", "says"), [
    ({"kind": "pose"}, "config.json: not the settings of a run that this version knows (KeyError: 'pose')"),
    ({"kind": "detector"}, "config.json: not the settings of a run that this version knows (KeyError: 'detector')"),
    ({"kind": "pose", "pose": POSE | {"network": 3}, "skeleton": COCO_17.to_json()}, "config.json: "),
    ({"kind": "pose", "pose": POSE | {"network": "u-3"}, "skeleton": COCO_17.to_json()}, "config.json: no network"),
    ({"kind": "pose", "pose": POSE, "skeleton": {}}, "config.json: a skeleton needs a table with 'names'"),
    ({"kind": "detector", "detector": {"trunk": "x"}}, "config.json: trunk is 'x', expected one of"),
    ({"kind": "repair"}, "a run of kind 'repair'; a model file is made of one of a pose network or a detector"),
    ({}, "a run of kind None"),
])
def test_settings_that_are_none_are_named(config, says, runs, tmp_path, capsys):
    shutil.copytree(runs / "run0", tmp_path / "run")
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "m.onnx")]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path / 'run'}") and says in err and err.count("\n") == 1
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["--step", "77"], "run0: has no step 77 (any more); it has 2"),
    (["--metrics", "gone.json"], "gone.json: cannot read: No such file or directory"),
    (["--metrics", "list.json"], "list.json: not readable as a JSON object (it is a list)"),
    (["--metrics", "half.json"], "half.json: not readable as a JSON object (Expecting value: line 1 column 7"),
])
def test_files_and_steps_that_are_not_there_are_told_in_words(words, says, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "half.json").write_text('{"ap":')
    assert main(["export", str(runs / "run0"), "--out", "m.onnx", *words]) == 1
    err = capsys.readouterr().err
    assert says in err and "Errno" not in err and err.count("\n") == 1


def test_a_model_file_is_known_by_its_suffix(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(runs / "run0"), "--out", "r"]) == 1
    assert capsys.readouterr().err == (
        "error: r: cannot write: such a file is known by its suffix .onnx; say r.onnx\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("words", "says"), [
    (["--pictures", "pictures"], "--pictures are for a detector's file"),
    (["--route-below", "0.7"], "--route-below 0.7 is for --reading router"),
])
def test_options_that_mean_nothing_are_refused(words, says, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_coco(tmp_path, images=1)
    (tmp_path / "images").rename("pictures")
    assert main(["export", str(runs / "run0"), "--out", "m.onnx", *words]) == 1
    assert says in capsys.readouterr().err and not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("best", ["{}", '{"step": "two"}', '{"step": NaN}'])
def test_a_best_step_that_is_none_is_named(best, runs, tmp_path):
    shutil.copytree(runs / "run0", tmp_path / "run")
    (tmp_path / "run/best.json").write_text(best)
    with pytest.raises(CheckpointError, match=r"best\.json: step is .*, expected a number; the file is damaged"):
        open_pose(tmp_path / "run")
