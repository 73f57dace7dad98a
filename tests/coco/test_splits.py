"""Splits: disjoint, complete, the same again, and honest about what was renumbered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_dict, write_json

from stagepose.coco import CocoDataset, check_dataset, overlap_problems, read_dataset, split, write_json_compact
from stagepose.coco.samepicture import image_key, sources_of
from stagepose.errors import ConfigError, DatasetError
from stagepose.skeleton import LSP_14


def _set(folder: Path, name: str, data: dict[str, Any]) -> CocoDataset:
    return read_dataset(write_json(folder, data, f"{name}.json"))


def _names(data: dict[str, Any]) -> list[str]:
    return [image["file_name"] for image in data["images"]]


def test_one_picture_has_many_names() -> None:
    one = {image_key(n) for n in ("COCO_val2014_000000000139.jpg", "000000000139.jpg", "val/000000000139.webp")}
    assert one == {"000000000139"}
    assert image_key("a/0001.png") != image_key("b/0001.png")
    assert image_key("a\\0001.png") == image_key("a/0001.jpg")


def test_drawn_by_count(tmp_path: Path) -> None:
    data = tiny_dict(12, 2)
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != 3]  # an image without people
    train, mini = split([_set(tmp_path, "all", data)], count=4, seed=1)
    assert (len(train["images"]), len(mini["images"])) == (8, 4)
    assert sorted(_names(train) + _names(mini)) == sorted(_names(data))
    assert len(train["annotations"]) + len(mini["annotations"]) == 22
    assert "000000000003.png" in _names(train), "mini-val is drawn from the images with keypoints"
    counts = train["info"]["split"]["counts"]
    assert counts["train-val"] == {
        "images": 8, "images_with_keypoints": 7, "people": 14,
        "keypoints": sum(a["num_keypoints"] for a in train["annotations"]),
    }  # fmt: skip
    for name, half in (("train", train), ("mini", mini)):
        write_json_compact(tmp_path / f"{name}.json", half)
    assert check_dataset(tmp_path / "train.json", other=tmp_path / "mini.json") == []


def test_the_draw_hangs_on_id_and_seed_alone(tmp_path: Path) -> None:
    data = tiny_dict(12, 1)
    first = _names(split([_set(tmp_path, "all", data)], fraction=0.25)[1])
    data["images"].reverse()
    data["annotations"].reverse()
    assert sorted(_names(split([_set(tmp_path, "all", data)], count=3)[1])) == sorted(first)
    others = [_names(split([_set(tmp_path, "all", data)], count=3, seed=s)[1]) for s in range(1, 5)]
    assert any(sorted(other) != sorted(first) for other in others)


def test_the_report_s_split(tmp_path: Path) -> None:
    """train2014 + val2014 minus the images of val2017, which have other names there."""
    train14, val14, val17 = tiny_dict(4, 1), tiny_dict(4, 1, seed=1), tiny_dict(4, 1, seed=1)
    for image in train14["images"]:
        image["file_name"] = f"COCO_train2014_{image['id']:012d}.png"
    for data, shape in ((val14, "COCO_val2014_{:012d}.png"), (val17, "{:012d}.png")):
        for row in (*data["images"], *data["annotations"]):
            row["id"] += 100
        for image in data["images"]:
            image["file_name"] = shape.format(image["id"])
        for annotation in data["annotations"]:
            annotation["image_id"] += 100
    val17["images"] = val17["images"][:2]
    val17["annotations"] = val17["annotations"][:1]  # of two images one has keypoints
    sets = [_set(tmp_path, name, data) for name, data in (("train14", train14), ("val14", val14), ("val17", val17))]
    train, mini = split(sets[:2], minival=sets[2])
    assert len(train["images"]) == 6, "both images of val2017 are taken out"
    assert _names(mini) == ["000000000101.png"]
    assert len(split(sets[:2], minival=sets[2], keypoints_only=False)[1]["images"]) == 2
    assert "2 images taken out, of 2 images of the mini-val file" in train["info"]["split"]["notes"]


def test_colliding_ids_are_made_unique_and_it_is_said(tmp_path: Path) -> None:
    first, second = tiny_dict(3, 2), tiny_dict(3, 2, seed=1)
    for image in second["images"]:
        image["file_name"] = "other_" + image["file_name"]
    train, mini = split([_set(tmp_path, "a", first), _set(tmp_path, "b", second)], count=1)
    images, annotations = train["images"] + mini["images"], train["annotations"] + mini["annotations"]
    assert len({i["id"] for i in images}) == 6
    assert len({a["id"] for a in annotations}) == 12
    whose = {i["id"]: i["file_name"] for i in images}
    for annotation in second["annotations"]:
        twin = next(a for a in annotations if a["keypoints"] == annotation["keypoints"])
        assert whose[twin["image_id"]] == f"other_{annotation['image_id']:012d}.png"
    notes = " ".join(train["info"]["split"]["notes"])
    assert "b.json: 3 images renumbered" in notes
    assert "b.json: 6 annotations renumbered" in notes


def test_generated_pictures_stay_marked(tmp_path: Path) -> None:
    """Whether each is, or the file says it of all: the merged file's info is the whole's."""
    photos, rendered, pasted = (_renamed(shape, 3) for shape in ("photo_{}.png", "rendered_{}.png", "pasted_{}.png"))
    rendered["info"] = {"generated": True}
    pasted["images"][0]["generated"] = True
    sets = [_set(tmp_path, name, data) for name, data in (("r", rendered), ("p", photos), ("x", pasted))]
    for half in split(sets, count=4):
        told = _set(tmp_path, "half", half)
        assert {image.file_name for image in told.images if image.id in told.generated} == {
            name for name in _names(half) if name.startswith("rendered") or name == "pasted_1.png"}


def test_licences_of_several_files_stay_apart(tmp_path: Path) -> None:
    first, second, third = (_renamed(shape, 3) for shape in ("a_{}.png", "b_{}.png", "c_{}.png"))
    first["licenses"] = [{"id": 1, "name": "BY"}, {"id": 2, "name": "CC0"}]
    second["licenses"] = [{"id": 1, "name": "CC0"}, {"id": 2, "name": "mine"}, "odd"]
    for data in (first, second, third):  # the third lists none
        for image, licence in zip(data["images"], (1, 2, "none"), strict=True):
            image["license"] = licence
    second["images"][2] |= {"sources": [{"file_name": "x.png", "license": 2}, {"file_name": "y.png"}]}
    sets = [_set(tmp_path, name, data) for name, data in (("a", first), ("b", second), ("c", third))]
    train, mini = split(sets, count=1)
    assert train["licenses"] == mini["licenses"]
    names = {licence["id"]: licence["name"] for licence in train["licenses"]}
    assert sorted(names.values()) == ["BY", "CC0", "mine"]
    rows = {image["file_name"]: image for image in train["images"] + mini["images"]}
    assert [names.get(rows[name]["license"]) for name in ("a_1.png", "a_2.png", "b_1.png", "b_2.png")] == [
        "BY", "CC0", "CC0", "mine"]
    assert [rows[f"{name}_3.png"]["license"] for name in "abc"] == ["none"] * 3
    assert [names.get(source.get("license")) for source in rows["b_3.png"]["sources"]] == ["mine", None]
    assert len({rows[f"c_{k}.png"]["license"] for k in (1, 2)} - names.keys()) == 2, "nobody says what they are"
    assert "b.json: 2 licences renumbered, their ids being taken" in train["info"]["split"]["notes"]


def test_an_image_listed_in_two_files_is_kept_once(tmp_path: Path) -> None:
    data = tiny_dict(3, 1)
    train, mini = split([_set(tmp_path, "a", data), _set(tmp_path, "b", data)], count=1)
    assert len(train["images"]) + len(mini["images"]) == 3
    assert "b.json: 3 images were in an earlier file already and left out" in train["info"]["split"]["notes"]


def _renamed(shape: str, count: int, seed: int = 0) -> dict[str, Any]:
    """A set numbered from 1 with file names of its own, all of one size."""
    data = tiny_dict(count, 1, seed=seed)
    for image in data["images"]:
        image["file_name"] = shape.format(image["id"])
    return data


def test_the_same_id_alone_is_another_picture(tmp_path: Path) -> None:
    """Two sets numbered 1..N at one size have nothing in common."""
    sets = [_set(tmp_path, "a", _renamed("street_{}.png", 5)), _set(tmp_path, "m", _renamed("gym_{}.png", 3, seed=1))]
    train, mini = split(sets[:1], minival=sets[1])
    assert (len(train["images"]), len(mini["images"])) == (5, 3)
    notes = train["info"]["split"]["notes"]
    assert "3 images share their id with one of mini-val, but not the file name: kept" in notes
    assert "0 images taken out, of 3 images of the mini-val file" in notes


def test_on_request_the_same_id_and_size_is_the_same_picture(tmp_path: Path) -> None:
    held = _renamed("gym_{}.png", 3)
    held["images"][0]["width"] += 1
    a, m = _set(tmp_path, "a", _renamed("street_{}.png", 5)), _set(tmp_path, "m", held)
    train, _ = split([a], minival=m, same_ids=True)
    assert _names(train) == ["street_1.png", "street_4.png", "street_5.png"]
    assert "2 images taken for mini-val's by id and size" in " ".join(train["info"]["split"]["notes"])


def test_ids_are_compared_as_they_were_before_renumbering(tmp_path: Path) -> None:
    a, b = _set(tmp_path, "a", _renamed("a_{}.png", 3)), _set(tmp_path, "b", _renamed("b_{}.png", 3))
    held = _renamed("m_{}.png", 5)  # b's images are 4, 5 and 6 once merged
    held["images"], held["annotations"] = held["images"][3:], held["annotations"][3:]
    train, _ = split([a, b], minival=_set(tmp_path, "m", held), same_ids=True)
    assert len(train["images"]) == 6


def test_one_picture_under_two_ids_is_never_in_both_halves(tmp_path: Path) -> None:
    """What the check calls the same picture, the split does too: across files and within one."""
    first, second = tiny_dict(4, 1), tiny_dict(4, 1)
    for row in (*second["images"], *second["annotations"]):
        row["id"] += 50
    for image in second["images"]:
        image["file_name"] = "COCO_val2014_" + image["file_name"]
    for annotation in second["annotations"]:
        annotation["image_id"] += 50
    train, mini = split([_set(tmp_path, "a", first), _set(tmp_path, "b", second)], count=2)
    assert len(train["images"]) + len(mini["images"]) == 4
    assert "b.json: 4 images were in an earlier file already and left out" in train["info"]["split"]["notes"]
    both = {**first, "images": first["images"] + second["images"]}
    both["annotations"] = first["annotations"] + second["annotations"]
    for count in (3, 5):
        train, mini = split([_set(tmp_path, "c", both)], count=count)
        assert not {image_key(n) for n in _names(train)} & {image_key(n) for n in _names(mini)}
        taken = 8 - len(train["images"]) - len(mini["images"])
        assert f"{taken} images taken out, being pictures of mini-val" in " ".join(mini["info"]["split"]["notes"])


def test_sets_that_are_read_are_compared_as_files_are(tmp_path: Path) -> None:
    train, val = _renamed("{:012d}.jpg", 3), _renamed("COCO_val2014_{:012d}.jpg", 3)
    val["images"][1]["file_name"] = "other.jpg"
    a, b = _set(tmp_path, "a", train), _set(tmp_path, "b", val)
    problems = overlap_problems(a, b)
    assert [p.kind for p in problems] == ["overlap", "overlap-id", "overlap"]
    assert [p.index for p in problems] == [0, 1, 2]
    assert problems == check_dataset(tmp_path / "a.json", other=tmp_path / "b.json")
    assert _names(split([a], minival=b)[0]) == ["000000000002.jpg"]


def test_generated_pictures_are_compared_as_files_by_what_they_were_made_of(tmp_path: Path) -> None:
    made, val = _renamed("{:012d}.jpg", 3), _renamed("{:012d}.jpg", 2)
    for image, source in zip(made["images"], ("x.jpg", "000000000001.jpg", "000000000003.jpg"), strict=True):
        image |= {"generated": True, "sources": [{"file_name": source}]}
    problems = overlap_problems(_set(tmp_path, "made", made), _set(tmp_path, "val", val))
    assert [(p.kind, p.where, p.index) for p in problems] == [("overlap", "image 2", 1)]
    assert problems == check_dataset(tmp_path / "made.json", other=tmp_path / "val.json")
    whole = _set(tmp_path, "made", made)
    assert overlap_problems(replace(whole, images=whole.images[1:]), _set(tmp_path, "val", val)) == problems


def test_what_was_made_of_pictures_of_mini_val_is_taken_out_with_them(tmp_path: Path) -> None:
    """Pasted people are in training as much as their photographs; a generated picture's own name says nothing."""
    photos, made = _renamed("{:012d}.jpg", 3), _renamed("{:012d}.png", 3)
    for image, number in zip(made["images"], (2, 3, 1), strict=True):
        image |= {"generated": True, "sources": [{"file_name": f"{number:012d}.jpg"}]}
    made["images"][0]["file_name"] = "paste-1.png"
    val = _set(tmp_path, "val", _renamed("{:012d}.jpg", 2))
    photos["images"][0]["generated"] = False
    both = [_set(tmp_path, "photos", photos), _set(tmp_path, "made", made)]
    assert _names(split([both[0]], minival=val)[0]) == ["000000000003.jpg"]
    train, _ = split([both[1]], minival=val)
    assert _names(train) == ["000000000002.png"]
    assert not overlap_problems(_set(tmp_path, "left", train), val)
    assert "2 images taken out, being made of pictures of mini-val" in train["info"]["split"]["notes"]
    made["images"][1]["file_name"], made["images"][2]["file_name"] = "paste-2.png", "paste-3.png"
    both[1] = _set(tmp_path, "made", made)
    for seed in range(4):
        train, mini = split(both, count=2, seed=seed)
        assert not {s for row in train["images"] for s in sources_of(row)} & set(_names(mini))


