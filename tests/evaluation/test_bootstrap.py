"""Intervals and comparisons: a draw is the set with its images repeated, and chance is told from difference."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_dict

from evaluation.published import Json, as_dataset, coco_json, perfect, pycocotools, random_set
from stagepose.errors import ConfigError
from stagepose.evaluation import Interval, compare, compare_pck, evaluate_pck, intervals, judge_keypoints
from stagepose.evaluation.bootstrap import draws
from stagepose.evaluation.pck import SHARES, counts_of
from stagepose.skeleton import COCO_17

FAR = 10_000  # added to an image's id for each copy of it


def repeated(truth: Json, results: list[Json], times: Any) -> tuple[Json, list[Json]]:
    """The set in which image n is there ``times[n]`` times."""
    images, annotations, found = [], [], []
    for image, count in zip(sorted(truth["images"], key=lambda i: i["id"]), times, strict=True):
        for copied in range(int(count)):
            number = image["id"] + FAR * copied
            images.append({**image, "id": number, "file_name": f"{number}.png"})
            annotations += [{**a, "image_id": number} for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [{**r, "image_id": number} for r in results if r["image_id"] == image["id"]]
    annotations = [{**a, "id": n} for n, a in enumerate(annotations, start=1)]
    return {**truth, "images": images, "annotations": annotations}, found


def distinct_scores(results: list[Json]) -> list[Json]:
    """Without ties, so that the copies' order within a score says nothing."""
    return [{**r, "score": (n + 1) / (len(results) + 1)} for n, r in enumerate(results)]


@pytest.mark.parametrize("seed", range(6))
def test_weights_are_repeated_images(tmp_path: Path, seed: int) -> None:
    truth, results = random_set(seed, images=12)
    results = distinct_scores(results)
    judged = judge_keypoints(as_dataset(truth, tmp_path), results)
    times = next(draws(12, 100, seed))
    expected = pycocotools(*repeated(truth, results, times))
    np.testing.assert_allclose(judged.numbers(times), expected, rtol=0, atol=1e-12)


def test_intervals_hold_the_number_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    truth, results = random_set(4, images=40)
    judged = judge_keypoints(as_dataset(truth, tmp_path), results)
    first, again, other = (intervals(judged, 200, seed) for seed in (1, 1, 2))
    assert first == again != other
    for value, within in zip(judged.numbers(), first, strict=True):
        assert within is not None and within.low <= value <= within.high and within.low < within.high


def test_perfect_results_leave_nothing_to_chance(tmp_path: Path) -> None:
    truth = tiny_dict(images=6)
    judged = judge_keypoints(as_dataset(truth, tmp_path), perfect(truth))
    assert {(within.low, within.high) for within in intervals(judged, 100)[:3] if within} == {(1, 1)}


def test_too_few_draws_and_no_seed_are_refused(tmp_path: Path) -> None:
    judged = judge_keypoints(as_dataset(tiny_dict(), tmp_path), [])
    with pytest.raises(ConfigError, match="20 resamples are too few"):
        intervals(judged, 20)
    with pytest.raises(ConfigError, match="seed is -1"):
        compare(judged, judged, seed=-1)


@pytest.mark.parametrize("truth", [coco_json([], images=2), coco_json([], images=0)], ids=["nobody", "no images"])
def test_no_ground_truth_has_no_interval(tmp_path: Path, truth: Json) -> None:
    judged = judge_keypoints(as_dataset(truth, tmp_path), [])
    assert intervals(judged, 100) == [None] * 10
    comparison = compare(judged, judged, 100)
    assert comparison.verdict() == "There is no ground truth to compare by."
    assert comparison.rows()[0] == ("AP .50:.95", "no ground truth", "no ground truth", "", "")


def shaken(truth: Json, pixels: float, seed: int) -> list[Json]:
    rng = np.random.default_rng(seed)
    results = copy.deepcopy(perfect(truth))
    for result in results:
        moved = np.reshape(result["keypoints"], (-1, 3)) + rng.normal(0, pixels, (17, 3)) * [1, 1, 0]
        result.update(keypoints=moved.ravel().tolist(), score=float(rng.random()))
    return results


def test_a_real_difference_is_told_from_chance(tmp_path: Path) -> None:
    truth = tiny_dict(images=40)
    dataset = as_dataset(truth, tmp_path)
    worse, better, another = (judge_keypoints(dataset, shaken(truth, pixels, seed))
                              for pixels, seed in ((5, 1), (3, 2), (5, 3)))
    told = compare(worse, better, 200)
    assert told.intervals[0] is not None and told.intervals[0].low > 0 and told.better == 1
    assert "B is better than A by" in told.verdict() and "does not explain it" in told.verdict()
    assert "new is better than old" in compare(better, worse, 200).verdict("new", "old")
    chance = compare(worse, another, 200)
    assert chance.intervals[0] is not None and chance.intervals[0].low < 0 < chance.intervals[0].high
    assert "may be the choice of these 40 pictures" in chance.verdict()
    assert "equal on every draw" in compare(worse, worse, 100).verdict()


