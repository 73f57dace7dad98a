"""An extended set: ordinary, judged, counted; the same bytes however it was made; and plain about wrong wishes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from tiny import contents, tiny_coco
from toy_makers import DotMaker, Dots
from toy_models import coco_bytes, detector_bytes, pose_bytes
from waiting import until

from stagepose.coco import check_dataset, overlap_problems, read_dataset, refuse_generated
from stagepose.errors import ConfigError, DatasetError
from stagepose.extend import Extended, Judge, Made, extend_set

COUNT = 20  # of which 4 cannot be made, and of the other 16 numbers 2, 5, 8, 11, 17 are blue


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    file = tmp_path_factory.mktemp("judge") / "pose.onnx"
    file.write_bytes(pose_bytes())
    return Judge(model=str(file))


def make(out: Path, judge: Judge | None, count: int = COUNT, jobs: int = 1, recipe: Dots | None = None) -> Extended:
    return extend_set(recipe or Dots(), count, out, judge=judge, jobs=jobs, progress=lambda done, total: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, judge: Judge) -> Path:
    home = tmp_path_factory.mktemp("made") / "set"
    make(home, judge)
    return home


def test_it_is_an_ordinary_set_marked_as_generated(made: Path) -> None:
    file = made / "person_keypoints.json"
    assert check_dataset(file, images_dir=made / "images") == []
    found, raw = read_dataset(file), json.loads(file.read_text())
    assert len(found.generated) == len(found.images) == 11
    assert raw["info"]["generated"] is True and raw["info"]["seed"] == 0
    source = {"file_name": "000000000000.jpg", "person": 1, "license": 3}
    assert raw["images"][0]["generated"] is True and raw["images"][0]["sources"] == [source]
    person, bystander = raw["annotations"][:2]
    assert person["generated"] and person["num_keypoints"] == 3 and person["mood"] == "good" and person["oks"] > 0.9
    assert not bystander["generated"] and bystander["num_keypoints"] == 0 and bystander["bbox"] == [1, 1, 8, 8]
    assert (made / "sheet.jpg").is_file()


def test_who_is_not_found_is_dropped_and_counted(made: Path, judge: Judge) -> None:
    done = make(made, judge)  # nothing is left to make: the counts are those of the notes
    assert (done.asked, done.pictures, done.people, done.dropped) == (20, 11, 11, 5)
    assert done.refused == {"a fifth one": 4} and done.acceptance == pytest.approx(11 / 16)
    assert sum(done.histogram) == 16 and sum(done.histogram[5:]) == 11
    report = json.loads((made / "report.json").read_text())
    assert report["acceptance"] == pytest.approx(11 / 16, abs=1e-4) and report["least_oks"] == 0.5
    numbers = {int(file.stem.removeprefix("dots-")) - 1 for file in (made / "images").iterdir()}
    assert numbers == {n for n in range(20) if n % 5 != 4 and n % 3 != 2}


def test_another_threshold_keeps_others_without_another_judging(made: Path, judge: Judge, tmp_path: Path) -> None:
    home = tmp_path / "set"
    make(home, judge)
    (home / "images" / "mine.jpg").write_text("mine")
    lenient = make(home, Judge(model=judge.model, least=0.0))
    assert (lenient.people, lenient.dropped) == (16, 0)
    make(home, judge)
    (home / "images" / "mine.jpg").unlink()  # what it has not made itself is never taken away
    assert contents(home) == contents(made)


def test_a_bar_that_nobody_reaches_takes_nothing_away(judge: Judge, tmp_path: Path) -> None:
    home = tmp_path / "set"
    make(home, judge)
    before = contents(home)
    with pytest.raises(DatasetError, match="nobody to keep of 20 pictures"):
        make(home, Judge(model=judge.model, least=1.0))
    after = contents(home)
    assert {name for name in before if after[name] != before[name]} == {"report.json"}


def test_fewer_than_there_are_is_refused(judge: Judge, tmp_path: Path) -> None:
    home = tmp_path / "set"
    make(home, judge)
    before = contents(home)
    with pytest.raises(DatasetError, match="has come to picture 20 already, 8 are asked for; ask for as many or more"):
        make(home, judge, count=8)
    assert contents(home) == before


def test_a_seed_is_a_number_of_32_bits(tmp_path: Path) -> None:
    for seed in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"seed is {seed}; expected 0 to 4294967295"):
            make(tmp_path / "set", None, recipe=Dots(seed=seed))
    assert not (tmp_path / "set").exists()


def test_without_a_judge_everybody_is_kept(tmp_path: Path) -> None:
    done = make(tmp_path / "set", None)
    assert (done.people, done.dropped, done.unjudged, sum(done.histogram)) == (16, 0, 0, 0)
    raw = json.loads((tmp_path / "set/person_keypoints.json").read_text())
    assert all("oks" not in row for row in raw["annotations"])


def test_processes_and_the_count_asked_for_first_change_no_byte(made: Path, judge: Judge, tmp_path: Path) -> None:
    make(tmp_path / "set", judge, count=3)
    make(tmp_path / "set", judge, jobs=2)
    assert contents(tmp_path / "set") == contents(made)


def test_a_killed_making_goes_on_to_the_same_bytes(made: Path, judge: Judge, tmp_path: Path) -> None:
    home = tmp_path / "set"
    code = ("import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); from toy_makers import Dots; "
            "from stagepose.extend import Judge, extend_set; "
            "extend_set(Dots(), 20, Path(sys.argv[1]), judge=Judge(model=sys.argv[2]), jobs=1, progress=lambda *_: 0)")
    words = [sys.executable, "-c", code, str(home), judge.model, str(Path(__file__).parents[1])]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    until(lambda: list(home.glob("notes/*.json")), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    make(home, judge)
    assert {name: data for name, data in contents(home).items() if not name.endswith(".tmp")} == contents(made)


def test_a_lost_picture_is_made_again(made: Path, judge: Judge, tmp_path: Path) -> None:
    make(tmp_path / "set", judge)
    (tmp_path / "set/images/dots-000001.jpg").unlink()
    (tmp_path / "set/notes/000003.json").write_text("{")
    (tmp_path / "set/notes/000002.json").write_text('{"number": 2}')
    make(tmp_path / "set", judge)
    assert contents(tmp_path / "set") == contents(made)


def test_a_folder_of_another_seed_or_judge_is_refused(made: Path, judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="was begun with seed 0, now it is 1"):
        make(made, judge, recipe=Dots(seed=1))
    with pytest.raises(DatasetError, match="was begun with judge"):
        make(made, None)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not an empty folder"):
        make(tmp_path, judge)


def test_judges_that_cannot_judge_are_refused(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "boxes.onnx").write_bytes(detector_bytes())
    with pytest.raises(ConfigError, match="is a detector; name a pose model"):
        make(tmp_path / "set", Judge(model=str(tmp_path / "boxes.onnx")))
    taught = hashlib.sha256(Path(judge.model).read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match="is the network that taught the maker"):
        make(tmp_path / "set", judge, recipe=Dots(taught_by=frozenset({taught})))
    with pytest.raises(ConfigError, match=r"least OKS is 1\.5"):
        Judge(model=judge.model, least=1.5)
    assert not (tmp_path / "set").exists()


def test_a_judge_of_another_skeleton_judges_the_keypoints_both_have(tmp_path: Path) -> None:
    (tmp_path / "coco.onnx").write_bytes(coco_bytes())  # finds the nose, where the reddest spot is
    done = make(tmp_path / "set", Judge(model=str(tmp_path / "coco.onnx")))
    assert (done.people, done.dropped) == (11, 5)


@dataclass(frozen=True)
class WithoutNoses(Dots):
    """Of every second person the nose is not labelled."""

    def maker(self) -> DotMaker:
        return MakerWithoutNoses(self.seed)


class MakerWithoutNoses(DotMaker):
    def _one(self, number: int) -> Made:
        made = super()._one(number)
        person, bystander = made.people
        labelled = np.array([[number % 2], [1], [1]])
        return replace(made, people=(replace(person, keypoints=person.keypoints * labelled), bystander))


def test_whom_the_judge_knows_no_labelled_keypoint_of_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "coco.onnx").write_bytes(coco_bytes())  # of these keypoints it finds the nose alone
    done = make(tmp_path / "set", Judge(model=str(tmp_path / "coco.onnx")), recipe=WithoutNoses())
    raw = json.loads((tmp_path / "set/person_keypoints.json").read_text())
    unjudged = [row["image_id"] - 1 for row in raw["annotations"] if row["generated"] and "oks" not in row]
    assert unjudged == [n for n in range(COUNT) if n % 2 == 0 and n % 5 != 4]
    assert done.unjudged == len(unjudged) == 8 and sum(done.histogram) == 8
    assert done.dropped == len([n for n in range(COUNT) if n % 2 and n % 3 == 2 and n % 5 != 4])
    assert json.loads((tmp_path / "set/report.json").read_text())["unjudged"] == 8


def test_nobody_left_is_an_error_that_says_why(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nobody to keep of 1 pictures.*") as told:
        make(tmp_path / "set", Judge(model=judge.model, least=1.0), count=1)
    assert "not found by the judge (1)" in str(told.value)
    assert not (tmp_path / "set/person_keypoints.json").exists()


def test_generated_people_are_never_judged_by(made: Path) -> None:
    with pytest.raises(DatasetError, match="11 of its 11 pictures are marked generated"):
        refuse_generated(read_dataset(made / "person_keypoints.json"))


def test_a_generated_picture_overlaps_with_what_it_was_made_of_alone(made: Path, tmp_path: Path) -> None:
    dataset = read_dataset(made / "person_keypoints.json")
    val = read_dataset(tiny_coco(tmp_path, images=4))  # 1 to 4, of which numbers 1 and 3 were made
    problems = overlap_problems(dataset, val)
    assert [(problem.kind, problem.where) for problem in problems] == [("overlap", "image 2"), ("overlap", "image 4")]
    assert "'dots-000002.jpg' was made of '000000000001.jpg'" in problems[0].detail
