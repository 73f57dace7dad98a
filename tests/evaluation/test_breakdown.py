"""AP of parts: the whole is COCO's, and a hand can count the small ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_dict

from evaluation.published import Json, as_dataset, coco_json, perfect, pycocotools, random_set
from stagepose.evaluation import breakdown, judge_keypoints
from stagepose.skeleton import COCO_17

PARTS = (breakdown.by_keypoint, breakdown.by_size, breakdown.by_crowding, breakdown.by_labelled_joints)


def person(number: int, x: float, side: float = 100.0, joints: int = 17) -> Json:
    """In image 1, the labelled joints in the middle of its box."""
    middle = [x + side / 2, 50 + side / 2, 2]
    return {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [x, 50.0, side, side],
            "area": side**2 / 2, "num_keypoints": joints, "keypoints": middle * joints + [0] * 3 * (17 - joints)}


@pytest.mark.parametrize("part", PARTS)
def test_perfect_results_are_perfect_in_every_part(tmp_path: Path, part: object) -> None:
    truth = tiny_dict(images=6)
    for one in part(judge_keypoints(as_dataset(truth, tmp_path), perfect(truth))):  # type: ignore[operator]
        assert (one.ap, one.ar) == ((1, 1) if one.people else (-1, -1))


@pytest.mark.parametrize("part", PARTS[1:])
def test_groups_share_everybody(tmp_path: Path, part: object) -> None:
    truth, results = random_set(2, images=20)
    judged = judge_keypoints(as_dataset(truth, tmp_path), results)
    assert sum(one.people for one in part(judged)) == (~judged.truth.ignored).sum()  # type: ignore[operator]


def test_a_group_of_everybody_is_cocos_ap(tmp_path: Path) -> None:
    truth, results = random_set(2, images=20)
    judged = judge_keypoints(as_dataset(truth, tmp_path), results)
    (whole,) = breakdown._parts(judged, ["all"], np.zeros(len(judged.truth), dtype=np.intp))
    assert (whole.ap, whole.ar) == (judged.numbers()[0], judged.numbers()[5])


def test_a_group_of_everybody_ends_where_cocos_does(tmp_path: Path) -> None:
    """A person larger than COCO's "all" is not missed, and a wrong find as large is not wrong."""
    giant = {**person(3, 400), "area": 2e10}
    truth = coco_json([person(1, 0), person(2, 150), giant], images=1)
    found = perfect(truth)[0]
    corners = [0.0, 0.0, 1.0, 2e5, 2e5, 1.0] + [550.0, 550.0, 1.0] * 15
    judged = judge_keypoints(as_dataset(truth, tmp_path), [{**found, "score": 0.5},
                                                           {**found, "keypoints": corners, "score": 0.9}])
    (whole,) = breakdown._parts(judged, ["all"], np.zeros(len(judged.truth), dtype=np.intp))
    assert (whole.people, whole.ap, whole.ar) == (2, judged.numbers()[0], judged.numbers()[5])
    assert whole.ar == 0.5


@pytest.mark.parametrize("k", [0, 9, 16])
def test_a_keypoint_is_a_skeleton_of_one(tmp_path: Path, k: int) -> None:
    truth, results = random_set(7, images=20)
    part = breakdown.by_keypoint(judge_keypoints(as_dataset(truth, tmp_path), results))[k]
    alone = [{**a, "keypoints": a["keypoints"][3 * k : 3 * k + 3], "num_keypoints": int(a["keypoints"][3 * k + 2] > 0)}
             for a in truth["annotations"]]
    one = [{**r, "keypoints": r["keypoints"][3 * k : 3 * k + 3]} for r in results]
    expected = pycocotools({**truth, "annotations": alone}, one, sigmas=COCO_17.sigmas[k : k + 1])
    assert part.name == COCO_17.names[k]
    np.testing.assert_allclose([part.ap, part.ar], [expected[0], expected[5]], rtol=0, atol=1e-12)


def test_groups_by_hand(tmp_path: Path) -> None:
    """A small person alone; two large ones whose boxes overlap by a third; a person of four joints."""
    truth = coco_json([person(1, 0, 50), person(2, 150), person(3, 200), person(4, 400, joints=4)], images=1)
    judged = judge_keypoints(as_dataset(truth, tmp_path), [])
    np.testing.assert_allclose(breakdown.overlaps(judged.truth), [0, 1 / 3, 1 / 3, 0])
    assert [part.people for part in breakdown.by_crowding(judged)] == [2, 0, 2]
    assert [part.people for part in breakdown.by_size(judged)] == [0, 1, 3, 0, 0]
    assert [(p.name, p.people) for p in breakdown.by_labelled_joints(judged)] == [
        ("1 to 5 joints", 1), ("6 to 10 joints", 0), ("11 to 15 joints", 0), ("16 to 17 joints", 3)]
    assert breakdown.by_crowding(judged)[1].row() == ("IoU 0.1 to 0.3", "0", "", "")


def test_a_wrong_find_counts_by_the_groups_share(tmp_path: Path) -> None:
    """One of two people found, behind one wrong find: of its group of half the people half a wrong find is ahead."""
    truth = coco_json([person(1, 0, 50), person(2, 150)], images=1)
    found = {**perfect(truth)[0], "score": 0.5}
    ghost = {**found, "keypoints": [550.0, 550.0, 1.0] * 17, "score": 0.9}
    small, large = breakdown.by_size(judge_keypoints(as_dataset(truth, tmp_path), [ghost, found]))[1:3]
    assert (small.ap, small.ar) == (pytest.approx(1 / 1.5), 1)
    assert (large.ap, large.ar) == (0, 0)


def test_crowds_are_no_neighbours(tmp_path: Path) -> None:
    truth = coco_json([person(1, 150), {**person(2, 160), "iscrowd": 1}], images=1)
    judged = judge_keypoints(as_dataset(truth, tmp_path), [])
    assert breakdown.overlaps(judged.truth).tolist()[0] == 0
    assert breakdown.overlaps(replace(judged.truth, crowd=np.zeros(2, dtype=bool)))[0] > 0.8
