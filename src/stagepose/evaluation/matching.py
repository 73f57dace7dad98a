"""Which result is which labelled person: COCO's greedy matching, for all images at once.

V views of the same results (everybody, medium people, large ones, ...), T OKS thresholds, N labelled people, M found,
G labelled people of one image, D of its found. COCO's rules, which decide an AP: of an image's results the best-scored
chooses first; it takes the person with the highest OKS of at least the threshold, of equals the later one; people to
be ignored only when nobody else is left, and a crowd any number of times. An ignored person is neither a miss nor a
false positive; an unmatched result is ignored in a view that it doesn't belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Bool, Float, Int
from stagepose.coco.dataset import CocoDataset
from stagepose.errors import DatasetError
from stagepose.evaluation.columns import Found, sorted_image_ids
from stagepose.oks import oks_of_person

THRESHOLDS: Float = np.linspace(0.5, 0.95, 10)
CLOSE_TO_ONE = 1 - 1e-10  # COCO lowers a threshold of 1 to it
NOBODY = -1
PAIRS_AT_ONCE = 50_000  # whose OKS is computed together: about 20 MB for 17 keypoints


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """The labelled people of a set, grouped by image, images in the order of their ids."""

    rows: Int  # (N,) in the data set
    images: Int  # (N,) place among the sorted image ids
    keypoints: Float  # (N, K, 3)
    areas: Float  # (N,)
    boxes: Float  # (N, 4) xyxy
    crowd: Bool  # (N,)
    ignored: Bool  # (N,) crowds and people without labelled keypoints
    sigmas: Float  # (K,)
    image_count: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """Which people do not count, and which unmatched results do not: ``ignored`` (N,), ``outside`` (M,)."""

    ignored: Bool
    outside: Bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs:
    """OKS of every labelled person and every result of the same image: ``oks[start[m] : start[m + 1]]`` are result
    m's, in the order of its image's people, the first of whom is ``first[m]``."""

    oks: Float
    start: Int  # (M + 1,)
    first: Int  # (M,)


def areas_of(dataset: CocoDataset) -> Float:
    """(N,) areas of a set's people, by which OKS is measured; :class:`DatasetError` where they are left out."""
    missing = np.flatnonzero(np.isnan(dataset.areas))
    if len(missing):
        raise DatasetError(
            f"{dataset.shown}: {len(missing)} of {len(dataset)} people have no 'area', such as annotation "
            f"{dataset.ids[missing[0]]}; OKS is measured by the area of the person's segment. Add it to the file, or "
            "let 'stagepose check --write-clean OUT --estimate-areas' take it from the boxes"
        )
    return dataset.areas


def truth_of(dataset: CocoDataset) -> Truth:
    """A set's people in COCO's order; :class:`DatasetError` as :func:`areas_of`."""
    ids = sorted_image_ids(dataset)
    order = np.argsort(dataset.image_ids, kind="stable")
    return Truth(
        rows=order, images=np.searchsorted(ids, dataset.image_ids[order]), keypoints=dataset.keypoints[order],
        areas=areas_of(dataset)[order], boxes=dataset.boxes_xyxy[order], crowd=dataset.crowd[order],
        ignored=~dataset.with_keypoints()[order], sigmas=np.array(dataset.skeleton.sigmas), image_count=len(ids),
    )  # fmt: skip


