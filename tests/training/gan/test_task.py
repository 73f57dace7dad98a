"""The repair task in the usual loop: exact resumes, bad steps that leave no trace in either network, clear errors."""

import hashlib
import json
import os
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from stagepose.errors import CheckpointError, ConfigError, DatasetError, SkeletonError, TrainingError
from stagepose.heatmaps import UdpDark
from stagepose.runtime import read_info, resolve
from stagepose.skeleton import COCO_17, Skeleton
from stagepose.training import checkpoint, start
from stagepose.training.checkpoint import load_step, newest_checkpoint
from stagepose.training.crops import CropSpec, open_or_pack
from stagepose.training.gan import build as building
from stagepose.training.gan.build import load_generator, open_finder, read_config, repair_task
from stagepose.training.gan.losses import Features, PoseFinder, critic_loss, fooling_loss, frozen
from stagepose.training.gan.presets import REPAIR_PRESETS, repair_preset
from stagepose.training.gan.task import RepairConfig, RepairTask
from stagepose.training.inference import PoseInference
from stagepose.training.inputs import RunContext, TrainingSet
from stagepose.training.loop import TrainConfig, train
from stagepose.training.networks.repair import PatchCritic, RepairNet
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.trained import open_pose

from .drawn import drawn_coco
from .test_learning import toy_recipe, toy_task

PEOPLE = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("drawn")
    drawn_coco(home, PEOPLE)
    return home


def tiny_recipe(steps, **changes):
    recipe = toy_recipe(steps)
    return replace(recipe, repair=replace(recipe.repair, widths=(8, 16), critic_width=8),
                   train=replace(recipe.train, batch=4, samples=4 * steps, warmup=4, **changes))


class Troubled(RepairTask):
    """Something happens when the loss of a certain step is asked for."""

    steps, calls, what = frozenset(), 0, None

    def at(self, steps, what):
        self.steps, self.what = frozenset(steps), what
        return self

    def loss(self, model, batch):
        self.calls += 1
        losses = super().loss(model, batch)
        if self.calls in self.steps:
            losses = self.what(losses)
        return losses


def troubled(folder, recipe, monkeypatch, steps, what):
    monkeypatch.setattr(building, "RepairTask", Troubled)
    return toy_task(folder, recipe).at(steps, what)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_resume_is_bit_equal(folder, tmp_path, monkeypatch):
    recipe = tiny_recipe(9, save_every=4)
    train(toy_task(folder, recipe), recipe.train, tmp_path / "whole")

    def stop(losses):
        os.kill(os.getpid(), signal.SIGTERM)
        return losses

    with pytest.raises(SystemExit):
        train(troubled(folder, recipe, monkeypatch, {6}, stop), recipe.train, tmp_path / "parts")
    assert newest_checkpoint(tmp_path / "parts").step == 6
    train(toy_task(folder, recipe), recipe.train, tmp_path / "parts")
    whole, parts = (newest_checkpoint(tmp_path / name).parts for name in ("whole", "parts"))
    assert any(name.endswith("_u") for name in whole["model"])  # the critic's singular vectors are saved
    assert all(equal(whole[part], parts[part]) for part in ("model", "ema", "optimizer"))


def test_a_patch_of_the_critics_is_54_pixels_across():
    picture = torch.rand(1, 3, 160, 160, requires_grad=True)
    PatchCritic(3, 8)(picture)[0, 0, 10, 10].backward()
    seen = picture.grad.abs().sum((0, 1)) > 0
    assert [int(seen.any(side).sum()) for side in (0, 1)] == [54, 54]


@pytest.mark.parametrize("which", ["critic", "pixels"])
def test_a_bad_step_leaves_both_networks_as_they_were(folder, tmp_path, monkeypatch, which):
    recipe = tiny_recipe(4, save_every=1, log_every=1)
    spoil = lambda losses: losses | {which: losses[which] * float("nan")}  # noqa: E731
    train(troubled(folder, recipe, monkeypatch, {4}, spoil), recipe.train, tmp_path / "run")
    before, after = (load_step(tmp_path / "run" / "steps" / f"{step:09d}") for step in (3, 4))
    assert all(equal(before.parts[part], after.parts[part]) for part in ("model", "ema", "optimizer"))
    skipped = [row for row in map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
               if "skipped" in row]
    assert [row["step"] for row in skipped] == [4] and len(skipped[0]["samples"]) == 4
    train(toy_task(folder, replace(recipe, train=replace(recipe.train, samples=20))),
          replace(recipe.train, samples=20), tmp_path / "run", accept_changes=True)
    later = newest_checkpoint(tmp_path / "run").parts["model"]
    moved = [name for name in later if not torch.equal(later[name], after.parts["model"][name])]
    assert any(name.endswith("_u") for name in moved) and any(name.startswith("generator.") for name in moved)


