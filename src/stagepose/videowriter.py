"""An MP4 of frames and sound, written as they come: whole under its name, or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError, StagePoseError
from stagepose.files import put_in_place, temporary_name, writing
from stagepose.lines import printable
from stagepose.pyav import AudioPacket, address, pyav, reason

TICKS = 60_000  # a second, of what is written: 24, 25, 30, 60 and 30000/1001 frames a second come out exactly
ENCODERS = ("libx264", "libopenh264", "mpeg4")  # the first that is there; the last always is
COPIED_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"})  # an MP4 takes these; others become AAC
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # samples a second
BT709, LIMITED = 1, 1  # what is written, and said in the file, so that no player guesses
SQUARE = Fraction(1)


class VideoWriter:
    """An MP4 with H.264 if the encoder is there (else MPEG-4): frames with their times, and sound.

    ``rate`` is the frame rate that players are told; times may be uneven. Odd sizes get one more column or row, since
    H.264 as players support it has even ones. ``audio`` is the stream whose packets :meth:`add_audio` takes: it is
    copied, else converted to AAC, else left out, and ``notices`` says so. ``start`` is the time that becomes the file's
    0, since clocks of broadcasts and cameras start anywhere. :meth:`close`, or the end of a ``with``, completes the
    file after any number of frames and gives it its name; until then it is a hidden file beside it. An exception in the
    ``with`` calls :meth:`discard`: a file that had the name before stays.
    """

    def __init__(self, path: str | Path, width: int, height: int, rate: Fraction | float, audio: Any = None, *,
                 pixel_aspect: Fraction = SQUARE, start: float = 0.0) -> None:
        if not 0 < rate < np.inf:
            raise ConfigError(f"rate is {rate}; give frames a second, such as 25")
        if not isinstance(rate, Fraction):
            rate = Fraction(rate).limit_denominator(1001)
        self._av = pyav()
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
            self._container = self._av.open(address(self._temporary), "w", format="mp4")
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
        """A frame, RGB, at its time in seconds; :class:`StagePoseError` if the disk is full.

        :class:`ConfigError` for a frame of another size than the video's, which would be distorted.
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
        """A packet of the audio stream, as a :class:`VideoReader` gives it; a broken one is left out."""
        if self._audio is None:
            return
        self._set_time(packet)
        try:
            with writing(self.name):
                self._mux_audio(packet)
        except self._av.error.FFmpegError as error:
            self.notices.append(f"its sound ends early: {reason(error)}")
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
        """Sound continues after the packet before, also where a file's clock starts over, as in concatenated files."""
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
        """Write what the encoders still hold and the end of the file, without which it cannot be played."""
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
        """Delete what was written."""
        with suppress(self._av.error.FFmpegError):
            self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _faults(self) -> AbstractContextManager[None]:
        return writing(self.name, ValueError, self._av.error.FFmpegError)
