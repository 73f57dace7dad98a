"""Waiting for what another process does: for as long as it takes, but not for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LONGEST = 120  # seconds until a test says that something hangs
PAUSE = 0.002  # seconds from one look to the next: some moments are short


def until(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None,
          log: Path | None = None) -> None:
    """Until ``condition`` is true; it fails with what a ``process`` said that should have brought it about.

    One whose children hold its output open, so that no pipe ends with it, speaks into a file: ``log``.
    """
    deadline = time.monotonic() + LONGEST
    while not (met := condition()) and time.monotonic() < deadline and (process is None or process.poll() is None):
        time.sleep(PAUSE)
    if met or condition():  # as the process may have left it at its end
        return
    said: object = ""
    if process is not None:
        process.kill()
        said = process.communicate(timeout=LONGEST)
        said = said if log is None else log.read_text(errors="replace")
    pytest.fail(f"this never comes {said}")
