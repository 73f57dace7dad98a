"""Reading and writing pictures: anything that holds one becomes an upright RGB picture, or an :class:`ImageError`.

All pixels come in here. The format is decided by content, from a short list; the size is checked in the header, before
any pixel is decoded; a truncated picture is refused, never filled up with grey. What each kind of pixel becomes (modes
are Pillow's):

    1, L, RGB           as they are (1 bit: black and white)
    P                   through its palette
    CMYK, YCbCr, LAB    converted to RGB (an embedded colour profile is not applied)
    LA, PA, RGBA, or a transparent colour     laid on white, as on an empty page
    16 bits per channel  0..65535 becomes 0..255, whatever the brightest value (grey: said in a notice)
    I (32-bit integers)  as 16 bits where every value is in 0..65535, refused otherwise
    F (floats)           0..1 becomes 0..255, refused otherwise

Arrays are RGB, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with alpha; the same rules hold by their dtype.
H W picture size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stagepose.errors import ImageError
from stagepose.files import write_bytes
from stagepose.imagefiles import IMAGE_SUFFIXES, Source, find_images, open_source
from stagepose.imageformats import header_tells_all, no_grey, open_image, pillow_at_work, refuse_grey_end, tell_format
from stagepose.lines import printable

__all__ = [
    "IMAGE_SUFFIXES",
    "LONGEST_SIDE",
    "MAX_PIXELS",
    "UPRIGHT",
    "Header",
    "Picture",
    "encode_image",
    "find_images",
    "read_header",
    "read_image",
    "write_image",
]

MAX_PIXELS = 100_000_000  # 300 MB of RGB; the largest phone and studio cameras stay below or near it
WHITE = (255, 255, 255)
ORIENTATION_TAG = 0x0112  # EXIF

# EXIF orientation -> what makes the stored picture upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset(UPRIGHT[orientation] for orientation in (5, 6, 7, 8))  # these swap width and height

CRISP_JPEG = {"format": "JPEG", "quality": 92, "subsampling": 0}  # full colour resolution, for thin coloured lines
PACKED_TIFF = {"format": "TIFF", "compression": "tiff_adobe_deflate"}
WRITABLE: dict[str, dict[str, Any]] = {
    ".jpg": CRISP_JPEG,
    ".jpeg": CRISP_JPEG,
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 92},
    ".bmp": {"format": "BMP"},
    ".tif": PACKED_TIFF,
    ".tiff": PACKED_TIFF,
}
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # pixels, of libjpeg and of the format; the others hold any picture's


@dataclass(frozen=True, eq=False)
class Picture:
    """One upright picture: ``pixels`` (H, W, 3) uint8 RGB, read-only; ``name``, safe to print on one line.

    ``notices`` are remarks for users of the results ("animated: first of 12 frames used").
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    name: str
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        view = np.ascontiguousarray(self.pixels).view()
        view.setflags(write=False)
        object.__setattr__(self, "pixels", view)


@dataclass(frozen=True)
class Header:
    """``width`` and ``height`` of the upright picture, as a viewer shows it; ``turned``: stored sideways."""

    width: int
    height: int
    turned: bool


