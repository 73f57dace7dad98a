"""Tracking: people of a video keep a ``track_id`` from frame to frame, also when they are hidden for a while.

A track is where its person was last seen, how large all of that person is, and how fast it moves (tracks.py). People of
a frame go to the tracks of the frame before by OKS and IoU with where those should be now: the sure ones first, then
the unsure ones (ByteTrack, Zhang 2022), which may go on with a track but begin none, nor keep one for ever. Established
tracks choose first, so that what a detector sees twice for a moment takes nobody's id. Who is left may be somebody lost
from sight before, and comes out, in part at first, near where that person should be by now, or comes in again at the
edge where that person went out. Where a frame's picture is known, what people wear counts too (looks.py). N tracks, M
people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.assignment import assign
from stagepose.errors import ConfigError
from stagepose.geometry import shared_areas
from stagepose.images import Picture
from stagepose.looks import CLEARLY, Look, clearly_alike, likeness, looks_of
from stagepose.structures import Person, is_within, require_people
from stagepose.tracks import WAYWARD, Track, area_of, centre_of, likelihood_of_return, similarity, size_of

COVERED = 0.3  # of a box that lies in another person's: one of the two is seen in part
ESTABLISHED = 0.15  # seconds from first to last sight, as in 4 or 5 frames: a detector's ghosts are mostly shorter
LEAST_SURE = 0.3  # of that time: a ghost on a chair or a tree is sure in few frames, a person in most
JUST_NOW = 0.1  # seconds unseen that are a detector's slip, no disappearing
LEAST_BACK = 0.3  # likelihood in [0, 1] from which somebody is who was lost from sight
LOOKS = 0.5  # of a similarity that likeness takes part in: clothes turn, and light changes
REMEMBERED = 0.5  # seconds that somebody must have been seen for, to be known again by looks: no ghost is
UNLIKE = 0.5  # likeness below which two looks are two people's
NEWCOMER = 1.0  # seconds in which somebody new, and perhaps half in the picture, may turn out to have been there before
AT_EDGE = 0.5  # of a person's size: whoever is nearer to the picture's edge than that has just come in
TOP_SPEED = 5.0  # of a person's heights a second: nobody comes back from farther
LEAST_GAIN = 0.25  # of a person's width, by which two must be nearer to where they were going with their ids exchanged


@dataclass(frozen=True)
class _Sight:
    """A frame: its people with their ``looks``, its time and that of the frame before, its picture's size if known."""

    people: Sequence[Person]
    looks: Sequence[Look | None]
    time: float
    before: float
    size: Float | None

    @property
    def elapsed(self) -> float:
        return self.time - self.before

    def edges(self, box: Float, speed: float = 0.0) -> NDArray[np.bool_]:
        """(4,) near which edges (left, top, right, bottom) of the picture a box is, of one so fast."""
        if self.size is None:
            return np.zeros(4, dtype=bool)
        room = AT_EDGE * size_of(box) + speed * min(self.elapsed, NEWCOMER)
        return np.concatenate([box[:2] <= room, box[2:] >= self.size - room])


