"""Atomic files: written under a temporary name, fsynced, renamed; never a partial file under its final name."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from stagepose.errors import StagePoseError

LONGEST_NAME = 200  # bytes of a file's name that its temporary one repeats; file systems take 255 in all


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all; a full disk or a read-only folder is named in a :class:`StagePoseError`."""
    path = Path(path)
    start = os.fsencode(path.name)[:LONGEST_NAME].decode("utf-8", "ignore")
    temporary = path.with_name(f".{start}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too leaves nothing half-written about
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.ENOSPC:
            raise StagePoseError(f"{path}: disk full, {len(data) / 1e6:.1f} MB needed; free some space") from error
        raise _refused(path, error) from error


def require_place(path: str | Path) -> None:
    """Before long work: :class:`StagePoseError` where its result could not be written at ``path``."""
    path = Path(path)
    if path.is_dir():
        raise StagePoseError(f"{path}: cannot write: a folder of that name is there; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> StagePoseError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        blocking = next((folder for folder in path.parents if folder.is_file()), path.parent)
        return StagePoseError(f"{path}: cannot write: {blocking} is a file, not a folder; choose another")
    return StagePoseError(f"{path}: cannot write: {error.strerror}; choose a folder you may write to")


def write_text(path: str | Path, text: str) -> None:
    """UTF-8 text, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """JSON without NaN, atomically."""
    write_text(path, json.dumps(value, allow_nan=False, indent=1) + "\n")
