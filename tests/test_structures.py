"""People and boxes: what is checked on construction, and that they own what they hold."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from stagepose.errors import ConfigError, SkeletonError
from stagepose.skeleton import COCO_17, LSP_14, Skeleton
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


def test_the_best_boxes_come_best_first_whatever_their_order() -> None:
    found = Detections(boxes=np.arange(16.0).reshape(4, 4), scores=[0.2, 0.9, 0.1, 0.5])
    assert found.scores.tolist() == [0.2, 0.9, 0.1, 0.5]
    best = found.best(2)
    assert best.scores.tolist() == [0.9, 0.5] and best.boxes[:, 0].tolist() == [4, 12]
    assert found.best(9, 0.2).scores.tolist() == [0.9, 0.5, 0.2]


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
    ({"track_id": "3"}, "track_id is '3'; it is a whole number"),
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
    assert repr(person().skeleton) == "<Skeleton pair: 2 keypoints>"


def test_keypoints_go_by_name() -> None:
    with pytest.raises(SkeletonError, match=r"^person\[9\]: keypoints go by name .*'head'; .* person\.keypoints\[9\]"):
        person()[9]  # type: ignore[index]


@pytest.mark.parametrize("skeleton", [PAIR, COCO_17, LSP_14], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("changes", [{}, {"track_id": 7, "box_score": 0.1 + 0.2}], ids=["photo", "video"])
@pytest.mark.parametrize("sorts", [False, True])
def test_a_person_comes_back_from_plain_values(skeleton: Skeleton, changes: dict[str, Any], sorts: bool) -> None:
    rng = np.random.default_rng(3)
    one = person(skeleton=skeleton, keypoints=rng.normal(size=(len(skeleton), 2)), scores=rng.random(len(skeleton)),
                 score=1 / 3, box=rng.random(4), **changes)
    saved = json.loads(json.dumps({**one.to_dict(), "file_name": "a.jpg"}, sort_keys=sorts))
    back = Person.from_dict(saved, skeleton if skeleton is PAIR else None)
    assert back.to_dict() == one.to_dict() and back.skeleton is skeleton


def test_keypoints_of_no_published_skeleton_come_back_by_their_names() -> None:
    back = Person.from_dict(person(skeleton=Skeleton(name="ears", names=("left_ear", "right_ear"))).to_dict())
    assert back.skeleton.names == ("left_ear", "right_ear") and back.skeleton.flip_pairs == (("left_ear", "right_ear"),)


@pytest.mark.parametrize(("changes", "message"), [
    ({"keypoints": [1, 2, 3]}, r"keypoints is a list, .* entries of people\.json are for stagepose\.coco\.person_of_"),
    ({"keypoints": {"head": [1, 2, 3]}}, "keypoints are head; those of skeleton 'pair' are head, foot"),
    ({"keypoints": {"head": [1, 2], "foot": [3, 4]}}, r"keypoints has shape \(2, 2\), expected \(2, 3\)"),
    ({"keypoints": {"head": [1, 2, None], "foot": [3, 4, 5]}}, "keypoints holds NaN"),
    ({"keypoints": {1: [1, 2, 3]}}, "keypoints are 1; those"), ({"keypoints": None}, "keypoints is a NoneType"),
    ({"box": [1, 2]}, r"box has shape"), ({"score": "high"}, "score: "), ({"track_id": 1.5}, "track_id is 1.5"),
])  # fmt: skip
def test_plain_values_that_are_no_person_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Person.from_dict({**person().to_dict(), **changes}, PAIR)


@pytest.mark.parametrize("missing", ["box", "score", "keypoints"])
def test_what_a_person_lacks_is_named(missing: str) -> None:
    data = person().to_dict()
    del data[missing]
    with pytest.raises(ConfigError, match=f"person: has no '{missing}'; expected what Person.to_dict gives"):
        Person.from_dict(data)


@pytest.mark.parametrize("wrong", [None, [], [person().to_dict()], "person"])
def test_what_is_no_dict_is_no_person(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="person: has no 'keypoints'; expected what Person"):
        Person.from_dict(wrong)


ARM = Skeleton(name="arm", names=("shoulder", "elbow", "wrist"))


@pytest.mark.parametrize(("points", "degrees"), [
    ([[0, 0], [10, 0], [20, 0]], 180), ([[0, 0], [10, 0], [10, 5]], 90), ([[0, 0], [10, 0], [0, 0]], 0),
    ([[0, 0], [10, 0], [0, 10]], 45), ([[0, 0], [10, 0], [0, -10]], 45), ([[0, 0], [10, 0], [20, 10]], 135),
    ([[10, 0], [10, 0], [20, 0]], math.nan), ([[0, 0], [10, 0], [10, 0]], math.nan),
])  # fmt: skip
def test_the_angle_at_a_joint(points: Any, degrees: float) -> None:
    one = person(skeleton=ARM, keypoints=points, scores=[0.3, 0.5, 1])
    assert one.angle("shoulder", "elbow", "wrist") == pytest.approx(degrees, nan_ok=True)
    assert one.angle("wrist", "elbow", "shoulder") == pytest.approx(degrees, nan_ok=True)


def test_an_angle_of_unsure_joints_is_none() -> None:
    one = person(skeleton=ARM, keypoints=[[0, 0], [1, 0], [1, 1]], scores=[0.29, 0.5, 1])
    assert math.isnan(one.angle("shoulder", "elbow", "wrist"))
    assert one.angle("shoulder", "elbow", "wrist", threshold=0.2) == pytest.approx(90)
    with pytest.raises(SkeletonError, match="has no keypoint 'hand'"):
        one.angle("shoulder", "elbow", "hand")
    with pytest.raises(ConfigError, match="threshold is 30; it is a minimum joint score"):
        one.angle("shoulder", "elbow", "wrist", threshold=30)
