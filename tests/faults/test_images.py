"""Rows I1-I7 of the faults to survive: pictures that are damaged, turned, odd, huge, disguised or ill-named."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin, features

from stagepose import imageformats
from stagepose.errors import ImageError
from stagepose.images import UPRIGHT, read_header, read_image

KINDS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
if "avif" in features.modules and features.check("avif"):  # Pillow 11.3 and later
    KINDS.append("AVIF")
WIDTH, HEIGHT = 64, 48


def photo() -> Image.Image:
    """Smooth, without any symmetry."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([x * 4, y * 5, 250 - x * 3], axis=2).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def distance(pixels: NDArray[np.uint8], wish: Image.Image) -> float:
    return float(np.abs(pixels.astype(int) - np.asarray(wish)).mean())


def refusal(source: Any, **options: Any) -> str:
    """The one line a refused picture ends in."""
    with pytest.raises(ImageError) as info:
        read_image(source, **options)
    message = str(info.value)
    assert message.isprintable(), "one line, nothing a terminal would obey"
    if not isinstance(source, np.ndarray) and "max_pixels" not in options:
        with pytest.raises(ImageError) as info:
            read_header(source, **options)
        assert str(info.value) == message, "the two doors refuse alike"
    return message


@pytest.fixture
def no_hanging() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise TimeoutError("waited for a file that will never end")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


