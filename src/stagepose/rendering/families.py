"""What people do: random poses by family, all within :data:`stagepose.rendering.pose.LIMITS`.

A family is a few joints with a reason to be where they are, and the others loose. Degrees; angles as in ``pose.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Rng
from stagepose.rendering.pose import ANGLES, HIGHEST, LOWEST

Angles = dict[str, float]
SIDES = ("left", "right")


@dataclass(frozen=True, eq=False)
class Stance:
    """A pose (A,), how the whole person is tilted, and what carries it.

    ``lean`` is degrees forward, ``roll`` to the person's left; ``lift`` metres above the ground; ``seat`` whether
    something is to sit on. ``facing`` (3, 3): a fitted pose knows how it is turned towards the camera (x right, y up,
    z to the camera), and neither leans nor rolls besides.
    """

    angles: NDArray[np.float64]
    lean: float = 0.0
    roll: float = 0.0
    lift: float = 0.0
    seat: bool = False
    facing: NDArray[np.float64] | None = None


def draw_stance(rng: Rng) -> Stance:
    """A random person's pose: a family by weight, then its angles, then a little of everyone's own."""
    names = list(FAMILIES)
    weights = np.array([FAMILIES[name][1] for name in names])
    family = FAMILIES[names[rng.choice(len(names), p=weights / weights.sum())]][0]
    return family(rng)


@cache
def relaxed() -> NDArray[np.float64]:
    """(A,) degrees: what joints do that nothing asks for, without its chance."""
    rng = np.random.default_rng(0)
    return np.asarray(np.mean([_pose(_loose(rng)) for _ in range(50)], axis=0))


def _loose(rng: Rng) -> Angles:
    """Where joints are that nothing asks for: near standing, arms near the body."""
    pose = {
        "spine_bend": rng.normal(3, 5), "spine_side": rng.normal(0, 4), "spine_twist": rng.normal(0, 7),
        "neck_bend": rng.normal(5, 12), "neck_side": rng.normal(0, 7), "neck_twist": rng.normal(0, 22),
    }  # fmt: skip
    for side in SIDES:
        pose |= {
            f"{side}_shoulder_flex": rng.normal(0, 12), f"{side}_shoulder_abduct": rng.normal(13, 6),
            f"{side}_shoulder_twist": rng.normal(0, 15), f"{side}_elbow": abs(rng.normal(15, 15)),
            f"{side}_forearm_twist": rng.normal(10, 20), f"{side}_wrist": rng.normal(0, 12),
            f"{side}_fingers": rng.uniform(5, 60),
            f"{side}_hip_flex": rng.normal(2, 4), f"{side}_hip_abduct": rng.normal(4, 3),
            f"{side}_hip_twist": rng.normal(5, 7), f"{side}_knee": abs(rng.normal(3, 5)), f"{side}_ankle": 0.0,
        }  # fmt: skip
    return pose


def _pose(*parts: Angles) -> NDArray[np.float64]:
    """Later parts over earlier ones, held within the limits."""
    together: Angles = {}
    for part in parts:
        together |= part
    return np.clip([together.get(name, 0.0) for name in ANGLES], LOWEST, HIGHEST)


def _arms(rng: Rng) -> Angles:
    """Each arm by itself does something: hangs, hand on the hip, before the body, up, out, at the head."""
    arms: Angles = {}
    for side in SIDES:
        flex, abduct, twist, elbow = _ARM_USES[rng.choice(len(_ARM_USES), p=_ARM_WEIGHTS)]
        arms |= {
            f"{side}_shoulder_flex": rng.normal(flex, 15), f"{side}_shoulder_abduct": rng.normal(abduct, 10),
            f"{side}_shoulder_twist": rng.normal(twist, 15), f"{side}_elbow": rng.normal(elbow, 18),
        }  # fmt: skip
    return arms


# flexion, abduction, inward twist (negative: inward), elbow
_ARM_USES = ((0, 13, 0, 15), (-25, 45, -45, 95), (45, 8, -30, 85), (85, 15, 0, 20), (10, 85, 0, 20),
             (150, 25, 0, 25), (70, 40, 20, 130), (60, 10, -50, 110))  # fmt: skip
_ARM_WEIGHTS = np.array([0.34, 0.1, 0.16, 0.1, 0.07, 0.09, 0.07, 0.07])


def standing(rng: Rng) -> Stance:
    """Weight on both feet or on one."""
    side = SIDES[rng.integers(2)]
    bent = abs(rng.normal(0, 14))
    legs = {f"{side}_hip_flex": bent * 0.8, f"{side}_knee": bent * 1.5, f"{side}_hip_abduct": rng.normal(8, 6)}
    return Stance(_pose(_loose(rng), _arms(rng), legs), lean=rng.normal(0, 2), roll=rng.normal(0, 2))


def walking(rng: Rng) -> Stance:
    """A stride: legs apart, arms against them; faster is wider, with elbows bent."""
    speed = rng.uniform(0.3, 1.0)
    running = speed > 0.65
    front, back = SIDES if rng.integers(2) else SIDES[::-1]
    swing, bend = rng.uniform(0.5, 1) * speed * 55, rng.uniform(0.2, 1) * speed
    elbow = rng.normal(95, 12) if running else rng.normal(25, 12)
    pose = {
        f"{front}_hip_flex": swing + 10 * running, f"{back}_hip_flex": -0.45 * swing,
        f"{front}_knee": 15 + 65 * bend * running, f"{back}_knee": 12 + 95 * bend,
        f"{back}_ankle": rng.uniform(0, 40) * speed, f"{front}_ankle": rng.uniform(-20, 10),
        f"{back}_shoulder_flex": 0.9 * swing, f"{front}_shoulder_flex": -0.8 * swing,
        "left_elbow": elbow, "right_elbow": elbow + rng.normal(0, 8), "spine_twist": rng.normal(0, 8),
    }  # fmt: skip
    return Stance(_pose(_loose(rng), pose), lean=rng.normal(4 + 8 * speed, 4), lift=0.06 * running)


def sitting(rng: Rng) -> Stance:
    """On something: a chair, a box; hands on the knees, at a table, or anywhere."""
    low = rng.uniform(0, 1)
    pose: Angles = {"spine_bend": rng.normal(14, 14)}
    for side in SIDES:
        hip = rng.normal(82 + 14 * low, 8)
        pose |= {
            f"{side}_hip_flex": hip, f"{side}_knee": rng.normal(hip - 10 * low + 2, 16),
            f"{side}_hip_abduct": rng.normal(10, 10), f"{side}_hip_twist": rng.normal(0, 15),
            f"{side}_shoulder_flex": rng.normal(35, 15), f"{side}_elbow": rng.normal(55, 25),
            f"{side}_shoulder_twist": rng.normal(-15, 20),
        }  # fmt: skip
    if rng.random() < 0.15:  # one leg over the other
        top = SIDES[rng.integers(2)]
        pose |= {f"{top}_hip_abduct": -20, f"{top}_hip_flex": pose[f"{top}_hip_flex"] + 12}
    arms = _arms(rng) if rng.random() < 0.4 else {}
    return Stance(_pose(_loose(rng), pose, arms), lean=rng.normal(-3, 8), seat=True)


def crouching(rng: Rng) -> Stance:
    """Knees bent, down to a squat or on one knee."""
    deep = rng.uniform(0.3, 1)
    pose: Angles = {"spine_bend": rng.normal(20, 12), "neck_bend": rng.normal(-8, 12)}
    for side in SIDES:
        pose |= {
            f"{side}_hip_flex": deep * rng.normal(112, 8), f"{side}_knee": deep * rng.normal(128, 10),
            f"{side}_hip_abduct": rng.normal(18, 8), f"{side}_ankle": -22 * deep,
            f"{side}_shoulder_flex": rng.normal(50, 20), f"{side}_elbow": rng.normal(50, 30),
        }  # fmt: skip
    if rng.random() < 0.4:
        knee = SIDES[rng.integers(2)]
        pose |= {f"{knee}_hip_flex": rng.normal(10, 8), f"{knee}_knee": rng.normal(100, 10), f"{knee}_ankle": 40.0}
    return Stance(_pose(_loose(rng), pose, _arms(rng) if rng.random() < 0.3 else {}), lean=rng.normal(12, 8) * deep)


def reaching(rng: Rng) -> Stance:
    """One hand, or both, to something above, before, beside or on the ground."""
    flex, abduct, bend = [(150, 12, -3), (90, 5, 12), (15, 85, 0), (70, 8, 60)][rng.integers(4)]
    hands = SIDES if rng.random() < 0.35 else (SIDES[rng.integers(2)],)
    pose: Angles = {"spine_bend": rng.normal(bend, 8), "spine_side": rng.normal(0, 12)}
    for side in hands:
        pose |= {
            f"{side}_shoulder_flex": rng.normal(flex, 14), f"{side}_shoulder_abduct": rng.normal(abduct, 12),
            f"{side}_elbow": abs(rng.normal(15, 18)), f"{side}_fingers": rng.uniform(0, 40),
        }  # fmt: skip
    if bend > 30:
        for side in SIDES:
            pose |= {f"{side}_hip_flex": rng.normal(45, 15), f"{side}_knee": abs(rng.normal(25, 25))}
    return Stance(_pose(_loose(rng), pose), lean=rng.normal(10, 8) if bend > 30 else rng.normal(0, 4))


def jumping(rng: Rng) -> Stance:
    """In the air: arms up or out, legs tucked, split or straight."""
    tuck, split = rng.uniform(0, 1), rng.normal(0, 1)
    pose: Angles = {"spine_bend": rng.normal(0, 12), "neck_bend": rng.normal(-8, 12)}
    for side, sign in zip(SIDES, (1, -1), strict=True):
        pose |= {
            f"{side}_hip_flex": 70 * tuck + sign * 28 * split, f"{side}_knee": rng.normal(95 * tuck, 25),
            f"{side}_hip_abduct": rng.normal(14, 12), f"{side}_ankle": rng.uniform(5, 45),
            f"{side}_shoulder_flex": rng.normal(75, 50), f"{side}_shoulder_abduct": rng.normal(60, 40),
            f"{side}_elbow": abs(rng.normal(35, 30)),
        }  # fmt: skip
    return Stance(_pose(_loose(rng), pose), lean=rng.normal(0, 15), roll=rng.normal(0, 10), lift=rng.uniform(0.1, 0.7))


def sport(rng: Rng) -> Stance:
    """A kick, a throw, a swing: wide steps, a turned trunk, arms anywhere."""
    leg, other = SIDES if rng.integers(2) else SIDES[::-1]
    pose = {
        "spine_twist": rng.normal(0, 22), "spine_side": rng.normal(0, 12), "spine_bend": rng.normal(15, 15),
        f"{leg}_hip_flex": rng.normal(40, 30), f"{leg}_hip_abduct": rng.normal(22, 14),
        f"{leg}_knee": rng.normal(40, 30),
        f"{other}_hip_flex": rng.normal(5, 15), f"{other}_hip_abduct": rng.normal(15, 12),
        f"{other}_knee": abs(rng.normal(20, 18)),
    }  # fmt: skip
    for side in SIDES:
        pose |= {
            f"{side}_shoulder_flex": rng.normal(50, 55), f"{side}_shoulder_abduct": rng.normal(45, 35),
            f"{side}_shoulder_twist": rng.normal(0, 35), f"{side}_elbow": abs(rng.normal(50, 40)),
        }  # fmt: skip
    return Stance(_pose(_loose(rng), pose), lean=rng.normal(8, 12), roll=rng.normal(0, 8),
                  lift=max(0, rng.normal(-0.1, 0.15)))


def lying(rng: Rng) -> Stance:
    """On the back, the front or a side."""
    lean = (-88.0, 88.0)[rng.integers(2)]
    pose = {f"{side}_{joint}": abs(rng.normal(0, 35)) for side in SIDES for joint in ("hip_flex", "knee")}
    return Stance(_pose(_loose(rng), _arms(rng), pose), lean=lean, roll=rng.normal(0, 25))


def anything(rng: Rng) -> Stance:
    """Every joint anywhere in the inner part of its range, the body turned anyhow: for what nobody thought of."""
    middle, half = (LOWEST + HIGHEST) / 2, (HIGHEST - LOWEST) / 2
    loose = _pose(_loose(rng))
    wild = np.clip(middle + half * rng.normal(0, 0.4, len(ANGLES)), LOWEST, HIGHEST)
    share = rng.uniform(0.3, 0.8)
    return Stance(loose + share * (wild - loose), lean=rng.normal(0, 45), roll=rng.normal(0, 30),
                  lift=max(0, rng.normal(-0.1, 0.3)))


FAMILIES: dict[str, tuple[Callable[[Rng], Stance], float]] = {
    "standing": (standing, 0.24), "walking": (walking, 0.2), "sitting": (sitting, 0.16), "crouching": (crouching, 0.08),
    "reaching": (reaching, 0.11), "jumping": (jumping, 0.07), "sport": (sport, 0.08), "lying": (lying, 0.02),
    "anything": (anything, 0.04),
}  # fmt: skip
