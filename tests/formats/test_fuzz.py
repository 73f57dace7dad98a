"""No value in labels, wherever it stands, brings a traceback: a list of problems, or one error."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated

from formats.desk import read_labels
from stagepose import formats
from stagepose.errors import StagePoseError
from stagepose.skeleton import COCO_17

SHAPE = {"label": "nose", "points": [[3, 4]], "group_id": 1, "shape_type": "point", "flags": {"occluded": True}}
BOX = {"label": "person", "points": [[1, 2], [30, 19]], "group_id": 1, "shape_type": "rectangle"}
SHEET = {"shapes": [SHAPE, BOX], "imagePath": "a.png", "imageWidth": 40, "imageHeight": 20}
SIZE = {"original_width": 40, "original_height": 20, "image_rotation": 0}
PLACE = {"x": 1, "y": 1, "width": 50, "height": 50}
TASKS = [{"data": {"image": "a.png"}, "annotations": [{"was_cancelled": False, "result": [
    {"id": "b", "type": "rectanglelabels", "value": {**PLACE, "rectanglelabels": ["person"]}, **SIZE},
    {"id": "k", "type": "keypointlabels", "parentID": "b", "value": {**PLACE, "keypointlabels": ["nose"]}, **SIZE},
    {"id": "k", "type": "choices", "value": {"choices": ["hidden"]}},
    {"type": "relation", "from_id": "k", "to_id": "b"}]}]}]
FOUND = {"images": {"complete": True, "keypoints": ["nose", "left_eye"],
                    "images": [{"id": 5, "file_name": "a.png", "width": 40, "height": 20}], "videos": [], "failed": []},
         "people": [{"image_id": 5, "box": [1, 2, 30, 19], "keypoints": [1, 2, 0.5, 3, 4, 0.2], "score": 0.9}]}
MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(kind: formats.Read, place: Path, **how: Any) -> None:
    """Read, and write what has been read: errors of one line are fine."""
    try:
        labels = read_labels(kind, place, **how)
        assert all("\n" not in str(each) for each in labels.problems)
        formats.write("coco", labels, place.parent / "out.json")
    except StagePoseError as error:
        assert "\n" not in str(error)


@MANY
@given(mutated(SHEET), st.booleans())
def test_labelme(data: Any, told: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_text(json.dumps(data))
        read("labelme", Path(folder) / "a.json", skeleton=COCO_17 if told else None)


@MANY
@given(mutated(TASKS), st.booleans())
def test_label_studio(data: Any, told: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_text(json.dumps(data))
        read("labelstudio", Path(folder) / "a.json", skeleton=COCO_17 if told else None)


@MANY
@given(mutated(FOUND))
def test_predict(data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "found"
        place.mkdir()
        for name in ("images", "people"):
            (place / f"{name}.json").write_text(json.dumps(data.get(name) if isinstance(data, dict) else data))
        read("predict", place, threshold=0.3)


XML = ['<annotations>', '</annotations>', '<image id="0" name="a.png" width="40" height="20">', '</image>',
       '<skeleton label="person">', '</skeleton>', '<points label="nose" outside="0" occluded="1" points="3,4"/>',
       '<points label="nose" points="3,4;5,6"/>', '<points/>', '<box label="person" xtl="1" ytl="x"/>', "<track/>",
       '<box label="person" xtl="1" ytl="1" xbr="20" ybr="19"/>', '<image/>', "<label><name>person</name></label>",
       "<label><type>skeleton</type><name>person</name><svg>&lt;line&gt;</svg></label>", "<label><parent/></label>"]


@MANY
@given(st.lists(st.sampled_from(XML), max_size=8))
def test_cvat(parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.xml"
        path.write_text("<annotations>" + "".join(parts) + "</annotations>")
        read("cvat", path)


CELLS = ["", "x", "y", "1", "2.5", "nan", "-1e999", "scorer", "bodyparts", "coords", "individuals", "a.png", '"']


@MANY
@given(st.lists(st.lists(st.sampled_from(CELLS), max_size=6), max_size=6), st.booleans())
def test_deeplabcut(rows: list[list[str]], told: bool) -> None:
    head = [["scorer", "A", "A"], ["bodyparts", "nose", "nose"], ["coords", "x", "y"]] if told else []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "CollectedData_A.csv"
        path.write_text("\n".join(",".join(row) for row in [*head, *rows]))
        read("deeplabcut", path)


@pytest.mark.parametrize("kind", ["labelme", "labelstudio"])
def test_what_is_not_mutated_is_read(kind: formats.Read, tmp_path: Path) -> None:
    """Else nothing above would be looked at."""
    (tmp_path / "a.json").write_text(json.dumps(SHEET if kind == "labelme" else TASKS))
    labels = read_labels(kind, tmp_path / "a.json")
    assert labels.problems == [] and labels.dataset.keypoints[0, 0, 2] == 1
