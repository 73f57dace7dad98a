"""Limbs and what is done to them: which can move, pixels and points together, holes filled from around them."""

import numpy as np
import pytest
import torch

from stagepose.errors import SkeletonError
from stagepose.skeleton import COCO_17, LSP_14, Skeleton
from stagepose.training.gan.carry import carry_to, covered
from stagepose.training.gan.damage import damage, numbers
from stagepose.training.gan.limbs import limbs_of
from stagepose.training.gan.moving import Move, capsules, carried, fill, move_limbs, pose_maps

LIMBS = limbs_of(COCO_17)
SIZE = (48, 64)


def standing(rng, people):
    """(B, 17, 3) a person each, seen whole, in the middle of a 48x64 picture."""
    places = {"nose": (0, -20), "eye": (2, -22), "ear": (4, -20), "shoulder": (7, -13), "elbow": (11, -4),
              "wrist": (12, 5), "hip": (5, 4), "knee": (6, 14), "ankle": (6, 24)}
    sides = [-1 if name.startswith("right") else 1 for name in COCO_17.names]
    points = np.array([places[name.split("_")[-1]] for name in COCO_17.names], dtype=float)
    points = points * np.column_stack([sides, np.ones(17)]) + np.array([23.5, 32])
    moved = points + rng.normal(0, 1, (people, 17, 2))
    return np.concatenate([moved, np.full((people, 17, 1), 2.0)], -1)


def test_chains_of_published_skeletons():
    names = [[COCO_17.names[joint] for joint in chain] for chain in LIMBS.chains]
    assert names == [[f"{side}_{joint}" for joint in chain] for chain in (("shoulder", "elbow", "wrist"),
                     ("hip", "knee", "ankle")) for side in ("left", "right")]
    assert LIMBS.firsts.tolist() == [True, False] * 4 and LIMBS.lasts.tolist() == [False, True] * 4
    assert ["neck", "head_top"] in [[LSP_14.names[joint] for joint in chain] for chain in limbs_of(LSP_14).chains]
    row = Skeleton(name="row", names=("a", "b", "c"), limbs=(("a", "b"), ("b", "c")))
    assert limbs_of(row).chains == ((2, 1, 0),)


@pytest.mark.parametrize(("limbs", "message"), [
    ((), "skeleton 'mine': has no limbs"), ((("a", "b"), ("b", "c"), ("c", "a")), "closed rings only")])
def test_a_skeleton_without_limbs_is_refused(limbs, message):
    with pytest.raises(SkeletonError, match=message):
        limbs_of(Skeleton(name="mine", names=("a", "b", "c"), limbs=limbs))


def test_limbs_move_as_their_segments_do():
    rng = np.random.default_rng(0)
    for _ in range(5):
        source, target = (torch.tensor(rng.uniform(15, 45, (1, 2, 2)), dtype=torch.float32) for _ in range(2))
        dot = source[:, :1, None].expand(1, 1, 2, 2)
        picture = capsules(dot, torch.full((1, 1), 3.0), SIZE)[0].expand(3, -1, -1)
        out = carried(picture[None], source, target)[0, 0]
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
        centre = torch.stack([(out * x).sum(), (out * y).sum()]) / out.sum()
        inside = (target[0, 0] > 8).all() and (target[0, 0] < torch.tensor([40.0, 56])).all()
        assert not inside or (centre - target[0, 0]).norm() < 0.5


def test_a_move_onto_itself_changes_only_the_rim_of_what_was_cut():
    rng = np.random.default_rng(1)
    photos = torch.tensor(rng.uniform(-1, 1, (2, 3, 64, 48)), dtype=torch.float32)
    people = standing(rng, 2)
    everything = np.ones((2, 4), dtype=bool)
    done = move_limbs(photos, carry_to(people, people, everything, np.full(2, 600.0), LIMBS))
    core = capsules(torch.tensor(LIMBS.segments(people[..., :2]), dtype=torch.float32), torch.full((2, 8), 1.0), SIZE)
    core = (core.amax(1, keepdim=True) == 1).expand_as(photos)
    assert torch.allclose(done.pictures[core], photos[core], atol=2e-3)
    untouched = (done.changed == 0).expand_as(photos)
    assert torch.equal(done.pictures[untouched], photos[untouched]) and untouched.any() and not untouched.all()


