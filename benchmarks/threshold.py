"""Precision, recall and F1 of the people that ``predict`` finds, by least score: why it starts where it does.

``python benchmarks/threshold.py VAL.json`` writes threshold.md. A find is right when it is the best so far of a person
at an OKS of at least .5; finds at least half inside a crowd, or somebody without labelled keypoints, do not count.
Cut by the person's and the box's score, as ``predict`` does, and beside it by the box's alone.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import numpy as np
from report import commit, table

from stagepose.coco import CocoDataset, read_dataset
from stagepose.files import write_text
from stagepose.geometry import shared_areas
from stagepose.images import read_image
from stagepose.oks import oks_of_person
from stagepose.predictor import DEFAULT_DETECTOR, load
from stagepose.runtime import read_info, shipped
from stagepose.structures import Person

ROOT = Path(__file__).resolve().parents[1]
THRESHOLDS = (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)
Find = tuple[float, float, bool]  # score of the person, of the box, right or not


def judged(found: list[Person], dataset: CocoDataset, rows: np.ndarray) -> list[Find]:
    """Every find of one picture that counts, best first; ``rows`` are the picture's people in the data set."""
    labelled, free = dataset.with_keypoints()[rows], np.ones(len(rows), dtype=bool)
    others, finds = dataset.boxes_xyxy[rows[~labelled]], []
    truth, sigmas = (dataset.keypoints[rows], dataset.areas[rows], dataset.boxes_xyxy[rows]), dataset.skeleton.sigmas
    for person in found:
        everywhere = np.repeat(person.keypoints[None], len(rows), axis=0)
        oks = oks_of_person(*truth, everywhere, np.array(sigmas)) * labelled * free
        right = bool(len(rows)) and oks.max() >= 0.5
        if right:
            free[oks.argmax()] = False
        if right or not inside(person.box, others):
            finds.append((person.score, person.box_score, right))
    return finds


def inside(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether at least half of a box lies in one of the others."""
    return bool((shared_areas(box, others) >= 0.5 * max(float((box[2:] - box[:2]).prod()), 1.0)).any())


def cut(scores: np.ndarray, right: np.ndarray, people: int) -> list[list[str]]:
    """Precision, recall and F1 from each threshold on."""
    lines = []
    for threshold in THRESHOLDS:
        kept, hits = int((scores >= threshold).sum()), int(right[scores >= threshold].sum())
        lines.append([f"{n:.3f}" for n in (hits / max(kept, 1), hits / people, 2 * hits / (kept + people))])
    return lines


def everybody(path: Path, dataset: CocoDataset, pose: str) -> list[Find]:
    """The finds of all pictures."""
    predictor, finds = load(pose, threshold=0.0, box_threshold=0.1), list[Find]()
    for image in dataset.images:
        found = predictor.people(read_image(path.parent / "images" / image.file_name))
        finds += judged(found, dataset, np.flatnonzero(dataset.image_ids == image.id))
    return finds


def main() -> None:
    path = Path(sys.argv[1])
    dataset = read_dataset(path)
    people = int(dataset.with_keypoints().sum())
    lines = ["# The least score of a person", "",
             f"`python benchmarks/threshold.py {path.parent.name}/{path.name}`, commit {commit()}, {date.today()}: "
             f"who is found in boxes of {DEFAULT_DETECTOR} on {len(dataset.images)} pictures with "
             f"{people} labelled people (the public validation subset), right from an OKS of .5 on."]
    for pose in (name for name in shipped() if read_info(name).kind == "pose"):
        score, box_score, right = (np.array(column) for column in zip(*everybody(path, dataset, pose), strict=True))
        by_both, by_box = (cut(least, right, people) for least in (np.minimum(score, box_score), box_score))
        rows = [[f"{threshold:g}", *ours, *boxes] for threshold, ours, boxes in
                zip(THRESHOLDS, by_both, by_box, strict=True)]
        headings = ("least score", "precision", "recall", "F1", "of the box alone: precision", "recall", "F1")
        lines += ["", f"## {pose}", "", f"`predict` starts at {load(pose, None).threshold:g}.", "",
                  *table(headings, rows)]
    write_text(ROOT / "benchmarks/threshold.md", "\n".join([*lines, ""]))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
