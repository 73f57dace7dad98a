"""COCO's ``segmentation`` of a person as a mask: polygons, or run lengths, plain or as COCO packs them into text.

H W picture size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.geometry import Float

Mask = NDArray[np.bool_]


def mask_of(segmentation: Any, height: int, width: int) -> Mask | None:
    """(H, W) what is the person's; None where there is no segment, or none that can be read."""
    try:
        if isinstance(segmentation, list):
            return _polygons(segmentation, height, width)
        if isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
            counts = segmentation["counts"]
            return _runs(_unpacked(counts) if isinstance(counts, str) else counts, height, width)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    return None


def _polygons(polygons: list[Any], height: int, width: int) -> Mask | None:
    corners = [np.array(flat, dtype=np.float64).reshape(-1, 2) for flat in polygons]
    if not any(len(polygon) > 2 for polygon in corners) or not all(np.isfinite(polygon).all() for polygon in corners):
        return None
    inside = np.zeros((height, width), dtype=bool)
    for polygon in corners:
        inside |= _within(polygon - 0.5, height, width)  # in edges, as boxes are: a pixel's centre is half a pixel on
    return inside


def _within(polygon_P2: Float, height: int, width: int) -> Mask:
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


def _runs(counts: list[int], height: int, width: int) -> Mask | None:
    """Lengths of what is not and what is the person's in turn, column by column."""
    if sum(counts) != height * width:
        return None
    values = np.arange(len(counts)) % 2 == 1
    flat = np.repeat(values, np.asarray(counts, dtype=np.int64))
    return np.asarray(flat.reshape(width, height).T)


def _unpacked(text: str) -> list[int]:
    """COCO's text: groups of 5 bits from the lowest, a sixth says that more follow; from the fourth run on each number
    is the difference to the one two before (pycocotools, maskApi.c: rleFrString)."""
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift  # the highest bit is the sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
