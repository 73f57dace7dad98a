"""A run folder while a training holds it: locked, its settings compared, its log and its judgements written.

``config.json, log.jsonl, lock, budget.json, judged.json, best.json, best_results.json`` beside the steps, of which
checkpoint.py tells.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from stagepose import files
from stagepose.errors import CheckpointError, ConfigError
from stagepose.evaluation.kept import KEPT, Judged
from stagepose.runfiles import BEST, BUDGET, CONFIG, JUDGED, STEP, read_object, read_optional
from stagepose.training import distributed
from stagepose.training.checkpoint import (
    PARTIAL,
    Checkpoint,
    Tensors,
    newest_checkpoint,
    read_number,
    save_step,
    step_folders,
)

FREE = ("train.patience",)  # settings that may be others each time a run goes on: they change no step of it
KEEP = 2  # newest steps that stay; the best one stays besides


class Best(NamedTuple):
    """The step whose validation had the highest AP."""

    step: int
    ap: float


class RunFolder(ABC):
    """A run folder as every rank of a training has it: all ask, but the first alone reads and writes."""

    writes: bool

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def append_log(self, record: Mapping[str, Any]) -> None:
        """One JSON line in one write. A resume repeats the lines of the steps since its checkpoint."""

    @abstractmethod
    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        """Write the folder of ``step`` whole or not at all, then thin out older ones."""

    @abstractmethod
    def judged(self, step: int, judged: Judged) -> None:
        """Note a saved step's validation; ``best.json`` names the step of the highest ``ap`` so far, if any has one.

        Its keypoint results are kept, where the numbers are of some.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the lock back."""

    def best(self) -> Best | None:
        """The best validation so far; None before any that had an ``ap``."""
        return distributed.from_first(self._read_best)

    def _read_best(self) -> Best | None:
        path = self.folder / BEST
        return Best(int(read_number(path, "step")), read_number(path, "ap")) if path.is_file() else None

    def is_judged(self, step: int) -> bool:
        """Whether ``step`` was the last one noted by :meth:`judged`."""
        return distributed.from_first(lambda: read_optional(self.folder / JUDGED).get("step") == step)

    def newest(self) -> Checkpoint | None:
        """The newest step that is whole; a damaged one is named in a warning and passed over.

        Raises :class:`CheckpointError` when there are steps but none is whole.
        """
        return distributed.from_first(lambda: newest_checkpoint(self.folder))


class Run(RunFolder):
    """A run folder held by this process: a lock keeps a second training out."""

    writes = True

    def __init__(self, folder: str | Path, config: Mapping[str, Any], accept_changes: bool = False) -> None:
        """Create or reopen; a changed ``config`` is refused with the names of the differing fields.

        With ``accept_changes``, or while nothing is saved, it is taken over, and the log says so. Settings that the
        folder does not know, because an older version wrote it, are new, not changed.
        """
        super().__init__(folder)
        try:
            (self.folder / "steps").mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (self.folder / "lock").open("a")
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot write the run folder: {error.strerror}") from error
        try:
            self._hold()
            for leftover in self.folder.glob(f"steps/{STEP}{PARTIAL}"):
                shutil.rmtree(leftover)
            self._check_config(config, accept_changes)
        except BaseException:
            self.close()
            raise

    def _hold(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CheckpointError(f"{self.folder}: another training runs in this folder; wait for it or use another "
                                  "folder") from error
        except OSError as error:  # of file systems without locks
            raise CheckpointError(f"{self.folder}: cannot lock the run folder: {error.strerror}; choose a folder on "
                                  "another disk") from error

    def _check_config(self, config: Mapping[str, Any], accept_changes: bool) -> None:
        path = self.folder / CONFIG
        plain = json.loads(json.dumps(config))
        old = read_object(path) if path.is_file() else None
        changes = differences(old, plain) if old is not None else []
        if changes and not any(self.folder.rglob("*.safetensors")):
            self.append_log({"changed before anything was saved": changes})
            (self.folder / BUDGET).unlink(missing_ok=True)  # of other settings
        elif changes and not accept_changes:
            raise ConfigError(f"{self.folder}: the settings differ from those this run began with "
                              f"({'; '.join(changes)}); use the old settings, a new folder, or go on all the same with "
                              "--accept-changes")
        elif changes:
            self.append_log({"accepted changes": changes})
            if old is not None and old.get("val") != plain.get("val"):  # other numbers, which are not to be compared
                for name in (BEST, KEPT, JUDGED):
                    (self.folder / name).unlink(missing_ok=True)
        if old != plain:
            files.write_json(path, plain)

    def append_log(self, record: Mapping[str, Any]) -> None:
        plain = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        try:
            handle = os.open(self.folder / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(handle, (json.dumps(plain, allow_nan=False) + "\n").encode())
            finally:
                os.close(handle)
        except OSError as error:
            raise self._lost(error) from error

    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        try:
            save_step(self.folder, step, parts, state)
        except OSError as error:
            raise self._lost(error) from error
        best = self.folder / BEST
        kept = read_number(best, "step") if best.is_file() else None
        for number, old in list(step_folders(self.folder).items())[:-KEEP]:
            if number != kept:
                shutil.rmtree(old)

    def judged(self, step: int, judged: Judged) -> None:
        record = {"step": step, **judged.numbers}
        best = self.folder / BEST
        if "ap" in record and (not best.is_file() or record["ap"] > read_number(best, "ap")):
            if judged.results is not None:  # first: stopped between the two, the step is judged again
                judged.results.write(self.folder / KEPT, step)
            files.write_json(best, record)
        files.write_json(self.folder / JUDGED, record)

    def _lost(self, error: OSError) -> CheckpointError:
        return CheckpointError(f"{self.folder}: cannot write to the run folder any more: {error.strerror}; older "
                               "checkpoints are untouched where the folder still is")

    def close(self) -> None:
        self._lock.close()


class Bystander(RunFolder):
    """The run folder for every rank but the first: never touched."""

    writes = False

    def append_log(self, record: Mapping[str, Any]) -> None:
        """Nothing, as all that would write."""

    def save(self, step: int, parts: Mapping[str, Tensors], state: Mapping[str, Any]) -> None:
        """Nothing."""

    def judged(self, step: int, judged: Judged) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing: the lock is the first rank's."""


