"""Triangles to pixels: a z-buffer in NumPy, without a GPU, a window or a compiler.

Small triangles are the rule: a body has 26,000 and a picture shows each on a few pixels. So all triangles of about one
size are tried at once against a little square of pixels each, and of all hits on a pixel the nearest stays.
V vertices, F triangles, H W picture size, S hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Int

NEAREST = 0.05  # metres before the camera from which on there is anything to see
SQUARES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 2048)  # sides that triangles are sorted into,
# and the picture's own for those that are larger still
EDGE = 1e-5  # of a weight below 0 that still hits: rounding must leave no gap between neighbours
AT_ONCE = 1 << 20  # samples tried in one go: bounds the memory


@dataclass(frozen=True, eq=False)
class Hits:
    """What is seen: S pixels, each with the triangle in front and where on it.

    ``pixel`` (S,) counts row by row; ``corner`` (S, 3) weighs the triangle's corners, corrected for perspective;
    ``depth`` (S,) metres along the viewing axis.
    """

    pixel: Int
    face: Int
    corner: Float32
    depth: Float32

    def of(self, values_V: NDArray[np.float32], faces_F3: Int) -> Float32:
        """Values of vertices, (V,) or (V, n), at the hits."""
        picked = values_V[faces_F3[self.face]]
        mixed: Float32 = np.einsum("sc,sc...->s...", self.corner, picked)
        return mixed


def rasterise(points_V3: Float32, faces_F3: Int, size: tuple[int, int], *,
              both_sides: bool | NDArray[np.bool_] = False) -> Hits:
    """The nearest triangle at each pixel's centre.

    ``points``: x and y in pixels, depth in metres. ``size``: height, width. Triangles whose corners run clockwise as
    seen (y down) are backs, unseen unless ``both_sides`` (for all, or (F,)). Of two at the same depth the later one is
    seen.
    """
    height, width = size
    faces, low, high = _in_view(points_V3, faces_F3, size, both_sides)
    extent = np.maximum(high[:, 0] - low[:, 0], high[:, 1] - low[:, 1]) + 1
    sides = (*SQUARES, max(SQUARES[-1], height, width))  # no triangle's extent is more: each has a square
    bucket = np.searchsorted(sides, extent)
    found = [
        _try_square(points_V3, faces_F3, rows, low[at], side, band, (height, width))
        for number, side in enumerate(sides)
        for rows, at in _portions(faces, np.flatnonzero(bucket == number), side)
        for band in _bands(side)
    ]
    if not found:
        none = np.zeros(0, np.int64)
        return Hits(none, none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    pixel, face, near, first, second = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((face, near))  # far to near: of several writes to a pixel the last stays
    winner = np.full(height * width, -1)
    winner[pixel[order]] = order
    seen = winner[winner >= 0]
    return _hits(pixel[seen], face[seen], first[seen], second[seen], points_V3, faces_F3)


def _in_view(points_V3: Float32, faces_F3: Int, size: tuple[int, int],
             both_sides: bool | NDArray[np.bool_]) -> tuple[Int, Int, Int]:
    """Triangles to try, and the pixels (x, y) that bound each."""
    (x, y, z) = (points_V3[:, axis][faces_F3].T for axis in range(3))  # (3, F) each
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    low, high = np.empty((len(area), 2), np.int64), np.empty((len(area), 2), np.int64)
    for axis, (at, last) in enumerate(((x, size[1] - 1), (y, size[0] - 1))):
        least, most = np.minimum(np.minimum(at[0], at[1]), at[2]), np.maximum(np.maximum(at[0], at[1]), at[2])
        low[:, axis] = np.ceil(np.clip(least, 0, last + 1))
        high[:, axis] = np.floor(np.clip(most, -1, last))
    before = (z[0] > NEAREST) & (z[1] > NEAREST) & (z[2] > NEAREST)
    seen = ((area < 0) | (both_sides & (area > 0))) & before
    rows = np.flatnonzero(seen & (high[:, 0] >= low[:, 0]) & (high[:, 1] >= low[:, 1]))
    return rows, low[rows], high[rows]


def _portions(faces: Int, at: Int, side: int) -> list[tuple[Int, Int]]:
    step = max(1, AT_ONCE // side**2)
    return [(faces[at[i : i + step]], at[i : i + step]) for i in range(0, len(at), step)]


def _bands(side: int) -> list[range]:
    """Rows of a square that are tried in one go: all of them but in the largest."""
    step = max(1, AT_ONCE // side)
    return [range(start, min(start + step, side)) for start in range(0, side, step)]


def _try_square(
    points_V3: Float32, faces_F3: Int, rows: Int, low_N2: Int, side: int, band: range, size: tuple[int, int]
) -> tuple[Int, Int, Float32, Float32, Float32]:
    """Hits of some triangles within ``side`` pixels of their lowest, in a ``band`` of rows.

    Pixel, face, nearness, weights of two corners.
    """
    corners = points_V3[faces_F3[rows]]
    a, b, c = (corners[:, i, :2] - low_N2 for i in range(3))
    scale = 1 / ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]))
    across = np.arange(side, dtype=np.float32)[None, None, :]
    down = np.arange(band.start, band.stop, dtype=np.float32)[None, :, None]

    def weight(p: NDArray[Any], q: NDArray[Any]) -> Float32:
        """Of the corner opposite to the edge p q, (N, rows of the band, side)."""
        dx, dy = (q[:, 0] - p[:, 0]) * scale, (q[:, 1] - p[:, 1]) * scale
        start = -dx * p[:, 1] + dy * p[:, 0]
        value = start[:, None, None] + dx[:, None, None] * down - dy[:, None, None] * across
        return np.asarray(value, dtype=np.float32)

    first, second = weight(b, c), weight(c, a)
    third = 1 - first - second
    inside = (first >= -EDGE) & (second >= -EDGE) & (third >= -EDGE)
    inside &= (low_N2[:, 0, None, None] + across < size[1]) & (low_N2[:, 1, None, None] + down < size[0])
    n, y, x = np.nonzero(inside)
    first, second, third = first[inside], second[inside], third[inside]
    inverse = (1 / corners[:, :, 2]).astype(np.float32)[n]
    near = first * inverse[:, 0] + second * inverse[:, 1] + third * inverse[:, 2]
    return (low_N2[n, 1] + band.start + y) * size[1] + low_N2[n, 0] + x, rows[n], near, first, second


def _hits(pixel: Int, face: Int, first: Float32, second: Float32, points_V3: Float32, faces_F3: Int) -> Hits:
    corner = np.stack([first, second, 1 - first - second], axis=1) / points_V3[faces_F3[face], 2]
    total = corner.sum(axis=1, keepdims=True)
    return Hits(pixel, face, (corner / total).astype(np.float32), (1 / total[:, 0]).astype(np.float32))
