"""AP of parts: by keypoint, by the person's size, by how crowded it stands, by how many of its joints are labelled.

*By keypoint*: COCO's AP as if this keypoint were the only one. A person in whom it isn't labelled is ignored; the
ranking stays that of the whole people.

*Of a group of people*: people of the other groups are ignored. A false positive belongs to no group, so in each it is
weighted by the group's share of the people: else small groups would seem worse than large ones. The AP of a group that
everybody belongs to is COCO's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Bool, Float
from stagepose.evaluation.keypoints import Judgement
from stagepose.evaluation.matching import Truth, View, match, pairs_of
from stagepose.evaluation.precision import NO_TRUTH, everybody, ranked
from stagepose.geometry import iou_matrix

SIZES = (0, 32, 64, 96, 192, 100_000)  # roots of areas, in pixels: COCO's medium and large in two parts each
OVERLAPS = (0.0, 0.1, 0.3, 1.01)  # IoU with the nearest other box; .1: Ronchi and Perona's idea of an overlap
LABELLED = (1 / 17, 6 / 17, 11 / 17, 16 / 17)  # Ronchi and Perona's 1-5, 6-10, 11-15, 16-17 of COCO's joints


@dataclass(frozen=True)
class Part:
    """The AP and AR of a part of the people, or of one keypoint of all people."""

    name: str
    people: int
    ap: float
    ar: float

    def row(self) -> tuple[str, str, str, str]:
        """A line of a table."""
        if self.ap == NO_TRUTH:
            return self.name, "0", "", ""
        return self.name, f"{self.people:,}", f"{self.ap:.3f}", f"{self.ar:.3f}"


def by_keypoint(judged: Judgement) -> list[Part]:
    """One part for each keypoint of the skeleton."""
    return [_one_keypoint(judged, k, name) for k, name in enumerate(judged.dataset.skeleton.names)]


def _one_keypoint(judged: Judgement, k: int, name: str) -> Part:
    truth, only = judged.truth, slice(k, k + 1)
    alone = replace(truth, keypoints=truth.keypoints[:, only], sigmas=truth.sigmas[only],
                    ignored=truth.ignored | (truth.keypoints[:, k, 2] <= 0))
    found = judged.found.moved(judged.found.points[:, only])
    view = everybody(alone, found)
    ap, ar = ranked(alone, found, view, match(alone, found, pairs_of(alone, found), [view])[0]).measure()
    return Part(name, int((~alone.ignored).sum()), float(ap.mean()), float(ar.mean()))


def by_size(judged: Judgement) -> list[Part]:
    """By the root of the area of a person's segment."""
    names = [f"{low} to {high} px" for low, high in pairwise(SIZES)]
    names[0], names[-1] = f"below {SIZES[1]} px", f"from {SIZES[-2]} px"
    return _parts(judged, names, np.digitize(np.sqrt(judged.truth.areas), SIZES[1:-1]))


def by_crowding(judged: Judgement) -> list[Part]:
    """By the largest IoU of a person's box with that of anybody else, crowds excepted."""
    names = [f"IoU {low} to {high}" for low, high in pairwise(OVERLAPS)]
    names[0], names[-1] = f"IoU below {OVERLAPS[1]}", f"IoU from {OVERLAPS[-2]}"
    return _parts(judged, names, np.digitize(overlaps(judged.truth), OVERLAPS[1:-1]))


def by_labelled_joints(judged: Judgement) -> list[Part]:
    """By how many of a person's joints are labelled, visible or hidden."""
    joints = judged.truth.keypoints.shape[1]
    starts = sorted({max(1, round(share * joints)) for share in LABELLED})
    names = [f"{low} to {high - 1} joints" if high - 1 > low else f"{low} joints"
             for low, high in pairwise([*starts, joints + 1])]
    labelled_N = (judged.truth.keypoints[..., 2] > 0).sum(axis=1)
    return _parts(judged, names, np.digitize(labelled_N, starts) - 1)


PARTS: dict[str, Callable[[Judgement], list[Part]]] = {
    "keypoint": by_keypoint, "size": by_size, "overlap": by_crowding, "labelled": by_labelled_joints,
}  # fmt: skip


def all_parts(judged: Judgement) -> dict[str, list[Part]]:
    """Every kind of part by its name in :data:`PARTS`."""
    return {what: parts(judged) for what, parts in PARTS.items()}


def _parts(judged: Judgement, names: list[str], group_N: NDArray[np.intp]) -> list[Part]:
    truth, found = judged.truth, judged.found
    whole = everybody(truth, found)
    everyone = max(1, int((~whole.ignored).sum()))
    inside = [~whole.ignored & (group_N == group) for group in range(len(names))]
    views = [View(ignored=~mine_N, outside=whole.outside) for mine_N in inside]
    parts = []
    for name, mine_N, view, matched in zip(names, inside, views, match(truth, found, judged.pairs, views), strict=True):
        people = int(mine_N.sum())
        ap, ar = ranked(truth, found, view, matched, share=people / everyone).measure()
        parts.append(Part(name, people, float(ap.mean()), float(ar.mean())))
    return parts


def overlaps(truth: Truth) -> Float:
    """(N,) the largest IoU of each person's box with another person's of the same image; crowds are nobody."""
    largest = np.zeros(len(truth))
    single: Bool = ~truth.crowd
    starts = np.searchsorted(truth.images, np.arange(truth.image_count + 1))
    for low, high in pairwise(starts.tolist()):
        if high - low > 1:
            ious = iou_matrix(truth.boxes[low:high], truth.boxes[low:high]) * single[None, low:high]
            np.fill_diagonal(ious, 0)
            largest[low:high] = ious.max(axis=1)
    return largest