# --- I1: truncated


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "progressive JPEG"])
def test_i1_a_picture_cut_short_is_refused_by_name(kind: str, tolerant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"progressive": True} if kind.startswith("progressive") else {}
    data = encode(Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB"), kind.split()[-1], **options)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", tolerant)  # as other packages leave it behind
    for share in (0.02, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9):
        assert refusal(data[: int(len(data) * share)], name="half.jpg").startswith("half.jpg: ")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is tolerant
    assert read_image(data).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 0, "optimize": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_i1_a_jpeg_cut_short_and_given_its_last_mark_is_refused(mode: str, options: dict[str, Any]) -> None:
    data = encode(Image.effect_noise((200, 150), 60).convert(mode), "JPEG", **options)
    assert read_image(data).pixels.shape == (150, 200, 3)
    for share in (0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ImageError, match="half: JPEG cut short, its end is missing though it has the last mark"):
            read_image(data[:int(len(data) * share)] + b"\xff\xd9", name="half")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}, {"optimize": True},
                                     {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}, {"quality": 100, "subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_i1_a_whole_jpeg_that_ends_in_grey_is_read(mode: str, options: dict[str, Any],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey all over, and grey below a photo: decoded twice; another costs no second look."""
    looks: list[str] = []
    first = imageformats.open_image
    monkeypatch.setattr(imageformats, "open_image", lambda kind, file: looks.append(kind) or first(kind, file))
    grey = Image.new("RGB", (72, 90), (128, 128, 128))
    below = grey.copy()
    below.paste(photo(), (0, 0))
    for picture in (grey, below):
        data = encode(picture.convert(mode), "JPEG", **options)
        for end in (b"", bytes(9), b"trailing \xff\xd9 bytes"):
            read_image(data + end)
    assert mode == "CMYK" or looks == ["JPEG"] * 6  # as images.py has its own name for the first
    looks.clear()
    read_image(encode(photo().convert(mode), "JPEG", **options))
    read_image(encode(Image.new(mode, (99, 99), "white"), "JPEG", **options))
    assert not looks


def test_i1_a_gif_cut_at_what_looks_like_its_end_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    data = encode(Image.fromarray(noise), "GIF")
    cuts = [end for end in range(len(data) // 2, len(data) - 2) if data[end - 1 : end] == b";"]
    assert cuts
    for end in cuts:
        refusal(data[:end])


def test_i1_a_png_whose_bytes_changed_is_refused() -> None:
    data = bytearray(encode(photo(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="PNG damaged or cut short"):  # by its pixels only: the header is whole
        read_image(bytes(data))


def test_i1_a_second_thread_is_as_strict_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread B comes while A has taken Pillow's permission away, and decodes after A has left."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encode(Image.effect_noise((WIDTH, HEIGHT), 60), "JPEG")
    a_is_inside, b_is_inside, a_has_left = threading.Event(), threading.Event(), threading.Event()
    load = JpegImagePlugin.JpegImageFile.load

    came: list[int] = []  # threads, in order; each loads again when its pixels are taken

    def in_step(image: Any) -> Any:
        me = threading.get_ident()
        if me not in came:
            came.append(me)
            mine, others = (a_is_inside, b_is_inside) if len(came) == 1 else (b_is_inside, a_has_left)
            mine.set()
            assert others.wait(10)
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", in_step)
    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(read_image, data)
        assert a_is_inside.wait(10)
        b = pool.submit(read_image, data[: len(data) * 4 // 5])
        a.result(20)
        a_has_left.set()
        with pytest.raises(ImageError, match="cut short"):
            b.result(20)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True, "the last one out gives it back"


@pytest.mark.parametrize("kind", KINDS)
def test_i1_whatever_happens_to_a_file_it_ends_in_a_picture_or_one_line(kind: str) -> None:
    whole = encode(photo(), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 300), 3):
            data[place] = rng.integers(0, 256)
        try:
            read_image(bytes(data), max_pixels=10**6)
        except ImageError as error:
            assert str(error).isprintable()


# --- I2: EXIF orientation


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"GIF", "BMP", "PPM"}])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_i2_every_orientation_gives_the_same_upright_picture(kind: str, orientation: int) -> None:
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = photo().transpose(UPRIGHT[back]) if orientation > 1 else photo()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, kind, exif=exif)
    picture = read_image(data)
    assert picture.pixels.shape == (HEIGHT, WIDTH, 3)
    assert distance(picture.pixels, photo()) < 8
    assert picture.notices == ()
    header = read_header(data)
    assert (header.width, header.height) == (WIDTH, HEIGHT)


def test_i2_a_png_may_say_how_it_lies_after_its_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    plain = encode(photo().transpose(UPRIGHT[8]), "PNG")
    end = plain.rindex(b"\0\0\0\0IEND")
    data = plain[:end] + chunk + plain[end:]
    assert distance(read_image(data).pixels, photo()) == 0
    header = read_header(data)
    assert (header.width, header.height, header.turned) == (WIDTH, HEIGHT, True)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_i2_an_impossible_orientation_is_no_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert distance(read_image(encode(photo(), "JPEG", exif=exif)).pixels, photo()) < 8


@pytest.mark.parametrize("exif", [b"garbage", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_i2_damaged_exif_does_not_cost_the_picture(exif: bytes) -> None:
    data = encode(photo(), "JPEG", exif=b"Exif\0\0" + exif)
    assert distance(read_image(data).pixels, photo()) < 8


# --- I3: the table of modes


def test_i3_8_bit_modes_look_as_they_are() -> None:
    grey = photo().convert("L")
    assert distance(read_image(encode(grey, "PNG")).pixels, grey.convert("RGB")) == 0
    assert distance(read_image(encode(photo().quantize(256), "PNG")).pixels, photo()) < 8
    bits = grey.convert("1")
    assert distance(read_image(encode(bits, "PNG")).pixels, bits.convert("RGB")) == 0


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG")])
def test_i3_print_and_video_colours(mode: str, kind: str) -> None:
    assert distance(read_image(encode(photo().convert(mode), kind)).pixels, photo()) < 8


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow without LittleCMS cannot make the picture")
def test_i3_lab() -> None:
    rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(photo(), rgb, lab, outputMode="LAB")
    assert converted is not None
    pixels = read_image(encode(converted, "TIFF")).pixels
    assert distance(pixels, photo()) < 8  # OpenCV's Lab has another white than the profile's


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_i3_transparency_lies_on_white(mode: str) -> None:
    solid = photo().convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[mode])
    alpha = Image.new("L", solid.size, 255)
    alpha.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    image = solid.convert(mode)
    image.putalpha(alpha)
    pixels = read_image(encode(image, "TIFF")).pixels
    assert (pixels[:, : WIDTH // 2] == 255).all()
    right = (WIDTH // 2, 0, WIDTH, HEIGHT)
    assert distance(pixels[:, WIDTH // 2 :], solid.convert("RGB").crop(right)) == 0


def test_i3_a_transparent_colour_is_white_too() -> None:
    black = Image.new("RGB", (8, 8))
    grey, bits, palette = black.convert("L"), black.convert("1"), black.quantize(2)
    for image, key in ((black, (0, 0, 0)), (grey, 0), (bits, 0), (palette, b"\0\0")):
        assert (read_image(encode(image, "PNG", transparency=key)).pixels == 255).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_i3_16_bit_grey_is_scaled_not_clipped(suffix: str) -> None:
    grey = np.asarray(photo().convert("L"))
    ok, data = cv2.imencode(suffix, grey.astype(np.uint16) * 257)
    assert ok
    picture = read_image(data.tobytes())
    assert (picture.pixels == grey[..., None]).all()
    assert "16 bits" in picture.notices[0]


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
def test_i3_16_bit_colour_is_scaled_not_clipped(suffix: str) -> None:
    bgr = np.asarray(photo())[..., ::-1].astype(np.uint16) * 257
    assert distance(read_image(cv2.imencode(suffix, bgr)[1].tobytes()).pixels, photo()) <= 1


def test_i3_floats_and_integers_without_a_known_white_are_refused() -> None:
    grey = np.asarray(photo().convert("L"))
    unit = Image.fromarray((grey / 255).astype(np.float32))
    assert (read_image(encode(unit, "TIFF")).pixels == grey[..., None]).all()
    assert "no agreed white" in refusal(encode(Image.fromarray(grey.astype(np.float32)), "TIFF"))
    assert "no agreed white" in refusal(encode(Image.fromarray(grey.astype(np.int32) * 1000), "TIFF"))
    assert "no agreed white" in refusal(encode(Image.fromarray(grey.astype(np.int32) - 200), "TIFF"))


# --- I4: sizes


def png(width: int, height: int, packed: bytes = b"") -> bytes:
    """A 1-bit PNG by hand."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def swollen(kind: str, side: int) -> bytes:
    """A small picture whose header claims to be ``side`` x ``side``."""
    data = encode(photo(), kind)
    little, big = struct.pack("<HH", WIDTH, HEIGHT), struct.pack(">HH", HEIGHT, WIDTH)
    if kind == "JPEG":
        return data.replace(big, struct.pack(">HH", side, side), 1)
    if kind == "GIF":
        return data[:6] + struct.pack("<HH", side, side) + data[10:]
    if kind == "BMP":
        return data[:18] + struct.pack("<ii", side, side) + data[26:]
    if kind == "TIFF":
        for tag, value in ((256, WIDTH), (257, HEIGHT)):
            for form in ("<HHII", "<HHIHxx"):
                old = struct.pack(form, tag, 4 if form == "<HHII" else 3, 1, value)
                data = data.replace(old, struct.pack("<HHII", tag, 4, 1, side))
        return data
    assert little in data
    return data.replace(little, struct.pack("<HH", side, side), 1)


@pytest.mark.parametrize("side", [20_000, 60_000])
@pytest.mark.parametrize("kind", ["JPEG", "GIF", "BMP", "TIFF"])
def test_i4_bombs_are_refused_from_the_header(kind: str, side: int) -> None:
    message = refusal(swollen(kind, side), name="bomb")
    assert f"bomb: {side} x {side} is {side * side // 10**6} megapixels, the limit is 100;" in message


def test_i4_a_webp_bomb_is_refused() -> None:
    vp8x = b"\x10\0\0\0" + (19_999).to_bytes(3, "little") * 2
    data = encode(photo(), "WEBP", lossless=True)
    body = b"WEBPVP8X" + struct.pack("<I", len(vp8x)) + vp8x + data[12:]
    refusal(b"RIFF" + struct.pack("<I", len(body)) + body)


def test_i4_a_real_bomb_costs_little_memory(tmp_path: Path) -> None:
    side = 20_000
    path = tmp_path / "bomb.png"
    path.write_bytes(png(side, side, zlib.compress(bytes((1 + side // 8) * side), 1)))
    assert path.stat().st_size < 379_000
    script = (
        "import sys\nfrom pathlib import Path\nfrom stagepose.errors import ImageError\n"
        "from stagepose.images import read_image\n"
        "try:\n    read_image(sys.argv[1])\nexcept ImageError as error:\n    print(error)\n"
        "status = Path('/proc/self/status').read_text()\n"  # ru_maxrss would start at the parent's peak
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    out = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    message, kilobytes = out.stdout.splitlines()
    assert "20000 x 20000 is 400 megapixels" in message
    assert int(kilobytes) < 300_000


def test_i4_the_limit_can_be_set() -> None:
    data = encode(photo(), "PNG")
    assert read_image(data, max_pixels=WIDTH * HEIGHT).pixels.shape == (HEIGHT, WIDTH, 3)
    assert "64 x 48" in refusal(data, max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_i4_pillows_own_limit_never_warns(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(photo(), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT - 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_image(data).pixels.shape == (HEIGHT, WIDTH, 3)
    assert caught == []


@pytest.mark.parametrize(("width", "height"), [(1, 1), (10_000, 2), (2, 10_000), (1, 65_000)])
def test_i4_tiny_and_thin_pictures_are_read(width: int, height: int) -> None:
    for kind in ("PNG", "JPEG"):
        assert read_image(encode(Image.new("RGB", (width, height)), kind)).pixels.shape == (height, width, 3)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_i4_no_pixels_at_all_is_refused(size: tuple[int, int]) -> None:
    assert "says 0 pixels" in refusal(png(*size), name="void.png")


# --- I5: not pictures


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"just some notes\n", "not a picture in a known format (starts with 'just some no')"),
        (b"\x93NUMPY\x01\x00", "not a picture in a known format (starts with 93 4e 55 4d 50 59 01 00)"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"\n <HTML>not found</HTML>", "is a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is SVG"),
        (b"\xef\xbb\xbf<svg/>", "is SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(60), "is PostScript"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b'{"images": []}', "is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "is HEIC"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "is a video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "is a video"),
        (b"\0\0\0\x14ftypqt  " + bytes(40), "ffmpeg -i VIDEO"),
        (b"RIFF\0\1\0\0AVI LIST" + bytes(40), "is a video"),
        (b"FLV\x01" + bytes(40), "is a video"),
        ((b"G" + bytes(187)) * 4, "is a video"),  # MPEG-TS
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "is JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(40), "is JPEG 2000"),
        (b"8BPS\0\x01" + bytes(40), "is a Photoshop file"),
        (b"P3\n1 1\n255\n9 9 9\n", "is ASCII PNM (P3), not a picture this reads; "),
        (b"P7\nWIDTH 1\nHEIGHT 1\n", "is PAM"),
        (b"Pf\n1 1\n-1.0\n" + bytes(4), "is PFM"),
        (b"P9\n1 1\n255\n", "AVIF and binary PNM (P4, P5, P6) are read"),
        (b"\0\0\x01\0" + bytes(40), "not a picture in a known format"),
        (b"\xff\xd8\xff\xe0", "no readable JPEG"),
    ],
)
def test_i5_other_files_named_jpg_are_refused_by_content(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert says in message


def test_i5_a_picture_under_a_wrong_suffix_is_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.txt"
    path.write_bytes(encode(photo(), "PNG"))
    assert distance(read_image(path).pixels, photo()) == 0


@pytest.mark.skipif("AVIF" not in KINDS, reason="this Pillow has no AVIF")
def test_i5_an_avif_that_is_first_of_all_a_heif_is_read() -> None:
    data = encode(photo(), "AVIF")
    assert data[8:12] == b"avif" and b"avif" in data[16:int.from_bytes(data[:4], "big")]
    assert distance(read_image(data[:8] + b"mif1" + data[12:]).pixels, photo()) < 4
    assert "is a video" in refusal(data[:8] + b"isom" + data[12:])


def test_i5_formats_off_the_list_are_refused_though_pillow_could() -> None:
    for kind in ("ICO", "TGA", "PCX", "SGI"):
        assert "not a picture in a known format" in refusal(encode(photo(), kind))


def test_i5_folders_pipes_devices_and_loops_are_refused_without_waiting(tmp_path: Path, no_hanging: None) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert "is a folder" in refusal(tmp_path)
    assert "a named pipe" in refusal(tmp_path / "pipe.jpg")
    assert "symbolic links" in refusal(tmp_path / "loop.jpg")
    assert "a device" in refusal("/dev/zero")
    assert "no such file" in refusal(tmp_path / "gone.jpg")
    assert "cannot be opened" in refusal(tmp_path / ("n" * 300))
    assert "never fetched" in refusal("https://example.com/photo.jpg")
    assert "must be passed as bytes" in refusal("\x89PNG\r\n\x1a\n\0")


# --- I6: several frames


@pytest.mark.parametrize(
    ("kind", "notice"),
    [
        ("GIF", "animated: first of 12 frames used"),
        ("WEBP", "animated: first of 12 frames used"),
        ("PNG", "animated: first of 12 frames used"),
        ("TIFF", "several pages: first of 12 used"),
    ],
)
def test_i6_the_first_frame_is_used_with_a_notice(kind: str, notice: str) -> None:
    frames = [photo().rotate(30 * n) for n in range(12)]
    picture = read_image(encode(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert picture.notices == (notice,)
    assert distance(picture.pixels, photo()) < 8


def test_i6_a_damaged_later_frame_does_not_cost_the_first() -> None:
    data = encode(photo(), "GIF", save_all=True, append_images=[photo().rotate(90), photo().rotate(180)])
    assert distance(read_image(data[: int(len(data) * 0.8)]).pixels, photo()) < 8


# --- I7: names


@pytest.mark.parametrize("name", ["Müller & 人.png", "with space .png", "new\nline\x1b[31m", "n" * 250, "-", "b\udcff"])
def test_i7_any_name_works_and_is_escaped_in_messages(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(encode(photo(), "PNG"))
    picture = read_image(path)
    assert distance(picture.pixels, photo()) == 0
    assert picture.name.isprintable()
    path.write_bytes(b"no picture")
    assert refusal(path).startswith(picture.name)
