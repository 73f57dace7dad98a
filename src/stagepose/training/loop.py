"""The training loop: one loop for pose networks and detectors alike, whole on one screen.

A :class:`Task` knows its data, its loss and how it is judged; the loop knows steps, schedules and checkpoints.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose import files
from stagepose.errors import ConfigError, TrainingError
from stagepose.training import checkpoint
from stagepose.training.optim import Buffers, Ema, adamw, lr_factor, set_lr
from stagepose.training.randomness import SampleKey

log = logging.getLogger(__name__)

TRIAL_STEPS = 6  # timed to turn minutes into samples; the first pays for warming up

class Task(Protocol):
    """What is trained: data in, losses out, and a validation through the predictor that users get."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def samples_per_epoch(self) -> int: ...

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of the data in the order of one epoch."""

    def batch(self, samples: Sequence[SampleKey]) -> Any:
        """Samples named (epoch, position); the same keys give the same batch on any machine."""

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Named losses; their sum is what is learnt."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Validation numbers, ``ap`` chooses the best step; empty without a validation set."""

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON; a resume compares it."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The schedule. ``samples`` counts pictures shown; exactly one of ``samples`` and ``minutes`` is set."""

    batch: int = 32
    samples: int = 0
    minutes: float = 0.0
    warmup: int = 2_000
    lr: float = 2e-3
    trunk_lr: float = 1.0
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    clip: float = 5.0
    log_every: int = 20  # steps
    save_every: int = 300  # steps
    evaluate_every: int = 0  # steps; 0 only at the end
    bf16: bool = True
    max_bad_steps: int = 10  # NaN or infinite losses in a row before the run stops
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.samples > 0) == (self.minutes > 0):
            raise ConfigError(f"give either samples or minutes, got samples {self.samples}, minutes {self.minutes}")
        for name in ("batch", "log_every", "save_every", "lr", "clip", "max_bad_steps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a finite number above 0")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more")


def train(task: Task, config: TrainConfig, out: str | Path, *, device: str = "cpu") -> nn.Module:
    """Train to the end of the schedule, resuming what ``out`` holds; -> the averaged model.

    SIGTERM and Ctrl-C save and raise :class:`SystemExit` with 143 or 130.
    """
    model = task.model.to(device).to(memory_format=torch.channels_last)
    ema = Ema(model, config.ema_decay)
    optimizer = adamw(model, lr=config.lr, weight_decay=config.weight_decay, trunk_lr=config.trunk_lr)
    with checkpoint.Run(out, {"train": asdict(config), **task.describe()}) as run, _stop_signals() as stop:
        step, bad = _resume(run, model, ema, optimizer)
        total = _budget(run, task, config, model, device)
        clock, buffers = _Clock(step), Buffers(model)
        while step * config.batch < total:
            model.train()
            batch = task.batch(_keys(task, step * config.batch, config.batch))
            set_lr(optimizer, lr_factor(step * config.batch, total, config.warmup))
            buffers.keep()
            with _autocast(device, config.bf16):
                losses = task.loss(model, batch)
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            step += 1
            if torch.isfinite(norm) and torch.isfinite(loss):
                optimizer.step()
                ema.update(model, step)
                bad = 0
            else:
                buffers.restore()
                bad = _bad_step(run, config, step, bad)
            last = step * config.batch >= total
            judge = bool(config.evaluate_every) and step % config.evaluate_every == 0
            if step % config.log_every == 0 or last:
                run.append_log(clock.record(step, config.batch, total, losses, optimizer, norm))
            if step % config.save_every == 0 or last or judge or stop:
                _save(run, step, model, ema, optimizer, bad)
            if stop:
                raise SystemExit(stop[0])
            if judge:
                _judge(run, task, ema, step)
        if not run.is_judged(step):
            _judge(run, task, ema, step)
    return ema.model


def _save(run: checkpoint.Run, step: int, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer,
          bad: int) -> None:
    parts = {"model": model.state_dict(), "ema": ema.model.state_dict(),
             "optimizer": checkpoint.optimizer_tensors(optimizer)}
    run.save(step, parts, {"bad": bad})


def _judge(run: checkpoint.Run, task: Task, ema: Ema, step: int) -> None:
    """Validate the average of a step that is saved already."""
    metrics = task.evaluate(ema.model)
    if metrics:
        run.append_log({"step": step, **metrics})
        run.judged(step, metrics)


