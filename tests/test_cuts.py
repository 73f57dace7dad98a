"""A hard cut is told; a pan, a shake, a flash, a fade, and somebody who moves before an empty ground, are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stagepose.cuts import CutFinder

WIDTH, HEIGHT = 160, 90


def scene(seed: int) -> np.ndarray:
    """(2 H, 3 W, 3) uint8: soft blobs of colour, as photographs are from afar."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (6, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (3 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC))


def window(of: np.ndarray, x: int = 100, y: int = 40) -> np.ndarray:
    return of[y : y + HEIGHT, x : x + WIDTH]


def cuts(*frames: np.ndarray) -> list[int]:
    finder = CutFinder()
    return [number for number, frame in enumerate(frames) if finder.is_cut(frame)]


def test_another_scene_is_a_cut_and_the_same_goes_on() -> None:
    one, other = window(scene(0)), window(scene(1))
    assert cuts(one, one, other, other, one) == [2, 4]
    assert cuts(one, np.asarray(cv2.resize(one, (320, 180)))) == []  # of another size


@pytest.mark.parametrize("seed", range(5))
def test_a_camera_that_pans_or_shakes_cuts_nothing(seed: int) -> None:
    whole, rng = scene(seed), np.random.default_rng(seed)
    assert cuts(*(window(whole, 5 * n) for n in range(60))) == []
    assert cuts(*(window(whole, 100 + x, 40 + y) for x, y in rng.integers(-6, 7, (60, 2)))) == []


def test_light_is_no_scene() -> None:
    one = window(scene(2))
    bright = np.clip(one.astype(int) + 90, 0, 255).astype(np.uint8)
    fading = [(one * share).astype(np.uint8) for share in np.linspace(1, 0, 20)]
    assert cuts(one, bright, one) == [] and cuts(*fading, *reversed(fading)) == []


def test_a_black_screen_between_two_scenes_hides_no_cut() -> None:
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert cuts(window(scene(0)), black, black, window(scene(1))) == [3]
    assert cuts(window(scene(0)), black, black, window(scene(0))) == []


@pytest.mark.parametrize("ground", [0, 200])
def test_somebody_who_moves_before_an_empty_ground_is_no_cut(ground: int) -> None:
    frames = []
    for x in range(0, 120, 24):  # further than they are wide
        frames.append(np.full((HEIGHT, WIDTH, 3), ground, np.uint8))
        frames[-1][20:80, x : x + 20] = 120
    assert cuts(*frames) == []
