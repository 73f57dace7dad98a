"""Keypoint AP: equal to pycocotools on published vectors and on random sets, and right where evaluators are fooled."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import tiny_dict

from evaluation.published import (
    KEYPOINT_FIELDS,
    Json,
    as_dataset,
    coco_json,
    faster_coco_eval,
    perfect,
    pycocotools,
    random_set,
    reference,
)
from stagepose.coco import dataset_from_arrays
from stagepose.errors import DatasetError
from stagepose.evaluation import KeypointMetrics, evaluate_keypoints, gather_by_person
from stagepose.oks import oks_nms, ranking, rescore
from stagepose.skeleton import COCO_17, CROWDPOSE_14, Skeleton

HRNET_PADDING = 1.25  # of the box whose area HRNet's OKS-NMS takes


def numbers(metrics: KeypointMetrics) -> list[float]:
    return [getattr(metrics, name) for name in KEYPOINT_FIELDS]


def one_person(image_id: int = 1, at: float = 100.0, **changes: Any) -> Json:
    """A person of 100 x 100 pixels and area 5000 with all joints at ``at`` + 50."""
    return {"id": image_id, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [at, at, 100.0, 100.0],
            "area": 5000.0, "keypoints": [at + 50, at + 50, 2] * 17, "num_keypoints": 17, **changes}  # fmt: skip


def nobody_labelled(**changes: Any) -> Json:
    return one_person(**{"keypoints": [0] * 51, "num_keypoints": 0, "at": 300.0, "id": 77, **changes})


def found(image_id: int, xy: tuple[float, float], score: float) -> Json:
    return {"image_id": image_id, "category_id": 1, "keypoints": [*xy, 1.0] * 17, "score": score}


HIT = (150.0, 150.0)  # where one_person is


# --- published vectors -----------------------------------------------------------------------------------------------

TOPDOWN = [.5287458745874587, .9042904290429042, .5009900990099009, .42475247524752474, .6219554455445544,
           .5833333333333333, .9166666666666666, .5833333333333334, .44, .6857142857142857]  # fmt: skip
FASTER = [.5048844884488449, .7227722772277227, .6336633663366337, .46633663366336636, .7504950495049505,
          .5181818181818182, .7272727272727273, .6363636363636364, .4666666666666667, .75]  # fmt: skip


def topdown_results(truth: Json, mean: type = np.float64) -> list[Json]:
    """mmpose's test predictions: keypoints x (.98, 1.02), v x .8 as float32, box score .98, rescored, OKS-NMS."""
    results = []
    for image in truth["images"]:
        mine = sorted((a for a in truth["annotations"] if a["image_id"] == image["id"]), key=lambda a: a["id"])
        triples = np.array([a["keypoints"] for a in mine], dtype=np.float64).reshape(-1, 17, 3)
        found_NK3 = (triples * [0.98, 1.02, 0.8]).astype(np.float32)
        areas = np.array([a["bbox"][2] * a["bbox"][3] for a in mine]) * HRNET_PADDING**2
        scores = topdown_scores(found_NK3[..., 2], mean)
        for n in oks_nms(found_NK3[..., :2], scores, areas, np.array(COCO_17.sigmas)):
            results.append({"image_id": image["id"], "category_id": 1, "score": float(scores[n]),
                            "keypoints": found_NK3[n].astype(float).ravel().tolist()})  # fmt: skip
    return results


def topdown_scores(joints_NK: NDArray[np.float32], mean: type) -> NDArray:
    """By our rule, or by the same rule in floats of another width."""
    if mean is np.float64:
        return rescore(np.full(len(joints_NK), 0.98), joints_NK, "mean-above")
    kept = joints_NK > 0.2
    means = np.where(kept, joints_NK, 0).sum(1, dtype=mean) / np.maximum(kept.sum(1), 1).astype(mean)
    return means * mean(0.98)


def test_published_topdown_vector_through_our_rescoring_and_nms(tmp_path: Path) -> None:
    truth = reference("coco_topdown/test_coco.json")
    results = topdown_results(truth)
    got = numbers(evaluate_keypoints(as_dataset(truth, tmp_path), results))
    np.testing.assert_allclose(got, TOPDOWN, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got, pycocotools(truth, results), rtol=0, atol=1e-12)


