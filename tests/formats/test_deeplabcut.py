"""DeepLabCut's CSV of labels, of one animal and of several, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from formats.desk import people_of, read_labels
from stagepose import cli, formats
from stagepose.coco import read_dataset
from stagepose.errors import DatasetError
from stagepose.skeleton import COCO_17, Skeleton

HEAD = "scorer,Ann,Ann,Ann,Ann\nbodyparts,snout,snout,tail_base,tail_base\ncoords,x,y,x,y\n"
SEVERAL = ("scorer,,,Ann,Ann,Ann,Ann,Ann,Ann\nindividuals,,,one,one,two,two,single,single\n"
           "bodyparts,,,Left Eye,Left Eye,Left Eye,Left Eye,corner,corner\ncoords,,,x,y,x,y,x,y\n")


def project(folder: Path, text: str, video: str = "vid", pictures: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """A video's folder of a project, with pictures of 40x20 beside the labels."""
    place = folder / "labeled-data" / video
    place.mkdir(parents=True)
    for name in pictures:
        Image.new("L", (40, 20)).save(place / name)
    (place / "CollectedData_Ann.csv").write_text(text)
    (folder / "config.yaml").write_text("Task: x\nscorer: Ann\n")
    return place


def told(path: Path) -> list[str]:
    return [str(each).partition(".csv: ")[2] for each in read_labels("deeplabcut", path).problems]


def test_one_animal(tmp_path: Path) -> None:
    place = project(tmp_path, HEAD + "labeled-data/vid/a.png,3,4,13,14.126\n" + "labeled-data\\vid\\b.png,,,,\n\n")
    for path in (tmp_path, tmp_path / "labeled-data", place):
        assert formats.detect(path) == ("deeplabcut", path)
    assert formats.detect(place / "CollectedData_Ann.csv") == ("deeplabcut", place / "CollectedData_Ann.csv")
    labels = read_labels("deeplabcut", place)
    assert labels.problems == [] and labels.pictures == place
    assert labels.dataset.skeleton.names == ("snout", "tail_base")
    margin = 0.09 * 10.13
    assert people_of(labels.dataset) == {"a.png": [{
        "box": [pytest.approx(edge, abs=0.01) for edge in (3.5 - margin, 4.5 - margin, 13.5 + margin, 14.63 + margin)],
        "snout": (3, 4, 2), "tail_base": (13, 14.13, 2)}]}
    assert "left out: pictures without a label: 1" in labels.notes


def test_several_individuals_and_bodyparts_of_nobody(tmp_path: Path) -> None:
    text = SEVERAL.replace("Left Eye,Left Eye,corner", "nose,nose,corner")
    project(tmp_path, text + "labeled-data,vid,a.png,3,4,13,14,1,1\nlabeled-data,vid,b.png,3,4,,,,\n")
    labels = read_labels("deeplabcut", tmp_path)
    assert labels.dataset.skeleton == COCO_17
    assert any("bodyparts of no individual (single): 1" in note for note in labels.notes)
    assert [str(each).partition(": ")[2] for each in labels.problems] == [  # one point has no extent
        "line 5: one: its box is 3.5, 4.5, 3.5, 4.5; expected one of some width and height on its picture of 40x20",
        "line 6: one: its box is 3.5, 4.5, 3.5, 4.5; expected one of some width and height on its picture of 40x20"]
    text = ("scorer,Ann,Ann,Ann,Ann,Ann,Ann,Ann,Ann\nindividuals,one,one,one,one,two,two,two,two\n"
            "bodyparts,nose,nose,left_eye,left_eye,nose,nose,left_eye,left_eye\ncoords,x,y,x,y,x,y,x,y\n")
    (tmp_path / "labeled-data/vid/CollectedData_Ann.csv").write_text(text + "labeled-data/vid/a.png,1,2,3,4,5,6,7,8\n")
    labels = read_labels("deeplabcut", tmp_path)
    assert labels.problems == [] and labels.pictures == tmp_path
    ((name, people),) = people_of(labels.dataset).items()
    assert name == "labeled-data/vid/a.png"
    assert [(each["nose"], each["left_eye"]) for each in people] == [((1, 2, 2), (3, 4, 2)), ((5, 6, 2), (7, 8, 2))]


def test_all_videos_of_a_project_are_one_set_and_an_old_copy_is_passed_over(tmp_path: Path) -> None:
    row = "labeled-data/{}/a.png,3,4,13,14\n"
    place = project(tmp_path, HEAD + row.format("vid"))
    project(tmp_path, HEAD.replace("tail_base", "ear") + row.format("other"), "other")
    (place / "CollectedData_Ann_singleanimal.csv").write_text(HEAD + row.format("vid"))
    labels = read_labels("deeplabcut", tmp_path)
    assert labels.problems == [] and labels.dataset.skeleton.names == ("snout", "ear", "tail_base")
    assert sorted(people_of(labels.dataset)) == ["labeled-data/other/a.png", "labeled-data/vid/a.png"]


