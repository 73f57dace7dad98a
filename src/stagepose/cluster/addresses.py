"""Pictures by the addresses that a cluster's machines share: paths, and URIs of storage (``s3://bucket/folder``)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from stagepose.errors import ImageError
from stagepose.images import IMAGE_SUFFIXES, find_images
from stagepose.lines import printable

LARGEST = 1_000_000_000  # bytes of a picture's file in storage, which is in memory as a whole


def is_uri(address: str) -> bool:
    """Whether it is storage that has to be asked, not a path."""
    return "://" in address


def find_addresses(patterns: Sequence[str]) -> list[str]:
    """Absolute paths and URIs of the pictures that files, folders, globs and URIs stand for, in order, each once.

    A URI is a picture's where it ends in one of :data:`IMAGE_SUFFIXES`, and is not asked for yet; any other is a
    folder's, of which all below it are taken. What follows a ``?`` tells how to reach the storage, as Arrow has it.
    :class:`ImageError` names what does not exist or gives nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        found.update(dict.fromkeys(_below(pattern) if is_uri(pattern) else _paths(pattern)))
    return list(found)


def fetch(uri: str) -> bytes:
    """A picture's file from storage; :class:`ImageError` says why not."""
    try:
        filesystem, path = _place(uri)
        with filesystem.open_input_file(path) as file:
            if (size := file.size()) > LARGEST:
                raise ImageError(f"{printable(uri)}: its file has {size / 1e6:,.0f} MB, {LARGEST / 1e6:,.0f} MB are "
                                 "allowed; make it smaller")
            return bytes(file.read())
    except FileNotFoundError as error:
        raise ImageError(f"{printable(uri)}: no such file; check the address") from error
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{printable(uri)}: cannot be read: {_short(error)}") from error


def _paths(pattern: str) -> Iterator[str]:
    for path in find_images([pattern]):
        address = os.path.abspath(path)  # noqa: PTH100 - resolve() would merge links to one file
        try:
            address.encode()
        except UnicodeEncodeError as error:
            raise ImageError(f"{printable(address)}: its name is not UTF-8, as addresses must be; rename it") from error
        yield address


def _below(uri: str) -> list[str]:
    folder, mark, query = uri.partition("?")
    if _is_picture(folder):
        return [uri]
    shown = printable(uri)
    try:
        filesystem, path = _place(uri)
        entries = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except FileNotFoundError as error:
        raise ImageError(f"{shown}: no such folder; check the address") from error
    except (OSError, pa.ArrowException) as error:
        raise ImageError(f"{shown}: cannot be listed: {_short(error)}") from error
    names = sorted(entry.path[len(path):].lstrip("/") for entry in entries if entry.type == fs.FileType.File)
    pictures = [name for name in names if _is_picture(name)]
    if not pictures:
        raise ImageError(f"{shown}: no pictures in this folder ({len(names)} other files); looked for "
                         f"{' '.join(sorted(IMAGE_SUFFIXES))}")
    return [f"{folder.rstrip('/')}/{quote(name)}{mark}{query}" for name in pictures]


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _place(uri: str) -> tuple[fs.FileSystem, str]:
    """The storage, and the path in it."""
    address, mark, query = uri.partition("?")
    scheme, _, rest = address.partition("://")
    host, _, path = rest.partition("/")
    filesystem, root = _opened(f"{scheme}://{host}{'' if host else '/'}{mark}{query}")
    return filesystem, f"{root.rstrip('/')}/{unquote(path).rstrip('/')}"


@lru_cache(maxsize=16)
def _opened(uri: str) -> tuple[fs.FileSystem, str]:
    """A storage, and its root: a connection that all its pictures share."""
    return fs.FileSystem.from_uri(uri)  # type: ignore[no-any-return]


def _short(error: Exception) -> str:
    return printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
