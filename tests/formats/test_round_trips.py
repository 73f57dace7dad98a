"""COCO, another format, COCO again: the same people, whatever their keypoints are called."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.desk import IMAGES, SKELETONS, people_of, pictures, read_labels, sets
from stagepose import formats
from stagepose.coco import CocoDataset, ImageInfo, check_dataset, dataset_from_arrays
from stagepose.errors import DatasetError

OUT: dict[formats.Written, str] = {"coco": "people.json", "yolo": "set", "labelme": "set", "cvat": "set.xml",
                                   "labelstudio": "set.json"}
FINE = {"area-missing", "no-people", "no-keypoints",  # warnings about what is not there
        "normalised", "box-tiny", "keypoints-elsewhere", "area-above-box", "area-tiny"}  # about what was drawn by lot
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def there_and_back(dataset: CocoDataset, kind: formats.Written, folder: Path) -> formats.Labels:
    images = pictures(folder / "images")
    out = folder / OUT[kind]
    formats.write(kind, formats.Labels(dataset, images, [], []), out)
    found, place = formats.detect(out)
    assert found == kind
    return read_labels(found, place, images=None if kind == "yolo" else images, skeleton=dataset.skeleton)


@pytest.mark.parametrize("names", SKELETONS)
@pytest.mark.parametrize("kind", OUT)
@FEW
@given(st.data())
def test_there_and_back(kind: formats.Written, names: str, data: st.DataObject) -> None:
    dataset = data.draw(sets(SKELETONS[names]))
    with tempfile.TemporaryDirectory() as folder:
        labels = there_and_back(dataset, kind, Path(folder))
        end = Path(folder) / "end/people.json"
        formats.write("coco", labels, end)
        assert {each.kind for each in check_dataset(end, images_dir=end.parent / "images")} <= FINE
    assert labels.problems == []
    assert people_of(labels.dataset) == people_of(dataset)
    sizes = {image.file_name: (image.width, image.height) for image in labels.dataset.images}
    assert sizes == {image.file_name: (image.width, image.height) for image in IMAGES}
    assert labels.dataset.skeleton == dataset.skeleton


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
@pytest.mark.parametrize(("names", "message"), [
    (["../a.png"], "picture '../a.png' lies outside"), (["/a.png"], "picture '/a.png' lies outside"),
    (["x/../../a.png"], "lies outside of the pictures' folder"),
    (["a.png", "a.jpg"], "pictures 'a.png' and 'a.jpg' would both have their labels in"),
])  # fmt: skip
def test_names_that_would_lead_astray(kind: formats.Written, names: list[str], message: str, tmp_path: Path) -> None:
    images = [ImageInfo(number, name, 40, 20) for number, name in enumerate(names, 1)]
    dataset = dataset_from_arrays([], np.zeros((0, 4)), np.zeros((0, 17, 3)), images=images)
    with pytest.raises(DatasetError) as caught:
        formats.write(kind, formats.Labels(dataset, None, [], []), tmp_path / "out")
    assert message in str(caught.value) and list(tmp_path.iterdir()) == []


def test_what_no_tool_can_hold_is_counted(tmp_path: Path) -> None:
    boxes = [(0, 0, 9, 9), (0, 0, 30, 20), (5, 5, 5, 5)]
    dataset = dataset_from_arrays([1] * 3, boxes, np.zeros((3, 17, 3)), crowd=[False, True, False], areas=[9, 99, 0])
    for kind, out in OUT.items():
        if kind != "coco":
            notes = formats.write(kind, formats.Labels(dataset, None, [], []), tmp_path / kind / out)
            assert "left out: crowds: 1, boxes without area: 1, areas: 3" in notes
