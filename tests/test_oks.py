"""OKS as COCO's own code computes it, the two suppressions, and the rules that rank people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.oks import RESCORE_RULES, oks_nms, oks_of_person, ranking, rescore, soft_oks_nms
from stagepose.skeleton import COCO_17, CROWDPOSE_14, Skeleton

SIGMAS = np.array(COCO_17.sigmas)


def random_people(seed: int, count: int, joints: int) -> tuple[NDArray, NDArray, NDArray]:
    """Truths (N, K, 3), areas (N,) and xywh boxes (N, 4); every third person has no labelled joint."""
    rng = np.random.default_rng(seed)
    xywh = np.column_stack([rng.uniform(0, 300, (count, 2)), rng.uniform(1, 200, (count, 2))])
    xy = xywh[:, None, :2] + rng.uniform(0, 1, (count, joints, 2)) * xywh[:, None, 2:]
    visible = rng.integers(0, 3, (count, joints))
    visible[::3] = 0
    return np.dstack([xy, visible]), xywh[:, 2:].prod(axis=1) * rng.uniform(0.3, 0.9, count), xywh


def xyxy(xywh: NDArray) -> NDArray:
    return np.column_stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])


def coco_oks(truth: NDArray, areas: NDArray, xywh: NDArray, found: NDArray, sigmas: NDArray) -> NDArray:
    """(N, M) by pycocotools' computeOks itself."""
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    judge = cocoeval.COCOeval(iouType="keypoints")
    judge.params.kpt_oks_sigmas, judge.params.maxDets = sigmas, [10**6]
    judge._gts = {(1, 1): [{"keypoints": t.ravel(), "bbox": b, "area": a}
                           for t, a, b in zip(truth, areas, xywh, strict=True)]}
    judge._dts = {(1, 1): [{"keypoints": np.insert(f, 2, 1, axis=1).ravel(), "score": 1.0} for f in found]}
    return judge.computeOks(1, 1).T


def oks_matrix(truth: NDArray, areas: NDArray, boxes_xyxy: NDArray, found: NDArray, sigmas: NDArray) -> NDArray:
    """(N, M) of every labelled person and every one found."""
    return oks_of_person(truth[:, None], areas[:, None], boxes_xyxy[:, None], found[None], sigmas)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 7), finds=st.integers(1, 7),
       skeleton=st.sampled_from([COCO_17, CROWDPOSE_14, Skeleton(name="one", names=("tip",))]),
       spread=st.sampled_from([1.0, 20.0, 400.0]))
def test_matrix_equals_pycocotools(seed: int, people: int, finds: int, skeleton: Skeleton, spread: float) -> None:
    sigmas = np.array(skeleton.sigmas)
    truth, areas, xywh = random_people(seed, people, len(skeleton))
    rng = np.random.default_rng(seed + 1)
    found = truth[rng.integers(0, people, finds), :, :2] + rng.normal(0, spread, (finds, len(skeleton), 2))
    ours = oks_matrix(truth, areas, xyxy(xywh), found, sigmas)
    np.testing.assert_allclose(ours, coco_oks(truth, areas, xywh, found, sigmas), rtol=0, atol=1e-12)
    assert ((ours >= 0) & (ours <= 1)).all()


def test_matrix_diagonal_is_the_one_to_one_form() -> None:
    truth, areas, xywh = random_people(3, 8, 17)
    found = truth[..., :2] + np.random.default_rng(0).normal(0, 5, truth[..., :2].shape)
    whole = oks_matrix(truth, areas, xyxy(xywh), found, SIGMAS)
    np.testing.assert_allclose(oks_of_person(truth, areas, xyxy(xywh), found, SIGMAS), np.diag(whole), atol=1e-15)