def test_published_truth_as_result_is_perfect(tmp_path: Path) -> None:
    truth = reference("coco_topdown/test_coco.json")
    assert numbers(evaluate_keypoints(as_dataset(truth, tmp_path), perfect(truth))) == [1.0] * 10


def test_published_vector_of_128_results_in_one_image(tmp_path: Path) -> None:
    truth, results = reference("coco_fce/gt_dataset.json"), reference("coco_fce/dt_dataset.json")
    plain = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    metrics = evaluate_keypoints(as_dataset(truth, tmp_path), plain)
    np.testing.assert_allclose(numbers(metrics), FASTER, rtol=0, atol=1e-12)
    np.testing.assert_allclose(numbers(metrics), pycocotools(truth, plain), rtol=0, atol=1e-12)
    assert (metrics.results, metrics.beyond_limit, metrics.people, metrics.ignored) == (128, 108, 11, 3)


def test_ties_and_float_width_decide_the_published_vector(tmp_path: Path) -> None:
    truth = reference("coco_topdown/test_coco.json")
    dataset = as_dataset(truth, tmp_path)
    later_first, later_first_32 = (topdown_results(truth, mean) for mean in (np.float64, np.float32))
    aps = [evaluate_keypoints(dataset, results).ap
           for results in (later_first, later_first[::-1], later_first_32, later_first_32[::-1])]
    np.testing.assert_allclose(aps, [0.5287, 0.5272, 0.5334, 0.5321], rtol=0, atol=5e-5)


def test_bbox_in_published_results_would_change_ap_medium() -> None:
    truth = reference("coco_topdown/test_coco.json")
    results = topdown_results(truth)
    assert pycocotools(truth, results)[3] == pytest.approx(0.42475, abs=1e-5)
    boxed = [{**r, "bbox": next(a["bbox"] for a in truth["annotations"] if made_of(r, a))} for r in results]
    assert pycocotools(truth, boxed)[3] == pytest.approx(0.41683, abs=1e-5)


def made_of(result: Json, annotation: Json) -> bool:
    """The nine people of the fixture who have keypoints differ in them; the two who have none differ in the image."""
    same = np.allclose(result["keypoints"][0::3], np.multiply(annotation["keypoints"][0::3], 0.98), atol=1e-3)
    return same and result["image_id"] == annotation["image_id"]


# --- equality on sets made here --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("skeleton", [COCO_17, CROWDPOSE_14, Skeleton(name="two", names=("left_end", "right_end"))],
                         ids=lambda s: s.name)
def test_random_sets_equal_pycocotools(tmp_path: Path, seed: int, skeleton: Skeleton) -> None:
    truth, results = random_set(seed, skeleton)
    got = numbers(evaluate_keypoints(as_dataset(truth, tmp_path, skeleton), results))
    np.testing.assert_allclose(got, pycocotools(truth, results, sigmas=skeleton.sigmas), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(100, 104))
def test_larger_random_sets_equal_both_libraries(tmp_path: Path, seed: int) -> None:
    truth, results = random_set(seed, images=60)
    dataset = as_dataset(truth, tmp_path)
    metrics = evaluate_keypoints(dataset, results)
    assert metrics.beyond_limit and metrics.ignored
    np.testing.assert_allclose(numbers(metrics), pycocotools(truth, results), rtol=0, atol=1e-12)
    np.testing.assert_allclose(numbers(metrics), faster_coco_eval(truth, results), rtol=0, atol=1e-12)


def test_order_of_images_and_ids_in_the_file_changes_nothing(tmp_path: Path) -> None:
    """Equal scores of two images are ranked by the images' ids."""
    truth, results = random_set(3, images=20)
    as_listed = numbers(evaluate_keypoints(as_dataset(truth, tmp_path), results))
    truth["images"].reverse()
    assert numbers(evaluate_keypoints(as_dataset(truth, tmp_path), results)) == as_listed


