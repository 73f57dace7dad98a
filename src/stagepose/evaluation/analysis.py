"""The full analysis of an evaluation in one place, ready to be shown or saved.

N labelled people, M results, K keypoints.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from stagepose.aliases import Float
from stagepose.coco.dataset import CocoDataset
from stagepose.evaluation.bootstrap import RESAMPLES, Interval, intervals
from stagepose.evaluation.breakdown import Part, all_parts, overlaps
from stagepose.evaluation.keypoints import NUMBERS, Judgement, KeypointMetrics, judge_keypoints, metrics_of
from stagepose.evaluation.matching import NOBODY
from stagepose.evaluation.mending import Gain, gains, gains_by_keypoint
from stagepose.evaluation.pck import PckMetrics, pck_of
from stagepose.evaluation.taxonomy import KINDS, UNJUDGED, Taxonomy, classify

WORST = 60  # people in the gallery
FALSE_ALARMS = 12
BINS = 20  # of the histogram of OKS
SHOWN = 0.0005  # least gain that is not +0.000 when it is told


@dataclass(frozen=True, kw_only=True)
class Case:
    """A labelled person with what was found of it, or a result that fits nobody (``annotation`` None)."""

    image: int
    file_name: str
    annotation: int | None
    oks: float
    score: float | None  # of the result; None where there is none
    box: tuple[float, float, float, float]  # xyxy
    area: float
    overlap: float  # largest IoU with another person's box
    truth: list[list[float]]  # K of x, y, v
    found: list[list[float]] | None  # K of x, y
    kinds: list[str | None]  # K; None where not judged

    @property
    def labelled(self) -> int:
        """Joints."""
        return sum(v > 0 for _, _, v in self.truth)

    def count(self, kind: str) -> int:
        """Joints of a kind."""
        return self.kinds.count(kind)


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What is right and wrong with a list of results, and what fixing the errors would give."""

    metrics: KeypointMetrics
    intervals: list[Interval | None]
    errors: dict[str, int]
    keypoints: list[str]
    errors_by_keypoint: list[dict[str, int]]
    gains: list[Gain]
    gains_by_keypoint: list[float]
    all_mended: float
    parts: dict[str, list[Part]]
    pck: PckMetrics
    oks_histogram: list[int]  # of the people who have a result, in BINS equal bins of [0, 1]
    worst: list[Case]
    false_alarms: list[Case]
    of: str = field(default="")  # what was judged, for the headline

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return asdict(self)

    def advice(self) -> list[str]:
        """The numbers in sentences."""
        if not self.metrics.people:
            return ["There is no ground truth to evaluate against."]
        lines = [_largest_gain(self.gains), _worst_keypoints(self.keypoints, self.gains_by_keypoint)]
        return [line for line in lines if line] or ["Nothing is wrong with these results."]


MEANING = {
    "miss": "joints far from every place they could be",
    "swap": "joints on another person",
    "inversion": "joints on the other side of the person's own body",
    "jitter": "joints near their place but not on it",
    "score": "scores that rank worse people above better ones",
    "second": "duplicates of people who were found already",
    "background": "false positives",
    "missed": "people without any result",
}


def _largest_gain(listed: list[Gain]) -> str:
    ordered = sorted(listed, key=lambda gain: -gain.alone)
    if ordered[0].alone <= 0:
        return ""
    first, second = ordered[:2]
    then = f", then by {MEANING[second.name]} ({second.alone:+.3f})" if second.alone >= SHOWN else ""
    return f"Most is lost by {MEANING[first.name]} (fixed alone: {first.alone:+.3f} AP){then}."


def _worst_keypoints(names: list[str], gained: list[float]) -> str:
    ordered = [(gain, name) for gain, name in sorted(zip(gained, names, strict=True), reverse=True) if gain >= SHOWN]
    shown = ", ".join(f"{name.replace('_', ' ')} ({gain:+.3f})" for gain, name in ordered[:3])
    return f"Of the keypoints {shown} cost{'s' if len(ordered) == 1 else ''} most." if shown else ""


