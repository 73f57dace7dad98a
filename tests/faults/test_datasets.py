"""Rows D1 to D7 of the list of faults: annotation and result files that are broken in known ways."""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import HEIGHT, WIDTH, tiny_coco, tiny_dict, write_json

from stagepose.coco import (
    check_dataset,
    check_predictions,
    picture_problems,
    read_dataset,
    read_keypoint_results,
    statistics,
    summarise,
    write_clean,
    write_json_compact,
)
from stagepose.coco.instances import read_instances
from stagepose.errors import DatasetError

NAN, INF = float("nan"), float("inf")


def _kinds(path: Path, **how: Any) -> dict[str, int]:
    return {kind.kind: kind.count for kind in summarise(check_dataset(path, **how))}


def _file(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    data = tiny_dict(3, 2)
    change(data)
    return write_json(folder, data)


def _one_line(error: DatasetError, *parts: str) -> None:
    assert "\n" not in str(error)
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize("name", ["", " ", None, 5, "a\0.jpg", "\ud800.jpg", "\udbff/a.jpg"])
def test_a_name_that_no_file_can_have_is_an_error_to_all_readers(tmp_path: Path, name: Any) -> None:
    path = _file(tmp_path, lambda d: d["images"][0].update(file_name=name))
    assert _kinds(path)["image-name"] == 1
    for reader in (read_dataset, read_instances):
        with pytest.raises(DatasetError) as caught:
            reader(path)
        _one_line(caught.value, "file_name is ", "expected the name of a picture")


def test_a_name_that_is_no_text_is_one_all_the_same(tmp_path: Path) -> None:
    path = _file(tmp_path, lambda d: d["images"][0].update(file_name="caf\udce9.jpg"))
    assert "image-name" not in _kinds(path)


# D1: not JSON


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"images": [],\n "annotations": [{"id": 1,', "line 2"),
        ("", "line 1: the file is empty"),
        ("<html>\n</html>", "line 1"),
        ('{"images": [],\n\n "annotations": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 3: nested too deeply"),
        ('{"a": "[[ NaN ]]",\n "images": [],\n "annotations": [{"bbox": [1, NaN]}]}', "line 3: NaN is not valid JSON"),
        ('{"images": [],\n "area": -Infinity}', "line 2: -Infinity is not valid JSON"),
        ('{"images": [],\n "area": ' + "9" * 5000 + "}", "line 2: a number of more than 4300 digits"),
        ('{"annotations": [{"id": 1}],\n "annotations": []}', "line 2: 'annotations' stands twice in one object"),
        ('{"id": 1, "annotations": [{"b\\n": "id\\":",\n "id": 1,\n "\\u0069d": 2, "id": 3}]}',
         "line 3: 'id' stands twice in one object"),
    ],
)
def test_d1_broken_json_is_an_error_with_its_line(tmp_path: Path, content: str, line: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    _one_line(caught.value, "train.json: ", line)
    assert check_dataset(path)[0].severity == "error"


def test_d1_the_same_twice_loses_nothing(tmp_path: Path) -> None:
    path = _file(tmp_path, lambda d: None)
    text = path.read_text()
    assert '"iscrowd": 0' in text
    path.write_text(text.replace('"iscrowd": 0', '"iscrowd": 0, "iscrowd": 0'))
    assert len(read_dataset(path)) == len(tiny_dict(3, 2)["annotations"])


@pytest.mark.parametrize("content", ["[]", '"text"', "null", "3", "true"])
def test_d1_not_an_object(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match="expected an object with images, annotations and categories"):
        read_dataset(path)
    assert _kinds(path) == {"layout": 1}


def test_d1_no_file_a_folder_no_text_and_a_name_over_two_lines(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xd8\xff\xe0")
    for name, message in (
        ("none.json", "no such file"),
        (".", "not a regular file"),
        ("binary.json", "not UTF-8"),
        ("a\nb.json", "no such file"),
    ):
        with pytest.raises(DatasetError) as caught:
            read_dataset(tmp_path / name)
        _one_line(caught.value, message)


# D2: ids and references


def test_d2_all_are_reported_together(tmp_path: Path) -> None:
    data = tiny_dict(4, 2)
    a = data["annotations"]
    del a[0]["id"]
    a[1]["id"] = a[2]["id"]
    a[3]["id"] = 0
    a[4]["id"] = "five"
    a[5]["id"] = 6.0
    a[6]["image_id"] = 99
    a[7]["category_id"] = 5
    data["images"].append({**data["images"][0], "file_name": "another.png"})
    path = write_json(tmp_path, data)
    expected = {
        "image-id-conflict": 2, "annotation-id": 3, "annotation-id-duplicate": 1, "annotation-id-zero": 1,
        "unknown-image": 1, "unknown-category": 1,
    }  # fmt: skip
    assert _kinds(path) == expected
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    first = "3 x annotation-id (first: annotations[0]: id is missing)"
    _one_line(caught.value, first, "image_id 99 is not in 'images'", f"'stagepose check {path}' lists all")


def test_d2_id_0_is_renumbered(tmp_path: Path) -> None:
    path = _file(tmp_path, lambda data: data["annotations"][0].update(id=0))
    assert len(read_dataset(path)) == 6, "a warning: it is evaluators that stumble over it"
    write_clean(path, tmp_path / "out.json")
    assert read_dataset(tmp_path / "out.json").ids.tolist() == [7, 2, 3, 4, 5, 6]


# D3: boxes and areas


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"bbox": [1, 2, NAN, 4]}, "box-not-finite", r"annotation 1: bbox is \[1, 2, nan, 4\]"),
        ({"bbox": [1, 2, 3, INF]}, "box-not-finite", "expected 4 finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "box-negative", r"bbox is \[1, 2, -3, 4\], expected width and height above 0"),
        ({"bbox": [1, 2, 0, 4]}, "box-empty", "expected width and height above 0"),
        ({"bbox": [500, 2, 3, 4]}, "box-outside", "wholly outside of its picture of 192x160"),
        ({"bbox": [-50, 2, 150, 150]}, "box-sticks-out", "partly outside of its picture"),
        ({"bbox": [60, 80, 1.5, 1]}, "box-tiny", r"\[60, 80, 1.5, 1\], less than 2 pixels, for \d+ labelled keypoints"),
        ({"bbox": [0.2, 0.1, 0.3, 0.9]}, "normalised", r"bbox \[0.2, 0.1, 0.3, 0.9\]: within 0 to 1, like shares"),
        ({"bbox": [1, 2, 3]}, "box-type", r"bbox is \[1, 2, 3\], expected 4 numbers"),
        ({"bbox": "all"}, "box-type", "bbox is 'all'"),
        ({"area": -1}, "area", "area is -1"),
        ({"area": "large"}, "area", "area is 'large'"),
        ({"area": 0}, "area-zero", "area is 0"),
        ({"area": 1e9}, "area-above-box", r"area is 1000000000.0, that of its box is \d{4}"),
        ({"area": 60.0}, "area-tiny", r"area is 60, that of its box is \d{4}"),
        ({"s": 5000.0, "area": 5000.0}, "area-and-s", "s is 5000, but the root of area 5000 is 70.71"),
        ({"area_source": "estimated"}, "area-estimated", "is an estimate"),
        ({"iscrowd": "no"}, "crowd-flag", "iscrowd is 'no', expected 0 or 1"),
    ],
)
def test_d3_boxes_and_areas(tmp_path: Path, change: dict[str, Any], kind: str, message: str) -> None:
    path = _file(tmp_path, lambda data: data["annotations"][0].update(change))
    found = [p for p in check_dataset(path) if p.kind != "not-a-number"]
    assert [p.kind for p in found] == [kind]
    assert re.search(message, str(found[0]))
    assert found[0].remedy
    if found[0].severity == "error":
        with pytest.raises(DatasetError):
            read_dataset(path)
    write_clean(path, tmp_path / "out.json")
    read_dataset(tmp_path / "out.json")
    left = [found[0].kind] if found[0].severity == "warning" else []
    assert set(_kinds(tmp_path / "out.json")) <= {*left, "area-missing"}, "cleaning leaves what only a person can mend"
    assert all(one in _kinds(tmp_path / "out.json") for one in left)


def _as_shares(*parts: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for row in data["annotations"]:
            for part in parts:
                whole = {"bbox": [192, 160, 192, 160], "keypoints": [192, 160, 1] * 17, "area": [192 * 160]}[part]
                values = [v / one for v, one in zip(np.atleast_1d(row[part]).tolist(), whole, strict=True)]
                row[part] = values[0] if part == "area" else values
    return change


@pytest.mark.parametrize(("parts", "kind"), [
    (("bbox", "keypoints", "area"), "normalised"), (("bbox", "keypoints"), "normalised"), (("bbox",), "normalised"),
    (("keypoints",), "normalised"), (("keypoints", "area"), "normalised"), (("area",), "area-tiny"),
])  # fmt: skip
def test_d3_d4_shares_of_the_picture_in_place_of_pixels_are_seen(tmp_path: Path, parts: tuple[str, ...],
                                                                 kind: str) -> None:
    found = _kinds(_file(tmp_path, _as_shares(*parts)))
    assert found.pop(kind) == 6
    assert found == ({"area-tiny": 6} if parts == ("keypoints", "area") else {})


def test_d3_what_fits_is_not_reported(tmp_path: Path) -> None:
    """An area as large as the box, one of the alias rounded, a person of two joints, somebody without any."""
    def change(data: dict[str, Any]) -> None:
        a, b, c, d, *_ = data["annotations"]
        a["area"] = a["bbox"][2] * a["bbox"][3]
        b["s"] = round(b["area"] ** 0.5)
        c |= {"keypoints": [5.0, 5.0, 2, 6.0, 6.0, 2, *[0] * 45], "num_keypoints": 2}
        d |= {"keypoints": [0] * 51, "num_keypoints": 0, "bbox": [3, 3, 1, 1]}
    assert _kinds(_file(tmp_path, change)) == {}


def test_d3_a_missing_box_and_a_missing_area(tmp_path: Path) -> None:
    path = _file(tmp_path, lambda data: [data["annotations"][0].pop("bbox"), data["annotations"][1].pop("area")])
    assert _kinds(path) == {"box-missing": 1, "area-missing": 1}


# D4: keypoints


def _set_keypoint(data: dict[str, Any], *triple: float) -> None:
    data["annotations"][0]["keypoints"][:3] = triple  # the nose is labelled
    data["annotations"][0]["num_keypoints"] = sum(v > 0 for v in data["annotations"][0]["keypoints"][2::3])


def _counted_from_the_box(row: dict[str, Any]) -> None:
    """Keypoints of the crop instead of the picture, as some tools export them; the person is small, its box far off."""
    row["bbox"] = [130, 100, 40, 50]
    row["area"] = 1000.0
    row["keypoints"] = [v if n % 3 == 2 else v / 4 for n, v in enumerate(row["keypoints"])]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda d: d["annotations"][0].update(keypoints=[1] * 48), "keypoints-count",
         r"annotation 1: keypoints has 48 numbers, expected 51 \(17 x \(x, y, v\)\)"),
        (lambda d: d["annotations"][0].update(keypoints=[1] * 50), "keypoints-count", "keypoints has 50 numbers"),
        (lambda d: d["annotations"][0].update(keypoints="51"), "keypoints-type", "keypoints is '51'"),
        (lambda d: d["annotations"][0]["keypoints"].__setitem__(4, None), "keypoints-type", r"keypoints\[4\] is None"),
        (lambda d: _set_keypoint(d, 9, 9, 7), "keypoint-visibility", "nose has visibility 7, expected 0, 1 or 2"),
        (lambda d: _set_keypoint(d, 9, INF, 2), "keypoint-not-finite", "nose is"),
        (lambda d: _set_keypoint(d, 0, 0, 2), "keypoint-origin", r"nose is \[0, 0, 2\]: labelled, yet"),
        (lambda d: _counted_from_the_box(d["annotations"][1]), "keypoints-elsewhere", "all .* lie far outside of bbox"),
        (lambda d: _set_keypoint(d, 400, 20, 2), "keypoint-outside", "far outside of its picture of 192x160"),
        (lambda d: d["annotations"][0].update(num_keypoints=3), "num-keypoints", "num_keypoints is 3, but"),
        (lambda d: d["annotations"][0].pop("num_keypoints"), "num-keypoints-missing", "num_keypoints is missing"),
    ],
)  # fmt: skip
def test_d4_keypoints(tmp_path: Path, change: Callable[[dict[str, Any]], object], kind: str, message: str) -> None:
    path = _file(tmp_path, change)
    found = [p for p in check_dataset(path) if p.kind != "not-a-number"]
    assert [p.kind for p in found] == [kind]
    assert re.search(message, str(found[0]))
    write_clean(path, tmp_path / "out.json")
    clean = read_dataset(tmp_path / "out.json")
    assert len(clean) == (5 if kind in ("keypoints-type", "keypoints-count") else 6)


