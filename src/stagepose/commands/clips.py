"""A video of ``stagepose predict``: an overlay with its sound, people frame by frame, written as they are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import person_result
from stagepose.coco.results import IMAGES
from stagepose.commands.arguments import OptionalNumber
from stagepose.commands.console import note
from stagepose.commands.spreadsheet import TableOptions, csv_line, joint_cells, remove_csv
from stagepose.errors import StagePoseError
from stagepose.files import put_in_place, temporary_name, write_all, writing
from stagepose.lines import printable
from stagepose.predictor import Predictor
from stagepose.structures import Person
from stagepose.videoreader import Frame, Part, VideoReader
from stagepose.videos import people_in
from stagepose.videowriter import VideoWriter

OF_FRAME = ("file_name", "frame", "time", "track_id", "score", "x1", "y1", "x2", "y2")
OVERLAY, RESULTS, TABLE = ".pose.mp4", ".people.json", ".people.csv"
Draw: TypeAlias = Callable[[NDArray[np.uint8], Sequence[Person]], NDArray[np.uint8]]  # people onto a picture


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How videos are processed.

    Attributes:
        detect_every: Run the detector on every Nth processed frame of a video; people are tracked in between.
        smooth: In a video, smooth out keypoint jitter.
        cuts: In a video, whoever is seen after a hard cut is somebody new, and the detector is run at once.
        start: Start of the video segment, in seconds; earlier frames are only counted.
        end: End of the video segment, in seconds.
        every: Process every Nth frame of the video or segment.
    """

    detect_every: int = 1
    smooth: bool = True
    cuts: bool = True
    start: float = 0.0
    end: OptionalNumber = None
    every: int = 1

    @property
    def part(self) -> Part:
        """Of each video; :class:`ConfigError` where it is none."""
        return Part(self.start, float("inf") if self.end is None else self.end, self.every)


@dataclass(frozen=True)
class ClipSettings:
    """How a run treats its videos."""

    out: Path
    draw: Draw | None  # None: no overlay
    video: VideoOptions
    table: TableOptions
    former: frozenset[str]  # overlays that an earlier run has written there


def earlier_overlays(out: Path) -> frozenset[str]:
    """The names of the videos' overlays that the run before has listed in OUT; none where it has left no list."""
    try:
        videos = json.loads((out / IMAGES).read_bytes())["videos"]
        return frozenset(str(video["overlay"]) for video in videos if "overlay" in video)
    except (OSError, ValueError, LookupError, TypeError):
        return frozenset()


class Growing:
    """A file that grows chunk by chunk under a temporary name, and gets its end and its name at last."""

    def __init__(self, path: Path, head: bytes, tail: bytes) -> None:
        self.path, self.tail = path, tail
        self.temporary = temporary_name(path)
        self._good = 0  # bytes that are whole chunks
        with self._faults():
            self._file = self.temporary.open("wb", buffering=0)
        try:
            self.append(head)
        except BaseException:
            self.discard()
            raise

    def append(self, chunk: bytes) -> None:
        with self._faults():
            write_all(self._file, chunk)
        self._good += len(chunk)

    def finish(self) -> None:
        """After any number of chunks, and after one that a full disk cut short."""
        with self._faults():
            self._file.truncate(self._good)
            self._file.seek(self._good)
            write_all(self._file, self.tail)
            self._file.close()
            put_in_place(self.temporary, self.path)

    def discard(self) -> None:
        self._file.close()
        self.temporary.unlink(missing_ok=True)

    def _faults(self) -> AbstractContextManager[None]:
        return writing(printable(self.path))


