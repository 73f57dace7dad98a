"""Worker processes, a bounded queue in front of them, and a replacement for each that dies."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from stagepose.errors import StagePoseError
from stagepose.serving import wire
from stagepose.serving.refused import RefusedError, busy

COMMAND = (sys.executable, "-P", "-m", "stagepose.serving.worker")  # -P: never a module of the working folder
RESTART_AFTER = 1.0  # seconds, when a process could not even start
START_AT_LEAST = 60.0  # seconds that a process may take to start, once it is known that the models can be opened
START_SLOWER = 10.0  # times as long as the first: several may start at once, and others work meanwhile
MOMENT = 1.0  # seconds from the end of what a process says to its own

log = logging.getLogger(__name__)


class Pool:
    """``ask`` gives one picture to one process. At most ``queue`` requests wait for one.

    ``order`` are the arguments of :func:`stagepose.load`. A process that works longer than ``timeout`` seconds on a
    picture is killed: its request fails, as after a crash, another process is started, and requests in the queue keep
    waiting.
    """

    def __init__(self, order: Mapping[str, Any], *, workers: int, queue: int, timeout: float) -> None:
        self.order, self.workers, self.queue, self.timeout = order, workers, queue, timeout
        self.model: dict[str, Any] = {}
        self.ready = self.busy = self.waiting = 0
        self._patience: float | None = None  # seconds for a start; the first takes what it takes: somebody looks on
        self._idle: asyncio.Queue[Process] = asyncio.Queue()  # dead ones may be among them
        self._alive: set[Process] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Pool:
        """The first process shows whether the models load (:class:`StagePoseError`); the others follow."""
        began = time.monotonic()
        first = await self._start()
        self._patience = max(START_AT_LEAST, START_SLOWER * (time.monotonic() - began))
        for number in range(self.workers):
            self._spawn(self._keep(None if number else first))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in list(self._alive):
            await self._end(process)

    async def ask(self, head: Mapping[str, Any], body: bytes | bytearray) -> wire.Message:
        """The answer of a process; :class:`RefusedError` when there is none."""
        self.require_place()
        self.waiting += 1
        try:
            async with asyncio.timeout(self.timeout):
                process = await self._next()
        except TimeoutError as error:
            raise busy(f"no process was free for {self.timeout:g} seconds") from error
        finally:
            self.waiting -= 1
        # What was begun is read to its end, though nobody may want it any more: the next answer is behind it
        return await asyncio.shield(self._spawn(self._exchange(process, head, body)))

    def require_place(self) -> None:
        if self._idle.empty() and self.waiting >= self.queue:
            raise busy(f"its queue is full ({self.waiting} waiting, the most it takes)")

    async def _next(self) -> Process:
        while (process := await self._idle.get()).returncode is not None:
            pass
        return process

    async def _exchange(self, process: Process, head: Mapping[str, Any], body: bytes | bytearray) -> wire.Message:
        self.busy, healthy = self.busy + 1, False
        try:
            async with asyncio.timeout(self.timeout):
                answer = await _talk(process, head, body)
        except TimeoutError as error:
            raise RefusedError(504, f"image: it was not done after {self.timeout:g} seconds; send a smaller one"
                               ) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await _ended(process)
            raise RefusedError(503, "image: its worker process died, perhaps for lack of memory, and is replaced; send "
                                    "it again, or a smaller one", retry=True) from error
        else:
            healthy = True
            self._idle.put_nowait(process)
            return answer
        finally:
            self.busy -= 1
            if not healthy:  # dead, or what it says next would be the answer to another question
                _kill(process)

    async def _keep(self, process: Process | None) -> None:
        """One process after another, as they die."""
        while True:
            process = process or await self._started_at_last()
            self.ready += 1
            self._idle.put_nowait(process)
            code = await process.wait()
            self.ready -= 1
            await self._end(process)
            log.warning("a worker process ended with %d; another one is started", code)
            process = None

    async def _started_at_last(self) -> Process:
        while True:
            try:
                return await self._start()
            except (StagePoseError, OSError) as error:
                log.error("a worker process cannot start: %s", error)
                await asyncio.sleep(RESTART_AFTER)

    async def _start(self) -> Process:
        """A process that has opened its models; :class:`StagePoseError` says why it cannot, or not in time."""
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=PIPE, stdout=PIPE)
        self._alive.add(process)
        try:
            async with asyncio.timeout(self._patience):
                reply, _ = await _talk(process, self.order)
        except TimeoutError:
            reply = {"refusal": f"it has not opened its models within {self._patience:g} seconds, and is killed"}
        except (asyncio.IncompleteReadError, ConnectionError):
            await _ended(process)
            reply = {"refusal": "a worker process died while it started; what it has written above says why"}
        if "refusal" in reply:
            await self._end(process)
            raise StagePoseError(reply["refusal"])
        self.model = reply["model"]
        return process

    async def _end(self, process: Process) -> None:
        _kill(process)
        if process.stdin:
            process.stdin.close()
        await process.wait()
        self._alive.discard(process)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):  # it has ended
        process.kill()


async def _ended(process: Process) -> None:
    """Wait a moment for its exit code. To kill it before would fetch that, and asyncio would log 255 in its place."""
    with suppress(TimeoutError):
        async with asyncio.timeout(MOMENT):
            await process.wait()


async def _talk(process: Process, head: Mapping[str, Any], body: bytes | bytearray = b"") -> wire.Message:
    assert process.stdin and process.stdout
    await wire.send_to(process.stdin, head, body)
    return await wire.receive_from(process.stdout)
