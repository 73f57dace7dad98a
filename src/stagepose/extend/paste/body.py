"""Where a person's body roughly is, told by keypoints alone. K keypoints, H W picture size."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.geometry import Float
from stagepose.skeleton import Skeleton

LIMB, CORE = 0.055, 0.015  # radii as shares of the root of the box: what is likely, and what is surely the person
TRUNK = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
HEAD_RADIUS = 0.10


def body_mask(keypoints_K3: Float, size: float, skeleton: Skeleton, height: int, width: int,
              radius: float = LIMB) -> NDArray[np.bool_]:
    """(H, W) capsules along the limbs of labelled keypoints, the trunk between them, a disc for the head.

    ``size`` is the root of the person's box's area, ``radius`` that of a limb as a share of it.
    """
    canvas = np.zeros((height, width), dtype=np.uint8)
    labelled = keypoints_K3[:, 2] > 0
    points = [(round(float(x)), round(float(y))) for x, y in keypoints_K3[:, :2]]
    thick = max(1, round(2 * radius * size))
    for a, b in skeleton.limb_index:
        if labelled[a] and labelled[b]:
            cv2.line(canvas, points[a], points[b], 1, thick)
    for k in np.flatnonzero(labelled):
        cv2.circle(canvas, points[k], max(1, thick // 2), 1, -1)
    trunk = _known(TRUNK, skeleton, labelled)
    if len(trunk) == len(TRUNK):
        cv2.fillConvexPoly(canvas, cv2.convexHull(np.array([points[k] for k in trunk], dtype=np.int32)), 1)
    head = _known(HEAD, skeleton, labelled)
    if head and radius >= LIMB:
        middle = np.mean([points[k] for k in head], axis=0)
        spread = max((float(np.linalg.norm(np.subtract(points[a], points[b]))) for a, b in pairwise(head)), default=0.0)
        cv2.circle(canvas, (round(float(middle[0])), round(float(middle[1]))),
                   max(1, round(max(HEAD_RADIUS * size, spread))), 1, -1)
    return canvas > 0


def _known(names: tuple[str, ...], skeleton: Skeleton, labelled_K: NDArray[np.bool_]) -> list[int]:
    found = [skeleton.index(name) for name in names if name in skeleton.names]
    return [k for k in found if labelled_K[k]]
