"""People and boxes: what is checked on construction, and that they own what they hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from stagepose.errors import ConfigError
from stagepose.skeleton import Skeleton
from stagepose.structures import Detections, Person

PAIR = Skeleton(name="pair", names=("head", "foot"))


def person(**changes: Any) -> Person:
    fields: dict[str, Any] = {"box": np.array([0.0, 0, 9, 9]), "keypoints": np.ones((2, 2)), "scores": np.ones(2),
                              "score": 0.5, "skeleton": PAIR}
    return Person(**{**fields, **changes})


def test_the_callers_arrays_stay_the_callers() -> None:
    boxes, scores, box = np.array([[0.0, 0, 9, 9]]), np.array([0.5]), np.array([0.0, 0, 9, 9])
    found, one = Detections(boxes=boxes, scores=scores), person(box=box)
    for array in (boxes, scores, box):
        array += 1  # not frozen
    assert found.boxes.tolist() == [[0, 0, 9, 9]] and found.scores.tolist() == [0.5]
    assert one.box.tolist() == [0, 0, 9, 9]
    with pytest.raises(ValueError, match="read-only"):
        found.boxes[0] = 1


@pytest.mark.parametrize("nobody", [[], np.zeros(0), np.zeros((0, 4)), np.zeros((0, 7))])
def test_nobody_may_be_empty_in_any_shape(nobody: Any) -> None:
    found = Detections(boxes=nobody, scores=[])
    assert found.boxes.shape == (0, 4) and len(found) == 0


@pytest.mark.parametrize(("boxes", "scores", "message"), [
    (np.zeros((4, 3)), np.zeros(3), r"boxes has shape \(4, 3\), expected \(3, 4\)"),
    ([1, 2, 3, 4, 5], [1], r"boxes has shape \(5,\), expected \(1, 4\)"),
    ([1, 2, 3, 4], [1], r"boxes has shape \(4,\), expected \(1, 4\)"),
    ([[1, 2, 3, 4]], [1, 1], r"boxes has shape \(1, 4\), expected \(2, 4\)"),
    ([], [1], r"boxes has shape \(0, 4\), expected \(1, 4\)"),
    ([[1, 2, 3, 4]], 1.0, r"scores has shape \(\), expected \(1,\)"),
    ([[1, 2, 3, 4]], [np.nan], "scores holds NaN"),
    ([[1, 2, 3], [1, 2]], [1, 1], "boxes: .*expected numbers"),
    ([["a", 2, 3, 4]], [1], "boxes: .*expected numbers"),
])  # fmt: skip
def test_boxes_of_the_wrong_shape_are_refused(boxes: Any, scores: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Detections(boxes=boxes, scores=scores)


@pytest.mark.parametrize(("changes", "message"), [
    ({"score": np.nan}, "score holds NaN"), ({"score": None}, "score holds NaN"), ({"score": "high"}, "score: "),
    ({"score": [0.5]}, r"score has shape \(1,\)"), ({"box_score": np.inf}, "box_score holds NaN or infinity"),
    ({"keypoints": np.ones((3, 2))}, r"keypoints has shape \(3, 2\), expected \(2, 2\)"),
    ({"box": [0, 0, 1]}, r"box has shape \(3,\)"), ({"scores": [1, np.inf]}, "scores holds NaN"),
])  # fmt: skip
def test_a_person_without_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        person(**changes)


def test_scores_are_plain_floats() -> None:
    one = person(score=np.float32(0.5), box_score=np.array(1))
    assert type(one.score) is float and type(one.box_score) is float and one["foot"] == (1.0, 1.0, 1.0)


def test_a_track_id_is_a_plain_integer() -> None:
    assert json.loads(json.dumps(person(track_id=np.int64(3)).to_dict()))["track_id"] == 3


def test_a_person_as_plain_values() -> None:
    one = person(keypoints=np.array([[1.5, 2], [3, 4]]), scores=np.array([0.25, 1]), box_score=0.75)
    assert json.loads(json.dumps(one.to_dict())) == {
        "score": 0.5, "box_score": 0.75, "box": [0, 0, 9, 9],
        "keypoints": {"head": [1.5, 2, 0.25], "foot": [3, 4, 1]}}


def test_a_row_is_flat_and_named_as_the_table_is() -> None:
    one = person(keypoints=np.array([[1.0, 2], [3, 4]]), scores=np.array([0.5, 0.25]), box_score=0.75)
    assert list(one.to_row().items()) == [
        ("score", 0.5), ("box_score", 0.75), ("x1", 0.0), ("y1", 0.0), ("x2", 9.0), ("y2", 9.0),
        ("head_x", 1.0), ("head_y", 2.0), ("head_score", 0.5), ("foot_x", 3.0), ("foot_y", 4.0), ("foot_score", 0.25)]
    assert next(iter(person(track_id=7).to_row().items())) == ("track_id", 7)
    assert json.loads(json.dumps(one.to_row())) == one.to_row()


def test_a_person_is_shown_on_one_short_line() -> None:
    assert repr(person()) == "<Person: score 0.500, box 0 0 9 9, 2 keypoints>"
    assert repr([person(track_id=3)]) == "[<Person: track_id 3, score 0.500, box 0 0 9 9, 2 keypoints>]"
