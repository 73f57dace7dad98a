"""People who walk, as keypoints: ``walker(x, y)`` is a :class:`Person` of COCO's joints, its middle there."""

from __future__ import annotations

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
