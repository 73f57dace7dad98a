"""``stagepose predict``: photos and videos in; overlays, ``people.json`` and ``images.json`` out."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import keypoint_result, write_results
from stagepose.commands.arguments import Folder, ModelName, OptionalCount, OptionalFile, Photos
from stagepose.commands.boxes import BoxFile, image_ids
from stagepose.commands.clips import OVERLAY, RESULTS, ClipSettings, Draw, predict_clip
from stagepose.commands.console import counted, counter, note, say, wrong_usage
from stagepose.commands.spreadsheet import remove_csv, write_csv
from stagepose.draw import JOINT_THRESHOLD, draw_people
from stagepose.errors import ConfigError, DatasetError, ImageError, MissingExtraError, StagePoseError, VideoError
from stagepose.files import require_place, write_json
from stagepose.images import IMAGE_SUFFIXES, MAX_PIXELS, Picture, find_images, printable, read_image, write_image
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE, DEFAULT_THRESHOLD, Predictor, load
from stagepose.structures import Person
from stagepose.videofiles import VIDEO_SUFFIXES, is_video

STDIN = "-"
TABLE = "people.csv"
OVERLAY_SUFFIXES = ".pose.jpg", ".pose.png", OVERLAY
MOST_OF_JPEG = 65_500  # pixels of a side; a longer picture's overlay is a PNG
LONGEST_STEM = 180  # bytes of an overlay's name; file systems take 255 in all


@dataclass(frozen=True)
class Source:
    """One photo to look at: its file (None: standard input), what it is called, and its number in the results."""

    path: Path | None
    name: str
    image_id: int

    def read(self, max_pixels: int) -> Picture:
        if self.path is None:
            if sys.stdin is None:
                raise ImageError("<stdin>: standard input is closed; name a file, or send the photo through a pipe")
            return read_image(sys.stdin.buffer.read(), max_pixels=max_pixels, name="<stdin>")
        return read_image(self.path, max_pixels=max_pixels)


@dataclass
class Outcome:
    """What a run has found so far; ``complete`` once it has been through all photos."""

    keypoints: Sequence[str]  # names, in the order of the people's
    joint_threshold: float  # joints scored from here on are counted in the printed lines
    csv: bool = False  # people.csv is wanted too
    people: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    videos: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    complete: bool = False

    def fail(self, name: str, error: StagePoseError) -> None:
        """Report a photo or video that cannot be used, and go on."""
        self.failed.append({"file_name": name, "error": str(error)})
        note(f"skipped: {error}")

    def write(self, out: Path) -> None:
        write_results(out / "people.json", self.people)
        if self.csv:
            write_csv(out / TABLE, self.people, self.keypoints)
        elif remove_csv(out / TABLE):
            note(f"{printable(str(out / TABLE))}, of an earlier run, removed; --csv writes one of this run")
        videos = {"videos": self.videos} if self.videos else {}
        write_json(out / "images.json", {"complete": self.complete, "keypoints": list(self.keypoints),
                                         "images": self.images, **videos, "failed": self.failed})


def predict(
    photos: Photos,
    *,
    out: Folder = Path("stagepose-out"),
    pose: ModelName = DEFAULT_POSE,
    detector: ModelName = DEFAULT_DETECTOR,
    boxes: OptionalFile = None,
    threshold: float = DEFAULT_THRESHOLD,
    max_people: int = 100,
    flip: bool = False,
    batch: int = 8,
    json_only: bool = False,
    csv: bool = False,
    colours: Literal["side", "person"] = "side",
    joint_threshold: float = JOINT_THRESHOLD,
    detect_every: int = 1,
    smooth: bool = True,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    threads: OptionalCount = None,
    provider: str = "cpu",
) -> int:
    """Find the people in photos and videos, and their keypoints.

    Prints a line for every person, and writes into the folder OUT:

    NAME.pose.jpg (or .png): every photo with its people drawn in.

    people.json: a COCO keypoint result list; entries also have file_name and box (x1, y1, x2, y2).

    images.json: the keypoints' names; id, file name and size of every photo, and what could not be read. An id is the
    number at the end of the file's name where no other photo has the same; the others are numbered on from there.

    Of a video (pip install 'stagepose[video]'): NAME.pose.mp4, with its sound; NAME.people.json, as people.json, with
    the frame, its time and a track_id that stays a person's from frame to frame; with --csv NAME.people.csv.

    Photos that cannot be read are reported, counted and left out. The exit code is 1 when none could be used, or with
    --strict when any could not. A run that is stopped leaves what it has found, marked "complete": false.

    Args:
        photos: Files, folders (with all below), glob patterns, of photos and videos; "-" is a photo on standard input.
        out: Folder for the results.
        pose: Pose model: a shipped name or an .onnx file.
        detector: Person detector: a shipped name or an .onnx file.
        boxes: COCO results (or annotations) with the people's boxes, instead of a detector. A photo's boxes are those
            whose file_name is its own, else those whose image_id is the number at the end of its name.
        threshold: Least score of a person, and of the box that it is looked for in; with --boxes, of the box alone.
        max_people: Most people in one photo, best boxes first.
        flip: Also look at every person mirrored: more precise, twice the time.
        batch: People in one run of the network.
        json_only: Write no overlays.
        csv: Also write people.csv: a row a person, with x, y and score of every keypoint by its name. Without it, an
            earlier run's, which would tell of other people, is removed.
        colours: Of the drawn people: left blue and right orange, or another colour for every person, as suits crowds.
        joint_threshold: Least score of a joint that is drawn, and counted in the printed lines; the files hold all.
        detect_every: In a video, frames from one look of the detector to the next; people are followed between.
        smooth: In a video, take the trembling out of the keypoints.
        strict: A photo that cannot be read makes the exit code 1; the others are done all the same.
        max_pixels: Refuse photos with more pixels than this.
        threads: CPU threads; all cores by default.
        provider: ONNX Runtime's execution provider, such as cuda.
    """
    if not photos:
        wrong_usage("name at least one photo, folder or glob pattern, or - for standard input")
    if detect_every < 1:
        wrong_usage(f"--detect-every is {detect_every}; use at least 1, for a look at every frame")
    if not 0 <= joint_threshold <= 1:
        wrong_usage(f"--joint-threshold is {joint_threshold}; it is a score, between 0 and 1")
    if boxes is not None and detector != DEFAULT_DETECTOR:
        wrong_usage("--boxes says where the people are, without a detector; leave out --detector")
    _make_folder(out)
    predictor = load(pose, None if boxes else detector, threads=threads, providers=[provider], threshold=threshold,
                     max_people=max_people, flip=flip, batch=batch, max_pixels=max_pixels)
    given = BoxFile.read(boxes) if boxes else None
    outcome = Outcome(predictor.skeleton.names, joint_threshold, csv)
    paths = _expand(photos, out, outcome)
    if not paths:  # mistyped, mostly: an earlier run's results are not lost for it
        note(f"nothing to look at; {printable(str(out))} is left as it was")
        return 1
    stills, clips = _told_apart(paths)
    sources = _sources(stills, given)
    if given and (sources or not clips):
        _check_boxes(given, [source.name for source in sources], threshold)
    draw = partial(draw_people, threshold=joint_threshold, colours=colours)
    names = Overlays(out, [path for path in paths if path], draw)
    settings = ClipSettings(out, None if json_only else draw, csv, detect_every, smooth)
    try:
        _all(sources, predictor, given, None if json_only else names, outcome)
        _all_clips(clips, predictor, given, names, settings, outcome)
        outcome.complete = True
    finally:
        if not outcome.complete:  # Ctrl-C, a full disk, a broken model: hours of work must not be lost
            _rescue(out, outcome, len(sources), len(clips))
    return _finish(out, outcome, strict)


def _all(sources: Sequence[Source], predictor: Predictor, given: BoxFile | None, overlays: Overlays | None,
         outcome: Outcome) -> None:
    with counter("predict") as step:
        for done, source in enumerate(sources, 1):
            try:
                _one(source, predictor, given, overlays, outcome)
            except (ImageError, DatasetError, ConfigError) as error:  # ConfigError: boxes that cannot be the photo's
                outcome.fail(source.name, error)
            step(done, len(sources))


def _all_clips(clips: Sequence[Path], predictor: Predictor, given: BoxFile | None, names: Overlays,
               settings: ClipSettings, outcome: Outcome) -> None:
    for path in clips:
        name = str(path)
        try:
            if given:
                raise VideoError(f"{printable(name)}: is a video, and --boxes has boxes of photos; leave one of them "
                                 "out")
            with counter(printable(path.name)) as step:
                clip = predict_clip(path, name, names.free_stem(path, OVERLAY, RESULTS), predictor, settings, step,
                                    outcome.videos.append)
        except (VideoError, MissingExtraError) as error:
            outcome.fail(name, error)
            continue
        say(f"{printable(name)}: {counted(clip.frames, 'frame', 'frames')}, to {clip.last_time:.2f} s, "
            f"{counted(len(clip.tracks), 'person', 'people')}")


def _one(source: Source, predictor: Predictor, given: BoxFile | None, overlays: Overlays | None,
         outcome: Outcome) -> None:
    """One photo from its file to the results."""
    config = predictor.config
    picture = source.read(config.max_pixels)
    for notice in picture.notices:
        note(f"{picture.name}: {notice}")
    boxes = given.of(source.name).best(config.max_people, config.threshold) if given else None
    people = predictor.people(picture, boxes)
    height, width = picture.pixels.shape[:2]
    image: dict[str, Any] = {"id": source.image_id, "file_name": source.name, "width": width, "height": height,
                             "people": len(people)}
    if overlays:
        image["overlay"] = overlays.write(source, picture.pixels, people)
    outcome.people += [
        {**keypoint_result(source.image_id, person), "file_name": source.name, "box": _rounded(person.box)}
        for person in people
    ]
    outcome.images.append(image)
    _print_people(picture.name, people, outcome.joint_threshold)


def _print_people(name: str, people: Sequence[Person], joint_threshold: float) -> None:
    for number, person in enumerate(people, 1):
        box = " ".join(f"{edge:.0f}" for edge in person.box)
        joints = f"{int((person.scores >= joint_threshold).sum())} of {len(person.scores)} joints"
        say(f"{name}: person {number}: score {person.score:.3f}, box {box}, {joints}")
    if not people:
        say(f"{name}: nobody found")


def _rounded(box: Any) -> list[float]:
    return [round(float(edge), 2) for edge in box]


def _finish(out: Path, outcome: Outcome, strict: bool) -> int:
    """Write the results, tell the counts, choose the exit code."""
    outcome.write(out)
    nobody = sum(image["people"] == 0 for image in outcome.images)
    counts = []
    if outcome.images or not outcome.videos:
        counts.append(f"{_photos(len(outcome.images))}, {counted(len(outcome.people), 'person', 'people')}"
                      + (f", {_photos(nobody)} without people" if nobody else ""))
    if outcome.videos:
        counts.append(counted(len(outcome.videos), "video", "videos"))
    note(f"{'; '.join(counts)}; written to {printable(str(out))}")
    if outcome.failed:
        note(f"{counted(len(outcome.failed), 'file', 'files') if outcome.videos else _photos(len(outcome.failed))} "
             "could not be used, see above")
    return 1 if outcome.failed and (strict or not (outcome.images or outcome.videos)) else 0


def _rescue(out: Path, outcome: Outcome, photos: int, clips: int) -> None:
    """Write what a run that is ending early has found; that this fails too must not hide why it ends."""
    try:
        outcome.write(out)
    except StagePoseError as error:
        note(f"stopped early, and what was found cannot be written: {error}")
        return
    done = f"{len(outcome.images):,} of {_photos(photos)}" if photos or not clips else ""
    done += f"{', ' if done else ''}{len(outcome.videos):,} of {counted(clips, 'video', 'videos')}" if clips else ""
    note(f"stopped after {done}; what was found in them is written to {printable(str(out))}, marked \"complete\": "
         "false")


def _photos(number: int) -> str:
    return counted(number, "photo", "photos")


def _make_folder(out: Path) -> None:
    """Before any work: somewhere to put its results."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file of that name is there" if isinstance(error, FileExistsError) else error.strerror
        raise StagePoseError(f"{printable(str(out))}: cannot make this folder: {reason}; choose another with --out"
                             ) from error
    require_place(out / "people.json")