def test_nothing_is_judged_by_generated_pictures(tmp_path: Path) -> None:
    """Mini-val is drawn from photographs, and what was made of those goes with them."""
    photos, made = _renamed("{:012d}.jpg", 4), _renamed("paste-{}.png", 8)
    for image in made["images"]:
        image |= {"generated": True, "sources": [{"file_name": f"{1 + image['id'] % 4:012d}.jpg"}]}
    both = [_set(tmp_path, "photos", photos), _set(tmp_path, "made", made)]
    for keypoints_only in (True, False):
        train, mini = split(both, fraction=0.5, keypoints_only=keypoints_only)
        assert len(mini["images"]) == 2 and set(_names(mini)) < set(_names(photos))
        assert len(train["images"]) == 2 + 4
        assert not {source for row in train["images"] for source in sources_of(row)} & set(_names(mini))
    with pytest.raises(ConfigError, match="none of 8 images can be in mini-val, which takes photographs"):
        split(both[1:], count=2)
    with pytest.raises(DatasetError, match=r"made\.json: 8 of its 8 pictures are marked generated"):
        split(both[:1], minival=both[1])


@pytest.mark.parametrize("how", [{}, {"count": 0}, {"count": 3}, {"fraction": 1.5}, {"count": 1, "fraction": 0.5}])
def test_impossible_wishes_are_named(tmp_path: Path, how: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"mini-val|fraction"):
        split([_set(tmp_path, "a", tiny_dict(3, 1))], **how)


def test_nothing_to_split() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        split([], count=1)


def test_two_skeletons_do_not_mix(tmp_path: Path) -> None:
    path = write_json(tmp_path, tiny_dict(2, 1))
    with pytest.raises(DatasetError, match="read both with the same skeleton"):
        split([read_dataset(path), read_dataset(path, skeleton=LSP_14)], count=1)
