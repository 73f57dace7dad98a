"""Less trembling at rest, little lag in motion, in body sizes and seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from walkers import walker

from stagepose.errors import ConfigError
from stagepose.smoothing import Smoother

RATE = 30.0


def smoothed(people: list, rate: float = RATE, **settings: float) -> np.ndarray:
    smoother = Smoother(**settings)
    return np.array([smoother.update([replace(person, track_id=1)], frame / rate)[0].keypoints
                     for frame, person in enumerate(people)])


def test_at_rest_it_trembles_less_than_half_as_much() -> None:
    rng = np.random.default_rng(0)
    still = [walker(100, rng=rng, noise=1.0) for _ in range(150)]
    raw, out = np.array([person.keypoints for person in still]), smoothed(still)
    assert np.diff(out[30:], axis=0).std() < 0.35 * np.diff(raw[30:], axis=0).std()
    assert out[30:].std(axis=0).mean() < 0.6 * raw[30:].std(axis=0).mean()
    assert out[30:].mean(axis=0) == pytest.approx(raw[30:].mean(axis=0), abs=0.3)  # and not somewhere else


def test_in_motion_it_lags_less_than_two_frames() -> None:
    speed = 200.0  # pixels a second: two body sizes
    out = smoothed([walker(100 + speed * frame / RATE) for frame in range(90)])
    exact = np.array([walker(100 + speed * frame / RATE).keypoints for frame in range(90)])
    lag = (exact - out)[45:, :, 0] / (speed / RATE)  # in frames
    assert (lag > 0).all() and lag.max() < 2  # and causal
    heavy = smoothed([walker(100 + speed * frame / RATE) for frame in range(90)], beta=0.0)
    assert lag.max() < 0.5 * ((exact - heavy)[45:, :, 0] / (speed / RATE)).max()  # what a plain low-pass filter lags


def test_size_of_the_picture_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    people = [walker(100 + frame, rng=rng, noise=1.0) for frame in range(40)]
    large = [replace(person, box=person.box * 4, keypoints=person.keypoints * 4) for person in people]
    assert smoothed(large) == pytest.approx(smoothed(people) * 4)


def test_an_unsure_joint_moves_a_person_less() -> None:
    def step(joints: float) -> float:
        out = smoothed([walker(100), walker(110, joints=joints)])
        return float((out[1] - out[0])[:, 0].mean())

    assert 0 < step(0.1) < 0.3 * step(0.9)


def test_a_joint_that_nobody_sees_goes_with_the_person_and_is_there_when_seen_again() -> None:
    """Hidden while the person walks on by two body sizes; where the network puts it meanwhile is noise."""
    rng, speed = np.random.default_rng(0), 200.0
    people = []
    for frame in range(90):
        person = walker(100 + speed * frame / RATE)
        points, scores = person.keypoints.copy(), person.scores.copy()
        if 30 <= frame < 60:
            points[9], scores[9] = rng.uniform(-500, 500, 2), 0.0
        people.append(replace(person, keypoints=points, scores=scores))
    off = smoothed(people)[:, 9] - np.array([walker(100 + speed * frame / RATE).keypoints[9] for frame in range(90)])
    assert np.abs(off[25:85]).max() < 2 * speed / RATE  # as little as a seen one lags, in test_in_motion


def test_after_a_gap_and_for_somebody_else_it_begins_anew() -> None:
    smoother = Smoother()
    smoother.update([replace(walker(100), track_id=1)], 0.0)
    for person, time in ((replace(walker(300), track_id=2), 0.1), (replace(walker(200), track_id=1), 2.0)):
        assert (smoother.update([person], time)[0].keypoints == person.keypoints).all()


@pytest.mark.parametrize(("gap", "anew"), [(0.45, False), (0.55, True)])
def test_it_begins_anew_after_half_a_second(gap: float, anew: bool) -> None:
    smoother = Smoother()
    smoother.update([replace(walker(100), track_id=1)], 0.0)
    person = replace(walker(120), track_id=1)
    assert (smoother.update([person], gap)[0].keypoints == person.keypoints).all() == anew


def test_boxes_scores_and_ids_stay() -> None:
    smoother = Smoother()
    for time in (0.0, 0.1):
        before = replace(walker(100 + 50 * time), track_id=4)
        after = smoother.update([before], time)[0]
        assert (after.box == before.box).all() and (after.scores == before.scores).all() and after.track_id == 4


def test_wrong_use_is_one_line() -> None:
    for settings in ({"cutoff": 0.0}, {"beta": -1.0}, {"cutoff": float("nan")}, {"cutoff": "1"}, {"beta": None}):
        with pytest.raises(ConfigError, match="cutoff"):
            Smoother(**settings)
    with pytest.raises(ConfigError, match="track_id"):
        Smoother().update([walker(0)], 0.0)
    smoother = Smoother()
    smoother.update([], 1.0)
    with pytest.raises(ConfigError, match="increase"):
        smoother.update([], 1.0)
