"""A trained network that teaches another: targets, views, and what does not fit."""

import json
import re
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.errors import CheckpointError, ConfigError, ModelError
from stagepose.heatmaps import Msra, UdpDark, UdpOks
from stagepose.modelinfo import stamp, verify
from stagepose.runtime import PoseModel, read_info
from stagepose.skeleton import COCO_17, LSP_14
from stagepose.training import loop
from stagepose.training.augment import NO_AUGMENTATION, AugmentConfig, augment
from stagepose.training.checkpoint import newest_checkpoint
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.teacher import SURE, open_teacher, taught

CODEC = UdpDark(input_size=(64, 64))
CONFIG = PoseConfig(network="u-300m", codec=CODEC, level_weights=(1.0, 0.0, 0.0, 0.0))
KEYS = [(0, 0), (0, 1), (0, 2), (0, 3)]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    return tiny_coco(folder, images=4, people=2)


def store_of(people, size, skeleton=COCO_17):
    return open_or_pack(people, people.parent / "images", people.parent / "crops", spec=CropSpec(input_size=size),
                        skeleton=skeleton)


@pytest.fixture(scope="module")
def runs(people, tmp_path_factory):
    """Run folders by name: what teachers are."""
    folder = tmp_path_factory.mktemp("runs")
    made = {"same": (CODEC, COCO_17), "large": (UdpDark(input_size=(96, 96)), COCO_17), "lsp": (CODEC, LSP_14),
            "wide": (UdpDark(input_size=(96, 64)), COCO_17), "msra": (Msra(input_size=(96, 96)), COCO_17),
            "mse": (CODEC, COCO_17)}
    for name, (codec, skeleton) in made.items():
        torch.manual_seed(1)
        config = replace(CONFIG, codec=codec, loss="mse" if name == "mse" else "kl")
        task = PoseTask(build("u-300m", len(skeleton)), config,
                        PeopleSets([store_of(people, codec.input_size, skeleton)]))
        loop.train(task, loop.TrainConfig(batch=4, samples=8, warmup=4, lr=1e-3, bf16=False), folder / name)
    return folder


def learner(people, run, size=(64, 64), **changes):
    teacher = open_teacher(run, COCO_17, CODEC, "cpu")
    sets = PeopleSets([store_of(people, size)])
    return PoseTask(build("u-300m", 17), replace(CONFIG, **changes), sets, teacher=teacher)


def maps(*peaks):
    """(1, K, 4, 4) with all mass on one pixel each; 0 for none."""
    drawn = torch.zeros(1, len(peaks), 4, 4)
    drawn[0, range(len(peaks)), 1, 2] = torch.tensor(peaks)
    return drawn


def test_a_target_is_a_mean_and_the_teacher_alone_where_there_is_no_label():
    drawn, shown = maps(1.0, 1.0, 0.0, 0.0, 0.0), maps(0.5, 0.0, SURE, SURE * 0.9, 0.0).flip(-1)
    targets, known = taught(drawn, shown, 0.25)
    assert known.tolist() == [[True, True, True, False, False]]
    assert targets[0, 0, 1].tolist() == [0, 0.25, 0.75, 0]  # a labelled joint: a quarter is the teacher's
    assert targets[0, 1, 1].tolist() == [0, 0, 1, 0]  # one that it does not know
    assert targets[0, 2, 1].tolist() == [0, 1, 0, 0]  # no label, and it is sure
    assert not targets[0, 3:].any()


def test_who_already_sees_what_the_teacher_sees_learns_nothing(people, runs):
    task = learner(people, runs / "same", teacher_share=1.0, augment=CONFIG.augment.only_moved())
    task.model.load_state_dict(newest_checkpoint(runs / "same").parts["ema"])
    task.model.eval()
    batch = task.batch(KEYS)
    sum(task.loss(task.model, batch).values()).backward()
    at_rest = gradient(task)
    task.network.zero_grad()
    alone = PoseTask(task.network, task.config, PeopleSets([store_of(people, (64, 64))]))
    sum(alone.loss(alone.model, batch).values()).backward()
    assert at_rest < 1e-4 * gradient(alone)


def gradient(task):
    return sum(p.grad.norm().item() for p in task.network.parameters() if p.grad is not None)


def test_unlabelled_joints_learn_from_a_teacher_that_is_sure(people, runs, monkeypatch):
    task = learner(people, runs / "same")
    task.model.eval()
    batch = task.batch(KEYS)
    nobody = replace(batch, keypoints=batch.keypoints * [1, 1, 0])
    assert sum(task.loss(task.model, nobody).values()).item() == 0  # two steps have made nobody sure
    monkeypatch.setattr("stagepose.training.teacher.SURE", 0.0)
    assert sum(task.loss(task.model, nobody).values()).item() > 0


