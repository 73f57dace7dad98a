"""Who is who by their shirts: people painted onto small pictures, who meet, leave and come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from walkers import walker

from stagepose.errors import ConfigError
from stagepose.images import read_image
from stagepose.looks import TORSO, clearly_alike, likeness, looks_of
from stagepose.skeleton import COCO_17, Skeleton
from stagepose.structures import Person
from stagepose.tracking import Tracker

RED, BLUE, GREEN, YELLOW = (200, 30, 40), (10, 20, 250), (30, 150, 60), (230, 210, 40)
JOINTS = [COCO_17.index(name) for name in TORSO]
WIDTH, HEIGHT = 640, 300
GRAIN = np.random.default_rng(0).normal(110, 6, (HEIGHT, 2 * WIDTH, 3)) + np.array([0, 10, -10])


def body(x: float, score: float = 0.9) -> Person:
    """A walker with a torso of 30 x 50 pixels."""
    person = walker(x, score=score)
    points = person.keypoints.copy()
    points[JOINTS] = [(x + 15, 150), (x - 15, 150), (x - 15, 200), (x + 15, 200)]
    return replace(person, keypoints=points)


def painted(*people: tuple[Person, Any], seed: int = 0) -> np.ndarray:
    """A picture with noise, and the people in their shirts, the foremost last."""
    pixels = np.clip(GRAIN[:, seed % WIDTH:seed % WIDTH + WIDTH], 0, 255).astype(np.uint8)
    for person, shirt in people:
        cv2.fillPoly(pixels, [np.round(person.keypoints[JOINTS]).astype(np.int32)], shirt)
    return pixels


def seen(tracker: Tracker, time: float, *people: tuple[Person, Any]) -> list[int | None]:
    """Their ids; who is outside of the picture, by more than two thirds, is not there."""
    there = [(person, shirt) for person, shirt in people if -10 < person.keypoints[JOINTS, 0].mean() < WIDTH + 10]
    found = tracker.update([person for person, _ in there], time, painted(*there, seed=round(time * 1000)))
    return [person.track_id for person in found]


@pytest.mark.parametrize("rate", [5.0, 12.5, 25.0])
def test_two_who_meet_turn_round_and_part_keep_their_ids(rate: float) -> None:
    tracker = Tracker()
    for time in np.arange(0, 6, 1 / rate):
        apart = 8 + 60 * abs(time - 3)
        assert seen(tracker, float(time), (body(300 - apart), RED), (body(300 + apart), BLUE)) == [1, 2], time


def away(tracker: Tracker, shirt: Any, seconds: float, back: Any, others: tuple[tuple[Person, Any], ...] = ()) -> Any:
    """One leaves to the left at 100 pixels a second; after so many seconds somebody comes in there: that one's id."""
    for time in np.arange(0, 3, 0.08):
        seen(tracker, float(time), *others, (body(200 - 100 * time), shirt))
    start = 2.1 + seconds
    for time in np.arange(3, start, 0.08):
        seen(tracker, float(time), *others)
    found = [seen(tracker, float(time), *others, (body(100 * (time - start)), back))
             for time in np.arange(start + 0.01, start + 2, 0.08)]
    return found[-1][-1]


@pytest.mark.parametrize(("seconds", "back", "expected"), [
    (1.5, RED, 1), (6, RED, 1), (25, RED, 1), (35, RED, 2), (1.5, GREEN, 2), (6, GREEN, 2),
])  # fmt: skip
def test_who_comes_back_in_the_same_shirt_has_the_id_of_before(seconds: float, back: Any, expected: int) -> None:
    assert away(Tracker(), RED, seconds, back) == expected


def test_looks_and_recall_can_be_turned_off() -> None:
    assert away(Tracker(looks=False), RED, 6, RED) == 2
    assert away(Tracker(recall=0), RED, 6, RED) == 2
    assert away(Tracker(looks=False), RED, 1.5, RED) == 1, "an edge is an edge"


def test_after_a_cut_nobody_is_known_by_looks() -> None:
    tracker = Tracker()
    for frame in range(40):
        seen(tracker, frame / 25, (body(100), RED))
    tracker.forget()
    assert seen(tracker, 1.7, (body(110), RED)) == [2]


def test_of_a_team_nobody_is_taken_for_another() -> None:
    """One in the same shirt is in view; two in the same shirt are gone; two come at once."""
    assert away(Tracker(), RED, 6, RED, ((body(500), RED),)) == 3
    tracker = Tracker()
    for time in np.arange(0, 4, 0.08):
        seen(tracker, float(time), (body(200 - 100 * time), RED), (body(500 + 100 * time), RED))
    assert seen(tracker, 9.0, (body(20), RED)) == [3]
    tracker = Tracker()
    for time in np.arange(0, 4, 0.08):
        seen(tracker, float(time), (body(200 - 100 * time), RED))
    assert seen(tracker, 9.0, (body(20), RED), (body(620), RED)) == [2, 3]


def test_two_who_have_been_gone_each_have_their_id_again() -> None:
    tracker = Tracker()
    for time in np.arange(0, 4, 0.08):
        seen(tracker, float(time), (body(200 - 100 * time), RED), (body(500 + 100 * time), YELLOW))
    assert seen(tracker, 9.0, (body(20), YELLOW), (body(620), RED)) == [2, 1]


