"""A pose that looks like a real person's keypoints: joint angles and a view fitted to points in a picture.

Depth is not in the points, so the result is one likely pose among several: near the families' poses, within the
limits, and seen from the camera it falls on the keypoints. P poses, A angles, K keypoints, B bones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.coco import CocoDataset
from stagepose.errors import DatasetError
from stagepose.rendering.body import Body, Shape, Traits, load_body
from stagepose.rendering.families import Stance, draw_stance, relaxed
from stagepose.rendering.figures import turned
from stagepose.rendering.landmarks import Landmarks
from stagepose.rendering.pose import HIGHEST, LOWEST, move, turn_about

LEAST_LABELLED = 8  # keypoints of a person whose pose is worth taking
BANK = 400  # poses from which a fit starts: the nearest of them
STARTS = 2
STEPS = 10
DAMPING = 1e-2  # of Levenberg and Marquardt, relative to the diagonal
NUDGE = 1e-2  # radians, for numerical slopes
POINT_ERROR = 0.03  # of the body's height: how exactly people label
LOOSENESS = np.radians(40)  # by which a joint leaves relaxed standing unless the points ask for more
FREE_VIEW = 3  # parameters of the view behind the angles


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose, and how far its keypoints are from those asked for: the mean distance, as a share of body height."""

    stance: Stance
    error: float


@dataclass(frozen=True, eq=False)
class Target:
    """Keypoints to match: ``points`` (N, 2) with y up, and the landmarks (N,) that they are."""

    points: Float
    which: NDArray[np.int64]


def targets(dataset: CocoDataset, landmarks: Landmarks) -> list[Target]:
    """The people of a file with enough labelled keypoints of names that the body has too, in the file's order."""
    pairs = [(k, landmarks.skeleton.names.index(name)) for k, name in enumerate(dataset.skeleton.names)
             if name in landmarks.skeleton.names]
    theirs, ours = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = []
    for keypoints_K3 in dataset.keypoints[:, theirs]:
        labelled = keypoints_K3[:, 2] > 0
        if labelled.sum() >= LEAST_LABELLED:
            found.append(Target(keypoints_K3[labelled, :2] * [1, -1], ours[labelled]))
    if not found:
        raise DatasetError(f"{dataset.shown}: no person has {LEAST_LABELLED} labelled keypoints that the body has too; "
                           "--poses needs such people")
    return found


def fit(target: Target, landmarks: Landmarks) -> Fit:
    """The best of a few starts. The same target gives the same pose."""
    model = _Model(landmarks)
    angles_PA, views_P33, seen_PK2 = _bank(landmarks)
    _, errors = _aligned(seen_PK2[:, target.which], target.points)
    best = [_refine(model, target, angles_PA[i], views_P33[i]) for i in np.argsort(errors, kind="stable")[:STARTS]]
    return min(best, key=lambda found: found.error)


class _Model:
    """The middle body's keypoints under given angles and view."""

    def __init__(self, landmarks: Landmarks) -> None:
        self.body = load_body()
        self.shape: Shape = self.body.shape(Traits())
        self.height = float(np.ptp(self.shape.vertices[:, 1]))
        self._carried = _carried(landmarks, self.body, self.shape)

    def points(self, angles_PA: Float, views_P33: Float) -> Float:
        """(P, K, 2) metres to the right and up, as seen from far away."""
        frame, by = move(self.body, self.shape, angles_PA), self._carried
        parts_PM3 = (by.weights[:, None] * frame.places[:, by.bones]
                     + np.einsum("pmij,mj->pmi", frame.turns[:, by.bones], by.offsets))
        there = np.add.reduceat(parts_PM3, by.firsts, axis=1)
        seen: Float = np.einsum("pij,pkj->pki", views_P33, there)[:, :, :2]
        return seen


@dataclass(frozen=True, eq=False)
class _Carried:
    """By which bones (M,) keypoints are carried, one keypoint's after the other's, each from ``firsts`` (K,) on.

    Skinning is linear, so the mean of some vertices is a sum over the bones that move any of them: ``weights`` (M,) of
    where a bone's head is, and of ``offsets`` (M, 3) that turn with it.
    """

    bones: NDArray[np.int64]
    weights: Float
    offsets: Float
    firsts: NDArray[np.int64]


