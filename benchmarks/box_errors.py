"""What the detector's boxes are off by, beside what training shows -> box_errors.md.

``python benchmarks/box_errors.py VAL.json``: of the labelled people whom the detector finds, how far its box shows
another part of the picture than the annotated one, how far the augmentation of a preset moves it, and the AP in either
box (flip test): what boxes without errors, or networks that mind them less, could gain at most.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report import by_hand, commit, set_name, table
from research import OUTCOME, only

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.evaluation import compare, judge_keypoints, predict_dataset
from stagepose.evaluation.run import detect_dataset
from stagepose.files import write_text
from stagepose.geometry import fit_box, iou_matrix
from stagepose.predictor import DEFAULT_DETECTOR, load
from stagepose.runtime import DetectorModel, read_info
from stagepose.structures import Detections
from stagepose.training.presets import pose_preset

RESULT = Path(__file__).with_suffix(".md")
FOUND = 0.5  # IoU from which a box is a person's
LEAST_SCORE = 0.3
PRESETS = ("pose-small", "pose-medium")
Floats = NDArray[np.float64]


def boxes_of_people(dataset: CocoDataset, found: dict[int, Detections]) -> dict[int, Floats]:
    """The detector's box (4,) of each row of the set that it finds; a box is one person's, the nearest pairs first."""
    counted, boxes = dataset.with_keypoints(), {}
    for image_id, rows in dataset.rows_by_image.items():
        detections = found[image_id]
        rows, sure = rows[counted[rows]], detections.boxes[detections.scores >= LEAST_SCORE]
        iou = iou_matrix(dataset.boxes_xyxy[rows], sure)
        while iou.size and iou.max() >= FOUND:
            person, box = np.unravel_index(iou.argmax(), iou.shape)
            boxes[int(rows[person])] = sure[box]
            iou[person], iou[:, box] = 0, 0
    return boxes


def views(boxes_N4: Floats, aspect: float, padding: float) -> tuple[Floats, Floats]:
    """Middles (N, 2) and sides (N, 2) of what the network is shown."""
    shown = np.array([fit_box(box, aspect, padding) for box in boxes_N4])
    return (shown[:, :2] + shown[:, 2:]) / 2, shown[:, 2:] - shown[:, :2]


def row_of(what: str, shift_N2: Floats, zoom_N: Floats) -> list[str]:
    """Standard deviations and what 5 % exceed: of the shift along x and y in shares of the view, of the zoom."""
    columns = (*shift_N2.T, zoom_N)
    return [what, *(f"{column.std():.3f} / {np.quantile(np.abs(column), 0.95):.3f}" for column in columns)]


def drawn(preset: str) -> tuple[Floats, Floats]:
    """What a preset's augmentation does, without turns and body halves."""
    config, u = pose_preset(preset).pose.augment, np.random.default_rng(0).uniform(-1, 1, (100_000, 3))
    return config.shift * u[:, :2], np.log(1 + config.scale) * u[:, 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("val", type=Path, help="COCO keypoint file, pictures in images/ beside it")
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    dataset, folder = read_dataset(told.val), images_folder(told.val, None)
    detector = DetectorModel(DEFAULT_DETECTOR, threads=told.threads)
    found = boxes_of_people(dataset, detect_dataset(detector, dataset, folder))
    rows = np.array(sorted(found))
    kept = np.zeros(len(dataset.ids), dtype=bool)
    kept[rows] = True
    people, theirs = only(dataset, kept), np.stack([found[row] for row in rows.tolist()])
    moves, gains = [], []
    for name in PRESETS:
        info = read_info(name)
        aspect, padding = info.input_size[0] / info.input_size[1], info.box_padding
        middles, sides = views(dataset.boxes_xyxy[rows], aspect, padding)
        middles_found, sides_found = views(theirs, aspect, padding)
        moves += [row_of(f"{name}: the detector", (middles_found - middles) / sides,
                         np.log(sides_found[:, 0] / sides[:, 0])),
                  row_of(f"{name}: its preset's augmentation", *drawn(name))]
        predictor = load(name, None, threads=told.threads, flip=True)
        exact, off = (judge_keypoints(people, predict_dataset(predictor, people, folder, boxes={
            image: Detections(boxes=boxes[of], scores=np.ones(of.sum()))
            for image in dataset.image_by_id if (of := dataset.image_ids[rows] == image).any()}))
            for boxes in (dataset.boxes_xyxy[rows], theirs))
        told_apart = compare(exact, off)
        gains.append([name, f"{told_apart.a[0]:.4f}", f"{told_apart.b[0]:.4f}",
                      f"{told_apart.b[0] - told_apart.a[0]:+.4f}", str(told_apart.intervals[0])])
    lines = ["# Errors of the boxes", "", f"`python benchmarks/box_errors.py {set_name(told.val)}`, commit {commit()}, "
             f"{date.today()}: the {len(rows)} of {int(dataset.with_keypoints().sum())} labelled people of the public "
             f"validation subset whom {DEFAULT_DETECTOR} finds (a box of score {LEAST_SCORE:g} or more, IoU {FOUND:g} "
             "or more).", "", "Standard deviation / what 5 % exceed; shifts in shares of what the network is shown, "
             "zoom as a logarithm.", "", *table(("", "shift across", "shift down", "zoom"), moves), "",
             *table(("AP of these people, flip test", "annotated boxes", "the detector's", "difference",
                     "95 % interval"), gains), "", *by_hand(RESULT, OUTCOME)]
    write_text(RESULT, "\n".join(lines))


if __name__ == "__main__":
    main()
