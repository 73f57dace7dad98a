"""COCO's ``segmentation`` of a person as a mask; what is sound :mod:`stagepose.coco.segments` says.

H W picture size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Bool
from stagepose.coco.segments import run_lengths, segment_fault
from stagepose.geometry import Float


def mask_of(segmentation: Any, height: int, width: int) -> Bool | None:
    """(H, W) what is the person's; None where there is no segment, or none that is sound."""
    if not segmentation or segment_fault(segmentation, (height, width)):
        return None
    if isinstance(segmentation, list):
        return _polygons(segmentation, height, width)
    return _runs(run_lengths(segmentation["counts"]), height, width)


def _polygons(polygons: list[list[float]], height: int, width: int) -> Bool:
    corners = [np.array(flat, dtype=np.float64).reshape(-1, 2) for flat in polygons]
    inside = np.zeros((height, width), dtype=bool)
    for polygon in corners:
        inside |= _within(polygon - 0.5, height, width)  # in edges, as boxes are: a pixel's centre is half a pixel on
    return inside


def _within(polygon_P2: Float, height: int, width: int) -> Bool:
    """(H, W) pixels whose centre is inside: where a row has crossed an odd number of sides.

    OpenCV's fillPoly takes every pixel that a side touches, half a pixel too much all around.
    """
    start, end = polygon_P2, np.roll(polygon_P2, -1, axis=0)
    y = np.arange(height)[:, None]
    rows, sides = np.nonzero((start[:, 1] <= y) != (end[:, 1] <= y))
    (x1, y1), (x2, y2) = start[sides].T, end[sides].T
    columns = np.ceil(x1 + (rows - y1) * (x2 - x1) / (y2 - y1)).clip(0, width).astype(np.int64)
    crossed = np.zeros((height, width + 1), dtype=np.int64)
    np.add.at(crossed, (rows, columns), 1)
    return np.asarray(crossed.cumsum(axis=1)[:, :-1] % 2 == 1)


def _runs(counts: NDArray[np.int64], height: int, width: int) -> Bool:
    """Lengths of what is not and what is the person's in turn, column by column."""
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.asarray(flat.reshape(width, height).T)
