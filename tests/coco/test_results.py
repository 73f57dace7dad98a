"""Result files: written and read back, boxes grouped by image."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_coco, write_json

from stagepose.coco import (
    keypoint_result,
    person_of_result,
    person_result,
    read_box_results,
    read_dataset,
    read_keypoint_results,
    write_results,
)
from stagepose.errors import ConfigError, DatasetError
from stagepose.skeleton import COCO_17
from stagepose.structures import Person


def _person(seed: int) -> Person:
    rng = np.random.default_rng(seed)
    return Person(
        box=np.array([1.0, 2.0, 30.0, 40.0]), keypoints=rng.uniform(0, 100, (17, 2)), scores=rng.uniform(0, 1, 17),
        score=rng.uniform(), skeleton=COCO_17,
    )  # fmt: skip


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    dataset = read_dataset(tiny_coco(tmp_path))
    results = [keypoint_result(image_id, _person(image_id)) for image_id in (1, 2, 2)]
    write_results(tmp_path / "results.json", results)
    assert read_keypoint_results(tmp_path / "results.json", dataset) == results


def test_a_result_has_no_box() -> None:
    person = _person(0)
    result = keypoint_result(7, person)
    assert set(result) == {"image_id", "category_id", "keypoints", "score"}
    triples = np.reshape(result["keypoints"], (17, 3))
    np.testing.assert_allclose(triples[:, :2], person.keypoints, atol=0.005001)
    np.testing.assert_allclose(triples[:, 2], person.scores, atol=0.00005001)
    assert abs(result["score"] - person.score) < 6e-7
    json.dumps(result)


@pytest.mark.parametrize("track_id", [None, 7])
@pytest.mark.parametrize("skeleton", [COCO_17, COCO_17.names, list(COCO_17.names)], ids=["skeleton", "names", "JSON"])
def test_an_entry_of_people_json_is_a_person_again(skeleton: Any, track_id: int | None) -> None:
    person = replace(_person(0), track_id=track_id)
    entry = json.loads(json.dumps({"image_id": 7, **person_result(person), "file_name": "a.jpg", "track_id": track_id}))
    back = person_of_result(entry, skeleton)
    assert person_result(back) == person_result(person)
    assert back.skeleton is COCO_17 and back.track_id == track_id and back.box_score == 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"keypoints": [1.0] * 50}, r"person: keypoints has 50 numbers, expected 51 \(17 x \(x, y, score\)\)"),
    ({"keypoints": None}, "person: keypoints is None, expected 51"), ({"keypoints": ["x"] * 51}, "expected numbers"),
    ({"box": None}, "box"), ({"score": None}, "score holds NaN"),
])  # fmt: skip
def test_an_entry_that_is_no_person_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        person_of_result({**person_result(_person(0)), **changes}, COCO_17)


def test_a_result_has_no_more_digits_than_it_knows() -> None:
    person = replace(_person(0), keypoints=np.full((17, 2), -0.001))
    text = json.dumps(keypoint_result(7, person))
    assert "-" not in text and max(len(digits) for digits in re.findall(r"\.(\d+)", text)) <= 6
    assert len(text) < 17 * 25


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="NaN or infinite"):
        write_results(tmp_path / "results.json", [{"score": float("nan")}])
    assert list(tmp_path.iterdir()) == []


def test_no_results_are_results(tmp_path: Path) -> None:
    dataset = read_dataset(tiny_coco(tmp_path))
    write_results(tmp_path / "results.json", [])
    assert read_keypoint_results(tmp_path / "results.json", dataset) == []
    assert read_box_results(tmp_path / "results.json") == {}


def test_boxes_by_image_best_first(tmp_path: Path) -> None:
    rows = [
        {"image_id": 5, "category_id": 1, "bbox": [0, 0, 10, 20], "score": 0.2},
        {"image_id": 5, "category_id": 1, "bbox": [5, 5, 10, 20], "score": 0.9},
        {"image_id": 6, "category_id": 1, "bbox": [1, 1, 1, 1], "score": 0.5},
        {"image_id": 6, "category_id": 18, "bbox": [1, 1, 1, 1], "score": 0.99},
    ]
    boxes = read_box_results(write_json(tmp_path, rows))
    assert sorted(boxes) == [5, 6]
    np.testing.assert_array_equal(boxes[5].boxes, [[5, 5, 15, 25], [0, 0, 10, 20]])
    np.testing.assert_array_equal(boxes[5].scores, [0.9, 0.2])
    assert len(boxes[6]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"result 0: bbox is \[1, 2, 3\], expected 4 finite numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "expected 4 finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "expected a width and height from 0"),
        ({"score": None}, "score is None"),
        ({"image_id": "5"}, "image_id is '5'"),
        ({"category_id": None}, "category_id is None"),
    ],
)
def test_bad_boxes_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    row = {"image_id": 5, "category_id": 1, "bbox": [0, 0, 10, 20], "score": 0.2, **change}
    with pytest.raises(DatasetError, match=message):
        read_box_results(write_json(tmp_path, [row]))


def test_a_data_set_is_no_results_file(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    with pytest.raises(DatasetError, match="expected a list"):
        read_box_results(path)
    with pytest.raises(DatasetError, match="expected a list"):
        read_keypoint_results(path, read_dataset(path))
