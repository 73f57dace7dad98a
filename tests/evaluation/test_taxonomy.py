"""Every kind of error is planted by hand and found, each once and nothing besides; mending it brings back its AP."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_dict

from evaluation.planted import at_joint, at_similarity, found, joints, moved, nowhere, only_labelled, plant, truth
from evaluation.published import Json, as_dataset, coco_json, perfect, random_set
from stagepose.evaluation import judge_keypoints
from stagepose.evaluation.keypoints import Judgement
from stagepose.evaluation.mending import ORDER, gains, gains_by_keypoint, mended_ap
from stagepose.evaluation.taxonomy import KINDS, Taxonomy, classify
from stagepose.skeleton import COCO_17

NO_ERRORS = dict.fromkeys((*KINDS, "misranked", "second", "background", "missed"), 0)


def judged(data: Json, results: list[Json], folder: Path) -> tuple[Judgement, Taxonomy]:
    judgement = judge_keypoints(as_dataset(data, folder), results)
    return judgement, classify(judgement)


def kind_of(errors: Taxonomy, result: int, name: str) -> str:
    return KINDS[errors.kinds[result, COCO_17.index(name)]]


def test_every_kind_of_joint_error_is_found_where_it_was_planted(tmp_path: Path) -> None:
    data = truth()
    results = found(data)
    first, second = results
    moved(first, "nose", at_similarity(0, "nose", 0.86))  # still good
    moved(first, "left_eye", at_similarity(0, "left_eye", 0.84))
    moved(first, "right_ear", at_similarity(0, "right_ear", 0.51))
    moved(first, "left_hip", at_similarity(0, "left_hip", 0.49))
    moved(first, "left_wrist", at_joint(0, "right_wrist"))
    moved(first, "left_knee", at_joint(1, "left_knee"))
    moved(first, "right_ankle", at_joint(1, "left_ankle"))
    moved(first, "left_shoulder", nowhere())
    moved(second, "nose", at_joint(0, "nose"))
    moved(second, "left_elbow", at_joint(1, "right_hip"))  # some other joint is no place of its own
    _, errors = judged(data, results, tmp_path)
    wanted = {"nose": "good", "left_eye": "jitter", "right_ear": "jitter", "left_hip": "miss",
              "left_wrist": "inversion", "left_knee": "swap", "right_ankle": "swap", "left_shoulder": "miss"}
    assert {name: kind_of(errors, 0, name) for name in wanted} == wanted
    assert (kind_of(errors, 1, "nose"), kind_of(errors, 1, "left_elbow")) == ("swap", "miss")
    assert errors.counts() == {**NO_ERRORS, "good": 34 - 9, "jitter": 2, "inversion": 1, "swap": 3, "miss": 3}
    np.testing.assert_array_equal(errors.by_keypoint().sum(axis=0), [25, 2, 1, 3, 3])
    assert errors.by_keypoint()[COCO_17.index("left_wrist")].tolist() == [1, 0, 1, 0, 0]


def test_places_that_are_not_labelled_are_nobodys(tmp_path: Path) -> None:
    """A wrist on the other wrist's place is an inversion only where that wrist is labelled."""
    data = truth()
    for name in ("right_wrist", "left_eye"):
        k = COCO_17.index(name)
        data["annotations"][0]["keypoints"][3 * k : 3 * k + 3] = [0, 0, 0]
    data["annotations"][0]["num_keypoints"] = 15
    results = found(truth())
    moved(results[0], "left_wrist", at_joint(0, "right_wrist"))
    _, errors = judged(data, results, tmp_path)
    assert kind_of(errors, 0, "left_wrist") == "miss"
    assert errors.counts() == {**NO_ERRORS, "good": 31, "miss": 1}  # of 17 + 15 labelled joints


def test_own_place_wins_among_equals(tmp_path: Path) -> None:
    """Two people whose wrists meet: on the spot it is the person's own."""
    data = truth()
    k = COCO_17.index("left_wrist")
    data["annotations"][1]["keypoints"][3 * k : 3 * k + 2] = at_joint(0, "left_wrist").tolist()
    _, errors = judged(data, found(data), tmp_path)
    assert errors.counts() == {**NO_ERRORS, "good": 34}


