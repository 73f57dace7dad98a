"""New poses: what a body can do is learnt from data, and nothing else is drawn."""

import numpy as np
import pytest

from stagepose.coco import read_dataset
from stagepose.errors import DatasetError
from stagepose.skeleton import COCO_17
from stagepose.training.gan.limbs import limbs_of
from stagepose.training.gan.poses import ATTEMPTS, MARGIN, STRETCH, NewPose, learn_poses, placed, shape_of, wrapped
from stagepose.training.randomness import generator

from .drawn import HEIGHT, WIDTH, drawn_coco

LIMBS = limbs_of(COCO_17)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    dataset = read_dataset(drawn_coco(tmp_path_factory.mktemp("drawn"), 80))
    return dataset.keypoints, dataset.areas


def test_a_shape_put_back_gives_the_same_joints(people):
    keypoints, areas = people
    shape = shape_of(keypoints[:5], areas[:5], LIMBS)
    for row in range(5):
        one = type(shape)(shape.angles[row : row + 1], shape.ratios[row : row + 1])
        assert np.allclose(placed(keypoints[row], areas[row], one, np.ones(4, dtype=bool), LIMBS), keypoints[row])


def test_a_shape_stays_when_a_person_is_moved_turned_and_scaled(people):
    keypoints, areas = people
    turn = 2.5 * np.array([[np.cos(1), np.sin(1)], [-np.sin(1), np.cos(1)]])
    moved = keypoints.copy()
    moved[..., :2] = keypoints[..., :2] @ turn.T + [40, -7]
    a, b = shape_of(keypoints, areas, LIMBS), shape_of(moved, areas * 2.5**2, LIMBS)
    assert np.allclose(wrapped(a.angles - b.angles), 0, atol=1e-9) and np.allclose(a.ratios, b.ratios)


def test_drawn_poses_are_new_possible_and_in_the_frame(people):
    keypoints, areas = people
    poses = learn_poses(keypoints, areas, LIMBS)
    found = [(row, poses.draw(keypoints[row], areas[row], (WIDTH, HEIGHT), generator(0, 0, row))) for row in range(80)]
    new = [(row, pose) for row, pose in found if isinstance(pose, NewPose)]
    assert len(new) > 60 and {pose.kind for _, pose in new} == {"real", "mixed", "turned"}
    for row, pose in new:
        bones = pose.moved[LIMBS.chain_of]
        bent, stretched = poses.limits.broken(shape_of(pose.keypoints[None], areas[row : row + 1], LIMBS))
        assert not (bent | stretched)[0, bones].any()
        still = [joint for joint in range(17) if not any(
            joint in chain[1:] for chain, moved in zip(LIMBS.chains, pose.moved, strict=True) if moved)]
        assert np.array_equal(pose.keypoints[still], keypoints[row, still])
        assert np.abs(pose.keypoints[:, :2] - keypoints[row, :, :2]).max() > 2
        ends = LIMBS.segments(pose.keypoints[None, :, :2])[0, bones, 1]
        assert (ends >= MARGIN).all() and (ends <= np.array([WIDTH, HEIGHT]) - 1 - MARGIN).all()
        assert (len(pose.donors) == 0) == (pose.kind == "turned")
    again = poses.draw(keypoints[3], areas[3], (WIDTH, HEIGHT), generator(0, 0, 3))
    assert isinstance(again, NewPose) and np.array_equal(again.keypoints, dict(new)[3].keypoints)


def test_no_limb_is_stretched_further_than_its_picture_may_be(people):
    keypoints, areas = people
    rng = np.random.default_rng(0)
    lengths = keypoints.copy()
    for row, factor in enumerate(rng.uniform(0.4, 1.6, len(keypoints))):  # people of long limbs, people of short ones
        shape = shape_of(lengths[row : row + 1], areas[row : row + 1], LIMBS)
        longer = type(shape)(shape.angles, shape.ratios * rng.uniform(0.6, 1.5, shape.ratios.shape) * factor**0.5)
        lengths[row] = placed(keypoints[row], areas[row], longer, np.ones(4, dtype=bool), LIMBS)
    poses, changes = learn_poses(lengths, areas, LIMBS), []
    for row in range(len(lengths)):
        pose = poses.draw(lengths[row], areas[row], (3 * WIDTH, 3 * HEIGHT), generator(2, 0, row))
        if isinstance(pose, NewPose):
            long = [np.linalg.norm(np.diff(points[LIMBS.bones, :2], axis=1)[:, 0], axis=1)
                    for points in (lengths[row], pose.keypoints)]
            changes += (long[1] / long[0]).tolist()
    assert len(changes) > 200 and max(changes) <= STRETCH + 1e-6 and min(changes) >= 1 / STRETCH - 1e-6
    assert max(changes) > 1.3


def test_the_preferred_lend_their_poses(people):
    keypoints, areas = people
    weights = np.zeros(len(areas))
    weights[7] = 1
    poses = learn_poses(keypoints, areas, LIMBS, weights)
    drawn = [poses.draw(keypoints[row], areas[row], (WIDTH, HEIGHT), generator(1, 0, row)) for row in range(30)]
    assert {pose.donors for pose in drawn if isinstance(pose, NewPose)} == {(), (7,)}


def test_poses_outside_the_frame_are_refused_and_counted(people):
    keypoints, areas = people
    poses = learn_poses(keypoints, areas, LIMBS)
    near = keypoints[0].copy()
    near[:, :2] -= near[LIMBS.roots, :2].mean(0)  # the trunk's middle in the corner of the picture
    near[:, 0] += 15
    outside = [poses.draw(near, areas[0], (30, 12), generator(0, 0, row)) for row in range(10)]
    assert all(isinstance(found, str) for found in outside) and "outside the frame" in outside
    assert poses.given_up["outside the frame"] > 20 and poses.given_up.total() == 10 * ATTEMPTS


def test_nobody_to_learn_from_is_said(people):
    keypoints, areas = people
    with pytest.raises(DatasetError, match="no poses to learn from: only 12 people show left_shoulder"):
        learn_poses(keypoints[:12], areas[:12], LIMBS)
    hidden = keypoints.copy()
    hidden[:, COCO_17.index("right_knee"), 2] = 1
    with pytest.raises(DatasetError, match="only 0 people show right_hip-right_knee-right_ankle"):
        learn_poses(hidden, areas, LIMBS)
    blind = keypoints[0] * [1, 1, 0]
    poses = learn_poses(keypoints, areas, LIMBS)
    assert poses.draw(blind, 900.0, (WIDTH, HEIGHT), generator(0, 0)) == "no limb to move"
