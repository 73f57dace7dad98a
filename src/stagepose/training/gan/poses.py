"""New poses that a body can take: other people's, their limbs mixed, limbs turned; limits learnt from a data set.

A bone is described by the angle from the bone before it (of a chain's first one, from the way to the middle of the
trunk) and by its length over that bone's (of a first one, over the square root of the person's area). Both stay what
they are when a person is moved, turned or scaled. B people, N bones, C chains, K keypoints.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError, DatasetError
from stagepose.geometry import Float, Size
from stagepose.training.gan.limbs import Limbs

Kind = Literal["real", "mixed", "turned"]
KINDS: tuple[Kind, ...] = ("real", "mixed", "turned")

PERCENTILES = (1.0, 99.0)  # of a joint's angles and a bone's lengths in the data: what lies between is possible
STRETCH = 1.35  # at most so much longer or shorter does a limb become: its picture is scaled with it
SHORTEST = 0.12  # of the square root of the area: a bone that points at the camera shows nothing to carry
LEAST_ANGLE = np.deg2rad(15)  # some bone turns by so much, or the pose is not a new one
KEPT, BENT = 0.3, 0.4  # chances of a chain to stay as it is when limbs are mixed, when they are turned
ATTEMPTS = 24  # poses tried for one person
FEWEST = 20  # people that limits are learnt from
MARGIN = 2.0  # pixels between the end of a moved bone, hands and feet too, and the frame


@dataclass(frozen=True)
class Shape:
    """Bones of people without their place: ``angles`` in radians and ``ratios`` of length, both (B, N)."""

    angles: Float
    ratios: Float


@dataclass(frozen=True)
class Limits:
    """What angles and ratios a body can have: angles within ``swing`` (2, N) of ``middle`` (N,), ratios (2, N)."""

    middle: Float
    swing: Float
    ratios: Float

    def broken(self, shape: Shape) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(B, N) whose angle, and whose length, no body has."""
        away = wrapped(shape.angles - self.middle)
        return ((away < self.swing[0]) | (away > self.swing[1]),
                (shape.ratios < self.ratios[0]) | (shape.ratios > self.ratios[1]))