def test_no_people_and_no_finds_give_empty_matrices() -> None:
    truth, areas, xywh = random_people(0, 3, 17)
    assert oks_matrix(truth, areas, xyxy(xywh), np.zeros((0, 17, 2)), SIGMAS).shape == (3, 0)
    assert oks_matrix(truth[:0], areas[:0], xyxy(xywh)[:0], truth[..., :2], SIGMAS).shape == (0, 3)
    assert oks_of_person(truth[:0], areas[:0], xyxy(xywh)[:0], truth[:0, :, :2], SIGMAS).shape == (0,)


def test_person_without_joints_is_its_box_three_times_as_wide() -> None:
    truth, box = np.zeros((1, 17, 3)), np.array([[100.0, 100.0, 150.0, 200.0]])  # 50 x 100: reaches 50..200, 0..300
    inside = [np.full((17, 2), corner) for corner in ((50.0, 0.0), (200.0, 300.0), (125.0, 150.0))]
    outside = [np.full((17, 2), point) for point in ((40.0, 150.0), (125.0, 310.0), (210.0, -10.0))]
    similar = oks_matrix(truth, np.array([4000.0]), box, np.array([*inside, *outside]), SIGMAS)[0]
    assert (similar[:3] == 1).all()
    assert similar[3] == similar[4] > similar[5] > 0


def test_occluded_joints_count_and_unlabelled_do_not() -> None:
    truth = np.zeros((1, 17, 3))
    truth[0, 3, 2], truth[0, 4, 2] = 1, 2
    found = np.full((1, 17, 2), 1e3)
    found[0, 3] = 0
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    assert oks_of_person(truth, np.array([100.0]), box, found, SIGMAS)[0] == 0.5


def test_area_of_zero_divides() -> None:
    truth = np.ones((1, 17, 3))
    box = np.zeros((1, 4))
    assert oks_of_person(truth, np.zeros(1), box, truth[..., :2], SIGMAS)[0] == 1
    assert oks_of_person(truth, np.zeros(1), box, truth[..., :2] + 1, SIGMAS)[0] == 0


def test_ranking_puts_the_later_of_equals_first() -> None:
    assert ranking(np.array([0.5, 0.9, 0.5, 0.1, 0.9])).tolist() == [4, 1, 2, 0, 3]
    many = np.zeros(100)  # a quicksort would shuffle so many
    assert ranking(many).tolist() == list(range(99, -1, -1))


def naive_nms(points: NDArray, scores: NDArray, areas: NDArray, threshold: float) -> list[int]:
    """The published loop, one pair and one joint at a time."""

    def similarity(a: int, b: int) -> float:
        area = (areas[a] + areas[b]) / 2 + np.spacing(1)
        squared = ((points[a] - points[b]) ** 2).sum(axis=1)
        return float(np.mean([np.exp(-d / (2 * s) ** 2 / area / 2) for d, s in zip(squared, SIGMAS, strict=True)]))

    kept: list[int] = []
    for one in sorted(range(len(scores)), key=lambda n: (-scores[n], -n)):
        if all(similarity(one, better) <= threshold for better in kept):
            kept.append(one)
    return kept


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12), threshold=st.sampled_from([0.3, 0.7, 0.9]))
def test_nms_equals_the_loop(seed: int, count: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 100, (3, 17, 2))[rng.integers(0, 3, count)] + rng.normal(0, 3, (count, 17, 2))
    scores, areas = rng.integers(0, 4, count) / 4, rng.uniform(2000, 6000, count)  # coarse scores: many ties
    assert oks_nms(points, scores, areas, SIGMAS, threshold).tolist() == naive_nms(points, scores, areas, threshold)


def test_nms_measures_two_finds_by_the_mean_of_their_areas() -> None:
    areas, shift = np.array([100.0, 900.0]), 3.0
    points = np.zeros((2, 17, 2))
    points[1, :, 0] = shift
    between = np.exp(-(shift**2) / (2 * SIGMAS) ** 2 / 500 / 2).mean()
    for threshold, kept in ((between - 1e-6, [0]), (between + 1e-6, [0, 1])):
        assert oks_nms(points, np.array([0.9, 0.8]), areas, SIGMAS, threshold).tolist() == kept


