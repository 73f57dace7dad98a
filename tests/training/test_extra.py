"""Generated people beside photographs, and the hardest of several augmentations."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import tiny_coco

from stagepose.cli import main
from stagepose.errors import ConfigError
from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17
from stagepose.training import loop
from stagepose.training.checkpoint import newest_checkpoint
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.losses import stage_losses
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import Looks, PoseTask
from stagepose.training.poseconfig import PoseConfig

CODEC = UdpDark(input_size=(64, 64))
CONFIG = PoseConfig(network="u-300m", codec=CODEC)
KEYS = [(0, 0), (0, 1), (0, 2), (0, 3)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    path = tiny_coco(folder, images=4, people=2)
    return open_or_pack(path, folder / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                        skeleton=COCO_17)


def task_of(store, hardest_of=1, **changes):
    torch.manual_seed(0)
    return PoseTask(build("u-300m", 17), replace(CONFIG, hardest_of=hardest_of, **changes), PeopleSets([store]))


# --- the hardest of several looks


def test_the_first_look_is_the_only_one_of_a_plain_training(store):
    plain, looks = task_of(store).batch(KEYS), task_of(store, 3).batch(KEYS)
    assert isinstance(looks, Looks) and len(looks.each) == 3
    assert torch.equal(plain.images, looks.each[0].images)
    assert np.array_equal(plain.keypoints, looks.each[0].keypoints)
    assert not torch.equal(looks.each[0].images, looks.each[1].images)
    again = task_of(store, 3).batch(KEYS[2:])  # a sample is the same in any batch
    assert all(torch.equal(mine.images[2:], theirs.images) for mine, theirs in zip(looks.each, again.each, strict=True))


def test_every_sample_is_learnt_from_in_its_hardest_look_and_choosing_leaves_no_trace(store):
    task = task_of(store, 4)
    looks = task.batch(KEYS)
    task.model.train()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    picked = task._hardest(task.model, looks)
    assert task.model.training and all(m.training for m in task.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    task.model.eval()
    alone = np.array([[sum(task.loss(task.model, part(look, b)).values()).item() for b in range(len(KEYS))]
                      for look in looks.each])
    assert len(set(alone.argmax(0).tolist())) > 1  # else the test could not fail
    for b, which in enumerate(alone.argmax(0)):
        assert torch.equal(picked.images[b], looks.each[which].images[b])
        assert np.array_equal(picked.keypoints[b], looks.each[which].keypoints[b])


def part(batch, b):
    return replace(batch, images=batch.images[b : b + 1], keypoints=batch.keypoints[b : b + 1],
                   areas=batch.areas[b : b + 1])


def test_losses_by_sample_are_those_of_batches_of_one():
    rng = torch.Generator().manual_seed(0)
    outputs = [[torch.randn(3, 5, 8, 8, generator=rng) for _ in range(2)] for _ in range(2)]
    targets = [torch.rand(3, 5, 8, 8, generator=rng) for _ in range(2)]
    labelled = (torch.rand(3, 5, generator=rng) < 0.6).float()
    for kind in ("kl", "mse"):
        told = {"kind": kind, "level_weights": (1.0, 0.5), "ohkm": 2}
        found = stage_losses(outputs, targets, labelled, **told, by_sample=True)
        for b in range(3):
            one = stage_losses([[level[b : b + 1] for level in stage] for stage in outputs],
                               [target[b : b + 1] for target in targets], labelled[b : b + 1], **told)
            assert torch.allclose(torch.stack([stage[b] for stage in found]), torch.stack(one))


def test_gradients_flow_although_the_same_weights_were_cast_without(store):
    """autocast remembers what it has cast, gradient or none."""
    task = task_of(store, 2)
    task.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sum(task.loss(task.model, task.batch(KEYS)).values()).backward()
    missing = [name for name, p in task.model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resume_with_several_looks_is_bit_equal(store, tmp_path, accumulate):
    schedule = loop.TrainConfig(batch=4, accumulate=accumulate, samples=24, warmup=4, lr=1e-3, bf16=False, log_every=1)

    def run(folder, stop_at=None):
        task, inner = task_of(store, 2), PoseTask.loss

        def loss(model, batch, calls=[0]):  # noqa: B006  # counts
            calls[0] += 1
            if calls[0] == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(task, model, batch)

        task.loss = loss
        loop.train(task, schedule, tmp_path / folder)

    run("whole")
    with pytest.raises(SystemExit):
        run("parts", stop_at=3 * accumulate)
    assert newest_checkpoint(tmp_path / "parts").step < 6
    run("parts")
    for name in ("model", "ema", "optimizer"):
        a, b = (newest_checkpoint(tmp_path / folder).parts[name] for folder in ("whole", "parts"))
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_impossible_numbers_of_looks():
    with pytest.raises(ConfigError, match="hardest_of is 0"):
        replace(CONFIG, hardest_of=0)


def test_training_takes_no_pair_of_paddings():
    with pytest.raises(ConfigError, match=r"box_padding is \(1\.09, 1\.135\), a pair, .* give training one number"):
        replace(CONFIG, box_padding=(1.09, 1.135))


# --- generated people


def marked(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"info": {"generated": True}}))
    return path


TRAIN = ("train", "u-300m", "--input-size", "64", "64", "--steps", "2", "--batch", "4", "--threads", "1")


def train(*words):
    return main([*TRAIN, *map(str, words)])


def test_generated_people_are_shown_beside_photographs_and_the_run_says_so(tmp_path, capsys):
    data, extra = tiny_coco(tmp_path / "real", images=2), marked(tiny_coco(tmp_path / "made", images=2, seed=1))
    val = tiny_coco(tmp_path / "val", images=1, seed=2)  # numbered as the others, but other pictures
    (tmp_path / "val/images/000000000001.png").rename(tmp_path / "val/images/other.png")
    val.write_text(val.read_text().replace("000000000001.png", "other.png"))
    words = ("--data", data, "--extra", f"{extra}:0.5", "--val", val, "--hardest-of", "2", "--out", tmp_path / "run")
    assert train(*words) == 0
    assert "generated; 33.3% of the samples shown are its own" in capsys.readouterr().err
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["sampling"] == [1.0, 0.5] and config["pose"]["hardest_of"] == 2
    assert [row.get("generated", False) for row in config["data"]] == [False, True]
    assert train(*words) == 0  # finished: nothing is left to do
    assert train("--data", data, "--out", tmp_path / "run") == 1
    assert "sampling" in capsys.readouterr().err


def test_generated_sets_have_their_places(tmp_path, capsys):
    data, made = tiny_coco(tmp_path / "real", images=2), marked(tiny_coco(tmp_path / "made", images=2, seed=1))

    def refused(*words):
        assert train(*words, "--out", tmp_path / "run") == 1
        error = capsys.readouterr().err.strip()
        assert "\n" not in error and not (tmp_path / "run").exists()
        return error

    assert "are generated; beside photographs, give it with --extra" in refused("--data", data, made)
    assert "none of its pictures is marked generated; give it with --data" in refused("--data", data, "--extra", data)
    assert "2 of its 2 pictures are marked generated" in refused("--data", data, "--val", made)
    assert f"--extra {tmp_path}/no.json: no file" in refused("--data", data, "--extra", tmp_path / "no.json")
    assert f"--extra {made}:0: weight '0'" in refused("--data", data, "--extra", f"{made}:0")
    assert train("--data", made, "--out", tmp_path / "alone") == 0  # all of it is made: nothing to keep apart


def test_a_run_stage_by_stage_says_too_what_is_generated_and_older_ones_go_on(tmp_path, capsys):
    made, out = marked(tiny_coco(tmp_path / "made", images=2)), tmp_path / "run"
    words = ["train-stages", "2xu-300m", "--data", str(made), "--input-size", "64", "64", "--samples", "4", "--batch",
             "4", "--folds", "0", "--shares", "0.5", "1", "--threads", "1", "--out", str(out)]
    assert main(words) == 0
    configs = [out / "config.json", out / "stages/1/config.json", out / "stages/2/config.json"]
    for path in configs:
        config = json.loads(path.read_text())
        assert [row.pop("generated") for row in config["data"]] == [True]
        path.write_text(json.dumps(config))  # as before it was told
    (out / "stages/2.safetensors").unlink()
    assert main(words) == 0
    assert all(json.loads(path.read_text())["data"][0]["generated"] for path in (configs[0], configs[2]))
    config["data"][0]["fingerprint"] = "another"
    configs[0].write_text(json.dumps(config | {"train": json.loads(configs[0].read_text())["train"]}))
    assert main(words) == 1
    assert "data 1.fingerprint: 'another' -> '" in capsys.readouterr().err


def test_detectors_know_neither(tmp_path, capsys):
    data = tiny_coco(tmp_path / "real", images=2)
    words = ("--data", str(data), "--out", str(tmp_path / "run"), "--steps", "1")
    assert main(["train", "person-tiny", *words, "--extra", str(data), "--hardest-of", "2"]) == 1
    assert "--hardest-of, --extra means nothing for the detector" in capsys.readouterr().err
    assert main(["train", "person-tiny", *words, "--val", str(marked(tiny_coco(tmp_path / "made", seed=1)))]) == 1
    assert "are marked generated" in capsys.readouterr().err


def test_pictures_made_of_what_is_judged_by_are_refused(tmp_path, capsys):
    data, val = tiny_coco(tmp_path / "real", images=4), tiny_coco(tmp_path / "val", images=1)
    raw = json.loads(data.read_text())
    raw["images"] = [row | {"file_name": f"made-{row['id']}.png", "generated": True, "sources": [
        {"file_name": "000000000001.png"}]} for row in raw["images"]]
    data.write_text(json.dumps(raw))
    assert train("--data", data, "--val", val, "--out", tmp_path / "run") == 1
    assert "'made-1.png' was made of '000000000001.png', which is also in" in capsys.readouterr().err
