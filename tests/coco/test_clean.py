"""Cleaning: what it writes passes the check, what it changed is counted, what is sound stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import tiny_coco, tiny_dict, write_json

from stagepose.coco import check_dataset, read_dataset, write_clean
from stagepose.errors import DatasetError


def test_a_sound_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    changes = write_clean(path, tmp_path / "out.json", images_dir=tmp_path / "images")
    assert changes.lines() == []
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(path.read_text())


def test_everything_changed_is_counted(tmp_path: Path) -> None:
    data = tiny_dict(4, 2)
    a = data["annotations"]
    a[0]["id"] = 0
    a[1]["id"] = "two"
    a[2]["id"] = a[3]["id"]
    a[4]["keypoints"] = a[4]["keypoints"][:48]
    a[5]["bbox"] = [1, 2, 0, 5]
    a[6]["image_id"] = "4"
    a[7]["keypoints"][:3] = [0, 0, 2]
    a[7]["area"] = -1
    data["images"].append({"id": 5, "file_name": "no_size.png"})
    changes = write_clean(write_json(tmp_path, data), tmp_path / "out.json")
    assert changes.dropped == {
        ("annotations", "keypoints-count"): 1, ("annotations", "box-empty"): 1, ("images", "image-size"): 1,
    }  # fmt: skip
    assert changes.mended == {
        ("annotations", "annotation-id-zero"): 1,
        ("annotations", "annotation-id"): 1,
        ("annotations", "annotation-id-duplicate"): 1,
        ("annotations", "annotation-image"): 1,
        ("annotations", "keypoint-origin"): 1,
        ("annotations", "area"): 1,
    }
    assert (changes.images, changes.annotations) == ([5, 4], [8, 6])
    assert "1 image dropped: image-size" in changes.lines()
    assert {p.kind for p in check_dataset(tmp_path / "out.json")} == {"area-missing"}
    clean = read_dataset(tmp_path / "out.json")
    assert len(set(clean.ids.tolist())) == 6
    assert clean.num_keypoints.sum() == sum(x["num_keypoints"] for x in (a[0], a[1], a[2], a[3], a[6], a[7])) - 1


def test_reading_without_strict_cleans_and_says_so(tmp_path: Path) -> None:
    data = tiny_dict(2, 2)
    data["annotations"][0]["bbox"] = None
    path = write_json(tmp_path, data)
    with pytest.raises(DatasetError, match="bbox is None"):
        read_dataset(path)
    dataset = read_dataset(path, strict=False)
    assert len(dataset) == 3
    assert dataset.notes == ("1 annotation dropped: box-type",)


def test_an_image_dropped_takes_its_people_along(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path, images=3, people=2)
    (tmp_path / "images" / "000000000002.png").unlink()
    changes = write_clean(path, tmp_path / "out.json", images_dir=tmp_path / "images")
    assert changes.dropped == {("images", "image-missing"): 1, ("annotations", "unknown-image"): 2}
    assert [image.id for image in read_dataset(tmp_path / "out.json").images] == [1, 3]


def test_an_id_of_two_pictures_drops_both(tmp_path: Path) -> None:
    data = tiny_dict(3, 1)
    data["images"][1]["id"] = 1
    changes = write_clean(write_json(tmp_path, data), tmp_path / "out.json")
    assert changes.dropped["images", "image-id-conflict"] == 2
    assert read_dataset(tmp_path / "out.json").image_ids.tolist() == [3]


def test_areas_are_estimated_only_when_asked(tmp_path: Path) -> None:
    data = tiny_dict(1, 2)
    del data["annotations"][0]["area"]
    data["annotations"][1]["area"] = 0
    path = write_json(tmp_path, data)
    write_clean(path, tmp_path / "out.json")
    assert {p.kind for p in check_dataset(tmp_path / "out.json")} == {"area-missing", "area-zero"}
    changes = write_clean(path, tmp_path / "out.json", estimate_areas=True)
    assert sum(changes.mended.values()) == 2
    for annotation in json.loads((tmp_path / "out.json").read_text())["annotations"]:
        assert annotation["area_source"] == "estimated"
        assert annotation["area"] == pytest.approx(0.536 * annotation["bbox"][2] * annotation["bbox"][3], abs=0.01)


def test_nan_in_an_extra_field_becomes_null(tmp_path: Path) -> None:
    data = tiny_dict(1, 1)
    data["annotations"][0]["depth"] = [float("nan"), 1.0]
    changes = write_clean(write_json(tmp_path, data), tmp_path / "out.json")
    assert changes.lines() == ["1 value mended: not-a-number"]
    assert json.loads((tmp_path / "out.json").read_text())["annotations"][0]["depth"] == [None, 1.0]


def test_what_no_machine_can_clean_is_refused(tmp_path: Path) -> None:
    data = tiny_dict(1, 1)
    data["categories"] = []
    with pytest.raises(DatasetError, match="expected one named 'person'"):
        write_clean(write_json(tmp_path, data), tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
