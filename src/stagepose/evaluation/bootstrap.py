"""Bootstrap over images: how far a number would move with other pictures.

People are matched once; a draw is a weight for each image, so that a thousand draws take seconds. The intervals are
plain percentiles. Two results are compared on the same draws, picture by picture: what makes a picture hard for both
cancels out, and much smaller differences can be detected than from two intervals side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.evaluation.keypoints import LABELS, Judgement
from stagepose.evaluation.pck import SHARES, counts_of
from stagepose.evaluation.precision import NO_TRUTH

RESAMPLES = 1_000
FEWEST = 100  # draws for a meaningful 2.5th percentile
FEW_PICTURES = 30  # draws of fewer are too much alike: the intervals are too narrow
COVERAGE = 95.0  # percent of the draws within an interval


@dataclass(frozen=True)
class Interval:
    """From the 2.5th to the 97.5th percentile."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


def check_draws(resamples: int, seed: int) -> None:
    """:class:`ConfigError` where no intervals can be made; to be asked before anything is predicted."""
    if resamples < FEWEST:
        raise ConfigError(f"{resamples} resamples are too few for a 95 % interval; use {FEWEST} or more")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected 0 or more")


def draws(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each sample drawn, how often each image is in it."""
    check_draws(resamples, seed)
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, images, images), minlength=images)


def intervals(judged: Judgement, resamples: int = RESAMPLES, seed: int = 0) -> list[Interval | None]:
    """Of COCO's ten numbers, in their order; None where there is no ground truth."""
    images = judged.truth.image_count
    if images == 0:
        return [None] * len(LABELS)
    return percentiles(np.array([numbers_on(judged, weights_I) for weights_I in draws(images, resamples, seed)]))


def numbers_on(judged: Judgement, weights_I: NDArray[np.int64]) -> NDArray[np.float64]:
    """COCO's ten, NaN if a draw has nobody of a size."""
    numbers = judged.numbers(weights_I)
    return np.where(numbers == NO_TRUTH, np.nan, numbers)


def too_few(images: int) -> str:
    """A warning about the intervals of a set of fewer than :data:`FEW_PICTURES`."""
    return f"{images} pictures are few: draws of them are too much alike, and the intervals too narrow"


def percentiles(drawn_BS: NDArray[np.float64]) -> list[Interval | None]:
    """By column; NaN are ignored."""
    edges = (100 - COVERAGE) / 2, (100 + COVERAGE) / 2
    kept = [column[~np.isnan(column)] for column in drawn_BS.T]
    return [Interval(*np.percentile(column, edges).tolist()) if len(column) else None for column in kept]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """COCO's ten numbers of results ``a`` and ``b`` and the interval of ``b`` - ``a``; None without ground truth."""

    a: list[float]
    b: list[float]
    intervals: list[Interval | None]
    better: float  # share of the draws in which b's AP is the higher; half of the equal ones
    images: int

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(label, a, b, difference, interval) lines of a table."""
        return [(label, *_shown(a, b, within))
                for label, a, b, within in zip(LABELS, self.a, self.b, self.intervals, strict=True)]

    def verdict(self, a: str = "A", b: str = "B") -> str:
        """A plain sentence about AP."""
        within, difference = self.intervals[0], self.b[0] - self.a[0]
        if within is None:
            return "There is no ground truth to compare by."
        if within.low == within.high == 0:
            return f"{a} and {b} are equal on every draw of these {self.images} pictures."
        span = f"95 % interval {within.low:+.3f} to {within.high:+.3f} for {b} - {a}"
        these = f"these {self.images} pictures"
        if within.low > 0 or within.high < 0:
            winner, loser = (b, a) if within.low > 0 else (a, b)
            return (f"{winner} is better than {loser} by {abs(difference):.3f} AP ({span}): the choice of {these} "
                    "does not explain it.")
        return (f"The difference of {difference:+.3f} AP ({span}) may be the choice of {these}: {b} is ahead in "
                f"{self.better:.0%} of the draws. Use more pictures, or call them equal.")


def _shown(a: float, b: float, within: Interval | None) -> tuple[str, str, str, str]:
    """(a, b, difference, interval) of a line."""
    if within is None:
        return "no ground truth", "no ground truth", "", ""
    return f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", f"{within.low:+.3f} to {within.high:+.3f}"


def compare(a: Judgement, b: Judgement, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Two results for the same set, on the same draws of its images."""
    images = a.truth.image_count
    numbers = {"a": a.numbers().tolist(), "b": b.numbers().tolist()}
    if images == 0:
        return Comparison(**numbers, intervals=[None] * len(LABELS), better=0.5, images=0)
    change_BS = np.array([numbers_on(b, weights_I) - numbers_on(a, weights_I)
                          for weights_I in draws(images, resamples, seed)])
    ahead_B = change_BS[~np.isnan(change_BS[:, 0]), 0]
    better = float(((ahead_B > 0).mean() + (ahead_B >= 0).mean()) / 2) if len(ahead_B) else 0.5
    return Comparison(**numbers, intervals=percentiles(change_BS), better=better, images=images)


@dataclass(frozen=True, kw_only=True)
class PckComparison:
    """One PCK of results ``a`` and ``b``, -1 without ground truth, and the interval of ``b`` - ``a``, None then."""

    name: str  # of the keypoint; "all" for all of them together
    share: float  # of the longer side of the person's box
    a: float
    b: float
    interval: Interval | None

    def row(self) -> tuple[str, str, str, str, str, str]:
        """(keypoint, measure, a, b, difference, interval): a line of a table."""
        return (self.name, f"PCK {self.share:g}".replace("0.", "."), *_shown(self.a, self.b, self.interval))


def compare_pck(a: Judgement, b: Judgement, resamples: int = RESAMPLES, seed: int = 0) -> list[PckComparison]:
    """PCK of two results for the same set on the draws of :func:`compare`: of all keypoints, then of each, at every one
    of :data:`~.pck.SHARES`."""
    images, counts = a.truth.image_count, [counts_of(one) for one in (a, b)]
    once_I = np.ones(images, dtype=np.int64)
    of_a, of_b = (np.nan_to_num(_pck(one, once_I), nan=NO_TRUTH).tolist() for one in counts)
    within: list[Interval | None] = [None] * len(of_a)
    if images:
        within = percentiles(np.array([_pck(counts[1], weights_I) - _pck(counts[0], weights_I)
                                       for weights_I in draws(images, resamples, seed)]))
    rows = [(name, share) for name in ("all", *a.dataset.skeleton.names) for share in SHARES]
    return [PckComparison(name=name, share=share, a=one, b=other, interval=span)
            for (name, share), one, other, span in zip(rows, of_a, of_b, within, strict=True)]


def _pck(counts_IRC: NDArray[np.int64], weights_I: NDArray[np.int64]) -> NDArray[np.float64]:
    """The shares of R rows' joints one after another, NaN where a draw has none."""
    sums_RC = np.tensordot(weights_I, counts_IRC, axes=1)
    with np.errstate(invalid="ignore"):
        shares: NDArray[np.float64] = (sums_RC[:, 1:] / sums_RC[:, :1]).ravel()
    return shares
