"""What hard negatives do to scores: ``python benchmarks/negatives.py VAL.json --pose BEFORE.onnx WITHOUT.onnx ...``.

Writes negatives.md. Of every model, without flip test: AP in annotated boxes and behind the detector, each beside the
first model's; and how well people's scores part finds of somebody from boxes without a person (those that people's
cover by a tenth at most).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from absent import parted
from default_models import FLOOR
from ranking import difference
from report import by_hand, commit, models_asked, set_name, table
from threshold import Find, judged

from stagepose.coco import CocoDataset, keypoint_result, read_dataset
from stagepose.evaluation import detect_dataset, judge_keypoints, predict_dataset
from stagepose.evaluation.keypoints import Judgement
from stagepose.files import write_text
from stagepose.geometry import covered_shares
from stagepose.images import read_image
from stagepose.making.mining import MiningConfig
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor, load
from stagepose.structures import Detections, Person

MOST = 100  # boxes of a picture, as in accuracy.py
STEPS = np.arange(0.1, 0.9, 0.01)  # thresholds that the best F1 is looked for among
OUT = Path(__file__).with_name("negatives.md")


@dataclass(frozen=True)
class Told:
    """What one model gives: AP in annotated boxes and behind the detector; its finds, and scores where nobody is."""

    annotated: Judgement
    behind: Judgement
    finds: list[Find]
    nobody: list[float]

    def row(self, name: str, first: Told, people: int) -> list[str]:
        score, box_score, right = (np.array(column) for column in zip(*self.finds, strict=True))
        least = np.minimum(score, box_score)
        best = max((2 * float(right[least >= step].sum()) / (int((least >= step).sum()) + people), step)
                   for step in STEPS)
        by = [(f"{mine.ap():.4f}", "" if self is first else difference(before, mine))
              for before, mine in ((first.annotated, self.annotated), (first.behind, self.behind))]
        return [name, *by[0], *by[1], f"{best[0]:.3f} from {best[1]:.2f} on", f"{np.median(self.nobody):.3f}",
                f"{parted(score[right], np.array(self.nobody)):.3f}"]


def told(predictor: Predictor, dataset: CocoDataset, folder: Path, boxes: Mapping[int, Detections]) -> Told:
    """In annotated boxes, and in ``boxes`` by image id."""
    finds, nobody, behind = list[Find](), list[float](), list[dict[str, Any]]()
    everybody = predictor.with_config(threshold=0.0, box_threshold=FLOOR)
    for image in dataset.images:
        rows = dataset.rows_by_image[image.id]
        found = everybody.people(read_image(folder / image.file_name), boxes[image.id])
        finds += judged(found, dataset, rows)
        nobody += without_anybody(found, dataset.boxes_xyxy[rows])
        behind += [keypoint_result(image.id, person) for person in found]
    return Told(judge_keypoints(dataset, predict_dataset(predictor, dataset, folder)), judge_keypoints(dataset, behind),
                finds, nobody)


def without_anybody(found: Sequence[Person], people_P4: np.ndarray) -> list[float]:
    """Scores of finds in boxes that people's boxes cover so little that they would be mined."""
    boxes = np.array([person.box for person in found]).reshape(-1, 4)
    off = covered_shares(boxes, people_P4).max(1, initial=0.0) <= MiningConfig.overlap
    return [person.score for person, far in zip(found, off, strict=True) if far]


def main() -> None:
    asked = models_asked(__doc__, DEFAULT_POSE)
    dataset, folder = read_dataset(asked.val), asked.val.parent / "images"
    people, rows, first = int(dataset.with_keypoints().sum()), [], None
    detector = load(DEFAULT_POSE, DEFAULT_DETECTOR, threads=asked.threads).detector
    assert detector is not None
    boxes = {image_id: found.best(MOST, FLOOR) for image_id, found in detect_dataset(detector, dataset, folder).items()}
    for name in asked.pose:
        one = told(load(name, None, threads=asked.threads), dataset, folder, boxes)
        first = first or one
        rows.append(one.row(Path(name).stem, first, people))
        sys.stdout.write(" | ".join(rows[-1]) + "\n")
    lines = ["# Hard negatives", "", f"`python benchmarks/negatives.py {set_name(asked.val)} --pose ...`, commit "
             f"{commit()}, {date.today()}: {people} people of the public validation subset, no flip test. Behind "
             f"{DEFAULT_DETECTOR}: its {MOST} best boxes of a picture from {FLOOR:g} on. F1 as in threshold.md, its "
             "threshold chosen on this subset.", "",
             *table(("model", "AP, annotated boxes", "against the first", "AP behind the detector", "against the first",
                     "best F1 of a person's score", "median score of nobody", "somebody above nobody"), rows), "",
             *by_hand(OUT, "## What it says")]
    write_text(OUT, "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
