"""Several pictures on one canvas: mosaics, and people pasted from one picture into another. P boxes, Q regions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.geometry import Size, shared_areas
from stagepose.training.detector.augment import BoxAugment, BoxSample, Shown, cut
from stagepose.training.detector.cache import Pixels
from stagepose.training.detector.dataset import Boxes, are_people

CELL_LEAST = 0.35  # of the canvas; the middle of a mosaic lies between it and 1 - it
PASTED_SIDE = (20.0, 0.6)  # a pasted person's height: from so many pixels to this share of the canvas
CONTEXT = 0.1  # of its sides, that a person is cut out with; it fades in there, so that edges are no sign of people
DONOR_SIDE = 32  # cached pixels; smaller people are not worth pasting
DONOR_COVERED = 0.2  # a person whose box shares more of it with other boxes is not cut out: it would bring them along


def mosaic(pictures: Sequence[Shown], config: BoxAugment, long_side: float, rng: np.random.Generator) -> BoxSample:
    """Four pictures around a point near the middle, each smaller than it would be alone."""
    width, height = config.canvas
    middle = np.round(rng.uniform(CELL_LEAST, 1 - CELL_LEAST, 2) * config.canvas).astype(int)
    cells = [(0, 0, *middle), (middle[0], 0, width, middle[1]), (0, middle[1], middle[0], height),
             (middle[0], middle[1], width, height)]  # fmt: skip
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    parts = []
    for picture, (x0, y0, x1, y1) in zip(pictures, cells, strict=True):
        size: Size = (int(x1 - x0), int(y1 - y0))
        part = cut(picture, size, long_side * max(size) / max(config.canvas), config, rng)
        canvas[y0:y1, x0:x1] = part.pixels
        shift = np.array([x0, y0, x0, y0], dtype=np.float32)
        parts.append((part.boxes + shift, part.labels, part.ignore + shift))
    boxes, labels, ignore = (np.concatenate(column) for column in zip(*parts, strict=True))
    return BoxSample(canvas, boxes, labels, ignore)


def donors(picture: Shown) -> list[int]:
    """Which of a picture's people can be cut out: large enough, and with nobody and nothing else in their box."""
    fit = []
    for person in np.flatnonzero(are_people(picture.labels)).tolist():
        box, others = picture.boxes[person], np.concatenate([np.delete(picture.boxes, person, 0), picture.ignore])
        if min(box[2:] - box[:2]) >= DONOR_SIDE and covered(box[None], others)[0] <= DONOR_COVERED:
            fit.append(person)
    return fit


def paste(sample: BoxSample, picture: Shown, person: int, config: BoxAugment, rng: np.random.Generator) -> BoxSample:
    """The sample with one more person somewhere; who is hidden behind it by more than allowed is ignored from then."""
    height, width = sample.pixels.shape[:2]
    tall = np.exp(rng.uniform(np.log(PASTED_SIDE[0]), np.log(PASTED_SIDE[1] * height)))
    region, inside = _cut_out(picture, picture.boxes[person])
    scale = tall / (inside[3] - inside[1])
    size = np.maximum(np.round(np.array(region.shape[1::-1]) * scale), 2).astype(int)
    if (size >= (width, height)).any():
        return sample
    small = np.asarray(cv2.resize(region, size.tolist(), interpolation=cv2.INTER_AREA if scale < 1 else
                                  cv2.INTER_LINEAR), dtype=np.uint8)  # fmt: skip
    x, y = (int(v) for v in rng.integers(0, np.array([width, height]) - size + 1))
    inside = inside * np.tile(size / np.array(region.shape[1::-1]), 2)
    pixels = sample.pixels.copy()
    under = pixels[y : y + size[1], x : x + size[0]]
    under[:] = np.round(under + (small.astype(np.float32) - under) * _fading(size, inside)).astype(np.uint8)
    box = np.asarray(inside + np.array([x, y, x, y]), dtype=np.float32)[None]
    seen = covered(sample.boxes, box) <= 1 - config.least_visible
    return BoxSample(pixels, np.concatenate([sample.boxes[seen], box]),
                     np.concatenate([sample.labels[seen], picture.labels[person : person + 1]]),
                     np.concatenate([sample.ignore, sample.boxes[~seen]]))


def covered(boxes_P4: Boxes, others_Q4: Boxes) -> NDArray[np.float32]:
    """The largest share of each box that one of the others covers, (P,)."""
    areas = (boxes_P4[:, 2:] - boxes_P4[:, :2]).prod(1)
    shares = shared_areas(boxes_P4[:, None], others_Q4[None]) / np.maximum(areas, 1e-6)[:, None]
    return np.asarray(shares.max(1, initial=0), dtype=np.float32)


def _cut_out(picture: Shown, box: Boxes) -> tuple[Pixels, Boxes]:
    """(pixels of a person with a little around it, its box in them)."""
    around = CONTEXT * (box[2:] - box[:2])
    limits = np.array(picture.pixels.shape[1::-1])
    x0, y0 = np.clip(np.floor(box[:2] - around), 0, limits).astype(int)
    x1, y1 = np.clip(np.ceil(box[2:] + around), 0, limits).astype(int)
    return picture.pixels[y0:y1, x0:x1], np.asarray(box - [x0, y0, x0, y0], dtype=np.float32)


def _fading(size: NDArray[np.int64], inside: Boxes) -> NDArray[np.float32]:
    """(h, w, 1) weights that rise from the border to 1 where the person's box begins; all of it is opaque.

    Where there is nothing around it, since the picture that it is from ends there, it ends as abruptly.
    """
    ramps = []
    for side, begin, end in zip(size.tolist(), inside[:2], inside[2:], strict=True):
        steps = np.arange(side) + 0.5
        ramps.append(np.clip(np.minimum(steps / max(begin, 0.5), (side - steps) / max(side - end, 0.5)), 0, 1))
    return np.asarray(ramps[1][:, None, None] * ramps[0][None, :, None], dtype=np.float32)
