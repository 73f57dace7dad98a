"""Precision and recall of ranked results: COCO's AP and AR, for any weights of the images.

A weight says how often an image counts, so that a bootstrap resamples images without matching anybody again: its AP
is that of the set in which every image occurs so many times. V views, T thresholds, M results, N people, I images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Bool, Float, Int
from stagepose.evaluation.columns import Found
from stagepose.evaluation.matching import NOBODY, Truth, View

RECALLS: Float = np.linspace(0.0, 1.0, 101)
NO_TRUTH = -1.0  # COCO's value if there is no ground truth
LARGEST_AREA = 1e5**2  # of a person who counts, and of a result that is wrong when it finds nobody: COCO's "all"
_TINY = 1e-300  # so that no finds, of images that weigh nothing, divide; COCO adds 2e-16, which makes 1 a little less


@dataclass(frozen=True, eq=False)
class Curve:
    """One threshold of a view: places of the right finds in the ranking, and of the results that do not count."""

    right: Int
    skipped: Int
    skipped_before: Int  # how many of those stand before each right find


@dataclass(frozen=True, eq=False)
class RankedView:
    """The results of a view, best first, and what is needed to compute precision over recall again and again."""

    images: Int  # (M,) of the results
    people: Int  # (I,) that could be found in each image
    curves: tuple[Curve, ...]  # T
    share: float = 1.0  # the weight of a false positive

    def measure(self, weights_I: Int | None = None) -> tuple[Float, Float]:
        """AP (T,) and the greatest recall (T,) at each threshold; :data:`NO_TRUTH` where nobody could be found."""
        people = int(self.people.sum() if weights_I is None else self.people @ weights_I)
        if people == 0:
            nothing = np.full(len(self.curves), NO_TRUTH)
            return nothing, nothing
        weights_M = np.ones(len(self.images), dtype=np.int64) if weights_I is None else weights_I[self.images]
        seen_M = np.cumsum(weights_M)
        measured = [self._average_precision(curve, seen_M, weights_M, people) for curve in self.curves]
        return np.array([ap for ap, _ in measured]), np.array([recall for _, recall in measured])

    def _average_precision(self, curve: Curve, seen_M: Int, weights_M: Int, people: int) -> tuple[float, float]:
        """Mean over :data:`RECALLS` of the best precision at that recall or a higher one; and the recall reached."""
        if not len(curve.right):
            return 0.0, 0.0
        right = np.cumsum(weights_M[curve.right])
        skipped = np.concatenate([[0], np.cumsum(weights_M[curve.skipped])])
        wrong = seen_M[curve.right] - skipped[curve.skipped_before] - right
        precision = np.maximum.accumulate((right / np.maximum(self.share * wrong + right, _TINY))[::-1])[::-1]
        recall = right / people
        at = np.searchsorted(recall, RECALLS)
        return float(np.append(precision, 0.0)[at].sum() / len(RECALLS)), float(recall[-1])


def ranked(truth: Truth, found: Found, view: View, matched_TM: NDArray[np.int32],
           share: float = 1.0) -> RankedView:
    """A view's matches in the order of the scores; ``share`` is the weight of false positives."""
    order = np.argsort(-found.scores, kind="stable")
    nobody_TM = matched_TM == NOBODY
    skipped_TM = np.where(nobody_TM, view.outside[None], np.append(view.ignored, False)[matched_TM])[:, order]
    right_TM = ~nobody_TM[:, order] & ~skipped_TM
    curves = []
    for right_M, skipped_M in zip(right_TM, skipped_TM, strict=True):
        right, skipped = np.flatnonzero(right_M), np.flatnonzero(skipped_M)
        curves.append(Curve(right, skipped, np.searchsorted(skipped, right)))
    people = np.bincount(truth.images[~view.ignored], minlength=truth.image_count)
    return RankedView(found.images[order], people, tuple(curves), share)


def everybody(truth: Truth, found: Found) -> View:
    """The view of a whole set, which ends at :data:`LARGEST_AREA` as COCO's does."""
    return of_size(truth, found, 0.0, LARGEST_AREA)


def of_size(truth: Truth, found: Found, least: float, most: float) -> View:
    """People, and unmatched results, of an area within [``least``, ``most``], as COCO has it."""
    outside_N: Bool = (truth.areas < least) | (truth.areas > most)
    areas_M = found.areas
    return View(ignored=truth.ignored | outside_N, outside=(areas_M < least) | (areas_M > most))
