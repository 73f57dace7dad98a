"""Pasted people: mattes that fit, labels that follow the pixels, and the command that makes a set of them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tiny import HEIGHT, WIDTH, contents, tiny_coco

from stagepose.cli import main
from stagepose.coco import check_dataset, read_dataset
from stagepose.commands import gan as gan_command
from stagepose.errors import ConfigError
from stagepose.extend import Extended, Judge
from stagepose.extend.paste import PasteConfig, PasteRecipe
from stagepose.extend.paste import recipe as recipe_module
from stagepose.extend.paste.body import body_mask
from stagepose.extend.paste.cutting import Cutout, cut_out
from stagepose.extend.paste.recipe import LEAST_HEIGHT, can_be_cut
from stagepose.extend.paste.scene import Figure, Scene
from stagepose.extend.paste.segments import mask_of
from stagepose.images import read_image
from stagepose.rendering.families import draw_stance
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.picture import draw_picture
from stagepose.rendering.scene import draw_scene
from stagepose.skeleton import COCO_17, Skeleton

TWO = Skeleton(name="two", names=("head", "foot"), limbs=(("head", "foot"),))


def drawn_set(folder: Path, images: int = 6, people: int = 2) -> Path:
    """tiny's people with their segments, which are wherever there is colour; one of the pictures without people."""
    path = tiny_coco(folder, images=images, people=people)
    raw = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in raw["images"]}
    for row in raw["annotations"]:
        pixels = read_image(folder / "images" / names[row["image_id"]]).pixels.astype(int)
        coloured = np.ptp(pixels, axis=2) > 0
        x, y, w, h = (round(value) for value in row["bbox"])
        mine = np.zeros_like(coloured)
        mine[y : y + h, x : x + w] = coloured[y : y + h, x : x + w]
        row["segmentation"] = packed(mine)
    path.write_text(json.dumps(raw))
    (folder / "negatives").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT), (105, 105, 105)).save(folder / "negatives" / "empty.png")
    return path


def packed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    coded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": coded["size"], "counts": coded["counts"].decode("ascii")}


# --- segments


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_read_as_cocos_own_library_writes_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 60), rng.integers(1, 90))) < rng.random()
    if seed % 2:  # long runs, whose differences need several letters
        mask = np.kron(mask, np.ones((9, 31), dtype=bool))
    found = mask_of(packed(mask), *mask.shape)
    assert found is not None and (found == mask).all()
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]]).astype(int)))
    plain = np.diff(np.concatenate([[0], changes])).tolist()
    again = mask_of({"size": list(mask.shape), "counts": plain}, *mask.shape)
    assert again is not None and (again == mask).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of the library's own arrays
@pytest.mark.parametrize("seed", range(8))
def test_polygons_are_filled_as_cocos_own_library_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles, radii = np.sort(rng.uniform(0, 2 * np.pi, 12)), rng.uniform(15, 45, 12)
    polygon = np.column_stack([40 + radii * np.cos(angles), 30 + radii * np.sin(angles)]).round(seed % 3)
    found = mask_of([polygon.ravel().tolist()], 60, 70)  # some of it lies outside
    theirs = coco_mask.decode(coco_mask.frPyObjects([polygon.ravel().tolist()], 60, 70))[:, :, 0] > 0
    assert found is not None and (found != theirs).sum() < 60 and abs(int(found.sum()) - int(theirs.sum())) < 25


def test_polygons_are_in_edges_and_nonsense_is_none() -> None:
    square = mask_of([[10, 20, 30, 20, 30, 50, 10, 50]], 60, 40)
    assert square is not None and square[20:50, 10:30].all() and square.sum() == 20 * 30
    for nonsense in (None, [], [[1, 2]], "x", {"size": [3, 3], "counts": "é"}, {"size": [9, 9], "counts": [1]},
                     {"counts": [1]}, [["a", "b"]], {"size": [60, 40], "counts": [10**12]},
                     {"size": [60, 40], "counts": [3000, -600]},
                     [[1, 1, 5, 1, float("nan"), 5]], [[1, 1, 1e308, 1, -1e308, 5]], 5):
        assert mask_of(nonsense, 60, 40) is None


