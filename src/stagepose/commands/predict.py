"""``stagepose predict``: photos and videos in; overlays, ``people.json`` and ``images.json`` out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes

import stagepose
from stagepose.coco.results import IMAGES, PEOPLE
from stagepose.commands.arguments import Folder, OptionalFile, Photos, changed, spelled
from stagepose.commands.boxes import BoxFile, image_ids
from stagepose.commands.clips import OVERLAY, RESULTS, ClipSettings, VideoOptions, earlier_overlays, predict_clip
from stagepose.commands.clips import TABLE as CLIP_TABLE
from stagepose.commands.console import counted, counter, note, say, wrong_usage
from stagepose.commands.finding import FinderOptions
from stagepose.commands.outcome import TABLE, Outcome, fail, finish, rescue
from stagepose.commands.overlays import DrawingOptions, Overlays, Photo, is_overlay
from stagepose.commands.photos import PhotoRun
from stagepose.commands.spreadsheet import TableOptions
from stagepose.commands.stopping import ending_in_order
from stagepose.commands.unfinished import NAME as UNFINISHED
from stagepose.commands.unfinished import ResumeFile, stamp_of
from stagepose.errors import ImageError, MissingExtraError, StagePoseError, VideoError
from stagepose.filekinds import VIDEO_SUFFIXES, is_video
from stagepose.files import keep_inputs, require_place
from stagepose.images import IMAGE_SUFFIXES, find_images
from stagepose.lines import printable
from stagepose.predictor import DEFAULT_DETECTOR, Predictor
from stagepose.runtime import DetectorModel

STDIN = "-"
FINDING, DRAWING, VIDEO, TABLES = FinderOptions(), DrawingOptions(), VideoOptions(), TableOptions()
OF_OVERLAYS = ("--colours", "--labels")
# Options in which --resume may differ from the run that it goes on with; in all others it must be the same
FREE = frozenset({"out", "resume", "strict", "csv", "batch", "threads", "provider"})


def predict(
    photos: Photos,
    *,
    out: Folder = Path("stagepose-out"),
    boxes: OptionalFile = None,
    resume: bool = False,
    strict: bool = False,
    finding: OmitArgPrefixes[FinderOptions] = FINDING,
    drawing: OmitArgPrefixes[DrawingOptions] = DRAWING,
    tables: OmitArgPrefixes[TableOptions] = TABLES,
    video: OmitArgPrefixes[VideoOptions] = VIDEO,
) -> int:
    """Find the people in photos and videos, and their keypoints.

    Prints a line per person, and writes to the folder OUT:

    NAME.pose.jpg (or .png): each photo with its people drawn in.

    people.json: the people in the photos, a COCO keypoint result list; entries also have file_name and box (x1, y1, x2,
    y2).

    images.json: the keypoint names; id, file name and size of each photo; and what could not be read. A photo's id is
    the number at the end of its file name, if no other photo has the same one; the others are numbered on from there.

    For a video (pip install "stagepose[video]"): NAME.pose.mp4, with its sound; NAME.people.json, like people.json but
    also with the frame, its time and a track_id that follows a person from frame to frame; with --csv NAME.people.csv.

    Photos that cannot be read are reported, counted and skipped. The exit code is 1 if none could be used, or, with
    --strict, if any could not. A run that is stopped keeps what it has found, marked "complete": false; --resume
    continues it, and also one that was killed.

    Args:
        photos: Photos and videos: files, folders (with all subfolders) or glob patterns; "-" reads a photo from
            standard input.
        out: Folder for the results.
        boxes: COCO results (or annotations) with the people's boxes, used instead of a detector. A photo's boxes are
            those with its file_name, else those whose image_id is the number at the end of its name.
        resume: Continue the unfinished run in OUT: finished photos are not processed again, and the results are those
            of an uninterrupted run. Photos that are new or have changed since are processed. All options must be the
            same as before, except --batch, --threads, --provider, --csv and --strict.
        strict: Exit with code 1 if any photo cannot be read; the others are processed all the same.
        finding: How people are found.
        drawing: How people are drawn.
        tables: Tables for spreadsheets and data frames.
        video: How videos are processed.
    """
    if not photos:
        wrong_usage("name at least one photo, folder or glob pattern, or - for standard input")
    _refuse_unfit(boxes, finding, drawing, tables, video)
    made = _make_folder(out, boxes)
    predictor = finding.load(with_detector=boxes is None)
    given = BoxFile.read(boxes) if boxes else None
    failed: list[dict[str, str]] = []
    paths = _expand(photos, out, failed)
    if not paths:  # mistyped, mostly: an earlier run's results are not lost for it
        return _leave(out, made)
    files, clips = _told_apart(paths)
    stills = _numbered(files, given)
    if given and (stills or not clips):
        _check_boxes(given, [still.name for still in stills], predictor.threshold)
    overlays = Overlays(out, [path for path in paths if path], drawing.draw)
    settings = ClipSettings(out, None if drawing.json_only else drawing.draw, video, tables, earlier_overlays(out))
    journal = _journal(out, resume, [str(path) for path in paths if path],
                       _begun_with(predictor, boxes, finding, drawing, tables, video))
    outcome = Outcome(journal, [(still.key, still.image_id) for still in stills], predictor.skeleton.names, tables,
                      failed)
    with ending_in_order():
        try:
            PhotoRun(predictor, given, None if drawing.json_only else overlays, outcome, drawing.joint_threshold
                     ).look_at_all(stills)
            _all_clips(clips, predictor, given, overlays, settings, outcome)
            outcome.complete = True
        finally:
            if not outcome.complete:  # Ctrl-C, SIGTERM, a full disk, a broken model: hours of work must not be lost
                rescue(out, outcome, len(stills), len(clips))
        return finish(out, outcome, strict, len(clips))


def _refuse_unfit(boxes: Path | None, finding: FinderOptions, drawing: DrawingOptions, tables: TableOptions,
                  video: VideoOptions) -> None:
    """Options out of range, and such as would change nothing."""
    if video.detect_every < 1:
        wrong_usage(f"--detect-every is {video.detect_every}; use at least 1, for a look at every frame")
    _ = video.part  # ConfigError, before anything is written
    for option, value in (("--joint-threshold", drawing.joint_threshold), ("--csv-threshold", tables.csv_threshold)):
        if not 0 <= value <= 1:
            wrong_usage(f"{option} is {value}; it is a score, between 0 and 1")
    if tables.csv_threshold and not tables.csv:
        wrong_usage("--csv-threshold is for the tables of --csv; give both, or leave it out")
    if drawing.json_only and (idle := [option for option in changed(drawing) if option in OF_OVERLAYS]):
        wrong_usage(f"--json-only writes no overlays, which {' and '.join(idle)} would change; leave one out")
    if boxes is not None and finding.detector != DEFAULT_DETECTOR:
        wrong_usage("--boxes says where the people are, without a detector; leave out --detector")
    if boxes is not None and finding.tiles is not None:
        wrong_usage("--boxes says where the people are, so that nobody looks for them in tiles; leave out --tiles")


def _journal(out: Path, resume: bool, names: Sequence[str], settings: dict[str, Any]) -> ResumeFile:
    """Of what is done: the unfinished run's, or a new one."""
    shown = printable(out)
    if not resume:
        is_there = (out / UNFINISHED).exists()
        journal = ResumeFile.begin(out, settings)
        if is_there:
            note(f"{shown} has an unfinished run, which is started over; --resume would continue it")
        return journal
    former = ResumeFile.go_on(out, settings)
    if former is None:
        note(f"no unfinished run in {shown}: started with the first photo")
        return ResumeFile.begin(out, settings)
    there = sum(name in former.earlier for name in names)
    gone = len(former.earlier) - there
    note(f"continuing in {shown}: {there:,} of {counted(len(names), 'file', 'files')} done before"
         + (f"; {gone:,} others done before are not among them, and left out" if gone else ""))
    return former


