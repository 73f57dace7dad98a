"""Processes that make pictures: what goes wrong in one is told as it is, and none outlives its parent's wish."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stagepose.errors import DatasetError, StagePoseError
from stagepose.making import in_processes

_home = Path()  # of this process


def start(home: Path) -> None:
    global _home
    if home.name == "nowhere":
        raise DatasetError(f"{home}: nobody in it can be cut out")
    _home = home


def work(job: int) -> None:
    if job == 13:
        raise DatasetError("picture 13: cut short")
    if job == 99:
        os._exit(9)  # as the kernel ends who takes too much memory
    (_home / str(job)).write_text("done")


def run(home: Path, *jobs: int) -> list[int]:
    return sorted(in_processes(work, jobs, processes=2, start=start, order=home))


def test_jobs_are_done_in_other_processes(tmp_path: Path) -> None:
    assert run(tmp_path, *range(5)) == [0, 1, 2, 3, 4]
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1", "2", "3", "4"} and Path() == _home
    assert run(tmp_path) == []


def test_what_a_start_or_a_job_raises_is_raised(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match="nowhere: nobody in it can be cut out"):
        run(tmp_path / "nowhere", 1, 2, 3)
    with pytest.raises(DatasetError, match="picture 13: cut short"):
        run(tmp_path, 13)
    assert capfd.readouterr().err == ""  # the one line is the command's to write


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(StagePoseError, match=r"died, perhaps for want of memory.*fewer --jobs"):
        run(tmp_path, 99)