def test_everything_against_nothing_is_the_greatest_difference(tmp_path: Path) -> None:
    truth = tiny_dict(images=4)
    dataset = as_dataset(truth, tmp_path)
    told = compare(judge_keypoints(dataset, perfect(truth)), judge_keypoints(dataset, []), 100)
    assert told.intervals[0] == Interval(-1.0, -1.0) and told.better == 0
    assert told.verdict().startswith("A is better than B by 1.000 AP")


def test_draws_without_large_people_are_passed_over(tmp_path: Path) -> None:
    """One picture of three has a large person: some draws have none."""
    truth = tiny_dict(images=3, people=1)
    for annotation, area in zip(truth["annotations"], (2000, 2000, 20000), strict=True):
        annotation["area"] = area
    dataset = as_dataset(truth, tmp_path)
    judged, nothing = judge_keypoints(dataset, perfect(truth)), judge_keypoints(dataset, [])
    assert intervals(judged, 100)[4] == Interval(1.0, 1.0)
    assert compare(nothing, judged, 100).intervals[4] == Interval(1.0, 1.0)


def test_a_pair_is_told_apart_where_two_intervals_overlap(tmp_path: Path) -> None:
    """Pictures that are hard for one are hard for the other: the paired interval is far narrower."""
    truth, results = random_set(5, images=60)
    dataset = as_dataset(truth, tmp_path)
    fewer = [r for n, r in enumerate(results) if n % 12]
    a, b = judge_keypoints(dataset, fewer), judge_keypoints(dataset, results)
    within, alone = compare(a, b, 200).intervals[0], intervals(a, 200)[0]
    assert within is not None and alone is not None
    assert within.high - within.low < (alone.high - alone.low) / 2


def test_pck_of_a_draw_is_that_of_its_pictures_repeated(tmp_path: Path) -> None:
    truth, results = random_set(2, images=12)
    results = distinct_scores(results)
    counts_IRC = counts_of(judge_keypoints(as_dataset(truth, tmp_path), results))
    for times in (np.ones(12, dtype=int), next(draws(12, 100, 7))):
        again = evaluate_pck(as_dataset(*repeated(truth, results, times)[:1], tmp_path),
                             repeated(truth, results, times)[1])
        sums_RC = np.tensordot(times, counts_IRC, 1)
        for row, one in zip(sums_RC, (again.all, *again.keypoints), strict=True):
            assert row[0] == one.labelled
            assert one.pck == pytest.approx(tuple(row[1:] / row[0]) if row[0] else (-1, -1, -1))


def test_pck_of_two_results_is_compared_on_the_same_draws(tmp_path: Path) -> None:
    """One joint of everybody is moved: its PCK and that of all together differ, and no other's."""
    truth = tiny_dict(images=40)
    dataset = as_dataset(truth, tmp_path)
    worse = copy.deepcopy(perfect(truth))
    for number, result in enumerate(worse):
        result["keypoints"][0] += 1000 * (number % 4 == 0)
    a, b = judge_keypoints(dataset, worse), judge_keypoints(dataset, perfect(truth))
    told = compare_pck(a, b, 200)
    assert [(one.name, one.share) for one in told] == [(name, share) for name in ("all", *COCO_17.names)
                                                       for share in SHARES]
    for one, pck in zip(told, np.ravel([each.pck for each in (evaluate_pck(dataset, worse).all,
                                                             *evaluate_pck(dataset, worse).keypoints)]), strict=True):
        assert (one.a, one.b) == (pytest.approx(pck), 1) and one.interval is not None
        if one.name in ("all", "nose"):
            assert 0 < one.interval.low < 1 - one.a < one.interval.high
        else:
            assert one.interval == Interval(0.0, 0.0)
    assert compare_pck(a, b, 200) == told != compare_pck(a, b, 200, seed=1)
    assert told[4].row()[:5] == ("nose", "PCK .1", "0.750", "1.000", "+0.250")


@pytest.mark.parametrize("truth", [coco_json([], images=2), coco_json([], images=0)], ids=["nobody", "no images"])
def test_pck_of_nobody_has_no_interval(tmp_path: Path, truth: Json) -> None:
    judged = judge_keypoints(as_dataset(truth, tmp_path), [])
    told = compare_pck(judged, judged, 100)
    assert {one.interval for one in told} == {None}
    assert told[0].row() == ("all", "PCK .05", "no ground truth", "no ground truth", "", "")
