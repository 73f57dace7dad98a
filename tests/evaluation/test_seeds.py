"""Runs compared over pictures and seeds: seeds that differ widely forbid what the pictures alone would tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_dict

from evaluation.published import as_dataset, coco_json
from evaluation.test_bootstrap import shaken
from stagepose.evaluation import Judgement, compare, compare_runs, judge_keypoints
from stagepose.evaluation.seeds import chance_of_seeds, student

PICTURES = 40


def runs(folder: Path, *pixels: float) -> list[Judgement]:
    """A run each, whose keypoints are off by so many pixels."""
    truth = tiny_dict(images=PICTURES)
    dataset = as_dataset(truth, folder)
    return [judge_keypoints(dataset, shaken(truth, off, round(100 * off))) for off in pixels]


def test_seeds_that_differ_widely_are_not_taken_for_a_difference(tmp_path: Path) -> None:
    """Over the pictures alone B would be the better."""
    told = compare_runs(runs(tmp_path, 3.0, 5.2), runs(tmp_path, 2.4, 4.2), resamples=200)
    within, alone = told.intervals[0], told.pictures[0]
    assert within is not None and alone is not None
    assert alone.low > 0 and within.low < 0 < within.high
    verdict = told.verdict("a", "b")
    assert "may be the choice of pictures and seeds" in verdict and "is better" not in verdict
    assert f"over these {PICTURES} pictures and 2 seeds: {within.low:+.3f}" in verdict
    assert f"over pictures alone {alone.low:+.3f} to {alone.high:+.3f}" in verdict


def test_seeds_that_agree_tell_a_difference(tmp_path: Path) -> None:
    a, b = runs(tmp_path, 4.9, 5.0, 5.1), runs(tmp_path, 2.9, 3.0, 3.1)
    told = compare_runs(a, b, resamples=200)
    assert told.intervals[0] is not None and told.intervals[0].low > 0
    assert told.verdict("a", "b").startswith("b is better than a by")
    assert compare_runs(b, a, resamples=200).verdict("b", "a").startswith("b is better than a by")
    assert told.a[0] == pytest.approx(np.mean([run.ap() for run in a]))
    one = compare_runs(a, b[:1], resamples=200)  # which is taken to vary as the others do
    assert one.runs == (3, 1) and one.intervals[0] is not None and one.intervals[0].low > 0
    assert "3 and 1 seeds" in one.verdict()


def test_the_same_seeds_are_compared_with_each_other(tmp_path: Path) -> None:
    """A seed that is bad for both says nothing about either."""
    a, b = runs(tmp_path, 3.0, 4.5, 6.0), runs(tmp_path, 2.5, 3.9, 5.3)
    paired, apart = (compare_runs(a, b, paired=paired, resamples=200) for paired in (True, False))
    assert paired.intervals[0] is not None and apart.intervals[0] is not None
    assert paired.intervals[0].low > 0 > apart.intervals[0].low
    assert paired.pictures == apart.pictures


def test_pictures_alone_are_drawn_as_for_two(tmp_path: Path) -> None:
    a, b = runs(tmp_path, 4, 3)
    assert compare_runs([a, a], [b], resamples=100, seed=3).pictures == compare(a, b, 100, 3).intervals


def test_runs_that_find_the_same_are_equal(tmp_path: Path) -> None:
    a = runs(tmp_path, 3, 4)
    assert "equal on every draw" in compare_runs(a, a, paired=True, resamples=100).verdict()


def test_no_ground_truth_is_said(tmp_path: Path) -> None:
    judged = judge_keypoints(as_dataset(coco_json([], images=0), tmp_path), [])
    told = compare_runs([judged, judged], [judged, judged], resamples=100)
    assert told.verdict() == "There is no ground truth to compare by."
    assert told.rows()[0] == ("AP .50:.95", "no ground truth", "no ground truth", "", "", "")


@pytest.mark.parametrize(("side_a", "side_b", "paired"), [(3, 3, False), (3, 3, True), (2, 2, False), (3, 1, False),
                                                          (8, 8, False)])
def test_few_seeds_are_not_taken_for_many(side_a: int, side_b: int, paired: bool) -> None:
    """Of trainings that do not differ, nineteen in twenty are not told apart: the interval is as wide as t's."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(500):
        a_1RS, b_1RS = (rng.normal(size=(1, count, 1)) for count in (side_a, side_b))
        many_BRS = np.repeat(a_1RS, 400, 0), np.repeat(b_1RS, 400, 0)
        low, high = np.percentile(chance_of_seeds(*many_BRS, paired, rng), (2.5, 97.5))
        held += low <= b_1RS.mean() - a_1RS.mean() <= high
    assert held > 0.9 * 500


def test_students_quantiles_are_those_of_the_tables() -> None:
    for freedom, expected in ((1, 12.706), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)):
        assert student(freedom) == pytest.approx(expected, abs=4e-3)
