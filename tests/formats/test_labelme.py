"""Labelme: people are groups, or what one box holds; nothing is guessed beyond that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from formats.desk import people_of, read_labels
from stagepose import formats
from stagepose.coco import ImageInfo, dataset_from_arrays
from stagepose.errors import DatasetError
from stagepose.skeleton import COCO_17, Skeleton


def box(label: str, edges: list[float], group: Any = None) -> dict[str, Any]:
    return {"label": label, "points": [edges[:2], edges[2:]], "group_id": group, "shape_type": "rectangle", "flags": {}}


def point(label: str, x: Any, y: Any, group: Any = None, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": [[x, y]], "group_id": group, "shape_type": "point", "flags": {}, **more}


def sheet(folder: Path, *shapes: Any, name: str = "a", picture: bool = True, **more: Any) -> Path:
    """A Labelme file with its picture of 40x20 beside it."""
    if picture:
        Image.new("L", (40, 20)).save(folder / f"{name}.png")
    data = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.png", "imageData": None,
            "imageHeight": 20, "imageWidth": 40}
    (folder / f"{name}.json").write_text(json.dumps({**data, **more}))
    return folder / f"{name}.json"


def test_groups(tmp_path: Path) -> None:
    sheet(tmp_path, point("Left Eye", 3, 4, 1, flags={"occluded": True}), point("nose", 5, 6, 2, difficult=True),
          box("person", [9, 9, 1, 1], 1), box("person", [1, 2, 20, 19], 2), point("nose", 3.125, 4, 1))
    sheet(tmp_path, name="b")
    assert formats.detect(tmp_path) == ("labelme", tmp_path)
    labels = read_labels("labelme", tmp_path)
    assert labels.problems == [] and labels.pictures == tmp_path and labels.dataset.skeleton == COCO_17
    assert people_of(labels.dataset) == {"b.png": [], "a.png": [
        {"box": [1, 1, 9, 9], "left_eye": (3, 4, 1), "nose": (3.12, 4, 2)},
        {"box": [1, 2, 20, 19], "nose": (5, 6, 1)}]}


def test_names_of_a_skeleton_are_matched_as_those_of_labels_are(tmp_path: Path) -> None:
    own = Skeleton(name="own", names=("Left Eye", "Nose"))
    labels = read_labels("labelme", sheet(tmp_path, point("left-eye", 3, 4, 1), point("NOSE", 5, 6, 1)), skeleton=own)
    assert labels.problems == [] and labels.dataset.skeleton == own
    assert labels.dataset.keypoints.tolist() == [[[3, 4, 2], [5, 6, 2]]]


def test_without_groups_the_only_box_around_has_a_point(tmp_path: Path) -> None:
    left, right = box("person", [0, 0, 10, 10]), box("person", [8, 0, 30, 10])
    labels = read_labels("labelme", sheet(tmp_path, left, right, point("nose", 3, 3), point("nose", 20, 3)))
    assert labels.problems == [] and any("2 shapes without a group_id" in note for note in labels.notes)
    assert people_of(labels.dataset)["a.png"] == [{"box": [0, 0, 10, 10], "nose": (3, 3, 2)},
                                                  {"box": [8, 0, 30, 10], "nose": (20, 3, 2)}]
    edges = [point("nose", 0, 0.01), point("left_eye", 10, 10)]
    assert read_labels("labelme", sheet(tmp_path, left, *edges)).problems == []
    found = read_labels("labelme", sheet(tmp_path, left, right, point("nose", 9, 3), point("nose", 35, 3))).problems
    assert [str(each).partition("a.json: ")[2] for each in found] == [
        "shape 3: nose belongs to no group, and 2 boxes are around it",
        "shape 4: nose belongs to no group, and no box is around it"]


def test_a_group_of_points_takes_the_only_box_around_it(tmp_path: Path) -> None:
    shapes = [point("nose", 3, 3, 1), point("left_eye", 4, 4, 1), point("nose", 30, 3, 2), point("left_eye", 34, 9, 2)]
    labels = read_labels("labelme", sheet(tmp_path, box("person", [0, 0, 10, 10]), *shapes))
    assert [person["box"] for person in people_of(labels.dataset)["a.png"]] == [
        [0, 0, 10, 10], [29.96, 2.96, 35.04, 10.04]]  # 6 px long, .09 of it around
    assert any(note.startswith("people without a box: 1;") for note in labels.notes)


def test_one_person_without_any_box(tmp_path: Path) -> None:
    labels = read_labels("labelme", sheet(tmp_path, point("nose", 3, 3), point("left_eye", 13, 3)))
    assert people_of(labels.dataset)["a.png"][0]["box"] == [2.6, 2.6, 14.4, 4.4]
    found = read_labels("labelme", sheet(tmp_path, point("nose", 3, 3))).problems
    assert [each.kind for each in found] == ["label-box"] and "draw a box" in found[0].remedy


def test_names_that_nobody_has_published_keep_their_order(tmp_path: Path) -> None:
    points = [point("tail", 3, 3, 1), point("L paw", 4, 4, 1), point("R paw", 5, 5, 1)]
    sheet(tmp_path, box("cat", [0, 0, 9, 9], 1), *points)
    skeleton = read_labels("labelme", tmp_path).dataset.skeleton
    assert skeleton.names == ("tail", "l_paw", "r_paw") and skeleton.flip_pairs == (("l_paw", "r_paw"),)


def test_other_shapes_and_labels_are_counted(tmp_path: Path) -> None:
    shape = {"label": "x", "points": [[1, 1], [2, 2], [3, 1]], "shape_type": "polygon"}
    (tmp_path / "else.json").write_text('{"images": []}')
    labels = read_labels("labelme", sheet(tmp_path, box("person", [0, 0, 9, 9], 1), point("nose", 3, 3, 1), shape,
                                           box("dog", [0, 0, 9, 9], 2), point("nose", 5, 5, 2)).parent)
    assert len(labels.dataset) == 1 and labels.problems == []
    listed = "left out: shapes of kind polygon: 1, JSON files of something else: 1, boxes of dog: 1"
    assert f"{listed}, points of other boxes: 1" in labels.notes


def test_a_person_keeps_its_points_beside_another_box_of_its_group(tmp_path: Path) -> None:
    labels = read_labels("labelme", sheet(tmp_path, box("person", [0, 0, 9, 9], 1), box("helmet", [2, 1, 5, 3], 1),
                                           point("nose", 3, 3, 1), point("left_eye", 4, 2, 1)))
    assert people_of(labels.dataset)["a.png"] == [{"box": [0, 0, 9, 9], "nose": (3, 3, 2), "left_eye": (4, 2, 2)}]
    assert "left out: boxes of helmet: 1" in labels.notes


@pytest.mark.parametrize(("shapes", "message"), [
    ([point("nose", 1, 1, 1), point("Nose", 2, 2, 1), box("person", [0, 0, 9, 9], 1)],
     "a.json: shape 2: nose of this person stands at"),
    ([box("person", [0, 0, 9, 9], 1), box("person", [0, 0, 8, 8], 1)], "a.json: shape 2: group 1 has a second box"),
    ([point("noze", 1, 1, 1)], "a.json: shape 1: 'noze' is no keypoint of skeleton coco17; did you mean nose?"),
    ([point("nose", "x", 1, 1)], "shape 1: point 'nose' has points [['x', 1]], expected one pair of numbers"),
    ([point("nose", 1e999, 1, 1)], "Infinity is not valid JSON"),
    ([point("nose", 10**400, 1, 1)], "shape 1: point 'nose' has points"),
    ([box("person", [0, 0, 9, 9], 1), point("nose", 400, 1, 1)], "nose is at 400, 1, outside of its picture of 40x20"),
    ([box("person", [0, 0, 900, 9], 1)], "its box is at 900, 9, outside of its picture"),
    ([7], "shape 1: is 7, expected an object with a label"), ([point("nose", 1, 1, [1])], "group_id is [1]"),
    ([point("", 1, 1)], "expected an object with a label"),
])  # fmt: skip
def test_a_wrong_shape(shapes: list[Any], message: str, tmp_path: Path) -> None:
    labels = read_labels("labelme", sheet(tmp_path, *shapes), skeleton=COCO_17)
    assert len(labels.problems) == 1 and message in str(labels.problems[0]), labels.problems
    assert labels.dataset.images == () and "\n" not in str(labels.problems[0])


@pytest.mark.parametrize("content", ["{", "[]", "", "[" * 100_000, '{"shapes": 3, "imagePath": "a.png"}'])
def test_a_wrong_file(content: str, tmp_path: Path) -> None:
    sheet(tmp_path, name="good")
    (tmp_path / "bad.json").write_text(content)
    labels = read_labels("labelme", tmp_path / "bad.json")
    assert [each.kind for each in labels.problems] == ["label-file"] and len(str(labels.problems[0])) < 500


def test_pictures(tmp_path: Path) -> None:
    turned = Image.new("L", (20, 40))
    exif = turned.getexif()
    exif[0x0112] = 6  # shown lying on its side
    sheet(tmp_path)
    turned.save(tmp_path / "a.png", exif=exif)
    assert read_labels("labelme", tmp_path).dataset.images[0].width == 40  # as Labelme shows it
    turned.save(tmp_path / "a.png")
    found = read_labels("labelme", tmp_path).problems
    assert "a.json: its picture is 20x40; the labels say 40x20" in str(found[0])
    (tmp_path / "a.png").unlink()
    labels = read_labels("labelme", tmp_path)
    assert labels.problems == [] and labels.pictures is None and any("--images" in note for note in labels.notes)
    sheet(tmp_path, name="b")
    found = read_labels("labelme", tmp_path).problems
    assert [str(each) for each in found] == [f"{tmp_path}/a.json: its picture 'a.png' is not there"]
    sheet(tmp_path, name="b", imagePath="..\\other\\b.png")
    sheet(tmp_path, name="c", imagePath="b.png")
    assert "is the picture of" in str(read_labels("labelme", tmp_path).problems[0])


def test_a_size_beyond_reason_is_none(tmp_path: Path) -> None:
    found = read_labels("labelme", sheet(tmp_path, picture=False, imageWidth=10**400)).problems
    assert [str(each).partition("a.json: ")[2] for each in found] == [
        "its picture 'a.png' is not there, and no size is told"]


def test_which_label_the_people_have(tmp_path: Path) -> None:
    path = sheet(tmp_path, box("cat", [0, 0, 9, 9], 1), box("dog", [0, 0, 8, 8], 2))
    with pytest.raises(DatasetError, match=r"which are the people: cat, dog\? --category"):
        read_labels("labelme", path)
    assert people_of(read_labels("labelme", path, category="dog").dataset)["a.png"][0]["box"] == [0, 0, 8, 8]


def test_what_is_written_can_be_opened_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    path = sheet(tmp_path / "pictures", box("person", [0, 0, 9, 9], 1), point("nose", 3, 3, 1))
    labels = read_labels("labelme", path)
    formats.write("labelme", labels, tmp_path / "out")
    written = json.loads((tmp_path / "out/a.json").read_text())
    assert written["imagePath"] == "../pictures/a.png" and written["imageData"] is None
    with pytest.raises(DatasetError, match="is there already"):  # somebody may have corrected it
        formats.write("labelme", labels, tmp_path / "out")


def test_pictures_in_subfolders_need_their_files_beside_them(tmp_path: Path) -> None:
    """Where Labelme is given an --output, it looks there for a file of the picture's bare name."""
    images = [ImageInfo(1, "sub/a.png", 40, 20)]
    labels = formats.Labels(dataset_from_arrays([1], [(0, 0, 9, 9)], [[(1, 1, 2)] * 17], images=images),
                            tmp_path / "pictures", [], [])
    (tmp_path / "pictures/sub").mkdir(parents=True)
    notes = formats.write("labelme", labels, tmp_path / "out")
    assert any(f"--out {tmp_path / 'pictures'}" in note for note in notes)
    assert not any("--out" in note for note in formats.write("labelme", labels, tmp_path / "pictures"))
    assert json.loads((tmp_path / "pictures/sub/a.json").read_text())["imagePath"] == "a.png"


def test_a_set_without_pictures_has_nothing_to_write(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": [
        {"id": 1, "name": "person", "keypoints": ["nose", "left_eye"]}]}))
    (tmp_path / "images").mkdir()
    labels = read_labels("coco", tmp_path / "a.json")
    assert formats.write("labelme", labels, tmp_path / "out") == ["hidden keypoints have the flag occluded"]