def test_perfect_results_are_perfect(tmp_path: Path) -> None:
    truth = tiny_dict(images=6, people=2)
    metrics = evaluate_keypoints(as_dataset(truth, tmp_path), perfect(truth))
    assert (metrics.ap, metrics.ap50, metrics.ap75, metrics.ar) == (1, 1, 1, 1)
    assert (metrics.images, metrics.people, metrics.results, metrics.beyond_limit) == (6, 12, 12, 0)
    assert metrics.notes() == ["12 results for 12 people in 6 images"]


def test_nothing_is_printed_and_results_stay_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, results = random_set(1)
    before = copy.deepcopy(results)
    evaluate_keypoints(as_dataset(truth, tmp_path), results)
    assert results == before
    assert capsys.readouterr() == ("", "")


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    truth, results = random_set(1)
    dataset = as_dataset(truth, tmp_path)
    single = [{**r, "keypoints": np.float32(r["keypoints"]).tolist(), "score": float(np.float32(r["score"]))}
              for r in results]
    whole = [{**r, "image_id": np.int64(r["image_id"]), "category_id": np.uint8(1)} for r in results]
    double = [{**r, "keypoints": list(np.array(r["keypoints"])), "score": np.float64(r["score"])} for r in whole]
    for plain, ours in ((results, double), (single, [
            {**r, "keypoints": list(np.float32(r["keypoints"])), "score": np.float32(r["score"])} for r in whole])):
        assert numbers(evaluate_keypoints(dataset, ours)) == numbers(evaluate_keypoints(dataset, plain))
    with pytest.raises(DatasetError, match=r"result 0: score is np\.float32"):
        evaluate_keypoints(dataset, [{**double[0], "score": np.float32("nan")}])


# --- what evaluators let through -------------------------------------------------------------------------------------


def test_annotation_id_0_is_found_like_any_other(tmp_path: Path) -> None:
    truth = coco_json([one_person(id=0)], images=1)
    assert pycocotools(truth, perfect(truth))[0] == 0  # the pitfall
    assert evaluate_keypoints(as_dataset(truth, tmp_path), perfect(truth)).ap == 1


def test_missing_num_keypoints_is_counted(tmp_path: Path) -> None:
    truth = coco_json([one_person()], images=1)
    del truth["annotations"][0]["num_keypoints"]
    with pytest.raises(KeyError):
        pycocotools(truth, [found(1, HIT, 0.5)])  # the pitfall
    assert evaluate_keypoints(as_dataset(truth, tmp_path), [found(1, HIT, 0.5)]).ap == 1


def test_nan_wrong_count_and_unknown_image_are_refused_together(tmp_path: Path) -> None:
    truth = coco_json([one_person()], images=1)
    nan = [{**found(1, HIT, 0.5), "keypoints": [float("nan")] * 51}]
    assert pycocotools(truth, nan)[0] == pytest.approx(1)  # the pitfall: full marks
    dataset = as_dataset(truth, tmp_path)
    with pytest.raises(DatasetError, match="results: result 0: nose x is nan"):
        evaluate_keypoints(dataset, nan)
    short = {**found(1, HIT, 0.5), "keypoints": [1.0] * 48}
    with pytest.raises(DatasetError, match="keypoints has 48 numbers, expected 51"):
        evaluate_keypoints(dataset, [short])
    with pytest.raises(DatasetError, match=r"results: 4 problems: 2 x .*nose x is nan.*image_id 9.*score is None"):
        evaluate_keypoints(dataset, [*nan, short, found(9, HIT, 0.5), {**found(1, HIT, 0.5), "score": None}])


def test_points_beyond_all_sense_find_nobody_and_warn_of_nothing(tmp_path: Path) -> None:
    dataset = as_dataset(coco_json([one_person(), nobody_labelled()], images=1), tmp_path)
    far = {**found(1, HIT, 0.9), "keypoints": [10**300, -1e300, 1] * 16 + [-(10**300), 5, 1]}
    assert evaluate_keypoints(dataset, [far]).ar == 0


