"""The body and its poses: shapes follow traits, joints go where angles say, left mirrors right."""

from __future__ import annotations

import numpy as np
import pytest

from stagepose.errors import ConfigError
from stagepose.rendering.body import BODY, Traits, load_body
from stagepose.rendering.families import FAMILIES, Stance, draw_stance
from stagepose.rendering.pose import ANGLES, HIGHEST, LOWEST, angles, move

BODY_MODEL = load_body()
MIDDLE = BODY_MODEL.shape(Traits())


def tall(traits: Traits) -> float:
    shape = BODY_MODEL.shape(traits)
    return float(np.ptp(shape.vertices[BODY_MODEL.faces[BODY_MODEL.parts == BODY], 1]))


def heads(**degrees: float) -> dict[str, np.ndarray]:
    frame = move(BODY_MODEL, MIDDLE, angles(**degrees)[None])
    return dict(zip(BODY_MODEL.bones, frame.places[0], strict=True))


def test_people_are_as_tall_as_people() -> None:
    assert 1.6 < tall(Traits(gender=1)) < 1.9
    assert tall(Traits(gender=0)) < tall(Traits(gender=1)) < tall(Traits(gender=1, height=1))
    assert 0.5 < tall(Traits(age=0)) < tall(Traits(age=0.1875)) < tall(Traits(age=0.5))


@pytest.mark.parametrize(("field", "value"), [("age", -0.1), ("weight", 1.5), ("gender", float("nan"))])
def test_a_trait_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field} is {value}; expected 0 to 1"):
        Traits(**{field: value})


def test_at_rest_the_skin_stays_where_it_is() -> None:
    turns = np.tile(np.eye(3, dtype=np.float32), (len(BODY_MODEL.bones), 1, 1))
    np.testing.assert_allclose(BODY_MODEL.skin(MIDDLE, turns, MIDDLE.heads), MIDDLE.vertices, atol=1e-5)


def test_zero_is_upright_with_arms_and_legs_straight_down() -> None:
    joints = heads()
    for chain in (("upperarm01", "lowerarm01", "wrist"), ("upperleg01", "lowerleg01", "foot")):
        for side in "LR":
            points = np.stack([joints[f"{bone}.{side}"] for bone in chain])
            np.testing.assert_allclose(np.diff(points, axis=0)[:, [0, 2]], 0, atol=1e-4)
            assert (np.diff(points[:, 1]) < 0).all()


@pytest.mark.parametrize(
    ("degrees", "bone", "axis", "sign"),
    [
        ({"left_shoulder_flex": 90}, "wrist.L", 2, 1),  # to the front
        ({"right_shoulder_abduct": 80}, "wrist.R", 0, -1),  # out to the right
        ({"left_elbow": 90}, "wrist.L", 2, 1),
        ({"right_hip_flex": 90}, "foot.R", 2, 1),
        ({"left_hip_abduct": 40}, "foot.L", 0, 1),
        ({"left_knee": 90}, "foot.L", 2, -1),
        ({"spine_bend": 60}, "head", 2, 1),
    ],
)
def test_angles_move_joints_the_way_their_names_say(degrees: dict[str, float], bone: str, axis: int, sign: int) -> None:
    assert sign * (heads(**degrees)[bone] - heads()[bone])[axis] > 0.15


def test_a_mirrored_pose_has_mirrored_joints() -> None:
    rng = np.random.default_rng(3)
    pose = dict(zip(ANGLES, rng.uniform(LOWEST, HIGHEST) * 0.5, strict=True))
    swap = {"left": "right", "right": "left"}
    mirrored = {}
    for name, value in pose.items():
        side, _, rest = name.partition("_")
        other = f"{swap[side]}_{rest}" if side in swap else name
        mirrored[other] = -value if name.endswith(("_side", "spine_twist", "neck_twist")) else value
    joints, others = heads(**pose), heads(**mirrored)
    for bone, place in joints.items():
        stem, _, side = bone.partition(".")
        other = f"{stem}.{'R' if side == 'L' else 'L'}" if side else bone
        np.testing.assert_allclose(others[other], place * [-1, 1, 1], atol=2e-3)


def test_an_impossible_angle_is_refused_with_the_range() -> None:
    with pytest.raises(ConfigError, match="left_knee is 190 degrees; a body goes from 0 to 145"):
        angles(left_knee=190)
    with pytest.raises(ConfigError, match="no angle 'left_tail'; there are spine_bend"):
        angles(left_tail=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_stay_within_the_limits(family: str) -> None:
    rng = np.random.default_rng(0)
    poses = np.stack([FAMILIES[family][0](rng).angles for _ in range(50)])
    assert (poses >= LOWEST).all() and (poses <= HIGHEST).all()
    assert np.ptp(poses, axis=0).max() > 5


def test_all_families_are_drawn() -> None:
    rng = np.random.default_rng(0)
    stances = [draw_stance(rng) for _ in range(300)]
    assert any(stance.seat for stance in stances) and any(stance.lift > 0.2 for stance in stances)
    assert isinstance(stances[0], Stance)
