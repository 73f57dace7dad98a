"""PCK and median errors: every number here is worked out by hand."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from evaluation.planted import found, joints, moved, only_labelled, truth
from evaluation.published import Json, as_dataset, coco_json, random_set
from stagepose.evaluation import evaluate_pck
from stagepose.evaluation.pck import HEADINGS
from stagepose.skeleton import COCO_17

NOSE, WRIST, HIP = (COCO_17.index(name) for name in ("nose", "left_wrist", "left_hip"))


def square(data: Json, side: float = 400.0) -> Json:
    """Boxes whose longer side, here the height, is ``side``."""
    for annotation in data["annotations"]:
        annotation["bbox"][2:] = [side / 2, side]
    return data


def off(results: list[Json], person: int, name: str, x: float, y: float) -> None:
    """Put one joint so many pixels beside where it is."""
    moved(results[person], name, joints(person)[COCO_17.index(name)] + [x, y])


def test_by_hand(tmp_path: Path) -> None:
    """Of two people with three labels each: 30 px of 400 are 7.5 %, 5 are 1.25 %, and 20 are just .05 of the side."""
    data = square(truth())
    for annotation in data["annotations"]:
        only_labelled(annotation, "nose", "left_wrist", "left_hip")
    results = found(square(truth()))
    off(results, 0, "nose", 18, 24)
    off(results, 1, "nose", 3, -4)
    off(results, 1, "left_wrist", -20, 0)
    off(results, 0, "right_ankle", 300, 300)  # nobody has labelled it
    got = evaluate_pck(as_dataset(data, tmp_path), results)
    nose, wrist, hip = (got.keypoints[k] for k in (NOSE, WRIST, HIP))
    assert (nose.labelled, nose.missed, nose.median_pixels, nose.median_percent) == (2, 0, 17.5, 4.375)
    assert nose.pck == (0.5, 1, 1)
    assert (wrist.median_pixels, wrist.median_percent, wrist.pck) == (10, 2.5, (1, 1, 1))
    assert (hip.median_pixels, hip.pck) == (0, (1, 1, 1))
    assert (got.all.labelled, got.all.median_pixels, got.all.median_percent) == (6, 2.5, 0.625)
    assert got.all.pck == pytest.approx((5 / 6, 1, 1))
    assert (got.people, got.missed) == (2, 0)


def test_a_joint_is_measured_by_the_longer_side_of_its_own_person(tmp_path: Path) -> None:
    """16 px are .04 of the first person's 400 and .16 of the second's 100, which lies on its side."""
    data = square(truth())
    data["annotations"][1]["bbox"][2:] = [100.0, 40.0]
    results = found(data)
    for person in (0, 1):
        off(results, person, "left_hip", 0, 16)
    hip = evaluate_pck(as_dataset(data, tmp_path), results).keypoints[HIP]
    assert (hip.median_pixels, hip.median_percent, hip.pck) == (16, 10, (0.5, 0.5, 1))


def test_who_is_not_found_is_wrong_in_pck_and_left_out_of_the_medians(tmp_path: Path) -> None:
    data = square(truth())
    only_labelled(data["annotations"][1], "nose", "left_wrist")
    results = found(data)[:1]
    off(results, 0, "nose", 30, 0)
    got = evaluate_pck(as_dataset(data, tmp_path), results)
    nose = got.keypoints[NOSE]
    assert (nose.labelled, nose.missed, nose.median_pixels, nose.pck) == (2, 1, 30, (0, 0.5, 0.5))
    assert (got.all.labelled, got.all.missed, got.all.pck[2]) == (19, 2, pytest.approx(17 / 19))
    assert (got.people, got.missed) == (2, 1)
    (said,) = got.notes()
    assert said.startswith("1 of 2 people have no result") and "their 2 labelled joints are wrong in PCK" in said


def test_crowds_and_results_of_nobody_or_of_the_second_rank_do_not_count(tmp_path: Path) -> None:
    """A crowd's joints are nobody's; a worse result of somebody found and one far from all change nothing."""
    data = square(truth(people=3))
    data["annotations"][2]["iscrowd"] = 1
    results = found(data)
    once = evaluate_pck(as_dataset(data, tmp_path), results)
    worse = {**copy.deepcopy(results[0]), "score": 0.1}
    off([worse], 0, "nose", 10, 0)
    nowhere = {**results[0], "keypoints": [950.0, 440.0, 1.0] * 17, "score": 0.99}
    assert evaluate_pck(as_dataset(data, tmp_path), [worse, nowhere, *results]) == once
    assert (once.people, once.all.labelled, once.all.median_pixels) == (2, 34, 0)


def test_what_is_nobodys_is_said_in_blanks(tmp_path: Path) -> None:
    data = square(truth(people=1))
    only_labelled(data["annotations"][0], "nose")
    everybody, *rest = evaluate_pck(as_dataset(data, tmp_path), []).rows()
    assert len(everybody) == len(HEADINGS)
    assert everybody == ("all", "1", "1", "", "", "0.000", "0.000", "0.000")
    assert rest[0][0] == "nose" and rest[WRIST] == ("left_wrist", "0", "0", "", "", "", "", "")
    empty = evaluate_pck(as_dataset(coco_json([], images=1), tmp_path), [])
    assert (empty.people, empty.all.pck, empty.all.median_percent) == (0, (-1, -1, -1), -1)


def test_a_joint_beyond_all_sense_is_far_and_still_a_number(tmp_path: Path) -> None:
    data = square(truth(people=1))
    results = found(data)
    moved(results[0], "nose", (1.7e308, -1.7e308))
    got = evaluate_pck(as_dataset(data, tmp_path), results)
    assert got.keypoints[NOSE].pck == (0, 0, 0) and got.keypoints[NOSE].missed == 0
    json.dumps(asdict(got), allow_nan=False)


def test_the_order_of_results_and_pictures_says_nothing(tmp_path: Path) -> None:
    data, results = random_set(3, images=20)
    for number, result in enumerate(results):
        result["score"] = number / len(results)  # ties are broken by the order
    got = evaluate_pck(as_dataset(data, tmp_path), results)
    order = np.random.default_rng(0).permutation(len(results))
    turned = {**data, "images": data["images"][::-1], "annotations": data["annotations"][::-1]}
    assert evaluate_pck(as_dataset(turned, tmp_path), [results[n] for n in order]) == got
    assert 0 < got.missed < got.people and 0 < got.all.pck[0] < got.all.pck[2] < 1
    assert sum(one.labelled for one in got.keypoints) == got.all.labelled
