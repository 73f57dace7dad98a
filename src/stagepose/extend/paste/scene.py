"""A picture into which people are pasted, and who of it is still seen. K keypoints, H W picture size, h w a cut-out's.

COCO's rules for the labels: a keypoint that something covers has v = 1; outside of the picture it has none; box and
area are of what is seen; of whom nobody could say anything any more there are no keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.extend.made import MadePerson
from stagepose.extend.paste.cutting import Cutout
from stagepose.geometry import Float
from stagepose.making import in_picture
from stagepose.skeleton import HIDDEN, VISIBLE

LEAST_SEEN = 3  # visible keypoints, and share of the area, of a person who is asked for keypoints
LEAST_SHARE = 0.3
LIGHT = (0.7, 1.15)  # how much darker or lighter a cut-out becomes at most
HALFWAY, COLOUR = 0.5, 0.3  # to the light of the place; share of its colour in that


@dataclass(eq=False)
class Figure:
    """A person of the scene: ``mask`` (H, W) of what is seen, exact or (``guessed``) the body along the skeleton.

    ``area`` and ``box_xyxy`` are those of the start; ``new`` from when anything of the keypoints changed.
    """

    keypoints: Float
    box_xyxy: Float
    area: float
    mask: NDArray[np.bool_]
    guessed: bool
    new: bool
    crowd: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    whole: int = field(init=False)  # pixels of the mask at the start
    covered: NDArray[np.bool_] | None = None  # (H, W) by others

    def __post_init__(self) -> None:
        self.whole = max(1, int(self.mask.sum()))

    def cover(self, matte_HW: NDArray[np.bool_]) -> None:
        """Somebody stands before this person now."""
        self.covered = matte_HW if self.covered is None else self.covered | matte_HW
        self.mask = self.mask & ~matte_HW
        height, width = matte_HW.shape
        seen = np.flatnonzero(self.keypoints[:, 2] == VISIBLE)
        at = np.round(self.keypoints[seen, :2]).astype(int).clip(0, (width - 1, height - 1))
        hidden = seen[matte_HW[at[:, 1], at[:, 0]]]
        self.keypoints[hidden, 2] = HIDDEN
        self.new = self.new or len(hidden) > 0

    def labelled(self) -> MadePerson | None:
        """As the set says it; None where nothing is seen of this person."""
        if self.crowd:
            return MadePerson(self.box_xyxy, self.area, self.keypoints, new=False, notes={"iscrowd": 1})
        share = float(self.mask.sum()) / self.whole
        box = self._seen_box()
        if box is None or share == 0:
            return None
        area = self.area * share if self.guessed else float(self.mask.sum())
        known = (self.keypoints[:, 2] == VISIBLE).sum() >= LEAST_SEEN and share >= LEAST_SHARE
        return MadePerson(box, area, self.keypoints, new=self.new and bool(known), notes=self.notes)

    def _seen_box(self) -> Float | None:
        """Of what is seen; where only the box is known, of the part of it that nobody covers."""
        if self.guessed and self.covered is None:
            return self.box_xyxy
        seen = self.mask
        if self.guessed:
            x1, y1, x2, y2 = np.round(self.box_xyxy).astype(int).clip(0)
            seen = np.zeros_like(self.mask)
            assert self.covered is not None
            seen[y1:y2, x1:x2] = ~self.covered[y1:y2, x1:x2]
        rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return None
        inner = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)
        if not self.guessed:
            return inner
        moved = np.abs(inner - self.box_xyxy) > 1  # a side that only rounding moved stays
        return np.where(moved, inner, self.box_xyxy)


class Scene:
    """``pixels`` (H, W, 3) and its people, the hindmost first; changed by :meth:`paste`."""

    def __init__(self, pixels: NDArray[np.uint8], figures: list[Figure]) -> None:
        self.pixels, self.figures = pixels.copy(), figures

    def paste(self, cutout: Cutout, left: int, top: int, notes: Mapping[str, Any]) -> None:
        """Before everybody else, its upper left corner at a whole pixel, which may lie outside."""
        matte = self.matte_of(cutout, left, top)
        inside, part = self._windows(cutout, left, top)
        alpha, below = cutout.matte[part][..., None], self.pixels[inside].astype(np.float32)
        lit = cutout.pixels[part] * light(cutout.around, self.pixels[inside])
        self.pixels[inside] = np.clip(np.round(below + (lit - below) * alpha), 0, 255).astype(np.uint8)
        for figure in self.figures:
            figure.cover(matte)
        height, width = self.pixels.shape[:2]
        keypoints = in_picture(cutout.keypoints + np.array([left, top, 0.0]), width, height)
        figure = Figure(keypoints, np.zeros(4), float(matte.sum()), matte, guessed=False, new=True, notes=notes)
        figure.whole = max(1, int(cutout.covers.sum()))
        self.figures.append(figure)

    def matte_of(self, cutout: Cutout, left: int, top: int) -> NDArray[np.bool_]:
        """(H, W) what a cut-out would cover."""
        matte = np.zeros(self.pixels.shape[:2], dtype=bool)
        inside, part = self._windows(cutout, left, top)
        matte[inside] = cutout.covers[part]
        return matte

    def _windows(self, cutout: Cutout, left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The same pixels in the scene and in the cut-out."""
        (height, width), (h, w) = self.pixels.shape[:2], cutout.matte.shape
        y1, y2, x1, x2 = max(0, top), min(height, top + h), max(0, left), min(width, left + w)
        y2, x2 = max(y1, y2), max(x1, x2)
        return np.s_[y1:y2, x1:x2], np.s_[y1 - top : y2 - top, x1 - left : x2 - left]


def light(around: Float, below_hw3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(3,) factors that bring a person from the light of the old place (its mean colour ``around``) towards the new's.

    Halfway only: what lies around is not all in one light. Mostly how much light there is, a little of which colour.
    """
    if not below_hw3.size:
        return np.ones(3, dtype=np.float32)
    ratio = (below_hw3.mean((0, 1)) + 1) / (around + 1)
    mixed = (1 - COLOUR) * ratio.mean() + COLOUR * ratio
    return np.asarray((1 + HALFWAY * (mixed - 1)).clip(*LIGHT), dtype=np.float32)