def open_run(folder: str | Path, config: Mapping[str, Any], accept_changes: bool = False) -> RunFolder:
    """The run folder, held by the first rank; the others end where it cannot be."""
    held: list[Run] = []

    def hold() -> None:
        held.append(Run(folder, config, accept_changes))

    distributed.from_first(hold)
    return held[0] if held else Bystander(folder)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``field.sub: old -> new`` for every value that changed or is gone; fields only in ``new`` are none.

    Nor are those that are :data:`FREE`. The values of a list of as many are compared one by one.
    """
    found = []
    for key, value in old.items():
        name = f"{prefix}{key}"
        if key not in new:
            found.append(f"{name}: {value!r} -> nothing")
        elif isinstance(value, dict) and isinstance(new[key], dict):
            found += differences(value, new[key], name + ".")
        elif _are_as_many(value, new[key]):
            for number, (before, now) in enumerate(zip(value, new[key], strict=True), 1):
                found += differences(before, now, f"{name} {number}.")
        elif value != new[key] and name not in FREE:
            found.append(f"{name}: {value!r} -> {new[key]!r}")
    return sorted(found)


def _are_as_many(old: Any, new: Any) -> bool:
    """Whether both are lists of as many dicts: what is known of each training set."""
    return (isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
            and all(isinstance(each, dict) for each in (*old, *new)))


def require_folder(folder: str | Path) -> None:
    """Before long work: :class:`CheckpointError` where no run folder can be."""
    folder = Path(folder)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise CheckpointError(f"{folder}: cannot be a run folder: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise CheckpointError(f"{folder}: cannot be a run folder: {there} may not be written to; choose another folder")