@dataclass(frozen=True, eq=False)
class Poses:
    """All people of a data set as donors of poses. ``weights`` (B,) are chances, larger where a pose is hard."""

    limbs: Limbs
    shape: Shape
    whole: NDArray[np.bool_]  # (B, C) chains that are seen
    limits: Limits
    weights: Float
    given_up: Counter[str] = field(default_factory=Counter)  # poses that were tried and refused, by reason

    def draw(self, keypoints_K3: Float, area: float, size: Size, rng: np.random.Generator) -> NewPose | str:
        """A pose for a person that keeps the trunk and moves whole limbs; or in few words why none was found."""
        whole = self.limbs.whole(keypoints_K3[None])[0]
        own = shape_of(keypoints_K3[None], np.array([area]), self.limbs)
        movable = whole & ~self._short(keypoints_K3, area)
        if not movable.any() or (keypoints_K3[self.limbs.roots, 2] == 0).any():
            return "no limb to move"
        reason = ""
        for _ in range(ATTEMPTS):
            kind = KINDS[rng.integers(len(KINDS))]
            wanted, moved, donors = self._wanted(kind, own, movable, rng)
            keypoints = placed(keypoints_K3, area, wanted, moved, self.limbs)
            reason = self._refused(own, wanted, moved, keypoints, size)
            if not reason:
                return NewPose(kind, keypoints, moved, donors)
            self.given_up[reason] += 1
        return reason

    def _short(self, keypoints_K3: Float, area: float) -> NDArray[np.bool_]:
        """(C,) chains with a bone too short to be carried."""
        ends = keypoints_K3[self.limbs.bones, :2]
        short = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=-1) < SHORTEST * np.sqrt(area)
        return np.array([short[self.limbs.chain_of == chain].any() for chain in range(len(self.limbs.chains))])

    def _wanted(self, kind: Kind, own: Shape, movable: NDArray[np.bool_],
                rng: np.random.Generator) -> tuple[Shape, NDArray[np.bool_], tuple[int, ...]]:
        """-> the shape (1, N), chains that move (C,), and the rows of the people whose limbs these are like."""
        chains = len(self.limbs.chains)
        donors = self._chances.searchsorted(rng.random(chains), side="right")
        if kind == "real":
            donors[:] = donors[0]
            moved = movable & self.whole[donors[0]]
        elif kind == "mixed":
            moved = movable & self.whole[donors, np.arange(chains)] & (rng.random(chains) >= KEPT)
        else:
            moved = movable & (rng.random(chains) >= BENT)
            angles = self._angle_each(rng)
            return _chosen(own, Shape(angles[None], own.ratios), moved, self.limbs), moved, ()
        bones = np.arange(len(self.limbs.bones))
        theirs = donors[self.limbs.chain_of]
        ratios = stretched_ratios(own.ratios, self.shape.ratios[theirs, bones], self.limbs)
        wanted = _chosen(own, Shape(self.shape.angles[theirs, bones][None], ratios), moved, self.limbs)
        return wanted, moved, tuple(np.unique(donors[moved]).tolist())

    def _angle_each(self, rng: np.random.Generator) -> Float:
        """(N,) an angle for each bone by itself, as often as the data set has it."""
        return np.array([rng.choice(of_bone) for of_bone in self._angles])

    @cached_property
    def _chances(self) -> Float:
        """(B,) the weights one upon the other, up to 1."""
        heaped = np.cumsum(self.weights)
        return np.asarray(heaped / heaped[-1])

    @cached_property
    def _angles(self) -> list[Float]:
        """N arrays: the angles that each bone has in the set."""
        seen_BN = self.whole[:, self.limbs.chain_of]
        return [self.shape.angles[seen, bone] for bone, seen in enumerate(seen_BN.T)]

    def _refused(self, own: Shape, wanted: Shape, moved: NDArray[np.bool_], keypoints: Float, size: Size) -> str:
        """Why a pose is no use; "" where it is."""
        bones = moved[self.limbs.chain_of]
        bent, stretched = self.limits.broken(wanted)
        if not (bones & (np.abs(wrapped(wanted.angles - own.angles)) > LEAST_ANGLE)[0]).any():
            return "not a new pose"
        if bent[0, bones].any():
            return "beyond a joint's limits"
        if stretched[0, bones].any():
            return "beyond a bone's limits"
        points = self.limbs.segments(keypoints[None, :, :2])[0, bones, 1]
        if (points < MARGIN).any() or (points > np.array(size) - 1 - MARGIN).any():
            return "outside the frame"
        return ""


@dataclass(frozen=True)
class NewPose:
    """``keypoints`` (K, 3) in the pixels and with the visibility of the person it was made for."""

    kind: Kind
    keypoints: Float
    moved: NDArray[np.bool_]  # (C,) chains
    donors: tuple[int, ...]  # rows of the people whose limbs it follows


def learn_poses(keypoints_BK3: Float, areas_B: Float, limbs: Limbs, weights: Float | None = None) -> Poses:
    """Limits from everyone whose limbs are seen; ``weights`` (B,) prefer some as donors.

    :class:`DatasetError` where too few people are left to learn from.
    """
    shape, whole = shape_of(keypoints_BK3, areas_B, limbs), limbs.whole(keypoints_BK3)
    whole &= (keypoints_BK3[:, limbs.roots, 2] > 0).all(1, keepdims=True) & (areas_B > 0)[:, None]
    counts = whole.sum(0)
    if counts.min() < FEWEST:
        chain = limbs.chains[int(counts.argmin())]
        names = "-".join(limbs.skeleton.names[joint] for joint in chain)
        raise DatasetError(f"no poses to learn from: only {counts.min()} people show {names} with the whole trunk, "
                           f"{FEWEST} are needed; give a larger set, or one with more of the body labelled")
    limits = _limits(shape, whole[:, limbs.chain_of])
    weights = np.ones(len(areas_B)) if weights is None else np.asarray(weights, dtype=np.float64)
    weights = np.where(whole.any(1), weights, 0)
    if not weights.sum() > 0:
        raise ConfigError("nobody of those preferred shows a whole limb; prefer others, or nobody")
    return Poses(limbs, shape, whole, limits, weights / weights.sum())