# --- mattes


def overlap(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return float((found & mask).sum() / (found | mask).sum())


def test_mattes_of_rendered_people_fit_without_any_segment() -> None:
    """People rendered alone, whose masks are known to the pixel: better than what keypoints tell by themselves."""
    landmarks, overlaps, capsules = read_landmarks(COCO_FILE), [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        pixels, labels = draw_picture(rng, draw_scene(rng, 256, 1, draw_stance), landmarks, None)
        if not labels or not labels[0].mask.any() or (labels[0].keypoints[:, 2] == 2).sum() < 6:
            continue
        rows, columns = (np.flatnonzero(labels[0].mask.any(axis=axis)) for axis in (1, 0))
        if np.ptp(rows) < LEAST_HEIGHT:
            continue
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)
        cutout = cut_out(pixels, box, labels[0].keypoints, None, COCO_17)
        if cutout is None:
            continue
        scene = Scene(np.zeros_like(pixels), [])
        k = int(np.flatnonzero(labels[0].keypoints[:, 2])[0])
        left, top = np.round(labels[0].keypoints[k, :2] - cutout.keypoints[k, :2]).astype(int)
        found = scene.matte_of(cutout, int(left), int(top))
        overlaps.append(overlap(found, labels[0].mask))
        root = float(np.sqrt((box[2:] - box[:2]).prod()))
        capsules.append(overlap(body_mask(labels[0].keypoints, root, COCO_17, *found.shape), labels[0].mask))
    assert len(overlaps) >= 4 and np.mean(overlaps) > 0.78 and np.mean(overlaps) > np.mean(capsules)


def test_a_person_of_the_colour_of_the_wall_is_not_cut_out() -> None:
    grey = np.full((100, 80, 3), 100, dtype=np.uint8)
    keypoints = np.tile([40.0, 50.0, 2.0], (17, 1))
    assert cut_out(grey, np.array([10.0, 10, 70, 90]), keypoints, None, COCO_17) is None


def square_person(segment: list[list[float]], *keypoints: list[float]) -> Cutout | None:
    """Somebody whose segment is known, in a picture of noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (100, 80, 3), dtype=np.uint8)
    return cut_out(pixels, np.array([20.0, 10, 60, 90]), np.array(keypoints), segment, TWO)


def test_a_matte_lies_inside_its_segment_by_as_much_on_every_side() -> None:
    cutout = square_person([[20, 10, 60, 10, 60, 90, 20, 90]], [40, 20, 2], [40, 80, 2])
    assert cutout is not None
    np.testing.assert_allclose(cutout.matte, cutout.matte[::-1, ::-1], atol=1e-6)
    assert abs(float(cutout.matte.sum()) - 39 * 79) < 4


def test_what_the_matte_leaves_behind_is_hidden() -> None:
    cutout = square_person([[20, 10, 60, 10, 60, 90, 20, 90]], [60.4, 20, 2], [66, 80, 2])
    assert cutout is not None and cutout.keypoints[:, 2].tolist() == [2, 1]  # one on the edge, one beside it


def test_a_segment_as_thin_as_a_hair_is_nobody(tmp_path: Path) -> None:
    hair = [[40.0, 10, 40, 90, 40, 10]]
    cutout = square_person(hair, [40, 20, 2], [40, 80, 2])
    assert cutout is None or not cutout.covers.any()
    path = drawn_set(tmp_path)
    raw = json.loads(path.read_text())
    for row in raw["annotations"]:
        x, y, _, h = row["bbox"]
        row["segmentation"] = [[x + 9, y, x + 9, y + h, x + 9, y]]
    path.write_text(json.dumps(raw))
    made = PasteRecipe(data=path, config=PasteConfig(over=1.0)).maker().make(range(4))
    assert {type(one).__name__ for one in made} == {"Refused"}


def test_a_mirrored_cutout_shows_the_other_side() -> None:
    cutout = Cutout(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), np.ones((4, 5), np.float32),
                    np.array([[0.0, 1, 2], [4, 2, 2]]), np.zeros(3))
    pair = Skeleton(name="pair", names=("left_x", "right_x"), flip_pairs=(("left_x", "right_x"),))
    mirrored = cutout.resized(1.0, True, pair)
    assert (mirrored.pixels == cutout.pixels[:, ::-1]).all()
    assert mirrored.keypoints.tolist() == [[0, 2, 2], [4, 1, 2]]
    double = cutout.resized(2.0, False, pair)
    assert double.pixels.shape == (8, 10, 3) and double.keypoints[0].tolist() == [0.5, 2.5, 2]


# --- labels


def block(height: int = 10, width: int = 10) -> Cutout:
    return Cutout(np.full((height, width, 3), 200, np.uint8), np.ones((height, width), np.float32),
                  np.array([[2.0, 2, 2], [7, 7, 2]]), np.full(3, 100.0))


def scene_of(keypoints: list[list[float]], box: list[float], guessed: bool) -> tuple[Scene, Figure]:
    mask = np.zeros((40, 60), dtype=bool)
    x1, y1, x2, y2 = map(int, box)
    mask[y1:y2, x1:x2] = True
    figure = Figure(np.array(keypoints, dtype=float), np.array(box, dtype=float), 100.0, mask, guessed, new=False)
    return Scene(np.full((40, 60, 3), 100, np.uint8), [figure]), figure


@pytest.mark.parametrize("guessed", [False, True])
def test_what_is_covered_is_hidden_and_box_and_area_are_of_what_is_left(guessed: bool) -> None:
    scene, figure = scene_of([[12, 12, 2], [12, 25, 1]], [10, 10, 20, 30], guessed)
    scene.paste(block(10, 20), 5, 6, {})
    below, above = (each.labelled() for each in scene.figures)
    assert figure.keypoints.tolist() == [[12, 12, 1], [12, 25, 1]]
    assert below is not None and above is not None
    assert below.box_xyxy.tolist() == [10, 16, 20, 30]
    assert below.area == pytest.approx(70.0 if guessed else 140)  # of 100, the file's own, 70 % are left
    assert above.box_xyxy.tolist() == [5, 6, 25, 16] and above.area == 200
    assert above.keypoints.tolist() == [[7, 8, 2], [12, 13, 2]]


def test_who_is_not_touched_is_a_bystander_and_who_is_gone_is_no_one() -> None:
    scene, _ = scene_of([[12, 12, 2], [12, 25, 2]], [10, 10, 20, 30], True)
    scene.paste(block(), 40, 20, {})
    untouched = scene.figures[0].labelled()
    assert untouched is not None and not untouched.new and untouched.box_xyxy.tolist() == [10, 10, 20, 30]
    scene.paste(block(30, 30), 5, 5, {})
    assert scene.figures[0].labelled() is None


def test_outside_of_the_frame_there_are_no_keypoints() -> None:
    scene = Scene(np.full((40, 60, 3), 100, np.uint8), [])
    scene.paste(block(), -5, 10, {})
    person = scene.figures[0].labelled()
    assert person is not None and person.keypoints.tolist() == [[0, 0, 0], [2, 17, 2]]
    assert person.box_xyxy.tolist() == [0, 10, 5, 20] and person.area == 50


def test_visible_keypoints_have_their_own_colour_and_hidden_ones_have_not(tmp_path: Path) -> None:
    """tiny draws every joint as a disc of its own colour: what the labels say can be seen."""
    path = drawn_set(tmp_path)
    config = PasteConfig(mirror=0.0)
    colours = np.random.default_rng(17).integers(0, 256, (64, 3))[:17]
    right, hidden = [], []
    for made in PasteRecipe(data=path, negatives=tmp_path / "negatives", config=config).maker().make(range(25)):
        for person in made.people:  # type: ignore[union-attr]
            for k in np.flatnonzero(person.keypoints[:, 2]):
                x, y, v = np.round(person.keypoints[k]).astype(int)
                near = made.pixels[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].reshape(-1, 3)  # type: ignore[union-attr]
                gap = np.abs(near[:, None].astype(int) - colours).sum(-1)
                (right if v == 2 else hidden).append(k in gap.argmin(1))
    assert len(right) > 200 and np.mean(right) > 0.9
    assert len(hidden) > 30 and np.mean(hidden) < 0.4


# --- the command


def extend(*words: str) -> int:
    return main(["gan", "extend", *words])


def test_the_command_says_whose_segments_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = drawn_set(tmp_path / "data", images=3)
    raw = json.loads(path.read_text())
    for row, segmentation in zip(raw["annotations"], ([[1, 2, 3]], {"size": [1, 1], "counts": "1"}), strict=False):
        row["segmentation"] = segmentation
    path.write_text(json.dumps(raw))
    assert extend(str(path), "-n", "2", "--out", str(tmp_path / "out"), "--jobs", "1") == 0
    said = capsys.readouterr().err
    assert "2 segments of people not used" in said and "such as that of annotation 1: segmentation[0] has 3" in said
    assert [problem.kind for problem in check_dataset(path)] == ["segmentation"] * 2


def test_the_least_oks_is_of_a_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(drawn_set(tmp_path / "data"))
    assert extend(path, "-n", "1", "--out", str(tmp_path / "out"), "--least-oks", "7") == 1
    assert "--least-oks 7 is for --judge MODEL; leave it out, or name a judge" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_makes_an_ordinary_set_the_same_from_the_same_seed(tmp_path: Path) -> None:
    path = str(drawn_set(tmp_path / "data"))
    for out, more in (("a", ("--jobs", "1")), ("b", ("--jobs", "2")), ("c", ("--jobs", "1", "--seed", "1"))):
        assert extend(path, "-n", "10", "--out", str(tmp_path / out), *more) == 0
    file = tmp_path / "a/person_keypoints.json"
    assert check_dataset(file, images_dir=tmp_path / "a/images") == []
    found = read_dataset(file)
    assert len(found.generated) == len(found.images) >= 9 and found.with_keypoints().sum() >= 9
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    raw = json.loads(file.read_text())
    assert {source["file_name"] for image in raw["images"] for source in image["sources"]} <= {
        "empty.png", *(f"{n:012d}.png" for n in range(1, 7))}
    known = [row for row in raw["annotations"] if row["num_keypoints"]]
    assert all(row["generated"] and row["source"]["person"] for row in known)


def test_the_bars_of_the_judges_histogram_begin_in_one_column(tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    done = Extended(file="a.json", asked=9, pictures=9, people=8, dropped=1, unjudged=3, refused={},
                    histogram=[0, 1, 0, 0, 0, 0, 0, 2, 0, 6])
    gan_command._report(done, Judge(model="pose-small"))
    printed = capsys.readouterr()
    assert "3 people not judged, and kept: pose-small finds none of the keypoints" in printed.err
    bars = [line for line in printed.out.splitlines() if "#" in line]
    assert [line.count("#") for line in bars] == [7, 13, 40] and len({line.index("#") for line in bars}) == 1


@pytest.mark.parametrize(("words", "said"), [
    (("-n", "0"), "0 pictures asked for; expected 1 or more"),
    (("-n", "1", "--people", "13"), "people is 13; expected 1 to 12"),
    (("-n", "1", "--over", "2"), "over is 2.0; expected a chance"),
    (("-n", "1", "--negatives", "nowhere"), "nowhere: no such folder"),
    (("-n", "1", "--judge", "nobody"), "nobody"),
])
def test_wrong_wishes_end_in_one_line(words: tuple[str, ...], said: str, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    path = drawn_set(tmp_path / "data", images=2)
    assert extend(str(path), "--out", str(tmp_path / "out"), *words) == 1
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error and not (tmp_path / "out").exists()


def test_sets_that_nobody_can_be_cut_out_of_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = drawn_set(tmp_path / "data", images=2)
    assert extend(str(tmp_path / "none.json"), "-n", "1", "--out", str(tmp_path / "a")) == 1
    assert "none.json: no such file" in capsys.readouterr().err
    assert extend(str(path), "-n", "2", "--out", str(tmp_path / "made"), "--jobs", "1") == 0
    capsys.readouterr()
    assert extend(str(tmp_path / "made/person_keypoints.json"), "-n", "1", "--out", str(tmp_path / "b")) == 1
    assert "are generated already" in capsys.readouterr().err
    raw = json.loads(path.read_text())
    for row in raw["annotations"]:
        row["keypoints"][2::3] = [min(v, 1) for v in row["keypoints"][2::3]]  # nobody is seen
    path.write_text(json.dumps(raw))
    assert extend(str(path), "-n", "1", "--out", str(tmp_path / "c")) == 1
    assert "nobody in it can be cut out" in capsys.readouterr().err


def test_pictures_that_do_not_fit_their_labels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = drawn_set(tmp_path / "data", images=3)
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(tmp_path / "data/images/000000000001.png")
    (tmp_path / "data/images/000000000002.png").unlink()
    assert extend(str(path), "-n", "4", "--out", str(tmp_path / "out")) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "1 x image-size-differs" in error and "1 x image-missing" in error
    assert f"'stagepose check {path} --write-clean OUT'" in error and not (tmp_path / "out").exists()


def test_who_can_be_cut_out_is_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(recipe_module, "can_be_cut", lambda dataset: asked.append(dataset) or can_be_cut(dataset))
    recipe = PasteRecipe(data=drawn_set(tmp_path))
    recipe.check()
    pickle.loads(pickle.dumps(recipe)).maker().make([0])  # as another process does
    assert len(asked) == 1


def test_one_picture_is_no_place_for_its_own_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = drawn_set(tmp_path / "data", images=1)
    assert extend(str(path), "-n", "1", "--out", str(tmp_path / "out"), "--jobs", "1", "--empty", "1") == 0
    (tmp_path / "data/negatives").rename(tmp_path / "data/elsewhere")
    assert extend(str(path), "-n", "1", "--out", str(tmp_path / "other")) == 1
    assert "has one picture only" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_rendered_people_are_pasted_too(tmp_path: Path) -> None:
    path = drawn_set(tmp_path / "data")
    raw = json.loads(path.read_text())
    raw["info"] = {"generated": True}  # as 'stagepose render' says it: nobody's photographs
    path.write_text(json.dumps(raw))
    assert extend(str(path), "-n", "2", "--out", str(tmp_path / "out"), "--jobs", "1") == 0


def test_a_scene_says_that_it_has_people_without_boxes_and_a_scene_without_people_does_not(tmp_path: Path) -> None:
    path = drawn_set(tmp_path)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"images": [row | {"all_person_boxes": False} for row in raw["images"]]}))
    recipe = PasteRecipe(data=path, negatives=tmp_path / "negatives", config=PasteConfig(empty=0.5))
    notes = {made.sources[0].file_name == "empty.png": dict(made.notes)  # type: ignore[union-attr]
             for made in recipe.maker().make(range(8))}
    assert notes == {True: {}, False: {"all_person_boxes": False}}


def test_a_set_of_other_pictures_without_people_is_not_gone_on_with(tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    path, out = drawn_set(tmp_path / "data"), str(tmp_path / "out")
    assert extend(str(path), "-n", "1", "--out", out, "--jobs", "1") == 0
    (tmp_path / "data/negatives").rename(tmp_path / "moved")
    assert extend(str(path), "-n", "2", "--out", out, "--jobs", "1", "--negatives", str(tmp_path / "moved")) == 0
    capsys.readouterr()
    Image.new("RGB", (WIDTH, HEIGHT), (200, 0, 0)).save(tmp_path / "moved" / "empty.png")
    assert extend(str(path), "-n", "3", "--out", out, "--jobs", "1", "--negatives", str(tmp_path / "moved")) == 1
    assert "was begun with negatives '" in capsys.readouterr().err


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="people is 0"):
        PasteConfig(people=0)
