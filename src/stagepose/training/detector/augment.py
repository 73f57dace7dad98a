"""From a picture with boxes to a training canvas: zoom, crop, flip, colour. H W pixels, P boxes, Q ignored regions.

Boxes are xyxy in pixels of the picture they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.geometry import Affine, Size
from stagepose.training.detector.cache import Pixels
from stagepose.training.detector.config import STRIDE_MULTIPLE
from stagepose.training.detector.dataset import Boxes, BoxImage

TINT = 0.3  # of one channel, against the contrast of all


@dataclass(frozen=True, kw_only=True)
class BoxAugment:
    """How a picture becomes a training canvas; zoom 1 is the scale that training is meant for."""

    canvas: Size = (384, 320)
    long_side: int = 416  # canvas pixels of a whole picture at zoom 1: a little below test time's, which is cheaper
    zoom: tuple[float, float] = (0.3, 1.6)
    flip_chance: float = 0.5
    aim_chance: float = 0.6  # crops aimed at a person, else anywhere
    colour: float = 0.3
    grey_chance: float = 0.05
    mosaic_chance: float = 0.25  # of four pictures on one canvas
    paste_chance: float = 0.3  # of people cut out of other pictures
    most_pasted: int = 3
    least_visible: float = 0.3  # a box with less of it to be seen is ignored: neither person nor background
    least_side: float = 5.0  # canvas pixels; smaller people are ignored too
    fill: int = 127  # what lies outside the picture: zero after normalisation, as at test time

    def __post_init__(self) -> None:
        if any(side % STRIDE_MULTIPLE for side in self.canvas):
            raise ConfigError(f"canvas is {self.canvas}, expected multiples of {STRIDE_MULTIPLE}")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ConfigError(f"zoom is {self.zoom}, expected 0 < low <= high")
        for name in ("flip_chance", "aim_chance", "grey_chance", "mosaic_chance", "paste_chance", "least_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a share from 0 to 1")
        if self.most_pasted < 1:
            raise ConfigError(f"most_pasted is {self.most_pasted}, expected at least 1; paste_chance 0 pastes nobody")


@dataclass(frozen=True, eq=False)
class BoxSample:
    """One augmented picture (H, W, 3) with its boxes (P, 4), their labels (P,) and ignored regions (Q, 4)."""

    pixels: Pixels
    boxes: Boxes
    labels: NDArray[np.int64]
    ignore: Boxes


@dataclass(frozen=True, eq=False)
class Shown:
    """A cached picture (H, W, 3) and its boxes in pixels of the cache, as :class:`BoxImage` has them of the file."""

    pixels: Pixels
    boxes: Boxes
    labels: NDArray[np.int64]
    ignore: Boxes

    @classmethod
    def of(cls, pixels: Pixels, image: BoxImage, scale: float) -> Shown:
        """``scale`` cached pixels per pixel of ``image``'s boxes."""
        return cls(pixels, image.boxes * np.float32(scale), image.labels, image.ignore * np.float32(scale))


def cut(picture: Shown, size: Size, long_side: float, config: BoxAugment, rng: np.random.Generator) -> BoxSample:
    """A canvas of ``size`` out of a picture whose long side has ``long_side`` pixels on it at zoom 1."""
    affine = _draw_affine(picture, size, long_side, config, rng)
    canvas = _colour(affine.warp(picture.pixels, size, border=config.fill), config, rng)
    moved, visible = clip(affine.boxes(picture.boxes), size)
    fit = (visible >= config.least_visible) & (_short_sides(moved) >= config.least_side)
    crowd, crowd_visible = clip(affine.boxes(picture.ignore), size)
    ignored = np.concatenate([moved[~fit & (visible > 0)], crowd[crowd_visible > 0]])
    return BoxSample(canvas, moved[fit], picture.labels[fit], ignored)


def _draw_affine(picture: Shown, size: Size, long_side: float, config: BoxAugment, rng: np.random.Generator) -> Affine:
    """Zoom, flip, and a place that shows as much of the picture as it can."""
    height, width = picture.pixels.shape[:2]
    low, high = np.log(config.zoom)
    zoom = float(np.exp(rng.uniform(low, high))) * long_side / max(height, width)
    aim, flip, which = rng.random(3)
    spare = np.array(size) - np.array([width, height]) * zoom  # negative: the picture is cut
    corner = rng.uniform(np.minimum(spare, 0), np.maximum(spare, 0))
    if len(picture.boxes) and aim < config.aim_chance:
        box = picture.boxes[int(which * len(picture.boxes))]
        wanted = np.array(size) * rng.uniform(0.25, 0.75, 2) - (box[:2] + box[2:]) / 2 * zoom
        corner = np.clip(wanted, np.minimum(spare, 0), np.maximum(spare, 0))
    shift = corner + 0.5 * zoom - 0.5  # the corner is an edge, and a point p lies at edge p + .5
    placed = Affine(np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]))
    mirror = Affine(np.array([[-1.0, 0, size[0] - 1], [0, 1, 0]]))
    return placed.then(mirror) if flip < config.flip_chance else placed


def clip(boxes_P4: NDArray[np.floating], size: Size) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes on a canvas, clipped to it, and the share of each that is still visible, (P,)."""
    clipped = np.clip(boxes_P4, 0, np.tile(np.array(size, dtype=np.float64), 2))
    area = (boxes_P4[:, 2:] - boxes_P4[:, :2]).prod(1)
    visible = (clipped[:, 2:] - clipped[:, :2]).prod(1) / np.maximum(area, 1e-6)
    return clipped.astype(np.float32), np.asarray(visible, dtype=np.float64)


def _short_sides(boxes_P4: Boxes) -> NDArray[np.float32]:
    return np.asarray((boxes_P4[:, 2:] - boxes_P4[:, :2]).min(1), dtype=np.float32)


def _colour(pixels: Pixels, config: BoxAugment, rng: np.random.Generator) -> Pixels:
    """Contrast, brightness and a tint per channel through one look-up table, now and then grey."""
    contrast, light = 1 + config.colour * rng.uniform(-1, 1, 2)
    tint = 1 + TINT * config.colour * rng.uniform(-1, 1, 3)
    grey = rng.random() < config.grey_chance
    ramp = (np.arange(256)[:, None] - config.fill) * contrast * tint + config.fill * light
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    out = np.asarray(cv2.LUT(pixels, table[None]), dtype=np.uint8)
    return np.repeat(out.mean(2, keepdims=True).astype(np.uint8), 3, axis=2) if grey else out
