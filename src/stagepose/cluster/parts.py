"""The folder of a run: ``run.json``, and ``parts/*.parquet`` with a row a picture.

The parts are all there is to know of what is done: a picture is in one of them, or has not been looked at. A part is
named after its pictures and written whole or not at all, so that a process that is killed, and another that does the
same work again, leave one row a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from stagepose.errors import DatasetError
from stagepose.files import write_bytes
from stagepose.images import printable

FOLDER = "parts"
IMAGE = "image"  # the column of addresses


def write_part(out: Path, table: pa.Table) -> None:
    """The rows of a part, in their order."""
    addresses = "\n".join(table.column(IMAGE).to_pylist())
    name = f"people-{hashlib.sha256(addresses.encode()).hexdigest()[:16]}.parquet"
    _write(out / FOLDER / name, table)


def done(out: Path, again: bool) -> tuple[set[str], int]:
    """(addresses that have a row, how many of them say an error).

    With ``again`` those with an error lose their row, so that they are looked at once more.
    """
    finished, failed = set[str](), 0
    for path in _parts(out):
        errors = _read(path, [IMAGE, "error"])
        bad = pc.is_valid(errors.column("error"))
        if again and pc.any(bad).as_py():
            _replace(path, _read(path).filter(pc.invert(bad)))
            errors = errors.filter(pc.invert(bad))
        finished.update(errors.column(IMAGE).to_pylist())
        failed += len(errors) - errors.column("error").null_count
    return finished, failed


def remove_leftovers(out: Path) -> None:
    """What processes that were killed were writing; only while no other process may write here."""
    for path in (out / FOLDER).glob(".*.tmp"):
        with suppress(OSError):
            path.unlink()


def _parts(out: Path) -> Iterator[Path]:
    yield from sorted((out / FOLDER).glob("*.parquet"))


def _replace(path: Path, rows: pa.Table) -> None:
    if len(rows):
        _write(path, rows)
    else:
        path.unlink()


def _write(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    write_bytes(path, sink.getvalue().to_pybytes())


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return parquet.read_table(path, columns=columns, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{printable(str(path))}: is damaged, or no part of this run; remove it, and its pictures "
                           "are looked at again") from error
