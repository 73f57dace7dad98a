"""Sigmas from two labellings: those that the labels were drawn with come back, whoever is paired with whom, and how."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.published import Json, as_dataset, coco_json
from stagepose.coco import CocoDataset, ImageInfo, dataset_from_arrays
from stagepose.errors import DatasetError
from stagepose.evaluation import MeasuredSigmas, measure_sigmas
from stagepose.skeleton import Skeleton

HAND = Skeleton(name="hand", names=("wrist", "left_tip", "right_tip"), flip_pairs=(("left_tip", "right_tip"),))
TRUE = np.array([0.08, 0.03, 0.03])
PEOPLE = 4_000
STANDARD_ERROR = 0.7213  # of sigma by the median, as a share of it, times sqrt(pairs): 1 / (2 ln 2)


def labelled(rng: np.random.Generator, joints_NK2: NDArray[np.float64], sides_N: NDArray[np.float64]) -> CocoDataset:
    """One labeller's: each joint sigma s off, as the root of the mean square in the plane; two people a picture."""
    people = len(sides_N)
    noise = rng.normal(0, 1, joints_NK2.shape) * (TRUE[:, None] / np.sqrt(2)) * sides_N[:, None, None]
    corners = joints_NK2[:, 0] - sides_N[:, None]
    return dataset_from_arrays(
        np.arange(people) // 2 + 1, np.hstack([corners, corners + 2 * sides_N[:, None]]),
        np.dstack([joints_NK2 + noise, np.full((people, 3), 2)]), skeleton=HAND, areas=sides_N**2, size=(4000, 2000))


def two_labellings(seed: int = 0, people: int = PEOPLE) -> tuple[CocoDataset, CocoDataset]:
    rng = np.random.default_rng(seed)
    middles = np.array([[500.0, 500.0], [2500.0, 500.0]])[np.arange(people) % 2]
    joints, sides = middles[:, None] + rng.uniform(-100, 100, (people, 3, 2)), rng.uniform(60, 300, people)
    return labelled(rng, joints, sides), labelled(rng, joints, sides)


def measured(sigmas: MeasuredSigmas) -> NDArray[np.float64]:
    return np.array([one.sigma for one in sigmas.keypoints])


def assert_true(sigmas: MeasuredSigmas) -> None:
    """Within four standard errors, which are of the pairs, and the rounding to three digits."""
    pairs = np.array([one.pooled for one in sigmas.keypoints])
    assert (np.abs(measured(sigmas) / TRUE - 1) < 4 * STANDARD_ERROR / np.sqrt(pairs) + 0.005).all()


def test_the_sigmas_of_the_labels_come_back() -> None:
    first, second = two_labellings()
    got = measure_sigmas(first, second, "mine")
    assert [(one.pairs, one.pooled) for one in got.keypoints] == [(4000, 4000), (4000, 8000), (4000, 8000)]
    assert_true(got)
    assert got.skeleton == replace(HAND, name="mine", sigmas=tuple(measured(got)))
    assert measured(measure_sigmas(second, first)).tolist() == measured(got).tolist()


def test_a_few_swapped_joints_hardly_count() -> None:
    """Left and right in each other's place in 2 % of the people: the mean would more than double the tips' sigma."""
    first, second = two_labellings()
    straight = measured(measure_sigmas(first, second))
    second.keypoints[::50] = second.keypoints[::50][:, HAND.flip_index]
    ways = ((first.keypoints - second.keypoints)[:, 1:, :2] ** 2).sum(-1) / first.areas[:, None]
    assert np.sqrt(ways.mean() / 2) > 2 * TRUE[1]
    np.testing.assert_allclose(measured(measure_sigmas(first, second)), straight, rtol=0.03)


def test_people_are_found_again_without_their_ids_and_in_any_order() -> None:
    """The second numbers people and pictures in its own way, which must not be taken for the first's."""
    first, second = two_labellings(people=400)
    order = np.random.default_rng(1).permutation(400)
    pictures = tuple(ImageInfo(201 - image.id, f"{image.id:012d}.png", 4000, 2000) for image in second.images)
    turned = replace(
        second, images=pictures[::-1], ids=np.arange(1, 401), image_ids=201 - second.image_ids[order],
        boxes_xyxy=second.boxes_xyxy[order], keypoints=second.keypoints[order], areas=second.areas[order],
        num_keypoints=second.num_keypoints[order], crowd=second.crowd[order])  # fmt: skip
    got = measure_sigmas(first, turned)
    assert (got.people, got.alone) == (400, (0, 0)) and got.by_id < 20
    assert measured(got).tolist() == measured(measure_sigmas(first, second)).tolist()


