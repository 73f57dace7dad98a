"""A test that waits in vain tells what the process said that it waited for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

SPEAKS = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]


def test_what_a_process_said_is_told_from_its_pipe_or_its_log(tmp_path: Path) -> None:
    with subprocess.Popen(SPEAKS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process, \
            pytest.raises(pytest.fail.Exception, match=r"this never comes .*the disk is full"):
        until(lambda: False, process)
    log = tmp_path / "log"
    with log.open("wb") as file, subprocess.Popen(SPEAKS, stdout=file, stderr=file) as process, \
            pytest.raises(pytest.fail.Exception, match="this never comes the disk is full"):
        until(lambda: False, process, log)
