"""Colours, smooth noise and the patterns of cloth, walls and ground, all from a place in space: nothing has seams.

Colours are linear light, 0 to 1, until the picture is finished. S places.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng

GAMMA = 2.2  # of screens, near enough to sRGB's curve
NEUTRALS = ((20, 20, 24), (238, 238, 235), (128, 130, 134), (36, 44, 74), (68, 90, 130), (150, 128, 96),
            (74, 66, 56), (190, 182, 168), (60, 74, 60), (112, 46, 44))  # fmt: skip  # what most clothes are
NEUTRAL_SHARE = 0.55


def linear(rgb: tuple[float, ...] | NDArray[np.float64]) -> Float32:
    """From 8-bit screen colours to light."""
    return ((np.asarray(rgb, dtype=np.float32) / 255) ** GAMMA).astype(np.float32)


def draw_colour(rng: Rng) -> Float32:
    """A colour of clothes or things: mostly neutral, else any hue."""
    if rng.random() < NEUTRAL_SHARE:
        base = np.array(NEUTRALS[rng.integers(len(NEUTRALS))], dtype=np.float64)
        return linear(np.clip(base + rng.normal(0, 10, 3), 0, 255))
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.9), rng.uniform(0.25, 0.95))
    return linear(tuple(255 * value for value in rgb))


class Waves:
    """Smooth noise about 0 with a spread of about 1: a few plane waves, each bent by the one before."""

    def __init__(self, rng: Rng, *, size: float, count: int = 5) -> None:
        """``size``: metres from one crest to the next, on average."""
        ways = rng.normal(size=(count, 3))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        self._ways = (ways * (2 * np.pi / size * rng.uniform(0.5, 1.8, (count, 1)))).astype(np.float32)
        self._start = rng.uniform(0, 2 * np.pi, count).astype(np.float32)

    def __call__(self, places_S3: Float32) -> Float32:
        total = np.zeros(len(places_S3), dtype=np.float32)
        bend = np.zeros(len(places_S3), dtype=np.float32)
        for way, start in zip(self._ways, self._start, strict=True):
            bend = np.sin(places_S3 @ way + start + 1.3 * bend)
            total += bend
        scaled: Float32 = total * np.float32(np.sqrt(2 / len(self._ways)))
        return scaled

    def slope(self, places_S3: Float32) -> Float32:
        """(S, 3): which way it rises, for bumps; of unit size about."""
        total = np.zeros_like(places_S3)
        for way, start in zip(self._ways, self._start, strict=True):
            unit = way / np.linalg.norm(way)
            total += np.cos(places_S3 @ way + start)[:, None] * unit
        scaled: Float32 = total / np.float32(np.sqrt(len(self._ways)))
        return scaled


KINDS = ("plain", "across", "along", "checks", "halves", "spots", "blotches", "print")
KIND_WEIGHTS = np.array([0.42, 0.13, 0.05, 0.12, 0.07, 0.05, 0.07, 0.09])
EVERYWHERE = ("plain", "across", "along", "checks", "spots", "blotches")  # those that need no front


@dataclass(frozen=True, eq=False)
class Pattern:
    """What a surface is painted with: ``colours`` (3, 3) of which ``kind`` uses one to three; ``size`` in metres."""

    kind: str
    colours: Float32
    size: float
    fine: Waves
    coarse: Waves
    rough: float = 1.0

    def __call__(self, places_S3: Float32) -> Float32:
        """Colours (S, 3)."""
        amount = _MASKS[self.kind](self, places_S3)[:, None]
        painted = self.colours[0] + (self.colours[1] - self.colours[0]) * amount
        uneven = 1 + self.rough * (0.07 * self.coarse(places_S3) + 0.05 * self.fine(places_S3))
        return np.asarray(np.clip(painted * uneven[:, None], 0, 1), dtype=np.float32)


def draw_pattern(rng: Rng, *, kinds: tuple[str, ...] = KINDS, scale: float = 1.0, pale: float = 0.0,
                 sober: float = 0.0) -> Pattern:
    """A random pattern; ``scale`` 1 for clothes, larger for walls; ``pale`` 0 to 1 takes its colours to one grey;

    ``sober`` is the chance of no pattern at all, whatever the kinds.
    """
    weights = np.array([KIND_WEIGHTS[KINDS.index(kind)] for kind in kinds])
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())] if rng.random() >= sober else "plain"
    colours = np.stack([draw_colour(rng) for _ in range(2)])
    colours = (colours + pale * (0.3 * colours.mean() + 0.7 * rng.uniform(0.1, 0.7) - colours)).astype(np.float32)
    size = scale * float(rng.uniform(0.02, 0.09))
    return Pattern(kind, colours, size, Waves(rng, size=0.012 * scale, count=6), Waves(rng, size=0.35 * scale, count=4))


def _stripe(distance_S: Float32, size: float) -> Float32:
    """1 in every other band, with soft edges."""
    wave: Float32 = np.clip(np.sin(distance_S * (np.pi / size)) * 4 + 0.5, 0, 1)
    return wave


def _plain(pattern: Pattern, at: Float32) -> Float32:
    return np.zeros(len(at), dtype=np.float32)


def _across(pattern: Pattern, at: Float32) -> Float32:
    return _stripe(at[:, 1], pattern.size)


def _along(pattern: Pattern, at: Float32) -> Float32:
    return _stripe(at[:, 0] + 0.4 * at[:, 2], pattern.size * 0.6)


def _checks(pattern: Pattern, at: Float32) -> Float32:
    return 0.5 * (_across(pattern, at) + _along(pattern, at))


def _halves(pattern: Pattern, at: Float32) -> Float32:
    """Another colour above the chest."""
    return (at[:, 1] > 0.25 + pattern.size).astype(np.float32)


def _spots(pattern: Pattern, at: Float32) -> Float32:
    wave: Float32 = np.prod(np.sin(at[:, :2] * (np.pi / pattern.size)), axis=1)
    return np.asarray(np.clip((np.abs(wave) - 0.55) * 6, 0, 1), dtype=np.float32)


def _blotches(pattern: Pattern, at: Float32) -> Float32:
    return np.asarray(np.clip(pattern.coarse(at * (0.18 / pattern.size)) * 3 + 0.5, 0, 1), dtype=np.float32)


def _print(pattern: Pattern, at: Float32) -> Float32:
    """Something on the chest: a patch with a pattern in it."""
    x, y = at[:, 0] / (1.6 * pattern.size), (at[:, 1] - 0.36) / (1.2 * pattern.size)
    inside = (x**2 + y**2 < 1) & (at[:, 2] > 0.03)
    return np.asarray(inside * np.clip(pattern.coarse(at * 6) * 2 + 0.7, 0, 1), dtype=np.float32)


_MASKS = {"plain": _plain, "across": _across, "along": _along, "checks": _checks, "halves": _halves, "spots": _spots,
          "blotches": _blotches, "print": _print}  # fmt: skip