def analyze(dataset: CocoDataset, results: list[dict[str, Any]], *, resamples: int = RESAMPLES, seed: int = 0,
            worst: int = WORST, of: str = "") -> Analysis:
    """Evaluate COCO keypoint results and break them down; the ``worst`` people are kept one by one."""
    judged = judge_keypoints(dataset, results)
    errors = classify(judged)
    listed, all_mended = gains(judged, errors)
    matched_oks = errors.oks[errors.person_of != NOBODY]
    return Analysis(
        metrics=metrics_of(judged),
        intervals=intervals(judged, resamples, seed) if resamples else [None] * len(NUMBERS),
        errors=errors.counts(),
        keypoints=list(dataset.skeleton.names),
        errors_by_keypoint=[dict(zip(KINDS, row, strict=True)) for row in errors.by_keypoint().tolist()],
        gains=listed,
        gains_by_keypoint=gains_by_keypoint(judged, errors),
        all_mended=all_mended,
        parts=all_parts(judged),
        pck=pck_of(judged),
        oks_histogram=np.histogram(matched_oks, bins=BINS, range=(0, 1))[0].tolist(),
        worst=_worst(judged, errors, worst),
        false_alarms=_false_alarms(judged, errors),
        of=of,
    )


def _worst(judged: Judgement, errors: Taxonomy, count: int) -> list[Case]:
    """The worst-found people, including the missed ones, who are shown with the unmatched result nearest to them."""
    truth, overlap_N = judged.truth, overlaps(judged.truth)
    result_of = np.full(len(truth), NOBODY)
    mine = np.flatnonzero(errors.person_of != NOBODY)
    result_of[errors.person_of[mine]] = mine
    oks_N = np.where(result_of == NOBODY, 0.0, np.append(errors.oks, 0.0)[result_of])
    people = np.flatnonzero(~truth.ignored)
    chosen = people[np.argsort(oks_N[people], kind="stable")][:count]
    cases = []
    for n in chosen.tolist():
        result = int(result_of[n])
        cases.append(_case(judged, errors, n, result if result != NOBODY else _near_miss(judged, errors, n), overlap_N))
    return cases


def _near_miss(judged: Judgement, errors: Taxonomy, person: int) -> int:
    """The unmatched result most similar to a missed person, if the image has one."""
    pairs = judged.pairs
    free = np.flatnonzero(errors.background & (judged.found.images == judged.truth.images[person]))
    if not len(free):
        return NOBODY
    oks = pairs.oks[pairs.start[free] + person - pairs.first[free]]
    return int(free[oks.argmax()])


def _case(judged: Judgement, errors: Taxonomy, person: int, result: int, overlap_N: Float) -> Case:
    truth, found = judged.truth, judged.found
    row = int(truth.rows[person])
    image = int(judged.dataset.image_ids[row])
    kinds = errors.kinds[result].tolist() if result != NOBODY else [UNJUDGED] * truth.keypoints.shape[1]
    return Case(
        image=image, file_name=judged.dataset.image_by_id[image].file_name, annotation=int(judged.dataset.ids[row]),
        oks=0.0 if result == NOBODY else float(errors.oks[result]),
        score=None if result == NOBODY else float(found.scores[result]),
        box=_box(truth.boxes[person]), area=float(truth.areas[person]), overlap=float(overlap_N[person]),
        truth=truth.keypoints[person].tolist(), found=None if result == NOBODY else found.points[result].tolist(),
        kinds=[None if code == UNJUDGED else KINDS[code] for code in kinds],
    )  # fmt: skip


def _false_alarms(judged: Judgement, errors: Taxonomy) -> list[Case]:
    """The highest-scoring false positives."""
    found, joints = judged.found, len(judged.dataset.skeleton)
    those = np.flatnonzero(errors.background)
    chosen = those[np.argsort(-found.scores[those], kind="stable")][:FALSE_ALARMS]
    ids = sorted(judged.dataset.image_by_id)
    cases = []
    for m in chosen.tolist():
        image, points = ids[int(found.images[m])], found.points[m]
        cases.append(Case(
            image=image, file_name=judged.dataset.image_by_id[image].file_name, annotation=None, oks=0.0,
            score=float(found.scores[m]), box=_box(np.concatenate([points.min(axis=0), points.max(axis=0)])),
            area=float(found.areas[m]), overlap=0.0, truth=[[0.0, 0.0, 0.0]] * joints, found=points.tolist(),
            kinds=[None] * joints))  # fmt: skip
    return cases


def _box(corners: Float) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners.tolist()
    return x1, y1, x2, y2
