"""The whole upper floor on drawn people: pack, overfit, judge, export, predict; and the command line that does it."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.coco import read_dataset
from stagepose.errors import ModelError
from stagepose.evaluation import evaluate_keypoints, predict_dataset
from stagepose.heatmaps import UdpDark
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import load
from stagepose.runtime import PRESETS, read_info, shipped
from stagepose.skeleton import COCO_17
from stagepose.training import export as export_room
from stagepose.training.augment import NO_AUGMENTATION, AugmentConfig
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.detector.presets import DETECTOR_PRESETS
from stagepose.training.export import export_pose
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig, train
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import OWN_PRESETS
from stagepose.training.validation import PoseValidation

CODEC = UdpDark(input_size=(96, 128))
GENTLE = AugmentConfig(rotation=10, scale=0.1, half_body_chance=0, colour=0.1, grey_chance=0, occlusion_chance=0,
                       blur_chance=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small network that has learnt four drawn pictures by heart."""
    folder = tmp_path_factory.mktemp("overfit")
    path = tiny_coco(folder, images=4, people=2)
    store = open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                         skeleton=COCO_17)
    validation = PoseValidation(dataset=read_dataset(path), images_dir=folder / "images", codec=CODEC)
    task = PoseTask(build("slim-u", 17), PoseConfig(network="slim-u", codec=CODEC, augment=GENTLE), PeopleSets([store]),
                    validation=validation)
    config = TrainConfig(batch=8, samples=8 * 120, warmup=40, lr=3e-3, ema_decay=0.9, bf16=False, save_every=1000)
    model = train(task, config, folder / "run")
    return folder, path, model, validation


def test_four_pictures_are_learnt_and_judged_through_the_users_predictor(trained):
    _, _, model, validation = trained
    assert validation(model).numbers["ap"] > 0.8


def test_the_exported_file_finds_the_same_people(trained):
    folder, path, model, validation = trained
    info = ModelInfo(kind="pose", name="tiny", input_size=CODEC.input_size, skeleton=COCO_17, codec=CODEC)
    made = export_pose(model, folder / "tiny.onnx", info)
    assert made.max_difference < 0.05
    dataset = read_dataset(path)
    results = predict_dataset(load(folder / "tiny.onnx", None), dataset, folder / "images", boxes="ground-truth")
    assert evaluate_keypoints(dataset, results).ap == pytest.approx(validation(model).numbers["ap"], abs=0.02)


class Bgr(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, crops):
        return self.model(crops.flip(-1))


@pytest.mark.parametrize("untrained", [False, True])
@pytest.mark.parametrize("wrong", ["weights", "colours"])
def test_a_file_that_differs_is_not_written(trained, monkeypatch, tmp_path, wrong, untrained):
    """Also for networks fresh from their start, whose heatmaps are all but flat."""
    model = PoseInference(build("slim-u", 17), CODEC, "kl").eval() if untrained else trained[2]
    other = PoseInference(build("slim-u", 17), CODEC, "kl").eval() if wrong == "weights" else Bgr(model)
    info = ModelInfo(kind="pose", name="tiny", input_size=CODEC.input_size, skeleton=COCO_17, codec=CODEC)
    graph = export_room.torch_to_onnx
    monkeypatch.setattr(export_room, "torch_to_onnx", lambda _, *a, **k: graph(other, *a, **k))
    with pytest.raises(ModelError, match="differs from the trained one"):
        export_pose(model, tmp_path / "wrong.onnx", info)
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.parametrize(("words", "says"), [
    (["train", "u-300m", "--data", "a.json", "--out", "runs/x", "--steps", "0"], "--steps is 0; use at least 1"),
    (["train", "u-300m", "--data", "a.json", "--out", "runs/x", "--samples", "0"], "samples 0"),
    (["train", "u-300m", "--data", "a.json", "--out", "runs/x", "--teacher-share", "0.4"], "is for --teacher; leave"),
    (["export", "nowhere", "--out", "m.onnx"], "nowhere: no run folder of 'stagepose train'.*no config.json"),
    (["export", ".", "--out", "m.onnx"], r"\.: no run folder of 'stagepose train'.*no config.json"),
])
def test_wishes_that_cannot_be_met_are_said_at_once(words, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "images").mkdir()
    assert main(words) == 1
    assert re.fullmatch(rf"error: [^\n]*{says}[^\n]*\n", capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "images"}


