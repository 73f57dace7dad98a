"""Measuring the sigmas of OKS: how far apart two labellers of the same people place each keypoint.

COCO measured its own this way on 5,000 pictures labelled twice: sigma^2 = E[d^2 / s^2], d the distance of a label to
the joint, s^2 the person's area; OKS takes k = 2 sigma (https://cocodataset.org/#keypoints-eval), and a skeleton holds
sigma. Two labels that both stray from the joint are twice the variance apart, so that E[d^2 / s^2] between them is
2 sigma^2.

A few swapped left and right joints would dominate the mean. For a 2-D Gaussian, d^2 is exponential, with a median of
ln 2 times its mean; so sigma^2 = median(d^2 / s^2) / (2 ln 2), which a few of those hardly change. A joint and its
mirrored one share a sigma, from the pairs of both.

P pairs of a person in the first set and the same one in the second, K keypoints, A and B people of one picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from stagepose.aliases import Bool, Float, Int
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.samepicture import find_twins
from stagepose.errors import DatasetError
from stagepose.evaluation.matching import areas_of
from stagepose.geometry import iou_matrix
from stagepose.skeleton import Skeleton

SAME_BOX = 0.5  # minimum IoU of two labellers' boxes of one person; of a box that is found, in COCO and Pascal VOC
FEW_PAIRS = 30  # with fewer the standard error, which is .72 / sqrt(pairs) of the sigma, is above 13 %
DIGITS = 3  # of a sigma, as many as COCO publishes at most


@dataclass(frozen=True, kw_only=True)
class KeypointSigma:
    """One keypoint's; ``problem`` says why it could not be measured, in which case ``sigma`` is ``before``."""

    name: str
    pairs: int  # people in whom both labelled it
    pooled: int  # those and the ones of its mirrored joint: what the sigma is measured on
    before: float  # the skeleton's
    sigma: float
    problem: str = ""

    def row(self) -> tuple[str, str, str, str, str]:
        """A line of a table."""
        sigma = "" if self.problem else f"{self.sigma:g}"
        return self.name, f"{self.pairs:,}", f"{self.pooled:,}", sigma, f"{self.before:g}"


