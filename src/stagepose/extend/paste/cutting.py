"""People cut out of their pictures: pixels, a matte, and keypoints that move with them.

Where the set has a segment of the person, that is the matte; else the body along the skeleton is where GrabCut begins.
K keypoints, h w size of a cut-out, H W of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.extend.paste.body import CORE, body_mask
from stagepose.extend.paste.segments import mask_of
from stagepose.geometry import Affine, Float, resize_affine
from stagepose.skeleton import HIDDEN, VISIBLE, Skeleton

MARGIN = 0.12  # of the box's sides, that is looked at around it
TALLEST = 160  # pixels: the height at which GrabCut works; its time grows with the area
ROUNDS = 4  # of GrabCut
LEAST_INSIDE = 0.9  # share of the visible keypoints that a good matte covers
SHARES = (0.15, 0.9)  # of the box that it covers
SMALL_HOLE = 0.01  # of the person's area
NEAR = 0.02  # of the root of the box's area: a keypoint so far from the matte is as far off as people label
SQUARE = np.ones((2, 2), dtype=np.uint8)
FIRST, LAST = (0, 0), (1, 1)  # which of the square's pixels stands for it
NOWHERE = (0, 0, 1, 1)  # the rectangle that GrabCut does not look at where labels are given
COVERS = 0.5  # matte from which a pixel is the person's


@dataclass(frozen=True, eq=False)
class Cutout:
    """``pixels`` (h, w, 3) uint8 RGB, ``matte`` (h, w) float32 0 to 1, ``keypoints`` (K, 3) in its pixels.

    ``around`` (3,) is the mean colour of what lay around.
    """

    pixels: NDArray[np.uint8]
    matte: NDArray[np.float32]
    keypoints: Float
    around: Float

    @property
    def covers(self) -> NDArray[np.bool_]:
        """(h, w) what is the person's."""
        return np.asarray(self.matte > COVERS)

    def resized(self, scale: float, mirrored: bool, skeleton: Skeleton) -> Cutout:
        """So many times as large, and as a mirror shows it: keypoints trade places then."""
        height, width = self.matte.shape
        size = max(1, round(width * scale)), max(1, round(height * scale))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels, matte = (cv2.resize(each, size, interpolation=way) for each in (self.pixels, self.matte))
        moved = resize_affine((width, height), size)
        keypoints = self.keypoints
        if mirrored:
            pixels, matte = pixels[:, ::-1], matte[:, ::-1]
            moved = moved.then(Affine(np.array([[-1.0, 0, size[0] - 1], [0, 1, 0]])))
            keypoints = keypoints[skeleton.flip_index]
        return Cutout(np.ascontiguousarray(pixels, dtype=np.uint8), np.ascontiguousarray(matte, dtype=np.float32),
                      moved.keypoints(keypoints), self.around)


def cut_out(pixels_HW3: NDArray[np.uint8], box_xyxy: Float, keypoints_K3: Float, segmentation: Any,
            skeleton: Skeleton, others: Sequence[Float] = ()) -> Cutout | None:
    """One person of a picture; None where no good matte was found. ``others`` are the other people's keypoints.

    A keypoint that could be seen, but that the matte leaves behind, is hidden: its pixels do not come along.
    """
    height, width = pixels_HW3.shape[:2]
    x1, y1, x2, y2 = _window(box_xyxy, width, height)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    part = np.ascontiguousarray(pixels_HW3[y1:y2, x1:x2])
    keypoints = keypoints_K3 - (x1, y1, 0)
    box = np.asarray(box_xyxy) - (x1, y1, x1, y1)
    segment = mask_of(segmentation, height, width)
    mask = (_grabbed(part, box, keypoints, skeleton, [other - (x1, y1, 0) for other in others]) if segment is None
            else segment[y1:y2, x1:x2])
    if not mask.any() or (segment is None and not _is_good(mask, box, keypoints)):
        return None
    left_behind = (keypoints[:, 2] == VISIBLE) & ~_near(mask, keypoints, NEAR * root_of(box))
    keypoints[left_behind, 2] = HIDDEN
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(0, rows[0] - 2), max(0, columns[0] - 2)
    inside = np.s_[top : rows[-1] + 3, left : columns[-1] + 3]
    around = part[~mask].mean(0) if not mask.all() else part.mean((0, 1))
    return Cutout(part[inside], _soft(mask)[inside], keypoints - (left, top, 0), around)


def _window(box_xyxy: Float, width: int, height: int) -> tuple[int, int, int, int]:
    """The box and a margin, in whole pixels of the picture."""
    x1, y1, x2, y2 = box_xyxy
    right, down = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    return (max(0, int(x1 - right)), max(0, int(y1 - down)), min(width, int(np.ceil(x2 + right))),
            min(height, int(np.ceil(y2 + down))))