def test_who_comes_in_by_half_where_another_went_out_is_told_by_the_shirt_once_it_shows() -> None:
    for shirt, expected in ((RED, 1), (GREEN, 2)):
        tracker = Tracker()
        for time in np.arange(0, 2.3, 0.08):
            seen(tracker, float(time), (body(200 - 100 * time), RED))
        half = body(10)
        half = replace(half, scores=np.where(np.isin(np.arange(17), JOINTS), 0.1, half.scores))
        assert seen(tracker, 3.6, (half, shirt)) == [1]
        assert seen(tracker, 3.7, (body(20), shirt)) == [expected]
        assert seen(tracker, 3.8, (body(30), shirt)) == [expected]


def test_nobody_comes_back_from_farther_than_a_runner() -> None:
    tracker = Tracker()
    for frame in range(40):
        seen(tracker, frame / 25, (body(320), RED))
    far = replace(body(320), box=np.array([5, 5, 15, 25]))
    tracker.tracks[1].whole = far.box
    assert seen(tracker, 1.9, (body(600), RED)) == [2]


def test_the_same_pictures_give_the_same_ids_and_without_any_all_is_as_before() -> None:
    def walk(tracker: Tracker, pictures: bool) -> list[int | None]:
        found = []
        for time in np.arange(0, 5, 0.08):
            people = [(body(100 + 90 * time), RED), (body(500 - 90 * time), BLUE)]
            picture = painted(*people) if pictures else None
            found += [person.track_id for person in tracker.update([person for person, _ in people], time, picture)]
        return found

    assert walk(Tracker(), True) == walk(Tracker(), True)
    assert walk(Tracker(), False) == walk(Tracker(looks=False), False)


def test_those_remembered_are_of_the_last_seconds_alone() -> None:
    tracker = Tracker(memory=0.5, recall=4.0)
    for frame in range(400):
        seen(tracker, frame / 10, (body(30 + 580 * (frame // 10 % 2)), (frame // 10 * 37 % 256, 90, 200)))
    assert len(tracker._gone) <= 5


def look_of(person: Person, pixels: np.ndarray) -> Any:
    return looks_of([person], pixels)[0]


def test_a_shirt_is_like_itself_at_any_size_and_unlike_others() -> None:
    shirts = [RED, BLUE, GREEN, YELLOW]
    looks = [look_of(body(100), painted((body(100), shirt))) for shirt in shirts]
    big = [look_of(replace(body(300), keypoints=body(300).keypoints * 4),
                   cv2.resize(painted((body(300), shirt), seed=1), None, fx=4, fy=4)) for shirt in shirts]
    alike = likeness(looks, big)
    assert (alike.diagonal() > 0.9).all() and (alike[~np.eye(4, dtype=bool)] < 0.5).all()
    assert alike.min() >= 0 and alike.max() <= 1 + 1e-9


def test_what_cannot_be_seen_looks_like_nobody() -> None:
    person = body(100)
    picture = painted((person, RED))
    tiny = replace(person, keypoints=person.keypoints * 0.05)
    unsure = replace(person, scores=np.full(17, 0.2))
    beside = [replace(person, keypoints=person.keypoints + offset) for offset in (-300, 1e3, -1e300, 1e300)]
    point = replace(person, keypoints=np.full((17, 2), 50.0))
    line = replace(person, keypoints=np.stack([np.arange(17) * 1e9, np.full(17, 50)], axis=1))
    assert looks_of([tiny, unsure, *beside, point, line], picture) == [None] * 8
    assert look_of(person, picture) is not None
    assert look_of(person, np.repeat(picture[:, :, :1], 3, axis=2)) is None, "a picture without colours"
    assert looks_of([person], None) == [None] and looks_of([], picture) == []
    assert np.isnan(likeness([None, look_of(person, picture)], [None])).all() and likeness([], [None]).shape == (0, 1)


def test_skeletons_without_a_torso_are_tracked_by_place() -> None:
    skeleton = Skeleton(name="hand", names=("wrist", "thumb"), sigmas=(0.1, 0.1))
    hand = Person(box=np.array([100, 100, 150, 150]), keypoints=np.array([[110, 110], [140, 140]]), scores=np.ones(2),
                  score=0.9, skeleton=skeleton)
    tracker, picture = Tracker(), painted()
    assert looks_of([hand], picture) == [None]
    assert [tracker.update([hand], time, picture)[0].track_id for time in (0.0, 0.1, 0.2)] == [1, 1, 1]


def test_pictures_of_all_kinds_and_what_is_none() -> None:
    tracker, person = Tracker(), body(100)
    picture = painted((person, RED))
    kinds = (picture, read_image(picture), picture[:, :, 0], None, picture[:1, :1], picture[:, ::-1])
    for time, one in enumerate(kinds):
        assert [found.track_id for found in tracker.update([person], float(time), one)] == [1]
    for wrong in (picture.astype(float), picture[:, :, :2], picture[None], [[1]], "clip.mp4"):
        with pytest.raises(ConfigError, match=r"picture is .* uint8 RGB"):
            tracker.update([person], 9.0, wrong)  # type: ignore[arg-type]
    assert tracker.update([person], 9.0)[0].track_id == 1, "as if it had not been asked"


def test_two_newcomers_share_nobody() -> None:
    assert clearly_alike(np.array([[0.95, 0.1], [0.2, 0.9]]), np.array([np.nan, 0.3])) == [(0, 0), (1, 1)]
    assert clearly_alike(np.array([[0.95], [0.93]]), np.zeros(2)) == []
    assert clearly_alike(np.array([[0.95, 0.9]]), np.zeros(1)) == []
    assert clearly_alike(np.array([[0.95]]), np.array([0.9])) == [] == clearly_alike(np.zeros((1, 0)), np.zeros(1))
