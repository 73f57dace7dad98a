"""From pictures to people, with a network that finds coloured dots: every result is known beforehand."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toy_models import (
    INPUT_SIZE,
    LEFT_SCORE,
    ONE,
    RIGHT_SCORE,
    TOY,
    TOY_COLOURS,
    TWO,
    detector_bytes,
    dot_finder,
    dots,
    png,
    pose_bytes,
    pose_info,
)

import stagepose
from stagepose import oks
from stagepose.config import PredictorConfig
from stagepose.errors import ConfigError, ImageError, ModelError
from stagepose.geometry import crop_affine, fit_box
from stagepose.images import Picture, read_image
from stagepose.modelinfo import stamp
from stagepose.predictor import Predictor, as_detections, crop_heatmaps, decode_crops, load
from stagepose.runtime import DetectorModel, PoseEnsemble, PoseModel
from stagepose.structures import Detections, Person

NEAR = 2.0  # pixels of the picture; one heatmap pixel of these crops is 3 to 6
BOXES = np.array([[42, 52, 119, 159], [200, 72, 271, 199]])  # of TWO


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "pose.onnx").write_bytes(pose_bytes())
    (folder / "detector.onnx").write_bytes(detector_bytes())
    return folder


@pytest.fixture(scope="module")
def predictor(files: Path) -> Predictor:
    return load(files / "pose.onnx", files / "detector.onnx", threads=1)


@pytest.fixture(scope="module")
def without_detector(files: Path) -> Predictor:
    return load(files / "pose.onnx", detector=None, threads=1)


def points(people: list[Person]) -> NDArray[np.float64]:
    """By position from the left, (N, K, 2)."""
    return np.array([p.keypoints for p in sorted(people, key=lambda p: p.box[0])])


def assert_same(a: list[Person], b: list[Person], atol: float = 1e-4) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one.keypoints, other.keypoints, atol=atol)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
        np.testing.assert_allclose(one.box, other.box, atol=atol)
        assert one.score == pytest.approx(other.score, abs=1e-6)


def test_dots_come_back_where_they_were_drawn(predictor: Predictor) -> None:
    [people] = predictor(dots(TWO))
    np.testing.assert_allclose(points(people), TWO, atol=NEAR)
    assert [p.box_score for p in people] == pytest.approx([LEFT_SCORE, RIGHT_SCORE])
    assert all(p.skeleton == TOY and (p.scores > 0.9).all() for p in people)
    np.testing.assert_array_equal([p.box for p in people], BOXES)


def test_people_are_sorted_by_score(predictor: Predictor) -> None:
    [people] = predictor(dots(TWO))
    assert [p.score for p in people] == sorted((p.score for p in people), reverse=True)
    dim_left = dots(TWO)
    dim_left[:, :160] //= 2
    [people] = predictor(dim_left)
    assert people[0].box[0] > 160 and people[0].score > people[1].score


def test_always_a_list_of_lists(predictor: Predictor, tmp_path: Path) -> None:
    image, path = dots(ONE), tmp_path / "photo.png"
    path.write_bytes(png(image))
    for one in (image, path, str(path), path.read_bytes(), read_image(path), [image], (str(path),), image[None]):
        result = predictor(one)
        assert isinstance(result, list) and len(result) == 1 and isinstance(result[0], list)
        assert_same(result[0], predictor(image)[0])
    with path.open("rb") as file:  # lines of a file are no pictures
        assert_same(predictor(file)[0], predictor(image)[0])
    for one in (io.BytesIO(path.read_bytes()), bytearray(path.read_bytes()), Image.fromarray(image)):
        assert_same(predictor(one)[0], predictor(image)[0])
    assert predictor([]) == []
    assert predictor(dots([])) == [[]]
    assert predictor([dots([]), dots([])]) == [[], []]
    assert len(predictor(iter([image, path]))) == 2


def test_many_pictures_give_what_each_gives_alone(predictor: Predictor) -> None:
    images = [dots(TWO), dots([]), dots(ONE), dots(TWO[1:] * 2, (640, 480), radius=16)]
    for together, image in zip(predictor(images), images, strict=True):
        assert_same(together, predictor(image)[0])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_the_batch_size_changes_nothing(predictor: Predictor, batch: int, flip: bool) -> None:
    boxes = np.concatenate([BOXES + shift for shift in (0, 3, -4)])
    whole = predictor.with_config(flip=flip, oks_nms=None)
    [expected] = whole(dots(TWO), boxes=boxes)
    [got] = whole.with_config(batch=batch)(dots(TWO), boxes=boxes)
    assert len(got) == 6
    assert_same(got, expected)


@pytest.mark.parametrize("flip", [False, True])
def test_a_mirrored_picture_has_the_mirrored_people(predictor: Predictor, flip: bool) -> None:
    image = dots(TWO)
    [people] = predictor.with_config(flip=flip)(image)
    [mirrored] = predictor.with_config(flip=flip)(image[:, ::-1])
    back = points(mirrored)[::-1][:, TOY.flip_index]
    back[..., 0] = image.shape[1] - 1 - back[..., 0]
    np.testing.assert_allclose(back, points(people), atol=NEAR)


def test_the_flip_test_finds_the_same_points(predictor: Predictor) -> None:
    [people] = predictor.with_config(flip=True)(dots(TWO))
    np.testing.assert_allclose(points(people), TWO, atol=NEAR)


def test_the_network_sees_rgb(predictor: Predictor) -> None:
    [people] = predictor(dots(ONE))
    [swapped] = predictor(dots(ONE)[..., ::-1])  # BGR: the red nose is blue now
    assert people[0]["nose"][2] > 0.9 and swapped[0]["nose"][2] == 0


def test_exif_turns_the_picture_before_anybody_looks(predictor: Predictor) -> None:
    image = dots(TWO)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left; "rotate right to see it upright"
    [people] = predictor(png(np.rot90(image), exif=exif))
    np.testing.assert_allclose(points(people), TWO, atol=NEAR)


@pytest.mark.parametrize("corner", [(-70, -50), (200, -50), (-45, 80), (205, 85)])
def test_people_cut_by_the_border_keep_their_points(predictor: Predictor, corner: tuple[int, int]) -> None:
    person = ONE[0] + np.array(corner)
    image = dots(person)
    [people] = predictor(image, boxes=[BOXES[0] + np.tile(corner, 2)])
    inside = ((person >= 0) & (person < [320, 240])).all(-1)
    assert inside.sum() >= 1
    np.testing.assert_allclose(people[0].keypoints[inside], person[inside], atol=NEAR)


def test_large_people_in_large_pictures(predictor: Predictor) -> None:
    [people] = predictor(dots(TWO * 8, (2560, 1920), radius=64))
    np.testing.assert_allclose(points(people), TWO * 8, atol=NEAR * 8)


def test_given_boxes_replace_the_detector(without_detector: Predictor) -> None:
    for boxes in (BOXES, BOXES.tolist(), [BOXES], as_detections(BOXES), [as_detections(BOXES)]):
        [people] = without_detector(dots(TWO), boxes=boxes)
        np.testing.assert_allclose(points(people), TWO, atol=NEAR)
        assert {p.box_score for p in people} == {1.0}


def test_given_boxes_for_many_pictures(predictor: Predictor) -> None:
    first, second, third = predictor([dots(TWO)] * 3, boxes=[BOXES[:1], [], None])
    assert len(first) == 1 and second == [] and len(third) == 2


def test_all_given_boxes_are_used(without_detector: Predictor) -> None:
    weak = Detections(boxes=BOXES, scores=np.array([0.01, 0.02]))
    strict = without_detector.with_config(max_people=1, threshold=0.9)
    assert len(strict(dots(TWO), boxes=weak)[0]) == 2


def test_no_detector_and_no_boxes_is_said(without_detector: Predictor) -> None:
    with pytest.raises(ModelError, match="no boxes given, and there is no detector"):
        without_detector(dots(ONE))


@pytest.mark.parametrize(("boxes", "message"), [
    (np.zeros((2, 3)), r"shape \(2, 3\)"),
    ([1, 2, 3, 4], r"shape \(4,\)"),
    ([[1, 2, 3]], r"shape"), ([[1, 2, 3, 4, 0.9]], r"boxes with scores go as stagepose\.Detections\(boxes="),
    ([[10, 10, 5, 20]], "ends before it starts"),
    ([[0, 0, np.nan, 1]], "NaN"),
    ([["a", 0, 1, 1]], "boxes"),
    (Detections(boxes=[[10, 10, 5, 20]], scores=[1]), "ends before it starts"),
])  # fmt: skip
def test_boxes_of_no_shape_are_refused(without_detector: Predictor, boxes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        without_detector(dots(ONE), boxes=boxes)


def test_as_many_boxes_as_pictures(without_detector: Predictor) -> None:
    with pytest.raises(ConfigError, match="1 entries for 2 pictures"):
        without_detector([dots(ONE)] * 2, boxes=[BOXES])
    with pytest.raises(ConfigError, match="one Detections for many pictures"):
        without_detector([dots(ONE)] * 2, boxes=as_detections(BOXES))
    with pytest.raises(ConfigError, match=r"boxes has more entries than there are pictures.* after 1;"):
        without_detector((dots(ONE) for _ in range(1)), boxes=[BOXES] * 2)
    with pytest.raises(ConfigError, match=r"boxes has fewer entries than there are pictures.* after 1;"):
        without_detector([dots(ONE)] * 2, boxes=iter([BOXES]))


@pytest.mark.parametrize("box", [[0, 0, 3e9, 5e9], [-1e18, 0, -1e18 + 50, 50], [0, 0, 9, 1e300]])
def test_boxes_that_no_picture_reaches_are_named(without_detector: Predictor, box: list[float], tmp_path: Path) -> None:
    Image.fromarray(dots(ONE)).save(tmp_path / "one.png")
    with pytest.raises(ConfigError, match=r"one\.png: box \[.*e\+\d+.*\] reaches more than 10,000,000 pixels away from "
                                          r"a picture of 320 x 240; boxes are x1, y1, x2, y2"):
        without_detector(tmp_path / "one.png", boxes=[[10, 10, 60, 90], box])


def test_degenerate_boxes_do_no_harm(without_detector: Predictor) -> None:
    boxes = [[50, 50, 50, 50], [-9000, -9000, -8999, -8000], [0, 0, 1e7, 1e7], [310, 0, 400, 240]]
    [people] = without_detector.with_config(oks_nms=None)(dots(ONE), boxes=boxes)
    assert len(people) == 4 and all(np.isfinite(p.keypoints).all() for p in people)


@pytest.mark.parametrize(("settings", "people"), [
    ({}, 1), ({"rescoring": "mean-above"}, 2), ({"oks_nms": 0.9}, 2), ({"soft_nms": True}, 2),
])  # fmt: skip
def test_near_twins_are_one_person_by_our_rule(without_detector: Predictor, settings: dict[str, Any],
                                               people: int) -> None:
    def still(crops: Any) -> Any:
        maps = np.zeros((len(crops), len(without_detector.skeleton), 32, 24), dtype=np.float32)
        maps[:, :, 16, 12] = 0.9
        return maps

    side = float(np.sqrt((BOXES[0][2:] - BOXES[0][:2]).prod())) * without_detector.info.box_padding
    away = BOXES[0] + 0.097 * side  # the same place of two boxes: an OKS of .6 with the toy's sigmas
    predictor = Predictor(without_detector.info, still, None, PredictorConfig(**settings))
    twice = Detections(boxes=np.array([BOXES[0], away]), scores=np.array([0.5, 0.6]))
    assert len(predictor(dots(ONE), boxes=twice)[0]) == people


@pytest.mark.parametrize(("rule", "settings", "area"), [
    ("geometric", {}, 100 * 50 * 1.25**2), ("mean-above", {}, 125 * 125 / 0.75), ("mean-all", {}, 125 * 125 / 0.75),
    ("megvii", {"oks_nms": 0.9}, 125 * 125 / 0.75), ("mean-above", {"soft_nms": True}, 125 * 125 / 0.75),
    ("geometric", {"box_padding": (1.09, 1.135)}, 100 * 1.09 * 50 * 1.135),
    ("mean-above", {"box_padding": (1.09, 1.135)}, 109 * 109 / 0.75),
])  # fmt: skip
def test_twins_are_measured_by_the_area_of_their_rule(without_detector: Predictor, monkeypatch: pytest.MonkeyPatch,
                                                      rule: str, settings: dict[str, Any], area: float) -> None:
    """HRNet's is of the padded box at the crop's aspect, 20,833 of a box of 100 x 50; ours of the box, 7,812."""
    seen: list[NDArray[np.float64]] = []

    def recorded(points: Any, scores: Any, areas: NDArray[np.float64], sigmas: Any, threshold: float,
                 **limit: int) -> Any:
        seen.append(areas)
        return (oks.soft_oks_nms if limit else oks.oks_nms)(points, scores, areas, sigmas, threshold, **limit)

    for name in ("oks_nms", "soft_oks_nms"):
        monkeypatch.setattr(f"stagepose.predictor.{name}", recorded)
    predictor = without_detector.with_config(rescoring=rule, **settings)
    assert predictor.info.input_size[0] / predictor.info.input_size[1] == 3 / 4
    assert predictor.info.box_padding == 1.25
    predictor(dots(ONE), boxes=[[20, 30, 120, 80]])
    predictor(dots(ONE), boxes=[])
    assert seen[0].tolist() == [pytest.approx(area, rel=1e-12)] and seen[1].shape == (0,)


def test_one_person_boxed_twice_is_one_person(without_detector: Predictor) -> None:
    twice = Detections(boxes=np.array([BOXES[0], BOXES[0] + 1]), scores=np.array([0.5, 0.6]))
    [people] = without_detector(dots(TWO), boxes=twice)
    assert [p.box_score for p in people] == [0.6]
    assert len(without_detector.with_config(oks_nms=None)(dots(TWO), boxes=twice)[0]) == 2


def test_threshold_and_max_people_choose_detections(predictor: Predictor) -> None:
    predictor = predictor.with_config(rescoring="mean-above")
    better, worse = predictor(dots(TWO))[0]
    assert better.box_score > better.score > worse.score
    between = (better.score + worse.score) / 2
    assert [p.score for p in predictor.with_config(threshold=between)(dots(TWO))[0]] == [better.score]
    assert [p.score for p in predictor.with_config(threshold=better.score)(dots(TWO))[0]] == [better.score]
    nearly = predictor.with_config(threshold=(better.score + better.box_score) / 2)
    assert nearly(dots(TWO)) == [[]]  # the box is good enough, the person in it is not
    boxes = np.array([better.box, worse.box])
    assert len(nearly(dots(TWO), boxes=Detections(boxes=boxes, scores=np.full(2, 0.1)))[0]) == 2  # a caller's all stay
    far = predictor.with_config(threshold=0.0, box_threshold=(LEFT_SCORE + RIGHT_SCORE) / 2)
    assert len(far(dots(TWO))[0]) == 1
    [people] = predictor.with_config(max_people=1)(dots(TWO))
    assert [p.box_score for p in people] == pytest.approx([LEFT_SCORE])


def test_of_all_people_the_best_or_the_largest_are_kept(predictor: Predictor) -> None:
    dim_left = dots(TWO)
    dim_left[:, :160] //= 2  # the better box, and the worse person in it
    best, other = predictor(dim_left)[0]
    assert best.box_score < other.box_score and predictor.with_config(max_people=1)(dim_left)[0][0].box[0] < 160
    for picture in (dim_left, dim_left[:, ::-1]):
        [kept] = predictor.with_config(keep=1)(picture)
        assert_same(kept, predictor(picture)[0][:1])
    wide = np.concatenate([BOXES[:1] - [42, 20, -40, -20], BOXES[1:]])
    [people] = predictor(dim_left, boxes=wide)
    [large] = predictor.with_config(keep=1, keep_by="size")(dim_left, boxes=wide)
    assert large[0].box.tolist() == wide[0].tolist() == people[1].box.tolist()
    several = predictor.with_config(keep=np.int64(2), keep_by="size")
    assert_same(several(dim_left, boxes=wide)[0], people)  # best first all the same
    assert several(dots([])) == [[]]


def test_a_model_brings_its_own_threshold_which_settings_replace(tmp_path: Path) -> None:
    (tmp_path / "boxes.onnx").write_bytes(detector_bytes())

    def toy(own: float | None) -> Predictor:
        (tmp_path / "own.onnx").write_bytes(pose_bytes(threshold=own))
        return load(tmp_path / "own.onnx", tmp_path / "boxes.onnx", threads=1, rescoring="mean-above")

    usual = toy(None)
    better, worse = usual(dots(TWO))[0]
    assert usual.threshold == 0.5 and usual.config.threshold is None
    strict = toy((better.score + worse.score) / 2)
    assert [p.score for p in strict(dots(TWO))[0]] == [better.score]
    assert len(strict.with_config(threshold=0.2)(dots(TWO))[0]) == 2
    assert strict.with_config(threshold=0.2).with_config(threshold=None).threshold == strict.threshold
    assert toy(0.0).threshold == 0  # a score, not "none"
    with pytest.raises(ModelError, match=r"threshold is 1\.5; expected a score, a number from 0 to 1"):
        toy(1.5)


def test_scores_follow_the_rule(predictor: Predictor) -> None:
    half_lit = dots(ONE)
    half_lit[130:] = half_lit[130:] // 8  # hands at an eighth: below .2
    [[ours]] = predictor(half_lit, boxes=BOXES[:1])
    [[person]] = predictor.with_config(rescoring="mean-above")(half_lit, boxes=BOXES[:1])
    assert person.scores.max() > 0.9 and sorted(person.scores)[1] < 0.2
    assert ours.score == pytest.approx(person.scores.mean() ** (2 / 3))
    assert person.score == pytest.approx(person.scores.max())
    [[all_joints]] = predictor.with_config(rescoring="mean-all")(half_lit, boxes=BOXES[:1])
    assert all_joints.score == pytest.approx(person.scores.mean())


def test_box_padding_can_replace_the_models(predictor: Predictor) -> None:
    [wide] = predictor.with_config(box_padding=2.0)(dots(TWO))
    np.testing.assert_allclose(points(wide), TWO, atol=2 * NEAR)
    assert wide[0].scores.mean() < predictor(dots(TWO))[0][0].scores.mean()  # smaller dots in the crop
    np.testing.assert_array_equal(sorted(p.box[0] for p in wide), [42, 200])  # the box itself is never padded


def test_a_pair_of_paddings_cuts_crops_as_megvii_does(without_detector: Predictor) -> None:
    """Whether settings or the model's file say so, and at every scale."""
    seen: list[NDArray[np.uint8]] = []

    def network(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(crops)
        return without_detector.network(crops)

    picture, pair, wide = dots(TWO), (1.09, 1.135), [20.0, 60, 220, 160]
    told = Predictor(without_detector.info, network).with_config(box_padding=list(pair), scales=(1.0, 1.2))
    own = Predictor(replace(without_detector.info, box_padding=pair), network)
    people = [predictor(picture, boxes=[wide])[0][0] for predictor in (told, own)]
    views = [np.array([120 - 218 * scale / 2, 110 - 218 * scale * 2 / 3, 120 + 218 * scale / 2,
                       110 + 218 * scale * 2 / 3]) for scale in (1, 1.2, 1)]
    assert INPUT_SIZE[0] / INPUT_SIZE[1] == 3 / 4
    for crops, view in zip(seen, views, strict=True):
        np.testing.assert_array_equal(crops[0], crop_affine(view, INPUT_SIZE).warp(picture, INPUT_SIZE))
    assert told.config.box_padding == pair and people[0].box.tolist() == people[1].box.tolist() == wide


def test_pictures_are_not_changed(predictor: Predictor) -> None:
    image = dots(TWO)
    before = image.copy()
    predictor.with_config(flip=True)(image)
    np.testing.assert_array_equal(image, before)


def test_bad_pictures_are_image_errors(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        predictor(tmp_path / "none.jpg")
    with pytest.raises(ImageError):
        predictor([dots(ONE), b"not a picture"])
    with pytest.raises(ImageError):
        predictor([3])  # type: ignore[list-item]
    with pytest.raises(ImageError, match="pixels"):
        predictor.with_config(max_pixels=100)(png(dots(ONE)))


def test_a_stream_reads_one_picture_at_a_time(predictor: Predictor) -> None:
    stream = predictor.stream([dots(ONE), b"broken", dots(TWO)])
    assert len(next(stream)) == 1
    with pytest.raises(ImageError):
        next(stream)


@pytest.mark.parametrize("with_boxes", [False, True])
def test_a_stream_of_endless_pictures_gives_one_after_the_other(predictor: Predictor, with_boxes: bool) -> None:
    asked: list[int] = []

    def camera() -> Iterator[NDArray[np.uint8]]:
        for number in itertools.count():
            asked.append(number)
            yield dots(TWO)

    stream = predictor.stream(camera(), boxes=itertools.repeat(BOXES) if with_boxes else None)
    for number in range(3):
        assert len(next(stream)) == 2
        assert asked == list(range(number + 1))


@pytest.mark.parametrize(("picture", "message"), [
    (3, "<int>: not a picture; .* or a Pillow picture$"),
    (None, "<NoneType>: not a picture; .*; cv2.imread gives None for a file that it cannot read$"),
    (Path(__file__).parent, r'is a folder, not a picture; name the files in it, such as Path\(folder\)\.glob'),
])  # fmt: skip
def test_what_is_no_picture_at_all_is_said(predictor: Predictor, picture: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        predictor(picture)


@pytest.mark.parametrize(("settings", "people"), [
    ({}, 1), ({"rescoring": "megvii"}, 2), ({"rescoring": "megvii", "oks_nms": 0.9}, 1), ({"oks_nms": None}, 2),
])  # fmt: skip
def test_megviis_rule_drops_nobody_unless_told(without_detector: Predictor, settings: dict[str, Any],
                                               people: int) -> None:
    twice = Detections(boxes=np.array([BOXES[0], BOXES[0] + 1]), scores=np.array([0.5, 0.6]))
    assert len(without_detector.with_config(**settings)(dots(TWO), boxes=twice)[0]) == people


def test_any_callable_is_a_network() -> None:
    seen: list[tuple[int, ...]] = []

    def network(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(crops.shape)
        assert crops.flags.c_contiguous
        return np.zeros((len(crops), 3, 32, 24), np.float32)

    predictor = Predictor(pose_info(), network, config=PredictorConfig(batch=2, flip=True, oks_nms=None))
    [people] = predictor(dots(TWO), boxes=np.concatenate([BOXES, BOXES[:1]]))
    assert len(people) == 3 and {p.score for p in people} == {0.0}
    assert seen == [(2, 128, 96, 3)] * 2 + [(1, 128, 96, 3)] * 2


@pytest.mark.parametrize(("maps", "message"), [
    (np.zeros((1, 4, 32, 24), np.float32), r"shape \(1, 4, 32, 24\), expected \(1, 3, 32, 24\)"),
    (np.full((1, 3, 32, 24), np.nan, np.float32), "NaN"),
])  # fmt: skip
def test_a_network_that_breaks_its_word_is_named(maps: NDArray[np.float32], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Predictor(pose_info(), lambda crops: maps)(dots(ONE), boxes=BOXES[:1])


def test_a_file_whose_weights_are_nan_is_named_with_what_to_do(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a.onnx", "b.onnx")]
    for name in names:
        Path(name).write_bytes(stamp(dot_finder(TOY_COLOURS * np.nan).SerializeToString(), pose_info()))
    for source, told in ((names[0], names[0]), (names, " + ".join(names))):
        with pytest.raises(ModelError) as error:
            load(source, detector=None, threads=1)(dots(ONE), boxes=BOXES[:1])
        assert str(error.value) == (f"{told}: the network gave NaN or infinite heatmaps; its weights are broken. "
                                    "Export it again from an earlier step: stagepose export RUN --step N")


def test_crops_alone_give_the_same_points(files: Path, without_detector: Predictor) -> None:
    model = PoseModel(files / "pose.onnx", threads=1)
    affines = [crop_affine(fit_box(box, INPUT_SIZE[0] / INPUT_SIZE[1]), INPUT_SIZE) for box in BOXES]
    crops = np.stack([affine.warp(dots(TWO), INPUT_SIZE) for affine in affines])
    xy, scores = decode_crops(model.codec, TOY, crop_heatmaps(model, TOY, model.codec, crops), affines)
    [people] = without_detector(dots(TWO), boxes=BOXES)
    np.testing.assert_allclose(xy, points(people))
    assert scores.shape == (2, 3)
    none = decode_crops(model.codec, TOY, crop_heatmaps(model, TOY, model.codec, crops[:0], flip=True), [])
    assert none[0].shape == (0, 3, 2) and none[1].shape == (0, 3)


def test_several_scales_see_the_same_people(without_detector: Predictor) -> None:
    """Larger and smaller crops alone find the same dots; so does their mean."""
    [usual] = without_detector(dots(TWO), boxes=BOXES)
    for scales in ((1.3,), (0.85,), (0.85, 1.0, 1.3)):
        [people] = without_detector.with_config(scales=scales)(dots(TWO), boxes=BOXES)
        np.testing.assert_allclose(points(people), points(usual), atol=3 * NEAR)


def test_soft_nms_lowers_whom_nms_drops(without_detector: Predictor) -> None:
    twice = np.concatenate([BOXES[:1], BOXES[:1] + 1])
    [kept] = without_detector(dots(TWO), boxes=twice)
    [plain] = without_detector.with_config(oks_nms=None)(dots(TWO), boxes=twice)
    [lowered] = without_detector.with_config(soft_nms=True)(dots(TWO), boxes=twice)
    assert (len(kept), len(plain), len(lowered)) == (1, 2, 2)
    assert lowered[0].score == plain[0].score and lowered[1].score < 0.5 * plain[1].score


def test_soft_nms_leaves_nobody_of_a_crowd_out(without_detector: Predictor) -> None:
    crowd = np.repeat(BOXES, 15, axis=0)  # more than COCO judges
    [people] = without_detector.with_config(soft_nms=True)(dots(TWO), boxes=crowd)
    assert len(people) == 30


def test_a_mean_of_networks_is_one_network(files: Path, tmp_path: Path) -> None:
    one = load(files / "pose.onnx", None, threads=1)
    several = load([files / "pose.onnx"] * 3, None, threads=1)
    assert several.info.name == "toy-pose + toy-pose + toy-pose"
    assert_same(several(dots(TWO), boxes=BOXES)[0], one(dots(TWO), boxes=BOXES)[0])
    bold = tmp_path / "bold.onnx"
    bold.write_bytes(pose_bytes(threshold=0.2))
    assert load([files / "pose.onnx", bold], None).threshold == pytest.approx((0.5 + 0.2) / 2)
    wide = tmp_path / "wide.onnx"
    wide.write_bytes(pose_bytes(box_padding=1.5))
    with pytest.raises(ModelError, match=r"wide.onnx: its box padding is 1.5, that of .*pose.onnx is 1.25; only"):
        load([files / "pose.onnx", wide], None)
    with pytest.raises(ConfigError, match="pose is empty"):
        load([], None)


def test_a_mean_of_unlike_networks_lies_between_them() -> None:
    class Faint(PoseModel):
        def __call__(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
            return super().__call__(crops_NHW3) / 2

    one, faint = PoseModel(pose_bytes(), threads=1), Faint(pose_bytes(), threads=1)
    w, h = INPUT_SIZE
    crops = np.random.default_rng(0).integers(0, 256, (2, h, w, 3), dtype=np.uint8)
    np.testing.assert_allclose(PoseEnsemble([one, faint, faint])(crops), one(crops) * 2 / 3, rtol=1e-6)


@pytest.mark.parametrize("tiles", [None, 100])
def test_most_people_are_the_best_boxes_of_a_detector_that_gives_them_in_any_order(predictor: Predictor,
                                                                                   tiles: int | None) -> None:
    best_last = predictor.detector(dots(TWO))
    best_last = Detections(boxes=best_last.boxes[::-1], scores=best_last.scores[::-1])
    assert best_last.scores[0] < best_last.scores[1]
    own = Predictor(predictor.info, predictor.network, lambda pixels: best_last if pixels.shape == dots(TWO).shape else
                    Detections(boxes=[], scores=[]), PredictorConfig(max_people=1, tiles=tiles))
    assert own.detect(read_image(dots(TWO))).scores.tolist() == [best_last.scores[1]]
    [people] = own(dots(TWO))
    assert [person.box_score for person in people] == [best_last.scores[1]]


@pytest.mark.parametrize(("settings", "message"), [
    ({"scales": ()}, r"scales is \(\)"), ({"scales": (1.0, 3.0)}, "scales is"),
    ({"soft_nms": True, "oks_nms": None}, "soft_nms"), ({"soft_nms": True, "rescoring": "megvii"}, "soft_nms"),
    ({"threshold": 2}, "threshold is 2"), ({"threshold": -0.1}, "threshold is -0.1"),
    ({"batch": 0}, "batch is 0"), ({"oks_nms": 0.0}, "oks_nms"),
    ({"oks_nms": "off"}, "oks_nms is 'off'"),
    ({"rescoring": "luck"}, "rescoring is 'luck'"), ({"box_padding": 0.1}, "box_padding"),
    ({"box_padding": (1.1, 0.1)}, r"box_padding is \(1\.1, 0\.1\); use 0\.5 to 4"), ({"max_people": 0}, "max_"),
    ({"flipp": True}, "no setting 'flipp'; did you mean flip?"), ({"xyzzy": 1}, "; the settings are batch, .*, tiles$"),
    ({"device": "cpu"}, r"did you mean providers\? The settings are .*, providers, .*, threads, "),
    ({"conf": 0.3}, r"did you mean threshold\?"),
    ({"threshold": "half"}, "threshold is 'half', expected a number"),
    ({"threshold": True}, "threshold is True, expected a number"), ({"keep": True}, "keep is True, expected a number"),
    ({"batch": False}, "batch is False, expected a number"), ({"scales": (True,)}, "scales is .* several numbers"),
    ({"tiles": True}, "tiles is True; use the side"), ({"oks_nms": True}, "oks_nms is True, expected a number"),
    ({"scales": 1.0}, r"scales is 1\.0, expected several numbers"),
    ({"keep": 0}, "keep is 0; use a whole number"), ({"keep": 1, "keep_by": "age"}, "keep_by is 'age'; use 'score'"),
    ({"keep_by": "size"}, "keep_by is 'size', which says whom to keep; give keep"),
    ({"max_people": 2.5}, "max_people is 2.5; use a whole number"), ({"max_pixels": float("inf")}, "max_pixels"),
])  # fmt: skip
def test_settings_are_checked(files: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(files / "pose.onnx", None, threads=1, **settings)


@pytest.mark.parametrize("name", PredictorConfig.__dataclass_fields__)
@pytest.mark.parametrize("value", ["x", [1, "x"], 1 + 1j, {"x": 1}, float("nan"), np.array([[0.5, 1]])])
def test_settings_of_another_kind_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} is "):
        PredictorConfig(**{name: value})


@pytest.mark.parametrize("pose", [None, 5, io.BytesIO(b"model\nmodel"), [None]])
def test_what_is_no_model_is_refused_by_its_type(pose: Any) -> None:
    with pytest.raises(ModelError, match=r"^model: got a \w+; give a name that ships \(.*pose-small"):
        load(pose, None)


def test_settings_may_be_numpys(without_detector: Predictor) -> None:
    config = without_detector.with_config(scales=np.array([1.0, 1.25]), batch=np.int64(3), max_pixels=1e8).config
    assert config == PredictorConfig(scales=(1.0, 1.25), batch=3, max_pixels=100_000_000)


def test_a_detector_is_no_pose_model(files: Path) -> None:
    with pytest.raises(ModelError, match=r"pose model is expected\. A detector goes with a pose model: load\(POSE, "):
        load(files / "detector.onnx", None)
    with pytest.raises(ModelError, match=r"detector model is expected\. The pose model comes first: load\(POSE, det"):
        load(files / "pose.onnx", files / "pose.onnx")
    detector = DetectorModel(files / "detector.onnx", threads=1)
    with pytest.raises(ModelError, match="not a pose model"):
        Predictor(detector.info, lambda crops: np.zeros(0, np.float32))


@pytest.mark.parametrize(("models", "message"), [
    (["pose-gigantic"], r"'pose-gigantic': no such file\. Give .* names that ship: pose-medium, pose-small$"),
    (["medium"], r"'medium': no such file\. Did you mean 'pose-medium'\? Give .* pose-medium, pose-small$"),
    (["pose-large"], r"'pose-large': no such file\. It is a preset of 'stagepose train', and does not ship\. Give"),
    (["pose-small", "person"], r"Did you mean 'person-small'\? Give .* names that ship: person-small$"),
])  # fmt: skip
def test_a_name_that_does_not_ship_lists_what_does(models: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(*models)


def test_a_predictor_is_shown_on_one_short_line(predictor: Predictor, without_detector: Predictor) -> None:
    assert repr(predictor) == "<Predictor: pose toy-pose, detector toy-detector, threshold 0.5>"
    assert repr(without_detector) == "<Predictor: pose toy-pose, detector none, threshold 0.5>"
    own = Predictor(predictor.info, predictor.network, lambda pixels: Detections(boxes=[], scores=[]))
    assert repr(own) == "<Predictor: pose toy-pose, detector your own, threshold 0.5>"


def test_of_other_settings_none_of_load_is_meant(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match=r"^no setting 'treshold'; did you mean threshold\? .*soft_nms, threshold, "):
        predictor.with_config(treshold=0.2)


def test_a_run_folder_is_no_model_yet(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"a run folder; .*: stagepose export .*--out MODEL\.onnx"):
        load(tmp_path)


def test_models_may_be_the_bytes_of_their_files(predictor: Predictor) -> None:
    in_memory = load(pose_bytes(), detector_bytes(), threads=1, providers="cpu")
    assert_same(in_memory(dots(TWO))[0], predictor(dots(TWO))[0])


def test_a_default_detector_that_does_not_ship_says_how_to_do_without(files: Path, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stagepose.runtime.WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"person-small\.onnx is missing.*detector=None, and boxes= with every call"):
        load(files / "pose.onnx")
    with pytest.raises(ModelError) as error:
        load(files / "pose.onnx", tmp_path / "mine.onnx")
    assert "detector=None" not in str(error.value)


def test_pictures_read_before_are_taken(predictor: Predictor) -> None:
    [people] = predictor(Picture(dots(TWO), "mine"))
    assert len(people) == 2


# --- the public surface


def test_the_public_surface_is_pinned() -> None:
    assert set(stagepose.__all__) == {
        "COCO_17", "CROWDPOSE_14", "LSP_14", "MPII_16", "CheckpointError", "ConfigError", "DatasetError", "Detections",
        "Frame", "ImageError", "MissingExtraError", "ModelError", "ModelInfo", "Part", "Person", "Picture", "Predictor",
        "PredictorConfig", "Skeleton", "SkeletonError", "Smoother", "StagePoseError", "Tracker", "TrainingError",
        "VideoError", "VideoReader", "VideoWriter", "__version__", "draw_people", "load", "newest", "people_in",
        "read_image", "video", "write_image",
    }  # fmt: skip
    assert all(getattr(stagepose, name) is not None for name in stagepose.__all__)
    assert dir(stagepose) == sorted(stagepose.__all__)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = stagepose.nothing_of_the_kind


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert stagepose.__version__ == project["version"]


def test_neither_torch_nor_anything_heavy_is_imported_unasked() -> None:
    heavy = "{'torch', 'torchvision', 'onnx', 'scipy', 'matplotlib', 'faster_coco_eval', 'av'}"
    code = (
        "import sys, stagepose\n"
        "assert not {'numpy', 'cv2', 'onnxruntime', 'torch'} & set(sys.modules), 'on import'\n"
        "[getattr(stagepose, name) for name in stagepose.__all__]\n"
        f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_copy_of_a_predictor_finds_the_same_people(predictor: Predictor) -> None:
    expected = [person.to_dict() for person in predictor(dots(TWO))[0]]
    for made in (copy.copy(predictor), copy.deepcopy(predictor)):
        assert [person.to_dict() for person in made(dots(TWO))[0]] == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_predictor_is_told_to_be_opened_where_it_is_wanted(predictor: Predictor, protocol: int) -> None:
    several = load([pose_bytes(), pose_bytes()], None, threads=1)
    for kept in (predictor, several, predictor.detector):
        with pytest.raises(ModelError, match=r": an open model cannot be pickled .*load\(\) in each process"):
            pickle.dumps(kept, protocol)
    assert pickle.loads(pickle.dumps(predictor.config, protocol)) == predictor.config