def test_the_command_line_trains_resumes_exports(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=2)
    run = tmp_path / "run"
    command = ["train", "pose-slim", "--data", f"{path}:2.5", "--out", str(run), "--batch", "2", "--steps", "3",
               "--input-size", "64", "96", "--threads", "1"]
    assert main(command) == 0
    assert main(command) == 0  # finished: nothing left to do
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "heatmaps" in r] == [1, 2, 3]
    assert main(["export", str(run), "--out", str(tmp_path / "m.onnx"), "--training-data", "drawn", "--threshold",
                 "0.4"]) == 0
    exported = load(tmp_path / "m.onnx", None)
    assert exported.info.training_data == ("drawn",) and exported.threshold == 0.4
    assert main([*command[:-2], "--lr", "1"]) == 1
    assert "lr" in capsys.readouterr().err


def test_the_command_line_trains_a_detector(tmp_path, capsys):
    path = tiny_coco(tmp_path, images=3)
    run = tmp_path / "run"
    val = tiny_coco(tmp_path / "val", images=1, seed=1)
    (tmp_path / "val/images/000000000001.png").rename(tmp_path / "val/images/another.png")
    val.write_text(val.read_text().replace("000000000001.png", "another.png"))
    assert main(["train", "person-small", "--data", str(path), "--val", str(val), "--out", str(run), "--batch", "1",
                 "--steps", "2", "--threads", "1"]) == 0
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert records[-1]["step"] == 2 and any("ap50" in r for r in records)
    assert main(["export", str(run), "--out", str(tmp_path / "boxes.onnx"), "--reading", "mean"]) == 1
    assert "--reading mean is of a pose network's stages" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(tmp_path / "boxes.onnx"), "--threshold", "0.4"]) == 1
    assert "--threshold 0.4 is a person's score, which a pose network gives" in capsys.readouterr().err
    assert main(["export", str(run), "--out", str(tmp_path / "boxes.onnx")]) == 0
    assert "boxes agree" in capsys.readouterr().out
    assert main(["train", "person-small", "--data", str(path), "--out", str(tmp_path / "more"), "--batch", "1",
                 "--steps", "1", "--threads", "1", "--init", str(tmp_path / "boxes.onnx")]) == 0
    assert "122 of 122 tensors taken" in capsys.readouterr().err
    told = json.loads((tmp_path / "more/config.json").read_text())
    assert told["init"] == read_info(tmp_path / "boxes.onnx").sha256
    pose = tmp_path / "pose.onnx"
    info = ModelInfo(kind="pose", name="untrained", input_size=CODEC.input_size, skeleton=COCO_17, codec=CODEC)
    export_pose(PoseInference(build("slim-u", 17), CODEC, "kl").eval(), pose, info)
    people = load(pose, tmp_path / "boxes.onnx", threshold=0.0)(tmp_path / "images" / "000000000001.png")[0]
    assert all(np.isfinite(p.keypoints).all() for p in people)


OPTIONS = {
    "pack": {"--out", "--images", "--input-size", "--box-padding", "--form", "--quality", "--shard-mb", "--skeleton",
             "--negatives", "--drop-bad", "--jobs"},
    "train": {"--data", "--out", "--val", "--crops", "--init", "--skeleton", "--input-size", "--frozen", "--samples",
              "--minutes", "--steps", "--batch", "--optimizer", "--lr", "--evaluate-every", "--seed", "--device",
              "--threads", "--drop-bad", "--partly-boxed", "--accumulate", "--workers", "--compile", "--accept-changes",
              "--no-accept-changes", "--mirror", "--no-mirror", "--extra", "--negatives", "--hardest-of", "--absent",
              "--augment"},
    "export": {"--out", "--name", "--licence", "--training-data", "--metrics", "--step", "--bits",
               "--pictures"},
    "networks": {"--latency", "--no-latency", "--threads", "--keypoints", "--concat-heatmaps", "--residual",
                 "--aggregate", "--check"},
}


