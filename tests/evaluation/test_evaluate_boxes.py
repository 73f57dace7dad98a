"""Box AP and AR: equal to pycocotools on random sets, and by hand where a hand can count."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation.published import BOX_FIELDS, Json, as_dataset, coco_json, pycocotools, random_set, reference
from stagepose.coco import CocoDataset, dataset_from_arrays
from stagepose.errors import DatasetError, MissingExtraError
from stagepose.evaluation import BoxMetrics, evaluate_boxes
from stagepose.geometry import xywh_to_xyxy
from stagepose.structures import Detections


def numbers(metrics: BoxMetrics) -> list[float]:
    return [getattr(metrics, name) for name in BOX_FIELDS]


def by_image(results: list[Json]) -> dict[int, Detections]:
    """Box results as a detector gives them."""
    mine: dict[int, list[Json]] = {}
    for result in results:
        mine.setdefault(result["image_id"], []).append(result)
    return {image_id: Detections(boxes=xywh_to_xyxy(np.array([r["bbox"] for r in group])),
                                 scores=[r["score"] for r in group]) for image_id, group in mine.items()}  # fmt: skip


def found(image_id: int, xywh: list[float], score: float) -> Json:
    return {"image_id": image_id, "category_id": 1, "bbox": xywh, "score": score}


def random_boxes(truth: Json, seed: int) -> list[Json]:
    rng = np.random.default_rng(seed)
    results = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            box = np.array(annotation["bbox"]) + rng.normal(0, rng.choice([1.0, 8.0]), 4)
            results.append(found(annotation["image_id"], np.maximum(box, 1).tolist(), float(rng.integers(1, 6) / 5)))
    for image in truth["images"]:
        xywh = rng.uniform(1, 200, (rng.integers(0, 120), 4))
        results += [found(image["id"], box, float(rng.integers(1, 6) / 5)) for box in xywh.tolist()]
    return results


def people(*boxes: list[float], crowd: tuple[int, ...] = (), images: int = 1) -> Json:
    """Annotated boxes in image 1, all without keypoints."""
    rows = [{"id": n, "image_id": 1, "category_id": 1, "iscrowd": int(n in crowd), "bbox": box,
             "area": box[2] * box[3] * 0.5, "keypoints": [0] * 51, "num_keypoints": 0}
            for n, box in enumerate(boxes, start=1)]  # fmt: skip
    return coco_json(rows, images)


@pytest.mark.parametrize("seed", range(10))
def test_random_sets_equal_pycocotools(tmp_path: Path, seed: int) -> None:
    truth, _ = random_set(seed)
    results = random_boxes(truth, seed)
    got = evaluate_boxes(as_dataset(truth, tmp_path), by_image(results))
    np.testing.assert_allclose(numbers(got), pycocotools(truth, results, "bbox"), rtol=0, atol=1e-9)


def test_published_detections_equal_pycocotools(tmp_path: Path) -> None:
    truth, results = reference("coco_topdown/test_coco.json"), reference("coco_topdown/test_coco_det_AP_H_56.json")
    here = {image["id"] for image in truth["images"]}
    results = [result for result in results if result["image_id"] in here]
    got = numbers(evaluate_boxes(as_dataset(truth, tmp_path), by_image(results)))
    np.testing.assert_allclose(got, pycocotools(truth, results, "bbox"), rtol=0, atol=1e-9)
    assert 0.3 < got[0] < 1


def test_perfect_boxes_find_people_with_and_without_keypoints(tmp_path: Path) -> None:
    boxes = [[10.0, 10.0, 30.0, 30.0], [100.0, 100.0, 90.0, 60.0], [250.0, 100.0, 300.0, 300.0]]
    metrics = evaluate_boxes(as_dataset(people(*boxes), tmp_path), by_image([found(1, box, 0.9) for box in boxes]))
    assert numbers(metrics) == pytest.approx([1, 1, 1, 1, 1, 1, 1 / 3, 1, 1, 1, 1, 1])
    assert (metrics.recall50, metrics.recall75, metrics.people) == (1, 1, 3)


def test_recalls_by_hand(tmp_path: Path) -> None:
    truth = people([0.0, 0.0, 100.0, 100.0], [300.0, 300.0, 100.0, 100.0])
    results = [found(1, [0.0, 0.0, 100.0, 60.0], 0.9), found(1, [300.0, 300.0, 100.0, 80.0], 0.8)]  # IoU .6 and .8
    metrics = evaluate_boxes(as_dataset(truth, tmp_path), by_image(results))
    assert (metrics.recall50, metrics.recall75) == (1, 0.5)
    assert metrics.ar100 == pytest.approx((2 * 3 + 1 * 4) / 20)  # both up to .60, one up to .80, of ten thresholds
    assert dict(metrics.rows())["recall .75"] == "0.500"


def test_crowd_absorbs_any_number_of_boxes(tmp_path: Path) -> None:
    truth = people([0.0, 0.0, 100.0, 100.0], [300.0, 300.0, 200.0, 200.0], crowd=(2,))
    inside = [found(1, [310.0 + n, 320.0, 50.0, 50.0], 0.95) for n in range(9)]
    metrics = evaluate_boxes(as_dataset(truth, tmp_path), by_image([*inside, found(1, [0.0, 0.0, 100.0, 100.0], 0.5)]))
    assert (metrics.ap, metrics.people, metrics.ignored) == (1, 1, 1)
    assert "1 crowds ignored" in metrics.notes()


def test_images_without_people_and_without_detections_count(tmp_path: Path) -> None:
    dataset = as_dataset(people([0.0, 0.0, 100.0, 100.0], images=3), tmp_path)
    results = [found(1, [0.0, 0.0, 100.0, 100.0], 0.5), found(2, [0.0, 0.0, 100.0, 100.0], 0.9)]
    metrics = evaluate_boxes(dataset, by_image(results))
    assert (metrics.ap, metrics.images, metrics.images_without_entry) == (pytest.approx(0.5), 3, 1)
    assert metrics.notes()[-1] == "1 images without detections, judged as if nothing was found"


def test_unknown_images_are_refused(tmp_path: Path) -> None:
    dataset = as_dataset(people([0.0, 0.0, 100.0, 100.0]), tmp_path)
    with pytest.raises(DatasetError, match=r"detections: 1 images, such as 7, are not in .*truth.json"):
        evaluate_boxes(dataset, by_image([found(7, [0.0, 0.0, 9.0, 9.0], 0.5)]))


@pytest.mark.parametrize("truth", [people(), people([0.0, 0.0, 9.0, 9.0], crowd=(1,))], ids=["nobody", "only a crowd"])
def test_no_ground_truth_is_said_in_words(tmp_path: Path, truth: Json) -> None:
    metrics = evaluate_boxes(as_dataset(truth, tmp_path), by_image([found(1, [0.0, 0.0, 9.0, 9.0], 0.5)]))
    assert numbers(metrics) == [-1.0] * 12
    assert {value for _, value in metrics.rows()} == {"no ground truth"}


def test_no_detections_and_no_images() -> None:
    assert numbers(evaluate_boxes(without_areas([]), {})) == [-1.0] * 12
    assert evaluate_boxes(without_areas([[0.0, 0.0, 50.0, 50.0]]), {}).ap == 0


def test_boxes_stand_in_for_missing_areas() -> None:
    dataset = without_areas([[0.0, 0.0, 20.0, 20.0], [100.0, 100.0, 300.0, 300.0]])
    metrics = evaluate_boxes(dataset, {1: Detections(boxes=dataset.boxes_xyxy[:1], scores=[0.5])})
    assert (metrics.ar_small, metrics.ar_medium, metrics.ar_large) == (1, -1, 0)
    assert metrics.notes()[-1] == "2 people have no area; their boxes' areas make them small or large"


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r'pip install "stagepose\[eval\]"'):
        evaluate_boxes(without_areas([]), {})


def without_areas(boxes_xyxy: list[list[float]]) -> CocoDataset:
    count = len(boxes_xyxy)
    return dataset_from_arrays([1] * count, np.reshape(boxes_xyxy, (-1, 4)), np.zeros((count, 17, 3)))