def test_many_bad_steps_stop_the_run(folder, tmp_path, monkeypatch):
    recipe = tiny_recipe(9, max_bad_steps=3)
    spoil = lambda losses: losses | {"critic": losses["critic"] * float("inf")}  # noqa: E731
    with pytest.raises(TrainingError, match="3 steps in a row"):
        train(troubled(folder, recipe, monkeypatch, range(2, 9), spoil), recipe.train, tmp_path / "run")


def test_a_sample_is_the_same_in_any_batch(folder):
    task = toy_task(folder, tiny_recipe(1))
    keys = [(0, 3), (1, 5), (0, 8)]
    together = task.prepare(task.reader.read(keys))
    for row, key in enumerate(keys):
        alone = task.prepare(task.reader.read([key]))
        assert torch.equal(alone.photos[0], together.photos[row])
        assert torch.allclose(alone.moved.pictures[0], together.moved.pictures[row], atol=1e-6)
    assert (together.moved.pictures != together.photos).any() and len(set(task.names(keys))) == 3


def test_people_kept_aside_are_never_shown(folder):
    task = toy_task(folder, tiny_recipe(1))
    assert len(task.held_out) == 2
    assert not set(task.held_out.tolist()) & set(task.reader.order(0).tolist())
    assert task.samples_per_epoch == PEOPLE - 2


def test_each_network_gets_its_own_gradient(folder):
    task = toy_task(folder, tiny_recipe(1))
    torch.nn.init.normal_(task.model.generator.out.weight, std=0.01)
    losses = task.loss(task.model, task.prepare(task.reader.read([(0, 0), (0, 1)])))
    critic, painter = list(task.model.critic.parameters()), list(task.model.generator.parameters())
    of_critic = torch.autograd.grad(losses["critic"], critic + painter, allow_unused=True, retain_graph=True)
    assert all(g is not None for g in of_critic[: len(critic)]) and all(g is None for g in of_critic[len(critic) :])
    of_painter = torch.autograd.grad(losses["adversary"], critic + painter, allow_unused=True)
    assert all(g is None for g in of_painter[: len(critic)]) and any(g is not None for g in of_painter[len(critic) :])


def test_losses_are_what_they_say():
    ones, seen = torch.ones(2, 1, 4, 3), torch.zeros(2, 1, 4, 3)
    seen[0] = 1
    assert critic_loss(2 * ones, -2 * ones, seen) == 0 and critic_loss(0 * ones, 0 * ones, seen) == 2
    assert fooling_loss(ones * seen, seen) == -1  # what was not changed says nothing
    features = Features()
    a = torch.rand(1, 3, 64, 48) * 2 - 1
    assert features(a, a) == 0 and features(a.flip(3), a) > features(a * 0.95, a) > 0
    assert not any(p.requires_grad for p in features.parameters())


def test_a_frozen_pose_network_teaches_the_picture_alone():
    codec = UdpDark(input_size=(64, 96))
    model = PoseInference(build("u-300m", 17), codec, "kl").eval().requires_grad_(False)
    finder = PoseFinder(model, codec, COCO_17.sigmas, "")
    pictures = torch.zeros(4, 3, 64, 48, requires_grad=True)
    people = np.concatenate([np.random.default_rng(0).uniform(8, 40, (4, 17, 2)), np.full((4, 17, 1), 2.0)], -1)
    finder.loss(pictures, people).backward()
    assert pictures.grad[0].abs().sum() > 0 and pictures.grad[1:].abs().sum() == 0  # a quarter of the batch is shown
    assert all(p.grad is None for p in model.parameters())
    found = finder.oks(pictures.detach(), people, np.full(4, 900.0))
    assert found.shape == (4,) and (found >= 0).all() and (found <= 1).all()


def test_a_run_that_teaches_is_remembered_by_its_weights(folder, tmp_path):
    sets, codec = [TrainingSet.parse(str(folder / "person_keypoints.json"))], UdpDark(input_size=(64, 96))
    store = open_or_pack(sets[0].path, sets[0].images, folder / "crops", spec=CropSpec(input_size=codec.input_size),
                         skeleton=COCO_17)
    known = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        task = PoseTask(build("slim-u", 17), PoseConfig(network="slim-u", codec=codec), PeopleSets([store]))
        train(task, TrainConfig(batch=2, samples=2, warmup=1, bf16=False), tmp_path / str(seed))
        taught = repair_task(tiny_recipe(1), sets, COCO_17, RunContext(crops=folder / "crops"),
                             teacher=str(tmp_path / str(seed)))
        known.add(taught.describe()["teacher"]["sha256"])
        assert checkpoint.digest(open_pose(tmp_path / str(seed)).model.state_dict()) in known
    assert len(known) == 2 and set(map(len, known)) == {64}


