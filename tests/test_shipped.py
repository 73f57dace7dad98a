"""The models that ship: they load by default, find the people of the examples, and each has its card."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import stagepose
from stagepose.cli import main
from stagepose.images import read_image
from stagepose.runtime import WEIGHTS, read_info, shipped

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def predictor():
    return stagepose.load(threads=1)


def test_two_people_are_found_where_they_are(predictor):
    woman, man = sorted(predictor(EXAMPLES / "two_people.jpg")[0], key=lambda person: person.box[0])
    assert np.hypot(*np.subtract(woman["nose"][:2], (221, 121))) < 15
    assert np.hypot(*np.subtract(man["nose"][:2], (764, 155))) < 20
    assert woman["right_shoulder"][0] < woman["left_shoulder"][0]  # she faces us
    assert woman["nose"][2] > 0.5 and min(woman.score, man.score) > 0.3


def test_a_mirrored_picture_has_mirrored_people(predictor):
    pixels = read_image(EXAMPLES / "astronaut.jpg").pixels
    plain = predictor.with_config(flip=True)(pixels)[0][0]
    mirrored = predictor.with_config(flip=True)(np.ascontiguousarray(pixels[:, ::-1]))[0][0]
    back = mirrored.keypoints[plain.skeleton.flip_index]
    back = np.column_stack([pixels.shape[1] - 1 - back[:, 0], back[:, 1]])
    sure = np.minimum(plain.scores, mirrored.scores[plain.skeleton.flip_index]) > 0.5
    assert sure.sum() >= 6 and np.abs(back - plain.keypoints)[sure].max() < 12


def test_a_picture_without_people_is_an_ordinary_answer(predictor):
    assert predictor(np.full((300, 400, 3), 90, np.uint8)) == [[]]


def test_every_model_has_a_card_and_says_where_it_comes_from():
    assert {"pose-small", "person-small"} <= set(shipped())
    for name in shipped():
        info = read_info(WEIGHTS / f"{name}.onnx")
        card = (WEIGHTS / f"{name}.md").read_text(encoding="utf-8")
        assert info.name == name and info.licence and any("COCO" in data for data in info.training_data)
        assert "val2017" in card and "Apache-2.0" in card
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.onnx")) < 30e6


def test_the_page_on_python_does_what_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "two_people.jpg", "photo.jpg")
    frame = np.ascontiguousarray(read_image("photo.jpg").pixels[:, :, ::-1])
    video = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25, frame.shape[1::-1])
    for picture in (frame, frame * 0):
        video.write(picture)
    video.release()
    assert main(["predict", "photo.jpg"]) == 0
    capsys.readouterr()
    page = (EXAMPLES.parent / "docs" / "python.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        if "stagepose.training" not in block:  # wants labelled pictures: test_docs has some
            exec(block, names)
    people, *angles, first, last = capsys.readouterr().out.splitlines()
    assert [set(person) for person in json.loads(people)] == [{"score", "box_score", "box", "keypoints"}] * 2
    assert len(angles) == 2 and (first, last) == ("0 2", "1 0") and Path("photo.pose.jpg").is_file()


def test_threads_may_share_a_predictor(predictor):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, [EXAMPLES / "astronaut.jpg"] * 4))
    assert all((people[0][0].keypoints == found[0][0][0].keypoints).all() for people in found)


def test_the_readmes_command(tmp_path, capsys):
    assert main(["predict", str(EXAMPLES / "two_people.jpg"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "two_people.pose.jpg").is_file() and "person 2" in capsys.readouterr().out
