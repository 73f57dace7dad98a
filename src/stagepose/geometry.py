"""ONE coordinate convention, and the only things that move points, boxes and pixels.

A point (x, y) is in pixels as floats, (0, 0) the CENTRE of the top-left pixel, as COCO's keypoints are.
Box edges are half-open as COCO's are: a point p lies at edge p + .5, so the centre of box (x, y, w, h) is the
point (x + w/2 - .5, y + h/2 - .5). Boxes are xyxy floats unless a name says xywh. Sizes are (width, height).
See docs/coordinates.md. N boxes or points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float as Float  # who moves points has it from here
from stagepose.errors import ConfigError
from stagepose.numeric import is_real

Size = tuple[int, int]  # (width, height) in pixels
Padding: TypeAlias = float | tuple[float, float]  # times a box; or times its width, times its height

BOX_PADDING = 1.25  # context around a person box; HRNet, mmpose, rtmlib
LEAST_PADDING, MOST_PADDING = 0.5, 4.0  # of what makes sense
LEAST_AREA = 1e-9  # square pixels that a box counts as at least where something is divided by its area


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map of the plane; ``matrix`` (2, 3) takes source points to destination points.

    Pixels and points always move together: :meth:`points` and :meth:`warp` use the same matrix.
    """

    matrix: Float

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, dtype=np.float64)
        if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
            raise ConfigError(f"an Affine needs a finite (2, 3) matrix, got shape {matrix.shape}")
        object.__setattr__(self, "matrix", matrix)

    def points(self, xy_N2: NDArray[np.floating]) -> Float:
        """Move points (..., 2)."""
        return np.asarray(xy_N2, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def keypoints(self, keypoints_K3: NDArray[np.floating]) -> Float:
        """Move keypoints (K, 3) x, y and visibility or score, which stays."""
        return np.column_stack([self.points(keypoints_K3[:, :2]), keypoints_K3[:, 2]])

    def boxes(self, boxes_N4: NDArray[np.floating]) -> Float:
        """Move xyxy boxes (N, 4) edge by edge -> the upright boxes around them; a turned box grows."""
        boxes = np.asarray(boxes_N4, dtype=np.float64).reshape(-1, 4)
        corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) - 0.5) + 0.5
        return np.concatenate([corners.min(1), corners.max(1)], axis=1)

    def inverse(self) -> Affine:
        """The map back; ``ConfigError`` where the plane was folded flat."""
        linear = self.matrix[:, :2]
        if abs(np.linalg.det(linear)) < 1e-12:
            raise ConfigError(f"this Affine has no inverse: {self.matrix.tolist()}")
        back = np.linalg.inv(linear)
        return Affine(np.column_stack([back, -back @ self.matrix[:, 2]]))

    def then(self, after: Affine) -> Affine:
        """First this map, then ``after``."""
        linear = after.matrix[:, :2] @ self.matrix[:, :2]
        shift = after.matrix[:, :2] @ self.matrix[:, 2] + after.matrix[:, 2]
        return Affine(np.column_stack([linear, shift]))

    def warp(self, image_HW3: NDArray[np.uint8], size: Size, border: int = 0) -> NDArray[np.uint8]:
        """Resample an image into a new one of ``size`` (width, height), bilinear; outside is ``border`` grey.

        Shrinking by more than 2 first halves the source by area, so that thin limbs do not alias away; only the part
        of the source that is seen is touched.
        """
        scale = float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))
        x0, y0, x1, y1 = self._seen(image_HW3, size, margin=math.ceil(2 / max(scale, 1e-6)) + 2)
        if x0 >= x1 or y0 >= y1:
            return np.full((size[1], size[0], 3), border, dtype=np.uint8)
        part = image_HW3[y0:y1, x0:x1]
        source: NDArray[Any] = part
        while 0 < scale < 0.5 and min(source.shape[:2]) >= 4:
            source = cv2.resize(source, (source.shape[1] // 2, source.shape[0] // 2), interpolation=cv2.INTER_AREA)
            scale *= 2
        shrink = np.array(part.shape[1::-1]) / np.array(source.shape[1::-1])
        to_image = Affine(np.column_stack([np.diag(shrink), shrink / 2 - 0.5 + (x0, y0)]))
        out = cv2.warpAffine(source, to_image.then(self).matrix, size, flags=cv2.INTER_LINEAR,
                             borderMode=cv2.BORDER_CONSTANT, borderValue=(border,) * 3)
        return np.asarray(out, dtype=np.uint8)

    def _seen(self, image_HW3: NDArray[np.uint8], size: Size, margin: int) -> tuple[int, int, int, int]:
        """The part of the source, x0 y0 x1 y1 in whole pixels, that ``size`` and a margin around it show."""
        width, height = size
        corners = self.inverse().points(np.array([[0, 0], [width, 0], [0, height], [width, height]]))
        limits = np.array(image_HW3.shape[1::-1])
        low = np.clip(np.floor(corners.min(0)) - margin, 0, limits).astype(int)
        high = np.clip(np.ceil(corners.max(0)) + margin, 0, limits).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def xywh_to_xyxy(boxes_N4: NDArray[np.floating]) -> Float:
    """(x, y, width, height) -> (x1, y1, x2, y2), edges."""
    boxes = np.array(boxes_N4, dtype=np.float64)
    boxes[..., 2:] += boxes[..., :2]
    return boxes


def xyxy_to_xywh(boxes_N4: NDArray[np.floating]) -> Float:
    """(x1, y1, x2, y2), edges -> (x, y, width, height)."""
    boxes = np.array(boxes_N4, dtype=np.float64)
    boxes[..., 2:] -= boxes[..., :2]
    return boxes


def read_padding(value: object) -> Padding:
    """A number, or a pair of them (a tuple, list or array), as a :data:`Padding`; ``ValueError`` says what is wrong."""
    if isinstance(value, np.ndarray):
        value = value.tolist()  # of an array without axes a number
    is_pair = isinstance(value, (tuple, list))
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    numbers = [part for part in parts if is_real(part)]
    if len(numbers) != len(parts) or len(parts) != (2 if is_pair else 1):
        raise ValueError("expected a number, or a pair (x, y)")
    if not all(LEAST_PADDING <= number <= MOST_PADDING for number in numbers):
        raise ValueError(f"use {LEAST_PADDING} to {MOST_PADDING:g}; {BOX_PADDING} is usual")
    return (float(numbers[0]), float(numbers[1])) if is_pair else float(numbers[0])


def both_ways(padding: Padding) -> tuple[float, float]:
    """(x, y): how many times as wide and as high a padding makes a box."""
    return padding if isinstance(padding, tuple) else (padding, padding)


def fit_box(box_xyxy: NDArray[np.floating], aspect: float, padding: Padding = BOX_PADDING) -> Float:
    """Grow a box about its centre by ``padding`` and to ``aspect`` = width / height, which never shrinks a side.

    Of a pair each side grows by its own before the aspect is set, as Megvii's test boxes do; for a number the order
    makes no difference. A degenerate box (zero width or height) grows to at least one pixel first.
    """
    x1, y1, x2, y2 = np.asarray(box_xyxy, dtype=np.float64)
    across, down = both_ways(padding)
    width, height = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    width, height = (max(width * across, height * aspect * down),  # in this order a number gives the bits it always did
                     max(height * down, width / aspect * across))
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    return np.array([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2])


def crop_affine(box_xyxy: NDArray[np.floating], size: Size) -> Affine:
    """The map from image points to points of a crop of ``size``; the box fills the crop.

    The box should have the crop's aspect (:func:`fit_box`); otherwise its width decides the scale and the rest is cut
    or padded.
    """
    x1, y1, x2, y2 = np.asarray(box_xyxy, dtype=np.float64)
    centre = np.array([(x1 + x2) / 2 - 0.5, (y1 + y2) / 2 - 0.5])
    target = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    return similarity(centre, target, size[0] / (x2 - x1))


def resize_affine(old: Size, new: Size) -> Affine:
    """The map from points of a picture to those of the same picture resized: edges go to edges."""
    grown = np.array(new) / old
    return Affine(np.column_stack([np.diag(grown), grown / 2 - 0.5]))


def similarity(centre: Float, target: Float, scale: float, rotation: float = 0.0) -> Affine:
    """Scale and turn (degrees, content counter-clockwise) about ``centre``, which lands on ``target``."""
    angle = np.deg2rad(rotation)
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Affine(np.column_stack([linear, target - linear @ centre]))


def shared_areas(a: NDArray[np.floating], b: NDArray[np.floating]) -> Float:
    """Area that xyxy boxes (..., 4) have in common, as their shapes broadcast."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.clip(sides, 0, None).prod(-1))


def covered_shares(boxes_N4: NDArray[np.floating], others_M4: NDArray[np.floating]) -> Float:
    """The share of each xyxy box that each of the others covers, (N, M); 0 of a box without area."""
    areas_N = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(-1)
    shared = shared_areas(boxes_N4[:, None], others_M4[None])
    return np.asarray(shared / np.maximum(areas_N, LEAST_AREA)[:, None])


def iou_matrix(a_N4: NDArray[np.floating], b_M4: NDArray[np.floating]) -> Float:
    """Intersection over union of xyxy boxes, (N, M)."""
    a, b = np.asarray(a_N4, dtype=np.float64)[:, None], np.asarray(b_M4, dtype=np.float64)[None]
    inter = shared_areas(a, b)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    return np.where(union > 0, inter / np.where(union > 0, union, 1), 0.0)
