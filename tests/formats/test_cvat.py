"""CVAT for images 1.1: every point says its name, so no order can scramble it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from formats.desk import people_of, read_labels
from stagepose import formats
from stagepose.coco import dataset_from_arrays
from stagepose.errors import DatasetError
from stagepose.skeleton import COCO_17, Skeleton

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels>
    <label><name>person</name><type>skeleton</type><attributes></attributes>
      <svg>&lt;line x1="1" y1="1" data-type="edge" data-node-from="2" data-node-to="1"&gt;&lt;/line&gt;&lt;circle r="1"
        data-type="element node" data-node-id="1" data-label-name="Tail"&gt;&lt;/circle&gt;&lt;circle r="1"
        data-node-id="2" data-label-name="left ear"&gt;&lt;/circle&gt;</svg></label>
    <label><name>Tail</name><type>points</type><parent>person</parent></label>
    <label><name>left ear</name><type>points</type><parent>person</parent></label>
    <label><name>right ear</name><type>points</type><parent>person</parent></label>
    <label><name>dog</name><type>skeleton</type></label>
    <label><name>nose</name><type>points</type><parent>dog</parent></label>
  </labels></task></meta>
"""
POINTS = """
      <points label="right ear" outside="0" occluded="1" points="5.25,6"></points>
      <points label="Tail" outside="0" occluded="0" points="3,4"></points>
      <points label="left ear" outside="1" occluded="0" points="0,0"></points>"""


def export(folder: Path, *shapes: str, head: str = HEAD, more: str = "") -> Path:
    """An export with one picture of 40x20 in images/."""
    (folder / "images").mkdir(exist_ok=True)
    Image.new("L", (40, 20)).save(folder / "images/a.png")
    image = f'  <image id="0" name="a.png" width="40" height="20">\n{"".join(shapes)}\n  </image>\n'
    (folder / "annotations.xml").write_text(head + image + more + "</annotations>\n")
    return folder / "annotations.xml"


def skeleton(points: str = POINTS, label: str = "person", **more: object) -> str:
    rest = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'    <skeleton label="{label}" source="manual" z_order="0"{rest}>{points}\n    </skeleton>\n'


def box(left: float, top: float, right: float, bottom: float, label: str = "person_box", **more: object) -> str:
    rest = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'    <box label="{label}" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" occluded="0"{rest}></box>\n'


def test_skeletons(tmp_path: Path) -> None:
    path = export(tmp_path, skeleton(), box(1, 2, 30, 19, rotation="0.00"),
                  box(0, 0, 9, 9, "car", rotation="90.00"), skeleton(label="dog"))
    assert formats.detect(tmp_path) == formats.detect(path) == ("cvat", path)
    labels = read_labels("cvat", path)
    assert labels.problems == [] and labels.pictures == tmp_path / "images"
    person = {"box": [1, 2, 30, 19], "tail": (3, 4, 2), "right_ear": (5.25, 6, 1)}
    assert people_of(labels.dataset) == {"a.png": [person]}
    read = labels.dataset.skeleton
    assert read.names == ("tail", "left_ear", "right_ear") and read.limbs == (("left_ear", "tail"),)
    assert read.flip_pairs == (("left_ear", "right_ear"),)
    assert "left out: box shapes of car: 1, skeleton shapes of dog: 1" in labels.notes


def test_without_a_box_it_is_made_and_said(tmp_path: Path) -> None:
    labels = read_labels("cvat", export(tmp_path, skeleton(), skeleton()))
    assert [person["box"] for person in people_of(labels.dataset)["a.png"]] == [[3.3, 4.3, 5.95, 6.7]] * 2
    assert any(note.startswith("people without a box: 2;") for note in labels.notes)


def test_groups(tmp_path: Path) -> None:
    boxes = box(0, 0, 40, 20, group_id=2) + box(1, 1, 39, 19, "whatever", group_id=1)
    labels = read_labels("cvat", export(tmp_path, boxes, skeleton(group_id=1), skeleton(group_id=2)))
    assert [person["box"] for person in people_of(labels.dataset)["a.png"]] == [[0, 0, 40, 20], [1, 1, 39, 19]]
    found = read_labels("cvat", export(tmp_path, skeleton(group_id=1), skeleton(group_id=1))).problems
    assert len(found) == 3 and {each.kind for each in found} == {"label-twice"}
    assert "right_ear of this person stands at" in str(found[0])


def test_nobody_is_left_where_all_points_are_outside(tmp_path: Path) -> None:
    outside = POINTS.replace('outside="0"', 'outside="1"')
    labels = read_labels("cvat", export(tmp_path, skeleton(outside), box(1, 2, 30, 19), skeleton(outside, group_id=3)))
    assert labels.problems == [] and len(labels.dataset) == 1
    assert "left out: people without a box and a keypoint: 2" in labels.notes


def test_a_drawing_that_cannot_be_read_costs_the_limbs(tmp_path: Path) -> None:
    labels = read_labels("cvat", export(tmp_path, skeleton(), head=HEAD.replace("&lt;/circle&gt;", "")))
    assert labels.problems == [] and labels.dataset.skeleton.limbs == () and len(labels.dataset) == 1
    assert any(note.startswith("limbs, which are for drawing only, are left out") for note in labels.notes)


