"""YOLO pose: sets as their tools lay them out, names that must be told, and lines that are wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

from formats.desk import people_of, read_labels
from stagepose import cli, formats
from stagepose.coco import dataset_from_arrays, read_dataset
from stagepose.errors import DatasetError, SkeletonError
from stagepose.formats import yolo
from stagepose.formats.yolo import label_of
from stagepose.skeleton import COCO_17, Skeleton

EYES = Skeleton(name="eyes", names=("nose", "left_eye", "right_eye"), flip_pairs=(("left_eye", "right_eye"),))
CONFIG = "train: images/train\nval: images/val\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames:\n  0: person\n  1: dog\n"
NAMES = "kpt_names:\n  0: [Nose, left eye, right-eye]\n"
LINE = "0 0.5 0.5 0.5 0.5 0.25 0.5 2 0.75 0.25 1 0 0 0"


def yolo_set(folder: Path, config: str = CONFIG + NAMES, train: dict[str, str | None] | None = None) -> Path:
    """Pictures of 40x20 with a label file each, None for no file; returns data.yaml."""
    rows = {"train": {"a": LINE, "b": "", "c": None} if train is None else train, "val": {"d": LINE}}
    for split, labels in rows.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for name, text in labels.items():
            Image.new("L", (40, 20)).save(folder / "images" / split / f"{name}.jpg")
            if text is not None:
                (folder / "labels" / split / f"{name}.txt").write_text(text)
    (folder / "data.yaml").write_text(config)
    return folder / "data.yaml"


def test_a_set(tmp_path: Path) -> None:
    path = yolo_set(tmp_path)
    assert formats.detect(tmp_path) == ("yolo", path) and formats.open_source("yolo", path).splits == ["train", "val"]
    labels = read_labels("yolo", path)
    assert labels.problems == [] and labels.pictures == tmp_path / "images"
    person = {"box": [10, 5, 30, 15], "nose": (10, 10, 2), "left_eye": (30, 5, 1)}
    assert people_of(labels.dataset) == {"train/a.jpg": [person], "train/b.jpg": [], "train/c.jpg": []}
    assert labels.dataset.skeleton.names == EYES.names and labels.dataset.skeleton.flip_pairs == EYES.flip_pairs
    assert "pictures without a label file: 1, taken as pictures without people" in labels.notes
    assert list(people_of(read_labels("yolo", path, split="val").dataset)) == ["val/d.jpg"]


def test_names_come_from_the_user_where_the_file_has_none(tmp_path: Path) -> None:
    path = yolo_set(tmp_path, CONFIG)
    with pytest.raises(SkeletonError, match=r"data.yaml: names none of its 3 keypoints; say .* --skeleton NAME\|FILE"):
        read_labels("yolo", path)
    labels = read_labels("yolo", path, skeleton=EYES)
    assert people_of(labels.dataset)["train/a.jpg"][0]["left_eye"] == (30, 5, 1)
    with pytest.raises(SkeletonError, match="kpt_shape says 3 keypoints, skeleton 'coco17' has 17"):
        read_labels("yolo", path, skeleton=COCO_17)
    swapped = Skeleton(name="x", names=("left_eye", "right_eye", "nose"), flip_pairs=EYES.flip_pairs)
    with pytest.raises(SkeletonError, match="flip_idx mirrors keypoint 0 with 0, but left_eye mirrors with right_eye"):
        read_labels("yolo", path, skeleton=swapped)


def test_a_hint_where_flip_idx_is_a_published_one(tmp_path: Path) -> None:
    config = f"train: images/train\nkpt_shape: [17, 3]\nflip_idx: {COCO_17.flip_index.tolist()}\nnames: [person]\n"
    with pytest.raises(SkeletonError, match="its flip_idx is that of coco17"):
        read_labels("yolo", yolo_set(tmp_path, config))


def test_names_in_the_file_are_mapped_by_name(tmp_path: Path) -> None:
    labels = read_labels("yolo", yolo_set(tmp_path), skeleton=COCO_17)
    assert labels.dataset.skeleton == COCO_17
    assert people_of(labels.dataset)["train/a.jpg"][0]["left_eye"] == (30, 5, 1)


def test_flip_idx(tmp_path: Path) -> None:
    identity = CONFIG.replace("[0, 2, 1]", "[0, 1, 2]")
    labels = read_labels("yolo", yolo_set(tmp_path / "a", identity + NAMES))
    assert labels.dataset.skeleton.flip_pairs == EYES.flip_pairs and "taken as not told" in labels.notes[0]
    odd = read_labels("yolo", yolo_set(tmp_path / "b", CONFIG + "kpt_names: [top, one, other]\n")).dataset.skeleton
    assert odd.flip_pairs == (("one", "other"),)
    notes = formats.write("coco", read_labels("yolo", tmp_path / "b" / "data.yaml"), tmp_path / "c" / "out.json")
    kept = Skeleton.read(tmp_path / "c" / "out.skeleton.json")
    assert kept.flip_pairs == odd.flip_pairs and any("--skeleton" in line for line in notes)


def test_two_numbers_a_keypoint(tmp_path: Path) -> None:
    config = CONFIG.replace("[3, 3]", "[3, 2]") + NAMES
    labels = read_labels("yolo", yolo_set(tmp_path, config, {"a": "0 .5 .5 .5 .5 .25 .5 0 0 -1 -1"}))
    assert people_of(labels.dataset)["train/a.jpg"] == [{"box": [10, 5, 30, 15], "nose": (10, 10, 2)}]
    assert any("visibility is not told" in note for note in labels.notes)


def test_the_corner_is_no_keypoint(tmp_path: Path) -> None:
    labels = read_labels("yolo", yolo_set(tmp_path, train={"a": "0 .5 .5 .5 .5 .25 .5 2 0 0 2 0 0 1"}))
    assert people_of(labels.dataset)["train/a.jpg"] == [{"box": [10, 5, 30, 15], "nose": (10, 10, 2)}]
    assert "keypoints at 0, 0, the picture's corner: 2, taken as unlabelled" in labels.notes


def test_other_classes_are_counted(tmp_path: Path) -> None:
    path = yolo_set(tmp_path, train={"a": LINE + "\n" + LINE.replace("0", "1", 1)})
    labels = read_labels("yolo", path)
    assert len(labels.dataset) == 1 and "left out: objects of class dog: 1" in labels.notes
    with pytest.raises(DatasetError, match="nothing is labelled 'cat'; the labels are person, dog"):
        read_labels("yolo", path, category="cat")
    path.write_text(path.read_text().replace("person", "cat"))
    with pytest.raises(DatasetError, match=r"which are the people: cat, dog\? --category says it"):
        read_labels("yolo", path)


@pytest.mark.parametrize(("line", "message"), [
    ("0 .5 .5", "line 2: has 3 numbers, expected 14 (class, 4 of the box, 3 x 3)"),
    (LINE.replace("0.75", "30"), "line 2: left_eye is at 30, 0.25; expected fractions of the picture, from 0 to 1"),
    (LINE.replace("0.5 0.5", "0.5 1.5", 1), "line 2: its box is 0.5 1.5 0.5 0.5; expected fractions"),
    (LINE.replace(" 2 ", " 0.9 "), "line 2: the visibility of nose is 0.9, expected 0, 1 or 2"),
    (LINE.replace("0.75", "nan"), "line 2: 'nan' is no number"),
    (LINE.replace("0.75", "x"), "line 2: 'x' is no number"),
    ("7" + LINE[1:], "line 2: class 7 is none of names"),
    (LINE.replace("0.5 0.5 0.5 0.5", "0.5 0.5 0 0.5"), "line 2: its box is 20, 5, 20, 15; expected one of some"),
])  # fmt: skip
def test_a_wrong_line(line: str, message: str, tmp_path: Path) -> None:
    labels = read_labels("yolo", yolo_set(tmp_path, train={"a": f"{LINE}\n{line}\n", "b": LINE}))
    assert [str(each).removeprefix(f"{tmp_path}/labels/train/a.txt: ").startswith(message) for each in labels.problems
            ] == [True], labels.problems
    assert list(people_of(labels.dataset)) == ["train/b.jpg"]  # half its people would be missing from the other


def test_pictures_and_labels_that_have_lost_each_other(tmp_path: Path) -> None:
    path = yolo_set(tmp_path)
    (tmp_path / "images/train/a.jpg").unlink()
    (tmp_path / "images/train/b.jpg").write_text("no picture")
    found = [str(each) for each in read_labels("yolo", path).problems]
    assert len(found) == 2 and "b.jpg" in found[0]
    assert found[1] == f"{tmp_path}/labels/train/a.txt: there is no picture of that name"
    for label in (tmp_path / "labels/val").iterdir():
        label.unlink()
    with pytest.raises(DatasetError, match=r"none of the 1 pictures of val has a label file; .*labels/val/d.txt"):
        read_labels("yolo", path, split="val")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("kpt_shape: [3, 3]\n", "", "kpt_shape is missing; expected the number of keypoints and 2 or 3"),
    ("[3, 3]", "[3, 4]", "kpt_shape is [3, 4]"), ("[0, 2, 1]", "[1, 2, 0]", "flip_idx is [1, 2, 0]; expected the num"),
    ("[0, 2, 1]", "[0, 1]", "flip_idx is [0, 1]"), ("[Nose, left eye", "[Nose, nose", "expected 3 different names"),
    ("[Nose, left eye", "[left eye", "expected 3 names"), ("images/train", "nowhere", "'nowhere' is neither"),
    ("train: images/train\n", "", "has no train; its splits are val"),
    ("images/train", "[1]", "train is [1]; expected"), ("images/train", "{}", "train is {}; expected"),
])  # fmt: skip
def test_a_wrong_data_yaml(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = (CONFIG + NAMES).replace(old, new)
    with pytest.raises(DatasetError) as caught:
        read_labels("yolo", yolo_set(tmp_path, text))
    assert message in str(caught.value) and "\n" not in str(caught.value) and "data.yaml" in str(caught.value)


def test_folders_as_exports_lay_them_out(tmp_path: Path) -> None:
    """Roboflow's: a folder a split, and a path that leads out of the set; lists of pictures; another machine's path."""
    folder = tmp_path / "export"
    for kind in ("images", "labels"):
        (folder / "train" / kind).mkdir(parents=True)
    Image.new("L", (40, 20)).save(folder / "train/images/a.jpg")
    (folder / "train/labels/a.txt").write_text(LINE)
    for place in ("../train/images", "list.txt"):
        (folder / "list.txt").write_text("./train/images/a.jpg\n")
        config = re.sub("train: .*", f"train: {place}", CONFIG.replace("val: images/val\n", "")) + NAMES
        (folder / "data.yaml").write_text("path: /nowhere/at/all\n" + config)
        assert list(people_of(read_labels("yolo", folder / "data.yaml").dataset)) == ["a.jpg"]
    assert label_of(Path("images/x/images/y/a.b.jpg")) == Path("images/x/labels/y/a.b.txt")
    assert label_of(Path("x/a.jpg")) == Path("x/a.txt")


def test_a_split_that_is_not_there_keeps_no_other(tmp_path: Path) -> None:
    path = yolo_set(tmp_path, "test: ../test/images\n" + CONFIG + NAMES)
    assert formats.open_source("yolo", path).splits == ["train", "val"] and len(read_labels("yolo", path).dataset) == 1
    with pytest.raises(DatasetError, match=r"'../test/images' is neither .* set path: to the folder"):
        read_labels("yolo", path, split="test")


def test_a_split_whose_folder_is_empty_keeps_no_other(tmp_path: Path) -> None:
    path = yolo_set(tmp_path, "test: images/test\n" + CONFIG + NAMES)
    (tmp_path / "images" / "test").mkdir()
    assert formats.open_source("yolo", path).splits == ["train", "val"] and len(read_labels("yolo", path).dataset) == 1
    with pytest.raises(DatasetError, match="test: no pictures in this folder"):
        read_labels("yolo", path, split="test")


def test_a_split_left_out_is_told_of_and_train_never_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, words = yolo_set(tmp_path), ["convert", str(tmp_path), "--out", str(tmp_path / "people.json"), "--no-link"]
    path.write_text(path.read_text().replace("images/val", "images/vla"))
    assert cli.main(words) == 0
    assert f"val left out: {path}: 'images/vla' is neither {tmp_path}/images/vla nor" in capsys.readouterr().err
    assert (tmp_path / "people.json").exists()
    path.write_text(path.read_text().replace("images/vla", "images/val").replace("images/train", "images/trian"))
    assert cli.main([*words[:3], str(tmp_path / "again.json")]) == 1
    assert f"error: {path}: 'images/trian' is neither" in capsys.readouterr().err
    assert not (tmp_path / "again.json").exists()
    assert cli.main([*words, "--split", "val"]) == 0
    assert "left out" not in capsys.readouterr().err


def test_a_set_of_three_splits_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yolo_set(tmp_path, "test: images/test\n" + CONFIG + NAMES)
    for kind in ("images", "labels"):
        shutil.copytree(tmp_path / kind / "val", tmp_path / kind / "test")
    watched = {name: Mock(wraps=getattr(yolo, name)) for name in ("read_plain_yaml", "find_images")}
    for name, watch in watched.items():
        monkeypatch.setattr(yolo, name, watch)
    assert cli.main(["convert", str(tmp_path), "--out", str(tmp_path / "mine/people.json")]) == 0
    splits = ("train", "val", "test")
    assert watched["read_plain_yaml"].call_count == 1
    assert [call.args[0] for call in watched["find_images"].call_args_list] == [
        [tmp_path / "images" / split] for split in splits]
    ids = [image.id for split in splits for image in read_dataset(tmp_path / f"mine/people-{split}.json").images]
    assert ids == [1, 2, 3, 4, 5]


def test_writing_says_what_is_lost_and_replaces_nothing(tmp_path: Path) -> None:
    sticks_out = [(5, 5, 2), (-1, 5, 2), (8, 8, 1)]
    dataset = dataset_from_arrays([1, 1], [(-3, 0, 30, 20), (0, 0, 9, 9)], [sticks_out] * 2, skeleton=EYES,
                                  size=(40, 20), areas=[100, 50], crowd=[False, True])
    labels = formats.Labels(dataset, None, [], [])
    notes = formats.write("yolo", labels, tmp_path)
    assert "left out: keypoints outside of their picture: 1" in notes and "left out: crowds: 1, areas: 2" in notes
    assert "boxes cut at their picture's edge: 1" in notes
    written = (tmp_path / "labels/train/000000000001.txt").read_text()
    assert written == "0 0.375 0.5 0.75 1 0.125 0.25 2 0 0 0 0.2 0.4 1\n"
    with pytest.raises(DatasetError, match=r"000000000001.txt: is there already \(1 of 1 files are\)"):
        formats.write("yolo", labels, tmp_path)
    other = formats.Labels(dataset_from_arrays([1], [(0, 0, 9, 9)], [[(1, 1, 2)] * 17]), None, [], [])
    with pytest.raises(DatasetError, match="with other keypoints; choose another folder"):
        formats.write("yolo", other, tmp_path, split="val")
