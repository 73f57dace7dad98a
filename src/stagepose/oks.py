"""Object keypoint similarity (OKS), OKS-NMS, and the rules by which people are scored.

N labelled people (or people found, where there are no others), M people found, K keypoints; points and boxes in image
pixels. A duplicate is a person whose OKS with a better one exceeds a threshold. The rules that combine box and joint
scores into a person's score are here by name, because the ranking decides an AP as much as the points do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.errors import ConfigError

NMS_THRESHOLD = 0.9  # OKS above which two finds are one person; HRNet, mmpose
TWIN_OKS = 0.5  # ours: of COCO's labelled people .5 % more are as alike as this than as .9 (benchmarks/ranking.md)
COUNTED_JOINT = 0.2  # joints scored lower do not count in a person's score; HRNet, mmpose
MEGVII_JOINT_OFFSET = 0.5  # the released MSPN adds it to heatmap / 255; our peaks are 1 where theirs are 255
COCO_MAX_PEOPLE = 20  # COCO judges no more results per image
_TINY = float(np.spacing(1))  # COCO adds it to an area, so that an area of 0 divides


def oks_of_person(
    truth_NK3: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    boxes_xyxy_N4: NDArray[np.floating],
    found_NK2: NDArray[np.floating],
    sigmas_K: NDArray[np.floating],
) -> Float:
    """(N,) similarity of each labelled person to the one found in its place.

    A person without labelled joints is measured by its box, extended by its own width and height on every side (three
    boxes wide and high): a joint inside is at distance 0, one outside at its distance to the edge. In place of N may
    stand any axes that broadcast: people (N, 1) and finds (1, M) give (N, M), everybody's similarity to everybody.
    """
    truth, found = np.asarray(truth_NK3, dtype=np.float64), np.asarray(found_NK2, dtype=np.float64)
    labelled = truth[..., 2] > 0
    dx, dy = found[..., 0] - truth[..., 0], found[..., 1] - truth[..., 1]
    count = np.asarray(labelled.sum(axis=-1))
    nobody = count == 0
    if nobody.any():
        corners = np.asarray(boxes_xyxy_N4, dtype=np.float64)[..., None, :]
        size = corners[..., 2:] - corners[..., :2]
        outside = np.maximum(0, corners[..., :2] - size - found) + np.maximum(0, found - corners[..., 2:] - size)
        dx, dy = (np.where(nobody[..., None], outside[..., axis], d) for axis, d in enumerate((dx, dy)))
        labelled, count = labelled | nobody[..., None], np.where(nobody, labelled.shape[-1], count)
    closeness = keypoint_similarity(dx**2 + dy**2, np.asarray(areas_N, dtype=np.float64), sigmas_K)
    return np.asarray(np.einsum("...k,...k->...", closeness, labelled.astype(np.float64)) / count)


def keypoint_similarity(squared_K: Float, areas: Float, sigmas_K: NDArray[np.floating]) -> Float:
    """exp(-d^2 / (2 s^2 k^2)) of every joint, k = 2 sigma; squared distances (..., K) and areas s^2 (...)."""
    variances = (2 * np.asarray(sigmas_K, dtype=np.float64)) ** 2
    out: Float = np.exp(-squared_K / variances / (areas[..., None] + _TINY) / 2)
    return out


def _similar_to(one: np.int64, others_M: NDArray[np.int64], points_NK2: Float, areas_N: Float, sigmas: Float) -> Float:
    """(M,) OKS of one found person to others; the area is the mean of the two (HRNet, mmpose), all joints count."""
    squared = ((points_NK2[others_M] - points_NK2[one]) ** 2).sum(axis=-1)
    out: Float = keypoint_similarity(squared, (areas_N[others_M] + areas_N[one]) / 2, sigmas).mean(axis=-1)
    return out


def ranking(scores_N: NDArray[np.floating]) -> NDArray[np.int64]:
    """(N,) indices, best first; of equals the later one first (a stable ascending sort, reversed).

    The rule of HRNet and mmpose, said once because it decides an AP: on four images of COCO, with many equal scores,
    the same people give .5272 to .5334 depending on it and on the width of the floats that are averaged.
    """
    return np.argsort(np.asarray(scores_N, dtype=np.float64), kind="stable")[::-1]


def oks_nms(
    keypoints_NK2: NDArray[np.floating],
    scores_N: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    sigmas_K: NDArray[np.floating],
    threshold: float = NMS_THRESHOLD,
) -> NDArray[np.int64]:
    """Indices of the people of one image to keep, in :func:`ranking` order.

    Drops whoever has an OKS above ``threshold`` with a better one that is kept. ``areas_N`` is what the finds are
    measured with: see :class:`Rule`.
    """
    points, areas, sigmas = (np.asarray(a, dtype=np.float64) for a in (keypoints_NK2, areas_N, sigmas_K))
    left = ranking(scores_N)
    kept: list[np.int64] = []
    while len(left):
        best, left = np.int64(left[0]), left[1:]
        kept.append(best)
        left = left[_similar_to(best, left, points, areas, sigmas) <= threshold]
    return np.array(kept, dtype=np.int64)


def soft_oks_nms(
    keypoints_NK2: NDArray[np.floating],
    scores_N: NDArray[np.floating],
    areas_N: NDArray[np.floating],
    sigmas_K: NDArray[np.floating],
    threshold: float = NMS_THRESHOLD,
    limit: int = COCO_MAX_PEOPLE,
) -> tuple[NDArray[np.int64], Float]:
    """(indices, lowered scores) of at most ``limit`` people of one image, best first; nobody else is dropped.

    Each person taken lowers the others' scores by exp(-OKS^2 / threshold) (HRNet, mmpose). For crowds, where
    :func:`oks_nms` would drop one of two people who stand as one.
    """
    points, areas, sigmas = (np.asarray(a, dtype=np.float64) for a in (keypoints_NK2, areas_N, sigmas_K))
    scores = np.array(scores_N, dtype=np.float64)
    left = ranking(scores)
    kept: list[np.int64] = []
    while len(left) and len(kept) < limit:
        best, left = np.int64(left[0]), left[1:]
        kept.append(best)
        scores[left] *= np.exp(-(_similar_to(best, left, points, areas, sigmas) ** 2) / threshold)
        left = left[ranking(scores[left])]
    return np.array(kept, dtype=np.int64), scores[kept]


def _geometric(box_scores_N: Float, joint_scores_NK: Float) -> Float:
    out: Float = np.cbrt(box_scores_N * np.maximum(joint_scores_NK.mean(axis=-1), 0) ** 2)
    return out


def _mean_above(box_scores_N: Float, joint_scores_NK: Float) -> Float:
    counted = joint_scores_NK > COUNTED_JOINT
    total: Float = np.where(counted, joint_scores_NK, 0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1)
    return box_scores_N * total


def _mean_all(box_scores_N: Float, joint_scores_NK: Float) -> Float:
    return np.asarray(box_scores_N * joint_scores_NK.mean(axis=-1))


def _megvii(box_scores_N: Float, joint_scores_NK: Float) -> Float:
    return _mean_all(box_scores_N, joint_scores_NK + MEGVII_JOINT_OFFSET)


@dataclass(frozen=True)
class Rule:
    """How people rank: ``score`` from box scores (N,) and joint scores (N, K), and the OKS above which two are one.

    ``of_view``: that OKS is measured by the area of what the network is shown, the box at the crop's aspect and padded,
    as HRNet does (``np.prod(scale * 200)``) and mmpose after it; else by the box's own, padded.
    """

    score: Callable[[Float, Float], Float]
    nms: float | None  # None drops nobody
    of_view: bool = True


RESCORE_RULES: dict[str, Rule] = {
    # of the box's once and all joints' twice: what a small detector needs
    "geometric": Rule(_geometric, TWIN_OKS, of_view=False),
    "mean-above": Rule(_mean_above, NMS_THRESHOLD),  # HRNet, mmpose: joints above COUNTED_JOINT; 0 where none is
    "mean-all": Rule(_mean_all, NMS_THRESHOLD),
    "megvii": Rule(_megvii, None),  # the released MSPN, which then uses no OKS-NMS
}
DEFAULT_RULE = "geometric"  # benchmarks/ranking.md


def rescore(box_scores_N: NDArray[np.floating], joint_scores_NK: NDArray[np.floating], rule: str) -> Float:
    """(N,) scores of people, combined from box and joint scores by a rule of :data:`RESCORE_RULES`.

    ``geometric`` is the cube root of box x joints x joints; the others, which published systems use, are box x joints.

    Joint scores are heatmap peaks in [0, 1]; float64 throughout, since float32 makes equals of different people.
    """
    if rule not in RESCORE_RULES:
        raise ConfigError(f"rescore has no rule {rule!r}; use one of {sorted(RESCORE_RULES)}")
    joints: Float = np.asarray(joint_scores_NK, dtype=np.float64)
    return RESCORE_RULES[rule].score(np.asarray(box_scores_N, dtype=np.float64), joints)
