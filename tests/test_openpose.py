"""What predict has found, in OpenPose's order and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from stagepose.cli import main
from stagepose.coco.openpose import LAYOUTS, rearranged
from stagepose.errors import ConfigError
from stagepose.files import write_json
from stagepose.skeleton import COCO_17, LSP_14

TWO = Path(__file__).parents[1] / "examples/two_people.jpg"
# OpenPose's documentation, doc/02_output.md: the places of some joints in each layout
PLACES = {
    "body25": {"nose": 0, "right_wrist": 4, "left_wrist": 7, "right_hip": 9, "left_hip": 12, "left_ankle": 14,
               "right_eye": 15, "left_ear": 18},
    "coco18": {"nose": 0, "right_wrist": 4, "left_wrist": 7, "right_hip": 8, "left_hip": 11, "left_ankle": 13,
               "right_eye": 14, "left_ear": 17},
}
LENGTHS = {"body25": 25, "coco18": 18}


def keypoints() -> np.ndarray:
    """(17, 3), every joint somewhere else, every score above .3."""
    return np.column_stack([np.arange(17) * 10.0, np.arange(17) * 7.0 + 3, 0.5 + np.arange(17) / 100])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_joints_stand_where_openpose_has_them(layout: str) -> None:
    mine = keypoints()
    found = rearranged(mine, COCO_17.names, layout)
    assert found.shape == (LENGTHS[layout], 3)
    for name, place in PLACES[layout].items():
        assert found[place].tolist() == mine[COCO_17.names.index(name)].tolist()
    left, right = (mine[COCO_17.names.index(f"{side}_shoulder")] for side in ("left", "right"))
    assert found[1].tolist() == [*((left + right) / 2)[:2], min(left[2], right[2])]
    if layout == "body25":
        left, right = (mine[COCO_17.names.index(f"{side}_hip")] for side in ("left", "right"))
        assert found[8].tolist() == [*((left + right) / 2)[:2], min(left[2], right[2])]
        assert not found[19:].any()  # feet


def test_what_is_not_found_is_nought() -> None:
    mine = keypoints()
    mine[COCO_17.names.index("left_shoulder"), 2] = 0.1
    found = rearranged(mine, COCO_17.names, "coco18", least=0.3)
    assert not found[5].any() and not found[1].any() and found[2].all()  # nor the neck, of half a pair
    assert rearranged(mine, COCO_17.names, "coco18")[1, 2] == 0.1
    of_lsp = rearranged(np.ones((14, 3)), LSP_14.names, "coco18")
    assert of_lsp[2].all() and not of_lsp[0].any()  # which has no nose
    with pytest.raises(ConfigError, match="none of the keypoints paw, tail"):
        rearranged(np.ones((2, 3)), ("paw", "tail"), "coco18")
    with pytest.raises(ConfigError, match="layout is 'body135'"):
        rearranged(mine, COCO_17.names, "body135")


def test_photos_become_a_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, out = tmp_path / "found", tmp_path / "open"
    assert main(["predict", str(TWO), "--out", str(found), "--json-only"]) == 0
    assert main(["openpose", str(found), "--out", str(out), "--joint-threshold", "0"]) == 0
    assert "1 photo in OpenPose's body25" in capsys.readouterr().out
    told = json.loads((out / "two_people_keypoints.json").read_text())
    people = json.loads((found / "people.json").read_text())
    assert told["version"] == 1.3 and len(told["people"]) == len(people) == 2
    for mine, theirs in zip(told["people"], people, strict=True):
        assert mine["person_id"] == [-1] and len(mine["pose_keypoints_2d"]) == 75
        place = COCO_17.names.index("right_knee") * 3
        assert mine["pose_keypoints_2d"][30:33] == theirs["keypoints"][place : place + 3]


def test_frames_and_photos_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    person = {"keypoints": keypoints().ravel().tolist(), "score": 0.9}
    write_json(tmp_path / "images.json", {
        "complete": False, "keypoints": list(COCO_17.names),
        "images": [{"id": 1, "file_name": "a/1.jpg"}, {"id": 2, "file_name": "b/1.png"}],
        "videos": [{"file_name": "walk.mp4", "frames": 3, "results": "walk.people.json"}]})
    write_json(tmp_path / "people.json", [{**person, "image_id": 2}])
    write_json(tmp_path / "walk.people.json", [{**person, "frame": 1, "track_id": 7}])
    assert main(["openpose", str(tmp_path), "--out", str(tmp_path / "open"), "--layout", "coco18"]) == 0
    out, err = capsys.readouterr()
    assert "2 photos and 3 frames" in out and "that run was stopped" in err
    read = {path.name: json.loads(path.read_text())["people"] for path in (tmp_path / "open").iterdir()}
    assert {name: len(people) for name, people in read.items()} == {
        "1_keypoints.json": 0, "1-2_keypoints.json": 1, "walk_000000000000_keypoints.json": 0,
        "walk_000000000001_keypoints.json": 1, "walk_000000000002_keypoints.json": 0}
    assert read["walk_000000000001_keypoints.json"][0]["person_id"] == [7]


@pytest.mark.parametrize(("photo", "ids", "frames", "message"), [
    (1, [77, 77, 1, 5], [1], "people.json: 3 people of image_id 77 and others, which images.json does not have"),
    ("1", [1], [1], "people.json: 1 person of image_id 1, which"),
    (1, [1], [2, 3], "walk.people.json: 1 person of frame 3, which"),
])  # fmt: skip
def test_people_of_no_picture_are_an_error(photo: object, ids: list[int], frames: list[int], message: str,
                                           tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    person = {"keypoints": keypoints().ravel().tolist(), "score": 0.9}
    write_json(tmp_path / "images.json", {
        "complete": True, "keypoints": list(COCO_17.names), "images": [{"id": photo, "file_name": "1.jpg"}],
        "videos": [{"file_name": "walk.mp4", "frames": 3, "results": "walk.people.json"}]})
    write_json(tmp_path / "people.json", [{**person, "image_id": n} for n in ids])
    write_json(tmp_path / "walk.people.json", [{**person, "frame": n} for n in frames])
    assert main(["openpose", str(tmp_path), "--out", str(tmp_path / "open")]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_names_that_meet_are_kept_apart_and_long_ones_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = ["Walk_000000000001.jpg", "y" * 250 + ".jpg", "A.jpg", "a/a.jpg", *(f"d{n}/z.jpg" for n in range(30))]
    write_json(tmp_path / "images.json", {
        "complete": True, "keypoints": list(COCO_17.names),
        "images": [{"id": n, "file_name": name} for n, name in enumerate(photos, 1)],
        "videos": [{"file_name": "walk.mp4", "frames": 3, "results": "walk.people.json"},
                   {"file_name": "full.mp4", "frames": 9}]})
    for name in ("people.json", "walk.people.json"):
        write_json(tmp_path / name, [])
    assert main(["openpose", str(tmp_path), "--out", str(tmp_path / "open")]) == 0
    out, err = capsys.readouterr()
    assert "34 photos and 3 frames" in out and "full.mp4: its results were never finished; left out" in err
    names = {path.name.removesuffix("_keypoints.json") for path in (tmp_path / "open").iterdir()}
    assert len({name.casefold() for name in names}) == 37  # some disks do not tell A from a
    assert {"Walk_000000000001", "walk-2_000000000001", "y" * 180, "A", "a-2", "z", "z-30"} < names


def test_a_person_of_too_few_keypoints_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "images.json", {"complete": True, "keypoints": list(COCO_17.names),
                                          "images": [{"id": 1, "file_name": "a.jpg"}]})
    write_json(tmp_path / "people.json", [{"image_id": 1, "keypoints": [1, 2, 0.5]}])
    assert main(["openpose", str(tmp_path), "--out", str(tmp_path / "open")]) == 1
    assert "not what 'stagepose predict' writes (IndexError" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "message"), [
    (None, "images.json: no such file; give what 'stagepose predict' writes"),
    ("{", "images.json: line 1.*not valid JSON"), ("[]", "not what 'stagepose predict' writes"),
    ('{"keypoints": []}', "not what 'stagepose predict' writes .KeyError: 'complete'"),
])  # fmt: skip
def test_another_folder_is_refused(text: str | None, message: str, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    if text is not None:
        (tmp_path / "images.json").write_text(text)
    assert main(["openpose", str(tmp_path), "--out", str(tmp_path / "open")]) == 1
    err = capsys.readouterr().err.replace("\n", " ")
    assert re.search(message, err)
