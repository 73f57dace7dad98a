"""Who keeps the id, of people with known motion: by place alone, and with what they wear.

``python benchmarks/tracking.py --work DIR`` writes tracking.md. The clips are made here of rendered people (clips.py):
they cross, meet and turn round, leave and come back, and two come back at the other's edge. The shipped models look at
each frame once; what they find is kept in DIR, and used again by the next run there. ``--only leave`` makes one.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from clips import RATE, WIDTH, Clip, Seen, make_walker
from report import commit, table

import stagepose
from stagepose.assignment import assign
from stagepose.files import write_text
from stagepose.geometry import iou_matrix
from stagepose.structures import Person

ROOT = Path(__file__).resolve().parents[1]
SKIP = 2  # one frame in so many is looked at: 12.5 a second
UNSURE = 0.3  # the models' people from here on go to the tracker, as stagepose.video gives them
LEAST_SHARE = 0.35  # of a person that is seen, where somebody must be found
LEAST_IOU = 0.4
IOU_OF_A_PLAIN_TRACKER = 0.3

Told = Callable[[Sequence[Person], float, Any], list[Person]]


def clips() -> dict[str, Callable[[], Clip]]:
    """Middles in columns of the picture, by time."""
    def of(seeds: Sequence[int], seconds: float, *ways: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Clip]:
        times = np.arange(0, seconds, 1 / RATE)
        return lambda: Clip([make_walker(seed) for seed in seeds], [way(times) for way in ways])

    return {
        "cross": of((5, 4), 3.2, lambda t: 120 + 125 * t, lambda t: 520 - 125 * t),
        "meet": of((3, 7), 4, lambda t: 170 + 60 * (2 - abs(t - 2)) * 1.2, lambda t: 470 - 60 * (2 - abs(t - 2)) * 1.2),
        "leave": of((4, 5), 6, lambda t: 480 + 0 * t,
                    lambda t: np.maximum(200 - 160 * t, -130) + 160 * np.maximum(t - 4, 0)),
        "two leave": of((1, 3), 6, lambda t: np.where(t < 3, 200 - 160 * t, WIDTH + 130 - 130 * (t - 3)),
                        lambda t: np.where(t < 3, 440 + 160 * t, -130 + 130 * (t - 3))),
    }


class Plain:
    """Who overlaps somebody of the frame before most, the largest first; nothing else."""

    def __init__(self) -> None:
        self.before: list[Person] = []
        self.last_id = 0

    def update(self, people: Sequence[Person], time: float, picture: object) -> list[Person]:
        found, free = [], list(self.before)
        for person in sorted(people, key=lambda one: -float(np.prod(one.box[2:] - one.box[:2]))):
            overlaps = iou_matrix(person.box[None], np.array([one.box for one in free]).reshape(-1, 4))[0]
            if len(free) and overlaps.max() > IOU_OF_A_PLAIN_TRACKER:
                track_id = free.pop(int(overlaps.argmax())).track_id
            else:
                self.last_id += 1
                track_id = self.last_id
            found.append(replace(person, track_id=track_id))
        self.before = found
        return found


def detected(name: str, clip: Clip, work: Path) -> list[list[Person]]:
    """The people of the frames that are looked at, from the folder where they are there; ``clip.truth`` is filled."""
    path = work / f"{name.replace(' ', '_')}.json"
    frames = [frame for frame in clip.frames() if frame.index % SKIP == 0]
    if path.exists():
        return [[Person.from_dict(one) for one in people] for people in json.loads(path.read_text())]
    predictor = stagepose.load(threads=1, threshold=UNSURE)
    found = [predictor.people(frame.picture) for frame in frames]
    write_text(path, json.dumps([[person.to_dict() for person in people] for people in found]))
    return found


def scores(truth: Sequence[Sequence[Seen]], told: Sequence[Sequence[Person]]) -> tuple[float, int, int, int]:
    """IDF1, switches of ids, false boxes, ids given; as MOTChallenge counts them, of who is seen well enough."""
    pairs: Counter[tuple[int, int]] = Counter()
    last: dict[int, int] = {}
    switches = false = real = boxes = 0
    for seen, people in zip(truth, told, strict=True):
        overlaps = iou_matrix(np.array([one.box for one in seen]), np.array([p.box for p in people]).reshape(-1, 4))
        matched = {n: m for n, m in assign(-np.where(overlaps >= LEAST_IOU, overlaps, 0.0))
                   if overlaps[n, m] >= LEAST_IOU} if people else {}
        false += len(people) - len(matched)
        boxes += len(people) - len(matched)
        for n, one in enumerate(seen):
            if one.share < LEAST_SHARE:
                continue
            real += 1
            if n in matched:
                boxes += 1
                track_id = people[matched[n]].track_id or 0
                pairs[n, track_id] += 1
                switches += last.get(n, track_id) != track_id
                last[n] = track_id
    ids = sorted({person.track_id or 0 for people in told for person in people})
    shared = np.array([[pairs[n, track_id] for track_id in ids] for n in range(len(truth[0]))], dtype=float)
    right = sum(shared[n, m] for n, m in assign(-shared)) if ids else 0
    return 2 * right / max(real + boxes, 1), switches, false, len(ids)


def row(name: str, clip: Clip, work: Path) -> tuple[list[str], list[float]]:
    """A clip's row, and the milliseconds a frame of tracking of each way."""
    people = detected(name, clip, work)
    frames = [frame for frame in clip.frames() if frame.index % SKIP == 0]
    truth = [clip.truth[frame.index] for frame in frames]
    ways: list[Callable[[], Any]] = [Plain, lambda: stagepose.Tracker(looks=False), stagepose.Tracker]
    cells, times = [], []
    for make in ways:
        tracker, told = make(), []
        start = process_time()
        for frame, found in zip(frames, people, strict=True):
            sure = found if make is not Plain else [one for one in found if one.score >= 0.5]
            told.append(tracker.update(sure, frame.time, frame.picture))
        times.append((process_time() - start) / len(frames) * 1000)
        idf1, *counts = scores(truth, told)
        cells += [f"{idf1:.2f}", " / ".join(map(str, counts))]
    return [name, str(len(clip.walkers)), *cells], times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of what the models found")
    parser.add_argument("--only", nargs="*", help="names of clips; prints the table alone")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    chosen = {name: make for name, make in clips().items() if not options.only or name in options.only}
    rows, times = zip(*[row(name, make(), options.work) for name, make in chosen.items()], strict=True)
    counted = "switches / false boxes / ids"
    heads = ("clip", "people", "IDF1, plain IoU", counted, "`looks=False`", counted, "`Tracker()`", counted)
    cells = table(heads, rows)
    if options.only:
        sys.stdout.write("\n".join(cells) + "\n")
        return
    plain, place, looks = np.mean(times, axis=0)
    lines = ["# Who keeps the id", "",
             f"`python benchmarks/tracking.py --work DIR`, commit {commit()}, {date.today()}, {platform.machine()}. "
             f"{len(rows)} clips of rendered people at {RATE / SKIP:g} frames a second, found by the shipped models. "
             "IDF1 is the share of sightings with the id that is that person's in the most of the clip; plain IoU is "
             f"who overlaps most from frame to frame, above {IOU_OF_A_PLAIN_TRACKER}, those of at least 0.5 alone.", "",
             *cells, "",
             f"Tracking takes {place:.2f} ms a frame with `looks=False` and {looks:.2f} with looks, of one thread of a "
             f"machine that others use too; plain IoU {plain:.2f}.", "",
             "In the clips everybody wears the same clothes from all sides in one light: that is the best that looks "
             "can do. Few clips, of few people: a table of what is mended, no ranking.", ""]
    write_text(ROOT / "benchmarks" / "tracking.md", "\n".join(lines))


if __name__ == "__main__":
    main()
