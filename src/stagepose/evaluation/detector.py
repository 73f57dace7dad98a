"""A detector judged whole: COCO's box numbers, who is found, and what the pose network loses by its boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stagepose.aliases import Progress
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.parsedfile import ImageInfo
from stagepose.evaluation.boxes import BoxMetrics, evaluate_boxes
from stagepose.evaluation.judge import row
from stagepose.evaluation.keypoints import KeypointMetrics, evaluate_keypoints
from stagepose.evaluation.precision import NO_TRUTH
from stagepose.evaluation.recall import Recall, recall_of_boxes
from stagepose.evaluation.run import predict_dataset
from stagepose.structures import Detections

if TYPE_CHECKING:
    from stagepose.predictor import Predictor

MOST_PEOPLE = 20  # boxes of a picture that go to the pose network: COCO judges no more people
LEAST_SCORE = 0.05  # of such a box; lower ones change an AP in its third digit and cost most of the time
SURE = 0.3  # a box of this score in a picture without people is a false alarm


@dataclass(frozen=True, kw_only=True)
class DetectorMetrics:
    """COCO's numbers, the recalls behind them, and boxes of at least :data:`SURE` in a picture without people."""

    boxes: BoxMetrics
    recalls: tuple[Recall, ...]
    false_alarms: float | None = None  # a picture; None without such pictures

    def rows(self) -> list[tuple[str, str]]:
        """(label, value) lines of a table; the recalls have one of their own."""
        rows = self.boxes.rows()
        if self.false_alarms is not None:
            rows.append((f"boxes from {SURE} on in a picture of nobody", f"{self.false_alarms:.2f}"))
        return rows


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """Keypoints of one pose network in a detector's boxes, and in the annotated ones."""

    detected: KeypointMetrics
    annotated: KeypointMetrics

    @property
    def share(self) -> float:
        """Of the AP with annotated boxes that is left; -1 where that is 0 or nothing was there to be found."""
        return self.detected.ap / self.annotated.ap if self.annotated.ap > 0 else NO_TRUTH

    def rows(self) -> list[tuple[str, str]]:
        """(label, value) lines of a table."""
        return [row("keypoint AP in these boxes", self.detected.ap),
                row("keypoint AP in annotated boxes", self.annotated.ap), row("share of it", self.share)]


def evaluate_detector(dataset: CocoDataset, detections: Mapping[int, Detections],
                      of_nobody: Sequence[Detections] = ()) -> DetectorMetrics:
    """Judge person boxes by image id; ``of_nobody`` are those of pictures without people, which count as the others."""
    whole, boxes = _with_pictures_of_nobody(dataset, detections, of_nobody)
    alarms = float(np.mean([(found.scores >= SURE).sum() for found in of_nobody])) if of_nobody else None
    return DetectorMetrics(boxes=evaluate_boxes(whole, boxes), recalls=tuple(recall_of_boxes(dataset, detections)),
                           false_alarms=alarms)


def _with_pictures_of_nobody(
    dataset: CocoDataset, detections: Mapping[int, Detections], of_nobody: Sequence[Detections]
) -> tuple[CocoDataset, Mapping[int, Detections]]:
    start = max(dataset.image_by_id, default=0) + 1
    more = dict(enumerate(of_nobody, start))
    pictures = tuple(ImageInfo(number, "", 1, 1) for number in more)
    return replace(dataset, images=dataset.images + pictures), {**detections, **more}


def evaluate_end_to_end(predictor: Predictor, dataset: CocoDataset, images_dir: str | Path,
                        detections: Mapping[int, Detections], progress: Progress | None = None) -> EndToEnd:
    """Keypoint AP behind a detector, and behind annotated boxes: what the detector costs the pose network.

    Of a picture's boxes the :data:`MOST_PEOPLE` best from :data:`LEAST_SCORE` on are looked at.
    """
    best = {image_id: found.best(MOST_PEOPLE, LEAST_SCORE) for image_id, found in detections.items()}
    detected = predict_dataset(predictor, dataset, images_dir, boxes=best, progress=progress)
    annotated = predict_dataset(predictor, dataset, images_dir, boxes="ground-truth", progress=progress)
    return EndToEnd(detected=evaluate_keypoints(dataset, detected), annotated=evaluate_keypoints(dataset, annotated))
