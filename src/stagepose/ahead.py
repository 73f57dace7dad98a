"""Work that threads do ahead of whoever uses its results: in order, and no farther ahead than memory allows.

Or, of what does not wait for its user, such as a camera's frames, the newest alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Job = TypeVar("Job")
Made = TypeVar("Made")
Item = TypeVar("Item")


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


def newest(items: Iterable[Item]) -> Iterator[Item]:
    """Items, such as a camera's frames, that a thread takes as they come: each time the newest, never one twice.

    Those before it are passed over, so that a slow user does not fall behind; the last of all is not. What ``items``
    raises is raised after it. ``items`` are asked on until one comes after the user has gone.
    """
    ready, waiting = threading.Condition(), deque[Item](maxlen=1)
    ended: list[BaseException | None] = []  # with what ``items`` raised, or None
    gone = threading.Event()

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                with ready:
                    waiting.append(item)
                    ready.notify()
                if gone.is_set():
                    break
        except BaseException as raised:  # raised again where the items are asked for
            error = raised
        with ready:
            ended.append(error)
            ready.notify()

    threading.Thread(target=read, name="stagepose.newest", daemon=True).start()
    try:
        while True:
            with ready:
                ready.wait_for(lambda: waiting or ended)
                if not waiting:
                    break
                item = waiting.popleft()
            yield item
        if ended[0] is not None:
            raise ended[0]
    finally:
        gone.set()
