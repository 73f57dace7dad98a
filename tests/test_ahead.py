"""Work done ahead: its results come in order, and no more of them than wanted wait."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from stagepose.ahead import in_order

PATIENCE = 30  # seconds; only where the code is wrong does anybody wait so long


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_results_come_in_the_order_of_the_jobs(pool: ThreadPoolExecutor) -> None:
    second_is_made = Event()

    def made(job: int) -> int:
        if job == 0:
            assert second_is_made.wait(PATIENCE)  # so it is made first
        if job == 1:
            second_is_made.set()
        return job

    assert list(in_order(pool, made, range(5), 2)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_jobs_are_asked_for_as_far_ahead_as_wanted(pool: ThreadPoolExecutor, ahead: int) -> None:
    asked: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(9):
            asked.append(job)
            yield job

    for done, _ in enumerate(in_order(pool, str, jobs(), ahead)):
        assert len(asked) == min(done + ahead, 9)


def test_an_error_is_raised_when_its_turn_comes_and_what_waits_is_given_up() -> None:
    started, done = Event(), []

    def made(job: int) -> int:
        done.append(job)
        if job == 1:
            raise ValueError("one")
        if job == 2:
            started.wait(PATIENCE)
        return job

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, made, range(9), 4)
        assert next(results) == 0
        with pytest.raises(ValueError, match="one"):
            next(results)
        started.set()
    assert not {3, 4} & set(done)