def _limits(shape: Shape, seen_BN: NDArray[np.bool_]) -> Limits:
    bones = range(seen_BN.shape[1])
    angles = [shape.angles[seen_BN[:, bone], bone] for bone in bones]
    middle = np.array([np.angle(np.exp(1j * of_bone).mean()) for of_bone in angles])
    swing = [np.percentile(wrapped(of_bone - mid), PERCENTILES) for of_bone, mid in zip(angles, middle, strict=True)]
    ratios = [np.percentile(shape.ratios[seen_BN[:, bone], bone], PERCENTILES) for bone in bones]
    return Limits(middle, np.array(swing).T, np.array(ratios).T)


def shape_of(keypoints_BK3: Float, areas_B: Float, limbs: Limbs) -> Shape:
    """The bones' angles and ratios; without meaning for chains that are not labelled."""
    directions, lengths = _directions(keypoints_BK3[..., :2], limbs)
    before, scales = _before(directions, lengths, _inward(keypoints_BK3[..., :2], limbs), np.sqrt(areas_B), limbs)
    return Shape(wrapped(directions - before), lengths / np.maximum(scales, 1e-6))


def placed(keypoints_K3: Float, area: float, wanted: Shape, moved: NDArray[np.bool_], limbs: Limbs) -> Float:
    """Keypoints of a person whose chains ``moved`` (C,) take the shape ``wanted``: the inverse of :func:`shape_of`."""
    out = keypoints_K3.astype(np.float64, copy=True)
    inward = _inward(keypoints_K3[None, :, :2], limbs)[0]
    for bone, ((start, end), chain, first) in enumerate(zip(limbs.bones, limbs.chain_of, limbs.firsts, strict=True)):
        if not moved[chain]:
            continue
        if first:
            direction, length = inward[chain], np.sqrt(area)
        direction = direction + wanted.angles[0, bone]
        length = length * wanted.ratios[0, bone]
        out[end, :2] = out[start, :2] + length * np.array([np.cos(direction), np.sin(direction)])
    return out


def stretched_ratios(own: Float, wanted: Float, limbs: Limbs) -> Float:
    """Ratios (..., N) like those wanted, of bones that become STRETCH times longer or shorter at most.

    A ratio is to the bone before, so that what a bone grows by, all that follow it would grow by as well.
    """
    out, grown = np.empty_like(own), np.ones(own.shape[:-1])
    for bone, first in enumerate(limbs.firsts):
        before = np.ones_like(grown) if first else grown
        grown = np.clip(before * wanted[..., bone] / np.maximum(own[..., bone], 1e-6), 1 / STRETCH, STRETCH)
        out[..., bone] = own[..., bone] * grown / before
    return out


def _chosen(own: Shape, other: Shape, moved: NDArray[np.bool_], limbs: Limbs) -> Shape:
    """``other`` where a chain moves, else ``own``."""
    bones = moved[limbs.chain_of]
    return Shape(np.where(bones, wrapped(other.angles), own.angles), np.where(bones, other.ratios, own.ratios))


def _directions(points_BK2: Float, limbs: Limbs) -> tuple[Float, Float]:
    """(B, N) angle of each bone in the picture, and its length."""
    along = points_BK2[:, limbs.bones[:, 1]] - points_BK2[:, limbs.bones[:, 0]]
    return np.arctan2(along[..., 1], along[..., 0]), np.linalg.norm(along, axis=-1)


def _inward(points_BK2: Float, limbs: Limbs) -> Float:
    """(B, C) the direction from each chain's root to the middle of all roots; down where they are one."""
    roots = points_BK2[:, limbs.roots]
    inward = roots.mean(1, keepdims=True) - roots
    down = np.linalg.norm(inward, axis=-1) < 1e-3
    return np.where(down, np.pi / 2, np.arctan2(inward[..., 1], inward[..., 0]))


def _before(directions: Float, lengths: Float, inward: Float, scale_B: Float, limbs: Limbs) -> tuple[Float, Float]:
    """(B, N) direction and length that each bone is measured by."""
    before = np.where(limbs.firsts, inward[:, limbs.chain_of], np.roll(directions, 1, axis=1))
    return before, np.where(limbs.firsts, scale_B[:, None], np.roll(lengths, 1, axis=1))


def wrapped(angles: Float) -> Float:
    """The same angles in [-pi, pi)."""
    return np.asarray((angles + np.pi) % (2 * np.pi) - np.pi)