def test_keypoints_are_found_by_name(people, runs):
    teacher = open_teacher(runs / "lsp", COCO_17, CODEC, "cpu")
    shown = teacher.heatmaps(torch.rand(2, 3, 64, 64) * 255, CODEC.heatmap_size)
    mine = teacher.ask(torch.zeros(1, 3, 64, 64))
    assert mine.shape[1] == 14 and shown.shape == (2, 17, 16, 16)
    assert [bool(joint.any()) for joint in shown[0]] == [name in LSP_14.names for name in COCO_17.names]


def test_a_larger_teacher_sees_the_same_views_in_more_pixels(people, runs):
    task = learner(people, runs / "large", size=(96, 96), augment=CONFIG.augment.only_moved())
    batch = task.batch(KEYS)
    assert batch.images.shape[-2:] == (64, 64) and batch.for_teacher.shape[-2:] == (96, 96)
    smaller = torch.nn.functional.interpolate(batch.for_teacher, size=(64, 64), mode="bilinear", antialias=True)
    assert (smaller - batch.images).abs().mean() < 4  # of 255: resampled once more
    assert (smaller.roll(1, 0) - batch.images).abs().mean() > 20  # else the test could not fail
    loss = sum(task.loss(task.model, batch).values())
    loss.backward()
    assert torch.isfinite(loss) and gradient(task) > 0


def test_a_larger_teachers_heatmaps_lie_over_the_learners(people, runs, monkeypatch):
    """A corner of its input is a corner of the learner's, to a tenth of a pixel: so are their heatmaps laid over."""
    shown = []

    def seen(canvases, keypoints, *args, **options):
        images, moved, affines = augment(canvases, keypoints, *args, **options)
        shown.append(affines)
        return images, moved, affines

    monkeypatch.setattr("stagepose.training.pose.augment", seen)
    learner(people, runs / "large", size=(96, 96)).batch(KEYS)
    mine, teachers = shown
    for corner in ([0, 0], [63, 0], [0, 63], [63, 63]):
        back = np.linalg.solve(mine[..., :2], (np.array(corner) - mine[..., 2])[..., None])
        assert np.allclose((teachers[..., :2] @ back)[..., 0] + teachers[..., 2], np.array(corner) * 95 / 63, atol=0.1)


def test_the_hardest_look_is_shown_to_the_teacher(people, runs):
    task = learner(people, runs / "large", size=(96, 96), hardest_of=3)
    looks = task.batch(KEYS)
    picked = task._hardest(task.model, looks)
    for b in range(len(KEYS)):
        which = [torch.equal(picked.images[b], look.images[b]) for look in looks.each].index(True)
        assert torch.equal(picked.for_teacher[b], looks.each[which].for_teacher[b])


def test_a_teacher_sees_people_with_nothing_in_the_way(people, runs):
    spoilt = AugmentConfig(occlusion_chance=1, grey_chance=0.5, blur_chance=0.5, coarse_chance=0.5, jpeg_chance=0.5,
                           noise_chance=0.5)
    batch = learner(people, runs / "same", augment=spoilt).batch(KEYS)
    clear = learner(people, runs / "same", augment=spoilt.only_moved()).batch(KEYS)
    assert torch.equal(batch.for_teacher, clear.images) and torch.equal(clear.for_teacher, clear.images)
    assert all((a - b).abs().mean() > 5 for a, b in zip(batch.images, clear.images, strict=True))
    assert np.array_equal(batch.keypoints, clear.keypoints)


def test_a_batch_without_a_teacher_carries_one_picture_a_sample(people):
    alone = PoseTask(build("u-300m", 17), CONFIG, PeopleSets([store_of(people, (64, 64))]))
    assert alone.batch(KEYS).for_teacher is None


@pytest.mark.parametrize(("run", "message"), [
    ("wide", "96 x 64 .* does not lie over 64 x 64"), ("msra", "with codec 'msra' does not lie over"),
    ("mse", "trained with loss 'mse'"),
])
def test_a_teacher_whose_heatmaps_do_not_fit(runs, run, message):
    with pytest.raises(ConfigError, match=message):
        open_teacher(runs / run, COCO_17, CODEC, "cpu")


@pytest.mark.parametrize("bf16", [False, True])
def test_a_model_file_teaches_what_its_run_does_by_either_runtime(runs, tmp_path, monkeypatch, bf16):
    monkeypatch.setattr("stagepose.training.teacher.bf16_supported", lambda device: bf16)
    file = tmp_path / "teacher.onnx"
    assert main(["export", str(runs / "large"), "--out", str(file), "--bits", "32"]) == 0
    pictures = torch.randint(256, (2, 3, 96, 96)).float()  # as a CPU augments them
    of_run, of_file = (open_teacher(source, COCO_17, CODEC, "cpu") for source in (runs / "large", file))
    assert of_file.size == of_run.size == (96, 96)
    with monkeypatch.context() as patched:
        asked = Mock(side_effect=PoseModel.__call__, autospec=True)
        patched.setattr(PoseModel, "__call__", lambda self, crops: asked(self, crops))
        shown = [teacher.heatmaps(pictures, CODEC.heatmap_size) for teacher in (of_run, of_file)]
    torch.testing.assert_close(shown[1], shown[0], rtol=1e-3, atol=1e-6)
    assert asked.call_count == (0 if bf16 else 1)  # ONNX Runtime is the faster one on a CPU without bfloat16
    assert main(["export", str(runs / "mse"), "--out", str(tmp_path / "mse.onnx")]) == 0
    with pytest.raises(ConfigError, match=r"mse\.onnx: it was trained with loss 'mse'"):
        open_teacher(tmp_path / "mse.onnx", COCO_17, CODEC, "cpu")
    data = file.read_bytes()
    file.write_bytes(stamp(data, replace(verify(data), network="slim-u")))
    with pytest.raises(ModelError, match="not those of this network"):
        open_teacher(file, COCO_17, CODEC, "cpu")