def test_areas_beyond_cocos_largest_count_as_they_do_in_coco(tmp_path: Path) -> None:
    truth = coco_json([one_person(), one_person(2, area=2e10)], 2)
    wide = {**found(1, (0, 0), 0.9), "keypoints": [*[0, 0, 1] * 16, 3e5, 3e5, 1]}
    results = [found(1, HIT, 0.5), wide]
    metrics = evaluate_keypoints(as_dataset(truth, tmp_path), results)
    np.testing.assert_allclose(numbers(metrics), pycocotools(truth, results), rtol=0, atol=1e-12)
    assert metrics.ap == pytest.approx(1)


def test_bbox_in_results_does_not_move_people_between_sizes(tmp_path: Path) -> None:
    """Beside a medium person someone is found where nobody is, with a medium extent but a large box."""
    truth = coco_json([one_person()], images=1)
    ghost = found(1, (400, 400), 0.9)
    ghost["keypoints"][0:2] = [360.0, 350.0]
    plain = [ghost, found(1, HIT, 0.5)]
    boxed = [{**ghost, "bbox": [300.0, 300.0, 200.0, 200.0]}, {**plain[1], "bbox": [100.0, 100.0, 100.0, 100.0]}]
    assert pycocotools(truth, plain)[3] != pycocotools(truth, boxed)[3]  # the pitfall
    dataset = as_dataset(truth, tmp_path)
    metrics = evaluate_keypoints(dataset, boxed)
    assert numbers(metrics) == numbers(evaluate_keypoints(dataset, plain)) == pycocotools(truth, plain)
    assert any("2 results carry 'bbox'" in note for note in metrics.notes())


def test_images_without_people_count(tmp_path: Path) -> None:
    truth = coco_json([one_person()], images=2)
    results = [found(1, HIT, 0.5), found(2, HIT, 0.9)]
    assert evaluate_keypoints(as_dataset(truth, tmp_path), results).ap == pytest.approx(0.5)
    without = coco_json([one_person()], images=1)
    assert evaluate_keypoints(as_dataset(without, tmp_path), results[:1]).ap == 1


def test_of_equal_scores_the_one_listed_first_wins(tmp_path: Path) -> None:
    dataset = as_dataset(coco_json([one_person()], images=1), tmp_path)
    hit, miss = found(1, HIT, 0.5), found(1, (500, 500), 0.5)
    assert evaluate_keypoints(dataset, [hit, miss]).ap == 1
    assert evaluate_keypoints(dataset, [miss, hit]).ap == pytest.approx(0.5)
    assert ranking(np.array([hit["score"], miss["score"]])).tolist() == [1, 0]  # so our predictor lists the later first


# --- who is ignored --------------------------------------------------------------------------------------------------


def test_crowd_absorbs_any_number(tmp_path: Path) -> None:
    truth = coco_json([one_person(), nobody_labelled(iscrowd=1)], images=1)
    ghosts = [found(1, (350, 350), 0.9) for _ in range(7)]
    metrics = evaluate_keypoints(as_dataset(truth, tmp_path), [*ghosts, found(1, HIT, 0.5)])
    assert (metrics.ap, metrics.people, metrics.ignored) == (1, 1, 1)
    assert metrics.notes()[1] == "1 crowds or people without labelled keypoints ignored"


def test_person_without_keypoints_absorbs_one(tmp_path: Path) -> None:
    dataset = as_dataset(coco_json([one_person(), nobody_labelled()], images=1), tmp_path)
    ghosts = [found(1, (350, 350), 0.9), found(1, (350, 350), 0.8)]
    assert evaluate_keypoints(dataset, [*ghosts[:1], found(1, HIT, 0.5)]).ap == 1
    assert evaluate_keypoints(dataset, [*ghosts, found(1, HIT, 0.5)]).ap == pytest.approx(0.5)


def test_ignored_person_reaches_one_box_beyond_its_box(tmp_path: Path) -> None:
    """The box is 300..400 in both axes; extended by its size on every side it is 200..500."""
    dataset = as_dataset(coco_json([one_person(), nobody_labelled(area=100.0)], images=1), tmp_path)
    hit = found(1, HIT, 0.5)
    for edge in ((200, 200), (500, 500), (201, 499)):
        assert evaluate_keypoints(dataset, [found(1, edge, 0.9), hit]).ap == 1
    assert evaluate_keypoints(dataset, [found(1, (530, 350), 0.9), hit]).ap == pytest.approx(0.5)