def read_image(source: Source | NDArray[Any] | Image.Image, *, max_pixels: int = MAX_PIXELS,
               name: str | None = None) -> Picture:
    """Read a file, the bytes of one (or an open binary file), an RGB array or a Pillow picture; none is modified.

    ``max_pixels`` limits the pixels that a file may decode to; ``name`` is what messages call the picture. A Pillow
    picture is read at its current frame, and turned upright by its EXIF orientation like a file.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, printable(name or "<array>"))
    if isinstance(source, Image.Image):
        return _from_pillow(source, printable(name or "<picture>"), max_pixels)
    with open_source(source, name) as (file, shown):
        return _decode(file, shown, max_pixels)


def read_header(source: Source, *, name: str | None = None) -> Header:
    """The size of a file's picture without decoding it; refuses what :func:`read_image` refuses.

    A file is decoded all the same if its header does not tell all: if it lacks its format's end marker, is a TIFF, BMP,
    PNM or AVIF, or a PNG whose orientation follows the pixels. Damage amid the pixels of the others goes unnoticed.
    """
    with open_source(source, name) as (file, shown):
        kind, image = _open(file, shown, MAX_PIXELS)
        with pillow_at_work(shown, kind):
            turn, _ = _orientation(image)
            turned, (width, height) = turn in SIDEWAYS, image.size
            tells_all = header_tells_all(kind, file)
        if tells_all:
            return Header(height, width, turned) if turned else Header(width, height, turned)
        file.seek(0)
        upright_HW = _decode(file, shown, MAX_PIXELS).pixels.shape[:2]
        return Header(upright_HW[1], upright_HW[0], turned or upright_HW != (height, width))


def write_image(path: str | Path, pixels_HW3: NDArray[np.uint8]) -> None:
    """Write RGB pixels atomically; the suffix decides the format."""
    path = Path(path)
    write_bytes(path, encode_image(pixels_HW3, path.suffix, str(path)))


def encode_image(pixels_HW3: NDArray[np.uint8], suffix: str, name: str) -> bytes:
    """The file that :func:`write_image` writes for a name with this suffix; ``name`` is what messages call it."""
    shown = printable(name)
    options = WRITABLE.get(suffix.lower())
    if options is None:
        raise ImageError(f"{shown}: cannot write a picture with suffix {suffix!r}; use one of {sorted(WRITABLE)}")
    if not isinstance(pixels_HW3, np.ndarray):
        raise ImageError(f"{shown}: expected (H, W, 3) uint8 RGB, got a {type(pixels_HW3).__name__}; "
                         "read_image(...).pixels are such")
    if pixels_HW3.dtype != np.uint8 or pixels_HW3.ndim != 3 or pixels_HW3.shape[2] != 3:
        raise ImageError(f"{shown}: expected (H, W, 3) uint8, got {pixels_HW3.shape} {pixels_HW3.dtype}")
    height, width = pixels_HW3.shape[:2]
    longest = LONGEST_SIDE.get(options["format"])
    if longest is not None and max(height, width) > longest:
        raise ImageError(f"{shown}: cannot write {width} x {height} pixels as {options['format']}, whose sides have "
                         f"{longest:,} at most; write it as .png")
    encoded = io.BytesIO()
    try:
        Image.fromarray(pixels_HW3).save(encoded, **options)
    except (OSError, ValueError) as error:
        raise ImageError(f"{shown}: cannot write {width} x {height} pixels as {options['format']}: {error}") from error
    return encoded.getvalue()


# --- from bytes to pixels


def _decode(file: IO[bytes], name: str, max_pixels: int) -> Picture:
    kind, image = _open(file, name, max_pixels)
    picture = _upright(image, kind, name)
    if kind == "JPEG":
        with pillow_at_work(name, kind), no_grey:
            refuse_grey_end(image, file, name)
    with pillow_at_work(name, kind):
        frames = _count_frames(image)
        image.close()
    if frames < 2:
        return picture
    what = "several pages: first of {} used" if kind == "TIFF" else "animated: first of {} frames used"
    return Picture(picture.pixels, name, (*picture.notices, what.format(frames)))


def _from_pillow(image: Image.Image, name: str, max_pixels: int) -> Picture:
    """A picture that somebody else opened and may go on to use: its current frame."""
    _check_size(image.size, name, max_pixels)
    if not image.width or not image.height:
        raise ImageError(f"{name}: {image.width} x {image.height} pixels; a picture needs at least 1 x 1")
    return _upright(image, image.format or "picture", name)


def _upright(image: Image.Image, kind: str, name: str) -> Picture:
    with pillow_at_work(name, kind), no_grey:
        image.load()
    with pillow_at_work(name, kind):
        turn, notices = _orientation(image)
        pixels, said = _to_rgb(image if turn is None else image.transpose(turn), name)
    return Picture(pixels, name, (*notices, *said))


def _open(file: IO[bytes], name: str, max_pixels: int) -> tuple[str, Image.Image]:
    """The format and Pillow's picture, whose size is checked, and of which nothing is decoded yet."""
    kind = tell_format(file, name)
    with pillow_at_work(name, kind):
        image = open_image(kind, file)
    _check_size(image.size, name, max_pixels)
    return kind, image


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        found, limit = (f"{count / 1e6:.6g}" for count in (width * height, max_pixels))
        raise ImageError(
            f"{name}: {width} x {height} is {found} megapixels, the limit is {limit}; shrink it, or raise max_pixels"
        )