def _expand(photos: Sequence[str], out: Path, outcome: Outcome) -> list[Path | None]:
    """The files that the arguments stand for, each once; None is standard input. What is missing is reported."""
    found: dict[str, Path | None] = {}
    ours: list[Path] = []
    for photo in photos:
        try:
            paths = [] if photo == STDIN else find_images([photo], IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        except ImageError as error:
            outcome.fail(photo, error)
            continue
        if photo == STDIN:
            found[STDIN] = None
        for path in paths:
            if str(path) != photo and _is_overlay(path, out):
                ours.append(path)
            else:
                found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - keeps links apart
    if ours:
        note(f"{counted(len(ours), 'overlay', 'overlays')} of an earlier run in {printable(str(out))} left out")
    return list(found.values())


def _told_apart(paths: Sequence[Path | None]) -> tuple[list[Path | None], list[Path]]:
    """Photos, and videos."""
    stills: list[Path | None] = []
    clips: list[Path] = []
    for path in paths:
        if path is not None and is_video(path):
            clips.append(path)
        else:
            stills.append(path)
    return stills, clips


def _check_boxes(given: BoxFile, names: Sequence[str], threshold: float) -> None:
    """An error where not one of the photos has boxes, and how many of theirs are not looked into."""
    given.require_any(names)
    if unsure := given.below(threshold, names):
        note(f"{counted(unsure, 'box', 'boxes')} of {printable(str(given.path))} left out, with a score below "
             f"{threshold:g}; --threshold 0 looks into all")


def _is_overlay(path: Path, out: Path) -> bool:
    """Whether an earlier run wrote it: a folder of photos may hold the results too."""
    return path.name.endswith(OVERLAY_SUFFIXES) and path.parent.resolve() == out.resolve()


def _sources(paths: Sequence[Path | None], given: BoxFile | None) -> list[Source]:
    names = ["<stdin>" if path is None else str(path) for path in paths]
    ids = image_ids(names, given)
    return [Source(path, name, image_id) for path, name, image_id in zip(paths, names, ids, strict=True)]


class Overlays:
    """The pictures written: none of a name twice in a run, and never of that of a photo read in it."""

    def __init__(self, folder: Path, photos: Sequence[Path], draw: Draw) -> None:
        self.folder, self.draw = folder, draw
        self.photos = {os.path.realpath(photo) for photo in photos}
        self.used: set[str] = set()

    def write(self, source: Source, pixels: NDArray[np.uint8], people: Sequence[Person]) -> str:
        """Write one photo with its people; returns its name within the folder."""
        name = self._free_name(source, png=max(pixels.shape) > MOST_OF_JPEG)
        write_image(self.folder / name, self.draw(pixels, people))
        return name

    def _free_name(self, source: Source, png: bool) -> str:
        path = source.path or Path("stdin")
        suffix = OVERLAY_SUFFIXES[png or path.suffix.lower() == ".png"]
        return self.free_stem(path, suffix) + suffix

    def free_stem(self, path: Path, *suffixes: str) -> str:
        """What the names of a photo's or video's files begin with: that of ``path``, numbered if it is taken."""
        stem = os.fsencode(path.stem)[:LONGEST_STEM].decode("utf-8", "ignore")
        for count in itertools.count(1):
            found = stem + (f"-{count}" if count > 1 else "")
            names = [found + suffix for suffix in suffixes]
            if all(name.casefold() not in self.used and os.path.realpath(self.folder / name) not in self.photos
                   for name in names):
                break
        self.used.update(name.casefold() for name in names)  # some file systems do not tell A from a
        return found