@dataclass
class Clip:
    """What is written of one video; :meth:`close` makes it whole, after however many frames.

    An earlier run's files stay until then.
    """

    name: str
    stem: str  # of all its files, in the folder ``settings.out``
    settings: ClipSettings
    frames: int = 0
    people: int = 0  # in all frames together
    tracks: set[int] = field(default_factory=set)
    last_time: float = 0.0
    _files: dict[str, Growing] = field(default_factory=dict)  # by suffix
    _written: list[str] = field(default_factory=list)  # suffixes of what is finished
    _overlay: VideoWriter | None = None

    def path(self, suffix: str) -> Path:
        return self.settings.out / (self.stem + suffix)

    def begin(self, keypoints: Sequence[str], reader: VideoReader) -> None:
        """Open its files, at its first frame."""
        self._files[RESULTS] = Growing(self.path(RESULTS), b"[", b"\n]\n")
        if self.settings.table.csv:
            joints = (f"{name}_{what}" for name in keypoints for what in ("x", "y", "score"))
            self._files[TABLE] = Growing(self.path(TABLE), csv_line([*OF_FRAME, *joints]), b"")
        if self.settings.draw:
            self._overlay = VideoWriter(self.path(OVERLAY), reader.width, reader.height, reader.rate, reader.audio,
                                        pixel_aspect=reader.pixel_aspect, start=reader.start)

    def add(self, frame: Frame) -> None:
        results = [self._result(frame, person) for person in frame.people]
        lines = [json.dumps(result, allow_nan=False) for result in results]
        if lines:
            self._files[RESULTS].append(((",\n" if self.people else "\n") + ",\n".join(lines)).encode())
            if TABLE in self._files:
                self._files[TABLE].append(b"".join(csv_line([
                    *(result[key] for key in OF_FRAME[:5]), *result["box"],
                    *joint_cells(result["keypoints"], self.settings.table.csv_threshold)]) for result in results))
        self.frames, self.last_time = self.frames + 1, frame.time
        self.people += len(results)
        self.tracks.update(result["track_id"] for result in results)
        if self._overlay and self.settings.draw:
            drawn = self.settings.draw(frame.picture.pixels, frame.people)
            self._overlay.add(drawn, frame.time)

    def add_audio(self, packet: Any) -> None:
        if self._overlay:
            self._overlay.add_audio(packet)

    def close(self) -> None:
        """Finish the overlay, then the results, in the place of an earlier run's, whose other files go.

        An overlay that cannot be finished makes room for the results. Of what cannot be finished nothing is left.
        """
        try:
            try:
                if self._overlay:
                    self._overlay.close()
                    self._written.append(OVERLAY)
            finally:
                for suffix, file in self._files.items():
                    file.finish()
                    self._written.append(suffix)
                self._remove_former()
        except BaseException:  # a full disk, a second Ctrl-C
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing unfinished: of a video without frames nothing at all."""
        for file in self._files.values():
            file.discard()
        if self._overlay:
            self._overlay.discard()

    def _remove_former(self) -> None:
        """What an earlier run has left, and this one does not replace, would tell of other people; others' files stay.

        A table is known by its heading, an overlay by the earlier run's list.
        """
        if TABLE not in self._written and remove_csv(self.path(TABLE), OF_FRAME):
            note(f"{printable(self.path(TABLE))}, of an earlier run, removed; --csv writes one of this run")
        overlay = self.path(OVERLAY)
        if OVERLAY in self._written or not overlay.exists():
            return
        if overlay.name not in self.settings.former:
            note(f"{printable(overlay)} is not known to be of an earlier run; left as it is")
            return
        try:
            overlay.unlink()
        except OSError as error:
            raise StagePoseError(f"{printable(overlay)}: of an earlier run, and cannot be removed: "
                                 f"{error.strerror}") from error
        note(f"{printable(overlay)}, of an earlier run, removed")

    def notices(self, reader: VideoReader) -> list[str]:
        return [*reader.notices, *(self._overlay.notices if self._overlay else ())]

    def entry(self, reader: VideoReader, complete: bool) -> dict[str, Any]:
        """For ``images.json``; written names only."""
        written = {key: self.stem + suffix for key, suffix in
                   (("results", RESULTS), ("table", TABLE), ("overlay", OVERLAY)) if suffix in self._written}
        return {"file_name": self.name, "width": reader.width, "height": reader.height, "frames": self.frames,
                "rate": round(float(reader.rate), 3), "people": len(self.tracks), "complete": complete,
                "notices": self.notices(reader), **written}

    def _result(self, frame: Frame, person: Person) -> dict[str, Any]:
        return {"image_id": frame.index, **person_result(person), "file_name": self.name, "frame": frame.index,
                "time": round(frame.time, 4), "track_id": person.track_id}


def predict_clip(path: Path, name: str, stem: str, predictor: Predictor, settings: ClipSettings,
                 step: Callable[[int, int], None], done: Callable[[dict[str, Any]], None]) -> Clip:
    """One video from its file to its results; ``done`` gets its entry, after a stop in its middle too.

    ``step`` is called with (frames done, frames that the file announces or 0).
    """
    clip, held = Clip(name, stem, settings), []
    video = settings.video

    def on_audio(packet: Any) -> None:
        clip.add_audio(packet) if clip.frames else held.append(packet)  # sound before the first picture

    with VideoReader(path, max_pixels=predictor.config.max_pixels, part=video.part,
                     on_audio=on_audio if settings.draw else None) as reader:
        complete = False
        try:
            for frame in people_in(reader, predictor, detect_every=video.detect_every, smooth=video.smooth,
                                   cuts=video.cuts):
                if not clip.frames:
                    clip.begin(predictor.skeleton.names, reader)
                clip.add(frame)
                while held:
                    clip.add_audio(held.pop(0))
                step(clip.frames, max(reader.expected_frames, clip.frames))
            complete = True
        finally:
            if not clip.frames:
                clip.discard()
            else:
                try:
                    clip.close()
                finally:
                    done(clip.entry(reader, complete))
                    if not complete:
                        note(f"{printable(name)}: stopped after {clip.frames:,} frames; what was found in them is kept")
        for notice in clip.notices(reader):
            note(f"{printable(name)}: {notice}")
    return clip