def _orientation(image: Image.Image) -> tuple[Image.Transpose | None, tuple[str, ...]]:
    """How to turn the stored picture upright. TIFF has been turned by Pillow while loading, and says so by no tag."""
    try:
        exif = Image.Image.getexif(image)  # not PngImageFile's own, which decodes the picture first
        return UPRIGHT.get(exif.get(ORIENTATION_TAG, 1)), ()
    except Exception:  # a damaged EXIF block; the pixels are whole
        return None, ("EXIF damaged: shown as stored, perhaps not upright",)


def _count_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # later frames are damaged; the first, the only one used, is not
        return 1


def _to_rgb(image: Image.Image, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The table of modes at the top of this file."""
    mode = image.mode
    if mode in {"I", "F"} or mode.startswith("I;16"):
        values = np.asarray(image)
        if mode == "I" and values.min() >= 0 and values.max() <= 65535:
            values = values.astype(np.uint16)
        grey, notices = _to_uint8(values, name)
        return _stack(grey), notices
    if mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        return _on_white(image), ()
    if mode == "LAB":
        return _lab_to_rgb(image), ()
    if mode not in {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}:
        raise ImageError(f"{name}: pixels of mode {mode!r} are not supported; save the picture as 8-bit RGB")
    return np.asarray(image if mode == "RGB" else image.convert("RGB")), ()


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    """What an empty page shows. The colour stored under transparent pixels is arbitrary and must not be seen."""
    if image.mode in {"La", "RGBa"}:  # premultiplied
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    clear = image.convert("RGBA")
    page = Image.new("RGB", image.size, WHITE)
    page.paste(clear, mask=clear)
    return np.asarray(page)


def _lab_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Pillow has no such conversion; OpenCV's 8-bit Lab differs by its sign convention only."""
    import cv2

    lab = np.array(image)
    lab[..., 1:] ^= 128  # Pillow hands out a and b signed, OpenCV wants them around 128
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def _from_array(array: NDArray[Any], name: str) -> Picture:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        channels_first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        advice = ".transpose(1, 2, 0) moves the channels last" if channels_first else "pass one picture at a time"
        wish = "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        raise ImageError(f"{name}: array has shape {array.shape}, expected {wish}; {advice}")
    if array.size == 0:
        raise ImageError(f"{name}: {array.shape[1]} x {array.shape[0]} pixels; a picture needs at least 1 x 1")
    values, notices = _to_uint8(array, name)
    if values.ndim == 2 or values.shape[2] == 1:
        values = _stack(values.reshape(values.shape[:2]))
    elif values.shape[2] == 4:
        values = _on_white(Image.fromarray(values))
    return Picture(values, name, notices)


def _stack(grey_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey_HW[..., None], 3, axis=2)


def _to_uint8(values: NDArray[Any], name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Scale by the range of the dtype, never by the content, so that equal values stay equal across pictures."""
    if values.dtype == np.uint8:
        return values, ()
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255, ()
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        notice = f"16 bits: 0..65535 scaled to 0..255, the largest value here is {values.max()}"
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8), (notice,)
    found = "values"
    if values.dtype.kind in "iuf":
        low, high = values.min(), values.max()
        if values.dtype.kind == "f" and low >= 0 and high <= 1:  # false for NaN
            return np.rint(values * 255).astype(np.uint8), ()
        found = f"values from {low} to {high}"
    raise ImageError(
        f"{name}: {values.dtype} {found} have no agreed white; scale them first, to uint8 in 0..255 or floats in 0..1"
    )