@pytest.mark.parametrize("verb", OPTIONS)
def test_options_are_pinned(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([verb, "--help"]) == 0
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"} >= OPTIONS[verb]


@pytest.mark.parametrize(("verb", "tried_out"), [
    ("train", {"--loss", "--ohkm", "--gates", "--teacher"}), ("train-stages", {"--loss", "--ohkm"}),
])
def test_help_tells_what_is_tried_out_after_what_every_day_needs(verb, tried_out, capsys):
    assert main([verb, "--help"]) == 0
    daily, experiment = (set(re.findall(r"^. (--[a-z-]+)", part, re.MULTILINE))
                         for part in capsys.readouterr().out.split(" experiment options "))
    assert {"--data", "--out", "--val", "--init", "--lr", "--device"} <= daily
    assert tried_out <= experiment and not daily & experiment


def test_presets_without_a_model_are_known_to_those_who_ask_for_one():
    assert {*OWN_PRESETS, *DETECTOR_PRESETS} == PRESETS | set(shipped())


def test_hidden_joints_are_learnt_too(tmp_path):
    """v = 1 (occluded) is a label like v = 2: both get a target, v = 0 none."""
    path = tiny_coco(tmp_path, images=1, people=1)
    store = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=CropSpec(input_size=(96, 128)),
                         skeleton=COCO_17)
    store.keypoints[0, :, :2] = (72, 96)
    store.keypoints[0, :, 2] = np.arange(17) % 3
    visible_only = replace(store, keypoints=store.keypoints.copy())
    visible_only.keypoints[0, :, 2] = np.where(np.arange(17) % 3 == 2, 2, 0)
    network, config = build("slim-u", 17), PoseConfig(network="slim-u", codec=CODEC, augment=NO_AUGMENTATION)
    for one in (store, visible_only):
        task = PoseTask(network, config, PeopleSets([one]))
        batch = task.batch([(0, 0)])
        network.zero_grad()
        task.loss(task.model, batch)["heatmaps"].backward()
        labels = batch.keypoints[0, :, 2] > 0
        weights = network.stages[0].heads[0].out.weight.grad.abs().sum((1, 2, 3)).numpy()
        assert list(weights > 0) == list(labels)  # a joint's own map learns where it is labelled, and only there
    assert (store.keypoints[0, :, 2] > 0).sum() > (visible_only.keypoints[0, :, 2] > 0).sum()


