"""Videos: frames in, people over time out: detected, tracked, smoothed. No memory grows with a video's length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from numbers import Integral
from pathlib import Path

import numpy as np

from stagepose.cuts import CutFinder
from stagepose.errors import ConfigError
from stagepose.predictor import Predictor, load
from stagepose.smoothing import Smoother
from stagepose.structures import SURE_JOINT, Detections, KeepBy, Person, foremost
from stagepose.tracking import Tracker
from stagepose.videoreader import WHOLE, Frame, Part, VideoReader

UNSURE = 0.6  # times the threshold: people scoring this may continue a track, but not begin one
LONGEST_GAP = 1.0  # seconds from frame to frame; beyond, nobody is where the track predicts
MOST_CHANGE = 1.25  # of a followed box's size from frame to frame


def video(path: str | Path, predictor: Predictor | None = None, *, detect_every: int = 1, smooth: bool = True,
          cuts: bool = True, tracker: Tracker | None = None, part: Part = WHOLE) -> Iterator[Frame]:
    """Every frame of a video, or of a part of it, with its people, each with a ``track_id``; one in memory at a time.

    The predictor is by default that of the included models. ``detect_every`` N: the detector is run on every Nth frame;
    in between, people are looked for where they should be by then, and newcomers are found at the next detection. It is
    run after a gap of more than a second as well. ``smooth``: keypoints are smoothed by a :class:`Smoother`. ``cuts``:
    after a hard cut (:mod:`.cuts`) the detector is run at once, and everyone is somebody new. If the predictor keeps
    only some people, each is kept until the track is over, and only then replaced. :class:`VideoError` for a file that
    cannot be read, :class:`MissingExtraError` if PyAV is not installed, :class:`ConfigError` for a setting out of
    range: at the call, before the first frame.
    """
    every = _checked(detect_every)
    predictor = predictor or load()
    reader = VideoReader(path, max_pixels=predictor.config.max_pixels, part=part)
    return _read(reader, predictor, every, smooth, cuts, tracker)


def people_in(frames: Iterable[Frame], predictor: Predictor, *, detect_every: int = 1,
              smooth: bool = True, cuts: bool = True, tracker: Tracker | None = None) -> Iterator[Frame]:
    """Like :func:`video`, for frames from any source, such as a camera; their times must increase."""
    return _people_in(frames, predictor, _checked(detect_every), smooth, cuts, tracker)


def _checked(detect_every: int) -> int:
    """At the call: a generator would raise at its first frame, elsewhere in the caller's code."""
    if not isinstance(detect_every, Integral) or detect_every < 1:
        raise ConfigError(f"detect_every is {detect_every!r}; use a whole number from 1, for every frame, on")
    return int(detect_every)


def _read(reader: VideoReader, predictor: Predictor, every: int, smooth: bool, cuts: bool,
          tracker: Tracker | None) -> Iterator[Frame]:
    with reader:
        yield from _people_in(reader, predictor, every, smooth, cuts, tracker)


def _people_in(frames: Iterable[Frame], predictor: Predictor, every: int, smooth: bool, cuts: bool,
               tracker: Tracker | None) -> Iterator[Frame]:
    least = UNSURE * predictor.threshold
    finder = predictor.with_config(threshold=least, keep=None, keep_by="score")  # all, to be told apart
    tracker = tracker or Tracker(threshold=predictor.threshold)
    smoother, cut_finder = Smoother() if smooth else None, CutFinder() if cuts else None
    kept: set[int] = set()
    before = -np.inf
    for number, frame in enumerate(frames):
        is_cut = cut_finder is not None and cut_finder.is_cut(frame.picture.pixels)
        if is_cut:
            tracker.forget()
        looks = number % every == 0 or frame.time - before > LONGEST_GAP or is_cut
        before = frame.time
        people = finder.people(frame.picture) if looks else _followed(tracker, finder, frame, least)
        people = tracker.update(people, frame.time, frame.picture)
        if predictor.config.keep is not None:
            kept = _kept(kept, people, tracker, predictor.config.keep, predictor.config.keep_by)
            people = [person for person in people if person.track_id in kept]
        yield replace(frame, people=tuple(smoother.update(people, frame.time) if smoother else people))


def _kept(before: Set[int], people: Sequence[Person], tracker: Tracker, limit: int, by: KeepBy) -> set[int]:
    """The ids of those who are kept in this frame: those kept ``before``, and others in place of those who are gone.

    A person is gone when the track is over. If it were when unseen for a frame, two people whom the detector misses now
    and then would take turns.
    """
    kept = before & tracker.tracks.keys()
    others = foremost([person for person in people if person.track_id not in kept], limit - len(kept), by)
    return kept | {person.track_id for person in others if person.track_id is not None}


def _followed(tracker: Tracker, predictor: Predictor, frame: Frame, least: float) -> list[Person]:
    """The people of a frame without detection, looked for where the tracks should be by now."""
    before: dict[tuple[float, ...], Person] = {}
    for track_id, box in tracker.expected(frame.time):
        before.setdefault(tuple(box), tracker.tracks[track_id].person)  # two in the very same box are alike now
    boxes = Detections(boxes=np.array(list(before)), scores=np.array([one.box_score for one in before.values()]))
    people = predictor.people(frame.picture, boxes)
    return [_refitted(person, before[tuple(person.box)]) for person in people if person.score >= least]


def _refitted(person: Person, before: Person) -> Person:
    """The person with a box that encloses the keypoints as the detector's did those of ``before``."""
    shared = (person.scores >= SURE_JOINT) & (before.scores >= SURE_JOINT)
    if shared.sum() < 3:
        return person
    now, then = person.keypoints[shared], before.keypoints[shared]
    size_now, size_then = np.ptp(now, axis=0), np.ptp(then, axis=0)
    change = np.clip((size_now + 1) / (size_then + 1), 1 / MOST_CHANGE, MOST_CHANGE)
    middle_now, middle_then = (now.max(0) + now.min(0)) / 2, (then.max(0) + then.min(0)) / 2
    corners = middle_now + (before.box.reshape(2, 2) - middle_then) * change
    return replace(person, box=corners.ravel())
