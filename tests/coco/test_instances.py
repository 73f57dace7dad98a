"""Boxes of all categories: judged by the rules that hold for people, labelled people first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_dict, write_json

from stagepose.coco import read_dataset, read_instances
from stagepose.errors import DatasetError

COCO128 = Path(__file__).parents[2] / "../shared/data/coco128/instances.json"


def zoo(change: Callable[[dict[str, Any]], object] = lambda _: None) -> dict[str, Any]:
    """Two people in each of four images, of whom the first of the first image is a dog, the second a cat."""
    data = tiny_dict()
    data["categories"] = [{"id": 18, "name": "dog"}, *data["categories"], {"id": 17, "name": "cat"}]
    data["annotations"][0]["category_id"], data["annotations"][1]["category_id"] = 18, 17
    change(data)
    return data


def test_people_come_first_and_the_others_in_the_files_order(tmp_path: Path) -> None:
    path = write_json(tmp_path, zoo())
    found, people = read_instances(path), read_dataset(path)
    assert found.categories == ("person", "dog", "cat") and found.labels.tolist() == [2, 3, *[1] * 6]
    np.testing.assert_array_equal(found.boxes_xyxy[found.labels == 1], people.boxes_xyxy)
    np.testing.assert_array_equal(found.image_ids[found.labels == 1], people.image_ids)
    assert found.images == people.images and len(found) == 8


def test_a_file_of_one_category_is_a_file_of_people(tmp_path: Path) -> None:
    found = read_instances(write_json(tmp_path, tiny_dict()))
    assert found.categories == ("person",) and set(found.labels.tolist()) == {1}
    data = tiny_dict()
    data["categories"] = [{"id": 5, "name": "pedestrian"}]
    for annotation in data["annotations"]:
        annotation["category_id"] = 5
    assert read_instances(write_json(tmp_path, data)).categories == ("pedestrian",)


def test_crowds_partly_boxed_images_and_empty_boxes_are_kept_apart(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["annotations"][2]["iscrowd"] = 1
        data["annotations"][3].update(bbox=[5, 5, 0, 9])
        data["images"][1]["all_person_boxes"], data["images"][2]["all_person_boxes"] = False, True

    found = read_instances(write_json(tmp_path, zoo(change)))
    assert found.crowd.tolist() == [False, False, True, *[False] * 4] and found.left_out == 1
    assert found.partly_boxed == {2}


def test_keypoints_are_no_concern_of_boxes(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["annotations"][4]["keypoints"] = "none"
        data["categories"][1]["keypoints"] = 7

    assert len(read_instances(write_json(tmp_path, zoo(change)))) == 8


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d["annotations"][0].pop("bbox"), "bbox is missing"),  # of a dog
    (lambda d: d["annotations"][1].update(bbox=[0, 0, float("1e400"), 2]), "Infinity is not valid JSON"),
    (lambda d: [a.update(bbox=[1, 2, -3, 4]) for a in d["annotations"]], "8 problems: 8 x box-negative"),
    (lambda d: d["annotations"][1].update(bbox=[900, 0, 5, 5]), "wholly outside"),
    (lambda d: d["annotations"][1].update(image_id=77), "image_id 77 is not in 'images'"),
    (lambda d: d["annotations"][1].update(id=d["annotations"][0]["id"]), "used again"),
    (lambda d: d["annotations"][0].update(category_id=99), "99 is not in 'categories'"),
    (lambda d: d["annotations"][0].pop("category_id"), "category_id is missing"),
    (lambda d: d["annotations"][0].update(iscrowd=2), "iscrowd is 2"),
    (lambda d: d["images"][1].update(id=d["images"][0]["id"]), "stands for 2 files"),
    (lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"]), "belongs to 2 image ids"),
    (lambda d: d["categories"].append({"id": 17, "name": "lion"}), "id 17 is used twice"),
    (lambda d: d.update(categories=[{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]), "named 'person'"),
    (lambda d: d.update(categories=None), "expected a list"),
    (lambda d: d.update(annotations={}), "expected a list"),
])
def test_mistakes_in_boxes_of_any_category_are_named(tmp_path: Path, change: Callable[[dict[str, Any]], object],
                                                     message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_instances(write_json(tmp_path, zoo(change)))
    assert "\n" not in str(caught.value)


def test_what_is_no_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="results file"):
        read_instances(write_json(tmp_path, []))


@pytest.mark.skipif(not COCO128.is_file(), reason="no real data beside the repository (../shared/data)")
def test_eighty_real_categories() -> None:
    found = read_instances(COCO128)
    assert len(found.categories) == 80 and found.categories[:3] == ("person", "bicycle", "car")
    assert (len(found.images), len(found), int(found.crowd.sum())) == (128, 939, 10)
