"""COCO's keypoint AP and AR of a list of results, on all images of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.predictions import check_predictions
from stagepose.coco.problems import as_error, errors, shown_path
from stagepose.errors import DatasetError
from stagepose.evaluation.judge import PERSON, Row, judge, row
from stagepose.oks import COCO_MAX_PEOPLE


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
    ignored: int  # crowds and people without labelled keypoints: neither missed nor wrongly found
    results: int
    beyond_limit: int  # results that did not count, because an image has at most 20
    with_bbox: int  # results that carry a `bbox`, which was not looked at
    areas_zero: int  # people of area 0, whom only a perfect result finds
    areas_estimated: int  # people whose area is an estimate, marked so in the file

    def rows(self) -> list[tuple[str, str]]:
        """(label, value) lines of a table."""
        return [
            row("AP .50:.95", self.ap), row("AP .50", self.ap50), row("AP .75", self.ap75),
            row("AP medium", self.ap_medium), row("AP large", self.ap_large),
            row("AR .50:.95", self.ar), row("AR .50", self.ar50), row("AR .75", self.ar75),
            row("AR medium", self.ar_medium), row("AR large", self.ar_large),
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """What was judged and what was left out, a sentence each."""
        notes = [f"{self.results} results for {self.people} people in {self.images} images"]
        if self.ignored:
            notes.append(f"{self.ignored} crowds or people without labelled keypoints ignored")
        if self.beyond_limit:
            notes.append(f"{self.beyond_limit} results beyond the {COCO_MAX_PEOPLE} best of their image not counted")
        if self.with_bbox:
            notes.append(f"{self.with_bbox} results carry 'bbox', which was not looked at; COCO's code would take its "
                         "area for the person's, and give another AP medium and AP large")
        if self.areas_zero:
            notes.append(f"{self.areas_zero} people have an area of 0, so that nothing but a perfect result finds them")
        if self.areas_estimated:
            notes.append(f"{self.areas_estimated} areas are estimates: this AP compares with no other")
        return notes


def evaluate_keypoints(dataset: CocoDataset, results: list[dict[str, Any]]) -> KeypointMetrics:
    """Judge COCO keypoint results (``image_id``, ``category_id``, ``keypoints`` as x, y, score, ``score``).

    The numbers are pycocotools'; the sigmas are those of the set's skeleton. All images of the set count: what is found
    where nobody is, is wrong. Raises one :class:`DatasetError` with all problems of the results, since evaluators give
    perfect marks to NaN. No ``bbox`` of a result is looked at: COCO would sort results into medium and large by it.
    """
    wrong = errors(check_predictions(results, dataset))
    if wrong:
        raise as_error("results", wrong)
    got = judge(dataset, _known_areas(dataset), [_fresh(result) for result in results], "keypoints")
    counted_N = dataset.with_keypoints()
    per_image = Counter(result["image_id"] for result in results)
    return KeypointMetrics(
        ap=got["AP_all"], ap50=got["AP_50"], ap75=got["AP_75"], ap_medium=got["AP_medium"], ap_large=got["AP_large"],
        ar=got["AR_all"], ar50=got["AR_50"], ar75=got["AR_75"], ar_medium=got["AR_medium"], ar_large=got["AR_large"],
        images=len(dataset.images), people=int(counted_N.sum()), ignored=int((~counted_N).sum()), results=len(results),
        beyond_limit=sum(max(0, count - COCO_MAX_PEOPLE) for count in per_image.values()),
        with_bbox=sum(bool(result.get("bbox")) for result in results),
        areas_zero=int((dataset.areas[counted_N] == 0).sum()),
        areas_estimated=_estimated_areas(dataset),
    )  # fmt: skip


def _known_areas(dataset: CocoDataset) -> NDArray[np.float64]:
    """The people's areas, by which OKS is measured; :class:`DatasetError` where the file leaves some out."""
    missing = np.flatnonzero(np.isnan(dataset.areas))
    if len(missing):
        raise DatasetError(
            f"{shown_path(dataset.path)}: {len(missing)} of {len(dataset)} people have no 'area', such as annotation "
            f"{dataset.ids[missing[0]]}; OKS is measured by the area of the person's segment. Add it to the file, or "
            "let 'stagepose check --write-clean OUT --estimate-areas' take it from the boxes"
        )
    return dataset.areas


def _estimated_areas(dataset: CocoDataset) -> int:
    return sum(annotation.get("area_source") == "estimated" for annotation in dataset.raw.get("annotations", []))


def _fresh(result: Mapping[str, Any]) -> Row:
    """A result that the library may write into, with nothing that it might read besides."""
    return {
        "image_id": result["image_id"],
        "category_id": PERSON,
        "keypoints": [float(value) for value in result["keypoints"]],
        "score": float(result["score"]),
    }


def gather_by_person(parts: Iterable[Mapping[int, Row]]) -> list[Row]:
    """Results of the parts of a split (ranks, shards), keyed by annotation id, as one list: each person once.

    Parts padded to equal length repeat people; sorting by id makes ties fall the same way for any number of parts.
    """
    whole: dict[int, Row] = {}
    for part in parts:
        for person, result in part.items():
            whole.setdefault(person, result)
    return [whole[person] for person in sorted(whole)]