def test_a_batch_is_its_pictures_one_by_one():
    rng = np.random.default_rng(2)
    photos = torch.tensor(rng.uniform(-1, 1, (3, 3, 64, 48)), dtype=torch.float32)
    people, areas = standing(rng, 3), np.array([500.0, 600, 700])
    cuts = rng.random((3, numbers(LIMBS)))
    whole = move_limbs(photos, damage(people, areas, cuts, LIMBS))
    for row in range(3):
        one = slice(row, row + 1)
        alone = move_limbs(photos[one], damage(people[one], areas[one], cuts[one], LIMBS))
        for name in ("pictures", "changed", "filled"):
            # a place off by a rounding is off by as much times the noise's slope, 2 from pixel to pixel
            assert torch.allclose(getattr(whole, name)[one], getattr(alone, name), rtol=0, atol=1e-4)
    assert (whole.pictures != photos).any()


def test_hidden_limbs_are_left_alone():
    people = standing(np.random.default_rng(3), 1)
    people[0, COCO_17.index("left_wrist"), 2] = 1
    cuts = np.zeros((1, numbers(LIMBS)))  # every chance is taken
    cut = damage(people, np.array([600.0]), cuts, LIMBS).cut[0]
    assert not cut[LIMBS.chain_of == 0].any() and cut[LIMBS.chain_of != 0].all()


def test_holes_are_filled_from_around_them():
    ramp = torch.linspace(-1, 1, 48).expand(1, 3, 65, 48).clone()  # odd sides too
    hole = torch.zeros(1, 1, 65, 48)
    hole[..., 20:40, 20:28] = 1
    filled = fill(torch.where(hole > 0, torch.tensor(5.0), ramp), hole)
    assert torch.equal(filled[(hole == 0).expand_as(ramp)], ramp[(hole == 0).expand_as(ramp)])
    assert (filled - ramp).abs().max() < 0.25
    assert torch.isfinite(fill(ramp, torch.ones_like(hole))).all()


def test_pose_maps_say_where_joints_are_and_whether_they_are_seen():
    people = standing(np.random.default_rng(4), 1).round()
    people[0, 3, 2], people[0, 9, 2] = 0, 1
    maps = pose_maps(people, COCO_17, SIZE, "cpu")[0]
    assert maps.shape == (17 + len(COCO_17.limbs), 64, 48)
    peaks = maps[:17].flatten(1).max(1)
    assert peaks.values[3] == 0 and peaks.values[9] == 0.5 and peaks.values[0] == 1
    assert peaks.indices[0] == people[0, 0, 1] * 48 + people[0, 0, 0]


def test_joints_under_a_limb_that_was_moved_are_hidden():
    person = standing(np.random.default_rng(5), 1)[0]
    moved = np.array([True, False, False, False])
    nose, wrist = COCO_17.index("nose"), COCO_17.index("left_wrist")
    person[COCO_17.index("left_elbow"), :2] = person[nose, :2] + [6, 6]
    person[wrist, :2] = person[nose, :2] - [3, 3]
    labels = covered(person, moved, 900.0, LIMBS)
    assert labels[nose, 2] == 1 and labels[wrist, 2] == 2 and labels[COCO_17.index("right_wrist"), 2] == 2
    assert np.array_equal(labels[:, :2], person[:, :2])


def test_a_forearm_may_hide_its_own_shoulder():
    person = standing(np.random.default_rng(5), 1)[0]
    shoulder, elbow, wrist = (COCO_17.index(f"left_{name}") for name in ("shoulder", "elbow", "wrist"))
    person[elbow, :2] = person[shoulder, :2] + [0, 14]
    person[wrist, :2] = person[shoulder, :2] + [1, 1]  # folded up
    labels = covered(person, np.array([True, False, False, False]), 900.0, LIMBS)
    assert labels[[shoulder, elbow, wrist], 2].tolist() == [1, 2, 2]


def test_a_limb_of_no_length_does_no_harm():
    segment = np.zeros((1, 1, 2, 2)) + 20
    one, none = np.ones((1, 1), dtype=bool), np.zeros((1, 0))
    move = Move(source=segment, target=segment + 5, radii=np.full((1, 1), 4.0), cut=one, drawn=one,
                holes=none.reshape(1, 0, 2, 2), hole_radii=none)
    assert torch.isfinite(move_limbs(torch.rand(1, 3, 64, 48), move).pictures).all()
