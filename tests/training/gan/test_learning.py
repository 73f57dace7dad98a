"""A small generator learns drawn people: what it paints follows the pose it is asked for, not the one it was given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stagepose.skeleton import COCO_17
from stagepose.training.gan.build import load_generator, repair_task
from stagepose.training.gan.carry import carry_to
from stagepose.training.gan.moving import CUT, move_limbs, pose_maps
from stagepose.training.gan.poses import NewPose
from stagepose.training.gan.presets import RepairRecipe, repair_small
from stagepose.training.gan.task import RepairConfig, repair, to_pixels
from stagepose.training.inputs import RunContext, TrainingSet
from stagepose.training.loop import train
from stagepose.training.randomness import generator

from .drawn import COLOURS, drawn_coco

PEOPLE, STEPS = 300, 260


def toy_recipe(steps):
    """48x64 pixels, 0.2 million parameters; without an ImageNet trunk, which knows no drawings."""
    config = RepairConfig(size=(48, 64), widths=(24, 48, 64), block=2, critic_width=16, features=0.0)
    return RepairRecipe(repair=config, train=replace(repair_small().train, samples=16 * steps, warmup=320, lr=3e-3,
                                                     ema_decay=0.98, evaluate_every=0, save_minutes=100.0))


def toy_task(folder, recipe, people=PEOPLE):
    path = folder / "person_keypoints.json"
    data = TrainingSet.parse(str(path if path.is_file() else drawn_coco(folder, people)))
    return repair_task(recipe, [data], COCO_17, RunContext(crops=folder / "crops"))


def erased(task):
    """Held-out people whose limbs are taken away and asked for elsewhere: nothing says where but the pose maps."""
    people = task._fixed
    drawn = [task.poses.draw(points, area, task.config.size, generator(5, 0, row))
             for row, (points, area) in enumerate(zip(people.keypoints, people.areas, strict=True))]
    rows = [row for row, pose in enumerate(drawn) if isinstance(pose, NewPose)]
    old, areas = people.keypoints[rows], people.areas[rows]
    new, moved = (np.stack([getattr(drawn[row], name) for row in rows]) for name in ("keypoints", "moved"))
    move = carry_to(old, new, moved, areas, task.limbs)
    move = replace(move, drawn=np.zeros_like(move.drawn), holes=move.target,
                   hole_radii=np.where(move.drawn, CUT * move.radii, 0))
    return people.photos[rows], move, new, moved


@torch.no_grad()
def followed(task, network):
    """Share of bones whose limb's colour is nearer in the middle of the asked bone than of the one in the photo."""
    photos, move, new, moved = erased(task)
    maps = pose_maps(new, COCO_17, task.config.size, "cpu")
    painted = to_pixels(repair(network, move_limbs(photos, move), maps)).astype(float)
    wins = []
    for person, bone in np.argwhere(moved[:, task.limbs.chain_of]):
        ends = {"asked": move.target[person, bone], "given": move.source[person, bone]}
        middles = {name: segment.mean(0).round().astype(int) for name, segment in ends.items()}
        if np.linalg.norm(middles["asked"] - middles["given"]) < 8:
            continue
        tip = COCO_17.names[task.limbs.chains[task.limbs.chain_of[bone]][-1]]
        away = {name: np.abs(painted[person, y, x] - COLOURS[tip]).mean() for name, (x, y) in middles.items()}
        wins.append(away["asked"] < away["given"])
    return np.mean(wins), len(wins)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    recipe = toy_recipe(STEPS)
    task = toy_task(folder, recipe)
    before = followed(task, task.model.generator)
    train(task, recipe.train, folder / "run")
    return task, before, folder


def test_what_is_painted_follows_the_pose(learnt):
    task, (before, bones), folder = learnt
    after, _ = followed(task, load_generator(folder / "run"))
    assert bones >= 15 and before < 0.4  # remains of the limb that was there
    assert after > 0.5


def test_photos_are_repaired(learnt):
    task, _, folder = learnt
    task.model.generator.load_state_dict(load_generator(folder / "run").state_dict())
    found = task.evaluate(task.model).numbers
    assert found["repaired"] < 0.9 * found["damaged"]
    assert list((folder / "run" / "pictures").glob("*-validation.png"))