class Tracker:
    """``tracker.update(people, time)`` -> the same people with ``track_id``, frame after frame, from any source.

    People scored ``threshold`` or more may begin a track; those below only go on with one that is sure often enough,
    and are left out otherwise. A track unseen for more than ``memory`` seconds is over, unless it was seen in the frame
    before: a slow camera's people are gone at no time. Ids count from 1 and are never used again. ``least`` is the
    similarity, the mean of OKS and IoU in [0, 1], from which a person may be a track's. Same input, same ids.

    Given the ``picture`` too, it also tells people by the colours of their torsos, and who comes back within ``recall``
    seconds has the former id again, if clearly more alike than anybody else gone or in view. ``looks=False``: by place
    and motion alone.
    """

    def __init__(self, *, threshold: float = 0.5, memory: float = 2.0, least: float = 0.15, looks: bool = True,
                 recall: float = 30.0) -> None:
        for name, value in (("threshold", threshold), ("least", least)):
            if not is_within(value, 0, 1):
                raise ConfigError(f"{name} is {value!r}; use a number between 0 and 1")
        for name, value in (("memory", memory), ("recall", recall)):
            if not is_within(value, 0):
                raise ConfigError(f"{name} is {value!r}; it is in seconds, from 0 on")
        self.threshold, self.memory, self.least, self.looks, self.recall = threshold, memory, least, looks, recall
        self.tracks: dict[int, Track] = {}
        self._gone: dict[int, tuple[Track, bool]] = {}  # tracks that are over, and whether they left at an edge
        self._last_id, self._time = 0, -np.inf

    def update(self, people: Sequence[Person], time: float,
               picture: Picture | NDArray[np.uint8] | None = None) -> list[Person]:
        """People of the frame at ``time`` seconds, in their order; :class:`ConfigError` for a time not after the last.

        A frame without people is an update too: ``update([], time)``. ``picture`` is theirs, or its (H, W, 3) uint8 RGB
        pixels; of one without colours it is the size that counts.
        """
        require_people("a tracker", people)
        pixels = _pixels(picture)
        if not self._time < time < np.inf:
            raise ConfigError(f"time is {time}, and the frame before had {self._time}; give seconds that increase")
        looks = looks_of(people, pixels if self.looks and pixels is not None and pixels.ndim == 3 else None)
        size = None if pixels is None else np.array(pixels.shape[1::-1], dtype=float)
        sight = _Sight(people, looks, time, self._time, size)
        self._end_old(sight)
        self._time = time
        sure = [m for m, person in enumerate(people) if person.score >= self.threshold]
        ids = self._goes_on(sight, sure)
        self._part(ids, sight, sure)
        self._exchange(ids, sight, [m for m in sure if m not in ids or self.tracks[ids[m]].still_in_part])
        self._recall(ids, sight, sure)
        for m in sure:
            if m not in ids:
                self._last_id += 1
                ids[m] = self._last_id
        unseen = [track.whole_at(time) for track_id, track in self.tracks.items() if track_id not in ids.values()]
        covered = _covered(people, unseen)
        return [self._see(ids[m], m, sight, covered[m]) for m in sorted(ids)]

    def expected(self, time: float) -> list[tuple[int, Float]]:
        """(track id, box) of everyone seen in the last frame: where to look for them next."""
        return [(track_id, track.box_at(time)) for track_id, track in self.tracks.items()
                if track.time == self._time]

    def forget(self) -> None:
        """End all tracks, as at a cut: whoever comes next has an id that nobody had."""
        self.tracks, self._gone = {}, {}

    def _end_old(self, sight: _Sight) -> None:
        for track_id, track in list(self.tracks.items()):
            if track.time != sight.before and sight.time - track.time > self.memory:
                del self.tracks[track_id]
                self._remember(track_id, track, sight)
        self._gone = {track_id: gone for track_id, gone in self._gone.items()
                      if sight.time - gone[0].time <= self.recall}

    def _remember(self, track_id: int, track: Track, sight: _Sight) -> None:
        if track.look is not None and track.seen_for >= REMEMBERED:
            left = sight.size is not None and bool(track.beyond(sight.time, sight.size).any())
            self._gone[track_id] = track, left

    def _goes_on(self, sight: _Sight, sure: Sequence[int]) -> dict[int, int]:
        """The track ids of those people, by their number, who are a track's."""
        here = [track_id for track_id, track in self.tracks.items()
                if track.time == sight.before or sight.time - track.time <= JUST_NOW]
        old = [track_id for track_id in here if self.tracks[track_id].seen_for >= ESTABLISHED]
        young = [track_id for track_id in here if track_id not in old]
        lost = [track_id for track_id in self.tracks if track_id not in here]
        unsure = [m for m in range(len(sight.people)) if m not in sure]
        ids: dict[int, int] = {}
        for tracks, alike, least in ((old, self._similarity, self.least), (young, self._similarity, self.least),
                                     (lost, self._return, LEAST_BACK)):
            for some in (sure, unsure):
                free = [track_id for track_id in tracks if track_id not in ids.values()
                        and (some is sure or self._may_be_unsure(track_id, sight.elapsed))]
                left = [m for m in some if m not in ids]
                if free and left:
                    ids |= {left[m]: free[n] for n, m in _matched(alike(free, left, sight), least)}
        for m, track_id in ids.items():
            if track_id in lost and self._has_turned(track_id, m, sight):
                self.tracks[track_id] = Track(sight.people[m], sight.before).resume(self.tracks[track_id])
                self.tracks[track_id].unproven = sight.looks[m] is None
            elif track_id in lost:
                self.tracks[track_id].back = sight.time
        return ids

    def _may_be_unsure(self, track_id: int, elapsed: float) -> bool:
        return self.tracks[track_id].sure_after(False, elapsed) >= LEAST_SURE

    def _similarity(self, track_ids: Sequence[int], some: Sequence[int], sight: _Sight) -> Float:
        """(N, M) of tracks with people; by looks too, which choose among places that are possible, and forbid none."""
        tracks = [self.tracks[track_id] for track_id in track_ids]
        alike_NM = similarity(tracks, [sight.people[m] for m in some], sight.time)
        by_looks_NM = alike_NM * _part_of_looks(_alike(tracks, some, sight))
        return np.where(alike_NM >= self.least, np.maximum(by_looks_NM, self.least), 0.0)

    def _return(self, track_ids: Sequence[int], some: Sequence[int], sight: _Sight) -> Float:
        """(N, M) likelihood that people are those of tracks lost, on their way or turned round at an edge."""
        tracks = [self.tracks[track_id] for track_id in track_ids]
        on_NM = likelihood_of_return(tracks, [sight.people[m] for m in some], sight.time)
        at_edge_NM = self._return_at_edge(tracks, some, sight)
        return np.asarray(np.maximum(on_NM * _part_of_looks(_alike(tracks, some, sight)), at_edge_NM))

    def _return_at_edge(self, tracks: Sequence[Track], some: Sequence[int], sight: _Sight) -> Float:
        """(N, M) that people come in where tracks went out of the picture. Others do so too: looks count in full."""
        people = [sight.people[m] for m in some]
        if sight.size is None:
            return np.zeros((len(tracks), len(people)))
        out_N4 = np.array([track.beyond(sight.time, sight.size) for track in tracks])
        in_NM4 = np.array([[sight.edges(person.box, track.speed) for person in people] for track in tracks])
        alike_NM = np.nan_to_num(_alike(tracks, some, sight), nan=1.0)
        back_NM = likelihood_of_return(tracks, people, sight.time, turned=True)
        return np.asarray(back_NM * alike_NM ** 2 * (out_N4[:, None] & in_NM4).any(-1))

    def _has_turned(self, track_id: int, m: int, sight: _Sight) -> bool:
        track = self.tracks[track_id]
        on = likelihood_of_return([track], [sight.people[m]], sight.time)
        return bool(self._return_at_edge([track], [m], sight) > on * _part_of_looks(_alike([track], [m], sight)))

    def _exchange(self, ids: dict[int, int], sight: _Sight, back: Sequence[int]) -> None:
        """Where one of two was hidden by the other, and the one seen went on with the hidden one's track.

        ``back`` are those who have come out. Of one of them and somebody else the ids are exchanged in ``ids`` where
        both are clearly nearer then to where they were going.
        """
        for m in back:
            lost = [ids[m]] if m in ids else [track_id for track_id in self.tracks if track_id not in ids.values()]
            there = [(other, track_id) for other, track_id in ids.items() if other != m]
            for gone, (other, track_id) in product(lost, there):
                if self._are_exchanged(gone, m, track_id, other, sight):
                    ids[m], ids[other] = track_id, gone
                    self.tracks[gone].back = sight.time
                    break

    def _are_exchanged(self, track_id: int, m: int, other_id: int, other: int, sight: _Sight) -> bool:
        tracks, time = (self.tracks[track_id], self.tracks[other_id]), sight.time
        goals = [track.going_to(time) for track in tracks]
        places = [centre_of(sight.people[one].box) for one in (m, other)]
        apart = np.linalg.norm(np.array(goals)[:, None] - np.array(places), axis=-1)  # (2, 2) goal and place
        width = min(size_of(track.whole)[0] for track in tracks)
        exchanged = apart[[0, 1], [1, 0]]
        doubt = LEAST_GAIN * width + max(WAYWARD * track.way_since_whole(time) for track in tracks)
        alike = _alike(tracks, (m, other), sight)
        if alike.trace() > alike[[0, 1], [1, 0]].sum() + CLEARLY:  # never of looks that are not known
            return False
        return bool(exchanged.max() < width / 2 and exchanged.sum() + doubt < apart.trace())

    def _part(self, ids: dict[int, int], sight: _Sight, sure: Sequence[int]) -> None:
        """Who came in where somebody went out, still to be seen by half, may turn out to look like somebody else."""
        for m in sure:
            track = self.tracks[ids[m]] if m in ids else None
            if track and track.unproven and track.look is not None and sight.looks[m] is not None:
                track.unproven = False
                if likeness([track.look], [sight.looks[m]]) < UNLIKE:
                    self._remember(ids[m], self.tracks.pop(ids.pop(m)), sight)

    def _recall(self, ids: dict[int, int], sight: _Sight, sure: Sequence[int]) -> None:
        """Newcomers who wear what somebody wore who is gone, and who may have come that far, are them again."""
        new = [m for m in sure if sight.looks[m] is not None and self._is_new(ids.get(m), sight.time)]
        if not new:
            return
        for track_id in list(self.tracks):
            if track_id not in ids.values() and sight.time - self.tracks[track_id].time > JUST_NOW:
                self._remember(track_id, self.tracks[track_id], sight)
        gone = [track_id for track_id in self._gone if track_id not in ids.values()]
        alike_NM = likeness([sight.looks[m] for m in new], [self._gone[track_id][0].look for track_id in gone])
        possible_NM = np.array([[self._may_be(ids.get(m), m, *self._gone[track_id], sight) for track_id in gone]
                                for m in new], dtype=bool).reshape(alike_NM.shape)
        in_view = [track_id for m, track_id in ids.items() if m not in new]
        others_NM = likeness([sight.looks[m] for m in new], [self.tracks[track_id].look for track_id in in_view])
        for n, g in clearly_alike(alike_NM, np.nan_to_num(others_NM).max(1, initial=0)):
            if possible_NM[n, g]:
                m, track_id = new[n], gone[g]
                begun = self.tracks.pop(ids[m]) if m in ids else Track(sight.people[m], sight.before)
                self.tracks[track_id], ids[m] = begun.resume(self._gone.pop(track_id)[0]), track_id

    def _is_new(self, track_id: int | None, time: float) -> bool:
        return track_id is None or (
            not self.tracks[track_id].resumed and time - self.tracks[track_id].begun <= NEWCOMER)

    def _may_be(self, track_id: int | None, m: int, gone: Track, left: bool, sight: _Sight) -> bool:
        """Whether a newcomer may have come from where somebody was last seen; who left the picture comes in at an edge.
        """
        first = sight.people[m].box if track_id is None else self.tracks[track_id].first_box
        way = np.linalg.norm(centre_of(first) - centre_of(gone.person.box))
        within = way <= size_of(gone.whole)[1] * (1 + TOP_SPEED * (sight.time - gone.time))
        return bool(within and (not left or sight.edges(first, gone.speed).any()))

    def _see(self, track_id: int, m: int, sight: _Sight, covered: bool) -> Person:
        person = replace(sight.people[m], track_id=track_id)
        look = None if covered else sight.looks[m]
        if track_id in self.tracks:
            self.tracks[track_id].weigh(person.score >= self.threshold, sight.elapsed)
            self.tracks[track_id].see(person, sight.time, covered, look)
        else:
            self.tracks[track_id] = Track(person, sight.time, look=look)
        return person


