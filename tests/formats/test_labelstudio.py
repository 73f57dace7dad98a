"""Label Studio: per cent to pixels, points to their parents, and the many names that it gives a picture."""

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
from stagepose.formats.labelstudio import names_of
from stagepose.formats.xmlfile import read_xml
from stagepose.skeleton import COCO_17


def region(kind: str, name: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {"id": name, "type": kind, "from_name": "x", "to_name": "y", **size, "value": value, **more}


def box(name: str, x: float, y: float, width: float, height: float, label: str = "Person") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]}
    return region("rectanglelabels", name, value)


def point(name: str, x: Any, y: Any, label: str, **more: Any) -> dict[str, Any]:
    return region("keypointlabels", name, {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]}, **more)


def export(folder: Path, *regions: Any, image: str = "/data/upload/3/0a1b2c3d-a.png", **task: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    Image.new("L", (200, 100)).save(folder / "images/a.png")
    tasks = [{"id": 7, "data": {"image": image}, "annotations": [{"id": 1, "result": list(regions)}], **task}]
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder / "export.json"


def test_regions(tmp_path: Path) -> None:
    hidden = region("choices", "k2", {"choices": ["Occluded"]})
    path = export(tmp_path, point("k1", 5, 10, "Left Eye", parentID="b"), box("b", 0, 0, 50, 100), hidden,
                  point("k2", 52.5, 10, "nose"), {"type": "relation", "from_id": "b", "to_id": "k2"},
                  {"type": "relation", "from_id": "k2", "to_id": "k1"},  # a limb, say
                  point("k3", 80, 50, "nose"), box("c", 60, 0, 40, 100), region("polygonlabels", "p", {}),
                  box("d", 0, 0, 9, 9, "dog"))
    assert formats.detect(path) == formats.detect(tmp_path) == ("labelstudio", path)
    labels = read_labels("labelstudio", path)
    assert labels.problems == [] and labels.pictures == tmp_path / "images"
    assert people_of(labels.dataset) == {"a.png": [
        {"box": [0, 0, 100, 100], "left_eye": (10, 10, 2), "nose": (105, 10, 1)},
        {"box": [120, 0, 200, 100], "nose": (160, 50, 2)}]}
    assert "1 points without a parent were given to the only box around them" in labels.notes
    assert "left out: regions of type polygonlabels: 1, boxes of dog: 1" in labels.notes


def test_a_point_on_the_edge_of_a_box_is_in_it(tmp_path: Path) -> None:
    """Also where the sum of its left edge and its width, of 200 pixels, is less than the point by a rounding."""
    points = point("k", 77.48, 100, "nose"), point("l", 49.04, 50, "left_eye")
    labels = read_labels("labelstudio", export(tmp_path, box("b", 49.04, 0, 28.44, 100), *points))
    assert labels.problems == []
    assert people_of(labels.dataset)["a.png"] == [
        {"box": [98.08, 0, 154.96, 100], "nose": (154.96, 100, 2), "left_eye": (98.08, 50, 2)}]


@pytest.mark.parametrize("address", ["https://host", "http://[a/x.jpg"])
def test_an_address_without_a_name(address: str, tmp_path: Path) -> None:
    labels = read_labels("labelstudio", export(tmp_path, image=address))
    assert len(labels.problems) == 1
    assert f"its image is '{address}', expected an address that ends in a file's name" in str(labels.problems[0])


@pytest.mark.parametrize("data", [
    {"title": "Day 1", "photo": "/data/upload/3/0a1b2c3d-a.png"}, {"photo": "https://host/x/a.png?token=1"},
    {"n": 7, "source": "https://host/page", "photo": "/data/local-files/?d=x/a.png"},
])  # fmt: skip
def test_the_picture_is_the_text_that_ends_as_one(data: dict[str, Any], tmp_path: Path) -> None:
    labels = read_labels("labelstudio", export(tmp_path, data=data))
    assert labels.problems == [] and [image.file_name for image in labels.dataset.images] == ["a.png"]


def test_the_fullest_name_decides_which_of_two_pictures_it_is(tmp_path: Path) -> None:
    for folder in ("images", "photos/cam2"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (200, 100)).save(tmp_path / folder / "1.png")
    labels = read_labels("labelstudio", export(tmp_path, image="/data/local-files/?d=photos/cam2/1.png"))
    assert labels.pictures == tmp_path / "photos/cam2" and list(people_of(labels.dataset)) == ["1.png"]


def test_which_annotation_counts(tmp_path: Path) -> None:
    first, second = box("a", 0, 0, 50, 50), box("a", 0, 0, 10, 10)
    rows = [{"result": [second], "was_cancelled": True}, {"result": [first]}, {"result": [second]}]
    labels = read_labels("labelstudio", export(tmp_path, annotations=rows))
    assert people_of(labels.dataset)["a.png"] == [{"box": [0, 0, 100, 50]}]
    assert "left out: further annotations of the same picture: 1" in labels.notes
    for rows in ([], [{"result": [first], "was_cancelled": True}]):  # what a model has found is no truth
        path = export(tmp_path, annotations=rows, predictions=[{"result": [second]}])
        labels = read_labels("labelstudio", path)
        assert labels.dataset.images == () and "left out: tasks with predictions alone: 1" in labels.notes
    labels = read_labels("labelstudio", export(tmp_path, annotations=[]))  # nobody has looked: no negative
    assert labels.dataset.images == () and "left out: tasks without an annotation: 1" in labels.notes
    assert people_of(read_labels("labelstudio", export(tmp_path)).dataset) == {"a.png": []}  # somebody has


@pytest.mark.parametrize(("address", "names"), [
    ("/data/upload/3/0a1b2c3d-my-a.png", ["0a1b2c3d-my-a.png", "my-a.png"]), ("a%20b.png", ["a b.png"]),
    ("/data/local-files/?d=set/sub%20x/a.png", ["set/sub x/a.png", "sub x/a.png", "a.png"]),
    ("https://example.com/x/a.png?token=1", ["a.png"]), ("s3://bucket/x/a.png", ["a.png"]),
    ("https://host/?id=3", []), ("/", []), ("#1", []), ("http://[a/x.jpg", []),
])  # fmt: skip
def test_what_a_picture_may_be_called(address: str, names: list[str]) -> None:
    assert names_of(address) == names


@pytest.mark.parametrize(("shape", "message"), [
    (point("k", 5, 10, "noze"), "task 1, region 1: 'noze' is no keypoint of skeleton coco17; did you mean nose?"),
    (point("k", "x", 10, "nose"), "'nose' is at {'x': 'x', 'y': 10}, expected numbers of per cent"),
    (point("k", 1000, 10, "nose"), "nose belongs to no group, and no box is around it"),
    (point("k", 5, 10, "nose", parentID="b", image_rotation=90), "'nose' is rotated by 90; boxes and pictures must be"),
    (region("keypointlabels", "k", {"x": 1, "y": 1, "keypointlabels": ["a", "b"]}), "is ['a', 'b'], expected one"),
    (region("keypointlabels", "k", {"x": 1, "y": 1}), "keypointlabels is None, expected one label"),
    (box("c", 0, 0, 0, 9), "its box is 0, 0, 0, 9; expected one of some"),
])  # fmt: skip
def test_a_wrong_region(shape: Any, message: str, tmp_path: Path) -> None:
    labels = read_labels("labelstudio", export(tmp_path, shape, box("b", 0, 0, 50, 50)), skeleton=COCO_17)
    assert len(labels.problems) == 1 and message in str(labels.problems[0]), labels.problems
    assert "task 1" in str(labels.problems[0])


@pytest.mark.parametrize(("task", "message"), [
    ({"data": 7}, "task 1: is"), ({"data": {}}, "data is {}, expected the address of an image"),
    ({"data": {"image": 7}}, "data is {'image': 7}, expected the address"),
])  # fmt: skip
def test_a_wrong_task(task: Any, message: str, tmp_path: Path) -> None:
    labels = read_labels("labelstudio", export(tmp_path, **task))
    assert len(labels.problems) == 1 and message in str(labels.problems[0])


def test_the_interface_that_a_project_needs(tmp_path: Path) -> None:
    labels = read_labels("labelstudio", export(tmp_path, box("b", 0, 0, 50, 50), point("k", 5, 10, "nose")))
    formats.write("labelstudio", labels, tmp_path / "out.json")
    controls = read_xml(tmp_path / "out.interface.xml", "an interface")
    written = json.loads((tmp_path / "out.json").read_text())[0]["annotations"][0]["result"]
    for region in written:
        tag = {"rectanglelabels": "RectangleLabels", "keypointlabels": "KeyPointLabels"}[region["type"]]
        [control] = controls.all(tag)
        assert control.attributes == {"name": region["from_name"], "toName": region["to_name"]}
        assert region["value"][region["type"]][0] in [label.attributes["value"] for label in control.children]
    assert len(written) == 2
    assert [label.attributes["model_index"] for label in controls.all("KeyPointLabels")[0].children] == [
        str(k) for k in range(17)], "without which it exports no COCO"


def test_a_local_storage_is_never_the_root_of_all(tmp_path: Path) -> None:
    """So the pictures' folder is in the addresses, and what is read from them may begin anywhere in there."""
    home = tmp_path / "my photos"
    (home / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/a.png"):
        Image.new("L", (40, 20)).save(home / name)
    images = [ImageInfo(number, name, 40, 20) for number, name in enumerate(("a.png", "sub/a.png"), 1)]
    dataset = dataset_from_arrays([2], [(0, 0, 9, 9)], [[(1, 1, 2)] * 17], images=images)
    notes = formats.write("labelstudio", formats.Labels(dataset, home, [], []), tmp_path / "out.json")
    assert [task["data"]["image"] for task in json.loads((tmp_path / "out.json").read_text())] == [
        "/data/local-files/?d=my%20photos/a.png", "/data/local-files/?d=my%20photos/sub/a.png"]
    assert any("LOCAL_FILES_DOCUMENT_ROOT" in note for note in notes)
    back = read_labels("labelstudio", tmp_path / "out.json", images=home)
    assert back.problems == [] and people_of(back.dataset) == people_of(dataset)
    beside = read_labels("labelstudio", tmp_path / "out.json").dataset
    assert [image.file_name for image in beside.images] == ["my photos/a.png", "my photos/sub/a.png"]


def test_the_short_export_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "min.json"
    path.write_text(json.dumps([{"image": "a.png", "id": 1, "keypoint": [], "annotator": 1, "annotation_id": 2}]))
    with pytest.raises(DatasetError, match="is Label Studio's JSON-MIN export, which does not tell whose"):
        formats.detect(path)


def test_sizes(tmp_path: Path) -> None:
    path = export(tmp_path, box("b", 0, 0, 50, 50))
    Image.new("L", (100, 200)).save(tmp_path / "images/a.png")
    assert "its picture is 100x200; the labels say 200x100" in str(read_labels("labelstudio", path).problems[0])
    path = export(tmp_path, image="gone.png")
    found = read_labels("labelstudio", path).problems
    assert "its picture 'gone.png' is not there, and no size is told" in str(found[0])
