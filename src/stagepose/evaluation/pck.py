"""How far joints are found from where they are labelled: in pixels, in percent of the person, and as PCK.

PCK is the share of the labelled joints within so many times the longer side of the person's labelled box (Y. Yang and
D. Ramanan, *Articulated Human Detection with Flexible Mixtures of Parts*, PAMI 2013); percent are of that side too, so
that if everybody is found, a median of 5 % and a PCK of .5 at .05 mean the same. Who is found is decided by
:func:`~.taxonomy.people_of`, wherever the boxes came from.

N labelled people, K keypoints, J labelled joints, I images, S shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.parsedfile import MOST_PIXELS
from stagepose.evaluation.keypoints import Judgement, judge_keypoints
from stagepose.evaluation.matching import NOBODY
from stagepose.evaluation.precision import NO_TRUTH
from stagepose.evaluation.taxonomy import MATCHED, people_of

SHARES = (0.05, 0.1, 0.2)  # of the longer side of the box
HEADINGS = ("keypoint", "labelled", "missed", "median px", "median %", "PCK .05", "PCK .1", "PCK .2")


@dataclass(frozen=True, kw_only=True)
class KeypointPck:
    """The errors of one keypoint, or of all of them; -1 where there is nothing to measure."""

    name: str
    labelled: int  # joints
    missed: int  # of these, joints of people who were not found: wrong in PCK, left out of the medians
    median_pixels: float
    median_percent: float  # of the longer side of the person's box
    pck: tuple[float, ...]  # in [0, 1], at :data:`SHARES`

    def row(self) -> tuple[str, ...]:
        """A line of a table, under :data:`HEADINGS`."""
        return (self.name, f"{self.labelled:,}", f"{self.missed:,}", _shown(self.median_pixels, 1),
                _shown(self.median_percent, 1), *(_shown(share, 3) for share in self.pck))


@dataclass(frozen=True, kw_only=True)
class PckMetrics:
    """PCK and median errors of all keypoints together, and of each."""

    all: KeypointPck
    keypoints: tuple[KeypointPck, ...]  # in the skeleton's order
    people: int  # that could be found
    missed: int  # of them

    def rows(self) -> list[tuple[str, ...]]:
        """Lines of a table, under :data:`HEADINGS`; all keypoints together come first."""
        return [one.row() for one in (self.all, *self.keypoints)]

    def notes(self) -> list[str]:
        """What was measured and what was left out, a sentence each."""
        return [f"{self.missed} of {self.people} people have no result, matched as COCO does at an OKS of {MATCHED:g}: "
                f"their {self.all.missed} labelled joints are wrong in PCK, and left out of the medians"]


def evaluate_pck(dataset: CocoDataset, results: list[dict[str, Any]]) -> PckMetrics:
    """PCK and median errors of COCO keypoint results; raises as :func:`~.keypoints.evaluate_keypoints` does."""
    return pck_of(judge_keypoints(dataset, results))


def pck_of(judged: Judgement) -> PckMetrics:
    """The same of results that are judged already."""
    truth = judged.truth
    counted_N = ~truth.ignored
    pixels_NK, sides_NK, labelled_NK = _errors(judged)
    each = [_measured(name, pixels_NK[labelled_NK[:, k], k], sides_NK[labelled_NK[:, k], k])
            for k, name in enumerate(judged.dataset.skeleton.names)]
    return PckMetrics(all=_measured("all", pixels_NK[labelled_NK], sides_NK[labelled_NK]), keypoints=tuple(each),
                      people=int(counted_N.sum()), missed=int(np.isinf(pixels_NK[counted_N, 0]).sum()))


def counts_of(judged: Judgement) -> NDArray[np.int64]:
    """(I, 1 + K, 1 + S) of each image, of all keypoints together and of each: labelled joints, and those within
    :data:`SHARES`."""
    pixels_NK, sides_NK, labelled_NK = _errors(judged)
    shares_NK = np.divide(pixels_NK, sides_NK, out=np.full(pixels_NK.shape, np.inf), where=labelled_NK)
    hits_NKC = np.stack([labelled_NK, *(shares_NK <= share for share in SHARES)], axis=-1).astype(np.int64)
    counts = np.zeros((judged.truth.image_count, *hits_NKC.shape[1:]), dtype=np.int64)
    np.add.at(counts, judged.truth.images, hits_NKC)
    return np.concatenate([counts.sum(axis=1, keepdims=True), counts], axis=1)


def _errors(judged: Judgement) -> tuple[Float, Float, NDArray[np.bool_]]:
    """(N, K) each: how many pixels joints are off, the longer side of their person's box, and which are measured."""
    truth, pixels_NK = judged.truth, _pixels(judged)
    sides_N1 = (truth.boxes[:, 2:] - truth.boxes[:, :2]).max(axis=1, keepdims=True)
    labelled_NK = (truth.keypoints[..., 2] > 0) & ~truth.ignored[:, None]
    return pixels_NK, np.broadcast_to(sides_N1, pixels_NK.shape), labelled_NK


def _pixels(judged: Judgement) -> Float:
    """(N, K) from each person's joints to those of its result; infinite where it has none."""
    truth, found = judged.truth, judged.found
    person_of, _ = people_of(truth, found, judged.pairs)
    mine = np.flatnonzero(person_of != NOBODY)
    way_K2 = found.points[mine] - truth.keypoints[person_of[mine], :, :2]
    pixels_NK = np.full(truth.keypoints.shape[:2], np.inf)
    with np.errstate(over="ignore"):  # points beyond all sense are far, and still a number
        pixels_NK[person_of[mine]] = np.minimum(np.hypot(way_K2[..., 0], way_K2[..., 1]), MOST_PIXELS)
    return pixels_NK


def _measured(name: str, pixels_J: Float, sides_J: Float) -> KeypointPck:
    shares_J, found_J = pixels_J / sides_J, np.isfinite(pixels_J)
    medians = [float(np.median(errors_J[found_J])) if found_J.any() else NO_TRUTH
               for errors_J in (pixels_J, 100 * shares_J)]
    within = [float((shares_J <= share).mean()) if len(shares_J) else NO_TRUTH for share in SHARES]
    return KeypointPck(name=name, labelled=len(pixels_J), missed=int((~found_J).sum()), median_pixels=medians[0],
                       median_percent=medians[1], pck=tuple(within))


def _shown(value: float, digits: int) -> str:
    return "" if value == NO_TRUTH else f"{value:.{digits}f}"
