"""Video files: frames in, frames out, one in memory at a time; which files are videos.

PyAV (the extra ``video``) reads and writes; everything else in StagePose does without it. Times are seconds as the file
has them, so a variable frame rate stays one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError, MissingExtraError, StagePoseError, VideoError
from stagepose.files import put_in_place, temporary_name, writing
from stagepose.imageformats import AVIF_BRANDS, HEIF_BRANDS
from stagepose.images import MAX_PIXELS, Picture, read_image
from stagepose.lines import printable
from stagepose.structures import Person, is_within
from stagepose.videogaps import Pace, end_notice

TICKS = 60_000  # a second, of what is written: 24, 25, 30, 60 and 30000/1001 frames a second come out exactly
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that is there; the last always is
COPIED_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"})  # an MP4 takes these; others become AAC
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # samples a second
BT709, LIMITED = 1, 1  # what is written, and said in the file, so that no player guesses
UNSPECIFIED = 2  # of colour matrices

CLOSE = 1e-6  # seconds: what a time may be off by when it is counted from a video's start
SQUARE = Fraction(1)
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts",
                            ".m2ts", ".vob", ".wmv", ".flv", ".3gp", ".3g2", ".ogv"})
STARTS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS", b"0&\xb2u\x8ef\xcf\x11")
QUICKTIME = frozenset({b"moov", b"mdat", b"wide"})  # of before "ftyp"
TS = ((0, 188), (4, 192))  # first byte and length of MPEG-TS packets, of broadcasts and of Blu-ray and camcorders
PICTURE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"P5", b"P6")

AudioPacket = Any  # av.Packet


@dataclass(frozen=True)
class Part:
    """Of a video the frames from second ``start`` on and before ``end``, and of these every ``every``-th.

    Seconds count from the video's first frame or sound, whatever its clock says there.
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
        """About how many frames it has of a video of ``count``; 0 where that is not known, as of a count of 0."""
        last = min(count, math.ceil(self.end * rate)) if self.end < float("inf") else count
        return max(0, math.ceil((last - math.floor(self.start * rate)) / self.every))


WHOLE = Part()


@dataclass(frozen=True, eq=False)
class Frame:
    """One upright frame: ``index`` in its video from 0, ``time`` in seconds, ``picture``, ``people`` with ``track_id``.

    A picture that is none yet, such as a camera's (H, W, 3) uint8 RGB, is read as :func:`read_image` does.
    """

    index: int
    time: float
    picture: Picture
    people: tuple[Person, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.picture, Picture):
            object.__setattr__(self, "picture", read_image(self.picture, name=f"frame {self.index}"))


def is_video(path: Path) -> bool:
    """Whether a file is a video by its first bytes; where they say nothing, by its suffix. Needs no PyAV."""
    head = b""
    try:
        if path.is_file():  # asked first: to open a pipe would be to wait for it
            with path.open("rb") as file:
                head = file.read(400)
    except OSError:
        pass
    if head[4:8] == b"ftyp":
        return head[8:12] not in HEIF_BRANDS | AVIF_BRANDS
    if head[:4] == b"RIFF" and head[8:12] != b"WEBP":
        return head[8:12] == b"AVI "
    if head.startswith(STARTS) or head[4:8] in QUICKTIME or any(head[at::size][:3] == b"GGG" for at, size in TS):
        return True
    picture = head.startswith(PICTURE_STARTS) or head[8:12] == b"WEBP"
    return path.suffix.lower() in VIDEO_SUFFIXES and not picture


