"""Joint angles: which there are, how far each goes, and where they take the bones.

A pose is a vector of angles in degrees; all zero is a person upright with arms hanging and feet together. Angles of
the right side mirror those of the left. P poses, A angles, B bones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stagepose.aliases import Float, Float32
from stagepose.errors import ConfigError
from stagepose.rendering.body import Body, Shape

# Ranges of healthy adults, rounded (American Academy of Orthopaedic Surgeons), a little less where linear skinning
# folds the mesh. The spine's are of all its joints together.
TRUNK = {
    "spine_bend": (-25, 75), "spine_side": (-30, 30), "spine_twist": (-40, 40),
    "neck_bend": (-45, 45), "neck_side": (-35, 35), "neck_twist": (-70, 70),
}  # fmt: skip
SIDE = {
    "shoulder_flex": (-50, 170), "shoulder_abduct": (-35, 170), "shoulder_twist": (-70, 80),
    "elbow": (0, 145), "forearm_twist": (-80, 80), "wrist": (-60, 60), "fingers": (0, 80),
    "hip_flex": (-25, 120), "hip_abduct": (-25, 55), "hip_twist": (-40, 40), "knee": (0, 145), "ankle": (-25, 45),
}  # fmt: skip
LIMITS: dict[str, tuple[int, int]] = TRUNK | {f"{side}_{name}": range_ for side in ("left", "right")
                                             for name, range_ in SIDE.items()}
ANGLES = tuple(LIMITS)
LOWEST = np.array([low for low, _ in LIMITS.values()], dtype=np.float64)
HIGHEST = np.array([high for _, high in LIMITS.values()], dtype=np.float64)

# What turns each bone: (angle, axis, share of it), outermost first. A twist is spread over both halves of a limb.
Turn = tuple[str, str, float]
_SPINE = tuple((f"spine_{way}", axis, 0.2) for way, axis in (("bend", "x"), ("side", "z"), ("twist", "y")))
_NECK = tuple((f"neck_{way}", axis, 0.25) for way, axis in (("bend", "x"), ("side", "z"), ("twist", "y")))
_LIMBS: dict[str, tuple[Turn, ...]] = {
    "upperarm01": (("shoulder_flex", "x", -1), ("shoulder_abduct", "z", 1), ("shoulder_twist", "y", 0.5)),
    "upperarm02": (("shoulder_twist", "y", 0.5),),
    "lowerarm01": (("elbow", "x", -1), ("forearm_twist", "y", 0.4)),
    "lowerarm02": (("forearm_twist", "y", 0.6),),
    "wrist": (("wrist", "z", -1),),
    "upperleg01": (("hip_flex", "x", -1), ("hip_abduct", "z", 1), ("hip_twist", "y", 0.5)),
    "upperleg02": (("hip_twist", "y", 0.5),),
    "lowerleg01": (("knee", "x", 1),),
    "foot": (("ankle", "x", 1),),
}
RHYTHM = 0.25  # of an arm's rise is the shoulder blade's, a little less than anatomy's third
RISES_FROM = 50.0  # degrees of elevation at which the shoulder blade begins to follow
FORWARD = np.array([0.0, 0.0, 1.0])


def angles(**degrees: float) -> Float:
    """A pose (A,) from angles by name, the others 0. :class:`ConfigError` where the body does not go so far."""
    pose = np.zeros(len(ANGLES))
    for name, value in degrees.items():
        if name not in LIMITS:
            raise ConfigError(f"pose: no angle {name!r}; there are {', '.join(ANGLES)}")
        low, high = LIMITS[name]
        if not low <= value <= high:
            raise ConfigError(f"pose: {name} is {value:g} degrees; a body goes from {low} to {high}")
        pose[ANGLES.index(name)] = value
    return pose


@dataclass(frozen=True, eq=False)
class Frame:
    """Bones of P poses: ``turns`` (P, B, 3, 3) from rest, ``places`` (P, B, 3) of their heads, the root's at rest."""

    turns: Float32
    places: Float32


def move(body: Body, shape: Shape, angles_PA: Float) -> Frame:
    """Where the bones are in each pose, before the whole person is turned and put somewhere."""
    degrees = {name: angles_PA[:, i] for i, name in enumerate(ANGLES)}
    count = len(angles_PA)
    rest = _neutral(body, shape)
    turned = np.empty((count, len(body.bones), 3, 3))
    places = np.empty((count, len(body.bones), 3))
    for bone, parent in enumerate(body.parents):
        local = _local(body.bones[bone], degrees, count, rest.hinges)
        if parent < 0:
            turned[:, bone], places[:, bone] = local, shape.heads[bone]
            continue
        turned[:, bone] = turned[:, parent] @ local
        offset = rest.turns[parent] @ (shape.heads[bone] - shape.heads[parent])
        places[:, bone] = places[:, parent] + turned[:, parent] @ offset
    return Frame((turned @ rest.turns).astype(np.float32), places.astype(np.float32))


