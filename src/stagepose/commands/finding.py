"""What finds people, as ``predict``, ``cluster`` and ``serve`` are told of it, and how it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stagepose.commands.arguments import (
    Batch,
    DetectorName,
    Flip,
    MaxPixels,
    OptionalCount,
    OptionalNumber,
    OptionalTiles,
    PoseName,
    Provider,
    Threads,
)
from stagepose.images import MAX_PIXELS
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, Predictor, load
from stagepose.structures import KeepBy


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks, and what they run on. Fields, also those of subclasses, are arguments of :func:`stagepose.load`."""

    pose: PoseName = DEFAULT_POSE
    detector: DetectorName = DEFAULT_DETECTOR
    threads: Threads = None
    provider: Provider = "cpu"

    def arguments(self) -> dict[str, Any]:
        """Those of :func:`stagepose.load`."""
        others = {name: value for name, value in vars(self).items() if name != "provider"}
        return {**others, "providers": [self.provider]}


@dataclass(frozen=True, kw_only=True)
class FinderOptions(Models):
    """How people are found.

    Attributes:
        threshold: Minimum person score, and minimum score of a detected box; with --boxes, of a box alone. By default
            the pose model's own ('stagepose info' shows it), 0.5 if it has none.
        max_people: Most boxes per photo to run the pose network on, best first (--keep limits people).
        keep: Keep at most this many people per photo; all by default. In a video, a kept person is replaced only after
            leaving.
        keep_by: Which people to keep: the highest-scoring, or those with the largest boxes.
        tiles: Also run the detector on overlapping tiles, for people too small to find in the whole photo: tile side in
            pixels, or auto for the detector's input size. Time grows with the number of tiles.
    """

    threshold: OptionalNumber = None
    max_people: int = 100
    keep: OptionalCount = None
    keep_by: KeepBy = "score"
    tiles: OptionalTiles = None
    flip: Flip = False
    batch: Batch = 8
    max_pixels: MaxPixels = MAX_PIXELS

    def load(self, *, with_detector: bool = True) -> Predictor:
        """Opened; without its detector where boxes are given."""
        given = self.arguments()
        return load(**given if with_detector else {**given, "detector": None})
