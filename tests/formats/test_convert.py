"""The command: a set of another tool is checked and trained on at once; what is wrong or lost is said."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import contents, tiny_coco, tiny_dict, write_json

from formats.desk import people_of
from stagepose import cli, formats
from stagepose.coco import check_dataset, images_folder, read_dataset
from stagepose.skeleton import COCO_17


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> int:
    return cli.main(["convert", *words])


def rename(path: Path, start: str) -> None:
    """Pictures of their own names, as those of two halves of a set have."""
    data = json.loads(path.read_text())
    for image in data["images"]:
        images = path.parent / "images"
        (images / image["file_name"]).rename(images / f"{start}{image['file_name']}")
        image["file_name"] = f"{start}{image['file_name']}"
    path.write_text(json.dumps(data))


def test_a_yolo_set_becomes_two_files_beside_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    for split, seed in (("train", 0), ("val", 1)):
        path = tiny_coco(Path(split), 3, 2, seed=seed)
        rename(path, split)
        assert run(str(path), "--to", "yolo", "--out", "set", "--split", split) == 0
    out, err = capsys.readouterr()
    assert "left out: areas: 6" in err and "keypoints of skeleton coco17, by name: nose 6, left_eye" in out
    assert run("set", "--out", "mine/people.json", "--estimate-areas") == 0
    assert Path("mine/images").is_symlink() and "6 annotations mended: area-missing" in capsys.readouterr().err
    for split in ("train", "val"):
        path = Path(f"mine/people-{split}.json")
        other = "mine/people-val.json" if split == "train" else None
        problems = check_dataset(path, images_dir=images_folder(path), other=other)
        assert {problem.kind for problem in problems} == {"area-estimated"}
        back, first = read_dataset(path), read_dataset(f"{split}/person_keypoints.json")
        np.testing.assert_allclose(back.keypoints, first.keypoints)
        np.testing.assert_allclose(back.boxes_xyxy, first.boxes_xyxy, atol=0.011)
    assert run("set", "--out", "val.json", "--split", "val", "--no-link") == 0
    assert len(read_dataset("val.json")) == 6 and not Path("images").exists()
    assert "put the pictures into images, or make it a link to" in capsys.readouterr().err


def test_what_predict_found_is_there_to_be_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"), 2, 1)
    names = ["left_wrist", "nose"]  # some order of a model's
    images = [{"id": 5, "file_name": "set/images/000000000001.png", "width": 192, "height": 160},
              {"id": 6, "file_name": "set/images/000000000002.png", "width": 192, "height": 160}]
    person = {"image_id": 5, "category_id": 1, "score": 0.9, "box": [1, 2, 90, 99],
              "keypoints": [10, 20, 0.29, 30, 40, 0.3]}
    Path("found").mkdir()
    write_json(Path("found"), {"complete": True, "keypoints": names, "images": images, "failed": []}, "images.json")
    write_json(Path("found"), [person], "people.json")
    assert formats.detect(Path("found/people.json")) == formats.detect(Path("found")) == ("predict", Path("found"))
    assert run("found", "--out", "fix/people.json", "--skeleton", "coco17") == 0
    assert "visibility: 2 for keypoints that score 0.3 or more (--joint-threshold); the 1" in capsys.readouterr().err
    dataset = read_dataset("fix/people.json")
    assert people_of(dataset) == {"000000000001.png": [{"box": [1, 2, 90, 99], "nose": (30, 40, 2)}],
                                  "000000000002.png": []}
    assert check_dataset("fix/people.json", images_dir="fix/images")[0].kind == "area-missing"
    assert run("found", "--to", "labelme", "--out", "sheets") == 0
    assert [shape["label"] for shape in json.loads(Path("sheets/000000000001.json").read_text())["shapes"]] == [
        "person", "nose"]
    assert "that run was stopped" not in capsys.readouterr().err
    write_json(Path("found"), {"complete": False, "keypoints": names, "images": images, "failed": []}, "images.json")
    assert run("found", "--out", "part.json") == 0
    assert "that run was stopped: the pictures that it had not come to are not" in capsys.readouterr().err
    Path("found/images.json").unlink()
    assert run("found/people.json", "--out", "x.json") == 1
    assert "holds results, but images.json" in capsys.readouterr().err


@pytest.mark.parametrize(("to", "last"), [("yolo", "data.yaml"), ("labelme", "000000000003.json")])
def test_a_disk_that_is_full_leaves_nothing_in_the_way(to: str, last: str, capsys: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace = tiny_coco(Path("set"), 3, 1), Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == last:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        assert run(str(path), "--to", to, "--out", "out") == 1
    assert f"{last}: disk full" in capsys.readouterr().err
    assert [file for file in Path("out").rglob("*") if file.is_file() and not file.is_symlink()] == []
    assert run(str(path), "--to", to, "--out", "out") == 0


def test_a_coco_export_whose_keypoints_stand_in_another_order(capsys: pytest.CaptureFixture[str]) -> None:
    """As CVAT's COCO keypoints 1.0 lies after unpacking, its category named as the task's label is."""
    data = tiny_dict(2, 2)
    order = np.random.default_rng(0).permutation(17)
    data["categories"] = [{"id": 1, "name": "nose", "keypoints": [], "skeleton": []},
                          {"id": 2, "name": "human", "keypoints": [COCO_17.names[k] for k in order], "skeleton": []}]
    first = {}
    for row in data["annotations"]:
        triples = np.reshape(row["keypoints"], (17, 3))
        first[row["id"]] = triples.copy()
        row |= {"category_id": 2, "keypoints": triples[order].ravel().tolist()}
    Path("export/annotations").mkdir(parents=True)
    write_json(Path("export/annotations"), data, "person_keypoints_default.json")
    shutil.copytree(tiny_coco(Path("set"), 2, 2).parent / "images", "export/images/default")
    assert run("export", "--out", "mine/people.json") == 0
    assert "in another order: they are matched by their names" in capsys.readouterr().err
    dataset = read_dataset("mine/people.json")
    assert dataset.skeleton == COCO_17 and check_dataset("mine/people.json", images_dir="mine/images") == []
    for row, number in enumerate(dataset.ids.tolist()):
        np.testing.assert_array_equal(dataset.keypoints[row], first[number] * (first[number][:, 2:] > 0))


def test_annotations_of_other_categories_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(tiny_coco(Path("set"), 2, 2).read_text())
    data["categories"].append({"id": 2, "name": "dog"})
    data["annotations"][0]["category_id"] = 2
    assert run(str(write_json(Path("set"), data)), "--to", "labelme", "--out", "sheets") == 0
    assert "left out: annotations of other categories: 1\n" in capsys.readouterr().err


def test_label_studios_own_coco_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It has the keypoints of all people of a picture in one annotation."""
    Path("export").mkdir()
    write_json(Path("export"), tiny_dict(1, 1) | {"info": {"contributor": "Label Studio"}}, "result.json")
    assert run("export/result.json", "--out", "a.json") == 1
    assert "result.json: is Label Studio's COCO export, in which all keypoints" in capsys.readouterr().err