def test_d4_one_problem_reads_as_one_sentence_with_its_remedy(tmp_path: Path) -> None:
    path = _file(tmp_path, lambda data: data["annotations"][1].update(keypoints=[1] * 48))
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    assert str(caught.value) == (
        f"{path}: annotation 2: keypoints has 48 numbers, expected 51 (17 x (x, y, v)). "
        f"Fix the file, or drop such annotations with 'stagepose check {path} --write-clean OUT'."
    )


SIZE = [HEIGHT, WIDTH]  # of tiny's pictures


@pytest.mark.parametrize(("segmentation", "says"), [
    (5, "segmentation is 5, expected polygons or run lengths"), ("x", "segmentation is 'x'"),
    ([[1, 2, 3]], "segmentation[0] has 3 numbers"), ([["a", "b"]], "segmentation[0] is ['a', 'b']"),
    ([[1, 1, 9, 1, 9, 9], 7], "segmentation[1] is 7"), ([[1, 1, 9, 1, 1e308, 9]], "expected numbers of pixels"),
    ([[1, 1, 9, 1, 10**400, 9]], "expected numbers of pixels"), ([[1, 1, 9, 1]], "a polygon of three corners"),
    ({"size": [-5, "x"], "counts": [1]}, "segmentation's size is [-5, 'x']"),
    ({"size": SIZE[::-1], "counts": [WIDTH * HEIGHT]}, f"[height, width] of its picture, {SIZE}"),
    ({"size": SIZE}, "segmentation's counts is None"), ({"size": SIZE, "counts": "\x00\x01garbage"}, "counts is '"),
    ({"size": SIZE, "counts": "o"}, "counts is 'o'"), ({"size": SIZE, "counts": "o" * 9}, "counts is 'ooo"),
    ({"size": SIZE, "counts": [3, -1]}, "a run of -1 pixels"), ({"size": SIZE, "counts": [0.5]}, "counts is [0.5]"),
    ({"size": SIZE, "counts": [10**400]}, "counts is ["), ({"size": SIZE, "counts": "3"}, "counts are of 3 pixels"),
])  # fmt: skip
def test_d4_broken_segments_are_warned_of(tmp_path: Path, segmentation: Any, says: str) -> None:
    path = _file(tmp_path, lambda d: d["annotations"][1].update(segmentation=segmentation))
    [found] = check_dataset(path)
    assert (found.kind, found.severity, found.where) == ("segmentation", "warning", "annotation 2")
    assert says in found.detail and "\n" not in found.detail


