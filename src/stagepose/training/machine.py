"""What a training runs on, and its faults in plain words. Nothing here changes which samples are shown."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagepose.errors import ConfigError, TrainingError
from stagepose.training import distributed

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
WORKER_DIED = re.compile(r"DataLoader worker \(pid")  # not: "Caught SomeError in DataLoader worker process 0"
OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|not enough memory"
                           r"|STATUS_ALLOC_FAILED", re.I)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """``workers`` processes read data ahead; ``compile`` lets torch.compile take the network (minutes, once)."""

    device: str = "cpu"
    workers: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"workers is {self.workers}, expected 0 or more processes")

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == "cuda"


def use_threads(count: int | None) -> int:
    """Let torch use so many CPU threads, all cores for None -> how many it uses."""
    if count is not None and count < 1:
        raise ConfigError(f"threads is {count}; use 1 or more, or leave it out for all cores")
    if count is not None:
        torch.set_num_threads(count)
    return torch.get_num_threads()


def tuned(model: nn.Module, machine: Machine) -> nn.Module:
    """The model on its device, in the memory layout that convolutions are fastest in."""
    if machine.cuda:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    else:
        keep_freed_memory()
    return model.to(machine.device).to(memory_format=torch.channels_last)


def keep_freed_memory() -> None:
    """Let the C library keep what a step has freed for the next one, where it can be told so (glibc).

    By default it hands large blocks back to the system at once and has them filled with zeros again when they are
    needed: 7 % of a step of lite0-u on a CPU. The largest step's memory stays with the process for it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def autocast(device: str, bf16: bool) -> torch.autocast:
    """bfloat16 where ``bf16`` asks for it and the device computes with it."""
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16 and bf16_supported(kind))


def bf16_supported(kind: str) -> bool:
    """Whether ``cpu`` or ``cuda`` computes with bfloat16 itself; where it must be imitated, float32 is faster."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mkldnn.is_available() and  # type: ignore[no-untyped-call]
                torch.ops.mkldnn._is_mkldnn_bf16_supported())


def later(values: Tensor) -> Callable[[], list[float]]:
    """Fetch a few numbers from the device without standing still; the result waits for them when it is called."""
    if not values.is_cuda:
        return values.tolist
    copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(values.device))  # which need not be the present device's

    def wait() -> list[float]:
        done.synchronize()
        return copy.tolist()

    return wait


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that gets the exit code when SIGTERM or Ctrl-C arrives; a second Ctrl-C exits at once.

    In a thread that is not the main one, which alone may be told of signals, they go on doing what they did.
    """
    stop: list[int] = []
    if not _may_handle_signals():
        yield stop
        return

    def note(number: int, _frame: object) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.append(128 + number)

    old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    except Exception as error:
        if stop and _of_compiling(error):  # a terminal's Ctrl-C reaches the compiler too, which dies of it
            raise SystemExit(stop[0]) from error
        raise
    finally:
        for number, handler in old.items():
            if handler is not None:  # it was not set from Python
                signal.signal(number, handler)


@contextmanager
def plain_errors(batch: int, accumulate: int, workers: int) -> Iterator[None]:
    """Turn what a device or a data worker dies of into a :class:`TrainingError` that says what to try."""
    try:
        yield
    except Exception as error:  # torch.OutOfMemoryError is a RuntimeError
        text = str(error)
        _end_workers()
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
                isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(text)):
            at_once = batch // accumulate // distributed.world()
            less = (f"try --batch {max(1, batch // 2)}, or keep the batch and show it in smaller parts with "
                    f"--accumulate {2 * accumulate}" if at_once > 1 else "use a smaller --input-size or network")
            raise TrainingError(f"out of memory with {at_once} pictures at once; {less}") from error
        if _of_compiling(error):
            raise TrainingError(f"torch.compile could not take the network ({text.strip().splitlines()[0]}); train it "
                                "as it is with --compile False") from error
        # a dead worker is noticed as such, or as a batch that it announced and can no longer hand over
        if WORKER_DIED.search(text) or (workers and isinstance(error, (ConnectionError, EOFError))):
            raise TrainingError(
                f"a data worker died ({text.splitlines()[0].rstrip('. ') if text else type(error).__name__}). Most "
                f"often the machine ran out of memory: use fewer --workers (now {workers}; 0 reads in this process). "
                "The same command goes on from the last checkpoint") from error
        raise


def _of_compiling(error: BaseException | None) -> bool:
    """Whether torch.compile made the error, or what it was turned into."""
    while error is not None:
        if type(error).__module__.startswith(("torch._dynamo.", "torch._inductor.")):
            return True
        error = error.__cause__
    return False


def _may_handle_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end_workers() -> None:
    """Kill the data workers: they ignore SIGTERM, so an exit would wait for them forever."""
    # torch raises in its handler, which would take this error's place
    noticed = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if _may_handle_signals() else None
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    if noticed is not None:  # it was set from Python, and here
        signal.signal(signal.SIGCHLD, noticed)


def cpu_seconds() -> float:
    """Processor seconds that this process has used, all threads together."""
    times = os.times()
    return times.user + times.system


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def minutes(self) -> float:
        """Since then."""
        return (time.monotonic() - self._start) / 60
