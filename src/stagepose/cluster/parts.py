"""The folder of a run: ``run.json``, the models, and ``parts/*.parquet`` with a row a picture.

The parts are all there is to know of what is done: a picture is in one of them, or has not been looked at. A part is
named after its pictures and written whole or not at all, so that a process that is killed, and another that does the
same work again, leave one row a picture. Processes of an earlier run that are still at work when another goes on
cannot name a part any more: their word is no longer the one in ``at_work``.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from stagepose.claims import claim
from stagepose.errors import ConfigError, DatasetError
from stagepose.files import held, write_bytes, write_text, writing
from stagepose.lines import printable

NOTE, FOLDER, WORD = "run.json", "parts", "at_work"
IMAGE = "image"  # the column of addresses
READERS = 16  # parts that are read at once


@contextmanager
def taken(out: Path, identity: Mapping[str, Any]) -> Iterator[str]:
    """The folder for this run alone, begun with ``identity`` -> the word that its processes must know."""
    claim(out, NOTE, identity, "stagepose cluster")
    with (out / NOTE).open("r+") as file:
        if not held(file) or not os.path.samestat(os.fstat(file.fileno()), (out / NOTE).stat()):
            raise ConfigError(f"{printable(out)}: another run is at work there; wait for its end, or choose "
                              "another folder")
        word = uuid.uuid4().hex
        write_text(out / WORD, word)
        (out / FOLDER).mkdir(exist_ok=True)
        for path in (out / FOLDER).glob(".*.tmp"):  # what other processes were or are writing
            with suppress(OSError):
                path.unlink()
        yield word


def write_part(out: Path, table: pa.Table, word: str) -> None:
    """The rows of a part, in their order; :class:`ConfigError` where another run has taken the folder meanwhile.

    Whoever takes it changes the word, then removes what has no name yet, then looks at what is done. So the word is
    asked for between writing and naming: a part that gets its name has it before they look.
    """
    addresses = "\n".join(table.column(IMAGE).to_pylist())
    path = out / FOLDER / f"people-{hashlib.sha256(addresses.encode()).hexdigest()[:16]}.parquet"
    unnamed = out / FOLDER / f".{uuid.uuid4().hex}.tmp"
    _write(unnamed, table)
    with writing(printable(path)):
        if (out / WORD).read_text() == word:
            with suppress(FileNotFoundError):  # removed since
                unnamed.replace(path)
                return
        unnamed.unlink(missing_ok=True)
    raise ConfigError(f"{printable(out)}: another run has taken the folder; this one ends")


def done(out: Path, wanted: Set[str], again: bool) -> dict[str, bool]:
    """Those of the ``wanted`` addresses that have a row, and whether it is free of errors.

    With ``again`` those with an error lose their row, so that they are looked at once more.
    """
    finished: dict[str, bool] = {}
    paths = sorted((out / FOLDER).glob("*.parquet"))
    with ThreadPoolExecutor(READERS) as readers:
        for path, rows in zip(paths, readers.map(lambda path: _read(path, [IMAGE, "error"]), paths), strict=True):
            ours = pa.array([image in wanted for image in rows.column(IMAGE).to_pylist()], pa.bool_())
            good = pc.is_null(rows.column("error"))
            lost = pc.and_(ours, pc.invert(good)) if again else pa.scalar(False)
            if pc.any(lost).as_py():
                _replace(path, _read(path).filter(pc.invert(lost)))
                ours = pc.and_(ours, good)
            finished.update(zip(rows.filter(ours).column(IMAGE).to_pylist(), good.filter(ours).to_pylist(),
                                strict=True))
    return finished


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
        raise DatasetError(f"{printable(path)}: is damaged, or no part of this run; remove it, and its pictures "
                           "are looked at again") from error
