"""Why a person is not found better: the kinds of errors of Ronchi and Perona (ICCV 2017).

A result belongs to a person if it is matched at an OKS of .1. Each labelled joint is then compared with four places:
its own; that of its mirrored joint on the same person; its own and that of its mirrored joint on another person. The
measure is the keypoint similarity KS = exp(-d^2 / (2 s^2 k^2)), with the scale of the person whose place it is. The
largest decides, its own among equals: own above .85 is *good*, from .5 *jitter*; its mirrored joint from .5
*inversion*; another person's from .5 *swap*; all below .5 *miss*.

Whole results and people: a *second find* is a duplicate, of a person who has a better-scored result; *background* is a
false positive (OKS below .1 with everybody); a *missed* person has no result; a *misranked* one has a result with a
lower score that fits better. N labelled people, M results, K keypoints, P pairs of a result and somebody of its image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Bool, Float, Int
from stagepose.evaluation.columns import Found
from stagepose.evaluation.keypoints import Judgement
from stagepose.evaluation.matching import NOBODY, Pairs, Truth, match
from stagepose.evaluation.precision import everybody
from stagepose.oks import keypoint_similarity

MATCHED = 0.1  # minimum OKS of a result with its person
NEAR, GOOD = 0.5, 0.85  # KS from which a joint is near a place, and above which it is right
KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD_ONE, JITTER, INVERSION, SWAP, MISS = range(len(KINDS))
UNJUDGED = -1  # a joint that isn't labelled, or of a result without a person
AT_ONCE = 20_000  # results whose joints are compared together


@dataclass(frozen=True, eq=False, kw_only=True)
class Taxonomy:
    """The errors, by result or by person, in the order of the judgement."""

    person_of: Int  # (M,) the person that a result is, or NOBODY
    oks: Float  # (M,) with that person, 0 for nobody
    kinds: NDArray[np.int8]  # (M, K) of KINDS, or UNJUDGED
    nearest: Int  # (M,) the counted person with the highest OKS, NOBODY where it is below MATCHED
    nearest_oks: Float  # (M,)
    second: Bool  # (M,)
    background: Bool  # (M,)
    missed: Bool  # (N,)
    misranked: Bool  # (N,)

    def counts(self) -> dict[str, int]:
        """How many joints of each kind, and how many results and people."""
        joints = {kind: int((self.kinds == code).sum()) for code, kind in enumerate(KINDS)}
        return {**joints, "misranked": int(self.misranked.sum()), "second": int(self.second.sum()),
                "background": int(self.background.sum()), "missed": int(self.missed.sum())}

    def by_keypoint(self) -> NDArray[np.int64]:
        """(K, kinds) joints."""
        return np.stack([(self.kinds == code).sum(axis=0) for code in range(len(KINDS))], axis=1)


def classify(judged: Judgement) -> Taxonomy:
    """Sort all errors of a judgement."""
    truth, found, pairs = judged.truth, judged.found, judged.pairs
    person_of, absorbed_M = people_of(truth, found, pairs)
    mine = np.flatnonzero(person_of != NOBODY)
    own_oks = oks_with(pairs, person_of)
    nearest, nearest_oks = nearest_people(truth, pairs)
    alone_M = (person_of == NOBODY) & ~absorbed_M
    second = alone_M & (nearest != NOBODY)
    missed = ~truth.ignored
    missed[person_of[mine]] = False
    best_N = np.zeros(len(truth))
    best_N[person_of[mine]] = own_oks[mine]
    misranked = np.zeros(len(truth), dtype=bool)
    better = np.flatnonzero(second)
    better = better[nearest_oks[better] > best_N[nearest[better]]]
    misranked[nearest[better]] = True
    return Taxonomy(
        person_of=person_of, oks=own_oks, kinds=_kinds(judged, person_of), nearest=nearest, nearest_oks=nearest_oks,
        second=second, background=alone_M & ~second, missed=missed, misranked=misranked & ~missed,
    )  # fmt: skip


def people_of(truth: Truth, found: Found, pairs: Pairs) -> tuple[Int, Bool]:
    """(M,) the counted person that each result is, or :data:`NOBODY`; and (M,) whether an ignored one absorbs it."""
    matched_M = match(truth, found, pairs, [everybody(truth, found)], np.array([MATCHED]))[0, 0].astype(np.int64)
    person_of = np.where(np.append(truth.ignored, True)[matched_M], NOBODY, matched_M)  # the last is NOBODY's
    return person_of, person_of != matched_M


def oks_with(pairs: Pairs, person_of: Int) -> Float:
    """(M,) OKS of each result with a person of its image, 0 with :data:`NOBODY`."""
    oks = np.zeros(len(person_of))
    mine = np.flatnonzero(person_of != NOBODY)
    oks[mine] = pairs.oks[pairs.start[mine] + person_of[mine] - pairs.first[mine]]
    return oks


def nearest_people(truth: Truth, pairs: Pairs) -> tuple[Int, Float]:
    """Of each result the counted person of its image that it fits best, and the OKS, if that is enough for a match."""
    count_M = np.diff(pairs.start)
    somebody = np.flatnonzero(count_M)
    nearest, oks = np.full(len(count_M), NOBODY), np.zeros(len(count_M))
    if not len(somebody):
        return nearest, oks
    people_P = np.arange(pairs.start[-1]) - np.repeat(pairs.start[:-1] - pairs.first, count_M)
    fit_P = np.where(truth.ignored[people_P], -1.0, pairs.oks)
    best = np.maximum.reduceat(fit_P, pairs.start[somebody])
    at = np.flatnonzero(fit_P == np.repeat(best, count_M[somebody]))  # the first of equals
    first_at = at[np.searchsorted(at, pairs.start[somebody])]
    enough = best >= MATCHED
    nearest[somebody[enough]], oks[somebody[enough]] = people_P[first_at[enough]], best[enough]
    return nearest, oks


def _kinds(judged: Judgement, person_of: Int) -> NDArray[np.int8]:
    kinds = np.full(judged.found.points.shape[:2], UNJUDGED, dtype=np.int8)
    mine = np.flatnonzero(person_of != NOBODY)
    mirror = judged.dataset.skeleton.flip_index
    for part in np.array_split(mine, max(1, -(-len(mine) // AT_ONCE))):
        if len(part):
            kinds[part] = _kinds_of(judged.truth, judged.found, judged.pairs, part, person_of[part], mirror)
    return kinds


def _kinds_of(truth: Truth, found: Found, pairs: Pairs, results_R: Int, people_R: Int, mirror: Int) -> NDArray[np.int8]:
    """(R, K) kinds of the joints of R results that are somebody's."""
    count_R = np.diff(pairs.start)[results_R]
    start_R = np.concatenate([[0], np.cumsum(count_R)[:-1]])
    result_P = np.repeat(np.arange(len(results_R)), count_R)
    person_P = np.arange(len(result_P)) - np.repeat(start_R - pairs.first[results_R], count_R)
    points_PK2, own_P = found.points[results_R[result_P]], person_P == people_R[result_P]
    straight_PK, mirrored_PK = (
        _similarity(points_PK2, truth.keypoints[person_P][:, order], truth.areas[person_P], truth.sigmas)
        for order in (slice(None), mirror)
    )
    own, inverted = straight_PK[own_P], mirrored_PK[own_P]
    others_PK = np.where(own_P[:, None], -1.0, np.maximum(straight_PK, mirrored_PK))
    others = np.maximum.reduceat(others_PK, start_R)
    greatest = np.maximum(np.maximum(own, inverted), others)
    kind = np.where(own == greatest, np.where(own > GOOD, GOOD_ONE, JITTER),
                    np.where(inverted == greatest, INVERSION, SWAP))
    kind = np.where(greatest < NEAR, MISS, kind)
    return np.where(truth.keypoints[people_R, :, 2] > 0, kind, UNJUDGED).astype(np.int8)


def _similarity(points_PK2: Float, places_PK3: Float, areas_P: Float, sigmas_K: Float) -> Float:
    """(P, K) KS with places, -1 where the place isn't labelled. A joint and its mirrored one have one sigma."""
    with np.errstate(over="ignore"):
        squared = ((points_PK2 - places_PK3[..., :2]) ** 2).sum(axis=-1)
    return np.where(places_PK3[..., 2] > 0, keypoint_similarity(squared, areas_P, sigmas_K), -1.0)