@dataclass(frozen=True)
class _Rest:
    """Turns (B, 3, 3) from MakeHuman's rest to ours, and the axes (in ours) about which fingers curl."""

    turns: Float
    hinges: Mapping[str, Float]


def _neutral(body: Body, shape: Shape) -> _Rest:
    """Arms and legs straight down; everything else stays as it rests."""
    turns = np.tile(np.eye(3), (len(body.bones), 1, 1))
    down = np.array([0.0, -1.0, 0.0])

    def way(first: str, last: str) -> Float:
        line: Float = (shape.heads[body.bone(last)] - shape.heads[body.bone(first)]).astype(np.float64)
        return line / np.linalg.norm(line)

    for side in "LR":
        arm, fore = way(f"upperarm01.{side}", f"lowerarm01.{side}"), way(f"lowerarm01.{side}", f"wrist.{side}")
        swing = _between(arm, down)
        hinge = swing @ np.cross(fore, arm)  # the elbow's axis: it becomes the x axis
        upper = turn_about(np.array([0.0, 1, 0]), np.arctan2(hinge[2], hinge[0])) @ swing
        turns[[body.bone(f"upperarm0{i}.{side}") for i in (1, 2)]] = upper
        lower = _between(upper @ fore, down) @ upper
        for name in ("lowerarm01", "lowerarm02", "wrist", *_fingers()):
            turns[body.bone(f"{name}.{side}")] = lower
        thigh, shank = way(f"upperleg01.{side}", f"lowerleg01.{side}"), way(f"lowerleg01.{side}", f"foot.{side}")
        turns[[body.bone(f"upperleg0{i}.{side}") for i in (1, 2)]] = _between(thigh, down)
        turns[[body.bone(f"lowerleg0{i}.{side}") for i in (1, 2)]] = _between(shank, down)
    hinges = {}
    for side in "LR":
        across = turns[body.bone(f"wrist.{side}")] @ way(f"finger5-1.{side}", f"finger2-1.{side}")
        hinges[side] = across
    return _Rest(turns, hinges)


def _fingers() -> list[str]:
    return [f"finger{finger}-{joint}" for finger in range(1, 6) for joint in range(1, 4)]


def _local(bone: str, degrees: Mapping[str, Float], count: int,
           hinges: Mapping[str, Float]) -> Float:
    """(P, 3, 3) turn of a bone in the one that carries it."""
    stem, _, side = bone.partition(".")
    if stem.startswith("spine"):
        return _turns(_SPINE, degrees, 1)
    if stem.startswith("neck") or stem == "head":
        return _turns(_NECK, degrees, 1)
    word, sign = ("left", 1.0) if side == "L" else ("right", -1.0)
    rise = np.radians(sign * RHYTHM * np.maximum(_elevation(degrees, word) - RISES_FROM, 0))
    if stem in ("clavicle", "shoulder01"):
        return turn_about(FORWARD, rise / 2)
    if stem in _LIMBS:
        turn = _turns(tuple((f"{word}_{name}", axis, share) for name, axis, share in _LIMBS[stem]), degrees, sign)
        return turn_about(FORWARD, -rise) @ turn if stem == "upperarm01" else turn  # its angles are against the trunk
    if stem.startswith("finger"):
        share = 0.35 if stem.startswith("finger1") else 1.0  # a thumb curls less
        return turn_about(hinges[side], np.radians(-sign * share * degrees[f"{word}_fingers"]))
    return np.broadcast_to(np.eye(3), (count, 3, 3))


def _elevation(degrees: Mapping[str, Float], side: str) -> Float:
    """Degrees between an upper arm and hanging."""
    flex, abduct = np.radians(degrees[f"{side}_shoulder_flex"]), np.radians(degrees[f"{side}_shoulder_abduct"])
    return np.asarray(np.degrees(np.arccos(np.clip(np.cos(flex) * np.cos(abduct), -1, 1))))


def _turns(turns: tuple[Turn, ...], degrees: Mapping[str, Float], sign: float) -> Float:
    axes = {"x": np.array([1.0, 0, 0]), "y": np.array([0, sign, 0]), "z": np.array([0, 0, sign])}
    result = turn_about(axes[turns[0][1]], np.radians(turns[0][2] * degrees[turns[0][0]]))
    for angle, axis, share in turns[1:]:
        result = result @ turn_about(axes[axis], np.radians(share * degrees[angle]))
    return result


def turn_about(axis_3: Float, radians: Float | float) -> Float:
    """Turns (..., 3, 3) about an axis, counterclockwise as seen against it (Rodrigues)."""
    x, y, z = axis_3 / np.linalg.norm(axis_3)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.asarray(radians)[..., None, None]
    turned: Float = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return turned


def _between(start_3: Float, end_3: Float) -> Float:
    """The shortest turn that takes one direction to another."""
    axis = np.cross(start_3, end_3)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return turn_about(axis, np.arctan2(np.linalg.norm(axis), start_3 @ end_3))
