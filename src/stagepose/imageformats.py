"""The formats that are read: recognised by content, opened by Pillow's reader of that format, errors as one line.

Pillow is restricted here: no plugin but that of the format, no grey in place of missing pixels, no warnings.
"""

from __future__ import annotations

import io
import random
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image, ImageFile

from stagepose.errors import ImageError
from stagepose.filekinds import HEAD, HEIC, VIDEO, kind_of
from stagepose.lines import printable

READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and binary PNM (P4, P5, P6)"
TAIL = 64  # bytes at the end looked at for a format's last mark

# Not read, but common enough to deserve their name in the message: (start in lower case, what it is)
STRANGERS = (
    (b"%pdf", "a PDF"),
    (b"%!ps", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"<svg", "SVG"),
    (b"<!doctype svg", "SVG"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML"),
    (b"{", "JSON or other text"),
    (b"version https://git-lfs", "a Git LFS pointer (run 'git lfs pull')"),
    (b"8bps", "a Photoshop file"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\0\0\0\x0cjp  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cjxl ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
)
LIKE_PNM = re.compile(rb"P([1237Ff])\s")  # its kin, which are not read: slow to unfold, or unknown to Pillow
NAMES_OF_KIN = {b"1": "ASCII PNM (P1)", b"2": "ASCII PNM (P2)", b"3": "ASCII PNM (P3)", b"7": "PAM", b"F": "PFM",
                b"f": "PFM"}
OF_VIDEOS = "is a video, not a picture; take its frames out first: ffmpeg -i VIDEO FOLDER/%06d.jpg"
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b"\0;"}  # 0: every part of a GIF ends so
BLOCK = 8  # pixels a side that JPEG stores together
NOISE = bytes(random.Random(0).choices(range(1, 255), k=4096))  # no 255, which begins a mark
ARITHMETIC = (b"\xff\xc9", b"\xff\xca")  # marks of JPEGs whose last block may leave out its end; no others have them
TURNING_CHUNKS = (b"eXIf", b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # of a PNG: a kind, two keywords


def tell_format(file: IO[bytes], name: str) -> str:
    """Which of our formats the first bytes are, whatever the suffix. Leaves the file at its start."""
    head = file.read(HEAD)
    file.seek(0)
    if not head:
        raise ImageError(f"{name}: the file is empty; get it again")
    kind = kind_of(head)
    if kind == HEIC:
        raise ImageError(f"{name}: is HEIC, not a picture this reads; convert it to JPEG")
    if kind == VIDEO:
        raise ImageError(f"{name}: {OF_VIDEOS}")
    if kind:
        return kind
    if kin := LIKE_PNM.match(head):
        raise ImageError(f"{name}: is {NAMES_OF_KIN[kin[1]]}, not a picture this reads; {READABLE} are read")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, what in STRANGERS:
        if text.startswith(start.lower()):
            if what == "XML" and b"<svg" in text:
                what = "SVG"
            raise ImageError(f"{name}: is {what}, not a picture; {READABLE} are read")
    raise ImageError(f"{name}: not a picture in a known format (starts with {_shown(head[:12])}); {READABLE} are read")


def _shown(start: bytes) -> str:
    """As text where it is plain text, else in hexadecimal."""
    text = start.decode("ascii", errors="replace").rstrip()
    return f"'{text}'" if text.isascii() and text.isprintable() else start.hex(" ")


def open_image(kind: str, file: IO[bytes]) -> ImageFile.ImageFile:
    """Pillow's reader of one format, imported on first use; the others are never even asked.

    Going around ``Image.open`` also replaces its own size limit, a warning that may be an error, by ours.
    """
    match kind:
        case "JPEG":
            from PIL import JpegImagePlugin

            return JpegImagePlugin.JpegImageFile(file)
        case "PNG":
            from PIL import PngImagePlugin

            return PngImagePlugin.PngImageFile(file)
        case "WebP":
            from PIL import WebPImagePlugin

            return WebPImagePlugin.WebPImageFile(file)
        case "GIF":
            from PIL import GifImagePlugin

            return GifImagePlugin.GifImageFile(file)
        case "BMP":
            from PIL import BmpImagePlugin

            return BmpImagePlugin.BmpImageFile(file)
        case "TIFF":
            from PIL import TiffImagePlugin

            return TiffImagePlugin.TiffImageFile(file)
        case "PNM":
            from PIL import PpmImagePlugin

            return PpmImagePlugin.PpmImageFile(file)
        case _:
            from PIL import AvifImagePlugin

            return AvifImagePlugin.AvifImageFile(file)


def header_tells_all(kind: str, file: IO[bytes]) -> bool:
    """Whether the header tells all: the file is not truncated, and nothing further on turns the picture.

    False where only decoding can tell, as for TIFF, BMP, PNM and AVIF.
    """
    if kind not in ENDINGS:
        return kind == "WebP"  # Pillow takes in all its bytes to open it, and refuses too few
    place, size = file.tell(), file.seek(0, 2)
    file.seek(max(0, size - TAIL))
    whole = file.read().rstrip(b"\0\r\n").endswith(ENDINGS[kind])  # some writers pad
    out = whole and not (kind == "PNG" and _turned_behind_pixels(file))
    file.seek(place)
    return out


def refuse_grey_end(image: Image.Image, file: IO[bytes], name: str) -> None:
    """:class:`ImageError` for a JPEG that was cut short and given its last mark all the same.

    libjpeg fills the rest up with grey, and Pillow keeps its warning to itself. Where the last block of the decoded
    ``image`` is that grey, ``file`` is decoded once more, with noise before the mark: to what is whole it makes no
    difference. Pictures that end in another colour, all but a few, cost nothing; so do progressive ones that lack only
    finer passes, and come out blurred.
    """
    width, height = image.size
    last = image.crop(((width - 1) // BLOCK * BLOCK, (height - 1) // BLOCK * BLOCK, width, height))
    if any(not 127 <= value <= 129 for values in np.array(last.getextrema()).reshape(-1, 2) for value in values):
        return
    file.seek(0)
    data = file.read()
    at = data.rfind(ENDINGS["JPEG"])
    if at < 0 or any(mark in data for mark in ARITHMETIC):
        return
    again = open_image("JPEG", io.BytesIO(data[:at] + NOISE + data[at:]))
    again.load()
    if again.tobytes() != image.tobytes():
        raise ImageError(f"{name}: JPEG cut short, its end is missing though it has the last mark; get the file again")


def _turned_behind_pixels(file: IO[bytes]) -> bool:
    """Whether a PNG has its orientation after the pixels, where Pillow finds it only by decoding them."""
    file.seek(8)
    longest, pixels = max(map(len, TURNING_CHUNKS)), False
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        start = kind + file.read(min(length, longest))
        if pixels and (start.startswith(TURNING_CHUNKS) or start[4:].startswith(TURNING_CHUNKS)):
            return True
        pixels = pixels or kind == b"IDAT"
        file.seek(max(0, length - longest) + 4, 1)  # to the end of the chunk and its checksum
    return False


@contextmanager
def pillow_at_work(name: str, kind: str) -> Iterator[None]:
    """Pillow at work on somebody's file: a damaged one raises any of a dozen types there; here it is one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # only Pillow's, so that threads cannot hide others'
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it; shrink the picture") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: too large: {error}; shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS") from error
    except ImportError as error:
        raise ImageError(f"{name}: this Pillow cannot read {kind}; run 'pip install -U pillow', or use JPEG") from error
    except SyntaxError as error:  # how Pillow says "not mine after all"
        reason = f"its header is damaged, or says 0 pixels or an unknown kind of pixel: {printable(error)}"
        raise ImageError(f"{name}: no readable {kind} ({reason}); save it again as 8-bit RGB") from error
    except Exception as error:
        reason = printable(error) or type(error).__name__
        raise ImageError(f"{name}: {kind} damaged or cut short ({reason}); get the file again") from error


class _Strictness:
    """Other packages tell Pillow to accept truncated files for the whole process; those come out grey, so not here.

    The first to come in takes the permission away, the last to leave gives it back; the lock is held for neither's
    decoding.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.was_tolerant = False

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if ImageFile.LOAD_TRUNCATED_IMAGES:
                self.was_tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = True, False

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.was_tolerant and not self.inside:
                self.was_tolerant, ImageFile.LOAD_TRUNCATED_IMAGES = False, True


no_grey = _Strictness()