def _carried(landmarks: Landmarks, body: Body, shape: Shape) -> _Carried:
    parts = [[(head, 1.0, np.zeros(3))] if head >= 0 else _shares(list(vertices), body, shape)
             for head, vertices in zip(landmarks.bones, landmarks.vertices, strict=True)]
    bones, weights, offsets = zip(*chain.from_iterable(parts), strict=True)
    firsts = np.cumsum([0, *map(len, parts[:-1])])
    return _Carried(np.array(bones), np.array(weights), np.array(offsets), firsts)


def _shares(vertices: list[int], body: Body, shape: Shape) -> list[tuple[int, float, Float]]:
    """Of each bone that moves any of them: its number, its share of their mean, and that share's place beside it."""
    influence_V4, share_V4 = body.influence[vertices], body.weight[vertices] / len(vertices)
    found = []
    for bone in np.unique(influence_V4[share_V4 > 0]).tolist():
        share_V = (share_V4 * (influence_V4 == bone)).sum(axis=1)
        found.append((bone, float(share_V.sum()), share_V @ (shape.vertices[vertices] - shape.heads[bone])))
    return found


@cache
def _bank(landmarks: Landmarks) -> tuple[Float, Float, Float]:
    """Angles, views and points of poses to start from, of all families and from all sides."""
    rng = np.random.default_rng(0)
    stances = [draw_stance(rng) for _ in range(BANK)]
    angles = np.stack([stance.angles for stance in stances])
    views = np.stack([turned(rng.uniform(-180, 180), stance.lean, stance.roll) for stance in stances])
    return angles, views, _Model(landmarks).points(angles, views)


def _aligned(seen_PN2: Float, wanted_N2: Float) -> tuple[Float, Float]:
    """What is left (P, N, 2) after the best shift and scale of the wanted points, in metres; its mean length (P,)."""
    centred = seen_PN2 - seen_PN2.mean(axis=1, keepdims=True)
    wanted = wanted_N2 - wanted_N2.mean(axis=0)
    scale = (centred * wanted).sum(axis=(1, 2)) / max((wanted**2).sum(), 1e-9)
    left = centred - np.maximum(scale, 1e-9)[:, None, None] * wanted
    return left, np.linalg.norm(left, axis=2).mean(axis=1)


def _refine(model: _Model, target: Target, angles_A: Float, view_33: Float) -> Fit:
    """Levenberg and Marquardt's steps over all angles and the view, in radians, held within the limits."""
    count = len(angles_A)
    relaxed_A = np.radians(relaxed())

    def residuals(angles_PA: Float, views_P33: Float) -> Float:
        left, _ = _aligned(model.points(np.degrees(angles_PA), views_P33)[:, target.which], target.points)
        points = left.reshape(len(left), -1) / (POINT_ERROR * model.height)
        return np.concatenate([points, (angles_PA - relaxed_A) / LOOSENESS], axis=1)

    angles, view = np.radians(angles_A), view_33
    now, damping = residuals(angles[None], view[None])[0], DAMPING
    nudges = np.eye(count + FREE_VIEW) * NUDGE
    for _ in range(STEPS):
        tried = residuals(angles + nudges[:, :count], np.stack([_turn(nudge[count:]) @ view for nudge in nudges]))
        slopes = (tried - now) / NUDGE
        square = slopes @ slopes.T
        step = -np.linalg.solve(square + damping * np.diag(np.diag(square) + 1e-9), slopes @ now)
        further = np.clip(angles + step[:count], np.radians(LOWEST), np.radians(HIGHEST))
        looked = _turn(step[count:]) @ view
        then = residuals(further[None], looked[None])[0]
        if then @ then < now @ now:
            angles, view, now, damping = further, looked, then, damping / 3
        else:
            damping *= 5
    _, error = _aligned(model.points(np.degrees(angles)[None], view[None])[:, target.which], target.points)
    return Fit(Stance(np.degrees(angles), facing=view), float(error[0]) / model.height)


def _turn(axis_3: Float) -> Float:
    """(3, 3) about an axis by its length in radians."""
    angle = float(np.linalg.norm(axis_3))
    return np.eye(3) if angle < 1e-12 else turn_about(axis_3, angle)
