"""How large a data set is, counted as Table 1 of the source report counts: people with a labelled keypoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stagepose.coco.dataset import CocoDataset

STATISTICS_HEADER = ("set", "images", "with keypoints", "people", "keypoints")


@dataclass(frozen=True)
class Statistics:
    """``images`` of the file, ``images_with_keypoints`` among them, ``people`` with at least one labelled keypoint
    who are no crowd, ``keypoints`` that are labelled (v = 1 or 2) on these people.
    """

    images: int
    images_with_keypoints: int
    people: int
    keypoints: int


def statistics(dataset: CocoDataset) -> Statistics:
    """Count a set."""
    counted_N = dataset.with_keypoints()
    return Statistics(
        images=len(dataset.images),
        images_with_keypoints=len(np.unique(dataset.image_ids[counted_N])),
        people=int(counted_N.sum()),
        keypoints=int(dataset.num_keypoints[counted_N].sum()),
    )


def statistics_rows(sets: Iterable[tuple[str, Statistics]]) -> list[tuple[str, ...]]:
    """Lines of a table under ``STATISTICS_HEADER``, one per named set."""
    return [
        (name, f"{s.images:,}", f"{s.images_with_keypoints:,}", f"{s.people:,}", f"{s.keypoints:,}")
        for name, s in sets
    ]
