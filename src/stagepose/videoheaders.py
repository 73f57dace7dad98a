"""The headers of packets that are counted and not decoded: whether each has a picture, and where decoding may begin."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from stagepose.pyav import pyav

DECODED = frozenset({"h264", "hevc", "mjpeg", "mpeg2video"})  # decoders that read headers of packets that they skip
PICTURE, SEQUENCE = b"\0\0\1\0", b"\0\0\1\xb3"  # of MPEG-2
START = b"\0\0\1"


class MiscountError(Exception):
    """Packets that may not be frames one to one: only decoding all of them tells the frames' numbers."""


@dataclass(frozen=True)
class Units:
    """What packets of H.264 and HEVC are of: slices of pictures, parameter sets that these need, and others.

    A unit's kind is in the bits of ``mask`` of its first byte; ``width_at`` is the byte of the file's header that says
    how many bytes a unit's length takes.
    """

    mask: int
    slices: Container[int]
    sets: Container[int]
    width_at: int


UNITS = {"h264": Units(0b11111, (1, 2, 5), (7, 8), 4),
         "hevc": Units(0b1111110, range(0, 64, 2), (64, 66, 68), 21)}


class Headers:
    """What the packets of a stream are told by, read in the order of the file."""

    def __init__(self, context: Any) -> None:
        self._codec, self._extradata = context.name, bytes(context.extradata or b"")
        self._needed: set[bytes] | None = None  # parameter sets of the first packet that the file's header lacks
        self._error = pyav().error.FFmpegError
        self._decoder: Any = None
        if self._codec in DECODED:
            self._decoder = pyav().CodecContext.create(self._codec, "r")
            self._decoder.extradata, self._decoder.thread_count = context.extradata, 1
            self._decoder.skip_frame = "ALL"

    def read(self, packet: Any) -> bool:
        """Whether decoding may begin with the packet, if it is a keyframe; :class:`MiscountError` if it has no picture
        or is damaged, or if what decoding needs has changed: later packets need not have it."""
        if packet.has_sidedata("new_extradata") and bytes(packet.get_sidedata("new_extradata")) != self._extradata:
            raise MiscountError
        if self._decoder is not None:
            try:
                self._decoder.decode(packet)  # a damaged packet may give no frame; most of these are told by it
            except self._error as error:
                raise MiscountError from error
        if self._codec == "mpeg2video":
            before, picture, _ = bytes(packet).partition(PICTURE)
            if not picture:
                raise MiscountError
            return SEQUENCE in before
        units = UNITS.get(self._codec)
        return units is None or self._read_sets(bytes(packet), units)

    def _read_sets(self, data: bytes, units: Units) -> bool:
        sets: set[bytes] = set()
        for unit in self._split(data, units):
            kind = unit[0] & units.mask
            if kind in units.slices:
                break
            if kind in units.sets and unit not in self._extradata:
                sets.add(unit)
        else:
            raise MiscountError
        if self._needed is None:
            self._needed = sets
        if not sets <= self._needed:
            raise MiscountError
        return sets == self._needed

    def _split(self, data: bytes, units: Units) -> Iterator[bytes]:
        """The units of a packet: each after its length, as in MP4, or after a start code, as in broadcasts."""
        if self._extradata[:1] == b"\1":
            width, at = (self._extradata[units.width_at] & 3) + 1, 0
            while at + width < len(data):
                end = at + width + int.from_bytes(data[at:at + width], "big")
                if end > at + width:
                    yield data[at + width:end]
                at = end
            return
        at = data.find(START)
        while at >= 0:
            end = data.find(START, at + 3)
            unit = data[at + 3:end if end >= 0 else len(data)].rstrip(b"\0")
            if unit:
                yield unit
            at = end
