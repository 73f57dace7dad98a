"""Who is who from frame to frame: people of a video keep a ``track_id``, also when nobody sees them for two seconds.

A track is where its person was last seen and how fast that box moved. People of a frame go to tracks by OKS and IoU
with where the tracks should be now: the sure ones first, then the unsure ones to the tracks that are left (ByteTrack,
Zhang 2022), which may go on with a track but begin none. Velocities are those between observations, never between
guesses (OC-SORT, Cao 2023). All in seconds: a variable frame rate, or frames left out, change nothing.
N tracks, M people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.oks import keypoint_similarity
from stagepose.structures import Person

Float = NDArray[np.float64]

SMOOTHING_TIME = 0.3  # seconds over which a velocity is averaged
AT_REST = 0.02  # seconds that a new track counts as standing still: two frames a millisecond apart tell no velocity
LONGEST_COAST = 1.0  # seconds for which an unseen person is taken to walk on
BUFFER = 0.3  # boxes grow by this share of their sides a second unseen, on every side (C-BIoU, Yang 2023)
LEAST_BUFFER = 0.1


@dataclass
class Track:
    """A person as last seen, and how the box's centre moves, in pixels a second (2,)."""

    person: Person
    time: float
    velocity: Float = field(default_factory=lambda: np.zeros(2))
    known: float = AT_REST  # seconds that the velocity is the mean of

    def shift(self, time: float) -> Float:
        """(2,) how far the person should have moved since."""
        return self.velocity * min(time - self.time, LONGEST_COAST)

    def box_at(self, time: float) -> Float:
        """(4,) xyxy, where the box should be at a time."""
        return np.asarray(self.person.box + np.tile(self.shift(time), 2))

    def see(self, person: Person, time: float) -> None:
        """Go on with the person as found at ``time``."""
        elapsed = time - self.time
        seen = (_centre(person.box) - _centre(self.person.box)) / elapsed
        self.velocity = self.velocity + elapsed / (elapsed + self.known) * (seen - self.velocity)
        self.known = min(self.known + elapsed, SMOOTHING_TIME)
        self.person, self.time = person, time


