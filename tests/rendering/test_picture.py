"""What a picture shows and what its labels say must be one: masks, keypoints, who hides whom."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stagepose.rendering.body import Traits, load_body
from stagepose.rendering.camera import Camera, look_at
from stagepose.rendering.families import Stance, draw_stance
from stagepose.rendering.figures import Figure, draw_figure, turned
from stagepose.rendering.labels import Label
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.light import draw_light
from stagepose.rendering.picture import draw_picture
from stagepose.rendering.pose import angles
from stagepose.rendering.scene import Scene, draw_scene
from stagepose.rendering.things import Thing, box
from stagepose.skeleton import COCO_17, HIDDEN, UNLABELLED, VISIBLE

COCO = read_landmarks(COCO_FILE)
SPREAD = angles(left_shoulder_abduct=50, right_shoulder_abduct=50, left_hip_abduct=15, right_hip_abduct=15)
FACE = ("nose", "left_eye", "right_eye")


def person(yaw: float = 0.0, pose: NDArray[np.float64] = SPREAD, seed: int = 0) -> Figure:
    """A grown-up man in some clothes."""
    return draw_figure(np.random.default_rng(seed), Stance(pose, facing=turned(yaw, 0, 0)), Traits(gender=1))


def camera(size: tuple[int, int] = (160, 128), *, height: float = 0.9, away: float = 5.0) -> Camera:
    return look_at(np.array([0, height, away]), np.array([0, height, 0]), roll=0.0, focal=300.0, size=size)


def labels(*figures: Figure, things: tuple[Thing, ...] = (), view: Camera | None = None) -> list[Label]:
    scene = Scene(figures, things, view or camera(), draw_light(np.random.default_rng(0)))
    return draw_picture(np.random.default_rng(0), scene, COCO)[1]


def flags(label: Label) -> dict[str, int]:
    return dict(zip(COCO_17.names, label.keypoints[:, 2].astype(int).tolist(), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_keypoints_lie_on_their_person(seed: int) -> None:
    """A person alone, whole in the picture: every keypoint falls within the mask, whichever way it is turned."""
    rng = np.random.default_rng(seed)
    stance = replace(draw_stance(rng), facing=turned(float(rng.uniform(-180, 180)), 0, 0), lift=0.2)
    [label] = labels(draw_figure(rng, stance))
    around = cv2.dilate(label.mask.astype(np.uint8), np.ones((5, 5), np.uint8))  # ears and noses stand at the edge
    columns, rows = np.round(label.keypoints[:, :2]).astype(int).T
    assert (label.keypoints[:, 2] > 0).all() and around[rows, columns].all()


@pytest.mark.parametrize("limb", [("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")])
def test_limbs_are_between_their_joints(limb: tuple[str, str]) -> None:
    [label] = labels(person())
    for side in ("left", "right"):
        ends = np.stack([label.keypoints[COCO_17.index(f"{side}_{joint}"), :2] for joint in limb])
        for share in np.linspace(0, 1, 9):
            x, y = np.round(ends[0] + share * (ends[1] - ends[0])).astype(int)
            assert label.mask[y, x]


def test_the_front_is_seen_from_the_front_and_hidden_from_behind() -> None:
    [front], [back] = labels(person(0)), labels(person(180))
    assert set(flags(front).values()) == {VISIBLE}
    assert all(flags(back)[name] == HIDDEN for name in FACE)
    assert all(flags(back)[f"{side}_{joint}"] == VISIBLE
               for side in ("left", "right") for joint in ("shoulder", "elbow", "knee", "ankle"))
    left = front.keypoints[COCO_17.index("left_wrist"), 0]
    assert left > front.keypoints[COCO_17.index("right_wrist"), 0]  # the person's left, as COCO has it


def test_from_the_side_the_far_half_is_hidden() -> None:
    forward = angles(left_shoulder_flex=60, right_shoulder_flex=60)  # hands would hide the hips
    [label] = labels(person(90, forward))  # looks to the picture's right: its right side is near
    assert flags(label)["right_hip"] == VISIBLE and flags(label)["left_hip"] == HIDDEN
    assert flags(label)["right_ear"] != UNLABELLED and flags(label)["left_ear"] == HIDDEN


def test_the_nearer_person_hides_the_other() -> None:
    before, behind = person().moved(np.array([0, 0, 1.0])), person()
    for order in ((before, behind), (behind, before)):  # depth decides, not the order
        shown = labels(*order)
        near, far = shown if order[0] is before else shown[::-1]
        assert set(flags(near).values()) == {VISIBLE}
        assert near.mask.sum() > 5 * far.mask.sum() and not (near.mask & far.mask).any()
        assert flags(far)["left_hip"] == HIDDEN


def test_a_thing_hides_what_is_behind_it() -> None:
    wall = box(np.random.default_rng(0), np.array([0, 0, 0.8]), (3.0, 0.7, 0.1), 0.0)
    [label] = labels(person(), things=(wall,))
    assert flags(label)["left_knee"] == flags(label)["right_ankle"] == HIDDEN
    assert flags(label)["nose"] == flags(label)["left_shoulder"] == VISIBLE
    annotation = label.annotation()
    assert annotation["num_keypoints"] == 17
    assert annotation["area"] == label.mask.sum() < labels(person())[0].mask.sum()


def test_keypoints_outside_of_the_picture_are_no_keypoints() -> None:
    [label] = labels(person(), view=camera(height=1.6, away=2.5))
    assert flags(label)["left_ankle"] == UNLABELLED and flags(label)["nose"] == VISIBLE
    assert (label.keypoints[label.keypoints[:, 2] == UNLABELLED] == 0).all()
    for height, away in ((1.75, 1.2), (0.3, 2.0), (0.9, 0.9)):  # edges through the person
        [label] = labels(person(), view=camera(height=height, away=away))
        x, y = label.keypoints[label.keypoints[:, 2] > UNLABELLED, :2].T
        assert (x > 0).all() and (y > 0).all() and (x <= 127).all() and (y <= 159).all()


def test_boxes_are_those_of_the_masks() -> None:
    [label] = labels(person())
    x, y, width, height = label.annotation()["bbox"]
    assert label.mask[y : y + height, x : x + width].sum() == label.mask.sum()
    assert label.mask[y].any() and label.mask[:, x].any()
    assert label.mask[y + height - 1].any() and label.mask[:, x + width - 1].any()


def test_hardly_seen_people_are_not_asked_for_keypoints() -> None:
    wall = box(np.random.default_rng(0), np.array([0, 0, 0.8]), (3.0, 1.65, 0.1), 0.0)
    [label] = labels(person(pose=angles(left_shoulder_flex=170)), things=(wall,), view=camera(away=6))
    assert label.mask.any() and label.annotation()["num_keypoints"] == 0


@pytest.mark.parametrize(("visibility", "left"), [
    ([VISIBLE], 1), ([HIDDEN], 0), ([VISIBLE, HIDDEN], 0), ([VISIBLE, VISIBLE], 2), ([VISIBLE, VISIBLE, HIDDEN], 3),
])
def test_two_keypoints_must_be_seen_or_the_only_one(visibility: list[int], left: int) -> None:
    keypoints = np.array([[5.0, 5, v] for v in visibility])
    assert Label(np.ones((10, 10), dtype=bool), keypoints).annotation()["num_keypoints"] == left


def test_a_seat_is_under_who_sits() -> None:
    rng = np.random.default_rng(2)
    sitting = Stance(angles(left_hip_flex=90, right_hip_flex=90, left_knee=90, right_knee=90), seat=True)
    scene = draw_scene(rng, 64, 1, lambda _: sitting)
    hips = scene.figures[0].heads[load_body().bone("upperleg01.L")]
    seat = scene.things[0]
    assert 0.05 < hips[1] - seat.points[:, 1].max() < 0.2
    assert np.linalg.norm((seat.points.mean(axis=0) - hips)[[0, 2]]) < 0.4


def test_the_same_generator_gives_the_same_picture() -> None:
    def once(seed: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        return draw_picture(rng, draw_scene(rng, 64, 2, draw_stance), COCO)[0]

    assert np.array_equal(once(5), once(5)) and once(5).shape[:2] != (0, 0)
    assert once(5).shape != once(6).shape or not np.array_equal(once(5), once(6))
