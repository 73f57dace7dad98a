"""Poses fitted to keypoints: what the body can do is found again, and stays within its limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_coco

from stagepose.coco import dataset_from_arrays, read_dataset
from stagepose.errors import DatasetError
from stagepose.rendering.body import Traits, load_body
from stagepose.rendering.families import draw_stance
from stagepose.rendering.figures import draw_figure
from stagepose.rendering.fit import LEAST_LABELLED, _Model, fit, targets
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.pose import HIGHEST, LOWEST, move

COCO = read_landmarks(COCO_FILE)


def posed_people(count: int) -> np.ndarray:
    """(N, 17, 3) keypoints of random poses seen from far away."""
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(count):
        figure = draw_figure(rng, draw_stance(rng), Traits(gender=float(rng.integers(2))))
        points = COCO.of(figure.points, figure.heads)
        rows.append(np.column_stack([points[:, 0] * 100 + 320, 300 - points[:, 1] * 100, np.full(17, 2)]))
    return np.stack(rows)


def dataset(keypoints: np.ndarray):  # type: ignore[no-untyped-def]
    count = len(keypoints)
    return dataset_from_arrays(np.arange(1, count + 1), np.tile([0, 0, 10, 10], (count, 1)), keypoints)


def test_a_pose_is_found_from_its_points() -> None:
    found = [fit(target, COCO) for target in targets(dataset(posed_people(6)), COCO)]
    assert len(found) == 6 and np.mean([one.error for one in found]) < 0.025
    for one in found:
        assert (one.stance.angles >= LOWEST - 1e-6).all() and (one.stance.angles <= HIGHEST + 1e-6).all()
        np.testing.assert_allclose(one.stance.facing @ one.stance.facing.T, np.eye(3), atol=1e-9)


def test_the_same_points_give_the_same_pose_wherever_they_are() -> None:
    points = posed_people(1)
    elsewhere = points * [2, 2, 1] + [50, -30, 0]
    first, second = (fit(targets(dataset(each), COCO)[0], COCO) for each in (points, elsewhere))
    np.testing.assert_allclose(first.stance.angles, second.stance.angles, atol=1e-3)


def test_the_model_carries_keypoints_as_the_body_does() -> None:
    """Those that are the mean of vertices of several bones, too, as shoulders are."""
    rng, model, body = np.random.default_rng(3), _Model(COCO), load_body()
    angles = np.stack([draw_stance(rng).angles for _ in range(8)])
    frame = move(body, model.shape, angles)
    found = model.points(angles, np.tile(np.eye(3), (8, 1, 1)))
    for one, turns, places in zip(found, frame.turns, frame.places, strict=True):
        np.testing.assert_allclose(one, COCO.of(body.skin(model.shape, turns, places), places)[:, :2], atol=1e-5)


def test_people_with_few_keypoints_are_not_taken() -> None:
    points = posed_people(2)
    points[0, LEAST_LABELLED - 1 :, 2] = 0
    assert len(targets(dataset(points), COCO)) == 1
    with pytest.raises(DatasetError, match="no person has 8 labelled keypoints"):
        targets(dataset(points[:1]), COCO)


def test_any_coco_file_will_do(tmp_path: Path) -> None:
    assert targets(read_dataset(tiny_coco(tmp_path)), COCO)
