"""COCO's AP and AR of person boxes: how good a detector is, and what the pose network after it cannot make up for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.results import box_results
from stagepose.errors import DatasetError
from stagepose.evaluation.judge import judge_boxes, row
from stagepose.structures import Detections


@dataclass(frozen=True, kw_only=True)
class BoxMetrics:
    """COCO's statistics of person boxes in [0, 1], -1 where there is no ground truth; then what was counted.

    AP and AR are means over IoU thresholds .50:.05:.95; small is a segment's area below 32^2, medium to 96^2. AR at
    1, 10 and 100 boxes per image; all else, the recalls too, at 100.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    recall50: float  # share of people whose box is found with an IoU of at least .5
    recall75: float
    images: int  # of the split, with and without people
    people: int  # that could be found
    ignored: int  # crowds, which absorb any number of boxes
    boxes: int
    images_without_entry: int  # counted as if nothing was found there
    areas_of_boxes: int  # people whose segment's area the file leaves out; their box's makes them small or large

    def rows(self) -> list[tuple[str, str]]:
        """(label, value) lines of a table."""
        return [
            row("AP .50:.95", self.ap), row("AP .50", self.ap50), row("AP .75", self.ap75),
            row("AP small", self.ap_small), row("AP medium", self.ap_medium), row("AP large", self.ap_large),
            row("AR at 1", self.ar1), row("AR at 10", self.ar10), row("AR at 100", self.ar100),
            row("AR small", self.ar_small), row("AR medium", self.ar_medium), row("AR large", self.ar_large),
            row("recall .50", self.recall50), row("recall .75", self.recall75),
        ]  # fmt: skip

    def notes(self) -> list[str]:
        """What was evaluated and what was left out, a sentence each."""
        notes = [f"{self.boxes} boxes for {self.people} people in {self.images} images"]
        if self.ignored:
            notes.append(f"{self.ignored} crowds ignored")
        if self.images_without_entry:
            notes.append(f"{self.images_without_entry} images without detections, judged as if nothing was found")
        if self.areas_of_boxes:
            notes.append(f"{self.areas_of_boxes} people have no area; their boxes' areas make them small or large")
        return notes


def evaluate_boxes(dataset: CocoDataset, detections: Mapping[int, Detections]) -> BoxMetrics:
    """Evaluate person boxes by image id, on all images of a split.

    Every annotated person counts, with or without keypoints; a crowd is ignored and absorbs any number of boxes.
    """
    unknown = sorted(set(detections) - set(dataset.image_by_id))
    if unknown:
        raise DatasetError(
            f"detections: {len(unknown)} images, such as {unknown[0]}, are not in {dataset.shown}; "
            "detect on the images of the set to judge by"
        )
    in_order = {image_id: detections[image_id] for image_id in dataset.image_by_id if image_id in detections}
    found = box_results(in_order)  # ties do not hang on the mapping's order
    got = judge_boxes(dataset, found)
    return BoxMetrics(
        ap=got["AP_all"], ap50=got["AP_50"], ap75=got["AP_75"],
        ap_small=got["AP_small"], ap_medium=got["AP_medium"], ap_large=got["AP_large"],
        ar1=got["AR_all"], ar10=got["AR_second"], ar100=got["AR_third"],  # the library's names for 1, 10 and 100
        ar_small=got["AR_small"], ar_medium=got["AR_medium"], ar_large=got["AR_large"],
        recall50=got["AR_50"], recall75=got["AR_75"],
        images=len(dataset.images), people=int((~dataset.crowd).sum()), ignored=int(dataset.crowd.sum()),
        boxes=len(found), images_without_entry=len(set(dataset.image_by_id) - set(detections)),
        areas_of_boxes=int(np.isnan(dataset.areas).sum()),
    )  # fmt: skip