def person(number: int, x: float, joint: tuple[float, float], image: int = 1) -> Json:
    """A box of 100 x 100 with one labelled joint, the wrist, and an area of 2,500: s is 50."""
    return {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "bbox": [x, 50.0, 100.0, 100.0],
            "area": 2500.0, "num_keypoints": 1, "keypoints": [*joint, 2, *[0] * 6]}


def read_two(first: list[Json], second: list[Json], folder: Path, images: int = 1) -> tuple[CocoDataset, CocoDataset]:
    return (as_dataset(coco_json(first, images, HAND), folder), as_dataset(coco_json(second, images, HAND), folder))


def test_by_hand(tmp_path: Path) -> None:
    """Ways of 3, 5 and 40 pixels: the median is 5 of 50, sigma .1 / sqrt(2 ln 2) = .0849; the tips are as before."""
    first = [person(n, 150.0 * n, (150.0 * n + 40, 90)) for n in range(1, 4)]
    second = copy.deepcopy(first)
    for annotation, way in zip(second, (3, 5, 40), strict=True):
        annotation["keypoints"][0] += way
    second.append(person(4, 20, (40, 90)))
    got = measure_sigmas(*read_two(first, second, tmp_path))
    assert measured(got).tolist() == [0.0849, 0.05, 0.05]
    assert (got.people, got.by_id, got.alone, got.without_area) == (3, 3, (0, 1), 0)
    assert got.rows() == [("wrist", "3", "3", "0.0849", "0.05"), ("left_tip", "0", "0", "", "0.05"),
                          ("right_tip", "0", "0", "", "0.05")]
    said, few, left = got.notes()
    assert said.startswith("3 people are labelled in both files, 3 of them with the same annotation id; 0 only in the")
    assert "fewer than 30 pairs" in few and few.endswith("wrist (3)")
    assert left.endswith("sigma as before: left_tip (no pairs), right_tip (no pairs)")


def test_of_two_who_overlap_the_id_decides_and_ids_of_others_do_not(tmp_path: Path) -> None:
    """Boxes 20 of 100 pixels apart; the second labeller's are shifted onto the neighbour's, by id they are told."""
    first = [person(7, 100, (140, 90)), person(8, 120, (170, 90))]
    second = [person(8, 110, (175, 90)), person(7, 120, (145, 90))]
    got = measure_sigmas(*read_two(first, second, tmp_path))
    assert (got.people, got.by_id, got.keypoints[0].sigma) == (2, 2, 0.0849)
    far = [person(8, 100, (145, 90)), person(7, 420, (470, 90))]  # the ids mean nothing here
    got = measure_sigmas(*read_two([first[0], person(8, 420, (475, 90))], far, tmp_path))
    assert (got.people, got.by_id, got.keypoints[0].sigma) == (2, 0, 0.0849)


def test_only_people_and_pictures_of_both_count(tmp_path: Path) -> None:
    first = [person(1, 100, (140, 90)), person(2, 100, (140, 90), image=2), {**person(3, 400, (440, 90)), "area": 0.0}]
    second = [person(1, 100, (145, 90)), {**person(2, 100, (160, 90), image=2), "iscrowd": 1},
              {**person(3, 400, (490, 90)), "area": 0.0}]  # fmt: skip
    got = measure_sigmas(*read_two(first, second, tmp_path, images=2))
    assert (got.people, got.alone, got.without_area, got.keypoints[0].pairs) == (2, (1, 0), 1, 1)
    assert got.keypoints[0].sigma == 0.0849 and "1 people of area 0 left out" in got.notes()


@pytest.mark.parametrize(("second", "message"), [
    (person(1, 100, (140, 90)), "on the 1 people labelled in both: at the same place in most pairs"),
    (person(1, 400, (440, 90)), "on the 0 people labelled in both: no pairs"),
    (person(1, 100, (300, 90)), "further apart than a person is large"),
])  # fmt: skip
def test_labellings_that_tell_nothing_are_refused(tmp_path: Path, second: Json, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        measure_sigmas(*read_two([person(1, 100, (140, 90))], [second], tmp_path))


def test_areas_and_keypoints_must_be_there(tmp_path: Path) -> None:
    first = as_dataset(coco_json([person(1, 100, (140, 90))], 1, HAND), tmp_path)
    bare = person(1, 100, (145, 90))
    del bare["area"]
    with pytest.raises(DatasetError, match="1 of 1 people have no 'area'"):
        measure_sigmas(first, as_dataset(coco_json([bare], 1, HAND), tmp_path))
    with pytest.raises(DatasetError, match="read both in one skeleton"):
        measure_sigmas(first, dataset_from_arrays([1], [[0, 0, 9, 9]], np.ones((1, 17, 3))))
