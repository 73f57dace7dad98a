"""Tiles: who is too small for one look at the whole is found, and nobody twice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from desks import predict, put_models, read
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from toy_models import ONE, dots, pose_bytes

import stagepose
from stagepose import cli
from stagepose.config import PredictorConfig
from stagepose.errors import ConfigError
from stagepose.geometry import iou_matrix
from stagepose.images import read_image
from stagepose.oks import keypoint_similarity
from stagepose.predictor import Predictor
from stagepose.runtime import PoseModel
from stagepose.skeleton import COCO_17
from stagepose.structures import Detections
from stagepose.tiling import _each_once, detect_tiled, parts_of_others, views

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE, LEAST = 96, 8  # of the toy detector: what it works at, and the shortest side that it can see there


def white_spots(pixels: NDArray[np.uint8]) -> Detections:
    """A detector of white rectangles, which shrinks its picture as detectors do; a larger one scores more."""
    scale = min(1, SIZE / max(pixels.shape[:2]))
    _, _, stats, _ = cv2.connectedComponentsWithStats((pixels[..., 0] > 127).astype(np.uint8))
    boxes = stats[1:, :4].astype(float)
    boxes[:, 2:] += boxes[:, :2]
    sides = (boxes[:, 2:] - boxes[:, :2]) * scale
    seen = (sides.min(axis=1) >= LEAST) if len(boxes) else np.zeros(0, bool)
    return Detections(boxes=boxes[seen], scores=np.clip(sides[seen].max(axis=1) / 1000, 0, 1))


def painted(rectangles: list[tuple[int, int, int, int]], width: int, height: int) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    for x, y, w, h in rectangles:
        picture[y:y + h, x:x + w] = 255
    return picture


@given(st.integers(1, 1500), st.integers(1, 1500), st.sampled_from([100, 480, 1000]), st.data())
@settings(deadline=None, max_examples=30)
def test_views_cover_the_picture_and_everyone_is_whole_in_one(width: int, height: int, side: int,
                                                              data: st.DataObject) -> None:
    found = views(width, height, side)
    assert found[0] == (0, 0, width, height) and len(found) == len(set(found))
    assert all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in found)
    assert max(width, height) > side or len(found) == 1
    longest = int(side / 3 * 0.85)  # less what counts as cut
    w, h = (data.draw(st.integers(1, max(1, min(longest, length)))) for length in (width, height))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    assert any((x1 == 0 or x - x1 >= side / 50) and (y1 == 0 or y - y1 >= side / 50)
               and (x2 == width or x2 - x - w >= side / 50) and (y2 == height or y2 - y - h >= side / 50)
               for x1, y1, x2, y2 in found if max(width, height) <= side or max(x2 - x1, y2 - y1) <= side)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(8, 280), st.integers(8, 280)), max_size=6))
@settings(deadline=None, max_examples=15)
def test_people_of_every_size_are_found_once(cells: list[tuple[int, int, int, int]]) -> None:
    rectangles = [(column * 300 + 9, row * 300 + 9, w, h) for column, row, w, h in
                  {cell[:2]: cell for cell in cells if max(cell[2:]) <= 2 * min(cell[2:])}.values()]
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in rectangles]).reshape(-1, 4)
    found = detect_tiled(white_spots, painted(rectangles, 900, 600), SIZE, 100, 0)
    assert len(found) == len(boxes)
    assert (iou_matrix(boxes, found.boxes).round(6) == 1).sum() == len(boxes)


def test_no_tiles_where_the_picture_is_small() -> None:
    picture = painted([(10, 10, 30, 40)], 96, 90)
    np.testing.assert_array_equal(detect_tiled(white_spots, picture, 96, 9, 0).boxes, white_spots(picture).boxes)
    empty = detect_tiled(white_spots, painted([], 700, 40), 96, 9, 0)
    assert len(empty) == 0 and empty.boxes.shape == (0, 4)


def test_the_best_are_kept_and_the_weak_left() -> None:
    picture = painted([(10 + 100 * n, 20, 20 + n, 40 + 2 * n) for n in range(9)], 1000, 100)
    assert len(detect_tiled(white_spots, picture, 96, 4, 0)) == 4
    assert (detect_tiled(white_spots, picture, 96, 9, 0.05).scores >= 0.05).all()


def test_boxes_of_two_views_are_of_one_person_from_half_an_overlap_on() -> None:
    boxes = np.array([[0.0, 0, 100, 10], [0, 0, 52, 10], [0, 0, 48, 10]])
    kept = _each_once(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 1, 2]), 9)
    assert kept.scores.tolist() == [0.9, 0.7]


def test_two_whom_one_view_tells_apart_stay_two() -> None:
    near = np.array([[10.0, 10, 40, 80], [16, 10, 46, 80]])  # an IoU of .67

    def detector(pixels: NDArray[np.uint8]) -> Detections:
        return Detections(boxes=near, scores=[0.9, 0.8]) if pixels.shape[1] == 300 else Detections(boxes=[], scores=[])

    assert len(detect_tiled(detector, np.zeros((100, 300, 3), np.uint8), 100, 9, 0)) == 2


def test_a_face_is_a_part_of_its_person_and_somebody_behind_is_not() -> None:
    rng = np.random.default_rng(0)
    whole = rng.uniform([100, 100], [500, 900], (17, 2))
    whole[:5] = rng.uniform([250, 120], [350, 200], (5, 2))  # the head
    face, behind = whole + 3, whole * 0.1 + [300, 500]
    boxes = np.array([[100, 100, 500, 900], [240, 110, 360, 220], [310, 510, 350, 590]], float)
    scores = np.where(np.arange(17) < 5, 0.9, 0.1)
    joints, areas = np.stack([np.ones(17), scores, np.ones(17)]), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    sigmas = np.array(COCO_17.sigmas)
    people = np.stack([whole, face, behind])
    assert keypoint_similarity(((face - whole) ** 2).sum(-1), areas[0], sigmas).min() > 0.5
    for ranks in ([0.9, 0.95, 0.5], [0.5, 0.5, 0.5]):
        parts = parts_of_others(boxes, people, joints, np.array(ranks), areas, sigmas, 0.5)
        assert parts.tolist() == [False, True, False]
    assert not parts_of_others(boxes, people, joints, np.array([0.4, 0.9, 0.9]), areas, sigmas, 0.5).any()


@pytest.mark.parametrize(("tiles", "message"), [
    (10, "tiles is 10; use the side of a tile in pixels, from 64 on"), ("all", "tiles is 'all'"),
    (96.5, "whole number"), (True, "tiles is True"), (float("nan"), "tiles is nan"),
])  # fmt: skip
def test_tiles_that_are_none_are_refused(tiles: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PredictorConfig(tiles=tiles)  # type: ignore[arg-type]


def test_a_detector_that_tells_no_size_needs_a_number() -> None:
    model = PoseModel(pose_bytes(), threads=1)
    with pytest.raises(ConfigError, match="the detector does not tell its size; give the side of a tile in pixels"):
        Predictor(model.info, model, white_spots, PredictorConfig(tiles="auto"))(dots(ONE))
    [people] = Predictor(model.info, model, white_spots, PredictorConfig(tiles=64, threshold=0))(dots(ONE))
    assert len(people) == 1


def canvas(width: int, height: int) -> NDArray[np.uint8]:
    """A mottled wall."""
    rough = np.random.default_rng(0).integers(90, 150, (height // 100, width // 100, 3), dtype=np.uint8)
    return cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)


def put(picture: NDArray[np.uint8], name: str, height: int, x: int, y: int) -> None:
    pixels = read_image(EXAMPLES / name).pixels
    width = round(pixels.shape[1] * height / len(pixels))
    picture[y:y + height, x:x + width] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def test_the_shipped_models_find_small_people_with_tiles_alone_and_nobody_twice() -> None:
    picture = canvas(1600, 900)
    for place in ((465, 150), (1000, 410), (1500, 800)):  # the first lies across the end of a tile
        put(picture, "astronaut.jpg", 32, *place)
    put(picture, "astronaut.jpg", 400, 300, 450)
    predictor = stagepose.load(threads=1)
    [plain] = predictor(picture)
    assert [person.box[0] > 290 and person.box[3] > 800 for person in plain] == [True]  # the large one
    [tiled] = predictor.with_config(tiles="auto")(picture)
    middles = np.array([(person.box[:2] + person.box[2:]) / 2 for person in tiled])
    expected = [(465, 650), (481, 166), (1016, 426), (1516, 816)]
    near = np.abs(middles[:, None] - expected).max(axis=-1) < 40
    assert (near.sum(axis=0) == 1).all()
    nobodies = middles[~near.any(axis=1)]  # the hinge of the helmet beside her passes for a person from near
    assert len(nobodies) <= 1 and (np.abs(nobodies - (688, 827)) < 20).all()


def test_a_large_portrait_is_one_person_though_tiles_show_her_face_alone() -> None:
    pixels = read_image(EXAMPLES / "astronaut.jpg").pixels
    large = cv2.resize(pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    [people] = stagepose.load(threads=1, tiles=480)(large)
    [her] = [person for person in people if person.box[0] < 800]  # right of it is the hinge of the helmet
    assert her.box[3] - her.box[1] > 850


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    put_models()
    Image.fromarray(dots(ONE)).save("one.png")
    assert predict("one.png", "--tiles", "auto") == 0 and len(read("out/people.json")) == 1
    assert predict("one.png", "--tiles", "128") == 0
    for words, message in ((["--tiles", "many"], "--tiles many: expected a whole number or auto"),
                           (["--tiles", "128", "--boxes", "x.json"], "leave out --tiles")):
        capsys.readouterr()
        assert predict("one.png", *words) == cli.USAGE
        assert message in capsys.readouterr().err
    assert predict("one.png", "--tiles", "5") == 1
    assert "tiles is 5; use the side" in capsys.readouterr().err