@dataclass(frozen=True, kw_only=True)
class MeasuredSigmas:
    """The sigmas from two labellings, and the people that they were measured on."""

    skeleton: Skeleton  # the first set's, with these sigmas
    keypoints: tuple[KeypointSigma, ...]
    people: int  # who are labelled in both
    by_id: int  # of them, with the same annotation id
    alone: tuple[int, int]  # people of the first set, and of the second, who are not labelled in the other
    without_area: int  # people labelled in both, but of area 0, by which nothing can be measured

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(keypoint, pairs, pairs with its mirrored joint's, sigma, sigma before) lines of a table."""
        return [one.row() for one in self.keypoints]

    def notes(self) -> list[str]:
        """Who was compared, what was left out, and what is not to be relied on, a sentence each."""
        notes = [f"{self.people} people are labelled in both files, {self.by_id} of them with the same annotation id; "
                 f"{self.alone[0]} only in the first, {self.alone[1]} only in the second"]
        if self.without_area:
            notes.append(f"{self.without_area} people of area 0 left out")
        few = [f"{one.name} ({one.pooled})" for one in self.keypoints if not one.problem and one.pooled < FEW_PAIRS]
        if few:
            notes.append(f"warning: rough, of fewer than {FEW_PAIRS} pairs, which leave a standard error of 13 %: "
                         f"{', '.join(few)}")
        if problems := [f"{one.name} ({one.problem})" for one in self.keypoints if one.problem]:
            notes.append(f"warning: not measured, sigma as before: {', '.join(problems)}")
        return notes


def measure_sigmas(first: CocoDataset, second: CocoDataset, name: str = "custom") -> MeasuredSigmas:
    """The sigmas of two people's labels of the same pictures, which are known by their file names.

    A person is the same in both where the boxes overlap by :data:`SAME_BOX`: with the same annotation id first, then
    the largest overlap. A joint counts where both have labelled it. The result's skeleton has this ``name``. Raises
    :class:`DatasetError` where areas are left out, or no keypoint can be measured.
    """
    if first.skeleton.names != second.skeleton.names:
        raise DatasetError(f"{second.shown}: has keypoints {', '.join(second.skeleton.names)}, and "
                           f"{first.shown} {', '.join(first.skeleton.names)}; read both in one skeleton")
    rows_P2 = np.array(list(_pairs(first, second)), dtype=np.int64).reshape(-1, 2)
    a, b = rows_P2.T
    areas_P = (areas_of(first)[a] + areas_of(second)[b]) / 2
    one_PK3, other_PK3 = first.keypoints[a], second.keypoints[b]
    both_PK = (one_PK3[..., 2] > 0) & (other_PK3[..., 2] > 0) & (areas_P > 0)[:, None]
    apart_PK = ((one_PK3 - other_PK3)[..., :2] ** 2).sum(axis=-1) / np.where(areas_P > 0, areas_P, 1)[:, None]
    keypoints = _by_keypoint(first.skeleton, apart_PK, both_PK)
    if all(one.problem for one in keypoints):
        reasons = ", ".join(sorted({one.problem for one in keypoints}))
        raise DatasetError(f"{first.shown} and {second.shown}: no sigma can be measured on the "
                           f"{len(a)} people labelled in both: {reasons}. Give two people's labels of the same "
                           "pictures, made without a look at each other's")
    return MeasuredSigmas(
        skeleton=replace(first.skeleton, name=name, sigmas=tuple(one.sigma for one in keypoints)), keypoints=keypoints,
        people=len(a), by_id=int((first.ids[a] == second.ids[b]).sum()),
        alone=(int(first.with_keypoints().sum()) - len(a), int(second.with_keypoints().sum()) - len(b)),
        without_area=int((areas_P == 0).sum()),
    )  # fmt: skip


def _pairs(first: CocoDataset, second: CocoDataset) -> Iterator[tuple[int, int]]:
    """Rows of the same person in both."""
    counted = first.with_keypoints(), second.with_keypoints()
    for place, picture in find_twins(first.images, second.images).same.items():
        a, b = first.rows_by_image[first.images[place].id], second.rows_by_image[picture.id]
        yield from _pairs_of_picture(first, a[counted[0][a]], second, b[counted[1][b]])


def _pairs_of_picture(first: CocoDataset, a: Int, second: CocoDataset, b: Int) -> Iterator[tuple[int, int]]:
    overlap_AB = iou_matrix(first.boxes_xyxy[a], second.boxes_xyxy[b])
    fit_AB = np.where(overlap_AB >= SAME_BOX, overlap_AB + (first.ids[a][:, None] == second.ids[b]), 0)
    while fit_AB.any():
        one, other = np.unravel_index(fit_AB.argmax(), fit_AB.shape)
        yield int(a[one]), int(b[other])
        fit_AB[one] = fit_AB[:, other] = 0


def _by_keypoint(skeleton: Skeleton, apart_PK: Float, both_PK: Bool) -> tuple[KeypointSigma, ...]:
    measured = []
    for k, (name, mirrored) in enumerate(zip(skeleton.names, skeleton.flip_index.tolist(), strict=True)):
        pool = sorted({k, mirrored})
        apart_J = apart_PK[:, pool][both_PK[:, pool]]
        sigma = float(np.sqrt(np.median(apart_J) / (2 * np.log(2)))) if len(apart_J) else 0.0
        problem = _problem(len(apart_J), sigma)
        before = skeleton.sigmas[k]
        measured.append(KeypointSigma(
            name=name, pairs=int(both_PK[:, k].sum()), pooled=len(apart_J), before=before,
            sigma=before if problem else float(f"{sigma:.{DIGITS}g}"), problem=problem))  # fmt: skip
    return tuple(measured)


def _problem(pairs: int, sigma: float) -> str:
    if not pairs:
        return "no pairs"
    if sigma == 0:
        return "at the same place in most pairs, as if one was copied from the other"
    return "further apart than a person is large" if sigma >= 1 else ""
