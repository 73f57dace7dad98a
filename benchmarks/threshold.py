"""Precision, recall and F1 of the detector's boxes by least score: why ``predict`` starts where it does.

``python benchmarks/threshold.py VAL.json`` writes threshold.md. A box is right when it is the best so far of a person
at an IoU of at least .5; boxes half inside a crowd do not count.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np

from stagepose.coco import CocoDataset, read_dataset
from stagepose.evaluation import detect_dataset
from stagepose.files import write_text
from stagepose.geometry import iou_matrix
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_THRESHOLD
from stagepose.runtime import DetectorModel, resolve
from stagepose.structures import Detections

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def judged(found: Detections, people: np.ndarray, crowds: np.ndarray) -> list[tuple[float, bool]]:
    """(score, right or not) of every box that counts, best first."""
    free = np.ones(len(people), dtype=bool)
    rows = []
    for box, score in zip(found.boxes, found.scores, strict=True):
        overlap = iou_matrix(box[None], people)[0] * free if len(people) else np.zeros(1)
        if overlap.max() >= 0.5:
            free[overlap.argmax()] = False
            rows.append((float(score), True))
        elif not in_crowd(box, crowds):
            rows.append((float(score), False))
    return rows


def in_crowd(box: np.ndarray, crowds: np.ndarray) -> bool:
    inside = np.clip(np.minimum(box[2:], crowds[:, 2:]) - np.maximum(box[:2], crowds[:, :2]), 0, None).prod(1)
    return bool((inside >= 0.5 * max(float((box[2:] - box[:2]).prod()), 1.0)).any())


def table(dataset: CocoDataset, found: dict[int, Detections]) -> list[str]:
    rows: list[tuple[float, bool]] = []
    for image_id, boxes in found.items():
        mine = dataset.image_ids == image_id
        rows += judged(boxes, dataset.boxes_xyxy[mine & ~dataset.crowd], dataset.boxes_xyxy[mine & dataset.crowd])
    scores, right = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    people = int((~dataset.crowd).sum())
    lines = []
    for threshold in THRESHOLDS:
        kept, hits = int((scores >= threshold).sum()), int(right[scores >= threshold].sum())
        numbers = hits / max(kept, 1), hits / people, 2 * hits / (kept + people)
        lines.append(f"| {threshold} | " + " | ".join(f"{n:.3f}" for n in numbers) + " |")
    return lines


def main() -> None:
    path = Path(sys.argv[1])
    dataset = read_dataset(path)
    found = detect_dataset(DetectorModel(resolve(DEFAULT_DETECTOR)), dataset, path.parent / "images")
    commit = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], check=True,
                            capture_output=True, text=True).stdout.strip()
    lines = ["# The least score of a box", "",
             f"`python benchmarks/threshold.py {path.parent.name}/{path.name}`, commit {commit}, {date.today()}: boxes "
             f"of {DEFAULT_DETECTOR} on {len(dataset.images)} pictures with {int((~dataset.crowd).sum())} people (the "
             f"public validation subset). `predict` starts at {DEFAULT_THRESHOLD}.", "",
             "| least score | precision | recall | F1 |", "|---|---|---|---|", *table(dataset, found), ""]
    write_text(ROOT / "benchmarks/threshold.md", "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