def test_a_skeleton_without_pairs_is_trained_without_mirroring(tmp_path, capsys):
    path, skeleton = tiny_coco(tmp_path / "set", images=1), tmp_path / "face.toml"
    skeleton.write_text('name = "face"\nnames = ["nose", "left_eye"]\n')
    command = ["train", "pose-slim", "--data", str(path), "--out", str(tmp_path / "run"), "--skeleton", str(skeleton),
               "--input-size", "64", "96", "--batch", "1", "--steps", "1", "--threads", "1"]
    assert main(command) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "'face' has no flip_pairs" in error and "--no-mirror" in error
    assert not (tmp_path / "crops").exists()  # said before anything is packed
    assert main([*command, "--no-mirror"]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["pose"]["augment"]["flip_chance"] == 0


def test_an_annotation_file_says_which_keypoints_are_learnt(tmp_path, capsys):
    path = tiny_coco(tmp_path / "set", images=1)
    data = json.loads(path.read_text())
    names = [f"paw {n // 2} {'lr'[n % 2]}" for n in range(16)] + ["tail"]
    data["categories"] = [{"id": 1, "name": "cat", "keypoints": names, "skeleton": [[1, 17]]}]
    path.write_text(json.dumps(data))
    command = ["train", "u-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--input-size", "64", "96",
               "--batch", "1", "--steps", "1", "--threads", "1", "--skeleton"]
    assert main([*command, str(path)]) == 0
    skeleton = json.loads((tmp_path / "run/config.json").read_text())["skeleton"]
    assert skeleton["name"] == "cat" and skeleton["names"][:2] == ["paw_0_l", "paw_0_r"]
    assert len(skeleton["flip_pairs"]) == 8 and skeleton["limbs"] == [["paw_0_l", "tail"]]
    data["categories"][0]["keypoints"] = [f"left {n}" for n in range(16)] + ["tail"]
    path.write_text(json.dumps(data))
    assert main([*command, str(path)]) == 1
    assert "the skeleton 'cat' has no flip_pairs" in capsys.readouterr().err


def test_what_of_the_labels_is_not_learnt_is_said(tmp_path, capsys):
    path, skeleton = tiny_coco(tmp_path / "set", images=1), tmp_path / "face.toml"
    skeleton.write_text('name = "face"\nnames = ["nose", "tail", "left_eye"]\n')
    assert main(["train", "u-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--skeleton", str(skeleton),
                 "--no-mirror", "--input-size", "64", "96", "--batch", "1", "--steps", "1", "--threads", "1"]) == 0
    said = capsys.readouterr().err.splitlines()
    left_out = ", ".join(name for name in COCO_17.names if name not in ("nose", "left_eye"))
    assert f"{path}: not learnt, since skeleton 'face' lacks them: {left_out}; --skeleton names another one, or a " \
           "file of yours" in said
    assert "warning: nobody is labelled with tail of skeleton 'face': cannot be learnt" in said


@pytest.mark.parametrize("preset", ["pose-slim", "person-small"])
def test_who_is_judged_by_is_not_learnt_from_in_a_made_picture_either(tmp_path, capsys, preset):
    val, made = tiny_coco(tmp_path / "val", images=2), tiny_coco(tmp_path / "made", images=2, seed=1)
    judged_by, data = json.loads(val.read_text())["images"], json.loads(made.read_text())
    for image in data["images"]:
        image["generated"] = True  # whose own name is no photograph's
    made.write_text(json.dumps(data))
    said = [preset, "--data", str(made), "--out", str(tmp_path / "run"), "--val", str(val), "--steps", "1",
            "--device", "cpu"]
    data["images"][1]["sources"] = [{"file_name": judged_by[0]["file_name"]}]
    made.write_text(json.dumps(data))
    assert main(["train", *said]) == 1
    assert f"{val}: 1 of its pictures are in {made} too" in capsys.readouterr().err


def test_a_set_that_nobody_can_be_judged_by_is_told_before_anybody_is_cut_out(tmp_path, capsys):
    path, val = tiny_coco(tmp_path / "set", images=1), tiny_coco(tmp_path / "val", images=1, seed=1)
    (tmp_path / "val/images/000000000001.png").rename(tmp_path / "val/images/another.png")
    data = json.loads(val.read_text().replace("000000000001.png", "another.png"))
    for annotation in data["annotations"]:
        del annotation["area"]
    val.write_text(json.dumps(data))
    assert main(["train", "u-300m", "--data", str(path), "--val", str(val), "--out", str(tmp_path / "run"),
                 "--input-size", "64", "64", "--batch", "1", "--steps", "1", "--threads", "1"]) == 1
    assert "2 of 2 people have no 'area'" in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {"set", "val"}


@pytest.mark.parametrize("preset", ["u-300m", "person-tiny"])
def test_bad_pictures_to_judge_by_are_refused_with_what_helps(tmp_path, capsys, preset):
    path, val = tiny_coco(tmp_path / "set", images=1), tiny_coco(tmp_path / "val", images=2, seed=1)
    for number in (1, 2):
        (tmp_path / f"val/images/{number:012d}.png").rename(tmp_path / f"val/images/val{number}.png")
    val.write_text(val.read_text().replace('"00000000000', '"val'))
    (tmp_path / "val/images/val2.png").unlink()
    command = ["train", preset, "--data", str(path), "--out", str(tmp_path / "run"), "--batch", "1", "--steps", "1",
               "--threads", "1", "--drop-bad", "--val"]
    assert main([*command, str(val)]) == 1
    clean = val.with_name("clean.json")
    error = capsys.readouterr().err
    assert f"or drop them with 'stagepose check {val} --write-clean OUT'" in error and "--drop-bad" not in error
    assert main(["check", str(val), "--write-clean", str(clean)]) == 0
    assert main([*command, str(clean)]) == 0


@pytest.mark.parametrize(("arguments", "message"), [
    (["train", "pose-huge", "--data", "{set}", "--out", "{out}"], "pose-small"),
    (["train", "pose-slim", "--data", "{set}:0", "--out", "{out}"], "weight '0'"),
    (["train", "pose-slim", "--data", "{set}:1e12", "--out", "{out}"], "at most 10,000"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--device", "cpu:abc"], "'cpu:abc' is not here"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--input-size", "100", "128"], "divisible by 32"),
    (["train", "pose-slim", "--data", "missing.json", "--out", "{out}"], "missing.json"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--samples", "5", "--minutes", "1"], "either"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--val", "{set}"], "are in"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--device", "gpu"], "'gpu'"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--threads", "0"], "threads is 0"),
    (["train", "pose-slim", "--data", "{set}:nan", "--out", "{out}"], "'nan'"),
    (["train", "person-small", "--data", "{set}", "--out", "{out}", "--ohkm", "8"], "--ohkm means nothing"),
    (["train", "pose-slim", "--data", "{set}", "--out", "{out}", "--partly-boxed"], "--partly-boxed means nothing"),
    (["train", "person-small", "--data", "{set}", "--out", "{out}", "--val", "{set}"], "are in"),
    (["train", "person-small", "--data", "{set}:2", "--out", "{out}"],
     "/person_keypoints.json:2: a detector is trained on one annotation file of weight 1; name one"),
    (["export", "{out}", "--out", "{out}.onnx"], "config.json"),
])
def test_mistakes_end_in_one_line(tmp_path, capsys, arguments, message):
    path = tiny_coco(tmp_path, images=1)
    words = [w.format(set=path, out=tmp_path / "run") for w in arguments]
    assert main(words) == 1
    error = capsys.readouterr().err.strip()
    assert error.splitlines()[-1].startswith("error: ") and message in error.splitlines()[-1]