def _soft(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A matte whose edge is half a pixel inside: what lies on it is half background."""
    whole = mask.astype(np.float32)
    shrunk = (cv2.erode(whole, SQUARE, anchor=FIRST) + cv2.erode(whole, SQUARE, anchor=LAST)) / 2  # on all sides alike
    return np.asarray(cv2.GaussianBlur(shrunk, (0, 0), 0.8), dtype=np.float32)


def _is_good(mask: NDArray[np.bool_], box_xyxy: Float, keypoints_K3: Float) -> bool:
    """Whether it covers the keypoints that can be seen, and neither nearly nothing nor nearly all of the box."""
    seen = keypoints_K3[keypoints_K3[:, 2] == VISIBLE]
    return (len(seen) > 0 and float(_near(mask, seen, 1).mean()) >= LEAST_INSIDE  # a wrist may lie on the edge
            and SHARES[0] <= mask.sum() / root_of(box_xyxy) ** 2 <= SHARES[1])


def _near(mask: NDArray[np.bool_], keypoints_K3: Float, reach: float) -> NDArray[np.bool_]:
    """(K,) whether the mask is within ``reach`` pixels, one at least, of each keypoint."""
    height, width = mask.shape
    side = 2 * max(1, round(reach)) + 1
    thick = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), dtype=np.uint8))
    at = np.round(keypoints_K3[:, :2]).astype(int).clip(0, (width - 1, height - 1))
    return np.asarray(thick[at[:, 1], at[:, 0]] > 0)


def root_of(box_xyxy: Float) -> float:
    """Of the box's area, a pixel at least: what a person's size is measured by."""
    return float(np.sqrt(max(1.0, float((box_xyxy[2:] - box_xyxy[:2]).prod()))))


def _grabbed(part: NDArray[np.uint8], box: Float, keypoints: Float, skeleton: Skeleton,
             others: Sequence[Float]) -> NDArray[np.bool_]:
    """GrabCut from the body: its core is the person, what lies around it probably, other people's cores are not."""
    scale = min(1.0, TALLEST / part.shape[0])
    size = max(2, round(part.shape[1] * scale)), max(2, round(part.shape[0] * scale))
    small = np.ascontiguousarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA)[:, :, ::-1])
    shrunk = resize_affine((part.shape[1], part.shape[0]), size)
    keypoints, *others = [shrunk.keypoints(each) for each in (keypoints, *others)]
    labels = _first_guess(size, shrunk.boxes(box)[0], keypoints, skeleton, others)
    cv2.setRNGSeed(0)  # GrabCut's mixtures begin at random places
    try:
        cv2.grabCut(small, labels, NOWHERE, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # all of one colour, or too few pixels for its mixtures
        return np.zeros(part.shape[:2], dtype=bool)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    person = _with_joints(_opened(person), keypoints)
    grown = cv2.resize(person.astype(np.float32), part.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown > 0.5)


def _opened(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without what is one pixel wide. MORPH_OPEN has one anchor for both steps, which moves the mask by a pixel."""
    return np.asarray(cv2.dilate(cv2.erode(mask, SQUARE, anchor=LAST), SQUARE, anchor=FIRST), dtype=np.uint8)


def _first_guess(size: tuple[int, int], box: Float, keypoints: Float, skeleton: Skeleton,
                 others: Sequence[Float]) -> NDArray[np.uint8]:
    width, height = size
    root = root_of(box)
    labels = np.full((height, width), cv2.GC_BGD, dtype=np.uint8)
    x1, y1, x2, y2 = np.round(box).astype(int).clip(0)
    labels[y1:y2, x1:x2] = cv2.GC_PR_BGD
    inside = labels == cv2.GC_PR_BGD
    labels[body_mask(keypoints, root, skeleton, height, width) & inside] = cv2.GC_PR_FGD
    for other in others:
        labels[body_mask(other, root, skeleton, height, width, CORE)] = cv2.GC_BGD
    seen = keypoints * (keypoints[:, 2:] == VISIBLE)
    labels[body_mask(seen, root, skeleton, height, width, CORE)] = cv2.GC_FGD
    return labels


def _with_joints(person: NDArray[np.uint8], keypoints: Float) -> NDArray[np.uint8]:
    """The pieces that hold a keypoint, without the holes in them."""
    _, pieces = cv2.connectedComponents(person)
    at = np.round(keypoints[keypoints[:, 2] > 0, :2]).astype(int).clip(0, np.array(person.shape[::-1]) - 1)
    kept = np.isin(pieces, np.setdiff1d(pieces[at[:, 1], at[:, 0]], [0])).astype(np.uint8)
    edges, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = kept.copy()
    cv2.drawContours(filled, edges, -1, 1, -1)
    holes = (filled > 0) & (kept == 0)
    _, of_hole, sizes, _ = cv2.connectedComponentsWithStats(holes.astype(np.uint8))
    small = np.flatnonzero(sizes[:, cv2.CC_STAT_AREA] < SMALL_HOLE * kept.sum())
    kept[holes & np.isin(of_hole, small)] = 1  # what an arm at the hip leaves open is background
    return kept

