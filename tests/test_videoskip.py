"""A part of a video, reached by counting packets, is what decoding from the beginning gives: frames, numbers, times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stagepose import videoreader, videoskip
from stagepose.errors import VideoError
from stagepose.videoreader import Part, VideoReader
from stagepose.videowriter import VideoWriter

av = pytest.importorskip("av", reason='PyAV is not installed: pip install "stagepose[video]"')

RATE, FRAMES, GOP = 25, 110, 30
SIZE = 96, 64
EVEN = [n / RATE for n in range(FRAMES)]
UNEVEN = np.cumsum(np.random.default_rng(0).choice([0.02, 0.033, 0.04, 0.066, 0.2], FRAMES)).round(3).tolist()
X264 = {"preset": "veryfast", "bf": "3", "b_adapt": "0"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:bframes=3"}  # its keyframes are open ones
QUICK = {"deadline": "realtime", "cpu-used": "8"}


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def clip(path: str, codec: str = "libx264", options: dict[str, str] | None = None, *, times: list[float] = EVEN,
         gop: int = GOP, sound: bool = False) -> str:
    """A block that wanders over a ground that changes: no two frames are alike, and each hangs on the one before."""
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 200, (SIZE[1], SIZE[0], 3))
    with av.open(path, "w") as container:
        video = container.add_stream(codec, rate=RATE, options=X264 if options is None else options)
        video.width, video.height, video.pix_fmt, video.gop_size = *SIZE, "yuv420p", gop
        if times is not EVEN:
            video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for n, time in enumerate(times):
            picture = (ground + n % 50).astype(np.uint8)
            picture[8:40, n % 60:n % 60 + 24] = 255 - 2 * (n % 100)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (n, Fraction(1, RATE)) if times is EVEN else (
                round(time * 1000), Fraction(1, 1000))
            container.mux(video.encode(frame))
            if audio:
                tone = av.AudioFrame.from_ndarray(np.full((1, 1920), n / FRAMES, np.float32), "fltp", "mono")
                tone.sample_rate, tone.time_base = 48000, Fraction(1, 48000)
                tone.pts = round(times[0] * 48000) + n * 1920
                container.mux(audio.encode(tone))
        container.mux([*video.encode(None), *(audio.encode(None) if audio else ())])
    return path


def trimmed(path: str) -> str:
    """As a telephone trims: the edit list begins within a group of pictures, whose first are decoded and not shown."""
    data = bytearray(Path(clip(path)).read_bytes())
    place = data.index(b"elst") + 16
    begin = int.from_bytes(data[place:place + 4], "big") + 11 * 512  # 512 ticks a frame
    data[place:place + 4] = begin.to_bytes(4, "big")
    Path(path).write_bytes(data)
    return path


def cut(path: str) -> str:
    """As a recording that begins anywhere."""
    data = Path(clip(path)).read_bytes()
    Path(path).write_bytes(data[188 * (len(data) // 188 // 10):])
    return path


def joined(path: str) -> str:
    """The clock starts over in the middle."""
    Path(path).write_bytes(Path(clip(path, times=EVEN[:60])).read_bytes() * 2)
    return path


def blotted(path: str, number: int = 12, where: slice = slice(None), fill: bytes = b"\0") -> str:
    """The bytes of a packet, or some of them, are zeros, or others."""
    with av.open(path) as container:
        lost = [bytes(packet) for packet in container.demux(video=0)][number][where]
    data = Path(path).read_bytes()
    assert data.count(lost) == 1
    Path(path).write_bytes(data.replace(lost, fill * len(lost)))
    return path


def torn(path: str) -> str:
    """Ten packets of a transport stream are lost, a third of the way in."""
    data = Path(path).read_bytes()
    at = 188 * (len(data) // 188 // 3)
    Path(path).write_bytes(data[:at] + data[at + 1880:])
    return path


def copied(path: str, first: int = 0, calls_all_keyframes: bool = False) -> str:
    """The packets from the first on."""
    with av.open(path) as container, av.open("copy.mkv", "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for packet in list(container.demux(video=0))[first:-1]:
            packet.stream, packet.is_keyframe = stream, packet.is_keyframe or calls_all_keyframes
            copy.mux(packet)
    return str(Path("copy.mkv").rename(path))


def changed(path: str) -> str:
    """Two recordings joined: from the second keyframe on other parameter sets hold, which the file has there alone."""
    options = [X264 | {"x264-params": f"chroma-qp-offset={offset}"} for offset in (0, 8)]
    packets, headers = list[Any](), list[bytes]()
    for part, option in zip((slice(GOP), slice(GOP, None)), options, strict=True):
        with av.open(clip("part.mp4", options=option)) as container:
            headers.append(bytes(container.streams.video[0].codec_context.extradata))
            packets += [packet for packet in container.demux(video=0) if packet.size][part]
    with av.open("part.mp4") as template, av.open(path, "w") as joint:
        stream = joint.add_stream_from_template(template.streams.video[0])
        stream.codec_context.extradata = headers[0]
        for n, packet in enumerate(packets):
            if n == GOP and not path.endswith("flv"):
                sps = headers[1][6:8 + int.from_bytes(headers[1][6:8], "big")]
                pps = headers[1][7 + len(sps):][:2 + int.from_bytes(headers[1][7 + len(sps):][:2], "big")]
                packet = remade(packet, b"\0\0" + sps + b"\0\0" + pps + bytes(packet))
            packet.stream = stream
            joint.mux(packet)
    if path.endswith("flv"):
        insert_header(path, headers[1])
    return path


def insert_header(path: str, header: bytes) -> None:
    """A new header before the second keyframe of an FLV, as where a broadcaster begins anew."""
    data, at, keyframes = Path(path).read_bytes(), 13, 0
    while keyframes < 3:  # the first is the file's own header
        tag, at = at, at + 15 + int.from_bytes(data[at + 1:at + 4], "big")
        keyframes += data[tag] == 9 and data[tag + 11] == 0x17
    body = b"\x17\0\0\0\0" + header
    new = b"\x09" + len(body).to_bytes(3, "big") + data[tag + 4:tag + 11] + body + (11 + len(body)).to_bytes(4, "big")
    Path(path).write_bytes(data[:tag] + new + data[tag:])


def remade(packet: Any, data: bytes) -> Any:
    """A packet of other bytes."""
    other = av.Packet(data)
    for name in ("pts", "dts", "time_base", "duration", "is_keyframe"):
        setattr(other, name, getattr(packet, name))
    return other


def emptied(path: str, codec: str, unit: bytes) -> str:
    """A packet has no picture, but a mark that one begins."""
    with av.open(clip("full.mp4", codec, X264 if codec == "libx264" else X265)) as full, av.open(path, "w") as copy:
        stream = copy.add_stream_from_template(full.streams.video[0])
        for n, packet in enumerate(full.demux(video=0)):
            if packet.size:
                other = remade(packet, len(unit).to_bytes(4, "big") + unit) if n == 12 else packet
                other.stream = stream
                copy.mux(other)
    return path


class Told:
    """What a reader tells of a part, and how many frames it decoded for that."""

    def __init__(self, path: str, part: Part) -> None:
        self.decoded, self.sound = 0, list[bytes]()
        with VideoReader(path, part=part, on_audio=lambda packet: self.sound.append(bytes(packet))) as reader:
            decode = reader._decoded
            reader._decoded = lambda packets: self._counting(decode(packets))
            try:
                self.frames = [(frame.index, frame.time, frame.picture.pixels.tobytes()) for frame in reader]
                self.error = ""
            except VideoError as error:
                self.frames, self.error = [], str(error)
            self.notices = reader.notices

    def _counting(self, frames: Iterator[Any]) -> Iterator[Any]:
        for frame in frames:
            self.decoded += 1
            yield frame

    def is_like(self, other: Told) -> bool:
        return (self.frames, self.notices, self.error, self.sound) == (
            other.frames, other.notices, other.error, other.sound)


def from_the_beginning(path: str, part: Part) -> Told:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(videoreader, "is_countable", lambda stream, start: False)
        return Told(path, part)


SKIPPED = {
    "even.mp4": clip,
    "uneven.mp4": lambda path: clip(path, times=UNEVEN),
    "uneven.mkv": lambda path: clip(path, times=UNEVEN),
    "broadcast.ts": lambda path: clip(path, times=[9000 + time for time in EVEN], sound=True),
    "open.mkv": lambda path: clip(path, options=X264 | {"x264-params": "open-gop=1"}),
    "hevc.mp4": lambda path: clip(path, "libx265", X265),
    "vp9.webm": lambda path: clip(path, "libvpx-vp9", QUICK),
    "av1.mkv": lambda path: clip(path, "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
    "mjpeg.avi": lambda path: clip(path, "mjpeg", {"strict": "-2"}),
    "mpeg2.ts": lambda path: clip(path, "mpeg2video", {"bf": "2"}, gop=12),
    "mpeg2.mpg": lambda path: clip(path, "mpeg2video", {"bf": "2"}, gop=12),
    "sound.mp4": lambda path: clip(path, sound=True),
    "trimmed.mp4": trimmed,
}  # fmt: skip
UNSURE = {
    "hidden.webm": lambda path: clip(path, "libvpx", QUICK),  # VP8 has frames that are not shown
    "mpeg4.mp4": lambda path: clip(path, "mpeg4", {"bf": "2"}),
    "raw.h264": clip,  # no times
    "refresh.ts": lambda path: clip(path, options=X264 | {"x264-params": "intra-refresh=1"}, sound=True),
    "interlaced.mp4": lambda path: clip(path, options=X264 | {"x264-params": "tff=1"}),
    "cut.ts": cut,
    "joined.ts": joined,
    "blotted.mkv": lambda path: blotted(clip(path)),  # the packet gives no frame
    "blotted.mp4": lambda path: blotted(clip(path)),
    "blotted.webm": lambda path: blotted(blotted(clip(path, "libvpx-vp9", QUICK), GOP + 5, fill=b"\x5a"),
                                              2 * GOP + 5, fill=b"\x5a"),
    "patched.mpg": lambda path: blotted(blotted(clip(path, "mpeg2video", {"bf": "2"}, gop=12), 52, slice(30, 60)), 70,
                                        slice(30, 60)),  # the frames are there, in part
    "torn.ts": lambda path: torn(clip(path)),
    "late.mkv": lambda path: copied(clip(path), 10),
    "late_open.mkv": lambda path: copied(clip(path, "libx265", X265), GOP - 1),  # shown after some of the next
    "changed.mkv": changed,
    "changed.mp4": changed,
    "changed.flv": changed,
    "emptied.mp4": lambda path: emptied(path, "libx264", b"\x09\xf0"),
    "emptied.mkv": lambda path: emptied(path, "libx265", b"\x46\x01\x50"),
    "keyframes.mkv": lambda path: copied(clip(path, "libx265", X265), calls_all_keyframes=True),
}  # fmt: skip


@pytest.mark.parametrize("name", SKIPPED)
def test_a_part_has_the_frames_numbers_and_times_of_the_whole_and_few_are_decoded(name: str) -> None:
    path = SKIPPED[name](name)
    times = UNEVEN if "uneven" in name else EVEN
    early, middle, keyframe = (times[n] - times[0] for n in (7, GOP + 17, 2 * GOP))
    for part in (Part(early, middle), Part(middle, times[-1] / 2), Part(keyframe, every=3)):
        told, whole = Told(path, part), from_the_beginning(path, part)
        assert told.frames and told.is_like(whole), part
        assert part.start == early or told.decoded < whole.decoded - 10, part
        assert [frame[0] for frame in told.frames] == list(range(told.frames[0][0], told.frames[-1][0] + 1, part.every))


@pytest.mark.parametrize("name", UNSURE)
def test_where_packets_do_not_tell_the_numbers_all_is_decoded(name: str) -> None:
    path = UNSURE[name](name)
    for part in (Part(2.3, 2.8), Part(3.1)):
        told, whole = Told(path, part), from_the_beginning(path, part)
        assert told.frames and told.is_like(whole), part
        assert told.decoded >= whole.decoded, part


def test_nothing_is_given_twice_where_the_frame_after_the_first_is_lost() -> None:
    blotted(clip("blotted.webm", "libvpx-vp9", QUICK), GOP + 18, fill=b"\x5a")
    part = Part((GOP + 17) / RATE + 5e-7)  # a rounding error after a frame, which is given all the same
    told = Told("blotted.webm", part)
    assert told.is_like(from_the_beginning("blotted.webm", part)) and told.decoded < FRAMES - 10
    assert [index for index, _, _ in told.frames] == list(range(GOP + 17, FRAMES - 1))


@pytest.mark.parametrize("name", ["even.mp4", "uneven.mkv", "cut.ts"])
def test_a_part_that_begins_after_the_last_frame_is_refused_in_the_same_words(name: str) -> None:
    path = (SKIPPED | UNSURE)[name](name)
    told, whole = Told(path, Part(60)), from_the_beginning(path, Part(60))
    assert told.is_like(whole) and "has no frame from second 60 on; its last is at " in told.error


def test_what_waits_for_its_keyframe_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    path, part = clip("long.mp4", gop=1000), Part(3)
    monkeypatch.setattr(videoskip, "MOST_HELD", 4000)
    monkeypatch.setattr(videoskip, "PACKET", 0)
    waiting: list[int] = []
    to_decode = videoskip.Skip.to_decode
    monkeypatch.setattr(videoskip.Skip, "to_decode", lambda self, packets: (
        waiting.append(sum(packet.size for packet in self._held)), to_decode(self, packets))[1])
    assert Told(path, part).is_like(from_the_beginning(path, part))
    assert 4000 < waiting[0] < Path(path).stat().st_size / 2


def test_many_packets_of_few_bytes_that_wait_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    path, part = clip("long.mp4", gop=1000), Part(3)
    monkeypatch.setattr(videoskip, "MOST_HELD", 2 * Path(path).stat().st_size)
    monkeypatch.setattr(videoskip, "PACKET", videoskip.MOST_HELD // 20)
    waiting: list[int] = []
    to_decode = videoskip.Skip.to_decode
    monkeypatch.setattr(videoskip.Skip, "to_decode", lambda self, packets: (
        waiting.append(len(self._held)), to_decode(self, packets))[1])
    assert Told(path, part).is_like(from_the_beginning(path, part))
    assert 0 < waiting[0] <= 20


def test_the_sound_of_a_file_that_is_begun_again_may_be_a_writers_already() -> None:
    path = UNSURE["refresh.ts"]("refresh.ts")
    with VideoReader(path, part=Part(2), on_audio=lambda packet: writer.add_audio(packet)) as reader:
        writer = VideoWriter("out.mp4", *SIZE, RATE, reader.audio, start=reader.start)
        for frame in reader:
            writer.add(frame.picture.pixels, frame.time)
        writer.close()
    with av.open("out.mp4") as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        assert samples / 48000 == pytest.approx(FRAMES / RATE - 2, abs=0.1)


@pytest.mark.parametrize(("change", "name"), [
    (lambda packet: setattr(packet, "pts", None), "no time"), (lambda packet: setattr(packet, "dts", 0), "no order"),
    (lambda packet: setattr(packet, "pts", packet.pts + 512), "two at a time"),
])  # fmt: skip
def test_times_that_give_no_order_are_no_count(change: Callable[[Any], None], name: str) -> None:
    with av.open(clip("even.mp4", options=X264 | {"bf": "0"})) as container:
        skip = videoskip.Skip(container.streams.video[0], 3.0)

        def changed() -> Iterator[Any]:
            for n, packet in enumerate(container.demux(video=0)):
                if n == 20:
                    change(packet)
                yield packet

        with pytest.raises(videoskip.MiscountError):
            list(skip.counted(changed()))