def test_whole_results_and_people(tmp_path: Path) -> None:
    data = truth(people=4)
    results = found(data)[:3]
    worse = plant(results, "miss")[0]
    results[0] = {**worse, "score": 0.95}  # ahead of ...
    results.append({**found(data)[0], "score": 0.5})  # ... a better one of the same person
    results.append({**plant(found(data)[1:], "miss")[0], "score": 0.4})  # behind a better one
    results.append({**results[0], "keypoints": [*nowhere().tolist(), 1.0] * 17, "score": 0.3})
    _, errors = judged(data, results, tmp_path)
    assert errors.counts() == {**NO_ERRORS, "good": 50, "miss": 1, "misranked": 1, "second": 2, "background": 1,
                               "missed": 1}
    assert np.flatnonzero(errors.missed).tolist() == [3] and np.flatnonzero(errors.misranked).tolist() == [0]
    assert errors.nearest.tolist() == [0, 1, 2, 0, 1, -1]


def test_what_a_crowd_absorbs_is_no_error(tmp_path: Path) -> None:
    data = truth(people=3)
    data["annotations"][2].update(iscrowd=1)
    results = [*found(data), *found(data)[2:]]
    _, errors = judged(data, results, tmp_path)
    assert errors.counts() == {**NO_ERRORS, "good": 34}


def test_joints_of_ignored_people_are_places_to_swap_with(tmp_path: Path) -> None:
    data = truth(people=2)
    data["annotations"][1].update(iscrowd=1)
    _, errors = judged(data, plant(found(data), "swap"), tmp_path)
    assert errors.counts() == {**NO_ERRORS, "good": 16, "swap": 1}


@pytest.mark.parametrize("data", [tiny_dict(images=5), truth(images=3)], ids=["drawn", "far apart"])
def test_perfect_results_have_no_errors_and_nothing_to_gain(tmp_path: Path, data: Json) -> None:
    judgement, errors = judged(data, perfect(data), tmp_path)
    labelled = sum(a["num_keypoints"] for a in data["annotations"])
    assert judgement.numbers()[:3].tolist() == [1, 1, 1]
    assert errors.counts() == {**NO_ERRORS, "good": labelled}
    listed, at_the_end = gains(judgement, errors)
    assert at_the_end == 1 and {(gain.alone, gain.after) for gain in listed} == {(0, 0)}
    assert gains_by_keypoint(judgement, errors) == [0] * 17


@pytest.mark.parametrize("kind", ["jitter", "inversion", "swap", "miss"])
def test_mending_the_planted_kind_gives_back_all_and_the_others_nothing(tmp_path: Path, kind: str) -> None:
    data = truth()
    results = plant(found(data), kind)
    only_labelled(data["annotations"][0], "nose", "left_wrist", "right_wrist")  # so that one error costs AP
    judgement, errors = judged(data, results, tmp_path)
    start = judgement.ap()
    assert start < 1
    listed, at_the_end = gains(judgement, errors)
    assert at_the_end == 1
    assert {gain.name: gain.alone for gain in listed if gain.name in ("jitter", "inversion", "swap", "miss")} == {
        name: pytest.approx(1 - start if name == kind else 0) for name in ("jitter", "inversion", "swap", "miss")}
    by_keypoint = gains_by_keypoint(judgement, errors)
    at = COCO_17.index("nose" if kind == "jitter" else "left_wrist")
    assert by_keypoint[at] == pytest.approx(1 - start) and sum(by_keypoint) == by_keypoint[at]


def test_mending_whole_results_and_people(tmp_path: Path) -> None:
    """A find of nobody ahead of two people, one of them without a result."""
    data = truth()
    hit = found(data)[0]
    ghost = {**hit, "keypoints": [*nowhere().tolist(), 1.0] * 17, "score": 0.99}
    judgement, errors = judged(data, [hit, ghost], tmp_path)
    half = 51 / 101  # recalls up to .50
    assert judgement.ap() == pytest.approx(half / 2)
    assert mended_ap(judgement, errors, ["background"]) == pytest.approx(half)
    assert mended_ap(judgement, errors, ["score"]) == pytest.approx(half)
    assert mended_ap(judgement, errors, ["missed"]) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert mended_ap(judgement, errors, ["missed", "background"]) == 1


def test_nothing_found_is_mended_by_finding_everybody(tmp_path: Path) -> None:
    judgement, errors = judged(truth(images=2), [], tmp_path)
    listed, at_the_end = gains(judgement, errors)
    assert at_the_end == 1 and {gain.name for gain in listed if gain.alone} == {"missed"}


