"""A predictor over a split: whose boxes it gets, which results come back, and that they are judged as they should."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stagepose.coco import CocoDataset, ImageInfo, dataset_from_arrays
from stagepose.errors import ConfigError, DatasetError
from stagepose.evaluation import evaluate_boxes, evaluate_keypoints, ground_truth_boxes, predict_dataset
from stagepose.heatmaps import Msra
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import Predictor
from stagepose.skeleton import COCO_17, Skeleton
from stagepose.structures import Detections

DOTS = Skeleton(name="dots", names=("red", "green", "blue"), sigmas=(0.08, 0.08, 0.08))
CODEC = Msra(input_size=(96, 128))
WIDTH, HEIGHT = 240, 160
DOT = 3  # pixels from its centre to its edge
CROWD, UNLABELLED = 3, 4  # rows of the set below


def three_dots(crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A pose network of a kind: the middle of what is purely red, green, blue in each crop, as heatmaps."""
    bright = crops_NHW3.astype(float)
    pure = np.clip(2 * bright - bright.sum(axis=-1, keepdims=True), 0, None) ** 2
    mass = np.maximum(pure.sum(axis=(1, 2)), 1e-9)
    x = (pure.sum(axis=1) * np.arange(crops_NHW3.shape[2])[None, :, None]).sum(axis=1) / mass
    y = (pure.sum(axis=2) * np.arange(crops_NHW3.shape[1])[None, :, None]).sum(axis=1) / mass
    return CODEC.encode(np.stack([x, y], axis=-1), np.ones(x.shape, dtype=bool))


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    """Two pictures of dotted people and one of nobody; in the first also a crowd and a person without keypoints."""
    corners = np.array([[20.0, 20.0], [140.0, 30.0], [60.0, 40.0], [10.0, 100.0], [190.0, 100.0]])
    boxes = np.hstack([corners, corners + np.array([[60.0, 80.0]] * 3 + [[40.0, 50.0]] * 2)])
    offsets = np.array([[30.0, 10.0], [12.0, 60.0], [48.0, 60.0]])
    keypoints = np.dstack([corners[:, None] + offsets, np.full((5, 3), 2)])
    keypoints[[CROWD, UNLABELLED]] = 0
    image_ids = [5, 5, 7, 5, 5]
    for image_id in (5, 7, 9):
        mine = [xy for row, xy in enumerate(keypoints[:3]) if image_ids[row] == image_id]
        picture(mine).save(tmp_path / f"{image_id}.png")
    return dataset_from_arrays(
        image_ids, boxes, keypoints, skeleton=DOTS, crowd=np.arange(5) == CROWD, areas=np.full(5, 2400.0),
        images=[ImageInfo(n, f"{n}.png", WIDTH, HEIGHT) for n in (5, 7, 9)],
    )  # fmt: skip


def picture(people: list[NDArray[np.float64]]) -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for person in people:
        for colour, (x, y) in enumerate(person[:, :2].astype(int)):
            pixels[y - DOT : y + DOT + 1, x - DOT : x + DOT + 1, colour] = 255
    return Image.fromarray(pixels)


class Detector:
    """Finds what it was told, whatever it sees."""

    def __init__(self, *boxes: list[float], score: float = 0.9) -> None:
        self.found = Detections(boxes=np.reshape(boxes, (-1, 4)), scores=[score] * len(boxes))
        self.seen = 0

    def __call__(self, pixels_HW3: NDArray[np.uint8]) -> Detections:
        self.seen += 1
        return self.found


def predictor(detector: Detector | None = None, **config: Any) -> Predictor:
    info = ModelInfo(kind="pose", name="dots", input_size=(96, 128), skeleton=DOTS, codec=CODEC)
    return Predictor(info, three_dots, detector).with_config(**config)