def test_more_than_20_results_in_an_image_are_cut_and_counted(tmp_path: Path) -> None:
    dataset = as_dataset(coco_json([one_person()], images=2), tmp_path)
    ghosts = [found(1, (500, 500), 0.9) for _ in range(20)]
    metrics = evaluate_keypoints(dataset, [*ghosts, found(1, HIT, 0.5), found(2, HIT, 0.1)])
    assert (metrics.ar, metrics.beyond_limit) == (0, 1)
    assert "1 results beyond the 20 best of their image not counted" in metrics.notes()


# --- areas -----------------------------------------------------------------------------------------------------------


def test_missing_areas_are_refused(tmp_path: Path) -> None:
    truth = coco_json([one_person()], images=1)
    del truth["annotations"][0]["area"]
    with pytest.raises(DatasetError, match=r"1 of 1 people have no 'area', such as annotation 1.*--estimate-areas"):
        evaluate_keypoints(as_dataset(truth, tmp_path), [])


def test_zero_and_estimated_areas_are_said(tmp_path: Path) -> None:
    people = [one_person(1, area=0), one_person(2, area_source="estimated")]
    notes = evaluate_keypoints(as_dataset(coco_json(people, images=2), tmp_path), []).notes()
    assert any("1 people have an area of 0" in note for note in notes)
    assert any("1 areas are estimates" in note for note in notes)


# --- small sets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotations", [[], [nobody_labelled(iscrowd=1)], [nobody_labelled()]],
                         ids=["nobody", "only a crowd", "nobody labelled"])
@pytest.mark.parametrize("results", [[], [found(1, HIT, 0.5)]], ids=["no results", "a result"])
def test_no_ground_truth_is_said_in_words(tmp_path: Path, annotations: list[Json], results: list[Json]) -> None:
    metrics = evaluate_keypoints(as_dataset(coco_json(annotations, images=1), tmp_path), results)
    assert numbers(metrics) == [-1.0] * 10
    assert metrics.rows()[0] == ("AP .50:.95", "no ground truth")
    assert {value for _, value in metrics.rows()} == {"no ground truth"}


def test_no_images_at_all() -> None:
    empty = dataset_from_arrays([], np.zeros((0, 4)), np.zeros((0, 17, 3)), images=[])
    assert numbers(evaluate_keypoints(empty, [])) == [-1.0] * 10


def test_no_results_is_zero_and_a_missing_size_is_said(tmp_path: Path) -> None:
    metrics = evaluate_keypoints(as_dataset(coco_json([one_person()], images=1), tmp_path), [])
    assert numbers(metrics) == [0, 0, 0, 0, -1, 0, 0, 0, 0, -1]
    assert dict(metrics.rows())["AP .50:.95"] == "0.000"
    assert dict(metrics.rows())["AR large"] == "no ground truth"


# --- parts of a split ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_parts_gathered_by_person_equal_the_whole(tmp_path: Path, ranks: int) -> None:
    """People dealt to ranks as a sampler does: padded to equal length by repeating the first ones."""
    truth = tiny_dict(images=5, people=3)
    rng = np.random.default_rng(0)
    people = {
        a["id"]: {"image_id": a["image_id"], "category_id": 1, "score": float(rng.integers(1, 4) / 4),
                  "keypoints": (np.array(a["keypoints"]) + rng.normal(0, 2, 51)).tolist()}
        for a in truth["annotations"]
    }  # fmt: skip
    dataset = as_dataset(truth, tmp_path)
    whole = numbers(evaluate_keypoints(dataset, [people[n] for n in sorted(people)]))
    order = rng.permutation(list(people)).tolist()
    order += order[: -len(order) % ranks]
    parts = [{n: people[n] for n in order[rank::ranks]} for rank in range(ranks)]
    gathered = gather_by_person(parts)
    assert len(gathered) == len(people)
    np.testing.assert_allclose(numbers(evaluate_keypoints(dataset, gathered)), whole, rtol=0, atol=1e-12)
    assert 0 < whole[0] < 1
