"""Atomic files: written under a temporary name, fsynced, renamed; never a partial file under its final name."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from stagepose.errors import StagePoseError

try:
    import fcntl
except ImportError:  # Windows, where nothing is held
    fcntl = None  # type: ignore[assignment]

FULL = (errno.ENOSPC, errno.EDQUOT)
LONGEST_NAME = 200  # bytes of a file's name that its temporary one repeats; file systems take 255 in all


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all; a full disk or a read-only folder is named in a :class:`StagePoseError`.

    A device or a pipe, such as ``/dev/null``, is written into: to rename a file into its place would end it.
    """
    write_chunks(path, [data])


def write_chunks(path: str | Path, chunks: Iterable[bytes]) -> None:
    """As :func:`write_bytes`, of a file that is never in memory as a whole."""
    path, taken = Path(path), 0
    if _is_stream(path):
        _write_into(path, chunks)
        return
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            for chunk in chunks:
                taken += len(chunk)
                file.write(chunk)
        put_in_place(temporary, path)
    except BaseException as error:  # Ctrl-C too leaves nothing half-written about
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        if error.errno in FULL:
            raise StagePoseError(f"{path}: disk full, {_size(taken)} needed; {remedy(error)}") from error
        raise _refused(path, error) from error


def _size(count: int) -> str:
    """``count`` bytes in words: never 0.0 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} KB"


def temporary_name(path: Path) -> Path:
    """What a file is called, in the same folder, until it is whole."""
    return path.with_name(f".{cut(path.name, LONGEST_NAME)}.{os.getpid()}.tmp")


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a whole file, which nobody has open any more, its name, once the disk has it; :class:`OSError` as it comes.

    Renamed before, it might be there and empty after a power cut.
    """
    with temporary.open("rb+") as file:  # Windows syncs no file that may only be read
        os.fsync(file.fileno())
    temporary.replace(path)


def cut(name: str, most: int) -> str:
    """The start of a name, of ``most`` bytes at most, without half a character at its end.

    As :mod:`os` spells names here: where it takes them for ASCII, bytes of other letters too are kept as they are.
    """
    whole = os.fsencode(name)
    end = min(most, len(whole))
    while most - 4 < end < len(whole) and whole[end] & 0xC0 == 0x80:  # goes on with a character of UTF-8
        end -= 1
    return os.fsdecode(whole[:end])


@contextmanager
def writing(name: str, *more: type[Exception]) -> Iterator[None]:
    """Turns an error of the system while a file grows, or one of ``more`` kinds, into a :class:`StagePoseError`."""
    try:
        yield
    except OSError as error:
        raise StagePoseError(f"{name}: cannot be written: {error.strerror or error}; {remedy(error)}") from error
    except more as error:
        raise StagePoseError(f"{name}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


def remedy(error: OSError) -> str:
    """What to do where the system refuses to write."""
    if error.errno in FULL:
        return "free some space, or choose another folder"
    if error.errno == errno.EFBIG:
        return "raise the limit on the size of files ('ulimit -f'), or choose a disk that takes larger ones"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a folder you may write to"
    return "choose another name or folder"


def write_all(file: RawIOBase, data: bytes) -> None:
    """Into an unbuffered file, which may take a part at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) or 0:]


def held(file: IO[Any] | RawIOBase) -> bool:
    """Whether an open file could be locked for this process, until it is closed; no where another has it.

    A file system without locks keeps nobody out.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def require_place(path: str | Path, suffix: str = "") -> None:
    """Before long work: :class:`StagePoseError` where its result could not be written at ``path``.

    A file that others know by its ``suffix`` must have it; a pipe need not.
    """
    path = Path(path)
    if path.is_dir():
        raise StagePoseError(f"{path}: cannot write: a folder of that name is there; name a file")
    if _is_stream(path):
        return
    if path.suffix.lower() != suffix and suffix:
        raise StagePoseError(f"{path}: cannot write: such a file is known by its suffix {suffix}; say {path}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _refused(path, error) from error


def keep_inputs(path: str | Path, inputs: Iterable[Path]) -> None:
    """:class:`StagePoseError` where a result at ``path`` would replace one of the files that it is made from."""
    path = Path(path)
    for each in inputs:
        if path.exists() and each.exists() and path.samefile(each):
            raise StagePoseError(f"{path}: is one of the files read; write to another place")


def _is_stream(path: Path) -> bool:
    """Whether something is there that no file may take the place of: a device, a pipe, or this process's open file.

    :class:`StagePoseError` for an open ordinary file (``/dev/stdout`` behind ``> FILE``), which has a name of its own,
    and for ``-``, which is nobody's.
    """
    if str(path) == "-":
        raise StagePoseError("-: is no name of a file; use /dev/stdout to write into a pipe")
    try:
        mode = path.stat().st_mode
    except OSError:  # not there, or not to be looked at: writing will say so
        return False
    if not stat.S_ISREG(mode):
        return not stat.S_ISDIR(mode)
    link = path.parent / path.readlink() if path.is_symlink() else path
    if any(os.path.realpath(each.parent).startswith("/proc/") for each in (path, link)):
        raise StagePoseError(f"{path}: is an open file; name the file itself")
    return False


def _write_into(path: Path, chunks: Iterable[bytes]) -> None:
    try:
        with path.open("wb") as stream:
            stream.writelines(chunks)
    except OSError as error:
        raise StagePoseError(f"{path}: cannot write: {error.strerror}") from error


def _refused(path: Path, error: OSError) -> StagePoseError:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        blocking = next((folder for folder in path.parents if folder.is_file()), path.parent)
        return StagePoseError(f"{path}: cannot write: {blocking} is a file, not a folder; choose another")
    return StagePoseError(f"{path}: cannot write: {error.strerror}; {remedy(error)}")


def whole_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file that has one a line, each with its bytes, up to the first that is cut or damaged."""
    with path.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if not isinstance(record, dict):
                return
            yield len(line), record


def write_text(path: str | Path, text: str) -> None:
    """UTF-8 text, atomically; :class:`StagePoseError` where it holds the name of a file that is none."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[: error.start].rpartition("\n")[2][-60:] + text[error.start :].partition("\n")[0][:60]
        raise StagePoseError(f"{path}: would hold a name that is not UTF-8: {near!r}; rename that file") from error
    write_bytes(path, data)


def write_json(path: str | Path, value: Any) -> None:
    """JSON without NaN, atomically."""
    write_text(path, json.dumps(value, allow_nan=False, indent=1) + "\n")


def write_json_object(path: str | Path, fields: Mapping[str, Any]) -> None:
    """As :func:`write_json` of these fields; where a value is an iterator, its items are a list, written one by one."""
    write_chunks(path, (part.encode("utf-8") for part in _object_parts(fields)))


def _object_parts(fields: Mapping[str, Any]) -> Iterator[str]:
    yield "{"
    for count, (key, value) in enumerate(fields.items()):
        yield f"{',' if count else ''}\n {json.dumps(key)}: "
        if isinstance(value, Iterator):
            empty = True
            for item in value:
                yield ("[" if empty else ",") + "\n  " + _indented(item, 2)
                empty = False
            yield "[]" if empty else "\n ]"
        else:
            yield _indented(value, 1)
    yield "\n}\n"


def _indented(value: Any, levels: int) -> str:
    return json.dumps(value, allow_nan=False, indent=1).replace("\n", "\n" + " " * levels)
