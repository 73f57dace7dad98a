"""What each kind of error costs: the AP if it were fixed, each alone, and one after the other.

A joint is fixed by putting it where it is labelled; scores by giving each person's best-fitting result its OKS with
the person, all others 0; second finds and background by leaving them out; missed people by a perfect result for each,
with the highest score. The order is that of Ronchi and Perona: first the joints, the farthest off first, then the
ranking, then whole results and people. What is left after all of it are good joints that are not quite right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stagepose.aliases import Bool
from stagepose.evaluation.columns import Found
from stagepose.evaluation.keypoints import Judgement
from stagepose.evaluation.matching import Truth, match, pairs_of
from stagepose.evaluation.precision import NO_TRUTH, everybody, ranked
from stagepose.evaluation.taxonomy import (
    INVERSION,
    JITTER,
    KINDS,
    MISS,
    SWAP,
    UNJUDGED,
    Taxonomy,
    nearest_people,
    oks_with,
    people_of,
)

ORDER = ("miss", "swap", "inversion", "jitter", "score", "second", "background", "missed")
JOINTS = {KINDS[code]: code for code in (MISS, SWAP, INVERSION, JITTER)}


@dataclass(frozen=True)
class Gain:
    """AP gained by fixing one thing: ``alone``, and ``after`` everything before it in the order."""

    name: str
    alone: float
    after: float


def gains(judged: Judgement, errors: Taxonomy) -> tuple[list[Gain], float]:
    """In the order of :data:`ORDER`, and the AP when all is fixed."""
    start = _ap(judged.truth, judged.found)
    if start == NO_TRUTH:
        return [Gain(name, 0.0, 0.0) for name in ORDER], NO_TRUTH
    listed, before = [], start
    for number, name in enumerate(ORDER, start=1):
        alone, after = mended_ap(judged, errors, [name]), mended_ap(judged, errors, ORDER[:number])
        listed.append(Gain(name, alone - start, after - before))
        before = after
    return listed, before


def gains_by_keypoint(judged: Judgement, errors: Taxonomy) -> list[float]:
    """AP gained by fixing all joints of one keypoint, by keypoint."""
    start = _ap(judged.truth, judged.found)
    if start == NO_TRUTH:
        return [0.0] * len(judged.dataset.skeleton)
    wrong_MK = errors.kinds > 0
    gained = []
    for k in range(wrong_MK.shape[1]):
        only = np.zeros_like(wrong_MK)
        only[:, k] = wrong_MK[:, k]
        gained.append(_ap(judged.truth, _put_right(judged.truth, judged.found, errors, only)) - start)
    return gained


def mended_ap(judged: Judgement, errors: Taxonomy, names: Iterable[str]) -> float:
    """AP when errors of these names are fixed."""
    names = set(names)
    truth, found = judged.truth, judged.found
    codes = [code for name, code in JOINTS.items() if name in names]
    if codes:
        found = _put_right(truth, found, errors, np.isin(errors.kinds, codes))
    left_out = np.zeros(len(found), dtype=bool)
    for name, those in (("second", errors.second), ("background", errors.background)):
        left_out |= those & (name in names)
    found = found.only(~left_out)
    if "missed" in names:
        right_AK2 = truth.keypoints[errors.missed][..., :2]
        best = np.full(len(right_AK2), found.scores.max(initial=0.0) + 1)
        found = found.joined(truth.images[errors.missed], right_AK2, best)
    return _ap(truth, _by_fit(truth, found) if "score" in names else found)


def _put_right(truth: Truth, found: Found, errors: Taxonomy, which_MK: Bool) -> Found:
    """The joints of ``which_MK`` where they are labelled."""
    assert not (which_MK & (errors.kinds == UNJUDGED)).any()
    right_MK2 = truth.keypoints[errors.person_of][..., :2]  # of nobody the last person's, which no joint is sent to
    return found.moved(np.where(which_MK[..., None], right_MK2, found.points))


def _by_fit(truth: Truth, found: Found) -> Found:
    """Ranked by how well they fit: of an image's results the one that fits somebody who counts best chooses first.

    Each has its OKS with the person that it then is, which need not be the one that it fits best.
    """
    chosen = found.rescored(nearest_people(truth, pairs_of(truth, found))[1])
    pairs = pairs_of(truth, chosen)
    return chosen.rescored(oks_with(pairs, people_of(truth, chosen, pairs)[0]))


def _ap(truth: Truth, found: Found) -> float:
    view = everybody(truth, found)
    matched_TM = match(truth, found, pairs_of(truth, found), [view])[0]
    return float(ranked(truth, found, view, matched_TM).measure()[0].mean())
