"""What people wear, as the colours of their torsos: tells two people apart in most pictures, without a network.

A look is a histogram in L*a*b*, lightness in coarse steps since light and shade change it, as the square roots of its
shares: the product of two looks is their likeness in [0, 1] (Bhattacharyya). N, M people.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.skeleton import Skeleton
from stagepose.structures import SURE_JOINT, Person

Look = Float  # (256,)

TORSO = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
INWARD = 0.85  # of the torso's size: arms and background lie along its sides
BINS = (4, 8, 8)  # of lightness, and of a and b where clothes are: 64 to 192 of 256, beyond in the outermost
MOST_PIXELS = 48  # a side of the torso, of which a colour needs no more
FEWEST_PIXELS = 30  # of a torso: fewer are mostly the picture's noise and its coding's
LEAST_INSIDE = 0.5  # of a torso's width and of its height, that lies in the picture
COLOURLESS = 8  # grey levels between the channels, in all of a picture: black and white, and its coding's noise
ALIKE = 0.8  # likeness from which somebody may be who has been gone
CLEARLY = 0.1  # likeness by which it must be more than to anybody else's


def looks_of(people: Sequence[Person], pixels: NDArray[np.uint8] | None) -> list[Look | None]:
    """The look of each; None for a torso that cannot be seen, and of a picture (H, W, 3) RGB without colours."""
    if pixels is None or not people or not _has_colours(pixels):
        return [None] * len(people)
    return [_look(person, pixels) for person in people]


def likeness(looks_N: Sequence[Look | None], looks_M: Sequence[Look | None]) -> Float:
    """(N, M) in [0, 1]; NaN where one of the two is None."""
    unknown = np.full(np.prod(BINS), np.nan)
    a, b = (np.array([unknown if look is None else look for look in looks]).reshape(-1, len(unknown))
            for looks in (looks_N, looks_M))
    return np.asarray(a @ b.T)


def clearly_alike(alike_NM: Float, others_N: Float) -> list[tuple[int, int]]:
    """The pairs (n, m) of newcomers and of people gone who are clearly more alike than either is to anybody else.

    ``others_N``: the most that each newcomer is like somebody in view. Where two wear the same nobody is taken for
    anybody; nobody is in two pairs.
    """
    alike_NM = np.nan_to_num(alike_NM)
    pairs = []
    for n, m in zip(*np.nonzero(alike_NM >= ALIKE), strict=True):
        rivals = [*np.delete(alike_NM[n], m), *np.delete(alike_NM[:, m], n), np.nan_to_num(others_N[n])]
        if alike_NM[n, m] >= max(rivals) + CLEARLY:
            pairs.append((int(n), int(m)))
    return pairs


def blended(before: Look | None, now: Look | None, share: float) -> Look | None:
    """``before`` with a share of ``now``; the one that is known where one is not."""
    if before is None or now is None:
        return now if before is None else before
    look = before + share * (now - before)
    return np.asarray(look / np.linalg.norm(look))


def _has_colours(pixels: NDArray[np.uint8]) -> bool:
    some = pixels[::16, ::16].astype(np.int16)
    return bool(np.ptp(some, axis=-1).max(initial=0) > COLOURLESS)


def _joints(skeleton: Skeleton) -> list[int] | None:
    return [skeleton.index(name) for name in TORSO] if set(TORSO) <= set(skeleton.names) else None


def _look(person: Person, pixels: NDArray[np.uint8]) -> Look | None:
    joints = _joints(person.skeleton)
    if joints is None or (person.scores[joints] < SURE_JOINT).any():
        return None
    corners = person.keypoints[joints]
    corners = corners.mean(0) + INWARD * (corners - corners.mean(0))
    low, high = corners.min(0), corners.max(0) + 1
    first, last = np.maximum(low, 0), np.minimum(high, pixels.shape[1::-1])
    if (last - first < LEAST_INSIDE * (high - low)).any():
        return None
    (x1, y1), (x2, y2) = np.floor(first).astype(int), np.ceil(last).astype(int)
    step = 1 + max(x2 - x1, y2 - y1) // MOST_PIXELS
    torso = np.ascontiguousarray(pixels[y1:y2:step, x1:x2:step])
    inside = np.zeros(torso.shape[:2], dtype=np.uint8)
    outline = cv2.convexHull(np.round((corners - [x1, y1]) / step).astype(np.int32))  # seen from the side it is crossed
    cv2.fillConvexPoly(inside, outline, 1)
    if inside.sum() < FEWEST_PIXELS:
        return None
    return _histogram(np.asarray(cv2.cvtColor(torso, cv2.COLOR_RGB2LAB), dtype=np.uint8)[inside > 0])


def _histogram(lab_P3: NDArray[np.uint8]) -> Look:
    """Of P pixels, smoothed by a bin: a colour on the border of two lies in both."""
    lightness, a, b = (lab_P3 // 64).T[0].astype(int), *((np.clip(lab_P3, 64, 191).T[1:] - 64) // 16).astype(int)
    counts = np.bincount((lightness * BINS[1] + a) * BINS[2] + b, minlength=int(np.prod(BINS))).reshape(BINS)
    shares = counts / counts.sum()
    for axis in range(3):
        first, *_, last = np.split(shares, shares.shape[axis], axis)
        wide = np.concatenate([first, shares, last], axis)
        before, after = (np.take(wide, np.arange(shares.shape[axis]) + by, axis) for by in (0, 2))
        shares = (before + 2 * shares + after) / 4
    return np.asarray(np.sqrt(shares.ravel()))
