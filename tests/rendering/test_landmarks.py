"""Keypoints on the body: COCO's where they belong, one's own from a file, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stagepose.aliases import Float32
from stagepose.errors import SkeletonError
from stagepose.rendering.body import Traits, load_body
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.pose import angles, move
from stagepose.skeleton import COCO_17

COCO = read_landmarks(COCO_FILE)
PLACES = dict(zip(COCO_17.names, COCO.rest, strict=True))


def test_cocos_file_is_cocos_skeleton() -> None:
    assert COCO.skeleton is COCO_17


@pytest.mark.parametrize(("left", "right"), COCO_17.flip_pairs)
def test_left_is_the_persons_left_and_mirrors_right(left: str, right: str) -> None:
    assert PLACES[left][0] > 0.02
    np.testing.assert_allclose(PLACES[left] * [-1, 1, 1], PLACES[right], atol=1e-3)


def test_keypoints_stand_in_the_order_of_a_body() -> None:
    height = {name: place[1] for name, place in PLACES.items()}
    for upper, lower in (("eye", "ear"), ("ear", "shoulder"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle")):
        assert height[f"left_{upper}"] > height[f"left_{lower}"]
    assert PLACES["nose"][2] == max(place[2] for name, place in PLACES.items() if "wrist" not in name)
    assert abs(PLACES["nose"][0]) < 1e-3 and PLACES["left_eye"][2] > PLACES["left_ear"][2] + 0.05


def test_joints_lie_inside_their_limbs() -> None:
    """The surface around a joint is about equally far on opposite sides."""
    body = load_body()
    for name in ("left_elbow", "right_wrist", "left_knee", "right_ankle"):
        place = PLACES[name]
        near = body.vertices[np.linalg.norm(body.vertices - place, axis=1) < 0.06] - place
        assert len(near) > 20 and np.linalg.norm(near.mean(axis=0)) < 0.025


def test_a_shoulder_lies_in_it_above_where_the_arm_turns() -> None:
    """With hanging arms, as people mostly have them: COCO's annotators place it some 3 cm higher than the joint."""
    body = load_body()
    shape = body.shape(Traits(gender=1, age=0.5))
    frame = move(body, shape, angles()[None])
    points = body.skin(shape, frame.turns[0], frame.places[0])
    for side, letter in (("left", "L"), ("right", "R")):
        place = COCO.of(points, frame.places[0])[COCO_17.index(f"{side}_shoulder")]
        joint, top = frame.places[0][body.bone(f"upperarm01.{letter}")], points[_above(points, place), 1].max()
        assert 0.015 < place[1] - joint[1] < 0.04 and np.linalg.norm(place[::2] - joint[::2]) < 0.03
        assert 0.02 < top - place[1] < 0.07


def _above(points: Float32, place: Float32) -> NDArray[np.bool_]:
    """The shoulder's own vertices, not the head's."""
    beside: NDArray[np.bool_] = np.linalg.norm((points - place)[:, ::2], axis=1) < 0.02
    return beside & (np.abs(points[:, 1] - place[1]) < 0.1)


def test_what_hair_may_hide_lies_on_the_skin() -> None:
    assert [name for name, on in zip(COCO_17.names, COCO.on_skin, strict=True) if on] == list(COCO_17.names[:5])


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_skeleton_of_ones_own(tmp_path: Path) -> None:
    path = write(tmp_path, """
        name = "feet"
        flip_pairs = [["left_heel", "right_heel"]]
        [points]
        left_heel = { bone = "foot.L", reach = 0.05 }
        right_heel = { bone = "foot.R", reach = 0.05 }
        nose = { vertices = [5134, 5134], reach = 0.02 }
    """)
    mine = read_landmarks(path)
    assert mine.skeleton.names == ("left_heel", "right_heel", "nose")
    assert mine.skeleton.flip_pairs == (("left_heel", "right_heel"),)
    np.testing.assert_allclose(mine.rest[2], PLACES["nose"], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name = 'x'", "no table 'points'"),
        ("[points]\na = 3", "points.a is 3; expected"),
        ("[points]\na = { bone = 'tail', reach = 0.1 }", "there is no bone 'tail'; bones are root,"),
        ("[points]\na = { vertices = [99999], reach = 0.1 }", r"vertices is \[99999\]; expected numbers"),
        ("[points]\na = { vertices = [], reach = 0.1 }", "expected numbers"),
        ("[points]\na = { vertices = [297], reach = 7 }", "reach is 7; expected metres"),
        ("[points]\na = { vertices = [297] }", "expected"),
        ("limbs = [['a', 'b']]\n[points]\na = { vertices = [297], reach = 0.1 }", "limbs names"),
        ("[points", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SkeletonError, match=fault) as caught:
        read_landmarks(write(tmp_path, text))
    assert "mine.toml: " in str(caught.value) and "\n" not in str(caught.value).strip()
    with pytest.raises(SkeletonError, match=r"none\.toml: cannot read"):
        read_landmarks(tmp_path / "none.toml")
