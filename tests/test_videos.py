"""Videos in and out: clips of a second, made here; the toy models find their dots, the shipped ones rendered people."""

from __future__ import annotations

import csv
import errno
import itertools
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from desks import MODELS, predict, put_models, read, stop_at
from toy_models import ONE, TWO, dots

import stagepose
from stagepose import cli
from stagepose.commands.clips import Growing
from stagepose.errors import ConfigError, MissingExtraError, StagePoseError, VideoError
from stagepose.filekinds import is_video
from stagepose.videoreader import WHOLE, Part, VideoReader
from stagepose.videos import _followed
from stagepose.videowriter import VideoWriter

av = pytest.importorskip("av", reason='PyAV is not installed: pip install "stagepose[video]"')

RATE = 10
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    put_models()


def walking(frames: int = 10, people: Any = ONE) -> list[np.ndarray]:
    return [dots(np.add(people, [2.0 * n, 0.0])) for n in range(frames)]


def clip(path: str = "clip.mp4", pictures: list[np.ndarray] | None = None, *, times: list[float] | None = None,
         sound: str | None = None, sound_rate: int = 48000, codec: str = "mpeg4",
         b_frames: bool = False, aspect: Fraction = Fraction(1), matrix: int | None = None, sound_from: int = 0,
         fragment: int = 0) -> str:
    """A video of these pictures, evenly spaced unless ``times`` says otherwise; ``sound`` is a codec.

    ``fragment``: so many pictures, and then their sound, lie together in the file.
    """
    pictures = walking() if pictures is None else pictures
    times = times or [n / RATE for n in range(len(pictures))]
    with av.open(path, "w", options={"movflags": "frag_keyframe+empty_moov"} if fragment else {}) as container:
        video = container.add_stream(codec, rate=RATE)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, video.bit_rate = "rgb24" if codec == "png" else "yuv420p", 4_000_000
        video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.sample_aspect_ratio = aspect
        video.gop_size = fragment or (12 if b_frames else 1)
        if matrix is not None:
            video.codec_context.colorspace = matrix
        audio = container.add_stream(sound, rate=sound_rate, layout="mono") if sound else None
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        if audio:
            for n in range(len(pictures)):
                count = sound_rate // RATE
                samples = (np.sin(np.arange(count) / 20) * 8000).astype(np.int16)[None]
                tone = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                tone.sample_rate, tone.time_base = sound_rate, Fraction(1, sound_rate)
                tone.pts = sound_from * sound_rate + n * count
                container.mux(audio.encode(tone))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


def out() -> list[str]:
    return sorted(path.name for path in Path("out").iterdir())


def frames_of(path: str) -> list[stagepose.Frame]:
    with VideoReader(path) as reader:
        return list(reader)


# --- files


def test_times_colours_and_pixels_come_back() -> None:
    times = [0.5, 0.533, 0.6, 0.9, 1.5]
    picture = np.full((120, 160, 3), (200, 30, 90), np.uint8)
    picture[:60] = 255
    writer = VideoWriter("a.mp4", 160, 120, Fraction(30))
    for time in times:
        writer.add(picture, time)
    writer.close()
    found = frames_of("a.mp4")
    assert [frame.time for frame in found] == pytest.approx(times, abs=1e-4)
    for frame in found:
        assert np.abs(frame.picture.pixels[90, 80].astype(int) - [200, 30, 90]).max() < 8
        assert frame.picture.pixels[20, 20].min() > 250  # white stays white: the range is understood


@pytest.mark.parametrize("rate", [25, 29.97])
def test_a_rate_is_a_plain_number_and_a_with_block_makes_the_file_whole(rate: float) -> None:
    with VideoWriter("a.mp4", 64, 48, rate) as writer:
        for number in range(10):
            writer.add(np.full((48, 64, 3), 90, np.uint8), number / rate)
    with VideoReader("a.mp4") as reader:
        assert float(reader.rate) == pytest.approx(rate, rel=0.01)
        assert len(list(reader)) == 10


@pytest.mark.parametrize("rate", [0, -25, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"rate is .*; give frames a second"):
        VideoWriter("a.mp4", 64, 48, rate)


def test_odd_sizes_gain_a_column_and_a_row() -> None:
    writer = VideoWriter("odd.mp4", 161, 121, Fraction(30))
    writer.add(np.full((121, 161, 3), 90, np.uint8), 0.0)
    writer.close()
    assert frames_of("odd.mp4")[0].picture.pixels.shape == (122, 162, 3)


@pytest.mark.parametrize("frame", [np.zeros((96, 128, 3), np.uint8), np.zeros((64, 48, 3), np.uint8),
                                   np.zeros((48, 64, 3)), np.zeros((48, 64), np.uint8), [[0]]],
                         ids=["larger", "turned", "floats", "grey", "no array"])
def test_a_frame_that_does_not_fit_the_video_is_refused_not_squeezed(frame: Any) -> None:
    with VideoWriter("a.mp4", 64, 48, 25) as writer:
        writer.add(np.zeros((48, 64, 3), np.uint8), 0.0)
        with pytest.raises(ConfigError, match=r"a frame .*; expected .* of 64 x 48 pixels"):
            writer.add(frame, 0.04)
    assert len(frames_of("a.mp4")) == 1


MATRICES = [
    ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)), ((-1, 0, 0, -1), lambda pixels: pixels[::-1, ::-1]),
    ((0, -1, 1, 0), np.rot90), ((-1, 0, 0, 1), lambda pixels: pixels[:, ::-1]),
    ((1, 0, 0, -1), lambda pixels: pixels[::-1]), ((0, 1, 1, 0), lambda pixels: pixels.swapaxes(0, 1)),
    ((0, -1, -1, 0), lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("matrix", "shown"), MATRICES)