def test_a_broken_sheet_among_others_is_one_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tiny_coco(Path("set"), 2, 1)), "--to", "labelme", "--out", "sheets") == 0
    Path("sheets/000000000001.json").write_text('{"shapes": [')
    assert run("sheets", "--out", "a.json") == 1
    assert "sheets/000000000001.json: line 1, column 13: not valid JSON" in capsys.readouterr().err
    assert run("sheets", "--out", "a.json", "--drop-bad") == 0
    assert len(read_dataset("a.json").images) == 1


def break_labels() -> None:
    tiny_coco(Path("set"), 3, 1)
    assert run("set/person_keypoints.json", "--to", "yolo", "--out", "yolo") == 0
    for number, (old, new) in enumerate([(" 2 ", " 7 "), ("0 ", "x ")], 1):
        label = Path(f"yolo/labels/train/{number:012d}.txt")
        label.write_text(label.read_text().replace(old, new, 1))


def test_mistakes_are_listed_together_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    break_labels()
    capsys.readouterr()
    assert run("yolo", "--out", "mine.json") == 1
    err = capsys.readouterr().err
    assert "2 x label-value: mend it where it was labelled" in err and not Path("mine.json").exists()
    assert "000000000001.txt: line 1: the visibility of nose is 7" in err
    assert "000000000002.txt: line 1: 'x' is no number" in err
    assert err.splitlines()[-1] == ("error: 2 mistakes, see above; mend them, or leave their pictures out with "
                                    "--drop-bad")
    assert run("yolo", "--out", "mine.json", "--drop-bad") == 0
    assert "pictures with mistakes are left out (2 x label-value)" in capsys.readouterr().err
    assert [image.file_name for image in read_dataset("mine.json").images] == ["000000000003.png"]


