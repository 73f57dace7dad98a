"""``OUT/unfinished.jsonl``: what a run of ``stagepose predict`` has done so far, for ``--resume`` whatever ended it.

The first line says what the run was begun with. After it comes a line for every photo and video that is done, and one
for every process that went on with the run. In memory is only where each line lies.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from stagepose.errors import ConfigError
from stagepose.files import held, temporary_name, whole_records, write_all, writing
from stagepose.lines import printable

NAME = "unfinished.jsonl"
KIND = "unfinished run of stagepose predict"
FORMAT = 1


@dataclass
class ResumeFile:
    """What is done: :meth:`add` keeps it on disk, so that a process that is killed loses a few photos.

    A photo or video goes by its name on the command line or below a folder; None is standard input.
    """

    path: Path
    _file: FileIO
    _end: int = 0  # of the last whole line
    _done: dict[str | None, tuple[int, int]] = field(default_factory=dict)  # where its line begins, and its length
    earlier: dict[str, tuple[int, int]] = field(default_factory=dict)  # the same of an earlier process; not taken over

    @classmethod
    def begin(cls, out: Path, settings: Mapping[str, Any]) -> ResumeFile:
        """Anew, in the place of an earlier one; :class:`ConfigError` where that one's run is still at work."""
        path = out / NAME
        with writing(printable(path)):
            cls._clear(path)
            head = _line({"what": KIND, "format": FORMAT, "process": os.getpid(), "settings": settings})
            temporary = temporary_name(path)
            try:
                temporary.write_bytes(head)
                temporary.replace(path)  # closed before, for Windows
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            journal = cls(path, FileIO(path, "r+"), len(head))
            try:
                journal._hold()
            except BaseException:
                journal.close()
                raise
        return journal

    @classmethod
    def _clear(cls, path: Path) -> None:
        """Before another takes its place: what an earlier run's processes were writing when they were killed goes."""
        try:
            former = cls(path, FileIO(path, "r+"))
        except FileNotFoundError:
            return
        try:
            former._hold()
            processes = [record["process"] for *_, record in former._lines() if isinstance(record.get("process"), int)]
        finally:
            former.close()  # before it is replaced, for Windows
        _remove_temporaries(path.parent, processes)

    @classmethod
    def go_on(cls, out: Path, settings: Mapping[str, Any]) -> ResumeFile | None:
        """That of an earlier process, None where there is none; :class:`ConfigError` says which settings differ."""
        path = out / NAME
        with writing(printable(path)):
            try:
                journal = cls(path, FileIO(path, "r+"))
            except FileNotFoundError:
                return None
            try:
                journal._hold()
                journal._read(json.loads(json.dumps(settings)))
                journal._append({"process": os.getpid()})
            except BaseException:
                journal.close()
                raise
        return journal

    def add(self, name: str | None, stamp: list[int] | None, record: Mapping[str, Any]) -> None:
        """A photo or video is done, with all its files; ``stamp`` is :func:`stamp_of` it before it was read."""
        with writing(printable(self.path)):
            self._done[name] = self._append({"file_name": name, "file": stamp, **record})

    def __getitem__(self, name: str | None) -> dict[str, Any] | None:
        """What :meth:`add` or :meth:`keep` was told of it."""
        return self._at(*self._done[name]) if name in self._done else None

    def candidate(self, name: str, path: Path) -> dict[str, Any] | None:
        """What an earlier process found in it, if the file is still the same by size and time."""
        if name not in self.earlier:
            return None
        record = self._at(*self.earlier[name])
        return record if record["file"] == stamp_of(path) else None

    def keep(self, name: str) -> None:
        """Take over what an earlier process found in it."""
        self._done[name] = self.earlier[name]

    def close(self) -> None:
        """A run that is not at its end leaves it there."""
        self._file.close()

    def finish(self) -> None:
        """The results are written: remove it, unless another run has begun one of its own meanwhile."""
        with suppress(OSError):
            if self.path.stat().st_ino == os.fstat(self._file.fileno()).st_ino:
                self.close()  # before, for Windows
                self.path.unlink()
        self.close()

    def _hold(self) -> None:
        if not held(self._file):
            raise ConfigError(f"{printable(self.path)}: its run is still in progress; wait for its end, or choose "
                              "another folder with --out")

    def _append(self, record: Mapping[str, Any]) -> tuple[int, int]:
        line = _line(record)
        place = self._end, len(line)
        self._file.seek(self._end)  # over what a full disk left of a line
        write_all(self._file, line)
        self._end += len(line)
        return place

    def _at(self, start: int, length: int) -> Any:
        with writing(printable(self.path)):
            self._file.seek(start)
            return json.loads(self._file.read(length))

    def _read(self, settings: Mapping[str, Any]) -> None:
        """All lines but one that was cut off, and what follows it."""
        lines = self._lines()
        head: dict[str, Any] = next(lines, (0, 0, {}))[2]
        if head.get("what") != KIND or head.get("format") != FORMAT:
            raise ConfigError(f"{printable(self.path)}: is not from this version of StagePose; leave --resume out "
                              "to start over, or choose another folder with --out")
        _refuse_others(self.path.parent, head["settings"], settings)
        owner: dict[str, str] = {}
        processes = [head["process"]]
        for start, length, record in lines:
            if "process" in record:
                processes.append(record["process"])
            elif record["file_name"] is not None:  # standard input is gone
                for written in _written(record):  # a later photo of the same overlay has written over it
                    if (former := owner.get(written, record["file_name"])) != record["file_name"]:
                        self.earlier.pop(former, None)
                    owner[written] = record["file_name"]
                self.earlier[record["file_name"]] = start, length
        self._file.truncate(self._end)
        _remove_temporaries(self.path.parent, processes)

    def _lines(self) -> Iterator[tuple[int, int, Any]]:
        for length, record in whole_records(self.path):
            start, self._end = self._end, self._end + length
            yield start, length, record


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n").encode("utf-8")


def stamp_of(path: Path) -> list[int] | None:
    """By which a file is the same as before: size and time of its last change; None where it cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return [found.st_size, found.st_mtime_ns]


def _written(record: Mapping[str, Any]) -> list[str]:
    """The names of the files in OUT that tell of a photo or video."""
    of = record.get("image") or record["video"]
    return [of[key].casefold() for key in ("overlay", "results") if key in of]


def _refuse_others(out: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = [f"{name} {_shown(begun.get(name))}, now {_shown(wanted.get(name))}"
                 for name in {**begun, **wanted} if begun.get(name) != wanted.get(name)]
    if differing:
        raise ConfigError(f"{printable(out)}: its unfinished run was started with {'; '.join(differing)}. Give the "
                          "same to continue it; leave --resume out to start over")


def _shown(value: Any) -> str:
    return {"None": "none", "True": "on", "False": "off"}.get(str(value), printable(value))


def _remove_temporaries(out: Path, processes: list[int]) -> None:
    """What those who were killed were writing at that moment."""
    for process in processes:
        for path in out.glob(f".*.{process}.tmp"):
            with suppress(OSError):
                path.unlink()