def pairs_of(truth: Truth, found: Found) -> Pairs:
    """OKS within each image."""
    firsts = np.searchsorted(truth.images, np.arange(truth.image_count + 1))
    first, count = firsts[found.images], np.diff(firsts)[found.images]
    start = np.concatenate([[0], np.cumsum(count)])
    found_P = np.repeat(np.arange(len(found)), count)
    truth_P = np.arange(start[-1]) - np.repeat(start[:-1] - first, count)
    oks = np.zeros(start[-1])
    unlabelled_N = np.asarray((truth.keypoints[..., 2] <= 0).all(axis=1))
    for kind in (False, True):  # apart: a person without labelled joints is measured in another way
        chosen = np.flatnonzero(unlabelled_N[truth_P] == kind)
        for part in np.array_split(chosen, max(1, -(-len(chosen) // PAIRS_AT_ONCE))):
            n, m = truth_P[part], found_P[part]
            with np.errstate(over="ignore", invalid="ignore"):  # points beyond all sense are misses, not warnings
                oks[part] = oks_of_person(truth.keypoints[n], truth.areas[n], truth.boxes[n], found.points[m],
                                          truth.sigmas)
    return Pairs(oks=oks, start=start, first=first)


def match(truth: Truth, found: Found, pairs: Pairs, views: list[View],
          thresholds_T: Float = THRESHOLDS) -> NDArray[np.int32]:
    """(V, T, M) the labelled person that each result is matched to, or :data:`NOBODY`."""
    matched = np.full((len(views), len(thresholds_T), len(found)), NOBODY, dtype=np.int32)
    ignored_VN = np.stack([view.ignored for view in views])
    limits_T = np.minimum(thresholds_T, CLOSE_TO_ONE)
    for people, starts, counts in _groups(found, pairs):
        _match_group(matched, people, starts, counts, pairs, ignored_VN, truth.crowd, limits_T)
    return matched


def _groups(found: Found, pairs: Pairs) -> Iterator[tuple[int, Int, Int]]:
    """(G, first result of each image, its results) of the images that have G people, most results first."""
    _, starts, counts = np.unique(found.images, return_index=True, return_counts=True)
    people = np.diff(pairs.start)[starts] if len(starts) else starts
    for number in np.unique(people[people > 0]).tolist():
        mine = np.flatnonzero(people == number)
        mine = mine[np.argsort(-counts[mine], kind="stable")]
        yield number, starts[mine], counts[mine]


def _match_group(matched: NDArray[np.int32], people: int, starts_I: Int, counts_I: Int, pairs: Pairs,
                 ignored_VN: Bool, crowd_N: Bool, limits_T: Float) -> None:
    """Fill ``matched`` for images with equally many people, the d-th best result of all of them at once."""
    rows_IG = pairs.first[starts_I][:, None] + np.arange(people)
    ignored_VIG, crowd_IG = ignored_VN[:, rows_IG], crowd_N[rows_IG]
    free_VTIG = np.ones((len(ignored_VN), len(limits_T), len(starts_I), people), dtype=bool)
    for d in range(int(counts_I[0])):
        n = int(np.searchsorted(-counts_I, -d))  # images that have more than d results come first
        oks_IG = pairs.oks[pairs.start[starts_I[:n] + d][:, None] + np.arange(people)]
        wish_VIG = _preference(oks_IG) + np.where(ignored_VIG[:, :n], np.int32(0), np.int32(people))
        possible = free_VTIG[:, :, :n] & (oks_IG >= limits_T[:, None, None])
        wish = np.where(possible, wish_VIG[:, None], np.int32(NOBODY))
        best_VTI = wish.argmax(axis=-1)
        hit_VTI = np.take_along_axis(wish, best_VTI[..., None], -1)[..., 0] >= 0
        v, t, i = np.nonzero(hit_VTI)
        g = best_VTI[v, t, i]
        matched[v, t, starts_I[i] + d] = rows_IG[i, g]
        free_VTIG[v, t, i, g] = crowd_IG[i, g]


def _preference(oks_IG: Float) -> NDArray[np.int32]:
    """(I, G) ranks, 0 the least similar, of equals the later one preferred: integers, so that a bonus loses no bit."""
    order = np.argsort(oks_IG, axis=-1, kind="stable")
    ranks = np.empty(oks_IG.shape, dtype=np.int32)
    np.put_along_axis(ranks, order, np.arange(oks_IG.shape[-1], dtype=np.int32)[None], axis=-1)
    return ranks