@dataclass(frozen=True)
class Turn:
    """From pixels as stored to pixels as shown: rows and columns swapped first, then turned about."""

    swaps: bool = False
    mirrors: bool = False  # left and right
    upends: bool = False

    def upright(self, pixels_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
        shown = pixels_HW3.swapaxes(0, 1) if self.swaps else pixels_HW3
        return np.ascontiguousarray(shown[:: -1 if self.upends else 1, :: -1 if self.mirrors else 1])


def _turn(frame: Any) -> Turn:
    """The nearest of eight, from the display matrix a, b, u, c, d, v, ...: x' = a x + c y, y' = b x + d y, y down.

    PyAV's ``rotation`` knows no mirroring, which telephones' front cameras may ask for.
    """
    matrix = next((data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    swaps = abs(b) + abs(c) > abs(a) + abs(d)
    return Turn(swaps, (c if swaps else a) < 0, (b if swaps else d) < 0)


class VideoReader:
    """The upright frames of a video file, or of a part of it, in order: iterate it, once. A context manager.

    ``width`` and ``height`` are the upright first frame's, ``pixel_aspect`` its pixels' width over their height, which
    players stretch by; asked for before that frame is given, they decode it. A frame of another size is scaled to it.
    ``start`` is the time at which the file, or its part,
    begins, ``rate`` the frames a second that are given. What cannot be decoded is left out; ``notices`` says so, when
    the end is reached. ``on_audio`` is called with every packet of the first audio stream, ``audio``, as the file has
    them among the frames. What lies before a part is decoded too: only so is each frame's number known.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS, part: Part = WHOLE,
                 on_audio: Callable[[AudioPacket], None] | None = None) -> None:
        self._av = _pyav()
        self.name, self.max_pixels, self.on_audio, self.part = printable(path), max_pixels, on_audio, part
        self.notices: list[str] = []
        self.frames = self._packets = self._broken = self._scaled = 0
        self._pace, self._reached = Pace(), 0.0  # the latter: where the last packet ends, of pictures or sound
        if not isinstance(path, (str, Path)) or "://" in str(path):
            raise VideoError(f"{self.name}: not a file; give the frames of a camera or a stream to people_in")
        if not Path(path).is_file():
            raise VideoError(f"{self.name}: no such file, or not a regular one; check the path")
        try:
            self._container = self._av.open(_address(path), metadata_errors="replace")
        except (self._av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"{self.name}: cannot be read as a video: {_why(error)}; it may be cut off or no video, "
                             "get it again or convert it to MP4") from error
        self._raw: Iterator[tuple[int, float, Any]] = self._wanted()  # begins when asked for the first time
        self._closed = False
        try:
            self._open_streams()
        except BaseException:
            self._container.close()
            raise

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
        self._container.close()

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
        aspect = Fraction(self._stream.codec_context.sample_aspect_ratio or 1)
        if _turn(frame).swaps:
            return frame.height, frame.width, 1 / aspect
        return frame.width, frame.height, aspect

    def _wanted(self) -> Iterator[tuple[int, float, Any]]:
        """The frames of the part, as decoded, with their numbers and times."""
        seen, later, last = 0, 0, -np.inf  # frames in all, from the part's start on, the time of the last
        for frame in self._decoded():
            time = seen / float(self._own_rate) if frame.pts is None else float(frame.pts * self._stream.time_base)
            if time <= last:  # a broken clock; the frames are there all the same
                time = last + 1 / float(self._own_rate)
            self._pace.add(time)
            if time - self._own_start >= self.part.end - CLOSE:
                break
            if time - self._own_start >= self.part.start - CLOSE:
                if later % self.part.every == 0:
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
        """At the file's end, after ``seen`` frames: by the number that it announces, else by its clock."""
        if self._announced:
            if self._packets < 0.98 * self._announced - 1:  # of frames before the start of a trimmed one there are too
                self.notices.append(f"ends after {seen} of the {self._announced} frames that it announces")
            return
        notices = [self._pace.notice(self._own_start)]
        if self._length:
            notices.append(end_notice(self._reached, self._length, self._own_start, float(self._own_rate)))
        self.notices += filter(None, notices)

    def _decoded(self) -> Iterator[Any]:
        packets = self._container.demux(self._streams)  # all: the longest says how long the file is
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.error.FFmpegError as error:  # a cut-off file
                self.notices.append(f"cannot be read further: {_why(error)}")
                with suppress(self._av.error.FFmpegError):
                    yield from self._stream.decode(None)  # what the decoder still holds
                return
            if packet.dts is not None:
                last = packet.dts if packet.pts is None else packet.pts
                self._reached = max(self._reached, float((last + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not self._stream:
                is_sound = packet.stream is self.audio and packet.dts is not None
                if is_sound and self.on_audio and self._is_heard(packet):
                    self.on_audio(packet)
                continue
            self._packets += 1
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self._broken += 1
                continue
            yield from frames

    def _is_heard(self, packet: AudioPacket) -> bool:
        second = float(packet.dts * packet.time_base) - self._own_start
        return (second >= self.part.start or not self.part.start) and second < self.part.end

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
            raise VideoError(f"{self.name}: its pixels ({frame.format.name}) cannot be made RGB: {_why(error)}; "
                             "convert it to MP4 with H.264") from error

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            raise VideoError(f"{self.name}: {width} x {height} is more than {self.max_pixels:,} pixels; shrink it, or "
                             "raise max_pixels")


class VideoWriter:
    """An MP4 with H.264 where the encoder is there (else MPEG-4): frames with their times, and sound.

    ``rate`` is what players are told; times may be uneven. Odd sizes get one more column or row, since H.264 as players
    know it has even ones. ``audio`` is the stream that :meth:`add_audio`'s packets come from: it is copied, else made
    AAC, else left out, as ``notices`` says. ``start`` is the time that becomes the file's 0:
    clocks of broadcasts and cameras begin anywhere. :meth:`close`, or the end of a ``with``, makes the file whole after
    any number of frames and gives it its name; until then it is a hidden one beside it. A ``with`` that an exception
    leaves is :meth:`discard`: whatever had the name before stays.
    """

    def __init__(self, path: str | Path, width: int, height: int, rate: Fraction | float, audio: Any = None, *,
                 pixel_aspect: Fraction = SQUARE, start: float = 0.0) -> None:
        if not 0 < rate < np.inf:
            raise ConfigError(f"rate is {rate}; give frames a second, such as 25")
        if not isinstance(rate, Fraction):
            rate = Fraction(rate).limit_denominator(1001)
        self._av = _pyav()
        self.path, self.name = Path(path), printable(path)
        self.width, self.height = width, height
        if self.path.exists() and not self.path.is_file():
            raise StagePoseError(f"{self.name}: cannot be written: no ordinary file; name another")
        self.pixel_aspect, self.start = pixel_aspect, start
        self.notices: list[str] = []
        self._temporary = temporary_name(self.path)
        self._last: int | None = None
        self._audio: Any = None
        self._sound_last: tuple[int, int] | None = None  # the packet before: its start and length, in ticks
        self._sound_shift = 0
        ways = [(None, False)]
        if audio is not None:
            copied = [(audio, True)] if audio.codec_context.name in COPIED_AUDIO else []
            ways = [*copied, (audio, False), (None, False)]
        for sound, copies in ways:
            try:
                self._open(width, height, rate, sound, copies)
                break
            except StagePoseError:
                if sound is None:
                    raise
        if audio is not None and self._audio is None:
            self.notices.append(f"its sound ({audio.codec_context.name}) fits no MP4; left out")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, width: int, height: int, rate: Fraction, audio: Any, copies: bool) -> None:
        with self._faults():
            self._container = self._av.open(_address(self._temporary), "w", format="mp4")
            try:
                self._stream = self._add_video(width, height, rate)
                self._audio, self._copies = self._add_audio_stream(audio, copies), copies
                self._container.start_encoding()  # now: what the encoders or MP4 refuse is refused here
            except BaseException:
                self.discard()
                raise

    def _add_audio_stream(self, audio: Any, copies: bool) -> Any:
        if audio is None:
            return None
        if copies:
            return self._container.add_stream_from_template(audio)
        rate = audio.codec_context.sample_rate
        return self._container.add_stream("aac", rate=rate if rate in AAC_RATES else 48000)

    def _add_video(self, width: int, height: int, rate: Fraction) -> Any:
        encoder = next(name for name in ENCODERS if self._can_encode(name))
        options = {"crf": "20", "preset": "veryfast"} if encoder == "libx264" else {}
        stream = self._container.add_stream(encoder, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        if not options:
            stream.bit_rate = int(width * height * float(rate) * 0.2)
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = Fraction(1, TICKS), self.pixel_aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        return stream

    def _can_encode(self, name: str) -> bool:
        try:
            self._av.codec.Codec(name, "w")
        except ValueError:  # UnknownCodecError
            return False
        return name in self._av.codec.codecs_available or name == "mpeg4"

    def add(self, pixels_HW3: NDArray[np.uint8], time: float) -> None:
        """A frame, RGB, at its time in seconds; :class:`StagePoseError` where the disk is full.

        :class:`ConfigError` for one of another size than the video's: it would be squeezed into that.
        """
        self._check_frame(pixels_HW3)
        if self.height % 2 or self.width % 2:
            pixels_HW3 = np.pad(pixels_HW3, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HW3), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED)
        ticks = round((time - self.start) * TICKS)
        self._last = ticks if self._last is None else max(self._last + 1, ticks)
        frame.pts, frame.time_base = self._last, Fraction(1, TICKS)
        with self._faults():
            self._container.mux(self._stream.encode(frame))

    def _check_frame(self, pixels_HW3: object) -> None:
        wish = f"expected (H, W, 3) uint8 RGB of {self.width} x {self.height} pixels, which this video was begun with"
        if not isinstance(pixels_HW3, np.ndarray):
            raise ConfigError(f"{self.name}: a frame is a {type(pixels_HW3).__name__}; {wish}")
        if pixels_HW3.dtype != np.uint8 or pixels_HW3.shape != (self.height, self.width, 3):
            raise ConfigError(f"{self.name}: a frame has shape {pixels_HW3.shape} and dtype {pixels_HW3.dtype}; {wish}")

    def add_audio(self, packet: AudioPacket) -> None:
        """A packet of the audio stream, as a :class:`VideoReader` gives it; one that is broken is left out."""
        if self._audio is None:
            return
        self._set_time(packet)
        try:
            with writing(self.name):
                self._mux_audio(packet)
        except self._av.error.FFmpegError as error:
            self.notices.append(f"its sound ends early: {_why(error)}")
            self._audio = None

    def _mux_audio(self, packet: AudioPacket) -> None:
        if self._copies:
            packet.stream = self._audio
            self._container.mux(packet)
            return
        try:
            frames = packet.decode()
        except self._av.error.InvalidDataError:
            return
        for frame in frames:
            self._container.mux(self._audio.encode(frame))

    def _set_time(self, packet: AudioPacket) -> None:
        """Sound goes on after the packet before, also where a file's clock starts again, as in files joined."""
        late = 0 if packet.pts is None else packet.pts - packet.dts
        packet.dts += self._sound_shift - round(self.start / packet.time_base)
        last = self._sound_last
        if last is not None and packet.dts <= last[0]:
            behind = last[0] + last[1] - packet.dts
            self._sound_shift += behind
            packet.dts += behind
        packet.pts = packet.dts + late
        self._sound_last = packet.dts, max(packet.duration or 0, 1)

    def close(self) -> None:
        """Write what the encoders still hold, and the end of the file; it must be there to be played."""
        try:
            with self._faults():
                try:
                    self._container.mux(self._stream.encode(None))
                    if self._audio is not None and not self._copies:
                        self._container.mux(self._audio.encode(None))
                finally:
                    self._container.close()
                put_in_place(self._temporary, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leave nothing of it."""
        with suppress(self._av.error.FFmpegError):
            self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _faults(self) -> AbstractContextManager[None]:
        return writing(self.name, ValueError, self._av.error.FFmpegError)


def _address(path: str | Path) -> str:
    """Absolute, since of ``12:30.mp4`` FFmpeg takes the start for a protocol."""
    return os.path.abspath(path)  # noqa: PTH100 - links stay what they are


def _why(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)


def _pyav() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError('av is not installed, which reads videos; run: pip install "stagepose[video]"'
                                ) from error
    av.logging.set_level(None)
    return av