def _begun_with(predictor: Predictor, boxes: Path | None, *options: Any) -> dict[str, Any]:
    """What a run's results hang on, but for its photos: all ``options`` that are not free, and the files' contents."""
    detector = predictor.detector
    found_by = detector.info.identity if isinstance(detector, DetectorModel) else None
    known = {"StagePose": stagepose.__version__, "--pose": predictor.info.identity, "--detector": found_by,
             "--boxes": boxes and _digest(boxes), "--threshold": predictor.threshold}
    given = {spelled(name): value for group in options for name, value in vars(group).items() if name not in FREE}
    return {**known, **{option: value for option, value in given.items() if option not in known}}


def _digest(path: Path) -> str:
    return f"{path.name} ({hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"


def _all_clips(clips: Sequence[Path], predictor: Predictor, given: BoxFile | None, overlays: Overlays,
               settings: ClipSettings, outcome: Outcome) -> None:
    for path in clips:
        name, stem = str(path), overlays.free_stem(path, OVERLAY, RESULTS)
        overlays.take(stem + OVERLAY, stem + RESULTS)
        if _is_clip_done(path, stem, settings, outcome):
            continue
        stamp, entries = stamp_of(path), outcome.videos
        try:
            if given:
                raise VideoError(f"{printable(name)}: is a video, and --boxes has boxes of photos; leave one of them "
                                 "out")
            with counter(printable(path.name)) as step:
                clip = predict_clip(path, name, stem, predictor, settings, step, entries.append)
        except (VideoError, MissingExtraError) as error:
            outcome.fail(name, error)
            continue
        if clip.frames:
            outcome.journal.add(name, stamp, {"video": entries[-1]})
        say(f"{printable(name)}: {counted(clip.frames, 'frame', 'frames')}, to {clip.last_time:.2f} s, "
            f"{counted(len(clip.tracks), 'person', 'people')}")


