"""A video file's frames, upright, one in memory at a time. Times are seconds as the file has them, even or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError, VideoError
from stagepose.images import MAX_PIXELS, Picture, read_image
from stagepose.lines import printable
from stagepose.pyav import AudioPacket, address, pyav, reason
from stagepose.structures import Person, is_within
from stagepose.videogaps import Pace, end_notice
from stagepose.videoheaders import MiscountError
from stagepose.videoskip import Skip, is_countable

UNSPECIFIED = 2  # of colour matrices
CLOSE = 1e-6  # seconds: what a time may be off by when it is counted from a video's start
LATE_SOUND = 5.0  # seconds that sound may lie behind the pictures in a file: a fragment of MP4 has it after all of them


@dataclass(frozen=True)
class Part:
    """The frames of a video from second ``start`` on and before second ``end``, of these every ``every``-th.

    Seconds count from the video's first frame or sound, whatever its clock shows there.
    """

    start: float = 0.0
    end: float = float("inf")
    every: int = 1

    def __post_init__(self) -> None:
        if not (is_within(self.start, 0) and is_within(self.end, 0) and self.start < self.end
                and self.start < float("inf")):
            raise ConfigError(f"a part of a video from second {self.start!r} to {self.end!r}; use a start from 0 on "
                              "and an end after it")
        if not isinstance(self.every, Integral) or self.every < 1:
            raise ConfigError(f"every is {self.every!r}; use a whole number from 1, for every frame, on")

    def frames_of(self, count: int, rate: float) -> int:
        """About how many frames this part of a video of ``count`` frames has; 0 if unknown, as for a count of 0."""
        last = min(count, math.ceil(self.end * rate)) if self.end < float("inf") else count
        return max(0, math.ceil((last - math.floor(self.start * rate)) / self.every))


WHOLE = Part()


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright frame: ``index`` in its video from 0, ``time`` in seconds, ``picture``, ``people`` with ``track_id``.

    A raw array, such as a camera frame of (H, W, 3) uint8 RGB, is read as by :func:`read_image`.
    """

    index: int
    time: float
    picture: Picture
    people: tuple[Person, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.picture, Picture):
            object.__setattr__(self, "picture", read_image(self.picture, name=f"frame {self.index}"))


