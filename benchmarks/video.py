"""People in video: who keeps the id, what it costs by ``detect_every`` and by where it starts, memory, jitter.

``python benchmarks/video.py`` writes video.md; with ``ids``, ``smoothing`` or ``late`` it prints that table alone. The
clips are made here: rendered people walk past one another and behind a wall (clips.py), two of examples/ cross on a
grey ground with a camera's noise, or stand still. Times are this process's seconds on one thread, medians of 3 rounds.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from time import process_time

import numpy as np
from clips import Clip, behind_wall, crossing, make_walker
from report import commit, table

import stagepose
from stagepose.assignment import assign
from stagepose.files import write_text
from stagepose.geometry import iou_matrix
from stagepose.structures import Person

ROOT = Path(__file__).resolve().parents[1]
SIZE, RATE, FRAMES = (720, 482), 25, 75
EVERY = (1, 2, 3, 5)
ROUNDS = 3
CROWD = 20
STARTS = (5, 15, 30, 59)  # seconds into a clip of a minute
PAIRS = ((5, 4), (3, 7), (1, 3))  # seeds of walkers, who is behind first; the last pair was not looked at while tuning
ALONE = (4, 5)
CROSSINGS = {"two run towards one another": (180, -180), "two walk": (90, -90), "two stroll": (45, -45),
             "one walks past one who stands": (0, 90), "one overtakes": (170, 110)}  # pixels a second
BEHIND_WALL = (0.5, 1.0, 1.8, 2.5)  # seconds
CLEAR = 0.8  # of a walker that is seen, where their id is asked for
HIDDEN = 0.5


def make(path: Path, predictor: stagepose.Predictor, frames: int, speed: float) -> None:
    """Two people who cross at ``speed`` pixels a frame."""
    columns = np.stack([40 + speed * np.arange(frames), 500 - speed * np.arange(frames)], axis=1)
    with stagepose.VideoWriter(path, *SIZE, Fraction(RATE)) as writer:
        for frame in moved(predictor, columns):
            writer.add(frame.picture.pixels, frame.time)


def moved(predictor: stagepose.Predictor, columns_T2: np.ndarray, noise: float = 6.0) -> Iterator[stagepose.Frame]:
    """The two people of an example with their left edge in these columns, frame by frame, and a camera's noise."""
    picture = stagepose.read_image(ROOT / "examples" / "rendered_people.jpg").pixels
    cuts = [picture[max(int(y1) - 10, 0):int(y2) + 10, max(int(x1) - 10, 0):int(x2) + 10]
            for x1, y1, x2, y2 in (person.box for person in predictor(picture)[0][:2])]
    rng = np.random.default_rng(0)
    for n, columns in enumerate(np.round(columns_T2).astype(int)):
        canvas = np.full((SIZE[1], SIZE[0], 3), 150.0)
        for cut, x in zip(cuts, columns, strict=True):
            height, width = cut.shape[:2]
            canvas[20:20 + height, x:x + width] = cut[:, :SIZE[0] - x]
        pixels = np.clip(canvas + rng.normal(0, noise, canvas.shape), 0, 255).astype(np.uint8)
        yield stagepose.Frame(n, n / RATE, pixels)


def ids_kept(predictor: stagepose.Predictor) -> list[list[str]]:
    """A row a case: seconds hidden; who keeps the id of at first, and ids too many, detecting on every 1st and 3rd."""
    walkers = {seed: make_walker(seed) for seed in {seed for pair in PAIRS for seed in pair} | set(ALONE)}
    cases = {name: [crossing(walkers[back], walkers[front], speeds) for back, front in PAIRS]
             for name, speeds in CROSSINGS.items()}
    cases |= {f"behind a wall, {hidden:g} s": [behind_wall(walkers[seed], hidden) for seed in ALONE]
              for hidden in BEHIND_WALL}
    rows = []
    for name, clips in cases.items():
        told = [ids_of(clip, predictor, every) for every in (1, 3) for clip in clips]
        hidden = np.mean([sum(seen[0].share < HIDDEN for seen in clip.truth) / RATE for clip in clips])
        cells = []
        for half in (told[:len(clips)], told[len(clips):]):
            people = [ids for found, _ in half for ids in found]
            kept = sum(bool(ids) and ids[0] == ids[-1] for ids in people)
            cells += [f"{kept} of {len(people)}", str(sum(given - len(found) for found, given in half))]
        rows.append([name, f"{hidden:.1f}", *cells])
    return rows


