"""Keypoints of made sets: on a pixel of the picture, or none."""

import numpy as np
import pytest

from stagepose.making import in_picture


@pytest.mark.parametrize(("point", "kept"), [
    ((3.004, 5.0, 2), (3, 5, 2)), ((9, 4.5, 1), (9, 4.5, 1)), ((0.01, 7, 2), (0.01, 7, 2)),
    ((0.004, 7, 2), (0, 0, 0)), ((-0.4, 5, 2), (0, 0, 0)), ((9.3, 5, 2), (0, 0, 0)), ((5, 7.01, 2), (0, 0, 0)),
    ((5, 5, 0), (0, 0, 0)),
])
def test_outside_of_10_x_8_pixels_there_are_none(point: tuple[float, ...], kept: tuple[float, ...]) -> None:
    assert in_picture(np.array([point], dtype=float), 10, 8).tolist() == [list(kept)]