def _is_clip_done(path: Path, stem: str, settings: ClipSettings, outcome: Outcome) -> bool:
    """The same of a video: an earlier process came to its end, and all files that are wanted now are there."""
    record = outcome.journal.candidate(str(path), path)
    if record is None:
        return False
    video = record["video"]
    wanted = {"results": RESULTS} | ({"table": CLIP_TABLE} if settings.table.csv else {})
    wanted |= {"overlay": OVERLAY} if settings.draw else {}
    names = {what: stem + suffix for what, suffix in wanted.items()}
    written = {what: video[what] for what in ("results", "table", "overlay") if what in video}
    if names != written or not all((settings.out / name).exists() for name in names.values()):
        return False
    outcome.journal.keep(str(path))
    outcome.videos.append(video)
    return True


def _make_folder(out: Path, boxes: Path | None) -> list[Path]:
    """Before any work: somewhere to put its results -> the folders that were not there, innermost first.

    None of the results takes the place of the file of ``boxes``.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file of that name is there" if isinstance(error, FileExistsError) else error.strerror
        raise StagePoseError(f"{printable(out)}: cannot make this folder: {reason}; choose another with --out"
                             ) from error
    for name in (PEOPLE, IMAGES, TABLE, UNFINISHED):
        require_place(out / name)
        keep_inputs(out / name, [boxes] if boxes else [])
    return missing


def _leave(out: Path, made: Sequence[Path]) -> int:
    """Where there is nothing to process: as it was, without the folders made for it."""
    note(f"nothing to process; {printable(out)} is left as it was")
    for folder in made:
        with suppress(OSError):
            folder.rmdir()
    return 1


def _expand(photos: Sequence[str], out: Path, failed: list[dict[str, str]]) -> list[Path | None]:
    """The files that the arguments stand for, each once; None is standard input. What is missing is reported."""
    found: dict[str, Path | None] = {}
    ours: list[Path] = []
    for photo in photos:
        try:
            paths = [] if photo == STDIN else find_images([photo], IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        except ImageError as error:
            fail(failed, photo, error)
            continue
        if photo == STDIN:
            found[STDIN] = None
        for path in paths:
            if str(path) != photo and is_overlay(path, out):
                ours.append(path)
            else:
                found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - keeps links apart
    if ours:
        note(f"{counted(len(ours), 'overlay', 'overlays')} of an earlier run in {printable(out)} left out")
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
        note(f"{counted(unsure, 'box', 'boxes')} of {printable(given.path)} left out, with a score below "
             f"{threshold:g}; --threshold 0 looks into all")


def _numbered(paths: Sequence[Path | None], given: BoxFile | None) -> list[Photo]:
    names = ["<stdin>" if path is None else str(path) for path in paths]
    ids = image_ids(names, given)
    return [Photo(path, name, image_id) for path, name, image_id in zip(paths, names, ids, strict=True)]