def test_labels_that_the_file_does_not_describe(tmp_path: Path) -> None:
    path = export(tmp_path, skeleton(POINTS.replace("Tail", "Nose")), head="<annotations>\n")
    labels = read_labels("cvat", path)
    assert labels.dataset.skeleton == COCO_17 and people_of(labels.dataset)["a.png"][0]["nose"] == (3, 4, 2)
    path = export(tmp_path, skeleton(POINTS.replace("Tail", "noze")), head="<annotations>\n")
    assert "line 5: 'noze' is no keypoint of skeleton coco17; did you mean nose?" in str(
        read_labels("cvat", path, skeleton=COCO_17).problems[0])


def test_declared_keypoints_that_a_skeleton_lacks_are_counted(tmp_path: Path) -> None:
    labels = read_labels("cvat", export(tmp_path, skeleton()), skeleton=COCO_17)
    assert labels.problems == [] and people_of(labels.dataset)["a.png"][0]["right_ear"] == (5.25, 6, 1)
    assert "keypoints that skeleton coco17 lacks are left out: tail 1" in labels.notes


@pytest.mark.parametrize(("shape", "message"), [
    (skeleton(POINTS.replace("3,4", "3")), "line 18: 'Tail' is at '3', expected x,y"),
    (skeleton(POINTS.replace("3,4", "3,nan")), "line 18: 'Tail' is at '3,nan', expected x,y"),
    (skeleton(POINTS.replace("3,4", "3,400")), "line 17: tail is at 3, 400, outside of its picture of 40x20"),
    (skeleton(POINTS.replace("Tail", "right ear")) + box(1, 1, 9, 9), "line 18: right_ear of this person stands at"),
    (skeleton() + box(1, 1, 9, float("inf")), "line 21: the edges of box 'person_box' are no four numbers"),
    (skeleton() + box(1, 1, 39, 9, rotation="90.00"), "line 21: box 'person_box' is rotated by '90.00'; boxes must be"),
    (box(3, 3, 3, 9), "line 16: its box is 3, 3, 3, 9; expected one of some"),
])  # fmt: skip
def test_a_wrong_shape(shape: str, message: str, tmp_path: Path) -> None:
    labels = read_labels("cvat", export(tmp_path, shape))
    assert len(labels.problems) == 1 and message in str(labels.problems[0]), labels.problems
    assert "\n" not in str(labels.problems[0]) and labels.dataset.images == ()


def test_a_wrong_image(tmp_path: Path) -> None:
    more = '<image id="1" name="b.png" width="4"></image><image id="2" width="4" height="4"></image>'
    labels = read_labels("cvat", export(tmp_path, more=more))
    assert [str(each).partition(".xml: ")[2] for each in labels.problems] == [
        "line 18: the size of 'b.png' is told by no whole numbers", "line 18: an image has no name"]
    assert [image.file_name for image in labels.dataset.images] == ["a.png"]


def test_pictures(tmp_path: Path) -> None:
    path = export(tmp_path, skeleton(), more='<image id="1" name="b.png" width="40" height="20"></image>')
    found = read_labels("cvat", path).problems
    assert [str(each) for each in found] == [f"{path}: line 23: its picture 'b.png' is not there"]
    (tmp_path / "images/a.png").unlink()
    labels = read_labels("cvat", path)  # exported without pictures
    assert labels.problems == [] and labels.pictures is None and len(labels.dataset.images) == 2
    assert len(read_labels("cvat", path, images=tmp_path / "images").problems) == 2  # but here they should be
    Image.new("L", (20, 40)).save(tmp_path / "images/a.png")
    assert "its picture is 20x40; the labels say 40x20" in str(read_labels("cvat", path).problems[0])


@pytest.mark.parametrize(("text", "message"), [
    ("<annotations><track id='0'/></annotations>", "is CVAT for video; export it as 'CVAT for images 1.1'"),
    ("<html/>", "is 'html'; export it as"), ("<annotations><image>", "line 1: not valid XML"),
    ("<!DOCTYPE annotations [<!ENTITY a 'b'>]><annotations/>", "line 1: has a DOCTYPE"),
])  # fmt: skip
def test_a_wrong_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_labels("cvat", tmp_path / "a.xml")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_labels_that_a_task_needs(tmp_path: Path) -> None:
    mine = Skeleton(name="x", names=("a<b", "c"), limbs=(("a<b", "c"),))
    dataset = dataset_from_arrays([1], [(0, 0, 9, 9)], [[(1, 1, 2), (2, 2, 0)]], skeleton=mine)
    labels = formats.Labels(dataset, None, [], [])
    formats.write("cvat", labels, tmp_path / "a.xml")
    told = json.loads((tmp_path / "a.labels.json").read_text())
    assert [label["name"] for label in told] == ["person", "person_box"]
    assert [sub["name"] for sub in told[0]["sublabels"]] == ["a<b", "c"] and "data-label-name" in told[0]["svg"]
    assert read_labels("cvat", tmp_path / "a.xml").dataset.skeleton.limbs == mine.limbs
    with pytest.raises(DatasetError, match="is there already"):
        formats.write("cvat", labels, tmp_path / "a.xml")
