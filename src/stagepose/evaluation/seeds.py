"""Whether one way of training is better than another: several runs of each, which differ in their seeds only.

Two levels of chance: which pictures a set holds, and which seeds were trained. A draw of the pictures is the same for
all runs; on it, seeds are drawn with replacement. What few seeds deviate from their own mean is too little, and two or
three say little about how much: deviations are stretched by sqrt(n / (n - 1)), and by Student's t over the normal
distribution's quantile, so that the interval is the t interval's width where pictures play no part.

B draws, R runs, S numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stagepose.aliases import Float
from stagepose.evaluation.bootstrap import RESAMPLES, Interval, draws, numbers_on, percentiles
from stagepose.evaluation.keypoints import LABELS, Judgement

Z = 1.959964  # 97.5th percentile of the normal distribution
T_OF_FEW = (12.706, 4.303, 3.182, 2.776)  # Student's of 1 to 4 degrees of freedom


def student(freedom: int) -> float:
    """97.5th percentile of Student's t: by table for few degrees of freedom, else to three digits by its expansion."""
    if freedom <= len(T_OF_FEW):
        return T_OF_FEW[freedom - 1]
    first, second, third = Z**3 + Z, 5 * Z**5 + 16 * Z**3 + 3 * Z, 3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z
    return Z + first / (4 * freedom) + second / (96 * freedom**2) + third / (384 * freedom**3)


@dataclass(frozen=True, kw_only=True)
class SeedComparison:
    """COCO's ten numbers, means over the runs of ``a`` and of ``b``, and the intervals of ``b`` - ``a``.

    ``intervals`` are over pictures and seeds, ``pictures`` over pictures alone; None without ground truth.
    """

    a: list[float]
    b: list[float]
    intervals: list[Interval | None]
    pictures: list[Interval | None]
    runs: tuple[int, int]
    paired: bool
    images: int

    def rows(self) -> list[tuple[str, ...]]:
        """(label, a, b, difference, interval, interval over pictures alone) lines of a table."""
        nothing = "no ground truth"
        return [
            (label, f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", _shown(within), _shown(alone)) if within and alone
            else (label, nothing, nothing, "", "", "")
            for label, a, b, within, alone in zip(LABELS, self.a, self.b, self.intervals, self.pictures, strict=True)
        ]

    def verdict(self, a: str = "A", b: str = "B") -> str:
        """A plain sentence about AP, never based on pictures alone."""
        within, alone, difference = self.intervals[0], self.pictures[0], self.b[0] - self.a[0]
        if within is None or alone is None:
            return "There is no ground truth to compare by."
        if within.low == within.high == 0:
            return f"{a} and {b} are equal on every draw of these {self.images} pictures, whatever the seed."
        seeds = f"{self.runs[0]} seeds" if len(set(self.runs)) == 1 else f"{self.runs[0]} and {self.runs[1]} seeds"
        span = (f"95 % interval for {b} - {a} over these {self.images} pictures and {seeds}: {_shown(within)}; over "
                f"pictures alone {_shown(alone)}")
        if within.low > 0 or within.high < 0:
            winner, loser = (b, a) if within.low > 0 else (a, b)
            return (f"{winner} is better than {loser} by {abs(difference):.3f} AP ({span}): neither the pictures nor "
                    "the seeds explain it.")
        return (f"The difference of {difference:+.3f} AP ({span}) may be the choice of pictures and seeds. Train more "
                "seeds, use more pictures, or call them equal.")


def _shown(within: Interval) -> str:
    return f"{within.low:+.3f} to {within.high:+.3f}"


def compare_runs(a: Sequence[Judgement], b: Sequence[Judgement], *, paired: bool = False, resamples: int = RESAMPLES,
                 seed: int = 0) -> SeedComparison:
    """Runs of two trainings on one set, two or more on a side at least; ``paired``: run n of both had the same seed."""
    images, runs = a[0].truth.image_count, (len(a), len(b))
    means = {"a": _means(a), "b": _means(b)}
    if images == 0:
        nothing: list[Interval | None] = [None] * len(LABELS)
        return SeedComparison(**means, intervals=nothing, pictures=nothing, runs=runs, paired=paired, images=0)
    drawn_BRS = np.array([[numbers_on(run, weights_I) for run in (*a, *b)]
                          for weights_I in draws(images, resamples, seed)])
    a_BRS, b_BRS = drawn_BRS[:, : len(a)], drawn_BRS[:, len(a) :]
    change_BS = b_BRS.mean(axis=1) - a_BRS.mean(axis=1)
    chance_BS = chance_of_seeds(a_BRS, b_BRS, paired, np.random.default_rng([seed, 1]))  # not the pictures' draws
    return SeedComparison(**means, intervals=percentiles(change_BS + chance_BS), pictures=percentiles(change_BS),
                          runs=runs, paired=paired, images=images)


def chance_of_seeds(a_BRS: Float, b_BRS: Float, paired: bool, rng: np.random.Generator) -> Float:
    """(B, S) how far ``b`` - ``a`` moves on each draw of the pictures when seeds are drawn anew.

    A side of one run is taken to vary as the other does.
    """
    if paired:
        pairs = a_BRS.shape[1]
        return _redrawn(b_BRS - a_BRS, pairs, rng) * student(pairs - 1) / Z
    one_a, one_b = a_BRS.shape[1], b_BRS.shape[1]
    like_a, like_b = a_BRS if one_a > 1 else b_BRS, b_BRS if one_b > 1 else a_BRS
    return (_redrawn(like_b, one_b, rng) - _redrawn(like_a, one_a, rng)) * student(one_a + one_b - 2) / Z


def _redrawn(runs_BRS: Float, count: int, rng: np.random.Generator) -> Float:
    """(B, S) deviation from the mean of all runs of the mean of ``count`` drawn with replacement."""
    draws_B, runs = runs_BRS.shape[:2]
    off_BRS = runs_BRS - runs_BRS.mean(axis=1, keepdims=True)
    picked_BC = rng.integers(0, runs, (draws_B, count))
    picked_BCS = np.take_along_axis(off_BRS, picked_BC[..., None], axis=1)
    return np.asarray(picked_BCS.mean(axis=1) * math.sqrt(runs / (runs - 1)))


def _means(runs: Sequence[Judgement]) -> list[float]:
    means: list[float] = np.mean([run.numbers() for run in runs], axis=0).tolist()
    return means