def ids_of(clip: Clip, predictor: stagepose.Predictor, every: int) -> tuple[list[list[int]], int]:
    """For each walker the ids, in order, of whoever is found where they are clearly seen; and how many ids are given.
    """
    found: list[list[int]] = [[] for _ in clip.walkers]
    given: set[int] = set()
    for frame in stagepose.people_in(clip.frames(), predictor, detect_every=every, smooth=False):
        given |= {person.track_id or 0 for person in frame.people}
        truth = clip.truth[frame.index]
        if not frame.people:
            continue
        overlaps = iou_matrix(np.array([seen.box for seen in truth]), np.array([p.box for p in frame.people]))
        for n, m in assign(-overlaps):
            if truth[n].share >= CLEAR and overlaps[n, m] >= 0.5:
                found[n].append(frame.people[m].track_id or 0)
    return found, len(given)


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = process_time()
        work()
        times.append(process_time() - start)
    return statistics.median(times)


def by_detection(clip: Path, predictor: stagepose.Predictor) -> list[list[str]]:
    """Frames a second, how far joints are from those with detection everywhere, and ids given."""
    rows, first, exact = [], 0.0, {}
    for every in EVERY:
        took = seconds(lambda every=every: list(stagepose.video(clip, predictor, detect_every=every)))
        found = list(stagepose.video(clip, predictor, detect_every=every, smooth=False))
        joints = {(frame.index, p.track_id): p for frame in found for p in frame.people}
        exact, first = exact or joints, first or took
        off = [np.linalg.norm(p.keypoints - exact[key].keypoints, axis=1)[p.scores >= 0.3]
               for key, p in joints.items() if key in exact and key[0] % every]
        apart = f"{np.median(np.concatenate(off)):.1f}" if off else "-"
        rows.append([str(every), f"{FRAMES / took:.1f}", f"{first / took:.2f}", apart, str(len(joints)),
                     str(len({name for _, name in joints}))])
    return rows


def alone(people: int) -> tuple[float, float]:
    """Milliseconds a frame of tracking, and of smoothing, so many people who walk."""
    rng, skeleton, tracked = np.random.default_rng(0), stagepose.COCO_17, []
    shape = rng.uniform(0, 100, (17, 2))

    def frame(n: int) -> list[Person]:
        corners = [(130.0 * k + 2 * n, 50.0) for k in range(people)]
        return [Person(box=np.array([x, y, x + 100, y + 100]), keypoints=rng.normal(shape + np.array([x, y]), 1),
                       scores=np.full(17, 0.9), score=0.9, skeleton=skeleton) for x, y in corners]

    frames = [frame(n) for n in range(200)]

    def track() -> None:
        tracker = stagepose.Tracker()
        tracked[:] = [tracker.update(found, n / RATE) for n, found in enumerate(frames)]

    def smooth() -> None:
        smoother = stagepose.Smoother()
        for n, found in enumerate(tracked):
            smoother.update(found, n / RATE)

    return seconds(track) / len(frames) * 1000, seconds(smooth) / len(frames) * 1000


