"""COCO's keypoint AP and AR of a list of results, on all images of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import CocoDataset
from stagepose.evaluation.columns import Found, read_found
from stagepose.evaluation.judge import Row, row
from stagepose.evaluation.matching import Pairs, Truth, match, pairs_of, truth_of
from stagepose.evaluation.precision import LARGEST_AREA, RankedView, everybody, of_size, ranked
from stagepose.oks import COCO_MAX_PEOPLE

# Areas in pixels; COCO labels nobody smaller with keypoints
MEDIUM, LARGE = (32.0**2, 96.0**2), (96.0**2, LARGEST_AREA)
AT_50, AT_75 = 0, 5  # of the thresholds
NUMBERS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
LABELS = ("AP .50:.95", "AP .50", "AP .75", "AP medium", "AP large",
          "AR .50:.95", "AR .50", "AR .75", "AR medium", "AR large")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KeypointMetrics:
    """COCO's ten keypoint statistics in [0, 1], -1 where there is no ground truth; then what was counted.

    AP and AR are means over OKS thresholds .50:.05:.95; medium is an area of 32^2 to 96^2, large from 96^2; at most 20
    results per image count.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    ap_large: float
    ar: float
    ar50: float
    ar75: float
    ar_medium: float
    ar_large: float
    images: int  # of the split, with and without people
    people: int  # that could be found
    ignored: int  # crowds and people without labelled keypoints: neither misses nor false positives
    results: int
    beyond_limit: int  # results that did not count, because an image has at most 20
    with_bbox: int  # results that carry a `bbox`, which was ignored
    areas_zero: int  # people of area 0, whom only a perfect result matches
    areas_estimated: int  # people whose area is an estimate, marked so in the file

    def numbers(self) -> list[float]:
        """COCO's ten, in its order."""
        return [getattr(self, name) for name in NUMBERS]

    def rows(self) -> list[tuple[str, str]]:
        """(label, value) lines of a table."""
        return [row(label, value) for label, value in zip(LABELS, self.numbers(), strict=True)]

    def notes(self) -> list[str]:
        """What was evaluated and what was left out, a sentence each."""
        notes = [f"{self.results} results for {self.people} people in {self.images} images"]
        if self.ignored:
            notes.append(f"{self.ignored} crowds or people without labelled keypoints ignored")
        if self.beyond_limit:
            notes.append(f"{self.beyond_limit} results beyond the {COCO_MAX_PEOPLE} best of their image not counted")
        if self.with_bbox:
            notes.append(f"{self.with_bbox} results carry 'bbox', which was ignored; COCO's code would take its "
                         "area for the person's, and give another AP medium and AP large")
        if self.areas_zero:
            notes.append(f"{self.areas_zero} people have an area of 0, so that nothing but a perfect result finds them")
        if self.areas_estimated:
            notes.append(f"{self.areas_estimated} areas are estimates: this AP compares with no other")
        return notes


@dataclass(frozen=True, eq=False)
class Judgement:
    """Results of a set, checked and matched, from which the measures are computed."""

    dataset: CocoDataset
    truth: Truth
    found: Found

    @cached_property
    def pairs(self) -> Pairs:
        """OKS of everybody within each image."""
        return pairs_of(self.truth, self.found)

    @cached_property
    def sizes(self) -> tuple[RankedView, RankedView, RankedView]:
        """Everybody, medium people, large ones: the views that COCO's ten numbers come from."""
        views = [everybody(self.truth, self.found), *(of_size(self.truth, self.found, *r) for r in (MEDIUM, LARGE))]
        whole, medium, large = (
            ranked(self.truth, self.found, view, matched_TM)
            for view, matched_TM in zip(views, match(self.truth, self.found, self.pairs, views), strict=True)
        )
        return whole, medium, large

    def numbers(self, weights_I: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """COCO's ten, in the order of :data:`NUMBERS`; ``weights_I``: how often each image counts."""
        (ap, ar), (ap_m, ar_m), (ap_l, ar_l) = (view.measure(weights_I) for view in self.sizes)
        return np.array([value for whole, medium, large in ((ap, ap_m, ap_l), (ar, ar_m, ar_l)) for value in (
            whole.mean(), whole[AT_50], whole[AT_75], medium.mean(), large.mean())])  # fmt: skip

    def ap(self, weights_I: NDArray[np.int64] | None = None) -> float:
        """The first of them."""
        return float(self.sizes[0].measure(weights_I)[0].mean())


def judge_keypoints(dataset: CocoDataset, results: list[dict[str, Any]]) -> Judgement:
    """COCO keypoint results, checked and ready to be measured; raises like :func:`evaluate_keypoints`."""
    found = read_found(dataset, results)
    return Judgement(dataset, truth_of(dataset), found)


def evaluate_keypoints(dataset: CocoDataset, results: list[dict[str, Any]]) -> KeypointMetrics:
    """Evaluate COCO keypoint results (``image_id``, ``category_id``, ``keypoints`` as x, y, score, ``score``).

    The numbers are pycocotools'; the sigmas are those of the set's skeleton. All images of the set count: results where
    nobody is are false positives. Raises one :class:`DatasetError` with all problems of the results, since evaluators
    give perfect scores to NaN. A ``bbox`` in a result is ignored: COCO would sort results into medium and large by it.
    """
    return metrics_of(judge_keypoints(dataset, results))


def metrics_of(judged: Judgement) -> KeypointMetrics:
    """The ten numbers and the counts."""
    dataset, found = judged.dataset, judged.found
    counted_N = dataset.with_keypoints()
    return KeypointMetrics(
        **dict(zip(NUMBERS, judged.numbers().tolist(), strict=True)),
        images=len(dataset.images), people=int(counted_N.sum()), ignored=int((~counted_N).sum()), results=found.listed,
        beyond_limit=found.listed - len(found), with_bbox=found.with_bbox,
        areas_zero=int((dataset.areas[counted_N] == 0).sum()), areas_estimated=_estimated_areas(dataset),
    )  # fmt: skip


def _estimated_areas(dataset: CocoDataset) -> int:
    return sum(annotation.get("area_source") == "estimated" for annotation in dataset.raw.get("annotations", []))


def gather_by_person(parts: Iterable[Mapping[int, Row]]) -> list[Row]:
    """Results of the parts of a split (ranks, shards), keyed by annotation id, as one list: each person once.

    Parts padded to equal length repeat people; sorting by id makes ties fall the same way for any number of parts.
    """
    whole: dict[int, Row] = {}
    for part in parts:
        for person, result in part.items():
            whole.setdefault(person, result)
    return [whole[person] for person in sorted(whole)]
