"""Frames before a part of a video: counted by their packets, decoded from a keyframe shortly before the part on.

A frame's number is that of the frames shown before it, and is wrong if one is missed. So packets and frames are
compared from that keyframe to the part, and where they may not be one to one, or a file is damaged,
:class:`.MiscountError` asks to decode it all. Packets come in the order in which they are decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from stagepose.pyav import pyav
from stagepose.videoheaders import Headers, MiscountError

WARM_UP = 0.5  # seconds decoded before a part at least, where packets and frames are compared
MOST_HELD = 100_000_000  # bytes of packets since a keyframe; with more of them decoding begins
PACKET = 700  # bytes that one takes besides its own: of still pictures there may be a million since a keyframe
# Decoders that give a frame for each packet of a whole file. Of VP8 and MPEG-4 there are packets that show nothing.
ONE_TO_ONE = frozenset({"h264", "hevc", "vp9", "libdav1d", "mjpeg", "mpeg2video"})


@dataclass(frozen=True)
class Counted:
    """In the place of a frame that is not decoded."""

    pts: int


def is_countable(stream: Any, start: float) -> bool:
    """Whether a part from second ``start`` on may be reached by :class:`Skip`, and sooner than by decoding."""
    return start > WARM_UP and stream.codec_context.name in ONE_TO_ONE


class Skip:
    """The way to the frame at ``start``, in seconds of the file's clock, of a stream whose packets are being read.

    First :meth:`counted`, then :meth:`checked` of the frames decoded from the packets :meth:`to_decode`, give every
    frame in the order shown. Of those before the keyframe it is a :class:`Counted`.
    """

    def __init__(self, stream: Any, start: float) -> None:
        self._stream, self._start = stream, start
        self._av = pyav()
        self._held: deque[Any] = deque()  # packets from the keyframe on
        self._key: Any = None
        self._first: int | None = None
        self._dts: int | None = None
        self._coming: list[int] = []  # a heap: times of packets, to be shown
        self._shown: int | None = None
        self._is_there = False  # at the part
        self._headers = Headers(stream.codec_context)

    def counted(self, packets: Iterator[Any]) -> Iterator[Counted]:
        """What is shown before the keyframe that decoding begins at, as far as the packets up to the part tell it."""
        held_bytes = 0
        for packet in packets:
            if _is_end(packet):
                return
            self._note(packet)
            may_begin = self._headers.read(packet) and packet.is_keyframe
            if self._key is None or (may_begin and self._seconds(packet) <= self._start - WARM_UP):
                self._held.clear()
                self._key, held_bytes = packet, 0
            self._held.append(packet)
            held_bytes += packet.size + PACKET
            if self._seconds(packet) >= self._start or held_bytes > MOST_HELD:
                return
            if self._dts is not None:  # all later packets are shown after it
                yield from self._shown_before(min(self._dts, self._key.pts))

    def to_decode(self, packets: Iterator[Any]) -> Iterator[Any]:
        """The packets from the keyframe on."""
        while self._held:
            yield self._held.popleft()
        for packet in packets:
            if not (self._is_there or _is_end(packet)):
                self._note(packet)
            yield packet

    def checked(self, frames: Iterator[Any]) -> Iterator[Any]:
        """The decoded frames, up to the part compared with the packets; :class:`MiscountError` where these differ."""
        for frame in frames:
            if not self._is_there:
                yield from self._shown_before(self._key.pts)
                self._check(frame)
            yield frame
        if not self._is_there and self._coming:
            raise MiscountError

    def _check(self, frame: Any) -> None:
        if frame.pts is None or frame.is_corrupt or frame.interlaced_frame:  # fields may be packets of their own
            raise MiscountError
        if not self._coming or self._next() != frame.pts:
            raise MiscountError
        needs_none = frame.key_frame and frame.pict_type == self._av.video.frame.PictureType.I
        if frame.pts == self._key.pts and not needs_none:  # a file may call anything a keyframe
            raise MiscountError
        self._is_there = self._seconds(frame) >= self._start

    def _seconds(self, timed: Any) -> float:
        return float(timed.pts * self._stream.time_base)

    def _note(self, packet: Any) -> None:
        """A packet's time, if it is sure that a frame is shown then."""
        pts, dts = packet.pts, packet.dts
        if pts is None or not packet.size or packet.is_corrupt:
            raise MiscountError
        if self._first is None and packet.is_keyframe:
            self._first = pts
        if self._first is None or pts < self._first:  # what it needs may be cut off
            raise MiscountError
        is_late = dts is not None and (pts < dts or (self._dts is not None and dts <= self._dts))
        if is_late or (dts is None and self._dts is not None):  # only Matroska's first packets may have none
            raise MiscountError
        self._dts = dts
        if not packet.is_discard:  # else before the first frame of a trimmed file
            heappush(self._coming, pts)

    def _shown_before(self, pts: int) -> Iterator[Counted]:
        while self._coming and self._coming[0] < pts:
            yield Counted(self._next())

    def _next(self) -> int:
        before, self._shown = self._shown, heappop(self._coming)
        if before is not None and self._shown <= before:
            raise MiscountError
        return self._shown


def _is_end(packet: Any) -> bool:
    """Of a stream, after its last packet."""
    return bool(packet.dts is None and not packet.size)
