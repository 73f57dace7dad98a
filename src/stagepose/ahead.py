"""Work that threads do ahead of whoever uses its results: in order, and no farther ahead than memory allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Job = TypeVar("Job")
Made = TypeVar("Made")


def in_order(pool: Executor, function: Callable[[Job], Made], jobs: Iterable[Job], ahead: int) -> Iterator[Made]:
    """``pool.map`` that keeps at most ``ahead`` results waiting, where making them is quicker than their use.

    What ``function`` raises is raised when its result's turn comes.
    """
    waiting: deque[Future[Made]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(function, job))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
