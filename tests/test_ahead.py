"""Work done ahead: its results come in order, and no more of them than wanted wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from stagepose.ahead import in_order, newest

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


class Camera:
    """Gives numbers when told to, and says when it is asked for the next: then the one before is waiting."""

    def __init__(self) -> None:
        self.given, self.asked = threading.Semaphore(0), threading.Semaphore(0)

    def __iter__(self) -> Iterator[int]:
        for number in range(100):
            self.asked.release()
            assert self.given.acquire(timeout=PATIENCE)
            yield number

    def give(self, count: int) -> None:
        """Until all of them have been taken."""
        for _ in range(count):
            self.given.release()
            assert self.asked.acquire(timeout=PATIENCE)


def test_a_slow_user_gets_the_newest_and_never_one_twice() -> None:
    camera = Camera()
    frames = newest(camera)
    camera.given.release()
    first = next(frames)
    for _ in range(2):  # for the first, and for the one after it
        assert camera.asked.acquire(timeout=PATIENCE)
    camera.give(5)
    assert (first, next(frames)) == (0, 5)
    camera.give(1)
    assert next(frames) == 6
    frames.close()
    camera.given.release()


def test_the_last_is_never_passed_over_and_errors_come_after_it() -> None:
    def broken() -> Iterator[int]:
        yield from range(1000)
        raise OSError("unplugged")

    assert list(newest(range(1000)))[-1] == 999 and list(newest([])) == []
    seen = []
    with pytest.raises(OSError, match="unplugged"):
        for number in newest(broken()):
            seen.append(number)
    assert seen[-1] == 999 and seen == sorted(set(seen))


def test_who_stops_looking_leaves_no_thread() -> None:
    frames = newest(iter(int, 1))  # without end
    assert next(frames) == 0
    frames.close()
    for thread in threading.enumerate():
        if thread.name == "stagepose.newest":
            thread.join(PATIENCE)
            assert not thread.is_alive()
