"""The z-buffer against a slow one that tries every pixel for every triangle."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagepose.rendering.raster import rasterise

SIZE = (20, 24)
SQUARE = np.array([[2, 2, 1.0], [2, 9, 1], [9, 9, 1], [9, 2, 1]], dtype=np.float32)
HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def nearest(points: np.ndarray, faces: np.ndarray, both_sides: bool) -> dict[int, tuple[float, int]]:
    """Pixel -> (1 / depth, face), by definition; pixels on an edge, where rounding decides, are left out."""
    found: dict[int, tuple[float, int]] = {}
    edges: set[int] = set()
    for number, corners in enumerate(points[faces].astype(np.float64)):
        (ax, ay, _), (bx, by, _), (cx, cy, _) = corners
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or (area > 0 and not both_sides):
            continue
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                weights = np.array([
                    (cx - bx) * (y - by) - (cy - by) * (x - bx),
                    (ax - cx) * (y - cy) - (ay - cy) * (x - cx),
                    (bx - ax) * (y - ay) - (by - ay) * (x - ax),
                ]) / area  # fmt: skip
                pixel = y * SIZE[1] + x
                if abs(weights.min()) < 1e-4:
                    edges.add(pixel)
                if weights.min() < 0:
                    continue
                near = float(weights @ (1 / corners[:, 2]))
                if near > found.get(pixel, (0.0, -1))[0]:
                    found[pixel] = (near, number)
    return {pixel: hit for pixel, hit in found.items() if pixel not in edges}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_nearest_triangle_is_seen(seed: int, both_sides: bool) -> None:
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform(-8, 30, (18, 2)), rng.uniform(0.5, 5, (18, 1))], axis=1).astype(np.float32)
    faces = rng.permutation(18).reshape(6, 3)
    hits = rasterise(points, faces, SIZE, both_sides=both_sides)
    seen = dict(zip(hits.pixel.tolist(), zip((1 / hits.depth).tolist(), hits.face.tolist(), strict=True), strict=True))
    expected = nearest(points, faces, both_sides)
    for pixel, (near, face) in expected.items():
        assert seen[pixel][1] == face or seen[pixel][0] == pytest.approx(near, rel=1e-3)


def test_a_square_covers_its_pixels_once_and_only_from_the_front() -> None:
    hits = rasterise(SQUARE, HALVES, SIZE)
    assert sorted(hits.pixel.tolist()) == [y * SIZE[1] + x for y in range(2, 10) for x in range(2, 10)]
    assert not len(rasterise(SQUARE, HALVES[:, ::-1], SIZE).pixel)
    assert len(rasterise(SQUARE, HALVES[:, ::-1], SIZE, both_sides=True).pixel) == 64


def test_values_are_mixed_in_perspective() -> None:
    slanted = SQUARE.copy()
    slanted[2:, 2] = 3  # the right edge is three times as far
    hits = rasterise(slanted, HALVES, SIZE, both_sides=True)
    across = hits.of(np.array([0, 0, 1, 1], dtype=np.float32), HALVES)
    x = hits.pixel % SIZE[1]
    share = (x - 2) / 7
    np.testing.assert_allclose(across, share / 3 / (share / 3 + 1 - share), atol=1e-5)
    np.testing.assert_allclose(hits.depth, 1 + 2 * across, atol=1e-4)


def test_what_is_behind_the_camera_or_outside_is_not_seen() -> None:
    assert not len(rasterise(SQUARE * [1, 1, -1], HALVES, SIZE, both_sides=True).pixel)
    assert not len(rasterise(SQUARE + np.array([100, 0, 0], np.float32), HALVES, SIZE).pixel)
    assert not len(rasterise(SQUARE, HALVES[:0], SIZE).pixel)


@pytest.mark.parametrize("side", [2040, 2060, 4095, 5000])
def test_a_triangle_of_any_size_is_seen_whole(side: int) -> None:
    """Also the largest, in memory for a part of its square: whole, that of 4096 pixels would take 128 MB a weight."""
    points = np.array([[0, 0, 1], [0, side, 1], [side, side, 1.0]], dtype=np.float32)
    tracemalloc.start()
    try:
        hits = rasterise(points, np.array([[0, 1, 2]]), (4096, 64))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    rows, columns = np.divmod(hits.pixel, 64)
    last = min(side, 4095)
    assert len(hits.pixel) == sum(min(row + 1, 64) for row in range(last + 1)) and (columns <= rows).all()
