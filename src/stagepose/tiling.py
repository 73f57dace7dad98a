"""A detector run on a large picture tile by tile, for people too small to find in the whole picture.

Views are the whole picture and overlapping tiles of ``side``, 2 ``side``, 4 ``side``, ... pixels. Neighbours of a size
overlap by a third of it, so that anybody not longer than that is whole in one of them, and anybody longer in one of the
next size. That is why a box that ends where a tile does, inside the picture, can be left out: it is a person cut in
two, who is whole in another view. N boxes or people, K keypoints.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.geometry import iou_matrix, shared_areas
from stagepose.oks import keypoint_similarity
from stagepose.runtime import Detector
from stagepose.structures import SURE_JOINT, Detections

OVERLAP = 1 / 3  # of a tile's side
EDGE = 1 / 50  # of a tile's side: a box that comes as near to its end is cut by it
SAME_BOX = 0.5  # IoU from which boxes of two views are of one person
INSIDE = 0.7  # share of a box that lies in another, from which it may be a part of that person
LARGER = 2.0  # times the area that the other has then, or more
SAME_JOINTS = 0.5  # OKS of a part's joints with the whole person's


def views(width: int, height: int, side: int) -> list[tuple[int, int, int, int]]:
    """(x1, y1, x2, y2) in pixels of a picture's views, the whole first; only that if it is not larger than a tile."""
    found = [(0, 0, width, height)]
    while side < max(width, height):
        found += [(x, y, min(x + side, width), min(y + side, height))
                  for y in _starts(height, side) for x in _starts(width, side)]
        side *= 2
    return found


def detect_tiled(detector: Detector, pixels_HW3: NDArray[np.uint8], side: int, limit: int,
                 least: float) -> Detections:
    """The ``limit`` best boxes of all views together that score at least ``least``, each person once, best first."""
    height, width = pixels_HW3.shape[:2]
    boxes, scores, view_of = [], [], []
    for number, view in enumerate(views(width, height, side)):
        x1, y1, x2, y2 = view
        found = detector(pixels_HW3[y1:y2, x1:x2]).best(limit, least)
        moved = found.boxes + np.array([x1, y1, x1, y1])
        whole = ~_cut(moved, view, width, height)
        boxes.append(moved[whole])
        scores.append(found.scores[whole])
        view_of.append(np.full(int(whole.sum()), number))
    return _each_once(np.concatenate(boxes), np.concatenate(scores), np.concatenate(view_of), limit)


def parts_of_others(boxes_N4: Float, points_NK2: Float, joint_scores_NK: Float, scores_N: Float, areas_N: Float,
                    sigmas_K: Float, least: float) -> NDArray[np.bool_]:
    """(N,) whether it is a part, such as a face found in a tile, of another, larger person scoring at least ``least``.

    A part lies inside the other's box and its joints are the other's joints; somebody behind has joints elsewhere.
    """
    shared = shared_areas(boxes_N4[:, None], boxes_N4)
    own = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(axis=-1)
    may_be = (shared >= INSIDE * own[:, None]) & (own >= LARGER * own[:, None]) & (scores_N >= least)
    parts = np.zeros(len(boxes_N4), dtype=bool)
    for part, whole in zip(*np.nonzero(may_be), strict=True):
        sure = joint_scores_NK[part] >= SURE_JOINT
        if sure.any():
            squared_K = ((points_NK2[part] - points_NK2[whole]) ** 2).sum(axis=-1)
            parts[part] |= keypoint_similarity(squared_K, areas_N[whole], sigmas_K)[sure].mean() > SAME_JOINTS
    return parts


def _starts(length: int, side: int) -> list[int]:
    """Where the tiles begin along a side of the picture: evenly apart, all of full size."""
    if length <= side:
        return [0]
    step = side - math.ceil(side * OVERLAP)
    count = 1 + math.ceil((length - side) / max(step, 1))
    return [round(start) for start in np.linspace(0, length - side, count).tolist()]


def _cut(boxes_N4: Float, view: tuple[int, int, int, int], width: int, height: int) -> NDArray[np.bool_]:
    """(N,) whether a box ends where its view does, inside of the picture."""
    x1, y1, x2, y2 = view
    near = EDGE * max(x2 - x1, y2 - y1)
    ends = np.array([x1 + near if x1 > 0 else -np.inf, y1 + near if y1 > 0 else -np.inf,
                     x2 - near if x2 < width else np.inf, y2 - near if y2 < height else np.inf])
    return np.asarray((boxes_N4[:, :2] < ends[:2]).any(axis=1) | (boxes_N4[:, 2:] > ends[2:]).any(axis=1))


def _each_once(boxes_N4: Float, scores_N: Float, view_N: NDArray[np.int64], limit: int) -> Detections:
    """The best box of each person; what one view holds for two people stays two."""
    kept: list[int] = []
    left = np.argsort(-scores_N, kind="stable")
    while len(left) and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(best)
        same = iou_matrix(boxes_N4[best][None], boxes_N4[left])[0] >= SAME_BOX
        left = left[~(same & (view_N[left] != view_N[best]))]
    return Detections(boxes=boxes_N4[kept], scores=scores_N[kept])