@pytest.mark.parametrize(("words", "message"), [
    (["nothing", "--out", "a.json"], "nothing: no such file or folder"),
    (["empty", "--out", "a.json"], "empty: is in no format that is known here; --format names one of"),
    (["a.zip", "--out", "a.json"], "a.zip: is an archive; unpack it first"),
    (["set/person_keypoints.json", "--out", "set/person_keypoints.json"], "is one of the files read; write to another"),
    (["half", "--format", "predict", "--out", "deep.json"], "half/people.json: no such file; give the folder"),
    (["set/person_keypoints.json", "--out", "a.json", "--images", "gone"], "gone: no such folder; --images names"),
    (["set/person_keypoints.json", "--out", "a.json", "--images", "empty"], "1 x image-missing"),
    (["sheets", "--out", "sheets/b.json"], "sheets/b.json: is one of the files read; write to another"),
    (["set/person_keypoints.json", "--out", "a.json", "--format", "cvat"], "not valid XML"),
    (["deep.json", "--out", "a.json"], "deep.json: line 1: nested too deeply"),
    (["set/person_keypoints.json", "--to", "cvat", "--out", "set"], "set: cannot write: a folder of that name"),
])  # fmt: skip
def test_what_cannot_be_read_or_written(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"), 1, 1)
    Path("empty").mkdir()
    Path("a.zip").write_bytes(b"PK")
    Path("deep.json").write_text("[" * 100_000)
    Path("half").mkdir()
    Path("half/images.json").write_text('{"keypoints": ["nose"], "images": []}')
    Path("sheets").mkdir()
    for name in ("a", "b"):
        Path(f"sheets/{name}.json").write_text('{"shapes": [], "imagePath": "a.png"}')
    before = contents(Path())
    assert run(*words) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and contents(Path()) == before


@pytest.mark.parametrize(("words", "message"), [
    (["--out", "a"], "a COCO file is known by its suffix .json"),
    (["--out", "a.json", "--split", "val"], "--split is for YOLO sets"),
    (["--out", "a.xml", "--to", "cvat", "--estimate-areas"], "--estimate-areas is for COCO files"),
    (["--out", "a.json", "--drop-bad"], "--drop-bad is not for COCO files, which 'stagepose check FILE --write-clean"),
    (["--out", "a.json", "--joint-threshold", "2"], "it is a score, between 0 and 1"),
    (["--out", "a.json", "--joint-threshold", ".5"], "is for what 'stagepose predict' wrote; IN is coco, which"),
    (["--out", "a.json", "--category", "dog"], "--category chooses among the labels of yolo, labelme, cvat,"),
    (["--out", "a.xml", "--to", "cvat", "--no-link"], "--no-link is for coco and yolo; with --to cvat no link is made"),
    (["--out", "a.json", "--to", "pascal"], "--to pascal: expected"),
])  # fmt: skip
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tiny_coco(Path("set"), 1, 1)), *words) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_full_circle_through_all_tools() -> None:
    first: Any = people_of(read_dataset(tiny_coco(Path("set"), 2, 2)))
    steps = [("labelme", "a"), ("cvat", "b.xml"), ("labelstudio", "c.json"), ("yolo", "d"), ("coco", "e/end.json")]
    source = "set/person_keypoints.json"
    for kind, out in steps:
        images = ["--images", "set/images"] if kind in ("labelstudio", "yolo") else []
        assert run(source, "--to", kind, "--out", out, *images) == 0
        source = out
    assert people_of(read_dataset("e/end.json")) == first