def test_nms_drops_the_worse_of_twins_and_keeps_equals_apart() -> None:
    points = np.stack([np.zeros((17, 2)), np.zeros((17, 2)), np.full((17, 2), 500.0)])
    areas = np.full(3, 1000.0)
    assert oks_nms(points, np.array([0.5, 0.6, 0.1]), areas, SIGMAS).tolist() == [1, 2]
    assert oks_nms(points[:0], np.zeros(0), areas[:0], SIGMAS).shape == (0,)
    assert oks_nms(points, np.zeros(3), areas, SIGMAS, threshold=1.0).tolist() == [2, 1, 0]


def test_soft_nms_lowers_neighbours_and_forgets_nobody() -> None:
    points = np.stack([np.zeros((17, 2)), np.zeros((17, 2)), np.full((17, 2), 500.0)])
    kept, scores = soft_oks_nms(points, np.array([0.9, 0.8, 0.5]), np.full(3, 1000.0), SIGMAS)
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.8 * np.exp(-1 / 0.9)], rtol=1e-12)
    kept, scores = soft_oks_nms(points, np.array([0.9, 0.8, 0.5]), np.full(3, 1000.0), SIGMAS, limit=2)
    assert kept.tolist() == [0, 2]
    assert soft_oks_nms(points[:0], np.zeros(0), np.zeros(0), SIGMAS)[0].shape == (0,)


def test_rescoring_rules_by_hand() -> None:
    boxes, joints = np.array([0.5, 1.0]), np.array([[0.8, 0.4, 0.2, 0.0], [0.1, 0.1, 0.2, 0.0]])
    np.testing.assert_allclose(rescore(boxes, joints, "mean-above"), [0.5 * 0.6, 0])  # 0.2 itself does not count
    np.testing.assert_allclose(rescore(boxes, joints, "mean-all"), [0.5 * 0.35, 0.1])
    np.testing.assert_allclose(rescore(boxes, joints, "megvii"), [0.5 * 0.85, 0.6])
    np.testing.assert_allclose(rescore(boxes, joints, "geometric"), [(0.5 * 0.35**2) ** (1 / 3), 0.1 ** (2 / 3)])
    for rule in RESCORE_RULES:
        assert rescore(boxes[:0], joints[:0], rule).shape == (0,)


def test_a_geometric_score_lies_between_the_boxs_and_the_joints() -> None:
    rng = np.random.default_rng(0)
    boxes, joints = rng.uniform(0, 1, 50), rng.uniform(0, 1, (50, 17))
    scores, means = rescore(boxes, joints, "geometric"), joints.mean(1)
    assert (np.minimum(boxes, means) <= scores).all() and (scores <= np.maximum(boxes, means)).all()
    assert rescore(np.ones(1), np.full((1, 3), -0.1), "geometric") == 0  # squared errors may make peaks below 0


def test_megvii_rule_is_the_released_arithmetic_at_their_scale() -> None:
    peaks = np.random.default_rng(0).uniform(0, 1, (3, 17))
    theirs = (255 * peaks / 255 + 0.5).mean(axis=1) * 0.7
    np.testing.assert_allclose(rescore(np.full(3, 0.7), peaks, "megvii"), theirs, rtol=1e-12)


def test_joint_scores_are_averaged_in_float64() -> None:
    joints = np.array([[1, 1e-8, 1e-8], [1, 0, 0]], dtype=np.float32)
    people = rescore(np.ones(2, dtype=np.float32), joints, "mean-all")
    assert people.dtype == np.float64
    assert people[0] > people[1]  # float32 would call them equal


def test_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no rule 'best'.*mean-above.*mean-all.*megvii"):
        rescore(np.ones(1), np.ones((1, 17)), "best")