@dataclass(frozen=True)
class Turn:
    """From pixels as stored to pixels as shown: rows and columns are swapped first, then reversed."""

    swaps: bool = False
    mirrors: bool = False  # left and right
    upends: bool = False

    def upright(self, pixels_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shown = pixels_HW3.swapaxes(0, 1) if self.swaps else pixels_HW3
        return np.ascontiguousarray(shown[:: -1 if self.upends else 1, :: -1 if self.mirrors else 1])


def _turn(frame: Any) -> Turn:
    """The nearest of eight, from the display matrix a, b, u, c, d, v, ...: x' = a x + c y, y' = b x + d y, y down.

    PyAV's ``rotation`` leaves out mirroring, which phones' front cameras may use.
    """
    matrix = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    swaps = abs(b) + abs(c) > abs(a) + abs(d)
    return Turn(swaps, (c if swaps else a) < 0, (b if swaps else d) < 0)


class VideoReader:
    """The upright frames of a video file, or of a part of it, in order: iterate over it, once. A context manager.

    ``width`` and ``height`` are those of the upright first frame, ``pixel_aspect`` is the width of its pixels over
    their height, by which players stretch it; read before that frame is given, they decode it. Frames of another size
    are scaled to the first. ``start`` is the time at which the file, or the part, begins, ``rate`` the frames per
    second that are given. What cannot be decoded is left out, and ``notices`` says so once the end is reached.
    ``on_audio`` is called with every packet of the first audio stream, ``audio``, in the order of the file, once the
    first frame is there. Frames before a part are counted, and those since the last keyframe decoded
    (:mod:`.videoskip`); all of them where their number is not known otherwise.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS, part: Part = WHOLE,
                 on_audio: Callable[[AudioPacket], None] | None = None) -> None:
        self._av = pyav()
        self.name, self.max_pixels, self.on_audio, self.part = printable(path), max_pixels, on_audio, part
        if not isinstance(path, (str, Path)) or "://" in str(path):
            raise VideoError(f"{self.name}: not a file; give the frames of a camera or a stream to people_in")
        if not Path(path).is_file():
            raise VideoError(f"{self.name}: no such file, or not a regular one; check the path")
        self._address, self._open_files, self._closed = address(path), ExitStack(), False
        self._raw: Iterator[tuple[int, float, Any]] = self._all_wanted()  # begins when asked for the first time
        try:
            self._begin()
        except BaseException:
            self._open_files.close()
            raise

    def _begin(self) -> None:
        """Open the file at its beginning. One opened before stays so: its sound's stream may be a writer's by now."""
        self.notices: list[str] = []
        self.frames = self._packets = self._broken = self._scaled = 0
        self._pace, self._reached = Pace(), 0.0  # the latter: where the last packet ends, of pictures or sound
        self._early_sound: list[AudioPacket] | None = []  # None: once there is a frame
        self._sound_at = -np.inf  # seconds from the start: the last packet of sound
        try:
            self._container = self._av.open(self._address, metadata_errors="replace")
        except (self._av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"{self.name}: cannot be read as a video: {reason(error)}; it may be cut off or no video, "
                             "get it again or convert it to MP4") from error
        self._open_files.callback(self._container.close)
        self._open_streams()

    def _open_streams(self) -> None:
        streams = self._container.streams
        self._streams = [*streams]
        moving = [s for s in streams.video if "attached_pic" not in str(s.disposition)]
        if not moving:
            what = "only sound" if streams.audio else "no video"
            raise VideoError(f"{self.name}: holds {what}, no pictures that move; name a video")
        self._stream = moving[0]
        if self._stream.codec_context is None:
            raise VideoError(f"{self.name}: its video is in a codec that this FFmpeg cannot decode; convert it to MP4 "
                             "with H.264")
        self._check_size(self._stream.codec_context.width, self._stream.codec_context.height)
        self._stream.thread_type = "SLICE"  # with frames in threads a corrupt one takes others along
        self.audio = next((s for s in streams.audio if s.codec_context is not None), None)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._own_rate = Fraction(rate) if rate else Fraction(25)
        self.rate = self._own_rate / self.part.every
        self._announced = int(self._stream.frames)  # 0: the file does not say
        length = self._container.duration if self._stream.duration is None else None  # else FFmpeg's, of what is there
        self._length = (length or 0) / self._av.time_base  # seconds; 0: the file does not say
        self.expected_frames = self.part.frames_of(self._announced, float(self._own_rate))
        self._own_start = (self._container.start_time or 0) / self._av.time_base
        self.start = self._own_start + self.part.start

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._open_files.close()

    def __iter__(self) -> Iterator[Frame]:
        self._first  # noqa: B018 - before the loop takes it
        for index, time, frame in self._raw:
            pixels = self._upright(frame)
            self.frames += 1
            yield Frame(index, time, Picture(pixels, f"{self.name} frame {index}"))
        if self._broken:
            self.notices.append(f"{self._broken} of its packets are corrupt; their frames are left out")
        if self._scaled:
            self.notices.append(f"{self._scaled} frames are of another size; scaled to {self.width} x {self.height}")

    @property
    def width(self) -> int:
        return self._first[0]

    @property
    def height(self) -> int:
        return self._first[1]

    @property
    def pixel_aspect(self) -> Fraction:
        return self._first[2]

    @cached_property
    def _first(self) -> tuple[int, int, Fraction]:
        """(width, height, pixel aspect) of the first frame, which is decoded for them and given in its turn."""
        first = None if self._closed else next(self._raw, None)
        if first is None:
            why = "is closed" if self._closed else "gives no frames any more"
            raise VideoError(f"{self.name}: {why}; open it again")
        self._raw, frame = chain([first], self._raw), first[2]
        aspect = Fraction(self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or 1)
        if _turn(frame).swaps:
            return frame.height, frame.width, 1 / aspect
        return frame.width, frame.height, aspect

    def _all_wanted(self) -> Iterator[tuple[int, float, Any]]:
        """The frames of the part, as decoded, with their numbers and times."""
        if is_countable(self._stream, self.part.start):
            with suppress(MiscountError):
                yield from self._wanted(self._decoded_late())
                return
            self._begin()
        yield from self._wanted(self._decoded(self._demuxed()))

    def _wanted(self, frames: Iterator[Any]) -> Iterator[tuple[int, float, Any]]:
        """Those of all the file's ``frames``, of which the earlier may be counted alone, that are the part's."""
        seen, later, last = 0, 0, -np.inf  # frames in all, from the part's start on, the time of the last
        for frame in frames:
            time = seen / float(self._own_rate) if frame.pts is None else float(frame.pts * self._stream.time_base)
            if time <= last:  # a broken clock; the frames are there all the same
                time = last + 1 / float(self._own_rate)
            self._pace.add(time)
            if time - self._own_start >= self.part.end - CLOSE:
                self._hear_out()
                break
            if time - self._own_start >= self.part.start - CLOSE:
                if later % self.part.every == 0:
                    self._let_hear()
                    yield seen, time, frame
                later += 1
            seen, last = seen + 1, time
        else:
            self._notice_losses(seen)
        if not seen:
            raise VideoError(f"{self.name}: not one frame can be decoded; get it again or convert it to MP4")
        if not later:
            raise VideoError(f"{self.name}: has no frame from second {self.part.start:g} on"
                             + (f" and before {self.part.end:g}" if self.part.end < np.inf else "")
                             + f"; its last is at {last - self._own_start:.2f}")

    def _notice_losses(self, seen: int) -> None:
        """At the file's end, after ``seen`` frames: judged by the number that it announces, else by its clock."""
        if self._announced:
            if self._packets < 0.98 * self._announced - 1:  # of frames before the start of a trimmed one there are too
                self.notices.append(f"ends after {seen} of the {self._announced} frames that it announces")
            return
        notices = [self._pace.notice(self._own_start)]
        if self._length:
            notices.append(end_notice(self._reached, self._length, self._own_start, float(self._own_rate)))
        self.notices += filter(None, notices)

    def _decoded_late(self) -> Iterator[Any]:
        """All frames, the early ones counted alone; :class:`MiscountError`, before the part, if that is not sure."""
        packets = self._demuxed()
        skip = Skip(self._stream, self._own_start + self.part.start - 2 * CLOSE)  # not after the part's first frame
        yield from skip.counted(packets)
        yield from skip.checked(self._decoded(skip.to_decode(packets)))

    def _decoded(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self._broken += 1
                continue
            yield from frames
        with suppress(self._av.error.FFmpegError):
            yield from self._stream.decode(None)  # what the decoder still holds, of a file that cannot be read further

    def _demuxed(self) -> Iterator[Any]:
        """The packets of the pictures, in the order of the file."""
        packets = self._container.demux(self._streams)  # all: the longest says how long the file is
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.error.FFmpegError as error:  # a cut-off file
                self.notices.append(f"cannot be read further: {reason(error)}")
                return
            if packet.dts is not None:
                last = packet.dts if packet.pts is None else packet.pts
                self._reached = max(self._reached, float((last + (packet.duration or 0)) * packet.time_base))
            if packet.stream is self._stream:
                self._packets += 1
                yield packet
            elif packet.stream is self.audio and packet.dts is not None:
                self._hear(packet)

    def _hear_out(self) -> None:
        """The part's sound that the file has after its pictures."""
        if self.on_audio is None or self.audio is None:
            return
        last, notices = self.part.end + LATE_SOUND, [*self.notices]
        for packet in self._demuxed():
            is_past = packet.dts is None or float(packet.dts * packet.time_base) - self._own_start > last
            if is_past or self._sound_at >= self.part.end:
                break
        self.notices = notices  # what is wrong behind the part is none of it

    def _hear(self, packet: AudioPacket) -> None:
        self._sound_at = float(packet.dts * packet.time_base) - self._own_start
        if self.on_audio is None or not self._is_heard():
            return
        if self._early_sound is None:
            self.on_audio(packet)
        else:
            self._early_sound.append(packet)

    def _let_hear(self) -> None:
        """A frame is found, so that the file is not begun again: nothing will be heard twice."""
        early, self._early_sound = self._early_sound, None
        for packet in early or ():
            if self.on_audio is not None:
                self.on_audio(packet)

    def _is_heard(self) -> bool:
        return (self._sound_at >= self.part.start or not self.part.start) and self._sound_at < self.part.end

    def _upright(self, frame: Any) -> NDArray[np.uint8]:
        self._check_size(frame.width, frame.height)
        pixels = _turn(frame).upright(self._rgb(frame))
        if pixels.shape[:2] != (self.height, self.width):
            import cv2

            self._scaled += 1
            pixels = np.asarray(cv2.resize(np.ascontiguousarray(pixels), (self.width, self.height),
                                           interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return pixels

    def _rgb(self, frame: Any) -> NDArray[np.uint8]:
        try:
            return np.asarray(frame.to_ndarray(format="rgb24"))
        except self._av.error.FFmpegError:
            frame.colorspace = UNSPECIFIED  # it names a rare matrix, or one that there is not; the usual one is near
        try:
            return np.asarray(frame.to_ndarray(format="rgb24"))
        except self._av.error.FFmpegError as error:
            raise VideoError(f"{self.name}: its pixels ({frame.format.name}) cannot be made RGB: {reason(error)}; "
                             "convert it to MP4 with H.264") from error

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise VideoError(f"{self.name}: {width} x {height} is more than {self.max_pixels:,} pixels; shrink it, or "
                             "raise max_pixels")
