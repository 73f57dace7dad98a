"""Processes that make pictures: what goes wrong in one is told as it is, and none outlives its parent's wish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from waiting import LONGEST, until

from stagepose.errors import DatasetError, StagePoseError
from stagepose.making import in_processes


def opened(home: Path) -> Callable[[int], None]:
    if home.name == "nowhere":
        raise DatasetError(f"{home}: nobody in it can be cut out")

    def work(job: int) -> None:
        if job == 13:
            raise DatasetError("picture 13: cut short")
        if job == 99:
            os._exit(9)  # as the kernel ends who takes too much memory
        (home / str(job)).write_text("done")

    return work


def idle(home: Path) -> Callable[[int], None]:
    def dawdle(job: int) -> None:
        (home / str(job)).write_text("begun")
        time.sleep(10 * LONGEST)

    return dawdle


def dawdle_all(home: Path) -> None:
    """``home/waiting`` says when a Ctrl-C has come to where the jobs are waited for."""
    shutdown = ProcessPoolExecutor.shutdown

    def told(self: ProcessPoolExecutor, **how: bool) -> None:
        (home / "waiting").touch()
        shutdown(self, **how)

    ProcessPoolExecutor.shutdown = told  # type: ignore[method-assign]
    list(in_processes(idle, home, range(9), processes=2))


def run(home: Path, *jobs: int) -> list[int]:
    return sorted(in_processes(opened, home, jobs, processes=2))


def test_jobs_are_done_in_other_processes(tmp_path: Path) -> None:
    assert run(tmp_path, *range(5)) == [0, 1, 2, 3, 4]
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1", "2", "3", "4"}
    assert run(tmp_path) == []


def test_what_a_start_or_a_job_raises_is_raised(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match="nowhere: nobody in it can be cut out"):
        run(tmp_path / "nowhere", 1, 2, 3)
    with pytest.raises(DatasetError, match="picture 13: cut short"):
        run(tmp_path, 13)
    assert capfd.readouterr().err == ""  # the one line is the command's to write


def test_after_a_fault_nothing_more_is_begun(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="picture 13"):
        list(in_processes(opened, tmp_path, [13, *range(5)], processes=1))
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(StagePoseError, match=r"died, perhaps for want of memory.*fewer --jobs"):
        run(tmp_path, 99)


def test_a_second_ctrl_c_waits_for_nobody(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; import test_processes; test_processes.dawdle_all(Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment, stderr=subprocess.PIPE)
    try:
        until(lambda: len(list(tmp_path.iterdir())) == 2, process)
        process.send_signal(signal.SIGINT)
        until((tmp_path / "waiting").exists, process)  # two at a time would be one
        time.sleep(0.3)
        assert process.poll() is None  # the first one waits for what is in the making
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LONGEST)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT and b"KeyboardInterrupt" in said
