"""From what a user names (files, folders, globs) to picture files and their bytes; nothing is decoded here."""

from __future__ import annotations

import glob
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

from stagepose.errors import ImageError
from stagepose.lines import printable

Source = str | Path | bytes | IO[bytes]  # of an encoded picture

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".pbm", ".pgm",
     ".ppm", ".pnm", ".heic", ".heif", ".jp2", ".jxl"}  # the last four are not read, which shall be said
)
STREAMS = frozenset({"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms"})
CAMERA = re.compile(r"[0-9]{1,2}|/dev/video[0-9]+")  # as OpenCV, and Linux, call them
FRAMES = "their frames to stagepose.people_in (docs/video.md, frames from anywhere)"
OF_STREAMS = f"streams are never opened; give {FRAMES}"
OF_CAMERAS = f"cameras go by the page of 'stagepose serve', or give {FRAMES}"


def find_images(patterns: Sequence[str | Path], suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The pictures that files, folders and globs stand for, in the order given, each once.

    A file named explicitly is taken whatever its suffix. A folder gives every file below it with one of ``suffixes``,
    sorted, except hidden ones, then those of folders that links in it lead to; a glob gives the same for each match.
    ``ImageError`` names what does not exist or matches nothing.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        for path in _expand(os.fsdecode(pattern), suffixes):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - resolve() would merge links to one file
    return list(found.values())


def path_ends(name: str) -> list[str]:
    """``a/b/c.jpg``, ``b/c.jpg``, ``c.jpg``: what a picture may be called elsewhere, longest first, without a root."""
    path = PurePath(name)
    steps = path.parts[bool(path.anchor):]
    return ["/".join(steps[at:]) for at in range(len(steps))]


@contextmanager
def open_source(source: Source, name: str | None = None) -> Iterator[tuple[IO[bytes], str]]:
    """A file to read the picture from, and what messages call it, safe to print on one line."""
    if isinstance(source, (str, os.PathLike)):
        shown = printable(name or os.fsdecode(source))
        with _open_file(source, shown) as file:
            yield file, shown
    else:
        shown = printable(name or f"<{type(source).__name__}>")
        yield io.BytesIO(_read_bytes(source, shown)), shown


def _open_file(path: str | os.PathLike[str], name: str) -> IO[bytes]:
    """Open a regular file. A pipe, a device or a folder is refused before opening, so nothing can hang."""
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISREG(mode):
            return Path(path).open("rb")
    except ValueError as error:  # a zero byte in the name
        raise ImageError(f"{name}: not a file name ({error}); raw picture data must be passed as bytes") from error
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file; {_way_out(name)}") from error
    except OSError as error:
        raise ImageError(f"{name}: cannot be opened: {error.strerror}; check the path and its permissions") from error
    if stat.S_ISDIR(mode):
        raise ImageError(f"{name}: is a folder, not a picture; name the files in it, such as "
                         'Path(folder).glob("*.jpg")')
    kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or socket"
    advice = OF_CAMERAS if CAMERA.fullmatch(name) else "save the picture to a file first"
    raise ImageError(f"{name}: is {kind}, not a regular file; {advice}")


def _way_out(name: str) -> str:
    """What to do about a file that does not exist."""
    scheme, is_address, _ = name.lower().partition("://")
    if is_address and scheme in STREAMS:
        return OF_STREAMS
    if is_address:
        return "addresses are never fetched; download it first"
    return OF_CAMERAS if CAMERA.fullmatch(name) else "check the path"


def _read_bytes(source: object, name: str) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    try:
        data = source.read() if hasattr(source, "read") else None
    except (OSError, ValueError) as error:  # closed, or opened as text
        raise ImageError(f"{name}: cannot be read: {error}; pass a path, or a file opened in binary mode") from error
    if not isinstance(data, bytes):
        none = "; cv2.imread gives None for a file that it cannot read" if source is None else ""
        raise ImageError(f"{name}: not a picture; pass a path, the bytes of a file, a file opened in binary mode, an "
                         f"RGB uint8 array or a Pillow picture{none}")
    return data


def _expand(pattern: str, suffixes: frozenset[str]) -> list[Path]:
    """One argument of :func:`find_images`."""
    path, shown = Path(pattern), printable(pattern)
    tree = _Tree(suffixes)
    if os.path.isdir(pattern):  # noqa: PTH112 - never raises, whatever the name
        files = list(tree.walk(path, shown))
        if not files:
            raise ImageError(f"{shown}: no pictures in this folder; looked for {' '.join(sorted(suffixes))}")
        return files
    if os.path.lexists(pattern):  # a broken link counts: read_image says what is wrong with it
        return [path]
    if not glob.has_magic(pattern):
        raise ImageError(f"{shown}: no such file or folder; {_way_out(pattern)}")
    matched = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - may be absolute
    files = [file for one in matched for file in tree.matching(one)]
    if not files:
        raise ImageError(f"{shown}: matches no picture ({len(matched)} other files); check the pattern")
    return files


@dataclass(frozen=True)
class _Listing:
    """What is looked at in one folder, sorted: its subfolders, links to folders, and files that look like pictures."""

    real: str  # without links
    folders: list[Path]
    links: list[Path]
    files: list[Path]


class _Tree:
    """Folders, each listed once, however many matches of a glob such as ``**`` it lies below."""

    def __init__(self, suffixes: frozenset[str]) -> None:
        self.suffixes = suffixes
        self._listings: dict[Path, _Listing] = {}

    def matching(self, path: Path) -> Iterator[Path]:
        """What a glob gives of one match: the file if it looks like a picture, all that look so below a folder."""
        if path.is_dir() and not path.name.startswith("."):
            yield from self.walk(path, printable(path))
        elif _looks_like_one(path, self.suffixes):
            yield path

    def walk(self, folder: Path, shown: str) -> Iterator[Path]:
        """The pictures below a folder, its own first; ``ImageError`` where a folder cannot be listed."""
        home, seen = Path(os.path.realpath(folder)), set[str]()
        tops = [folder]  # then what links lead to, but never to where we come from: they may loop
        for top in tops:
            ahead = [top]
            while ahead:
                listing = self._listing(ahead.pop(), shown)
                if listing.real in seen:
                    continue
                seen.add(listing.real)
                tops += [link for link in listing.links if not home.is_relative_to(os.path.realpath(link))]
                yield from listing.files
                ahead += reversed(listing.folders)

    def _listing(self, folder: Path, shown: str) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _listed(folder, shown, self.suffixes)
        return self._listings[folder]


def _listed(folder: Path, shown: str, suffixes: frozenset[str]) -> _Listing:
    def unreadable(error: OSError) -> None:
        raise ImageError(f"{shown}: cannot list {printable(error.filename)}: {error.strerror}") from error

    _, names, files = next(os.walk(folder, onerror=unreadable))
    folders = [folder / name for name in sorted(names) if not name.startswith(".")]
    return _Listing(os.path.realpath(folder), [path for path in folders if not path.is_symlink()],
                    [path for path in folders if path.is_symlink()],
                    [path for name in sorted(files) if _looks_like_one(path := folder / name, suffixes)])


def _looks_like_one(path: Path, suffixes: frozenset[str]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and not path.is_dir()