@pytest.mark.parametrize("segmentation", [
    None, [], [[1, 1, 9, 1, 9.5, 9]], {"size": SIZE, "counts": [WIDTH * HEIGHT]},
    {"size": SIZE, "counts": [0, 5, WIDTH * HEIGHT - 5]},
])  # fmt: skip
def test_d4_sound_segments_and_none_are_not(tmp_path: Path, segmentation: Any) -> None:
    assert _kinds(_file(tmp_path, lambda d: d["annotations"][1].update(segmentation=segmentation))) == {}


# D5: pictures, and the two halves of a split


def test_d5_pictures_missing_broken_and_of_another_size(tmp_path: Path) -> None:
    path, images = tiny_coco(tmp_path, images=5), tmp_path / "images"
    (images / "000000000001.png").unlink()
    (images / "000000000002.png").write_text("no picture")
    Image.new("RGB", (160, 192)).save(images / "000000000003.png")
    (images / "000000000004.png").unlink()
    (images / "000000000004.png").mkdir()
    assert _kinds(path) == {}
    assert _kinds(path, images_dir=images) == {"image-missing": 1, "image-unreadable": 2, "image-size-differs": 1}
    changes = write_clean(path, tmp_path / "out.json", images_dir=images)
    assert sum(n for (part, _), n in changes.dropped.items() if part == "images") == 4
    assert _kinds(tmp_path / "out.json", images_dir=images) == {}


