"""People cut out of pictures: who, where, and what of it cannot be had. P people of a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset
from stagepose.errors import ImageError
from stagepose.geometry import Affine, Float, crop_affine, fit_box
from stagepose.images import read_image
from stagepose.training.shards import PackConfig, encode
from stagepose.training.store import CropSpec

UNREADABLE, MISFIT = "image unreadable", "image of another size"  # than its labels are for
JPEG_SHARE = 0.075  # of the raw bytes, at quality 90; plans shards before anything is packed (see shards.encode)


@dataclass(frozen=True)
class Fault:
    """A picture whose people cannot be had: their places in the store-to-be, the reason that is counted, and why."""

    places: list[int]
    reason: str
    error: str


@dataclass(frozen=True)
class Picture:
    """One decoded: its people as a shard holds them, or why there are none."""

    crops: list[bytes]
    fault: Fault | None = None


@dataclass(eq=False)
class Work:
    """Everyone who is to be cut out, picture by picture, and the way to do it."""

    dataset: CocoDataset
    images_dir: Path
    spec: CropSpec
    config: PackConfig
    rows: NDArray[np.int64] = field(init=False)  # (P,) of the data set
    image_ids: NDArray[np.int64] = field(init=False)  # (P,)
    affines: Float = field(init=False)  # (P, 2, 3)

    def __post_init__(self) -> None:
        rows = np.flatnonzero(self.dataset.to_learn_from())
        self.rows = rows[np.argsort(self.dataset.image_ids[rows], kind="stable")]  # a picture is decoded once
        self.image_ids = self.dataset.image_ids[self.rows]
        self.affines = np.array([crop_affine(canvas_box(box, self.spec), self.spec.canvas).matrix
                                 for box in self.dataset.boxes_xyxy[self.rows]])

    def by_picture(self, people: Iterable[int]) -> list[tuple[int, list[int]]]:
        """Image ids with their places, of people in order."""
        return [(image_id, list(places)) for image_id, places in groupby(people, lambda p: int(self.image_ids[p]))]

    def cut(self, job: tuple[int, list[int]]) -> Picture:
        """One picture decoded, its people encoded."""
        image_id, places = job
        image = self.dataset.image_by_id[image_id]
        try:
            pixels = read_image(self.images_dir / image.file_name).pixels
        except ImageError as error:
            return Picture([], Fault(places, UNREADABLE, str(error)))
        height, width = pixels.shape[:2]
        if (width, height) != (image.width, image.height):
            why = f"{image.file_name} is {width}x{height}, its labels are for {image.width}x{image.height}"
            return Picture([], Fault(places, MISFIT, why))
        crops = (Affine(self.affines[place]).warp(pixels, self.spec.canvas) for place in places)
        return Picture([encode(crop, self.config.form, self.config.quality) for crop in crops])

    def megabytes(self, people: int) -> float:
        """Of their pixels; estimated for JPEGs."""
        return people * self.spec.row_bytes * (1 if self.config.form == "raw" else JPEG_SHARE) / 1e6


def canvas_box(box_xyxy: Float, spec: CropSpec) -> Float:
    """The part of the picture that fills the canvas: the network's padded box, grown by the context."""
    x1, y1, x2, y2 = fit_box(box_xyxy, spec.input_size[0] / spec.input_size[1])
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    half_w = (x2 - x1) / 2 * spec.canvas[0] / spec.input_size[0]
    half_h = (y2 - y1) / 2 * spec.canvas[1] / spec.input_size[1]
    return np.array([cx - half_w, cy - half_h, cx + half_w, cy + half_h])
