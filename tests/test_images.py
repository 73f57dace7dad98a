"""The door for pixels: every source gives the same upright RGB picture; what a user points at is found."""

from __future__ import annotations

import glob
import io
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from stagepose.errors import ImageError, StagePoseError
from stagepose.images import (
    IMAGE_SUFFIXES,
    Header,
    Picture,
    find_images,
    printable,
    read_header,
    read_image,
    write_image,
)


def gradient(width: int = 24, height: int = 16) -> NDArray[np.uint8]:
    """Smooth, without any symmetry, so that a wrong turn or a swapped channel shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 60 + 0 * x], axis=2).astype(np.uint8)


def encode(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    assert (read_image(encode(gradient(), kind)).pixels == gradient()).all()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_stay_close(kind: str) -> None:
    pixels = read_image(encode(gradient(), kind)).pixels
    assert np.abs(pixels.astype(int) - gradient()).mean() < 6


def test_all_sources_give_the_same_picture(tmp_path: Path) -> None:
    data = encode(gradient(), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        sources = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file, gradient(),
                   Image.fromarray(gradient())]
        pictures = [read_image(source) for source in sources]  # type: ignore[arg-type]
    for picture in pictures:
        assert picture.pixels.dtype == np.uint8
        assert (picture.pixels == gradient()).all()
        assert picture.notices == ()
    assert pictures[0].name == pictures[1].name == str(path)
    assert read_image(data, name="upload 7").name == "upload 7"


def test_pixels_are_read_only_and_the_users_array_stays_as_it_was() -> None:
    array = gradient()
    picture = read_image(array)
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0] = 0
    assert array.flags.writeable
    assert (array == gradient()).all()


def test_views_with_odd_strides_come_out_contiguous() -> None:
    bgr = gradient()[..., ::-1]
    assert read_image(bgr[..., ::-1]).pixels.flags.c_contiguous
    assert (read_image(bgr).pixels == bgr).all()


def test_grey_arrays_become_three_equal_channels() -> None:
    grey = gradient()[..., 0]
    for array in (grey, grey[..., None]):
        assert (read_image(array).pixels == grey[..., None]).all()
        assert read_image(array).pixels.shape == (16, 24, 3)


def test_array_dtypes_are_scaled_by_their_range() -> None:
    grey = gradient()[..., 0]
    assert (read_image(grey.astype(np.uint16) * 257).pixels[..., 0] == grey).all()
    assert (read_image(grey / 255).pixels[..., 0] == grey).all()
    assert (read_image((grey / 255).astype(np.float32)).pixels[..., 0] == grey).all()
    assert set(np.unique(read_image(grey > 100).pixels)) == {0, 255}
    (notice,) = read_image(np.full((2, 2), 4095, np.uint16)).notices
    assert "16 bits" in notice
    assert "4095" in notice


def test_transparent_pixels_of_an_array_are_white() -> None:
    rgba = np.dstack([gradient(), np.full((16, 24), 255, np.uint8)])
    rgba[:, 12:, 3] = 0
    pixels = read_image(rgba).pixels
    assert (pixels[:, :12] == gradient()[:, :12]).all()
    assert (pixels[:, 12:] == 255).all()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 16, 24), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((2, 16, 24, 3), np.uint8), "one picture at a time"),
        (np.zeros((16, 24, 2), np.uint8), "(16, 24, 2)"),
        (np.zeros((), np.uint8), "shape ()"),
        (np.zeros((0, 24, 3), np.uint8), "24 x 0 pixels"),
        (np.zeros((16, 0), np.uint8), "0 x 16 pixels"),
        (np.full((4, 4, 3), 255.0), "from 255.0 to 255.0"),
        (np.full((4, 4, 3), np.nan), "nan"),
        (np.full((4, 4, 3), 7), "int64"),
        (np.full((4, 4, 3), -0.5, np.float32), "-0.5"),
        (np.array([["a", "b"]]), "no agreed white"),
        (np.zeros((4, 4, 3), complex), "complex128"),
    ],
)
def test_arrays_that_are_not_pictures_are_refused(array: NDArray[Any], says: str) -> None:
    with pytest.raises(ImageError) as info:
        read_image(array, name="frame 3")
    assert str(info.value).startswith("frame 3: ")
    assert says in str(info.value)


@pytest.mark.parametrize("source", [None, 7, ["a.jpg"], io.StringIO("text")])
def test_other_types_are_refused_with_a_remedy(source: Any) -> None:
    with pytest.raises(ImageError, match=rf"^<{type(source).__name__}>: not a picture; pass a path"):
        read_image(source)


def test_files_that_cannot_be_read_as_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, gradient())
    with path.open(encoding="utf-8") as text, pytest.raises(ImageError, match="binary mode"):
        read_image(text)  # type: ignore[arg-type]
    with path.open("rb") as closed:
        pass
    with pytest.raises(ImageError, match="read of closed file"):
        read_image(closed)


def test_a_pillow_picture_is_read_as_its_file_and_stays_as_it_was() -> None:
    turned = Image.fromarray(gradient())
    turned.getexif()[0x0112] = 6
    file = io.BytesIO()
    turned.save(file, "PNG", exif=turned.getexif())
    opened = Image.open(file)
    assert (read_image(opened).pixels == read_image(file.getvalue()).pixels).all()
    assert opened.size == turned.size and (np.asarray(opened) == gradient()).all()  # open still, and unturned


def test_a_pillow_picture_is_taken_at_its_frame() -> None:
    file = io.BytesIO()
    Image.new("L", (4, 3), 10).save(file, "TIFF", save_all=True, append_images=[Image.new("L", (4, 3), 200)])
    pages = Image.open(file)
    pages.seek(1)
    assert (read_image(pages).pixels == 200).all() and read_image(pages).notices == ()


@pytest.mark.parametrize(("picture", "says"), [
    (Image.new("RGB", (20, 10)), "megapixels"), (Image.new("RGB", (0, 5)), "at least 1 x 1"),
    (Image.new("F", (2, 2), 9.0), "no agreed white")])
def test_pillow_pictures_are_judged_as_files_are(picture: Image.Image, says: str) -> None:
    with pytest.raises(ImageError, match=says) as info:
        read_image(picture, max_pixels=100)
    assert str(info.value).startswith("<picture>: ")


def test_many_threads_read_what_one_reads() -> None:
    sources = [encode(gradient(20 + n, 16), kind) for n in range(12) for kind in ("PNG", "JPEG", "GIF", "TIFF")]
    alone = [read_image(source).pixels for source in sources]
    with ThreadPoolExecutor(4) as pool:
        together = [picture.pixels for picture in pool.map(read_image, sources)]
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_importing_the_door_is_light() -> None:
    heavy = "[m for m in sys.modules if 'ImagePlugin' in m or m in ('cv2', 'torch')]"
    script = f"import sys, stagepose.images; print({heavy})"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_picture_cannot_be_changed() -> None:
    picture = Picture(gradient(), "x")
    with pytest.raises(AttributeError):
        picture.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_header_is_read_without_decoding(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(gradient(), kind)
    (tmp_path / "photo").write_bytes(data)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    for source in (data, tmp_path / "photo", io.BytesIO(data)):
        assert read_header(source) == Header(24, 16, turned=False)
    assert read_header(data + b"\0" * 8) == Header(24, 16, turned=False), "some writers pad"


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM"])
def test_formats_without_a_last_mark_are_decoded_for_their_header(kind: str) -> None:
    data = encode(gradient(), kind)
    assert read_header(data) == Header(24, 16, turned=False)
    with pytest.raises(ImageError, match="cut short"):
        read_header(data[:-100])


def test_bytes_after_the_last_mark_cost_time_but_not_the_picture() -> None:
    assert read_header(encode(gradient(), "JPEG") + b"a phone's maker notes" * 9) == Header(24, 16, turned=False)


# --- find_images


def plant(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_folders_give_their_pictures_sorted_and_nested(tmp_path: Path) -> None:
    plant(tmp_path, "b.JPG", "a.png", "notes.txt", ".hidden.jpg", "._a.png", "sub/c.webp", ".cache/d.jpg", "z.tiff")
    (tmp_path / "folder.jpg").mkdir()
    assert names(find_images([tmp_path]), tmp_path) == ["a.png", "b.JPG", "z.tiff", "sub/c.webp"]


def test_files_come_in_the_order_given_once_each_whatever_their_suffix(tmp_path: Path) -> None:
    plant(tmp_path, "b.jpg", "a.jpg", "upload")
    given: list[str | Path] = [
        tmp_path / "upload",
        tmp_path / "b.jpg",
        str(tmp_path),
        tmp_path / "sub" / ".." / "b.jpg",
    ]
    assert names(find_images(given[:3]), tmp_path) == ["upload", "b.jpg", "a.jpg"]
    (tmp_path / "sub").mkdir()
    assert names(find_images(given), tmp_path) == ["upload", "b.jpg", "a.jpg"]


def test_globs_and_names_that_only_look_like_globs(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "b.png", "c.txt", "deep/er/d.jpg", "img[1].jpg")
    assert names(find_images([tmp_path / "*.jpg"]), tmp_path) == ["a.jpg", "img[1].jpg"]
    assert names(find_images([tmp_path / "[!d]*"]), tmp_path) == ["a.jpg", "b.png", "img[1].jpg"]
    everything = ["a.jpg", "b.png", "deep/er/d.jpg", "img[1].jpg"]  # folders too, as where a shell expands it
    assert names(find_images([tmp_path / "*"]), tmp_path) == everything
    assert sorted(names(find_images([tmp_path / "**"]), tmp_path)) == everything
    assert names(find_images([tmp_path / "**" / "d.*"]), tmp_path) == ["deep/er/d.jpg"]
    assert names(find_images([tmp_path / "img[1].jpg"]), tmp_path) == ["img[1].jpg"]


def test_a_glob_lists_a_folder_once_however_deep_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a.jpg", "deep/b.jpg", "deep/er/c.jpg", "deep/er/still/d.jpg", "other/e.jpg")
    (tmp_path / "deep" / "link").symlink_to(tmp_path / "other")  # has a name that the walk from above does not give
    listed, scandir = list[str](), os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    glob.glob(str(tmp_path / "**"), recursive=True)  # noqa: PTH207 - as it is called there
    of_the_glob, _ = Counter(listed), listed.clear()
    found = find_images([tmp_path / "**"])
    assert names(found, tmp_path) == ["a.jpg", "deep/b.jpg", "deep/er/c.jpg", "deep/er/still/d.jpg", "other/e.jpg",
                                      "deep/link/e.jpg"]
    walked = Counter(listed) - of_the_glob
    assert str(tmp_path / "deep" / "er" / "still") in walked and max(walked.values()) == 1


def test_links_that_differ_in_name_stay_apart_and_broken_ones_are_not_hidden(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "c.jpg").symlink_to("gone.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = find_images([tmp_path])
    assert names(found, tmp_path) == ["a.jpg", "b.jpg", "c.jpg"]
    with pytest.raises(ImageError, match=r"c\.jpg: no such file"):
        read_image(found[2])


def test_linked_folders_are_looked_into_once_and_loops_end(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    plant(tmp_path, "x.jpg", "photos/sub/a.jpg", "photos/z.jpg", "elsewhere/b.jpg", "elsewhere/deep/c.jpg")
    for link, target in (("again", "sub"), ("loop", "."), ("up", ".."), ("outside", "../elsewhere")):
        (photos / link).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(photos)
    assert names(find_images([photos]), photos) == ["z.jpg", "sub/a.jpg", "outside/b.jpg", "outside/deep/c.jpg"]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("gone.jpg", "no such file"),
        ("*.jpg", "matches no picture"),
        ("empty", "no pictures in this folder"),
        ("https://example.com/a.jpg", "never fetched"),
        ("s3://bucket/a.jpg", "never fetched"),
        ("rtsp://1.2.3.4/x", "streams are never opened; give their frames to stagepose.people_in"),
        ("0", "cameras go by the page of 'stagepose serve', or give their frames to stagepose.people_in"),
        ("/dev/video99", "cameras go by"),
        ("bad\0name", "no such file"),
        ("line\nbreak.jpg", r"line\nbreak.jpg"),
    ],
)
def test_what_is_not_there_is_named(pattern: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError) as info:
        find_images([pattern])
    assert says in str(info.value)
    assert str(info.value).isprintable()


def test_no_patterns_no_pictures() -> None:
    assert find_images([]) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "locked/b.jpg")
    (tmp_path / "locked").chmod(0)
    with pytest.raises(ImageError, match="locked"):
        find_images([tmp_path])
    (tmp_path / "locked").chmod(0o700)


# --- write_image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".TIFF"])
def test_written_pictures_read_back_equal(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    write_image(path, read_image(gradient()).pixels)
    assert (read_image(path).pixels == gradient()).all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_written_lossy_pictures_stay_close(suffix: str, tmp_path: Path) -> None:
    write_image(tmp_path / f"out{suffix}", gradient())
    pixels = read_image(tmp_path / f"out{suffix}").pixels
    assert np.abs(pixels.astype(int) - gradient()).mean() < 6
    assert suffix in IMAGE_SUFFIXES


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"suffix '\.svg'; use one of"):
        write_image(tmp_path / "out.svg", gradient())
    with pytest.raises(ImageError, match="expected"):
        write_image(tmp_path / "out.png", gradient()[..., 0])
    for suffix, width, height, most in ((".jpg", 65_501, 1, "65,500"), (".webp", 1, 16_384, "16,383")):
        with pytest.raises(ImageError, match=f"{width} x {height} pixels as .*{most} at most; write it as .png"):
            write_image(tmp_path / f"out{suffix}", np.zeros((height, width, 3), np.uint8))
    for value in (read_image(gradient()), [[1, 2]]):
        with pytest.raises(ImageError, match=r"got a \w+; read_image\(\.\.\.\)\.pixels are such"):
            write_image(tmp_path / "out.png", value)  # type: ignore[arg-type]
    plant(tmp_path, "file")
    with pytest.raises(StagePoseError, match="cannot write"):
        write_image(tmp_path / "file" / "out.png", gradient())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_printable_keeps_letters_and_escapes_the_rest() -> None:
    assert printable("Müller 人 photo.jpg") == "Müller 人 photo.jpg"
    assert printable("a\nb\x1b[31m\u202ec\udcff") == "a\\nb\\x1b[31m\\u202ec\\udcff"
    assert len(printable("x" * 10_000)) < 400