def test_a_turned_or_mirrored_video_is_upright(matrix: tuple[int, ...], shown: Any) -> None:
    """As telephones turn: the track header's matrix a, b, c, d, with x' = a x + c y and y' = b x + d y, y down."""
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[:40, :40] = (255, 0, 0)
    data = bytearray(Path(clip("turned.mp4", [picture] * 3)).read_bytes())
    place = data.index(b"tkhd") + 44
    for n, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[place + 4 * n:place + 4 * n + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    Path("turned.mp4").write_bytes(data)
    upright = shown(picture)
    with VideoReader("turned.mp4") as reader:
        first = next(iter(reader))
        assert (reader.height, reader.width) == upright.shape[:2]
    assert np.abs(first.picture.pixels.astype(int) - upright).mean() < 5


def test_content_tells_a_video_then_the_suffix(tmp_path: Path) -> None:
    clip("clip.mp4", walking(2))
    clip("clip.avi", walking(2))
    clip("clip.mkv", walking(2))
    for name in ("clip.mp4", "clip.avi", "clip.mkv"):
        Path(name).rename("hidden.jpg")
        assert is_video(Path("hidden.jpg")), name
    stagepose.write_image("photo.jpg", dots(ONE))
    Path("photo.jpg").rename("photo.mp4")
    assert not is_video(Path("photo.mp4"))
    Path("broken.mp4").write_bytes(b"nonsense")
    assert is_video(Path("broken.mp4")) and not is_video(Path("none.jpg")) and not is_video(tmp_path)
    stream = Path(clip("clip.ts", codec="libx264")).read_bytes()
    packets = [stream[at : at + 188] for at in range(0, len(stream), 188)]
    Path("camcorder.jpg").write_bytes(b"".join(b"\0\0\0\0" + packet for packet in packets))
    assert is_video(Path("clip.ts")) and is_video(Path("camcorder.jpg"))
    Path("old.jpg").write_bytes(b"\0\0\0\x08wide\0\0\0\0mdat" + bytes(400))
    assert is_video(Path("old.jpg"))


def test_a_pipe_is_never_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.jpg")
    assert predict("pipe.jpg") == 1
    assert "pipe.jpg: is a named pipe, not a regular file" in capsys.readouterr().err


def test_a_name_with_a_colon_is_a_file() -> None:
    Path(clip("clip.mp4", walking(2))).rename("12:30.mp4")
    assert len(frames_of("12:30.mp4")) == 2
    with VideoWriter("mine:30.mp4", 64, 48, 10) as writer:
        writer.add(np.zeros((48, 64, 3), np.uint8), 0.0)
    assert len(frames_of("mine:30.mp4")) == 1


@pytest.mark.parametrize("matrix", [8, 10, 14])  # YCgCo, BT.2020 of constant luminance, ICtCp
def test_a_rare_colour_matrix_costs_no_frame(matrix: int) -> None:
    clip("clip.mp4", walking(3), codec="libx264", matrix=matrix)
    with av.open("clip.mp4") as container:
        assert next(container.decode(video=0)).colorspace == matrix
    assert np.abs(frames_of("clip.mp4")[2].picture.pixels.astype(int) - walking(3)[2]).mean() < 8


def test_an_overlay_begins_where_its_file_does() -> None:
    """A broadcast's clock has run for hours."""
    clip("clip.ts", codec="libx264", sound="aac", times=[9000 + n / RATE for n in range(10)], sound_from=9000)
    assert predict("clip.ts") == 0
    assert [frame.time for frame in frames_of("out/clip.pose.mp4")] == pytest.approx(np.arange(10) / RATE, abs=0.05)
    assert sound_of("out/clip.pose.mp4") == ("aac", 48_000, pytest.approx(1.0, abs=0.1))
    with av.open("out/clip.pose.mp4") as container:
        assert container.duration / av.time_base == pytest.approx(1.0, abs=0.2)
    assert read("out/clip.people.json")[0]["time"] == pytest.approx(9000, abs=2)  # as the file has it


@pytest.mark.parametrize(("content", "words"), [
    (b"", "cannot be read as a video"), (b"nonsense" * 99, "cannot be read as a video"), (None, "no such file"),
])  # fmt: skip
def test_what_is_no_video_is_one_line(content: bytes | None, words: str) -> None:
    if content is not None:
        Path("bad.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=words) as caught:
        frames_of("bad.mp4")
    assert str(caught.value).startswith("bad.mp4: ") and "\n" not in str(caught.value)


def test_a_file_cut_off_in_its_header_is_one_line_and_in_its_middle_a_notice() -> None:
    clip("clip.mp4")  # the index is at the end
    Path("cut.mp4").write_bytes(Path("clip.mp4").read_bytes()[:-2000])
    with pytest.raises(VideoError, match="cut off"):
        frames_of("cut.mp4")
    data = Path(clip("clip.mkv", walking(30))).read_bytes()
    Path("cut.mkv").write_bytes(data[: len(data) // 2])
    assert 5 < len(frames_of("cut.mkv")) < 30


@pytest.mark.parametrize(("name", "codec", "sound"), [
    ("clip.mkv", "mpeg4", "aac"), ("clip.webm", "libvpx", None), ("clip.flv", "flv", None),
])  # fmt: skip
def test_frames_that_a_file_lacks_without_a_count_of_them_are_told(name: str, codec: str, sound: str | None) -> None:
    """A half of it, and one with a hole; not of a whole one, nor of parts of it."""
    data = Path(clip(name, walking(40), codec=codec, sound=sound)).read_bytes()
    assert len(frames_of(name)) == 40 and notices_of(name) == []
    for part in (Part(1.0), Part(0, 2.0), Part(every=7), Part(1.0, 2.0, 3)):
        assert notices_of(name, part) == []
    Path(name).write_bytes(data[:len(data) // 2])
    assert re.fullmatch(r"ends at second [12]\.\d\d of the [34]\.\d\d that it announces", notices_of(name)[0])
    Path(name).write_bytes(data[:len(data) // 2] + bytes(len(data) // 3) + data[len(data) // 2 + len(data) // 3:])
    assert re.fullmatch(r"has no frames from second [12]\.\d\d to [23]\.\d\d; they are lost, or were never taken",
                        notices_of(name)[0])


def notices_of(path: str, part: Part = WHOLE) -> list[str]:
    with VideoReader(path, part=part) as reader:
        assert list(reader)
        return [notice for notice in reader.notices if "packets are corrupt" not in notice]


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_uneven_frames_and_sound_that_goes_on_are_no_loss(suffix: str) -> None:
    times = np.cumsum(np.random.default_rng(0).choice([0.033, 0.04, 0.066, 0.2, 0.7], 40)).tolist()
    assert notices_of(clip(f"uneven.{suffix}", walking(40), times=times, codec="libx264")) == []
    times = [n / 40 for n in range(40)]  # a second of pictures, four of sound
    assert notices_of(clip(f"sound.{suffix}", walking(40), times=times, codec="libx264", sound="aac")) == []


def wide_pixels(turned: bool) -> None:
    """clip.mp4 with pixels a third wider than high, and maybe to be shown turned by a quarter."""
    data = bytearray(Path(clip(aspect=Fraction(4, 3))).read_bytes())
    if turned:
        place = data.index(b"tkhd") + 44
        data[place:place + 20] = b"".join(n.to_bytes(4, "big", signed=True) for n in (0, 65536, 0, -65536, 0))
        Path("clip.mp4").write_bytes(data)


@pytest.mark.parametrize(("turned", "aspect"), [(False, Fraction(4, 3)), (True, Fraction(3, 4))])
def test_pixels_that_are_not_square_are_shown_as_wide_as_before(turned: bool, aspect: Fraction) -> None:
    wide_pixels(turned)
    assert predict("clip.mp4") == 0
    with av.open("out/clip.pose.mp4") as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == ((240, 320) if turned else (320, 240))
        assert video.codec_context.sample_aspect_ratio == aspect


def test_pixels_that_only_the_container_calls_wide_are_shown_so_too() -> None:
    """VP9 has no field for it; nor has ProRes."""
    assert predict(clip("clip.mp4", walking(2), codec="libvpx-vp9", aspect=Fraction(4, 3))) == 0
    with av.open("out/clip.pose.mp4") as container:
        assert container.streams.video[0].codec_context.sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("part", [WHOLE, Part(0.5)])
def test_a_reader_knows_its_size_before_its_first_frame_which_is_given_all_the_same(turned: bool, part: Part) -> None:
    wide_pixels(turned)
    with VideoReader("clip.mp4", part=part) as reader:
        size = reader.width, reader.height
        assert (size, reader.pixel_aspect) == (((240, 320), Fraction(3, 4)) if turned else ((320, 240), Fraction(4, 3)))
        frames = list(reader)
    assert [frame.index for frame in frames] == list(range(10))[5 if part.start else 0:]
    assert {frame.picture.pixels.shape for frame in frames} == {(*size[::-1], 3)}


def test_a_reader_without_a_frame_has_no_size() -> None:
    with VideoReader(clip(), part=Part(9)) as reader:
        with pytest.raises(VideoError, match="has no frame from second 9 on"):
            _ = reader.width
        with pytest.raises(VideoError, match="gives no frames any more"):
            list(reader)
    with VideoReader("clip.mp4") as closed:
        pass
    with pytest.raises(VideoError, match="is closed"):
        _ = closed.height


@pytest.mark.parametrize("source", [0, "rtsp://camera/1", "https://example.org/clip.mp4"])
def test_a_camera_or_a_stream_is_told_where_its_frames_may_go(source: Any) -> None:
    with pytest.raises(VideoError, match=f"^{source}: not a file; .* people_in"):
        VideoReader(source)


class Torn:
    """A container that cannot be read on after some packets, as one on a disk or net that fails."""

    def __init__(self, container: Any, packets: int) -> None:
        self.container, self.packets = container, packets

    def demux(self, streams: Any) -> Any:
        yield from itertools.islice(self.container.demux(streams), self.packets)
        raise av.error.OSError(5, "Input/output error")

    def close(self) -> None:
        self.container.close()


def test_a_file_that_cannot_be_read_on_gives_all_that_was_read() -> None:
    with VideoReader(clip("clip.mkv", walking(30), codec="libx264", b_frames=True)) as reader:
        reader._container = Torn(reader._container, 12)
        assert len(list(reader)) == 12
        assert "cannot be read further: Input/output error" in reader.notices


def test_sound_alone_is_one_line() -> None:
    with av.open("song.mp4", "w") as container:
        audio = container.add_stream("aac", rate=48000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 48000
        container.mux([*audio.encode(tone), *audio.encode(None)])
    with pytest.raises(VideoError, match="only sound"):
        frames_of("song.mp4")


def test_a_corrupt_frame_in_the_middle_costs_that_frame() -> None:
    clip("clip.mov", walking(12), codec="png")
    data = bytearray(Path("clip.mov").read_bytes())
    starts = [n for n in range(len(data)) if data[n:n + 4] == b"\x89PNG"]
    data[starts[5]:starts[5] + 40] = bytes(40)
    Path("clip.mov").write_bytes(data)
    with VideoReader("clip.mov") as reader:
        assert len(list(reader)) == 11
        assert "1 of its packets are corrupt" in reader.notices[0]


def test_frames_of_another_size_are_scaled_to_the_firsts() -> None:
    with Path("both.ts").open("wb") as both:
        for picture in (np.full((120, 160, 3), 90, np.uint8), np.full((240, 320, 3), 90, np.uint8)):
            both.write(Path(clip("one.ts", [picture] * 4, codec="libx264")).read_bytes())
    with VideoReader("both.ts") as reader:
        shapes = {frame.picture.pixels.shape for frame in reader}
        assert shapes == {(120, 160, 3)} and any("another size" in notice for notice in reader.notices)


@pytest.mark.parametrize("clock", [0.0, 3600.0])
def test_a_part_is_counted_from_the_start_whatever_the_clock_says(clock: float) -> None:
    clip("clip.mkv", walking(20), times=[clock + n / RATE for n in range(20)])
    with VideoReader("clip.mkv", part=Part(0.5, 1.2, every=2)) as reader:
        assert reader.rate == RATE / 2 and reader.start == pytest.approx(clock + 0.5)
        found = list(reader)
        assert [frame.index for frame in found] == [5, 7, 9, 11] and reader.frames == 4
        assert [frame.time for frame in found] == pytest.approx([clock + n / RATE for n in (5, 7, 9, 11)])
        assert not reader.notices
    for frame, whole in zip(found, frames_of("clip.mkv")[5:12:2], strict=True):
        assert np.array_equal(frame.picture.pixels, whole.picture.pixels)
    with VideoReader("clip.mkv", part=Part(1.5)) as reader:
        assert [frame.index for frame in reader] == [15, 16, 17, 18, 19]
    with VideoReader("clip.mkv", part=Part(2.5)) as reader, pytest.raises(
            VideoError, match=r"clip\.mkv: has no frame from second 2\.5 on; its last is at 1\.90"):
        list(reader)


@pytest.mark.parametrize(("count", "frames"), [(20, 4), (8, 2), (4, 0), (0, 0)])
def test_a_part_knows_about_how_many_frames_it_has(count: int, frames: int) -> None:
    assert Part(0.5, 1.2, every=2).frames_of(count, RATE) == frames
    assert Part().frames_of(count, RATE) == count


@pytest.mark.parametrize(("setting", "says"), [
    ({"start": -1}, "from second -1 to inf"), ({"start": 2.0, "end": 2.0}, "an end after it"), ({"end": "x"}, "'x'"),
    ({"start": float("nan")}, "nan"), ({"every": 0}, "every is 0"), ({"every": 1.5}, "every is 1.5")])
def test_a_part_that_is_none_is_refused(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Part(**setting)


def test_predict_looks_at_a_part_and_its_overlay_begins_there(capsys: pytest.CaptureFixture[str]) -> None:
    clip("clip.mp4", [dots(ONE)] * 40, sound="aac")
    assert predict("clip.mp4", "--start", "1", "--end", "3", "--every", "2") == 0
    people = read("out/clip.people.json")
    assert [person["frame"] for person in people] == list(range(10, 30, 2))
    assert {person["track_id"] for person in people} == {1}
    assert people[0]["time"] == pytest.approx(1.0) and "10 frames, to 2.80 s" in capsys.readouterr().out
    with VideoReader("out/clip.pose.mp4") as reader:
        assert [frame.time for frame in reader] == pytest.approx([n / 5 for n in range(10)], abs=1e-3)
        assert reader.start == pytest.approx(0, abs=0.03)  # of AAC's first packet, which may begin before
    with av.open("out/clip.pose.mp4") as container:
        heard = sum(packet.duration * packet.time_base for packet in container.demux(audio=0) if packet.dts is not None)
        assert 1.9 < heard < 2.1
    some = stagepose.load(MODELS[1], MODELS[3])
    assert [frame.index for frame in stagepose.video("clip.mp4", some, part=Part(1, every=15))] == [10, 25]


@pytest.mark.parametrize("end", [4.2, 5.5])
def test_a_part_has_its_sound_to_the_end_also_where_the_file_has_it_later(end: float) -> None:
    heard: list[float] = []
    with VideoReader(clip("clip.mp4", walking(60), sound="aac", fragment=30), part=Part(1.5, end),
                     on_audio=lambda packet: heard.append(float(packet.pts * packet.time_base))) as reader:
        times = [frame.time for frame in reader]
        assert not reader.notices
    assert times[-1] == pytest.approx(end - 0.1, abs=0.05) and end - 0.05 < heard[-1] < end  # a packet is 21 ms long
    assert np.diff(heard) == pytest.approx(1024 / 48000, abs=1e-3)


def test_too_large_is_refused() -> None:
    with pytest.raises(VideoError, match="max_pixels"):
        VideoReader(clip(), max_pixels=1000)


# --- from Python


def test_video_gives_every_frame_with_people_who_keep_their_ids() -> None:
    predictor = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    clip("clip.mp4", walking(10, TWO - [20, 0]))
    found = list(stagepose.video("clip.mp4", predictor))
    assert [frame.index for frame in found] == list(range(10))
    assert [frame.time for frame in found] == pytest.approx([n / RATE for n in range(10)])
    assert all(sorted(person.track_id for person in frame.people) == [1, 2] for frame in found)
    assert found[0].people[0].to_dict()["track_id"] == found[0].people[0].track_id


class Counting:
    """A detector that counts how often it is asked."""

    def __init__(self, detector: Any) -> None:
        self.detector, self.calls = detector, 0

    def __call__(self, pixels: np.ndarray) -> Any:
        self.calls += 1
        return self.detector(pixels)


def test_people_are_followed_between_detections() -> None:
    every = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    clip("clip.mp4", walking(12))
    detector = Counting(every.detector)
    some = stagepose.Predictor(every.info, every.network, detector, every.config)
    exact = list(stagepose.video("clip.mp4", every, smooth=False))
    found = list(stagepose.video("clip.mp4", some, detect_every=4, smooth=False))
    assert detector.calls == 3
    for one, other in zip(exact, found, strict=True):
        assert [person.track_id for person in other.people] == [1]
        assert other.people[0].keypoints == pytest.approx(one.people[0].keypoints, abs=3)
        assert other.people[0].box == pytest.approx(one.people[0].box, abs=8)


def test_after_a_gap_the_detector_looks() -> None:
    every = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    detector = Counting(every.detector)
    some = stagepose.Predictor(every.info, every.network, detector, every.config)
    times = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2]
    frames = [stagepose.Frame(n, time, picture) for n, (time, picture) in
              enumerate(zip(times, walking(6), strict=True))]
    assert [len(frame.people) for frame in stagepose.people_in(frames, some, detect_every=6)] == [1] * 6
    assert detector.calls == 2


@pytest.mark.parametrize(("cuts", "ids", "calls"), [(True, [[1]] * 3 + [[2]] * 3, 2), (False, [[1]] * 6, 1)])
def test_after_a_cut_the_detector_looks_and_everyone_is_somebody_new(cuts: bool, ids: list[list[int]],
                                                                     calls: int) -> None:
    every = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    detector = Counting(every.detector)
    some = stagepose.Predictor(every.info, every.network, detector, every.config)
    first, second = dots(ONE), dots(ONE)
    first[:40], second[-40:] = (0, 0, 255), (0, 0, 255)  # grounds that the toy networks do not see
    frames = [stagepose.Frame(n, n / RATE, picture) for n, picture in enumerate([first] * 3 + [second] * 3)]
    found = stagepose.people_in(frames, some, detect_every=6, cuts=cuts)
    assert [[person.track_id for person in frame.people] for frame in found] == ids and detector.calls == calls


def test_who_is_there_in_every_frame_stays_who_it_is_however_slow_the_camera() -> None:
    predictor = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    frames = [stagepose.Frame(n, 2.5 * n, dots(ONE)) for n in range(5)]
    found = stagepose.people_in(frames, predictor)
    assert [[person.track_id for person in frame.people] for frame in found] == [[1]] * 5


class Script:
    """A detector that finds, frame by frame, the boxes it is told, with their scores."""

    def __init__(self, *frames: dict[float, tuple[int, ...]]) -> None:
        self.frames = iter(frames)

    def __call__(self, pixels: np.ndarray) -> stagepose.Detections:
        found = next(self.frames)
        return stagepose.Detections(boxes=np.array(list(found.values())), scores=np.array(list(found)))


@pytest.mark.parametrize(("settings", "kept"), [
    ({"keep": 1}, "L L - L L - R R"), ({"keep": 1, "keep_by": "size"}, "R - R R R R R R"),
    ({"keep": 2}, "LR L R LR RL R R R"), ({}, "LR L R LR RL R R R"),
])  # fmt: skip
def test_who_is_kept_stays_until_gone(settings: dict[str, Any], kept: str) -> None:
    """L is missed once, scores less later, and goes; R is larger, and missed once."""
    left, right = (42, 52, 119, 159), (200, 72, 271, 199)
    both = {0.9: left, 0.8: right}
    detector = Script(both, {0.9: left}, {0.8: right}, both, {0.9: right, 0.8: left}, *[{0.8: right}] * 3)
    models = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    predictor = stagepose.Predictor(models.info, models.network, detector, models.config).with_config(**settings)
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 2.6, 2.7]  # a track is over when unseen for two seconds
    found = list(stagepose.people_in((stagepose.Frame(n, time, dots(TWO)) for n, time in enumerate(times)), predictor))
    names = ["".join("LR"[int(person.box[0] > 160)] for person in frame.people) or "-" for frame in found]
    assert " ".join(names) == kept
    assert len({person.track_id for frame in found for person in frame.people}) == len(set(kept) & set("LR"))


@pytest.mark.parametrize("every", [0, -1, 2.5, "2"])
def test_wrong_settings_and_files_are_refused_at_the_call(every: Any) -> None:
    """Not at the first frame, which may be somewhere else in the caller's code."""
    predictor = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    with pytest.raises(ConfigError, match=f"detect_every is {every!r}; "):
        stagepose.video(clip(), predictor, detect_every=every)
    with pytest.raises(ConfigError, match="detect_every"):
        stagepose.people_in([], predictor, detect_every=every)
    with pytest.raises(VideoError, match=r"none\.mp4: no such file"):
        stagepose.video("none.mp4", predictor)


def test_a_cameras_arrays_are_frames_too() -> None:
    predictor = stagepose.load("pose.onnx", "detector.onnx", threads=1)
    frames = (stagepose.Frame(n, n / RATE, pixels) for n, pixels in enumerate(walking(3)))
    found = list(stagepose.people_in(frames, predictor))
    assert [[person.track_id for person in frame.people] for frame in found] == [[1], [1], [1]]
    assert found[2].picture.name == "frame 2" and np.array_equal(found[2].picture.pixels, walking(3)[2])
    with pytest.raises(StagePoseError, match=r"^frame 7: "):
        stagepose.Frame(7, 0.7, np.zeros((4, 4, 7)))


def test_two_in_the_very_same_box_are_looked_for_once() -> None:
    predictor = stagepose.load("pose.onnx", "detector.onnx", threads=1, oks_nms=None)
    picture = stagepose.read_image(stagepose.write_image("one.png", dots(ONE)) or "one.png")
    person = predictor.people(picture)[0]
    tracker = stagepose.Tracker()
    tracker.update([person, person], 0.0)
    network, looks = predictor.network, []
    predictor.network = lambda crops: (looks.append(len(crops)), network(crops))[1]
    followed = _followed(tracker, predictor, stagepose.Frame(1, 0.1, picture), 0.0)
    assert looks == [1] and len(followed) == 1 and followed[0].box == pytest.approx(person.box, abs=1)


def test_with_the_shipped_models_who_passes_in_front_keeps_the_id() -> None:
    picture = stagepose.read_image(EXAMPLES / "rendered_people.jpg").pixels
    predictor = stagepose.load(threads=1)
    people = sorted(predictor(picture)[0], key=lambda person: -person.score)[:2]
    cuts = [picture[max(int(y1) - 10, 0):int(y2) + 10, max(int(x1) - 10, 0):int(x2) + 10]
            for x1, y1, x2, y2 in (person.box for person in people)]
    pictures = []
    for n in range(24):
        canvas = np.full((482, 720, 3), 150, np.uint8)
        for cut, x in zip(cuts, (40 + 22 * n, 540 - 22 * n), strict=True):
            h, w = cut.shape[:2]
            canvas[20:20 + h, x:x + w] = cut[:, :720 - x]
        pictures.append(canvas)
    clip("cross.mp4", pictures)
    found = list(stagepose.video("cross.mp4", predictor))
    first, last = ({p.track_id: (p.box[0] + p.box[2]) / 2 for p in frame.people} for frame in (found[0], found[-1]))
    assert set(first) == {1, 2} and len(last) == 2
    in_front = next(name for name, middle in first.items() if middle > 360)  # pasted last; the other is hidden behind
    assert in_front in last and last[in_front] < 360
    assert all(len({p.track_id for p in frame.people}) == len(frame.people) for frame in found)


def test_without_pyav_there_is_one_pip_line_and_all_else_works(tmp_path: Path) -> None:
    clip()
    code = ("import sys; sys.modules['av'] = None\n"
            "from stagepose import cli; sys.exit(cli.main(sys.argv[1:]))")
    stagepose.write_image("photo.png", dots(ONE))
    done = subprocess.run([sys.executable, "-c", code, "predict", "photo.png", "clip.mp4", *MODELS],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stderr.count('pip install "stagepose[video]"') == 1
    assert "Traceback" not in done.stderr and len(read("out/people.json")) == 1


def test_the_page_on_video_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.ascontiguousarray(stagepose.read_image(EXAMPLES / "two_people.jpg").pixels[:480, 192:832])
    clip("clip.mp4", [picture] * 3)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "docs" / "video.md").read_text(), re.S):
        exec(block, names)
    lines = capsys.readouterr().out.splitlines()
    assert {tuple(line.split()[:3:2]) for line in lines} == {(str(n), str(name)) for n in range(3) for name in (1, 2)}
    assert (names["camera"](0.0, picture) != picture).any()


# --- stagepose predict


def test_predict_leaves_an_overlay_and_people_of_every_frame(capsys: pytest.CaptureFixture[str]) -> None:
    stagepose.write_image("photo.png", dots(ONE))
    assert predict("photo.png", clip("clip.mp4", walking(10, TWO - [20, 0])), "--csv") == 0
    assert out() == ["clip.people.csv", "clip.people.json", "clip.pose.mp4", "images.json", "people.csv", "people.json",
                     "photo.pose.png"]
    people = read("out/clip.people.json")
    assert [entry["frame"] for entry in people] == [n for n in range(10) for _ in range(2)]
    assert {entry["track_id"] for entry in people} == {1, 2} and people[-1]["time"] == 0.9
    assert all(entry["image_id"] == entry["frame"] and entry["category_id"] == 1 for entry in people)
    rows = list(csv.DictReader(Path("out/clip.people.csv").read_text().splitlines()))
    assert [(int(row["frame"]), int(row["track_id"]), float(row["nose_x"])) for row in rows] == [
        (entry["frame"], entry["track_id"], entry["keypoints"][0]) for entry in people]
    described = read("out/images.json")["videos"]
    assert described == [{
        "file_name": "clip.mp4", "width": 320, "height": 240, "frames": 10, "rate": 10.0, "people": 2,
        "complete": True, "notices": [], "results": "clip.people.json", "table": "clip.people.csv",
        "overlay": "clip.pose.mp4"}]  # fmt: skip
    overlay = frames_of("out/clip.pose.mp4")
    assert [frame.time for frame in overlay] == pytest.approx([n / RATE for n in range(10)])
    assert (overlay[0].picture.pixels != 0).any() and overlay[0].picture.pixels.shape == (240, 320, 3)
    said = capsys.readouterr()
    assert "clip.mp4: 10 frames, to 0.90 s, 2 people" in said.out
    assert said.err.endswith("1 photo, 1 person; 1 video, 10 frames, 2 people; written to out\n")


def test_of_videos_alone_no_photos_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(clip(pictures=walking(2)), "--json-only") == 0
    assert capsys.readouterr().err.splitlines()[-1] == "1 video, 2 frames, 1 person; written to out"


def test_an_earlier_runs_files_go_and_somebody_elses_stay(capsys: pytest.CaptureFixture[str]) -> None:
    clip(pictures=walking(2))
    assert predict("clip.mp4", "--csv") == 0 and predict("clip.mp4", "--json-only") == 0
    err = capsys.readouterr().err
    assert "out/clip.people.csv, of an earlier run, removed; --csv writes one of this run\n" in err
    assert "out/clip.pose.mp4, of an earlier run, removed\n" in err
    assert out() == ["clip.people.json", "images.json", "people.json"]
    Path("out/clip.people.csv").write_text("my own notes")
    Path("out/clip.pose.mp4").write_text("my own film")
    assert predict("clip.mp4", "--json-only") == 0
    assert "out/clip.pose.mp4 is not known to be of an earlier run; left as it is\n" in capsys.readouterr().err
    assert Path("out/clip.people.csv").read_text() == "my own notes"
    assert Path("out/clip.pose.mp4").read_text() == "my own film"


def test_a_file_that_grows_gets_its_end_whole_or_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(Path("people.json"), b"[", b"\n]\n")
    whole = growing._file

    class Short:
        """A disk that takes two bytes at a time."""

        def __getattr__(self, name: str) -> Any:
            return getattr(whole, name)

        def write(self, data: Any) -> int:
            return whole.write(bytes(data)[:2]) or 0

    monkeypatch.setattr(growing, "_file", Short())
    growing.append(b"\n1")
    growing.finish()
    assert Path("people.json").read_bytes() == b"[\n1\n]\n"


def test_of_videos_alone_there_is_no_table_of_photos(monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    stagepose.write_image("photo.png", dots(ONE))
    assert predict("photo.png", "--csv", "--json-only") == 0 and "people.csv" in out()
    clip(pictures=walking(2))
    clip("next.mp4", walking(3))
    with monkeypatch.context() as patched:
        stop_at("next.mp4 frame 0", KeyboardInterrupt(), patched)
        assert predict("clip.mp4", "next.mp4", "--csv", "--json-only") == 130
    assert "out/people.csv, of an earlier run, removed; this run has no photos\n" in capsys.readouterr().err
    assert predict("clip.mp4", "next.mp4", "--csv", "--json-only", "--resume") == 0
    assert out() == ["clip.people.csv", "clip.people.json", "images.json", "next.people.csv", "next.people.json",
                     "people.json"]
    assert read("out/people.json") == [] and len(read("out/images.json")["videos"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "2 videos, 5 frames, 2 people; written to out"
    Path("bad.png").write_bytes(b"")
    assert predict("bad.png", "clip.mp4", "--csv", "--json-only") == 0 and "people.csv" in out()  # there was a photo


@pytest.mark.parametrize(("name", "sound"), [("clip.mp4", "aac"), ("clip.avi", "pcm_s16le")])
def test_sound_is_kept(name: str, sound: str) -> None:
    assert predict(clip(name, sound=sound)) == 0
    with av.open("out/clip.pose.mp4") as container:
        audio = container.streams.audio[0]
        assert audio.codec_context.name == "aac"
        assert float(audio.duration * audio.time_base) == pytest.approx(1.0, abs=0.1)
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio)])
        assert np.abs(samples).max() > 0.1


def sound_of(path: str) -> tuple[str, int, float]:
    with av.open(path) as container:
        audio = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(audio))
        return audio.codec_context.name, audio.rate, samples / audio.rate


@pytest.mark.parametrize(("name", "sound", "rate", "kept"), [
    ("clip.mov", "pcm_s16le", 192_000, 48_000), ("clip.avi", "pcm_s16le", 5_000, 48_000),
    ("clip.mkv", "libmp3lame", 8_000, 8_000),
])  # fmt: skip
def test_sound_that_neither_aac_nor_mp4_knows_costs_no_pictures(name: str, sound: str, rate: int, kept: int) -> None:
    assert predict(clip(name, sound=sound, sound_rate=rate)) == 0
    assert sound_of("out/clip.pose.mp4") == ("aac", kept, pytest.approx(1.0, abs=0.3))
    assert len(frames_of("out/clip.pose.mp4")) == 10


def test_files_joined_end_to_end_keep_pictures_and_sound(capsys: pytest.CaptureFixture[str]) -> None:
    """The clock starts again in the middle."""
    one = Path(clip("one.ts", codec="libx264", sound="aac")).read_bytes()
    Path("both.ts").write_bytes(one * 2)
    assert predict("both.ts") == 0
    times = [frame.time for frame in frames_of("out/both.pose.mp4")]
    assert np.diff(times) == pytest.approx([0.1] * 19, abs=0.01)
    assert sound_of("out/both.pose.mp4") == ("aac", 48_000, pytest.approx(2.0, abs=0.1))


def test_a_writer_leaves_its_file_whole_or_nothing() -> None:
    picture = np.full((120, 160, 3), 90, np.uint8)
    with VideoWriter("a.mp4", 160, 120, Fraction(30)) as writer:
        writer.add(picture, 0.0)
        assert not Path("a.mp4").exists()
    assert len(frames_of("a.mp4")) == 1
    VideoWriter("b.mp4", 160, 120, Fraction(30)).discard()
    Path("folder.mp4").mkdir()
    for path, size in (("folder.mp4", 160), ("none/a.mp4", 160), ("wide.mp4", 40_000)):
        with pytest.raises(StagePoseError, match=f"^{path}: cannot be written: "):
            VideoWriter(path, size, 120, Fraction(30))
    assert sorted(path.name for path in Path().iterdir()) == ["a.mp4", "detector.onnx", "folder.mp4", "pose.onnx"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_leaves_no_part_of_a_video_and_the_file_of_before(error: type[BaseException]) -> None:
    frame = np.full((48, 64, 3), 90, np.uint8)

    def write(path: str) -> None:
        with VideoWriter(path, 64, 48, 10) as writer:
            writer.add(frame, 0.0)
            raise error

    Path("a.mp4").write_bytes(b"of before")
    for path in ("a.mp4", "b.mp4"):
        with pytest.raises(error):
            write(path)
    assert Path("a.mp4").read_bytes() == b"of before"
    assert sorted(path.name for path in Path().iterdir()) == ["a.mp4", "detector.onnx", "pose.onnx"]


@pytest.mark.parametrize("begin", [lambda: VideoWriter("a.mp4", 160, 120, 30),
                                   lambda: Growing(Path("a.mp4"), b"", b"")])
def test_a_file_has_its_name_once_the_disk_has_it_all(begin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a file that was renamed before may be there and empty."""
    synced: list[tuple[int, int, bool]] = []

    def sync(number: int) -> None:
        info = os.fstat(number)
        synced.append((info.st_ino, info.st_size, Path("a.mp4").exists()))

    monkeypatch.setattr(os, "fsync", sync)
    writer = begin()
    if isinstance(writer, VideoWriter):
        writer.add(np.full((120, 160, 3), 90, np.uint8), 0.0)
        writer.close()
    else:
        writer.append(b"1")
        writer.finish()
    info = Path("a.mp4").stat()
    assert synced == [(info.st_ino, info.st_size, False)]


def test_a_disk_that_does_not_take_the_end_of_a_video_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = VideoWriter("a.mp4", 160, 120, 30)
    writer.add(np.full((120, 160, 3), 90, np.uint8), 0.0)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StagePoseError, match=r"^a\.mp4: cannot be written: No space left on device; free some space"):
        writer.close()
    assert sorted(path.name for path in Path().iterdir()) == ["detector.onnx", "pose.onnx"]


def test_a_run_without_csv_removes_an_earlier_ones_and_its_overlay_is_no_input() -> None:
    clip()
    assert predict("clip.mp4", "--csv") == 0
    assert predict("clip.mp4", "--json-only") == 0
    assert out() == ["clip.people.json", "images.json", "people.json"]
    assert cli.main(["predict", "clip.mp4", *MODELS[:-1], "."]) == 0
    assert Path("clip.pose.mp4").exists()
    assert cli.main(["predict", ".", *MODELS[:-1], "."]) == 0
    assert [entry["file_name"] for entry in read("images.json")["videos"]] == ["clip.mp4"]


def test_unsure_joints_are_empty_cells_of_a_videos_table() -> None:
    assert predict(clip("clip.mp4", walking(3)), "--csv", "--json-only", "--csv-threshold", "1") == 0
    rows = list(csv.DictReader(Path("out/clip.people.csv").read_text().splitlines()))
    cells = [(row["nose_x"], row["nose_y"], float(row["nose_score"])) for row in rows]
    assert len(cells) == 3 and all((x == "") == (y == "") == (score < 1) for x, y, score in cells)
    assert any(x == "" for x, _, _ in cells)


def test_bad_videos_are_skipped_in_a_line_and_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))
    assert predict("bad.mp4", clip(), "--strict") == 1
    err = capsys.readouterr().err
    assert err.count("skipped: bad.mp4: ") == 1 and "Traceback" not in err
    assert [failed["file_name"] for failed in read("out/images.json")["failed"]] == ["bad.mp4"]
    assert out() == ["clip.people.json", "clip.pose.mp4", "images.json", "people.json"]
    assert predict("bad.mp4") == 1
    assert capsys.readouterr().err.endswith("0 videos, 0 frames, 0 people; written to out\n"
                                            "1 file could not be used, see above\n")


def test_boxes_are_for_photos(capsys: pytest.CaptureFixture[str]) -> None:
    Path("boxes.json").write_text("[]")
    assert cli.main(["predict", clip(), "--boxes", "boxes.json", "--pose", "pose.onnx", "--out", "out"]) == 1
    assert "--boxes" in capsys.readouterr().err


class Stops:
    """A network that ends at its nth look."""

    def __init__(self, after: int, error: BaseException) -> None:
        self.left, self.error = after, error

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error


def test_ctrl_c_leaves_what_was_done(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from stagepose.commands.clips import Clip

    stop, add = Stops(4, KeyboardInterrupt()), Clip.add
    monkeypatch.setattr(Clip, "add", lambda self, frame: (stop(), add(self, frame)))
    assert predict(clip(), "--csv") == 130
    assert [entry["frame"] for entry in read("out/clip.people.json")] == [0, 1, 2, 3]
    assert len(frames_of("out/clip.pose.mp4")) == 4 and not [name for name in out() if name.startswith(".")]
    described = read("out/images.json")
    assert not described["complete"] and described["videos"][0]["frames"] == 4
    assert not described["videos"][0]["complete"] and "stopped after 4 frames" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals as Unix has them")
def test_sigterm_leaves_what_was_done_and_an_earlier_runs_files_stay_until_then() -> None:
    assert predict(clip(), "--csv") == 0
    former = {name: Path("out", name).read_bytes() for name in out() if name.startswith("clip.")}
    clip(pictures=walking(10) * 100)
    process = subprocess.Popen([sys.executable, "-m", "stagepose", "predict", "clip.mp4", *MODELS],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(path.stat().st_size > 5000 for path in Path("out").glob(".*json*.tmp")):
        sleep(0.01)
    assert {name: Path("out", name).read_bytes() for name in former} == former
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in err
    there = ["clip.people.json", "clip.pose.mp4", "images.json", "people.json", "unfinished.jsonl"]
    assert out() == there  # no --csv: no table of old; --resume would go on
    described = read("out/images.json")["videos"][0]
    assert not described["complete"] and 10 < described["frames"] < 1000
    told = {entry["frame"] for entry in read("out/clip.people.json")}  # the signal may come in the middle of a frame
    assert told == set(range(len(told))) and len(told) - described["frames"] in (0, 1)
    assert described["frames"] - len(frames_of("out/clip.pose.mp4")) in (0, 1)


def test_stopped_while_it_is_finished_nothing_unfinished_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from stagepose.commands.clips import Growing

    assert predict(clip()) == 0
    former = Path("out/clip.people.json").read_bytes()
    monkeypatch.setattr(Growing, "finish", lambda self: Stops(0, KeyboardInterrupt())())
    assert predict(clip(pictures=walking(3))) == 130
    assert out() == ["clip.people.json", "clip.pose.mp4", "images.json", "people.json", "unfinished.jsonl"]
    assert Path("out/clip.people.json").read_bytes() == former


def test_a_full_disk_loses_no_people() -> None:
    """A limit on the size of files is a disk that is full for the overlay, the first to grow beyond it."""
    rng = np.random.default_rng(0)
    noisy = [np.maximum(picture, rng.integers(0, 15, picture.shape, dtype=np.uint8)) for picture in walking(80)]
    clip("clip.avi", noisy)
    code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "from stagepose import cli; sys.exit(cli.main(sys.argv[1:]))")
    done = subprocess.run([sys.executable, "-c", code, "predict", "clip.avi", *MODELS], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "clip.pose.mp4" in done.stderr and "cannot be written" in done.stderr
    described = read("out/images.json")["videos"][0]
    frames = sorted({entry["frame"] for entry in read("out/clip.people.json")})
    assert frames == list(range(described["frames"])) and len(frames) > 10 and out() == [
        "clip.people.json", "images.json", "people.json", "unfinished.jsonl"]


def test_a_results_file_that_was_cut_short_ends_after_its_last_whole_frame() -> None:
    from stagepose.commands.clips import Growing

    file = Growing(Path("grown.json"), b"[", b"]")
    file.append(b"1")
    file._file.write(b", 2")  # a part of a chunk that a full disk cut
    file.finish()
    assert read("grown.json") == [1]


def test_a_missing_package_is_told_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r'pip install "stagepose\[video\]"'):
        VideoReader("clip.mp4")