def test_mending_the_score_puts_the_better_fit_ahead(tmp_path: Path) -> None:
    data = truth(people=1)
    good = found(data)[0]
    bad = copy.deepcopy(good)
    for name in COCO_17.names[:5]:
        moved(bad, name, nowhere())
    judgement, errors = judged(data, [{**bad, "score": 0.9}, {**good, "score": 0.5}], tmp_path)
    assert errors.counts() == {**NO_ERRORS, "good": 12, "miss": 5, "misranked": 1, "second": 1}
    assert judgement.ap() < 1
    assert mended_ap(judgement, errors, ["score"]) == 1
    assert mended_ap(judgement, errors, ["second"]) < 1


@pytest.mark.parametrize("beside", ["a crowd", "a second person"])
def test_a_mended_score_is_the_fit_with_the_person_that_a_result_is(tmp_path: Path, beside: str) -> None:
    """The worse of two results of a person fits better whom it cannot be: a crowd, or the person of the other."""
    data = truth(images=2)
    first, second, third, _ = found(data)
    del data["annotations"][3]
    if beside == "a crowd":  # the worse result is on it, but for 6 joints, all that the first person has
        names = COCO_17.names[:6]
        only_labelled(data["annotations"][0], *names)
        only_labelled(data["annotations"][1], *COCO_17.names[6:])
        data["annotations"][1] |= {"iscrowd": 1}
        worse = copy.deepcopy(second)
        for name in names:
            moved(worse, name, at_similarity(0, name, 0.3))
            moved(first, name, at_similarity(0, name, 0.8))
    else:  # the worse result is on the first person, but for 3 joints, which are the second's
        worse = copy.deepcopy(first)
        for name in COCO_17.names[:3]:
            moved(worse, name, at_joint(1, name))
    for name in COCO_17.names[:7]:
        moved(third, name, nowhere())  # OKS .59
    results = [first, worse, third]
    judgement, errors = judged(data, results, tmp_path)
    right = [{**row, "score": score} for row, score in zip(results, (0.8, 0.0, 0.59), strict=True)]
    wanted = judged(data, right, tmp_path)[0].ap()
    assert mended_ap(judgement, errors, ["score"]) == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(4))
def test_steps_add_up_and_joints_are_each_of_one_kind(tmp_path: Path, seed: int) -> None:
    data, results = random_set(seed, images=15)
    judgement, errors = judged(data, results, tmp_path)
    listed, at_the_end = gains(judgement, errors)
    assert [gain.name for gain in listed] == list(ORDER)
    assert judgement.ap() + sum(gain.after for gain in listed) == pytest.approx(at_the_end)
    assert at_the_end > judgement.ap()
    of_people = errors.person_of >= 0
    assert (errors.kinds[~of_people] == -1).all()
    labelled = judgement.truth.keypoints[errors.person_of[of_people]][..., 2] > 0
    np.testing.assert_array_equal(errors.kinds[of_people] >= 0, labelled)
    counts = errors.counts()
    assert counts["missed"] + of_people.sum() == (~judgement.truth.ignored).sum()


@pytest.mark.parametrize("data", [coco_json([], images=0), coco_json([], images=2)], ids=["no images", "nobody"])
def test_no_ground_truth(tmp_path: Path, data: Json) -> None:
    results = [{"image_id": 1, "category_id": 1, "keypoints": [5.0, 5.0, 1.0] * 17, "score": 0.5}] * len(data["images"])
    judgement, errors = judged(data, results[:1], tmp_path)
    assert errors.counts() == {**NO_ERRORS, "background": len(results[:1])}
    listed, at_the_end = gains(judgement, errors)
    assert at_the_end == -1 and {gain.alone for gain in listed} == {0}
    assert gains_by_keypoint(judgement, errors) == [0] * 17


def test_joints_do_not_touch_each_other() -> None:
    """What :mod:`planted` promises."""
    everyone = np.concatenate([joints(n) for n in range(4)])
    gaps = np.linalg.norm(everyone[:, None] - everyone[None], axis=-1) + 1e3 * np.eye(len(everyone))
    assert gaps.min() > 60 and np.linalg.norm(everyone - nowhere(), axis=1).min() > 60
