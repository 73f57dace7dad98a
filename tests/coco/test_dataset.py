"""Reading: columns, names that decide the order, skeletons mapped by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_coco, tiny_dict, write_json

from stagepose.coco import (
    check_dataset,
    dataset_from_arrays,
    images_folder,
    read_dataset,
    resolve_skeleton,
    to_json,
    write_clean,
)
from stagepose.errors import DatasetError, SkeletonError
from stagepose.skeleton import COCO_17, DEFAULT_SIGMA, LSP_14, MPII_16, Skeleton


def test_columns_hold_what_the_file_says(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path, images=3, people=2)
    dataset, data = read_dataset(path), tiny_dict(3, 2)
    assert dataset.path == path
    assert len(dataset) == 6
    assert [image.file_name for image in dataset.images] == [image["file_name"] for image in data["images"]]
    for row, annotation in enumerate(data["annotations"]):
        x, y, width, height = annotation["bbox"]
        np.testing.assert_allclose(dataset.boxes_xyxy[row], [x, y, x + width, y + height])
        np.testing.assert_array_equal(dataset.keypoints[row].ravel(), annotation["keypoints"])
        assert dataset.areas[row] == annotation["area"]
        assert dataset.num_keypoints[row] == annotation["num_keypoints"]
        assert dataset.ids[row] == annotation["id"]
        assert row in dataset.rows_by_image[annotation["image_id"]]
    assert dataset.with_keypoints().all()
    assert dataset.raw["info"] == data["info"]


def test_tiny_pictures_pass_the_whole_check(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    assert check_dataset(path, images_dir=images_folder(path)) == []


def test_a_set_survives_the_way_through_a_file(tmp_path: Path) -> None:
    first = read_dataset(tiny_coco(tmp_path))
    again = read_dataset(write_json(tmp_path, to_json(first)))
    for column in ("ids", "image_ids", "boxes_xyxy", "keypoints", "areas", "crowd", "num_keypoints"):
        np.testing.assert_array_equal(getattr(again, column), getattr(first, column))
    assert again.images == first.images
    assert again.skeleton == COCO_17


def test_names_in_another_order_are_the_same_skeleton(tmp_path: Path) -> None:
    data = tiny_dict(1, 1)
    plain = read_dataset(write_json(tmp_path, data))
    order = np.random.default_rng(0).permutation(17)
    data["categories"][0]["keypoints"] = [COCO_17.names[k].replace("_", " ").title() for k in order]
    data["categories"][0]["skeleton"] = []
    triples = np.array(data["annotations"][0]["keypoints"]).reshape(17, 3)
    data["annotations"][0]["keypoints"] = triples[order].ravel().tolist()
    shuffled = read_dataset(write_json(tmp_path, data))
    assert shuffled.skeleton == COCO_17
    np.testing.assert_array_equal(shuffled.keypoints, plain.keypoints)


def test_another_skeleton_is_mapped_by_name(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path, images=1, people=1)
    coco, lsp = read_dataset(path), read_dataset(path, skeleton=LSP_14)
    for name in LSP_14.names:
        mine = lsp.keypoints[0, LSP_14.index(name)]
        expected = coco.keypoints[0, COCO_17.index(name)] if name in COCO_17.names else [0, 0, 0]
        np.testing.assert_array_equal(mine, expected)
    assert lsp.num_keypoints[0] == (lsp.keypoints[0, :, 2] > 0).sum()


def test_a_skeleton_without_a_common_name_is_refused(tmp_path: Path) -> None:
    other = Skeleton(name="hand", names=("thumb", "wrist_of_hand"))
    with pytest.raises(DatasetError, match=r"none of skeleton 'hand'"):
        read_dataset(tiny_coco(tmp_path), skeleton=other)


def test_own_names_make_an_own_skeleton(tmp_path: Path) -> None:
    data = tiny_dict(1, 1)
    data["categories"][0] |= {"keypoints": ["nose", "left_paw", "right_paw"], "skeleton": [[1, 2], [1, 3]]}
    data["annotations"][0] |= {"keypoints": [9, 9, 2, 20, 20, 1, 30, 30, 2], "num_keypoints": 3}
    skeleton = read_dataset(write_json(tmp_path, data)).skeleton
    assert skeleton.flip_pairs == (("left_paw", "right_paw"),)
    assert skeleton.limbs == (("nose", "left_paw"), ("nose", "right_paw"))
    assert skeleton.sigmas[0] == COCO_17.sigmas[0]


def test_limbs_that_count_other_keypoints_are_none(tmp_path: Path) -> None:
    """As in CrowdPose's files, whose pairs are COCO's: those in range join what nobody meant."""
    data = tiny_dict(1, 1)
    data["categories"][0]["keypoints"] = [f"joint {k}" for k in range(17)]
    data["categories"][0]["skeleton"] = [[1, 2], [18, 3]]
    path = write_json(tmp_path, data)
    assert read_dataset(path).skeleton.limbs == ()
    [found] = [problem for problem in check_dataset(path) if problem.kind == "limbs"]
    assert "expected pairs of numbers from 1 to 17; no pair is used" in str(found)


def test_without_names_only_51_numbers_speak_for_themselves(tmp_path: Path) -> None:
    data = tiny_dict(1, 1)
    del data["categories"][0]["keypoints"]
    assert read_dataset(write_json(tmp_path, data)).skeleton == COCO_17
    data["annotations"][0]["keypoints"] = [1, 1, 2] * 14
    data["annotations"][0]["num_keypoints"] = 14
    data["annotations"].insert(0, {**data["annotations"][0], "id": 9, "keypoints": []})  # a mistake, and no count
    with pytest.raises(DatasetError, match=r"names no keypoints, and annotations have 42 numbers; .* --skeleton NAME"):
        read_dataset(write_json(tmp_path, data))
    with pytest.raises(DatasetError, match="annotations have 42 numbers; skeleton mpii16 has 48, COCO's 17 have 51"):
        read_dataset(write_json(tmp_path, data), skeleton=MPII_16)
    del data["annotations"][0]
    assert read_dataset(write_json(tmp_path, data), skeleton=LSP_14).num_keypoints.tolist() == [14]


def test_a_list_of_names_that_nobody_fits_is_the_mistake_and_not_the_people(tmp_path: Path) -> None:
    data = tiny_dict(2, 2)
    data["categories"][0]["keypoints"] += ["left_hand", "right_hand"]
    path = write_json(tmp_path, data)
    said = "category 'person': lists 19 keypoints, but all 4 people have 51 numbers, 3 for each of 17"
    assert [str(problem) for problem in check_dataset(path)] == [said]
    for read in (read_dataset, lambda file: read_dataset(file, strict=False), lambda file: write_clean(file, file)):
        with pytest.raises(DatasetError, match=f"{said}. List the keypoints' names"):
            read(path)
    data["annotations"][0]["keypoints"] *= 2  # nobody knows whose fault it is
    assert {problem.kind for problem in check_dataset(write_json(tmp_path, data))} == {"keypoints-count"}


def test_only_the_person_category_gives_people(tmp_path: Path) -> None:
    data = tiny_dict(1, 2)
    data["categories"].insert(0, {"id": 7, "name": "dog"})
    data["annotations"][0]["category_id"] = 7
    dataset = read_dataset(write_json(tmp_path, data))
    assert dataset.ids.tolist() == [2]
    assert dataset.category_id == 1


@pytest.mark.parametrize(
    ("categories", "chosen"),
    [
        ([{"id": 3, "name": "human"}], 3),
        ([{"id": 1, "name": "car"}, {"id": 4, "name": "Person"}], 4),
        ([{"id": 1, "name": "person"}, {"id": 4, "name": "player", "keypoints": list(COCO_17.names)}], 4),
        ([{"id": 2, "name": "x", "keypoints": list(COCO_17.names)},
          {"id": 1, "name": "person", "keypoints": list(COCO_17.names)}], 1),
    ],
)  # fmt: skip
def test_which_category_is_the_people(tmp_path: Path, categories: list[dict[str, object]], chosen: int) -> None:
    data = {**tiny_dict(1, 1), "categories": categories}
    data["annotations"][0]["category_id"] = chosen
    dataset = read_dataset(write_json(tmp_path, data))
    assert (dataset.category_id, len(dataset)) == (chosen, 1)


def test_s_is_the_root_of_the_area(tmp_path: Path) -> None:
    data = tiny_dict(1, 2)
    del data["annotations"][0]["area"], data["annotations"][1]["area"]
    data["annotations"][0]["s"] = 12.0
    areas = read_dataset(write_json(tmp_path, data)).areas
    assert areas[0] == 144
    assert np.isnan(areas[1])


def test_crowds_boxes_without_keypoints_and_unlabelled_joints(tmp_path: Path) -> None:
    data = tiny_dict(1, 3)
    crowd, box, person = data["annotations"]
    crowd["iscrowd"] = True
    del box["keypoints"], box["num_keypoints"]
    person["keypoints"][-3:] = [77, 88, 0]
    person["num_keypoints"] = sum(v > 0 for v in person["keypoints"][2::3])
    dataset = read_dataset(write_json(tmp_path, data))
    assert dataset.with_keypoints().tolist() == [False, False, True]
    assert dataset.num_keypoints[1] == 0
    assert dataset.keypoints[2, -1].tolist() == [0, 0, 0], "coordinates of an unlabelled joint mean nothing"


@pytest.mark.parametrize(("about", "count"), [(None, 0), ([], 0), ("a set", 0), ({}, 0), ({"generated": True}, 4)])
def test_generated_sets_are_told_whatever_info_holds(tmp_path: Path, about: object, count: int) -> None:
    dataset = read_dataset(write_json(tmp_path, {**tiny_dict(), "info": about}))
    assert len(dataset.generated) == count


def test_arrays_make_a_set(tmp_path: Path) -> None:
    keypoints = np.tile([5.0, 6.0, 2.0], (2, 17, 1))
    dataset = dataset_from_arrays([4, 9], [[0, 0, 10, 10]] * 2, keypoints, areas=[50, 60])
    assert [(i.id, i.width, i.height) for i in dataset.images] == [(4, 640, 480), (9, 640, 480)]
    again = read_dataset(write_json(tmp_path, to_json(dataset)))
    np.testing.assert_array_equal(again.keypoints, keypoints)
    with pytest.raises(DatasetError, match=r"keypoints has shape \(2, 3, 3\), expected \(2, 17, 3\)"):
        dataset_from_arrays([4, 9], [[0, 0, 10, 10]] * 2, keypoints[:, :3])


def test_an_empty_set_from_arrays() -> None:
    dataset = dataset_from_arrays([], np.zeros((0, 4)), np.zeros((0, 17, 3)))
    assert (len(dataset), dataset.rows_by_image, to_json(dataset)["annotations"]) == (0, {}, [])


CAT = {"id": 3, "name": "cat", "keypoints": ["Nose", "Left Ear", "right-ear", "l_paw", "r_paw", "tail"],
       "skeleton": [[1, 2], [1, 3], [4, 6]]}


def resolved(folder: Path, data: object, name: str = "cats.json") -> Skeleton:
    (folder / name).write_text(json.dumps(data))
    return resolve_skeleton(str(folder / name))


def test_an_annotation_file_is_a_skeleton(tmp_path: Path) -> None:
    skeleton = resolved(tmp_path, {"images": [], "annotations": [], "categories": [{"id": 1, "name": "dog"}, CAT]})
    assert skeleton.name == "cat" and skeleton.names == ("nose", "left_ear", "right_ear", "l_paw", "r_paw", "tail")
    assert skeleton.flip_pairs == (("left_ear", "right_ear"), ("l_paw", "r_paw"))
    assert skeleton.limbs == (("nose", "left_ear"), ("nose", "right_ear"), ("l_paw", "tail"))
    assert skeleton.sigmas == (COCO_17.sigmas[0], *[COCO_17.sigmas[3]] * 2, *[DEFAULT_SIGMA] * 3)
    both = resolve_skeleton(f"{tmp_path / 'cats.json'}+coco17")
    assert both.names[:6] == skeleton.names and len(both) == 6 + 14


def test_of_a_published_order_it_is_the_published_one_and_skeleton_files_are_as_ever(tmp_path: Path) -> None:
    assert resolve_skeleton(str(tiny_coco(tmp_path))) == COCO_17 == resolve_skeleton("coco17")
    mine = Skeleton(name="mine", names=("a", "b"), flip_pairs=(("a", "b"),))
    assert resolved(tmp_path, mine.to_json()) == mine


@pytest.mark.parametrize(("names", "pairs"), [
    (["eye_left", "eye_right"], [("eye_left", "eye_right")]), (["lefteye", "righteye"], [("lefteye", "righteye")]),
    (["LShoulder", "RShoulder", "leg"], [("lshoulder", "rshoulder")]), (["right_a", "left_a"], [("left_a", "right_a")]),
    (["left_a", "right_b"], []), (["lip", "ear", "rear"], []),
])  # fmt: skip
def test_left_and_right_are_told_by_their_names(tmp_path: Path, names: list[str],
                                                pairs: list[tuple[str, str]]) -> None:
    assert resolved(tmp_path, {"categories": [{"id": 1, "name": "x", "keypoints": names}]}).flip_pairs == tuple(pairs)


@pytest.mark.parametrize(("categories", "message"), [
    ([], "no category of this annotation file lists keypoints"), (None, "no category"), ([3], "no category"),
    ([{"id": 1, "name": "person"}], "no category of this annotation file lists keypoints; list their names there"),
    ([{"id": 1, "name": "person", "keypoints": ["a", "a"]}], "category 'person': keypoints has .*'a'.* more than once"),
    ([{"id": 1, "name": "person", "keypoints": ["a", 3]}], "expected a list of names; mend its category"),
    ([{"id": 1, "name": "person", "keypoints": "nose"}], "expected a list of names; mend its category"),
])  # fmt: skip
def test_an_annotation_file_without_names_is_no_skeleton(tmp_path: Path, categories: object, message: str) -> None:
    with pytest.raises(SkeletonError, match=rf"cats\.json: .*{message}"):
        resolved(tmp_path, {"categories": categories})
