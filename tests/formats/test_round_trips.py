"""COCO, another format, COCO again: the same people, whatever their keypoints are called."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.desk import IMAGES, SKELETONS, people_of, pictures, sets
from stagepose import formats
from stagepose.coco import CocoDataset, check_dataset

OUT = {"coco": "people.json", "yolo": "set", "labelme": "set", "cvat": "set.xml", "labelstudio": "set.json"}
FINE = {"area-missing", "no-people", "no-keypoints"}  # warnings about what is not there
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def there_and_back(dataset: CocoDataset, kind: formats.Written, folder: Path) -> formats.Labels:
    images = pictures(folder / "images")
    out = folder / OUT[kind]
    formats.write(kind, formats.Labels(dataset, images, [], []), out)
    found, place = formats.detect(out)
    assert found == kind
    return formats.read(found, place, images=None if kind == "yolo" else images, skeleton=dataset.skeleton)


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
