"""Less jitter however the body moves, little lag of limbs, in body sizes and seconds."""

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


def noisy(moves: np.ndarray, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(exact, found) keypoints (T, K, 2) of somebody who is moved by ``moves`` (T, 2) pixels, found with noise."""
    rng = np.random.default_rng(0)
    exact = np.array([walker(100).keypoints + move for move in moves])
    return exact, exact + rng.normal(0, noise, exact.shape)


def people_at(points: np.ndarray) -> list:
    low, high = points.min(axis=1) - 5, points.max(axis=1) + 5
    return [replace(walker(100), keypoints=one, box=np.concatenate(corners))
            for one, corners in zip(points, zip(low, high, strict=True), strict=True)]


SECONDS = np.arange(150)[:, None] / RATE
MOVES = {"at rest": 0 * SECONDS, "walking": 200 * SECONDS, "running": 800 * SECONDS,
         "to and fro": 110 * np.sin(5 * SECONDS), "stopping": np.abs(400 * (SECONDS % 2 - 1))}


@pytest.mark.parametrize("how", MOVES)
def test_joints_jitter_half_as_much_and_lag_nowhere_however_the_body_moves(how: str) -> None:
    exact, found = noisy(MOVES[how] * [1, 0.3])
    off, was_off = ((points - exact)[30:] for points in (smoothed(people_at(found)), found))
    assert np.diff(off, axis=0).std() < 0.5 * np.diff(was_off, axis=0).std()
    assert np.sqrt((off**2).mean()) < 0.7 * np.sqrt((was_off**2).mean())
    assert off.mean(axis=(0, 1)) == pytest.approx(0, abs=0.1)  # and not behind


def test_a_limb_that_moves_lags_less_than_a_frame() -> None:
    def reach(speed: float, **settings: float) -> np.ndarray:
        """(T,) frames that a wrist lags which moves away from a body at rest, two body sizes a second."""
        exact = np.array([walker(100).keypoints for _ in range(45)])
        exact[:, 9, 0] += speed / RATE * np.arange(45)
        people = [replace(walker(100), keypoints=points) for points in exact]
        return (exact - smoothed(people, **settings))[20:, 9, 0] / (speed / RATE)

    lag = reach(200.0)
    assert (lag > 0).all() and lag.max() < 1  # and causal
    assert lag.max() < 0.5 * reach(200.0, beta=0.0).max()  # what a plain low-pass filter lags


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
    points = walker(100).keypoints.copy()
    points[9] += 20  # a wrist alone: the body's own step is not smoothed
    person = replace(walker(100), keypoints=points, track_id=1)
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
