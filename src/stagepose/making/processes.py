"""Work on all cores: processes of one thread each, which end with the one that started them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import cv2

from stagepose.errors import StagePoseError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one each: the processes share the cores

Job = TypeVar("Job")
Order = TypeVar("Order")


def in_processes(workshop: Callable[[Order], Callable[[Job], None]], order: Order, jobs: Sequence[Job], *,
                 processes: int) -> Iterator[Job]:
    """The jobs as they are done. Each process calls ``workshop(order)``, a module's own, once, and what it returns

    with every job that comes to it. What either raises is raised here. A process leaves Ctrl-C to its parent, which
    tells it, and ends with that, even when it is killed.
    """
    if not jobs:
        return
    others = active_children()
    with _single_threads():
        pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn"), initializer=_begin,
                                   initargs=(workshop, order))
        try:
            left = iter(jobs)  # one each: what waits in the pool's own queue is done even after Ctrl-C
            waiting: dict[Future[None], Job] = {pool.submit(_do, job): job for job in islice(left, processes)}
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    job = waiting.pop(future)
                    future.result()
                    waiting |= {pool.submit(_do, another): another for another in islice(left, 1)}
                    yield job
        except BrokenProcessPool as error:
            raise StagePoseError("a process that makes pictures died, perhaps for want of memory; what is done is "
                                 "kept: run the same command again, with fewer --jobs") from error
        finally:
            _shut_down(pool, others)


def _shut_down(pool: ProcessPoolExecutor, others: Sequence[BaseProcess]) -> None:
    """Wait for what is in the making; a second Ctrl-C does not, and what was half made is made again another time."""
    try:
        pool.shutdown(wait=True, cancel_futures=True)
    except KeyboardInterrupt:
        for process in active_children():
            if process not in others:
                process.kill()
        raise


@contextmanager
def _single_threads() -> Iterator[None]:
    """Processes started here compute on one thread: sums then have one order, on any number of cores."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_work: Callable[[Any], None] | None = None  # of this process, set once
_failed: Exception | None = None  # why this process could not start


def _begin(workshop: Callable[[Order], Callable[[Job], None]], order: Order) -> None:
    """The pool would only say that a process died, not why: what ``workshop`` raises waits for the first job."""
    global _work, _failed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    try:
        _work = workshop(order)
    except Exception as error:
        _failed = error


def _do(job: Job) -> None:
    if _failed is not None:
        raise _failed
    assert _work is not None
    _work(job)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
