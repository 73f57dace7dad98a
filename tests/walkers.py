"""People who walk, as keypoints: ``walker(x, y)`` is a :class:`Person` of COCO's joints, its middle there.

``behind(person, left, right)`` is what a detector and a pose network make of one who is behind something.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stagepose.skeleton import COCO_17
from stagepose.structures import Person

_SHAPE = np.random.default_rng(7).uniform(-1, 1, (2, len(COCO_17), 2)) * [25, 75]  # of two people


def walker(x: float, y: float = 200.0, *, shape: int = 0, score: float = 0.9, noise: float = 0.0,
           rng: np.random.Generator | None = None, joints: float = 0.9) -> Person:
    """50 x 150 pixels around (x, y); ``noise`` in pixels is added to every joint."""
    points = _SHAPE[shape] + [x, y]
    if rng is not None:
        points = points + rng.normal(0, noise, points.shape)
    return Person(box=np.array([x - 30, y - 80, x + 30, y + 80]), keypoints=points,
                  scores=np.full(len(COCO_17), joints), score=score, skeleton=COCO_17)


def behind(person: Person, left: float, right: float, rng: np.random.Generator) -> Person | None:
    """As seen behind what goes from column ``left`` to ``right``: a box of what shows, hidden joints guessed into it.

    None where less than a third shows.
    """
    low, high = person.box[[0, 2]]
    seen_low = min(right, high) if left <= low < right else low
    seen_high = max(left, low) if left < high <= right else high
    share = max(seen_high - seen_low, 0) / (high - low)
    if share < 1 / 3:
        return None
    box = np.array([seen_low, person.box[1], seen_high, person.box[3]])
    x = person.keypoints[:, 0]
    hidden = (x < seen_low) | (x > seen_high)
    points = np.stack([np.clip(x, seen_low + 2, seen_high - 2), person.keypoints[:, 1]], axis=1)
    return replace(person, box=box + rng.normal(0, 2, 4), keypoints=points + rng.normal(0, 2, points.shape),
                   scores=np.where(hidden, 0.15, 0.8), score=0.4 + 0.45 * share)