def test_a_shipped_model_teaches():
    teacher = open_teacher("pose-medium", COCO_17, UdpOks(input_size=(192, 256)), "cpu")
    assert teacher.size == (288, 384)
    assert teacher.sha256 == read_info("pose-medium").sha256  # whatever its network is unfolded to, on any machine


@pytest.mark.parametrize("name", ["gone", "gone.onnx"])
def test_a_teacher_that_is_gone_is_named(tmp_path, name, capsys):
    path = tiny_coco(tmp_path, images=1, people=1)
    gone = tmp_path / name
    said = rf"--teacher {re.escape(str(gone))}: no run folder or model file.* a teacher is asked in every step, so name"
    assert main(["train", "u-300m", "--data", str(path), "--out", str(tmp_path / "run"), "--teacher", str(gone)]) == 1
    assert re.search(said, capsys.readouterr().err)
    assert main(["gan", "train", "repair-small", "--data", str(path), "--out", str(tmp_path / "gan"), "--teacher",
                 str(gone)]) == 1
    assert re.search(said, capsys.readouterr().err)


def test_what_is_no_teacher(people, runs, tmp_path):
    with pytest.raises(CheckpointError, match="no run folder"):
        open_teacher(tmp_path, COCO_17, CODEC, "cpu")
    (tmp_path / "config.json").write_text('{"kind": "detector"}')
    with pytest.raises(CheckpointError, match="a run of kind 'detector'"):
        open_teacher(tmp_path, COCO_17, CODEC, "cpu")
    strangers = replace(COCO_17, names=tuple(f"other_{n}" for n in range(17)), flip_pairs=(), limbs=(), upper=(),
                        lower=())
    with pytest.raises(ConfigError, match="knows none of the keypoints"):
        open_teacher(runs / "same", strangers, CODEC, "cpu")
    with pytest.raises(ConfigError, match="loss 'mse' does not learn"):
        learner(people, runs / "same", loss="mse")
    with pytest.raises(ConfigError, match="teacher_share is 0"):
        replace(CONFIG, teacher_share=0.0)


def test_the_command_and_that_a_run_knows_its_teacher_again(people, tmp_path, capsys):
    how = ["--data", str(people), "--crops", str(tmp_path / "crops"), "--batch", "4", "--device", "cpu", "--steps", "2"]
    for number, name in enumerate(("first", "second")):
        assert main(["train", "u-300m", "--input-size", "96", "96", "--out", str(tmp_path / name), *how, "--seed",
                     str(number)]) == 0
    mine = ["train", "u-300m", "--input-size", "64", "64", "--out", str(tmp_path / "run"), *how, "--teacher"]
    assert main([*mine, str(tmp_path / "first"), "--teacher-share", "0.7"]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert len(config["teacher"]) == 64 and config["pose"]["teacher_share"] == 0.7
    capsys.readouterr()
    assert main([*mine, str(tmp_path / "second"), "--teacher-share", "0.7"]) == 1
    assert "teacher: " in capsys.readouterr().err
    alone = [*mine[: mine.index("--out") + 1], str(tmp_path / "alone"), *how]
    assert main(alone) == 0
    assert json.loads((tmp_path / "alone/config.json").read_text())["teacher"] is None
    assert main([*alone, "--teacher", str(tmp_path / "first")]) == 1
    assert "teacher: None -> " in capsys.readouterr().err
    detector = ["train", "person-tiny", "--data", str(people), "--out", str(tmp_path / "boxes")]
    assert main([*detector, "--teacher", str(tmp_path / "first")]) == 1
    assert "--teacher means nothing for the detector" in capsys.readouterr().err


def test_the_teachers_numbers_do_not_depend_on_the_batch(people, runs):
    """Its batch norms stay as they are, and it is asked without augmentation of its own."""
    task = learner(people, runs / "large", size=(96, 96), augment=NO_AUGMENTATION)
    task.model.train()
    whole, one = task._lesson(task.batch(KEYS)), task._lesson(task.batch(KEYS[1:2]))
    assert np.allclose(whole[1:2].numpy(), one.numpy(), atol=1e-5)
