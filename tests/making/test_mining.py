"""Hard negatives: which of a detector's boxes are nobody's, and the set that is made of them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_coco

from stagepose import coco
from stagepose.coco import read_instances, read_negatives
from stagepose.errors import ConfigError, DatasetError
from stagepose.making.mining import MiningConfig, Search, mine, negatives_among
from stagepose.skeleton import COCO_17
from stagepose.structures import Detections

PERSON = np.array([[10.0, 10, 50, 110]])


def found(*rows: tuple[float, ...]) -> Detections:
    """Detections of (x1, y1, x2, y2, score)."""
    table = np.array(rows, dtype=float).reshape(-1, 5)
    return Detections(boxes=table[:, :4], scores=table[:, 4])


def test_boxes_off_everybody_are_negatives_best_first() -> None:
    far, further, beside, on, sure, narrow = (
        (100, 10, 140, 60, 0.1), (100, 80, 150, 120, 0.3), (46, 10, 96, 110, 0.2), (30, 10, 70, 110, 0.2),
        (200, 10, 240, 60, 0.9), (200, 80, 208, 120, 0.3))
    config = MiningConfig(overlap=0.1)
    kept = negatives_among(found(far, further, beside, on, sure, narrow, (0, 0, 9, 9, 0.01)), PERSON, config)
    assert kept.boxes.tolist() == [list(further[:4]), list(beside[:4]), list(far[:4])]
    assert kept.scores.tolist() == [0.3, 0.2, 0.1]
    assert len(negatives_among(found(far, further, beside), PERSON, MiningConfig(each=2)).boxes) == 2
    assert len(negatives_among(found(beside), PERSON, MiningConfig(overlap=0.05)).boxes) == 0
    assert len(negatives_among(found(on), np.zeros((0, 4)), config).boxes) == 1
    assert len(negatives_among(found(), PERSON, config).boxes) == 0


@pytest.mark.parametrize(("wrong", "said"), [
    ({"least_score": 0.7}, "scores from 0.7 to 0.6"), ({"most_score": 1.5}, "scores from 0.05 to 1.5"),
    ({"overlap": 1.0}, "overlap is 1, expected 0 to below 1"), ({"each": 0}, "0 boxes of a picture"),
])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        MiningConfig(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """Four labelled pictures, in one of which not everybody is boxed, and a picture of nobody."""
    path = tiny_coco(tmp_path / "set")
    data = json.loads(path.read_text())
    data["images"][2]["all_person_boxes"] = False
    path.write_text(json.dumps(data))
    empty = tmp_path / "empty" / "sky.png"
    empty.parent.mkdir()
    Image.new("RGB", (120, 90), "skyblue").save(empty)
    return Search(labelled=read_instances(path), images=path.parent / "images", empty=[empty])


class Everywhere:
    """A detector that finds the same two boxes in every picture, stopped before it looks at picture ``stop``."""

    def __init__(self, stop: int = 99) -> None:
        self.looked, self.stop = 0, stop

    def __call__(self, pixels: np.ndarray) -> Detections:
        if self.looked == self.stop:
            raise KeyboardInterrupt
        self.looked += 1
        return found((0, 0, 20, 20, 0.2), (0, 0, pixels.shape[1], pixels.shape[0], 0.4))


def mined(search: Search, out: Path, detect: Everywhere, **config: float):
    return mine(search, detect, out, skeleton=COCO_17, config=MiningConfig(**config), identity={"detector": "a"},
                progress=lambda done, total: None)


def test_a_mined_set_is_a_coco_file_of_no_person_beside_its_pictures(search: Search, tmp_path: Path) -> None:
    detect = Everywhere()
    done = mined(search, tmp_path / "mined", detect)
    assert (detect.looked, done.searched, search.left_out) == (4, 4, 1)
    negatives, people = read_negatives(done.file, COCO_17), coco.read_dataset(done.file)
    assert len(people) == 0 and people.skeleton == COCO_17
    assert len(negatives) == done.boxes == 5 and done.pictures == len(negatives.images) == 4
    assert negatives.boxes_xyxy[-2:].tolist() == [[0, 0, 120, 90], [0, 0, 20, 20]]  # of nobody's picture, best first
    assert negatives.to_learn_from().all() and not negatives.with_keypoints().any()
    for image in negatives.images:
        with Image.open(done.file.parent / "images" / image.file_name) as picture:
            assert picture.size == (image.width, image.height)
    found_wrong = coco.check_dataset(done.file, images_dir=done.file.parent / "images")
    assert {(problem.kind, problem.severity) for problem in found_wrong} == {("no-people", "warning")}


def test_an_interrupted_search_goes_on_after_its_last_whole_line(search: Search, tmp_path: Path) -> None:
    whole = mined(search, tmp_path / "whole", Everywhere()).file.read_bytes()
    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        mined(search, out, Everywhere(stop=2))
    journal = out / "found.jsonl"
    os.truncate(journal, journal.stat().st_size - 5)
    again = Everywhere()
    assert mined(search, out, again).file.read_bytes() == whole and again.looked == 3
    idle = Everywhere(stop=0)
    assert mined(search, out, idle).file.read_bytes() == whole
    with pytest.raises(DatasetError, match=r"was begun with each 10, now it is 3"):
        mined(search, out, idle, each=3)


def test_nothing_found_is_said(search: Search, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no box without a person was found in 4 pictures; lower"):
        mined(search, tmp_path / "mined", Everywhere(), least_score=0.5)
