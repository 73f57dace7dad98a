"""COCO's ``segmentation`` of a person: polygons, or run lengths, plain or as COCO packs them into text. Is it sound?

Masks are made of them by :mod:`stagepose.extend.paste.segments`. H W picture size.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.problems import show

FARTHEST = 2.0**31  # pixels: no picture is larger, and products of two such are exact enough
MOST_LETTERS = 7  # of a packed number, 5 bits each

_NUMBERS = frozenset((int, float))


def segment_fault(segmentation: Any, size_HW: tuple[int, int] | None) -> str:
    """Why nothing can be cut out by a segment; "" for a sound one, and where there is none.

    ``size_HW`` of its picture, in pixels, None where it is not known.
    """
    if not segmentation:
        return ""
    if isinstance(segmentation, list):
        return _polygon_fault(segmentation)
    if isinstance(segmentation, dict):
        return _run_fault(segmentation, size_HW)
    return f"segmentation is {show(segmentation)}, expected polygons or run lengths"


def run_lengths(counts: Any) -> NDArray[np.int64]:
    """The pixels of each run, of a list or of COCO's text; :class:`ValueError` where it is neither."""
    if isinstance(counts, str):
        return _unpacked(counts)
    if not isinstance(counts, list) or not _NUMBERS.issuperset(map(type, counts)):
        raise ValueError("no list of numbers")
    try:
        floats = np.array(counts, dtype=np.float64)
    except OverflowError:
        floats = np.full(1, np.inf)
    if not (np.abs(floats) < FARTHEST**2).all() or (floats % 1).any():
        raise ValueError("no whole numbers")
    return floats.astype(np.int64)


def _polygon_fault(polygons: list[Any]) -> str:
    for at, flat in enumerate(polygons):
        if not isinstance(flat, list) or not _NUMBERS.issuperset(map(type, flat)):
            return f"segmentation[{at}] is {show(flat)}, expected a polygon: the numbers x, y, x, y, ..."
        if len(flat) % 2:
            return f"segmentation[{at}] has {len(flat)} numbers, expected an x and a y of every corner"
        if flat and not (min(flat) > -FARTHEST and max(flat) < FARTHEST and math.isfinite(sum(flat))):
            return f"segmentation[{at}] is {show(flat)}, expected numbers of pixels"
    if max(map(len, polygons)) < 6:
        return f"segmentation is {show(polygons)}, expected a polygon of three corners or more"
    return ""


def _run_fault(segmentation: dict[str, Any], size_HW: tuple[int, int] | None) -> str:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size_HW and size != list(size_HW):
        return f"segmentation's size is {show(size)}, expected [height, width] of its picture, {list(size_HW)}"
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n < FARTHEST for n in size):
        return f"segmentation's size is {show(size)}, expected [height, width]"
    try:
        runs = run_lengths(counts)
    except ValueError:
        return f"segmentation's counts is {show(counts)}, expected run lengths, or COCO's text of them"
    if (runs < 0).any():
        return f"segmentation's counts has a run of {runs.min()} pixels"
    if int(runs.sum()) != size[0] * size[1]:
        return f"segmentation's counts are of {runs.sum()} pixels, expected {size[0]} x {size[1]}"
    return ""


def _unpacked(text: str) -> NDArray[np.int64]:
    """COCO's text: groups of 5 bits from the lowest, a sixth says that more follow; from the fourth run on each number
    is the difference to the one two before (pycocotools, maskApi.c: rleFrString)."""
    bits = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(bits & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    if ((bits < 0) | (bits > 63)).any() or ends[-1:].tolist() != [len(bits) - 1] or (lengths > MOST_LETTERS).any():
        raise ValueError("not COCO's text")
    starts = ends - lengths + 1
    shift = 5 * (np.arange(len(bits)) - np.repeat(starts, lengths))
    counts = np.add.reduceat((bits & 31) << shift, starts)
    counts -= np.where(bits[ends] & 16, np.int64(1) << (5 * lengths), 0)  # the highest bit is the sign
    counts[1::2], counts[2::2] = counts[1::2].cumsum(), counts[2::2].cumsum()
    return counts
