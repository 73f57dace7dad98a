"""What a file holds by its first bytes: a picture, of which format, or a video. Suffixes only decide the rest."""

from __future__ import annotations

from pathlib import Path

HEAD = 512  # bytes that are looked at

# What a file may hold beside a picture in a format that is read
HEIC, VIDEO = "HEIC", "a video"
SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    *((start, "TIFF") for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((start + space, "PNM") for start in (b"P4", b"P5", b"P6") for space in (b"\n", b" ", b"\t", b"\r")),
    (b"\x1a\x45\xdf\xa3", VIDEO),  # Matroska, WebM
    (b"FLV\x01", VIDEO),
    (b"\x00\x00\x01\xba", VIDEO),  # MPEG program and elementary streams
    (b"\x00\x00\x01\xb3", VIDEO),
    (b"OggS", VIDEO),
    (b"0&\xb2u\x8ef\xcf\x11", VIDEO),  # ASF, as of WMV
)
RIFF = {b"WEBP": "WebP", b"AVI ": VIDEO}
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"})
QUICKTIME = frozenset({b"moov", b"mdat", b"wide"})  # of before "ftyp"
TS = ((0, 188), (4, 192))  # first byte and length of MPEG-TS packets, of broadcasts and of Blu-ray and camcorders

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts",
                            ".m2ts", ".vob", ".wmv", ".flv", ".3gp", ".3g2", ".ogv"})


def kind_of(head: bytes) -> str | None:
    """The format of a picture, :data:`HEIC` or :data:`VIDEO`; None where the first bytes are of none of them."""
    for start, kind in SIGNATURES:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF":
        return RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        if head[8:12] not in AVIF_BRANDS | HEIF_BRANDS:
            return VIDEO
        return "AVIF" if _brands(head) & AVIF_BRANDS else HEIC
    if head[4:8] in QUICKTIME or any(head[at::size][:3] == b"GGG" for at, size in TS):
        return VIDEO
    return None


def is_video(path: Path) -> bool:
    """Whether a file is a video by its first bytes; where they say nothing, by its suffix. Needs no PyAV."""
    head = b""
    try:
        if path.is_file():  # asked first: to open a pipe would be to wait for it
            with path.open("rb") as file:
                head = file.read(HEAD)
    except OSError:
        pass
    kind = kind_of(head)
    return kind == VIDEO or (kind is None and path.suffix.lower() in VIDEO_SUFFIXES)


def _brands(head: bytes) -> set[bytes]:
    """What a file of the MP4 family says that it is: the major brand, and those that it is compatible with."""
    end = int.from_bytes(head[:4], "big")
    return {head[8:12], *(head[at:at + 4] for at in range(16, min(end, len(head)), 4))}