def peak_megabytes(clip: Path, out: Path) -> float:
    """Of ``stagepose predict`` in a process of its own."""
    code = ("import resource, sys; from stagepose import cli; code = cli.main(sys.argv[1:])\n"
            "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)")
    words = ["predict", str(clip), "--threads", "1", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def late_starts(clip: Path) -> list[list[str]]:
    """Of each start: seconds until its frame is there, and until it is if every frame before is decoded."""
    import av

    def read(start: float) -> None:
        with stagepose.VideoReader(clip, part=stagepose.Part(start)) as reader:
            next(iter(reader))

    def decode(start: float) -> None:
        with av.open(clip) as container:
            container.streams.video[0].thread_type = "SLICE"  # as in VideoReader
            next(frame for frame in container.decode(video=0) if frame.time >= start).to_ndarray(format="rgb24")

    return [[f"{start}", *(f"{seconds(lambda way=way, start=start: way(start)):.2f}" for way in (read, decode))]
            for start in STARTS]


def jitter(predictor: stagepose.Predictor) -> list[list[str]]:
    """A row for each way to move: how far sure joints are from the exact motion, and jump against it, in pixels."""
    seconds = np.arange(FRAMES)[:, None] / RATE
    rows = []
    for how, motion in {"stand": 0 * seconds, "walk": 50 * seconds, "go to and fro": 40 * np.sin(5 * seconds)}.items():
        columns = np.round(np.array([60, 380]) + motion)
        frames = list(stagepose.people_in(moved(predictor, columns), predictor, smooth=False))
        smoother = stagepose.Smoother()
        smooth = [replace(frame, people=tuple(smoother.update(frame.people, frame.time))) for frame in frames]
        numbers = [number for some in (frames, smooth) for number in off(some, columns)]
        rows.append([how, *(f"{number:.2f}" for number in numbers)])
    return rows


def off(frames: list[stagepose.Frame], columns_T2: np.ndarray) -> tuple[float, float]:
    """Pixels, medians over sure joints: (off their own mean place on the body, from a frame to the next)."""
    places, jumps = [], []
    for which in range(2):
        found = [min(frame.people, key=lambda person, x=columns[which]: abs(person.box[0] - x - 10))
                 for frame, columns in zip(frames, columns_T2, strict=True)]
        points = np.array([np.where(one.scores[:, None] >= 0.3, one.keypoints, np.nan) for one in found])
        points[..., 0] -= columns_T2[:, which, None]
        points = points[RATE // 2 :]
        points -= np.nanmean(points, axis=0)
        places.append(np.linalg.norm(points, axis=-1))
        jumps.append(np.linalg.norm(np.diff(points, axis=0), axis=-1))
    return float(np.nanmedian(places)), float(np.nanmedian(jumps))


def ids_table(predictor: stagepose.Predictor) -> list[str]:
    heads = ("", "hidden, s", "keep the id, detecting on every frame", "ids too many", "on every third",
             "ids too many")
    return table(heads, ids_kept(predictor))


def smoothing_table(predictor: stagepose.Predictor) -> list[str]:
    heads = ("two who", "off as found", "from a frame to the next", "off smoothed", "from a frame to the next")
    return ["How far sure joints are from where the known motion has them, and how far they jump against it from a "
            "frame to the next (pixels, medians):", "", *table(heads, jitter(predictor))]


def late_table(predictor: stagepose.Predictor, folder: Path) -> list[str]:
    clip = folder / "minute.mp4"
    make(clip, predictor, 60 * RATE, 0.3)
    return ["Seconds until the first frame of a part is there, of a minute of H.264 as `VideoWriter` makes it:", "",
            *table(("`--start`", "as it is", "decoding all before it"), late_starts(clip))]


def main() -> None:
    predictor = stagepose.load(threads=1)
    if sys.argv[1:] == ["smoothing"]:
        sys.stdout.write("\n".join(smoothing_table(predictor)) + "\n")
        return
    if sys.argv[1:] == ["ids"]:
        sys.stdout.write("\n".join(ids_table(predictor)) + "\n")
        return
    if sys.argv[1:] == ["late"]:
        with tempfile.TemporaryDirectory() as name:
            sys.stdout.write("\n".join(late_table(predictor, Path(name))) + "\n")
        return
    ids, smoothing = ids_table(predictor), smoothing_table(predictor)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crossing, long = (folder / f"{what}.mp4" for what in ("crossing", "long"))
        make(crossing, predictor, FRAMES, 6.0)
        make(long, predictor, 10 * FRAMES, 0.6)
        detection, late = by_detection(crossing, predictor), late_table(predictor, folder)
        costs = [[str(count), *(f"{cost:.2f}" for cost in alone(count))] for count in (2, CROWD)]
        memory = [[str(frames), f"{peak_megabytes(path, folder / 'out'):.0f}"]
                  for frames, path in ((FRAMES, crossing), (10 * FRAMES, long))]
    lines = ["# People in video", "",
             f"`python benchmarks/video.py`, commit {commit()}, {date.today()}, {platform.machine()}, one thread of a "
             f"machine that others use too: processor seconds, medians of {ROUNDS}. {SIZE[0]} x {SIZE[1]}, {RATE} "
             "frames a second, two people who cross, one behind the other for about half a second.", "",
             "Frames a second, from the file to smoothed people; how far joints are, on frames without detection, from "
             "those with it (median, pixels, not smoothed); people found in all frames; ids given (2 is right):", "",
             *table(("detect every", "frames a second", "times as fast", "pixels off", "people", "ids"), detection), "",
             "Ids, of rendered people who walk: who has, when clearly seen at the end, the id of the beginning, and "
             f"how many ids were given beyond one each. Hidden: {1 - HIDDEN:.0%} of the one behind, or more.", "",
             *ids, "",
             "Tracking and smoothing alone, milliseconds a frame:", "",
             *table(("people", "tracking", "smoothing"), costs), "",
             "Peak memory of `stagepose predict`, overlay included:", "", *table(("frames", "MB"), memory), "",
             *late, "", *smoothing, ""]
    write_text(ROOT / "benchmarks" / "video.md", "\n".join(lines))


if __name__ == "__main__":
    main()