def _resume(run: checkpoint.Run, model: nn.Module, ema: Ema,
            optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Fill everything from the newest whole step -> (step, bad steps in a row)."""
    found = run.newest()
    if found is None:
        return 0, 0
    checkpoint.fill(model, found.parts["model"], str(run.folder))
    checkpoint.fill(ema.model, found.parts["ema"], str(run.folder))
    checkpoint.fill_optimizer(optimizer, found.parts["optimizer"])
    log.info("resumed %s at step %d", run.folder, found.step)
    return found.step, int(found.state["bad"])


def _keys(task: Task, first: int, count: int) -> list[SampleKey]:
    """(epoch, position) of ``count`` samples from the ``first`` ever shown."""
    return [divmod(i, task.samples_per_epoch) for i in range(first, first + count)]


def _budget(run: checkpoint.Run, task: Task, config: TrainConfig, model: nn.Module, device: str) -> int:
    """Samples to show. Minutes are turned into samples once, after warm-up steps, and saved: a resume is exact."""
    path = run.folder / "budget.json"
    if config.samples:
        return config.samples
    if path.is_file():
        return int(checkpoint.read_json(path)["samples"])
    keep = {k: v.clone() for k, v in model.state_dict().items()}  # the trial steps move batch-norm statistics
    times: list[float] = []
    for trial in range(TRIAL_STEPS):
        start = time.perf_counter()
        batch = task.batch(_keys(task, trial * config.batch, config.batch))
        with _autocast(device, config.bf16):
            loss = torch.stack(list(task.loss(model.train(), batch).values())).sum()
        torch.autograd.backward(loss)
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    model.load_state_dict(keep)
    samples = int(config.minutes * 60 / float(np.median(times[1:])) * config.batch)
    files.write_json(path, {"samples": samples, "seconds_per_step": float(np.median(times[1:]))})
    return samples


def _bad_step(run: checkpoint.Run, config: TrainConfig, step: int, bad: int) -> int:
    """Count a step whose loss or gradient is not finite; the weights stay as they were."""
    bad += 1
    run.append_log({"step": step, "skipped": "loss or gradient is not finite", "in a row": bad})
    if bad >= config.max_bad_steps:
        raise TrainingError(f"{run.folder}: {bad} steps in a row without a finite loss, the last at step {step}; "
                            "lower lr, or look at the samples of these steps")
    return bad


def _autocast(device: str, bf16: bool) -> torch.autocast:
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16 and bf16_supported(kind))


def bf16_supported(kind: str) -> bool:
    """Whether ``cpu`` or ``cuda`` computes with bfloat16 itself; where it must be imitated, float32 is faster."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mkldnn.is_available() and  # type: ignore[no-untyped-call]
                torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that gets the exit code when SIGTERM or Ctrl-C arrives; a second Ctrl-C exits at once."""
    stop: list[int] = []

    def note(number: int, _frame: object) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.append(128 + number)

    old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class _Clock:
    """Samples a second since the last record."""

    def __init__(self, step: int) -> None:
        self.step, self.time = step, time.perf_counter()

    def record(self, step: int, batch: int, total: int, losses: dict[str, Tensor], optimizer: torch.optim.Optimizer,
               norm: Tensor) -> dict[str, Any]:
        now = time.perf_counter()
        rate = (step - self.step) * batch / max(now - self.time, 1e-9)
        self.step, self.time = step, now
        record = {"step": step, "samples": step * batch, "of": total, "samples_per_second": round(rate, 1),
                  "minutes_left": round((total - step * batch) / max(rate, 1e-9) / 60, 1),
                  "lr": max(g["lr"] for g in optimizer.param_groups), "gradient_norm": round(float(norm), 3),
                  **{name: round(float(value.detach()), 5) for name, value in losses.items()}}
        log.info("step %d, %d of %d samples, %.1f a second, %s, %.0f min left", step, step * batch, total, rate,
                 ", ".join(f"{name} {record[name]:.4g}" for name in losses), record["minutes_left"])
        return record


def shortened(config: TrainConfig, steps: int) -> TrainConfig:
    """The same schedule, ``steps`` long: for rehearsals."""
    return replace(config, samples=steps * config.batch, minutes=0.0, evaluate_every=0, log_every=1)
