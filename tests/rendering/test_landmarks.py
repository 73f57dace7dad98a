"""Keypoints on the body: COCO's where they belong, one's own from a file, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stagepose.errors import SkeletonError
from stagepose.rendering.body import load_body
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
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