def test_d5_size_is_that_of_the_upright_picture(tmp_path: Path) -> None:
    path, exif = tiny_coco(tmp_path, images=1), Image.Exif()
    exif[0x0112] = 6
    picture = tmp_path / "images" / "000000000001.png"
    Image.new("RGB", (160, 192)).save(picture, exif=exif)
    assert _kinds(path, images_dir=tmp_path / "images") == {}
    Image.new("RGB", (192, 160)).save(picture, exif=exif)
    assert "160x192 once upright" in str(check_dataset(path, images_dir=tmp_path / "images")[0])


def test_d5_what_the_check_passes_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disguised, too large and cut short: refused here as they would be refused when they are used."""
    path, images = tiny_coco(tmp_path, images=4), tmp_path / "images"
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 192 160\n%%EndComments\n"
    (images / "000000000001.png").write_bytes(eps)
    Image.new("1", (10_001, 10_000)).save(images / "000000000002.png")
    noise = Image.effect_noise((192, 160), 60)
    noise.save(images / "000000000003.png", "JPEG")
    whole = (images / "000000000003.png").read_bytes()
    (images / "000000000003.png").write_bytes(whole[: len(whole) // 2])
    found = check_dataset(path, images_dir=images)
    assert [(p.kind, p.index) for p in found] == [("image-unreadable", n) for n in range(3)]
    for problem, words in zip(found, ("is PostScript", "megapixels, the limit is 100", "cut short"), strict=True):
        assert words in str(problem)


def test_d5_a_set_that_is_read_is_asked_without_its_file(tmp_path: Path) -> None:
    path, images = tiny_coco(tmp_path, images=4), tmp_path / "images"
    dataset = read_dataset(path)
    assert picture_problems(dataset, images) == []
    (images / "000000000001.png").unlink()
    (images / "000000000002.png").write_text("no picture")
    Image.new("RGB", (160, 192)).save(images / "000000000004.png")
    expected = check_dataset(path, images_dir=images)
    path.unlink()
    found = picture_problems(dataset, images)
    kinds = ["image-missing", "image-unreadable", "image-size-differs"]
    assert [(p.kind, p.index) for p in found] == list(zip(kinds, (0, 1, 3), strict=True))
    assert found == expected
    assert {p.kind for p in picture_problems(dataset, tmp_path / "nowhere")} == {"image-missing"}


def test_d5_a_tiff_that_is_turned_has_its_upright_size(tmp_path: Path) -> None:
    path, exif = tiny_coco(tmp_path, images=1), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (160, 192)).save(tmp_path / "images" / "000000000001.png", "TIFF", exif=exif)
    assert _kinds(path, images_dir=tmp_path / "images") == {}


def test_d5_overlap_of_train_and_validation(tmp_path: Path) -> None:
    train, val = tiny_dict(3, 1), tiny_dict(3, 1)
    val["images"][0]["file_name"] = "COCO_val2014_000000000001.jpg"
    val["images"][1]["file_name"] = "elsewhere/2.png"
    val["images"][2] |= {"id": 30, "file_name": "3.png"}
    val["annotations"][2]["image_id"] = 30
    path, other = write_json(tmp_path, train), write_json(tmp_path, val, "val.json")
    assert _kinds(path, other=other) == {"overlap": 1, "overlap-id": 1}
    write_clean(path, tmp_path / "out.json", other=other)
    assert _kinds(tmp_path / "out.json", other=other) == {"overlap-id": 1}
    assert "unreadable" in _kinds(path, other=tmp_path / "none.json")


# D6: sets with nobody in them, or with people of two categories


def _another(name: str, rows: int, first: str = "person", **of: Any) -> Callable[[dict[str, Any]], None]:
    """A second category, with the keypoints of the first unless ``of`` says else, and some annotations given to it."""

    def change(data: dict[str, Any]) -> None:
        data["categories"][0]["name"] = first
        data["categories"].append({**data["categories"][0], "id": 2, "name": name, **of})
        for annotation in data["annotations"][:rows]:
            annotation["category_id"] = 2

    return change


def test_d6_people_of_a_second_category_named_person_are_an_error(tmp_path: Path) -> None:
    path = _file(tmp_path, _another("Person", 4))
    with pytest.raises(DatasetError) as caught:
        read_dataset(path)
    _one_line(caught.value, "2 are named 'person', with ids [1, 2]", "the 4 annotations", "Give all people one")
    assert _kinds(path) == {"several-person-categories": 1}
    assert _kinds(_file(tmp_path, _another("person", 0))) == {}, "nobody is left out"


@pytest.mark.parametrize(("change", "says"), [
    (_another("dog", 4), "'person' is taken for the people's; 4 annotations of ['dog']"),
    (_another("person", 4, first="man", keypoints=[]), "'man' is taken for the people's; 4 annotations of ['person']"),
    (_another("rider", 2, first="walker"), "'walker' is taken for the people's; 2 annotations of ['rider']"),
    (_another("dog", 0), None),
])  # fmt: skip
def test_d6_people_of_another_category_with_keypoints_are_counted(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str | None
) -> None:
    problems = [p for p in check_dataset(_file(tmp_path, change)) if p.kind == "several-keypoint-categories"]
    assert [p.severity for p in problems] == ["warning"] * (says is not None)
    assert all(says is not None and says in p.detail for p in problems)


def _only_dogs(data: dict[str, Any]) -> None:
    data["categories"].append({"id": 2, "name": "dog"})
    for annotation in data["annotations"]:
        annotation["category_id"] = 2


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda d: d.update(annotations=[]), "no-people"),
        (lambda d: d.pop("annotations"), "annotations-missing"),
        (lambda d: d.update(images=[], annotations=[]), "no-images"),
        (lambda d: [a.update(iscrowd=1) for a in d["annotations"]], "only-crowd"),
        (lambda d: [a.update(keypoints=[0] * 51, num_keypoints=0) for a in d["annotations"]], "no-keypoints"),
        (_only_dogs, "no-people"),
    ],
)  # fmt: skip
def test_d6_nobody_can_be_read_and_is_explained(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], kind: str
) -> None:
    path = _file(tmp_path, change)
    assert kind in _kinds(path)
    dataset = read_dataset(path)
    assert (statistics(dataset).people, dataset.with_keypoints().sum()) == (0, 0)
    write_clean(path, tmp_path / "out.json")


def test_d6_one_image(tmp_path: Path) -> None:
    assert statistics(read_dataset(tiny_coco(tmp_path, images=1, people=1))).people == 1


# D7: predictions


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"keypoints": [NAN] * 51}, "result-keypoints", r"result 1: nose x is nan, .* \(and 50 more"),
        ({"keypoints": [1.0] * 48}, "result-keypoints", r"keypoints has 48 numbers, expected 51"),
        ({"keypoints": None}, "result-keypoints", "keypoints is None"),
        ({"image_id": 99}, "result-image", "image_id 99 is not an image of the ground truth"),
        ({"image_id": "1"}, "result-image", "image_id '1' is not an image"),
        ({"category_id": 2}, "result-category", "category_id is 2, expected 1"),
        ({"score": INF}, "result-score", "score is inf"),
        ({"score": None}, "result-score", "score is None"),
    ],
)
def test_d7_bad_predictions_are_refused(tmp_path: Path, change: dict[str, Any], kind: str, message: str) -> None:
    dataset = read_dataset(tiny_coco(tmp_path))
    good = {"image_id": 1, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5}
    assert check_predictions([good, good], dataset) == []
    found = check_predictions([good, {**good, **change}], dataset)
    assert [p.kind for p in found] == [kind]
    assert re.search(message, str(found[0]))
    with pytest.raises(DatasetError, match="result 1: "):
        read_keypoint_results(write_json(tmp_path, [good, {**good, **change}]), dataset)


def test_d7_missing_values_a_bbox_and_no_list(tmp_path: Path) -> None:
    dataset = read_dataset(tiny_coco(tmp_path))
    kinds = [p.kind for p in check_predictions([{}, 3], dataset)]
    assert kinds == ["result-image", "result-category", "result-keypoints", "result-score", "result-type"]
    boxed = {"image_id": 1, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 17, "score": 0.5, "bbox": [1, 2, 3, 4]}
    assert [(p.kind, p.severity) for p in check_predictions([boxed], dataset)] == [("result-has-bbox", "warning")]
    assert check_predictions([{**boxed, "bbox": []}], dataset) == []
    assert [p.kind for p in check_predictions({"results": []}, dataset)] == ["results-type"]


# What was there before stays


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path, out = tiny_coco(tmp_path), tmp_path / "out.json"
    write_clean(path, out)
    before = out.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = tiny_dict(50, 4)
    source = write_json(tmp_path, big, "big.json")
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Exception, match="cannot write"):
            write_clean(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert out.read_bytes() == before
    assert not list(tmp_path.glob(".*tmp"))


def test_nothing_is_written_for_nan(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="NaN or infinite"):
        write_json_compact(tmp_path / "out.json", [NAN])
    assert not list(tmp_path.iterdir())