def _pixels(picture: Picture | NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    pixels = picture.pixels if isinstance(picture, Picture) else picture
    if pixels is None:
        return None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not (
            pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        kind = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ConfigError(f"picture is {kind}; a tracker takes a Picture, or pixels (H, W, 3) uint8 RGB, or none")
    return pixels


def _alike(tracks: Sequence[Track], some: Sequence[int], sight: _Sight) -> Float:
    """(N, M) likeness of tracks and people; NaN where unknown."""
    return likeness([track.look for track in tracks], [sight.looks[m] for m in some])


def _part_of_looks(alike: Float) -> Float:
    return np.asarray(np.where(np.isnan(alike), 1.0, 1 - LOOKS + LOOKS * alike ** 2))


def _matched(alike_NM: Float, least: float) -> list[tuple[int, int]]:
    """The pairs (n, m) that are together most alike, none of them below ``least``."""
    pairs = assign(-np.where(alike_NM >= least, alike_NM, 0.0))
    return [(n, m) for n, m in pairs if alike_NM[n, m] >= least]


def _covered(people: Sequence[Person], unseen: Sequence[Float]) -> list[bool]:
    """Whether much of a person's box lies in one other's, or in that of somebody ``unseen``."""
    boxes = np.array([person.box for person in people]).reshape(-1, 4)
    shared = shared_areas(boxes[:, None], np.concatenate([boxes, np.reshape(unseen, (-1, 4))])[None])
    np.fill_diagonal(shared, 0)
    return [bool((row > COVERED * area).any()) for row, area in zip(shared, area_of(boxes), strict=True)]
