"""Which people a detector finds, and with how many boxes: no pose network recovers those who are missed here.

Boxes are matched as COCO does: best first, each to the free person it overlaps most. A person found by the k-th box of
its picture is found whenever at least k boxes are kept, so that one matching gives the recall at every number of boxes.
N people, M boxes of a picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import CocoDataset
from stagepose.evaluation.judge import row
from stagepose.evaluation.precision import NO_TRUTH
from stagepose.geometry import iou_matrix
from stagepose.structures import Detections

OVERLAPS = (0.5, 0.75)  # IoU from which a box has found a person
KEPT = (1, 2, 5, 10, 20, 50, 100)  # boxes of a picture, best first; COCO judges at most 100
SMALL, LARGE = 32.0**2, 96.0**2  # COCO's bounds of a segment's area
NEVER = np.iinfo(np.int64).max  # rank of the box that finds a person whom none finds


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Shares of people found at one overlap; -1 where a group is empty. Crowds do not count."""

    overlap: float
    all: float
    with_keypoints: float
    small: float
    medium: float
    large: float
    kept: tuple[tuple[int, float, float], ...]  # boxes a picture, recall of all, recall of people with keypoints

    def shares(self) -> dict[str, float]:
        """By group of people, and by the number of boxes kept."""
        of_kept = {f"{most} boxes kept{who}": value for most, everyone, keypoints in self.kept
                   for who, value in (("", everyone), (", with keypoints", keypoints))}  # fmt: skip
        return {"everybody": self.all, "people with keypoints": self.with_keypoints, "small": self.small,
                "medium": self.medium, "large": self.large, **of_kept}


def recall_rows(recalls: Sequence[Recall]) -> list[tuple[str, ...]]:
    """Lines of a table with a column for each overlap."""
    shares = [recall.shares() for recall in recalls]
    return [(name, *(row(name, share[name])[1] for share in shares)) for name in shares[0]] if shares else []


def recall_of_boxes(dataset: CocoDataset, detections: Mapping[int, Detections],
                    overlaps: Iterable[float] = OVERLAPS) -> list[Recall]:
    """Who of a set is found at each overlap: by size, with keypoints or without, and by the number of boxes kept.

    A person without an area counts by the box's; all but ``kept`` is at COCO's 100 boxes a picture.
    """
    people_N, areas_N = ~dataset.crowd, dataset.areas_or_boxes()
    groups = {"all": people_N, "with_keypoints": dataset.with_keypoints(), "small": people_N & (areas_N < SMALL),
              "medium": people_N & (areas_N >= SMALL) & (areas_N < LARGE), "large": people_N & (areas_N >= LARGE)}
    found = []
    for overlap in overlaps:
        ranks_N = finding_ranks(dataset, detections, overlap)
        kept = tuple((most, _share(ranks_N < most, people_N), _share(ranks_N < most, groups["with_keypoints"]))
                     for most in KEPT)
        shares = {name: _share(ranks_N < KEPT[-1], group_N) for name, group_N in groups.items()}
        found.append(Recall(overlap=overlap, kept=kept, **shares))
    return found


def finding_ranks(dataset: CocoDataset, detections: Mapping[int, Detections], overlap: float) -> NDArray[np.int64]:
    """(N,) for every person the place, from 0, of the box that finds it among its picture's; :data:`NEVER` for none."""
    ranks_N = np.full(len(dataset), NEVER, dtype=np.int64)
    for image_id, rows in dataset.rows_by_image.items():
        people = rows[~dataset.crowd[rows]]
        if image_id in detections:
            ranks_N[people] = _ranks(detections[image_id], dataset.boxes_xyxy[people], overlap)
    return ranks_N


def _ranks(boxes: Detections, people_N4: NDArray[np.float64], overlap: float) -> NDArray[np.int64]:
    ranks_N = np.full(len(people_N4), NEVER, dtype=np.int64)
    best_first = np.argsort(-boxes.scores, kind="stable")
    overlaps_MN = iou_matrix(boxes.boxes[best_first], people_N4)
    for rank in np.flatnonzero((overlaps_MN >= overlap).any(1)):
        free_N = np.where(ranks_N == NEVER, overlaps_MN[rank], -1.0)
        person = int(free_N.argmax())
        if free_N[person] >= overlap:
            ranks_N[person] = rank
    return ranks_N


def _share(found_N: NDArray[np.bool_], group_N: NDArray[np.bool_]) -> float:
    return float(found_N[group_N].mean()) if group_N.any() else NO_TRUTH