def test_ground_truth_boxes_leave_out_crowds_and_people_without_keypoints(dataset: CocoDataset) -> None:
    boxes = ground_truth_boxes(dataset)
    assert {image_id: len(mine) for image_id, mine in boxes.items()} == {5: 2, 7: 1}
    np.testing.assert_array_equal(boxes[5].boxes, dataset.boxes_xyxy[:2])
    assert boxes[5].scores.tolist() == [1, 1]


def test_ground_truth_boxes_give_everybody_with_keypoints(dataset: CocoDataset, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    results = predict_dataset(predictor(), dataset, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert [result["image_id"] for result in results] == [5, 5, 7]
    assert all(set(result) == {"image_id", "category_id", "keypoints", "score"} for result in results)  # no bbox
    assert steps == [(1, 3), (2, 3), (3, 3)]
    metrics = evaluate_keypoints(dataset, results)
    assert metrics.ap50 == metrics.ar50 == 1
    assert metrics.ap > 0.8
    assert (metrics.people, metrics.ignored) == (3, 2)


def test_detector_sees_every_image_and_its_doubtful_boxes_count(dataset: CocoDataset, tmp_path: Path) -> None:
    detector = Detector([140.0, 30.0, 200.0, 110.0], score=0.05)
    results = predict_dataset(predictor(detector, threshold=0.3), dataset, tmp_path, boxes="detector")
    assert detector.seen == 3
    assert [result["image_id"] for result in results] == [5, 7, 9]  # also where nobody is
    assert predict_dataset(predictor(detector), dataset, tmp_path, boxes="detector", threshold=0.3) == []


def test_given_boxes_by_image(dataset: CocoDataset, tmp_path: Path) -> None:
    mine = {7: Detections(boxes=dataset.boxes_xyxy[2:3], scores=[0.5])}
    results = predict_dataset(predictor(), dataset, tmp_path, boxes=mine)
    whole = predict_dataset(predictor(), dataset, tmp_path)
    assert [result["image_id"] for result in results] == [7]
    assert results[0]["keypoints"] == whole[2]["keypoints"]
    assert results[0]["score"] == pytest.approx(whole[2]["score"] * 0.5 ** (1 / 3), rel=1e-5)
    assert evaluate_boxes(dataset, mine).recall50 == pytest.approx(1 / 4)  # of four who are no crowd


def test_flip_is_the_callers_or_the_predictors(dataset: CocoDataset, tmp_path: Path) -> None:
    plain = predict_dataset(predictor(), dataset, tmp_path)
    flipped = predict_dataset(predictor(), dataset, tmp_path, flip=True)
    assert plain != flipped
    assert predict_dataset(predictor(flip=True), dataset, tmp_path) == flipped
    assert predict_dataset(predictor(flip=True), dataset, tmp_path, flip=False) == plain


def test_missing_images_are_counted_before_any_work(dataset: CocoDataset, tmp_path: Path) -> None:
    (tmp_path / "7.png").unlink()
    (tmp_path / "9.png").unlink()
    with pytest.raises(DatasetError, match=r"2 of 3 images .* are missing, such as '7.png'; .*--images"):
        predict_dataset(predictor(), dataset, tmp_path)


def test_boxes_of_unknown_images_and_unknown_words_are_refused(dataset: CocoDataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="boxes: 1 images, such as 8, are not in"):
        predict_dataset(predictor(), dataset, tmp_path, boxes={8: Detections(boxes=[[0, 0, 9, 9]], scores=[1])})
    with pytest.raises(ConfigError, match=r"boxes is 'best'; use 'ground-truth', 'detector'"):
        predict_dataset(predictor(), dataset, tmp_path, boxes="best")  # type: ignore[arg-type]


def test_another_skeleton_is_refused(dataset: CocoDataset, tmp_path: Path) -> None:
    other = dataclasses.replace(dataset, skeleton=COCO_17)
    with pytest.raises(DatasetError, match=r"has skeleton 'coco17', the model has 'dots'; read the set with"):
        predict_dataset(predictor(), other, tmp_path)
