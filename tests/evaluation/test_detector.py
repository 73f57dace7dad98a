"""Who a detector finds: by hand where a hand can count, as the judge says elsewhere, and end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.published import as_dataset, random_set
from evaluation.test_evaluate_boxes import by_image, found, people, random_boxes
from stagepose.coco import CocoDataset, box_results, dataset_from_arrays, read_box_results, write_results
from stagepose.evaluation import evaluate_boxes, evaluate_detector, recall_of_boxes, recall_rows
from stagepose.evaluation.recall import NEVER, finding_ranks
from stagepose.structures import Detections

NOBODY = Detections(boxes=[], scores=[])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("overlap", [0.5, 0.75])
def test_recall_of_everybody_is_the_judges(tmp_path: Path, seed: int, overlap: float) -> None:
    truth, _ = random_set(seed)
    dataset, boxes = as_dataset(truth, tmp_path), by_image(random_boxes(truth, seed))
    judged = evaluate_boxes(dataset, boxes)
    wanted = judged.recall50 if overlap == 0.5 else judged.recall75
    assert recall_of_boxes(dataset, boxes, [overlap])[0].all == pytest.approx(wanted, abs=1e-9)


def test_recall_by_number_of_boxes_is_that_of_the_best_boxes_alone(tmp_path: Path) -> None:
    truth, _ = random_set(3)
    dataset, boxes = as_dataset(truth, tmp_path), by_image(random_boxes(truth, 3))
    whole = recall_of_boxes(dataset, boxes, [0.5])[0]
    for most, everybody, keypoints in whole.kept:
        cut = recall_of_boxes(dataset, {i: b.best(most) for i, b in boxes.items()}, [0.5])[0]
        assert (everybody, keypoints) == (cut.all, cut.with_keypoints)
    assert whole.kept[0][1] < whole.kept[-1][1] == whole.all


def test_each_box_finds_one_person_and_the_better_box_chooses(tmp_path: Path) -> None:
    dataset = as_dataset(people([0, 0, 100, 100], [10, 0, 100, 100], [300, 300, 20, 20]), tmp_path)
    boxes = by_image([found(1, [9, 0, 100, 100], 0.5), found(1, [4, 0, 100, 100], 0.9), found(1, [0, 0, 99, 99], 0.4)])
    assert finding_ranks(dataset, boxes, 0.5).tolist() == [0, 1, NEVER]
    assert finding_ranks(dataset, {}, 0.5).tolist() == [NEVER] * 3


def test_groups_by_hand(tmp_path: Path) -> None:
    """Areas are half the boxes': small below 32^2, large from 96^2; a crowd is no person, found or not."""
    truth = people([0, 0, 30, 30], [100, 0, 60, 100], [200, 100, 200, 200], [0, 200, 50, 50], crowd=(4,))
    truth["annotations"][1].update(keypoints=[150, 50, 2] + [0] * 48, num_keypoints=1)
    dataset = as_dataset(truth, tmp_path)
    recall = recall_of_boxes(dataset, by_image([found(1, [100, 0, 60, 100], 0.9), found(1, [0, 200, 50, 50], 0.8),
                                                found(1, [200, 100, 200, 190], 0.7)]), [0.5])[0]
    assert recall.shares() == {
        "everybody": pytest.approx(2 / 3), "people with keypoints": 1, "small": 0, "medium": 1, "large": 1,
        "1 boxes kept": pytest.approx(1 / 3), "1 boxes kept, with keypoints": 1,
        **{f"{n} boxes kept": pytest.approx(1 / 3 if n == 2 else 2 / 3) for n in (2, 5, 10, 20, 50, 100)},
        **{f"{n} boxes kept, with keypoints": 1 for n in (2, 5, 10, 20, 50, 100)},
    }
    assert [len(line) for line in recall_rows([recall, recall])] == [3] * len(recall.shares())


def test_pictures_of_nobody_cost_precision_and_no_recall(tmp_path: Path) -> None:
    dataset = as_dataset(people([0, 0, 100, 100], [200, 0, 100, 100]), tmp_path)
    boxes = by_image([found(1, [0, 0, 100, 100], 0.9), found(1, [200, 0, 100, 100], 0.5)])
    wrong = Detections(boxes=[[0, 0, 50, 50], [9, 9, 50, 50]], scores=[0.8, 0.1])
    alone, more = evaluate_detector(dataset, boxes), evaluate_detector(dataset, boxes, [wrong, NOBODY])
    assert alone.boxes.ap == 1 and 0.5 < more.boxes.ap < 1
    assert alone.recalls == more.recalls and more.boxes.images == 3
    assert alone.false_alarms is None and more.false_alarms == 0.5
    assert len(more.rows()) == len(alone.rows()) + 1


def test_a_set_without_people_or_boxes_has_no_recall() -> None:
    nobody: CocoDataset = dataset_from_arrays([], np.zeros((0, 4)), np.zeros((0, 17, 3)))
    assert set(recall_of_boxes(nobody, {})[0].shares().values()) == {-1.0}


def test_boxes_come_back_from_their_file(tmp_path: Path) -> None:
    boxes = {5: Detections(boxes=[[1, 2, 31, 42], [0, 0, 1, 1]], scores=[0.9, 0.2]), 7: NOBODY}
    write_results(tmp_path / "boxes.json", box_results(boxes))
    again = read_box_results(tmp_path / "boxes.json")
    assert set(again) == {5}
    np.testing.assert_array_equal(again[5].boxes, boxes[5].boxes)
    np.testing.assert_array_equal(again[5].scores, boxes[5].scores)
