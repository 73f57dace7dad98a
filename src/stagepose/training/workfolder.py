"""A folder while it is made: under another name, held by a lock, and given its own name when it is whole.

Who is killed leaves what is done, and the next process that wants the folder goes on there; one that wants it meanwhile
waits.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from stagepose import files

log = logging.getLogger(__name__)

PARTIAL, LOCK = ".partial", "lock"
TOLD_EVERY = 1000  # pictures

Progress = Callable[[int, int], None]  # pictures (done, all)


def lock_of(working: Path, whole: Path) -> IO[str] | None:
    """The working folder's lock, held; None where another process has finished its work meanwhile.

    ``whole`` is a file that only the finished folder has. Raises :class:`OSError` where the folder cannot be written.
    """
    while not whole.is_file():
        try:
            working.mkdir(parents=True, exist_ok=True)
            lock = (working / LOCK).open("a")
            _wait(lock, whole.parent)
        except FileNotFoundError:  # the folder got its final name between these lines
            continue
        if _is_open_as(lock, working / LOCK):  # and not renamed or removed by the one that was waited for
            if not whole.is_file():
                return lock
            shutil.rmtree(working)
        lock.close()
    return None


def _wait(lock: IO[str], home: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process makes this folder; waiting for it", home)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_open_as(lock: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


def mention_leftovers(folders: Iterable[Path], what: str) -> None:
    """A warning for each unfinished folder that nobody works in: it might still be wanted."""
    for folder in folders:
        with suppress(OSError):  # it may get its final name while it is looked at
            with (folder / LOCK).open() as lock:
                left = files.held(lock)
            megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
            if left:
                log.warning("%s: %s, %.0f MB; delete it if nobody wants to finish it", folder, what, megabytes)


def told(report: Callable[[str], None], doing: str) -> Progress:
    """What says, every thousand pictures, how far it is: ``doing`` 3000 of 9000 pictures."""

    def progress(done: int, total: int) -> None:
        if done == total or done % TOLD_EVERY == 0:
            report(f"{doing} {done} of {total} pictures")

    return progress