def test_pictures_elsewhere(tmp_path: Path) -> None:
    place = project(tmp_path, HEAD + "labeled-data/vid/a.png,3,4,13,14\n", pictures=())
    assert told(place) == ["line 4: its picture 'labeled-data/vid/a.png' is not there, and no size is told"]
    for folder in ("flat", "deep/vid"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("L", (40, 20)).save(tmp_path / folder / "a.png")
        labels = read_labels("deeplabcut", place, images=tmp_path / folder.partition("/")[0])
        assert labels.problems == [] and len(labels.dataset) == 1


def test_a_skeleton_of_ones_own(tmp_path: Path) -> None:
    place = project(tmp_path, HEAD + "labeled-data/vid/a.png,3,4,13,14\n")
    mouse = Skeleton(name="mouse", names=("tail_base", "snout", "ear"))
    labels = read_labels("deeplabcut", place, skeleton=mouse)
    assert labels.problems == [] and labels.dataset.keypoints[0].tolist() == [[13, 14, 2], [3, 4, 2], [0, 0, 0]]
    found = read_labels("deeplabcut", place, skeleton=Skeleton(name="mouse", names=("tailbase", "snout"))).problems
    assert [str(each).partition(".csv: ")[2] for each in found] == [
        "line 4: 'tail_base' is no keypoint of skeleton mouse; did you mean tailbase?"]


@pytest.mark.parametrize(("row", "says"), [
    ("labeled-data/vid/a.png,3,4,13\n", "line 4: has 4 cells, expected 5"),
    ("labeled-data/vid/a.png,3,,13,14\n", "line 4: snout is at '3', '', expected two numbers or two empty cells"),
    ("labeled-data/vid/a.png,3,4,13,inf\n", "line 4: tail_base is at '13', 'inf', expected two numbers"),
    ("labeled-data/vid/a.png,3,4,400,14\n", "line 4: tail_base is at 400, 14, outside of its picture of 40x20"),
    ("labeled-data/vid/a.png,3,4,9,9\n" * 2, "line 5: 'labeled-data/vid/a.png' is the picture of"),
])  # fmt: skip
def test_rows_that_are_wrong(row: str, says: str, tmp_path: Path) -> None:
    (one,) = told(project(tmp_path, HEAD + row))
    assert one.startswith(says)


@pytest.mark.parametrize(("text", "says"), [
    ("", "is not a file of labels"), ("a,b\n1,2\n", "is not a file of labels"),
    (HEAD.replace("x,y,x,y", "x,y,likelihood,x"), "has likelihoods, so DeepLabCut has found what is in it"),
    (HEAD.replace("x,y,x,y", "x,x,y,y"), "column 2 is 'snout x', expected x and y of a bodypart side by side"),
    (HEAD.replace("tail_base", "Snout"), "column 4 is 'Snout', which column 2 is too; rename one"),
    (HEAD.replace("x,y,x,y", "x,y,x"), "its header lines have different numbers of cells"),
])  # fmt: skip
def test_files_that_are_none(text: str, says: str, tmp_path: Path) -> None:
    place = project(tmp_path, text)
    with pytest.raises(DatasetError, match=says):
        read_labels("deeplabcut", place)


def test_a_folder_without_labels_and_a_table_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no CollectedData_\*\.csv"):
        read_labels("deeplabcut", tmp_path)
    (tmp_path / "people.csv").write_text("file_name,score\n")
    with pytest.raises(DatasetError, match="in no format that is known here"):
        formats.detect(tmp_path / "people.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"b\.csv: cannot be read as a file of labels"):
        read_labels("deeplabcut", tmp_path / "b.csv")


def test_the_command_makes_a_set_of_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project(tmp_path / "mice", HEAD + "labeled-data/vid/a.png,3,4,13,14\nlabeled-data/vid/b.png,3,4,,\n")
    (tmp_path / "mouse.toml").write_text('name = "mouse"\nnames = ["tail_base", "snout"]\n')
    words = ["convert", str(tmp_path / "mice"), "--out", str(tmp_path / "out/people.json"), "--skeleton",
             str(tmp_path / "mouse.toml")]
    assert cli.main(words) == 1
    assert "draw a box around the person" in capsys.readouterr().err
    assert cli.main([*words, "--drop-bad"]) == 0
    assert "deeplabcut, 1 picture, 1 person" in capsys.readouterr().out
    dataset = read_dataset(tmp_path / "out/people.json")
    assert dataset.keypoints[0].tolist() == [[13, 14, 2], [3, 4, 2]]