def test_a_run_that_knows_its_teacher_by_the_whole_file_goes_on_so(tmp_path):
    whole = hashlib.sha256(resolve("pose-small").read_bytes()).hexdigest()
    for said, expected in ({"teacher": {"sha256": whole}}, whole), ({"teacher": None}, read_info("pose-small").sha256):
        (tmp_path / "config.json").write_text(json.dumps(said))
        assert open_finder("pose-small", COCO_17, "cpu", tmp_path).sha256 == expected


def test_a_shipped_model_can_teach_and_is_remembered(folder):
    recipe = tiny_recipe(1)
    source = TrainingSet.parse(str(folder / "person_keypoints.json"))
    task = repair_task(recipe, [source], COCO_17, RunContext(crops=folder / "crops"), teacher="pose-small")
    assert task.describe()["teacher"] == {"sha256": start.digest_of("pose-small")}
    losses = task.loss(task.model, task.prepare(task.reader.read([(0, 0), (0, 1)])))
    assert torch.isfinite(losses["pose"]) and losses["pose"] > 0
    assert {"oks_carried", "oks_repaired"} & set(task.evaluate(task.model).numbers) or task._posed is None


def test_the_networks_sizes():
    for name, smallest, largest in (("repair-128", 15e6, 25e6), ("repair-256", 15e6, 25e6), ("repair-small", 0, 2e6)):
        config = repair_preset(name).repair
        with torch.device("meta"):
            network = RepairNet(41, config.widths, config.depth, config.block)
            painted = network(torch.empty(1, 41, config.size[1], config.size[0]))
        assert smallest < sum(p.numel() for p in network.parameters()) < largest
        assert painted.shape == (1, 3, config.size[1], config.size[0])
    with torch.device("meta"):
        assert PatchCritic(39, 8)(torch.empty(2, 39, 96, 72)).shape == (2, 1, 12, 9)


def test_a_critic_is_held_at_one():
    critic = PatchCritic(4, 8)
    for _ in range(30):
        critic(torch.zeros(1, 4, 16, 16))
    weight = critic.layers[2].weight.flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, abs=0.02)
    with frozen(critic):
        assert not any(p.requires_grad for p in critic.parameters())
    assert all(p.requires_grad for p in critic.parameters())


@pytest.mark.parametrize(("people", "change"), [(1, None), (3, "hidden")])
def test_no_poses_to_learn_from(tmp_path, people, change):
    path = drawn_coco(tmp_path, people)
    if change:
        data = json.loads(path.read_text())
        for person in data["annotations"]:
            person["keypoints"][2::3] = [1] * 17
        path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=r"no poses to learn from: of \d people none shows a whole limb"):
        toy_task(tmp_path, tiny_recipe(1))


def test_bad_settings_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"size is 50x64.*divisible by 8"):
        RepairConfig(size=(50, 64), widths=(16, 32, 64), block=2)
    with pytest.raises(ConfigError, match="adversary is -1"):
        RepairConfig(adversary=-1)
    with pytest.raises(ConfigError, match=r"widths \(12, 16\)"):
        RepairNet(5, (12, 16), 1)
    with pytest.raises(ConfigError, match=r"no preset named 'repair-64'; .*; did you mean"):
        repair_preset("repair-64")
    bare = Skeleton(name="dots", names=COCO_17.names, flip_pairs=COCO_17.flip_pairs)
    source = TrainingSet.parse(str(folder / "person_keypoints.json"))
    with pytest.raises(SkeletonError, match="skeleton 'dots': has no limbs"):
        repair_task(tiny_recipe(1), [source], bare, RunContext(crops=tmp_path))
    with pytest.raises(CheckpointError, match="no run folder of 'stagepose gan train'"):
        load_generator(tmp_path)
    (tmp_path / "config.json").write_text('{"kind": "pose"}')
    with pytest.raises(ConfigError, match="a run of kind 'pose'"):
        load_generator(tmp_path)


def test_a_runs_settings_come_back(folder, tmp_path):
    recipe = tiny_recipe(1)
    train(toy_task(folder, recipe), recipe.train, tmp_path / "run")
    config, skeleton, _ = read_config(tmp_path / "run")
    assert config == recipe.repair and skeleton == COCO_17
    assert all(REPAIR_PRESETS[name]().repair == RepairConfig.from_json(json.loads(json.dumps(
        asdict(REPAIR_PRESETS[name]().repair)))) for name in REPAIR_PRESETS)
