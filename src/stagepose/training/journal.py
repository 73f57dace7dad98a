"""What a run says while it trains: JSON lines always, TensorBoard where it is installed, one line for people."""

from __future__ import annotations

import importlib.util
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagepose.images import write_image
from stagepose.training.machine import Machine, cpu_seconds
from stagepose.training.runfolder import RunFolder

log = logging.getLogger(__name__)


class Journal:
    """The log of a run that shows ``total`` samples; closes with the run. Other ranks than the first keep none."""

    def __init__(self, run: RunFolder, *, step: int, shown: int, batch: int, total: int, machine: Machine) -> None:
        self.run, self.batch, self.machine = run, batch, machine
        self.total = shown + -(-max(total - shown, 0) // batch) * batch  # in whole steps
        self._step, self._time, self._waited, self._cpu = step, time.perf_counter(), 0.0, cpu_seconds()
        self._board = _tensorboard(run, step) if run.writes else None
        self._bar = _Bar(self.total, shown) if run.writes and sys.stderr.isatty() else None

    def step(self, step: int, shown: int, losses: Mapping[str, float], *, lr: float, norm: float,
             waited: float) -> None:
        """The training's state every few steps, ``shown`` samples in; no data was ready for ``waited`` seconds."""
        now, cpu = time.perf_counter(), cpu_seconds()
        passed = max(now - self._time, 1e-9)
        rate = (step - self._step) * self.batch / passed
        left = (self.total - shown) / max(rate, 1e-9) / 60
        self.record({
            "step": step, "samples": shown, "of": self.total, "samples_per_second": round(rate, 1),
            "minutes_left": round(left, 1), "lr": lr, "gradient_norm": round(norm, 3),
            "waiting_for_data": round((waited - self._waited) / passed, 4),
            **_utilisation(self.machine, (cpu - self._cpu) / passed),
            **{name: round(value, 5) for name, value in losses.items()}})
        self._step, self._time, self._waited, self._cpu = step, now, waited, cpu
        said = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        if self._bar is not None:
            self._bar.show(shown, f"{rate:.0f} a second, {said}")
        elif self.run.writes:
            log.info("step %d, %d of %d samples, %.1f a second, %s, %.0f min left", step, shown, self.total,
                     rate, said, left)

    def record(self, record: Mapping[str, Any]) -> None:
        """One JSON line; its numbers become TensorBoard's curves."""
        self.run.append_log(record)
        if self._board is not None:
            for name, value in record.items():
                if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                    self._board.add_scalar(name, value, record["step"])

    def picture(self, step: int, name: str, pixels_HW3: NDArray[np.uint8]) -> None:
        """``pictures/STEP-NAME.png`` in the run folder, and TensorBoard's."""
        if self.run.writes:
            folder = self.run.folder / "pictures"
            folder.mkdir(exist_ok=True)
            write_image(folder / f"{step:09d}-{name}.png", pixels_HW3)
        if self._board is not None:
            self._board.add_image(name, pixels_HW3, step, dataformats="HWC")

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """What happens in here, such as a validation, takes no time of the training's."""
        begun, cpu = time.perf_counter(), cpu_seconds()
        yield
        self._time += time.perf_counter() - begun
        self._cpu += cpu_seconds() - cpu

    def close(self) -> None:
        """Write out what TensorBoard still holds, and leave the terminal's line as it is."""
        if self._board is not None:
            self._board.close()
        if self._bar is not None:
            self._bar.close()


class _Bar:
    """One line on a terminal: how far, how fast, how long still. What is logged meanwhile appears above it."""

    def __init__(self, total: int, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
                                  TimeRemainingColumn(), TextColumn("left"), console=Console(stderr=True))
        self._task = self._progress.add_task("", total=total, completed=done)
        loggers = [handler for handler in logging.getLogger().handlers
                   if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr]
        self._progress.start()  # from here on sys.stderr makes room for what is written to it
        self._before = [(handler, handler.setStream(sys.stderr)) for handler in loggers]

    def show(self, done: int, text: str) -> None:
        self._progress.update(self._task, completed=done, description=text)

    def close(self) -> None:
        self._progress.stop()
        for handler, stream in self._before:
            handler.setStream(stream)


def _utilisation(machine: Machine, processors: float) -> dict[str, float]:
    """How busy the device is, in [0, 1]: of a GPU as its driver says, of a CPU the share of torch's threads."""
    if not machine.cuda:
        return {"utilisation": round(min(1.0, processors / torch.get_num_threads()), 3)}
    used = {"memory_gb": round(torch.cuda.max_memory_allocated(machine.device) / 1e9, 2)}
    if importlib.util.find_spec("pynvml") is not None:
        with suppress(Exception):  # whatever the driver says: no training ends for want of a statistic
            used["utilisation"] = torch.cuda.utilization(machine.device) / 100
    return used


def _tensorboard(run: RunFolder, step: int) -> Any:
    """A writer below the run folder that hides what a resume will say again; None where it is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=step + 1)


def numbers(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """Plain numbers of named losses; waits for the device."""
    return {name: float(value.detach()) for name, value in losses.items()}
