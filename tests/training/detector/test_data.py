"""What a detector learns from: reading, decoding, cutting, mosaics and pasted people."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_coco

pytest.importorskip("torch")
pytest.importorskip("torchvision")

from stagepose.errors import ConfigError, DatasetError, StagePoseError
from stagepose.training.detector.augment import BoxAugment, Shown, cut
from stagepose.training.detector.cache import open_or_decode
from stagepose.training.detector.compose import covered, donors, mosaic, paste
from stagepose.training.detector.dataset import BAD, read_boxes
from training.detector.small import PLAIN, damage_amid_pixels, tiny_data

NOTHING = np.zeros((0, 4), np.float32)


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = tiny_coco(folder)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def shown(*boxes: list[float], size: tuple[int, int] = (192, 160), value: int = 0) -> Shown:
    """A picture of one grey, every person a rectangle of another."""
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[int(y0) : int(y1), int(x0) : int(x1)] = 255
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Shown(pixels, array, np.ones(len(array), np.int64), NOTHING)


def test_reading_leaves_out_partly_boxed_pictures_and_says_so(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["images"][0]["all_person_boxes"] = False
        next(a for a in data["annotations"] if a["image_id"] == data["images"][1]["id"])["iscrowd"] = 1

    path = changed(tmp_path, change)
    (tmp_path / "negatives").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "negatives" / "empty.png")
    found = read_boxes(path, tmp_path / "images", negatives_dir=tmp_path / "negatives")
    assert found.left_out["picture not fully boxed"] == 1
    assert [len(i.boxes) for i in found.images] == [1, 2, 2, 0]
    assert [len(i.ignore) for i in found.images] == [1, 0, 0, 0]


def test_partly_boxed_pictures_are_used_when_told_with_all_of_them_ignored(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda data: data["images"][0].update(all_person_boxes=False))
    found = read_boxes(path, tmp_path / "images", partly_boxed=True)
    assert found.left_out["picture not fully boxed"] == 0 and len(found.images) == 4
    assert found.images[0].ignore.tolist() == [[0, 0, 192, 160]] and len(found.images[0].boxes) == 2


def test_a_file_of_which_no_picture_is_left_says_why(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda data: [image.update(all_person_boxes=False) for image in data["images"]])
    with pytest.raises(DatasetError, match=r"no picture is left.*4 x picture not fully boxed.*--partly-boxed"):
        read_boxes(path, tmp_path / "images")
    path = changed(tmp_path, lambda data: data.update(images=[], annotations=[]))
    with pytest.raises(DatasetError, match="no picture is left"):
        read_boxes(path, tmp_path / "images")


def test_every_category_of_a_file_is_learnt_people_first(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["categories"].insert(0, {"id": 7, "name": "dog"})
        data["annotations"][0]["category_id"] = 7

    found = read_boxes(changed(tmp_path, change), tmp_path / "images")
    assert found.categories == ("person", "dog")
    assert sorted(found.images[0].labels.tolist()) == [1, 2]


@pytest.mark.parametrize(("change", "message"), [
    (lambda d: d.pop("categories"), "categories"),
    (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "4 numbers"),
    (lambda d: [a.update(bbox=[1, 2, -3, 4]) for a in d["annotations"][:3]], "3 problems.*box-negative"),
    (lambda d: d["images"][1].update(file_name=d["images"][0]["file_name"]), "image-name-duplicate"),
    (lambda d: d["annotations"][1].update(id=d["annotations"][0]["id"]), "used again"),
    (lambda d: d["annotations"][1].update(category_id=9), "not in 'categories'"),
    (lambda d: d["categories"][0].update(name="human", keypoints=[]) or d["categories"].append(
        {"id": 2, "name": "dog"}), "person"),
])
def test_broken_files_are_named(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_boxes(changed(tmp_path, change), tmp_path / "images")


def test_pictures_that_do_not_fit_are_named_or_left_out(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda data: data["images"][1].update(width=500))
    (tmp_path / "images" / "000000000003.png").unlink()
    with pytest.raises(DatasetError, match=r"1 x image-size-differs.*1 x image-missing"):
        read_boxes(path, tmp_path / "images")
    found = read_boxes(path, tmp_path / "images", drop_bad=True)
    assert len(found.images) == 2 and found.left_out[BAD] == 2


def test_unreadable_pictures_without_people_are_named_or_left_out(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    (tmp_path / "negatives").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "negatives" / "a.png")
    (tmp_path / "negatives" / "b.jpg").write_bytes(b"no picture")
    (tmp_path / "negatives" / "c.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "images" / "000000000003.png").unlink()
    with pytest.raises(DatasetError, match=r"1 x image-missing.*2 x image-unreadable, such as .*b\.jpg.*--drop-bad"):
        read_boxes(path, tmp_path / "images", negatives_dir=tmp_path / "negatives")
    found = read_boxes(path, tmp_path / "images", negatives_dir=tmp_path / "negatives", drop_bad=True)
    assert [image.size for image in found.images] == [(192, 160)] * 3 + [(40, 30)] and found.left_out[BAD] == 3


def test_pictures_that_went_missing_are_named(tmp_path: Path) -> None:
    boxes = read_boxes(tiny_coco(tmp_path), tmp_path / "images")
    boxes.images[2].file.unlink()
    with pytest.raises(DatasetError, match="1 of 4 pictures are missing"):
        open_or_decode(boxes, tmp_path / "cache", max_side=64)


def test_pictures_that_cannot_be_decoded_are_refused_together_and_decoded_no_second_time(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_coco(tmp_path, images=5)
    for number in (2, 4):
        damage_amid_pixels(tmp_path / "images" / f"00000000000{number}.png")
    boxes = read_boxes(path, tmp_path / "images")
    said = r"2 of 5 pictures cannot be decoded, such as .*000000000002\.png.*replace them.*--drop-bad"
    with pytest.raises(DatasetError, match=said):
        open_or_decode(boxes, tmp_path / "cache", max_side=64)
    monkeypatch.setattr("stagepose.training.detector.cache.read_image", lambda _: pytest.fail("decoded again"))
    with pytest.raises(DatasetError, match=said):
        open_or_decode(boxes, tmp_path / "cache", max_side=64)


def test_pictures_that_cannot_be_decoded_are_left_out_of_set_and_cache_alike(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_coco(tmp_path, images=5)
    (tmp_path / "negatives").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(tmp_path / "images" / "000000000001.png", tmp_path / "negatives" / name)
    boxes = read_boxes(path, tmp_path / "images", negatives_dir=tmp_path / "negatives", drop_bad=True)
    whole, before = open_or_decode(boxes, tmp_path / "cache", max_side=64)
    assert whole.sha256 == boxes.sha256 and whole.left_out == boxes.left_out  # a run knows it again
    for file in (tmp_path / "images" / "000000000002.png", tmp_path / "negatives" / "a.png"):
        damage_amid_pixels(file)
    boxes = read_boxes(path, tmp_path / "images", negatives_dir=tmp_path / "negatives")
    with pytest.raises(DatasetError, match="2 of 7 pictures cannot be decoded"):
        open_or_decode(boxes, tmp_path / "cache", max_side=64)
    monkeypatch.setattr("stagepose.training.detector.cache.read_image", lambda _: pytest.fail("decoded again"))
    kept, after = open_or_decode(boxes, tmp_path / "cache", max_side=64, drop_bad=True)
    assert len(kept.images) == len(after) == 5 and kept.left_out[BAD] == 2
    assert [image.file for image in kept.images] == [whole.images[row].file for row in (0, 2, 3, 4, 6)]
    for new, old in enumerate((0, 2, 3, 4, 6)):
        np.testing.assert_array_equal(after.image(new), before.image(old))
    again, _ = open_or_decode(boxes, tmp_path / "cache", max_side=64, drop_bad=True)
    assert again.sha256 == kept.sha256 != whole.sha256 and again.left_out == kept.left_out


def test_a_set_of_which_no_picture_can_be_decoded_is_refused(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path, images=2)
    for number in (1, 2):
        damage_amid_pixels(tmp_path / "images" / f"00000000000{number}.png")
    boxes = read_boxes(path, tmp_path / "images")
    with pytest.raises(DatasetError, match=r"none of 2 pictures can be decoded, such as .*check the images folder"):
        open_or_decode(boxes, tmp_path / "cache", max_side=64, drop_bad=True)


def test_labels_are_known_again_in_another_folder_but_not_when_they_change(tmp_path: Path) -> None:
    first, moved = (tiny_coco(tmp_path / name) for name in ("here", "there"))
    known = read_boxes(first, first.parent / "images").sha256
    assert read_boxes(moved, moved.parent / "images").sha256 == known
    for row, change in ((0, {"bbox": [1, 2, 30, 40]}), (1, {"iscrowd": 1})):
        data = json.loads(first.read_text())
        data["annotations"][row] |= change
        moved.write_text(json.dumps(data))
        assert read_boxes(moved, moved.parent / "images").sha256 != known


def test_a_disk_that_fills_up_is_named_and_left_as_it_was(tmp_path: Path) -> None:
    boxes = read_boxes(tiny_coco(tmp_path), tmp_path / "images")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StagePoseError, match=r"cannot write the decoded pictures: File too large; raise the limit"):
            open_or_decode(boxes, tmp_path / "cache", max_side=96)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "cache").iterdir())
    open_or_decode(boxes, tmp_path / "cache", max_side=96)


@pytest.mark.parametrize("record", [b"", b"{}\n", b"[\n", b"[80, 96, 0.5]\n", b'["a", 96, 0.5, ""]\n', b"\xff\n"])
def test_decoded_pictures_that_are_damaged_are_named(tmp_path: Path, record: bytes) -> None:
    boxes = read_boxes(tiny_coco(tmp_path), tmp_path / "images")
    open_or_decode(boxes, tmp_path / "cache", max_side=96)
    [file] = (tmp_path / "cache").rglob("pictures.jsonl")
    for content in (record, file.read_bytes() + record, None):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
            os.truncate(file.with_name("pixels.bin"), 100)
        with pytest.raises(DatasetError, match=r"decoded pictures that are damaged .* delete the folder"):
            open_or_decode(boxes, tmp_path / "cache", max_side=96)


def test_cache_shrinks_and_remembers_the_scale(tmp_path: Path) -> None:
    boxes = read_boxes(tiny_coco(tmp_path), tmp_path / "images")
    _, cache = open_or_decode(boxes, tmp_path / "cache", max_side=96)
    assert cache.image(3).shape == (80, 96, 3) and cache.scales[3] == 0.5
    _, full = open_or_decode(boxes, tmp_path / "cache", max_side=500)
    np.testing.assert_array_equal(full.image(3), np.asarray(Image.open(boxes.images[3].file)))


@pytest.mark.parametrize(("size", "shape"), [((10_000, 2), (1, 96, 3)), ((1, 5_000), (96, 1, 3))])
def test_a_thin_picture_keeps_one_pixel_of_its_short_side(tmp_path: Path, size: tuple[int, int],
                                                          shape: tuple[int, int, int]) -> None:
    def change(data: dict[str, Any]) -> None:
        data["images"][0] |= {"width": size[0], "height": size[1]}
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] != data["images"][0]["id"]]

    path = changed(tmp_path, change)
    Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "images" / "000000000001.png")
    boxes = read_boxes(path, tmp_path / "images")
    _, cache = open_or_decode(boxes, tmp_path / "cache", max_side=96)
    assert cache.image(0).shape == shape and (cache.image(0) == 9).all()


@pytest.mark.parametrize("key", range(12))
def test_boxes_move_with_the_pixels(key: int) -> None:
    config = BoxAugment(canvas=(192, 160), zoom=(0.3, 2.0), colour=0, grey_chance=0, fill=0)
    sample = cut(shown([50, 30, 75, 90], size=(160, 120)), config.canvas, 160, config, np.random.default_rng(key))
    found = [*sample.boxes, *sample.ignore]
    rows, columns = (np.flatnonzero((sample.pixels[..., 0] > 127).any(axis)) for axis in (1, 0))
    if not len(rows):
        assert not len(found) or min(found[0][2:] - found[0][:2]) < 1
        return
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(found[0], drawn, atol=1.01)  # a pixel of a shrunk edge is grey on either side


def test_cut_people_are_ignored_not_background() -> None:
    people = [[0, 10, 100, 100], [150, 10, 153, 100], [120, 10, 160, 100]]
    sample = cut(shown(*people), PLAIN.canvas, 192, PLAIN, np.random.default_rng(0))
    np.testing.assert_allclose(sample.boxes, [people[0], people[2]])
    np.testing.assert_allclose(sample.ignore, [people[1]])  # three pixels wide


def test_a_mosaic_holds_the_people_of_four_pictures_where_it_draws_them() -> None:
    config = replace(PLAIN, zoom=(1.0, 1.0), fill=0)
    sample = mosaic([shown([60, 40, 110, 120])] * 4, config, 192, np.random.default_rng(1))
    assert sample.pixels.shape == (160, 192, 3) and len(sample.boxes) + len(sample.ignore) == 4
    inside = np.zeros(sample.pixels.shape[:2], bool)
    for x0, y0, x1, y1 in np.round(np.concatenate([sample.boxes, sample.ignore])).astype(int):
        inside[y0:y1, x0:x1] = True
    bright = sample.pixels[..., 0] > 127
    assert (bright == inside).mean() > 0.97


def test_a_pasted_person_is_boxed_and_hides_who_is_behind() -> None:
    under = cut(shown([0, 0, 192, 160], value=0), PLAIN.canvas, 192, PLAIN, np.random.default_rng(0))
    tiny = [[x, y, x + 8, y + 8] for x in range(0, 184, 8) for y in range(0, 152, 8)]
    crowded = replace(under, pixels=np.zeros_like(under.pixels), boxes=np.array(tiny, np.float32),
                      labels=np.ones(len(tiny), np.int64))
    after = paste(crowded, shown([60, 40, 110, 120]), 0, PLAIN, np.random.default_rng(3))
    box = after.boxes[-1]
    assert len(after.boxes) + len(after.ignore) == len(tiny) + 1 == len(after.labels) + len(after.ignore)
    assert len(after.ignore) and (covered(after.ignore, box[None]) > 0.7).all()
    rows, columns = (np.flatnonzero((after.pixels[..., 0] > 127).any(axis)) for axis in (1, 0))
    np.testing.assert_allclose(box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], atol=1)


@pytest.mark.parametrize("key", range(6))
@pytest.mark.parametrize("person", [[60, 40, 110, 120], [60, 40, 110, 160], [0, 0, 80, 100], [130, 20, 192, 160]])
def test_a_pasted_person_fills_its_box_also_where_it_was_cut_off(key: int, person: list[float]) -> None:
    empty = cut(shown(), PLAIN.canvas, 192, PLAIN, np.random.default_rng(0))
    after = paste(replace(empty, pixels=np.zeros_like(empty.pixels)), shown(person), 0, PLAIN,
                  np.random.default_rng(key))
    columns, rows = after.pixels[..., 0].max(0) / 255, after.pixels[..., 0].max(1) / 255
    np.testing.assert_allclose([columns.sum(), rows.sum()], after.boxes[0, 2:] - after.boxes[0, :2], atol=1)


def test_only_large_people_who_stand_alone_are_cut_out() -> None:
    picture = shown([0, 0, 50, 100], [40, 0, 90, 100], [100, 0, 150, 100], [160, 0, 170, 30], [10, 110, 50, 158])
    assert donors(picture) == [0, 1, 2, 4]
    assert donors(replace(picture, boxes=picture.boxes + np.float32([[0, 0, 0, 0], [-30, 0, 0, 0], *[[0] * 4] * 3]))) \
        == [2, 4]
    assert donors(replace(picture, ignore=picture.boxes[2:3])) == [0, 1, 4]
    sofa = replace(picture, boxes=np.concatenate([picture.boxes, np.float32([[95, 50, 155, 110]])]),
                   labels=np.array([1, 1, 1, 1, 1, 2]))
    assert donors(sofa) == [0, 1, 4]


@pytest.mark.parametrize(("wrong", "message"), [
    ({"canvas": (100, 64)}, "canvas"), ({"zoom": (2.0, 1.0)}, "zoom"), ({"paste_chance": 2.0}, "paste_chance"),
    ({"most_pasted": 0}, "most_pasted"),
])
def test_augmentation_names_field_and_remedy(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BoxAugment(**wrong)


def test_a_sample_hangs_on_its_key_alone(tmp_path: Path) -> None:
    data = tiny_data(tmp_path, BoxAugment(canvas=(192, 160), long_side=160, mosaic_chance=0.5, paste_chance=0.5))
    for key in range(8):
        first, again, other = data.sample((0, key), 1), data.sample((0, key), 1), data.sample((1, key), 1)
        np.testing.assert_array_equal(first.pixels, again.pixels)
        np.testing.assert_array_equal(first.boxes, again.boxes)
        assert not np.array_equal(first.pixels, other.pixels)
        assert first.pixels.shape == (160, 192, 3) and len(first.boxes) == len(first.labels)
