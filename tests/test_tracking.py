"""Ids over time: crossing, hidden and unsure people, uneven frame times; the assignment against all permutations."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from walkers import behind, walker

from stagepose.assignment import assign
from stagepose.errors import ConfigError
from stagepose.smoothing import Smoother
from stagepose.tracking import Tracker
from stagepose.tracks import Track, similarity


@pytest.mark.parametrize("seed", range(60))
def test_assignment_is_the_cheapest_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 6, 2))
    costs = rng.integers(-4, 5, shape).astype(float) if seed % 2 else rng.normal(size=shape)  # integers: many ties
    pairs = assign(costs)
    wide = costs if shape[0] <= shape[1] else costs.T
    best = min(sum(wide[i, j] for i, j in enumerate(order)) for order in permutations(range(wide.shape[1]), len(wide)))
    assert len(pairs) == min(shape) == len({n for n, _ in pairs}) == len({m for _, m in pairs})
    assert sum(costs[n, m] for n, m in pairs) == pytest.approx(best)


def ids(people: list) -> list[int]:
    return [person.track_id for person in people]


@pytest.mark.parametrize("rate", [10.0, 25.0, 60.0])
def test_two_who_cross_keep_their_ids_whatever_the_frame_rate(rate: float) -> None:
    tracker = Tracker()
    rng = np.random.default_rng(0)
    for frame in range(int(4 * rate)):
        time = frame / rate
        right, left = walker(100 + 100 * time, rng=rng, noise=1), walker(500 - 100 * time, shape=1, rng=rng, noise=1)
        if frame % 2:  # the order in which they are found tells nothing
            assert ids(tracker.update([left, right], time)) == [2, 1]
        else:
            assert ids(tracker.update([right, left], time)) == [1, 2]


def test_two_of_the_same_pose_who_cross_are_told_apart_by_their_motion() -> None:
    tracker = Tracker()
    for frame in range(100):
        time = frame / 25
        assert ids(tracker.update([walker(100 + 100 * time), walker(500 - 100 * time)], time)) == [1, 2]


def test_who_is_hidden_for_most_of_a_second_comes_back_as_the_same_and_later_as_another() -> None:
    for hidden, expected in ((0.9, 1), (1.2, 2)):
        tracker = Tracker(memory=1.0)
        for frame in range(25):
            tracker.update([walker(100 + 60 * frame / 25)], frame / 25)
        time = 24 / 25
        for step in range(1, int(hidden * 25)):
            tracker.update([], time + step / 25)
        back = time + hidden
        assert ids(tracker.update([walker(100 + 60 * back)], back)) == [expected], hidden


def test_who_is_behind_another_for_a_second_and_a_half_comes_back_as_the_same() -> None:
    tracker, rng, met = Tracker(), np.random.default_rng(0), 3.0
    for frame in range(int(2 * met * 25)):
        time = frame / 25
        apart = 40 * (time - met)
        front, behind = (walker(400 + side * apart / 2, shape=shape, rng=rng, noise=2)
                         for side, shape in ((1, 0), (-1, 1)))
        hidden = abs(apart) < 30
        assert ids(tracker.update([front] if hidden else [front, behind], time)) == ([1] if hidden else [1, 2])


@pytest.mark.parametrize("every", [1, 3])  # frames from one look to the next
@pytest.mark.parametrize(("back", "front"), [(180, -180), (90, -90), (40, -40), (0, 90), (170, 110), (90, 150)])
def test_who_passes_behind_another_and_is_seen_in_part_keeps_the_id(back: int, front: int, every: int) -> None:
    """Pixels a second; the box shrinks, its middle stops, and hidden joints are guessed."""
    tracker, rng = Tracker(), np.random.default_rng(0)
    seconds = 300 / abs(back - front)
    for time in np.arange(0, seconds, every / 25):
        x_back, x_front = (400 + speed * (time - seconds / 2) for speed in (back, front))
        hidden = behind(walker(x_back), x_front - 25, x_front + 25, rng)
        people = [walker(x_front, shape=1, rng=rng, noise=2), *([hidden] if hidden else [])]
        assert ids(tracker.update(people, float(time))) == [1, 2][:len(people)], time


def test_of_two_of_whom_one_was_seen_for_a_while_both_have_their_ids_again() -> None:
    """One walks past one who stands; while one hides the other both are one box, which goes on with the wrong track."""
    tracker = Tracker()
    for time in np.arange(0, 3, 0.04):
        stands, walks = walker(400), walker(260 + 90 * time)
        x = walks.box[[0, 2]].mean() - 400
        if x < -45 or x > 40:
            seen = [stands, walks]
        elif x < 20:
            seen = [replace(stands, box=np.array([min(370, 370 + x), 120, max(430, 430 + x), 280]))]
        else:
            seen = [walks]
        found = ids(tracker.update(seen, float(time)))
        if x > 50 or x < -50:
            assert found == [1, 2], time


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("speed", [60, 120, 240])
@pytest.mark.parametrize("seconds", [0.7, 1.2, 1.8])  # without being seen
def test_who_walks_behind_a_wall_comes_out_as_the_same(seconds: float, speed: int, every: int) -> None:
    tracker, rng, seen = Tracker(), np.random.default_rng(0), []
    left, right = 400, 420 + speed * seconds
    for time in np.arange(0, 2 + seconds + 120 / speed, every / 25):
        person = behind(walker(left - 30 + speed * (time - 1)), left, right, rng)
        seen.append(ids(tracker.update([person] if person else [], float(time))))
    assert [] in seen and seen[0] == seen[-1] == [1] and [2] not in seen


def test_somebody_else_comes_out_from_behind_a_wall() -> None:
    """Of another size, or too early: only somebody who could be there by then is the same."""
    for other, wait in ((walker(520, 320), 0.8), (walker(700), 0.8), (walker(420, 80), 0.4)):
        tracker, rng = Tracker(), np.random.default_rng(0)
        for time in np.arange(0, 2, 0.04):
            person = behind(walker(250 + 120 * time), 400, 500, rng)
            tracker.update([person] if person else [], float(time))
        assert ids(tracker.update([other], 2 + wait)) == [2]


def test_two_who_walk_side_by_side_for_long_keep_their_ids() -> None:
    tracker, rng = Tracker(), np.random.default_rng(0)
    for time in np.arange(0, 6, 0.12):
        x = 50 + 120 * time
        near, far = walker(x, rng=rng, noise=2), behind(walker(x + 32, shape=1), x - 25, x + 25, rng)
        assert far is not None and ids(tracker.update([near, far], float(time))) == [1, 2], time


def test_who_sits_down_behind_a_desk_keeps_the_id_and_gets_up_again() -> None:
    tracker = Tracker()
    for time in np.arange(0, 9, 0.04):
        person = walker(300)
        if 2 < time < 7:  # the lower half is not seen
            person = replace(person, box=np.array([270, 150, 330, 220]))
        assert ids(tracker.update([person], float(time))) == [1], time


def test_an_unsure_person_goes_on_but_does_not_begin() -> None:
    tracker = Tracker(threshold=0.5)
    assert tracker.update([walker(100, score=0.4)], 0.0) == []
    assert ids(tracker.update([walker(100, score=0.6)], 0.1)) == [1]
    assert ids(tracker.update([walker(102, score=0.4), walker(400, score=0.4)], 0.2)) == [1]


RATES = pytest.mark.parametrize("rate", [1.0, 5.0, 12.5, 25.0, 60.0])


@RATES
def test_what_was_sure_once_does_not_live_on_unsure(rate: float) -> None:
    """A third of a second, or three frames where that is longer."""
    tracker = Tracker()
    seen = [len(tracker.update([walker(100, score=0.4 if frame else 0.6)], frame / rate)) for frame in range(60)]
    gone = seen.index(0)
    assert 2 <= gone <= max(3, rate / 3) and sum(seen) == gone
    assert ids(tracker.update([walker(100, score=0.6)], 60 / rate)) == [1 if 60 / rate < 2 else 2]


@RATES
def test_who_was_sure_for_long_goes_on_unsure_for_a_second_and_is_the_same_after_two(rate: float) -> None:
    tracker, frames = Tracker(), max(int(2 * rate), 20)
    seen = [ids(tracker.update([walker(100, score=0.4 if 0 <= frame < frames else 0.6)], frame / rate))
            for frame in range(-frames, 2 * frames)]
    assert all(found == [1] for found in seen[:frames + int(rate)])
    assert not any(seen[frames + int(max(1.5 * rate, 15)):2 * frames])
    if rate >= 5:  # otherwise it is gone for longer than anybody is remembered
        assert all(found == [1] for found in seen[2 * frames:])


@RATES
def test_who_is_sure_every_other_time_goes_on_for_ever(rate: float) -> None:
    tracker = Tracker()
    for frame in range(200):
        assert ids(tracker.update([walker(100, score=0.4 if frame % 2 else 0.6)], frame / rate)) == [1]


def test_a_sure_person_has_the_first_choice() -> None:
    tracker = Tracker()
    tracker.update([walker(100)], 0.0)
    found = tracker.update([walker(100, score=0.4), walker(104, score=0.9)], 0.1)
    assert [(person.track_id, person.score) for person in found] == [(1, 0.9)]


@pytest.mark.parametrize("rate", [10.0, 25.0, 60.0])
def test_a_ghost_beside_somebody_does_not_take_the_id(rate: float) -> None:
    """Seen twice for a moment, then once again, nearer to the ghost."""
    tracker = Tracker()
    for frame in range(int(rate)):
        assert ids(tracker.update([walker(100)], frame / rate)) == [1]
    assert ids(tracker.update([walker(100), walker(114)], 1.0)) == [1, 2]
    for frame in range(1, 10):
        assert ids(tracker.update([walker(112)], 1 + frame / rate)) == [1]


def test_joints_that_nobody_is_sure_of_tell_nobody_apart() -> None:
    seen = walker(100)
    points, scores = seen.keypoints.copy(), seen.scores.copy()
    points[9:], scores[9:] = 1e4, 0
    [[sure, unsure]] = similarity([Track(seen, 0.0)], [seen, replace(seen, keypoints=points, scores=scores)], 0.1)
    assert unsure == pytest.approx(sure, abs=1e-6)


def test_somebody_elsewhere_is_somebody_else_and_ids_are_not_used_again() -> None:
    tracker = Tracker(memory=0.2)
    assert ids(tracker.update([walker(100)], 0.0)) == [1]
    assert ids(tracker.update([walker(400)], 0.1)) == [2]
    assert ids(tracker.update([walker(100)], 5.0)) == [3]


@pytest.mark.parametrize("pause", [2.1, 60, 3600])
def test_after_a_pause_somebody_in_that_place_is_the_same_and_somebody_elsewhere_is_not(pause: float) -> None:
    for x, expected in ((100, 1), (130, 1), (250, 2), (1500, 2)):
        tracker = Tracker()
        for frame in range(10):
            tracker.update([walker(100)], frame / 25)
        assert ids(tracker.update([walker(x)], pause)) == [expected], x


def test_frames_left_out_are_only_time() -> None:
    tracker = Tracker()
    times = np.cumsum(np.random.default_rng(1).uniform(0.01, 0.2, 40))
    for time in times:
        assert ids(tracker.update([walker(100 + 150 * time), walker(900 - 20 * time, shape=1)], float(time))) == [1, 2]


def test_two_frames_a_millisecond_apart_send_nobody_away() -> None:
    """As a screen recording has them: a pixel in a millisecond is no speed."""
    tracker = Tracker()
    for time, x in ((0.0, 100), (0.001, 102), (0.2, 101), (0.201, 99), (0.6, 100)):
        assert ids(tracker.update([walker(x)], time)) == [1]


def test_who_is_expected_was_seen_in_the_last_frame() -> None:
    tracker = Tracker()
    tracker.update([walker(100), walker(400)], 0.0)
    tracker.update([walker(400)], 0.1)
    assert [name for name, _ in tracker.expected(0.2)] == [2]


def test_nothing_is_kept_of_people_long_gone() -> None:
    tracker = Tracker(memory=1.0)
    for frame in range(300):
        tracker.update([walker(1000.0 * frame)], frame / 10)
    assert len(tracker.tracks) <= 11


def test_after_a_cut_everybody_is_somebody_else() -> None:
    tracker = Tracker()
    assert ids(tracker.update([walker(100), walker(400)], 0.0)) == [1, 2]
    tracker.forget()
    assert not tracker.tracks and tracker.expected(0.1) == []
    assert ids(tracker.update([walker(100), walker(400)], 0.1)) == [3, 4]
    with pytest.raises(ConfigError, match="seconds that increase"):
        tracker.update([], 0.1)


def test_wrong_settings_and_times_are_one_line() -> None:
    for setting in ({"threshold": 2}, {"least": -1}, {"memory": -1}, {"memory": float("nan")}, {"memory": "1"},
                    {"recall": -1},
                    {"least": None}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            Tracker(**setting)
    tracker = Tracker()
    tracker.update([], 1.0)
    for time in (1.0, 0.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="seconds that increase"):
            tracker.update([], time)


@pytest.mark.parametrize("people", [[[walker(100)]], [[]], walker(100), None])
def test_people_of_several_pictures_are_not_those_of_one(people: Any) -> None:
    tracker = Tracker()
    for update, who in ((tracker.update, "a tracker"), (Smoother().update, "a smoother")):
        with pytest.raises(ConfigError, match=rf"^{who} needs the people of one picture.*predictor\(picture\)\[0\]$"):
            update(people, 1.0)
    assert ids(tracker.update([walker(100)], 1.0)) == [1], "as if it had not been asked"
