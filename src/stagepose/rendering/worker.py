"""One process of a rendering: batches of pictures with their labels, to disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stagepose.coco import read_dataset, write_json_compact
from stagepose.files import write_bytes
from stagepose.making import encode_jpeg
from stagepose.rendering.families import Stance, draw_stance
from stagepose.rendering.fit import Target, fit, targets
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.picture import draw_picture
from stagepose.rendering.scene import draw_scene
from stagepose.rendering.settings import RenderConfig

JPEG_QUALITY = (55, 96)


@dataclass(frozen=True)
class Batch:
    """Pictures ``first`` to ``end`` (exclusive)."""

    number: int
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class Order:
    """What is to be made, and where."""

    out: Path
    config: RenderConfig
    backdrops: tuple[Path, ...]


class Workshop:
    """What a process keeps from batch to batch."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self._landmarks = read_landmarks(order.config.skeleton)
        self._coco = read_landmarks(COCO_FILE)
        poses = order.config.poses
        self._targets: list[Target] = targets(read_dataset(poses), self._coco) if poses else []

    def __call__(self, batch: Batch) -> None:
        """Pictures first, then the labels that vouch for them."""
        rows = [self.picture(number) for number in range(batch.first, batch.end)]
        write_json_compact(self.order.out / "labels" / f"{batch.number:06d}.json", rows)

    def picture(self, number: int) -> dict[str, Any]:
        """Write picture ``number``; returns its row of labels."""
        order, config = self.order, self.order.config
        rng = np.random.default_rng([config.seed, number])
        scene = draw_scene(rng, config.size, config.people, self._stance)
        backdrop = order.backdrops[rng.integers(len(order.backdrops))] if order.backdrops else None
        pixels, labels = draw_picture(rng, scene, self._landmarks, backdrop)
        name = f"{number + 1:012d}.jpg"
        write_bytes(order.out / "images" / name, encode_jpeg(pixels, int(rng.integers(*JPEG_QUALITY))))
        return {"number": number, "file_name": name, "width": pixels.shape[1], "height": pixels.shape[0],
                "people": [label.annotation() for label in labels if label.mask.any()]}

    def _stance(self, rng: np.random.Generator) -> Stance:
        if not self._targets:
            return draw_stance(rng)
        return fit(self._targets[rng.integers(len(self._targets))], self._coco).stance