class Tracker:
    """``tracker.update(people, time)`` -> the same people with ``track_id``, frame after frame, from anywhere.

    People scored ``threshold`` or more may begin a track; those below only go on with one, and are left out otherwise.
    A track unseen for more than ``memory`` seconds is over; ids count from 1 and are never used again. ``least`` is the
    similarity, the mean of OKS and IoU in [0, 1], from which a person may be a track's. Same input, same ids.
    """

    def __init__(self, *, threshold: float = 0.5, memory: float = 2.0, least: float = 0.15) -> None:
        for name, value in (("threshold", threshold), ("least", least)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; use a number between 0 and 1")
        if not memory >= 0:
            raise ConfigError(f"memory is {memory}; it is in seconds, from 0 on")
        self.threshold, self.memory, self.least = threshold, memory, least
        self.tracks: dict[int, Track] = {}
        self._last_id, self._time = 0, -np.inf

    def update(self, people: Sequence[Person], time: float) -> list[Person]:
        """People of the frame at ``time`` seconds, in their order; :class:`ConfigError` for a time not after the last.

        A frame without people is an update too: ``update([], time)``.
        """
        if not self._time < time < np.inf:
            raise ConfigError(f"time is {time}, and the frame before had {self._time}; give seconds that increase")
        self._time = time
        self.tracks = {name: track for name, track in self.tracks.items() if time - track.time <= self.memory}
        sure = [m for m, person in enumerate(people) if person.score >= self.threshold]
        unsure = [m for m, person in enumerate(people) if person.score < self.threshold]
        found: dict[int, Person] = {}
        seen: set[int] = set()
        for some in (sure, unsure):
            free = [name for name in self.tracks if name not in seen]
            for name, m in self._matched(free, [people[m] for m in some], time):
                seen.add(name)
                found[some[m]] = self._see(name, people[some[m]], time)
        for m in sure:
            if m not in found:
                self._last_id += 1
                found[m] = self._begin(self._last_id, people[m], time)
        return [found[m] for m in sorted(found)]

    def expected(self, time: float) -> list[tuple[int, Float]]:
        """(track id, box) of everyone seen in the last frame: where to look for them next."""
        return [(name, track.box_at(time)) for name, track in self.tracks.items()
                if track.time == self._time]

    def _begin(self, name: int, person: Person, time: float) -> Person:
        person = replace(person, track_id=name)
        self.tracks[name] = Track(person, time)
        return person

    def _see(self, name: int, person: Person, time: float) -> Person:
        person = replace(person, track_id=name)
        self.tracks[name].see(person, time)
        return person

    def _matched(self, names: Sequence[int], people: Sequence[Person], time: float) -> list[tuple[int, int]]:
        """(track id, index of a person) of those who are one."""
        if not names or not people:
            return []
        alike_NM = similarity([self.tracks[name] for name in names], people, time)
        pairs = assign(-np.where(alike_NM >= self.least, alike_NM, 0.0))
        return [(names[n], m) for n, m in pairs if alike_NM[n, m] >= self.least]


def similarity(tracks: Sequence[Track], people: Sequence[Person], time: float) -> Float:
    """(N, M) mean of OKS and IoU in [0, 1] of people with tracks, moved to where they should be at ``time``.

    Joints count in the OKS by their scores. Boxes are grown before the IoU, the more the longer a track is unseen.
    """
    shifts_N2 = np.array([track.shift(time) for track in tracks])
    boxes_N4 = np.array([track.box_at(time) for track in tracks])
    boxes_M4 = np.array([person.box for person in people])
    grow_N = np.array([LEAST_BUFFER + BUFFER * (time - track.time) for track in tracks])[:, None]
    points_NK2 = np.array([track.person.keypoints for track in tracks]) + shifts_N2[:, None]
    points_MK2 = np.array([person.keypoints for person in people])
    weights = np.array([t.person.scores for t in tracks])[:, None] * np.array([p.scores for p in people])[None] + 1e-9
    areas = (_area(boxes_N4)[:, None] + _area(boxes_M4)[None]) / 2
    squared = ((points_NK2[:, None] - points_MK2[None]) ** 2).sum(-1)
    close = keypoint_similarity(squared, areas, np.array(people[0].skeleton.sigmas))
    oks = (close * weights).sum(-1) / weights.sum(-1)
    return np.asarray((oks + _iou(boxes_N4[:, None], boxes_M4[None], grow_N)) / 2)


def assign(costs_NM: NDArray[np.floating]) -> list[tuple[int, int]]:
    """The pairs (row, column) of least total cost, one for each of the fewer; ordered by row.

    Shortest augmenting paths with dual prices (Jonker and Volgenant 1987), O(n^3); SciPy would be the ground floor's
    largest package, for this alone.
    """
    costs = np.asarray(costs_NM, dtype=np.float64)
    if costs.shape[0] > costs.shape[1]:
        return sorted((n, m) for m, n in assign(costs.T))
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)  # of each column; the last is where a new row starts from
    for row in range(rows):
        owner[columns], column = row, columns
        least, came_from = np.full(columns, np.inf), np.full(columns, columns)
        done = np.zeros(columns + 1, dtype=bool)
        while owner[column] >= 0:
            done[column] = True
            reduced = costs[owner[column]] - row_price[owner[column]] - column_price[:columns]
            better = ~done[:columns] & (reduced < least)
            least[better], came_from[better] = reduced[better], column
            following = int(np.where(done[:columns], np.inf, least).argmin())
            step = least[following]
            row_price[owner[done]] += step
            column_price[done] -= step
            least[~done[:columns]] -= step
            column = following
        while column != columns:
            owner[column] = owner[came_from[column]]
            column = int(came_from[column])
    return sorted((int(owner[m]), m) for m in range(columns) if owner[m] >= 0)


def _centre(box: Float) -> Float:
    return np.asarray((box[:2] + box[2:]) / 2)


def _area(boxes: Float) -> Float:
    return np.asarray(np.maximum(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1), 1.0))


def _iou(a: Float, b: Float, grow: Float) -> Float:
    """Intersection over union of boxes (..., 4), each grown on every side by a share ``grow`` of its size."""
    a, b = (box + grow[..., None] * np.concatenate([box[..., :2] - box[..., 2:], box[..., 2:] - box[..., :2]], -1)
            for box in (a, b))
    shared = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(-1)
    return np.asarray(shared / (_area(a) + _area(b) - shared))
