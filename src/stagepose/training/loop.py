"""The training loop: one loop for pose networks, detectors and repairs alike, whole on one screen.

A :class:`Task` knows its data, its loss and how it is judged; the loop knows steps, schedules and checkpoints.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose import files
from stagepose.errors import ConfigError, TrainingError
from stagepose.evaluation.kept import Judged
from stagepose.runfiles import BUDGET, patience_is_out, read_object
from stagepose.training import checkpoint, distributed
from stagepose.training.feed import Feed, Reader
from stagepose.training.journal import Journal, numbers
from stagepose.training.machine import Machine, Stopwatch, autocast, later, plain_errors, stop_signals, tuned
from stagepose.training.optim import (
    OPTIMIZERS,
    SCHEDULES,
    Buffers,
    Ema,
    OptimizerKind,
    Schedule,
    lr_factor,
    make_optimizer,
    set_lr,
)
from stagepose.training.randomness import SampleKey
from stagepose.training.runfolder import RunFolder, open_run

log = logging.getLogger(__name__)

TRIAL_STEPS = 6  # timed to turn minutes into samples; the first pays for warming up
LARGEST_SEED = 2**63 - 1  # torch takes no larger one
NAMED = 64  # samples of a bad step that its log line names


class Task(Protocol):
    """What is trained: data in, losses out, and a validation through the predictor that users get."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def network(self) -> nn.Module:
        """The part of ``model`` that torch.compile may take: shapes in, shapes out, nothing of data."""
    @property
    def reader(self) -> Reader:
        """Where samples named (epoch, position) are read; worker processes hold a copy."""
    @property
    def samples_per_epoch(self) -> int: ...
    @property
    def seed(self) -> int:
        """By which samples are ordered and augmented: that of the schedule."""
    @property
    def resident(self) -> bool:
        """Whether all pixels are on the device already, so that nobody needs to read any ahead."""

    def prepare(self, read: Any) -> Any:
        """What the reader read, augmented on the device; the same keys give the same batch on any machine."""
        # the reader runs in the worker processes; this in the training process, while the device computes a step

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Named losses; their sum is what is learnt."""

    def idle(self) -> Sequence[nn.Module]:
        """Parts of ``model`` that the step just computed has taught nothing: it leaves them as they were.

        Asked once a step, on all ranks.
        """

    def evaluate(self, model: nn.Module) -> Judged:
        """The validation, whose ``ap`` chooses the best step; no numbers without a validation set.

        All ranks take part; the first alone learns of them.
        """

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """A strip (H, W, 3) of what the model finds on a few validation people."""

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """What the data set calls these samples, for messages."""

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON; a resume compares it."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The schedule. ``samples`` counts pictures shown; exactly one of ``samples`` and ``minutes`` is set.

    A step shows ``batch`` pictures, on all ranks together, in ``accumulate`` parts one after the other. The learning
    rate rises to ``lr`` over ``warmup`` samples (of what ``minutes`` turn out to be, a tenth at most) and falls to a
    hundredth of it by a cosine, or to 0 by a line (:func:`.optim.lr_factor`).
    """

    batch: int = 32
    accumulate: int = 1
    samples: int = 0
    minutes: float = 0.0
    warmup: int = 2_000  # samples
    optimizer: OptimizerKind = "adamw"
    lr: float = 2e-3  # at its peak
    schedule: Schedule = "cosine"  # how it falls
    slower: tuple[tuple[str, float], ...] = ()  # (start of parameters' names, share of lr); above 1 faster
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    ema_decay: float = 0.998  # a step, of the average of the weights: what is judged and exported
    clip: float = 5.0  # the gradient's norm, at most
    log_every: int = 20  # steps
    save_every: int = 300  # steps
    save_minutes: float = 3.0  # or so much time since the last save, whichever comes first: what a fault may cost
    evaluate_every: int = 0  # steps; 0 only at the end
    patience: int = 0  # so many such validations in a row without a higher AP end it; 0 never
    bf16: bool = True
    max_bad_steps: int = 10  # NaN or infinite losses in a row before the run stops
    seed: int = 0  # of first weights, the samples' order and their augmentation: tasks are made with it

    def __post_init__(self) -> None:
        if (self.samples > 0) == (self.minutes > 0):
            raise ConfigError(f"give either samples or minutes, got samples {self.samples}, minutes {self.minutes}")
        for name in ("batch", "accumulate", "log_every", "save_every", "save_minutes", "lr", "clip", "max_bad_steps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a finite number above 0")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer is {self.optimizer!r}, expected one of {', '.join(OPTIMIZERS)}")
        if self.patience < 0 or (self.patience and not self.evaluate_every):
            raise ConfigError(f"patience is {self.patience} and evaluate_every {self.evaluate_every}: patience is a "
                              "number of validations on the way; give both, or neither")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule is {self.schedule!r}, expected one of {', '.join(SCHEDULES)}")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay is {self.weight_decay}, expected a finite number of 0 or more")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more")
        if self.seed > LARGEST_SEED:
            raise ConfigError(f"seed is {self.seed}, expected at most {LARGEST_SEED}")


def train(task: Task, config: TrainConfig, out: str | Path, machine: Machine | None = None, *,
          accept_changes: bool = False) -> nn.Module:
    """Train to the end of the schedule, or of patience, resuming what ``out`` holds; -> the averaged model.

    SIGTERM and Ctrl-C save and raise :class:`SystemExit` with 143 or 130, in the main thread. Under ``torchrun`` all
    ranks call this.
    """
    machine = machine or Machine()
    if task.seed != config.seed:
        raise ConfigError(f"seed is {config.seed} in the schedule, but the task draws its samples by {task.seed}; give "
                          "both the same")
    distributed.refuse_uneven(config.batch, config.accumulate)
    with open_run(out, {"train": asdict(config), **task.describe()}, accept_changes) as run, \
            stop_signals() as stop, plain_errors(config.batch, config.accumulate, machine.workers):
        model = tuned(task.model, machine)
        ema = Ema(model, config.ema_decay)
        optimizer = make_optimizer(model, config.optimizer, lr=config.lr, weight_decay=config.weight_decay,
                                   slower=config.slower, betas=config.betas)
        step, shown, bad = _resume(run, model, ema, optimizer, config.batch)
        if machine.compile:
            task.network.compile()
        losses_of = distributed.wrap(_Losses(task, config, machine))
        total = _budget(run, task, config, losses_of)
        warmup = shorter_warmup(config.warmup, total) if config.minutes else config.warmup
        if shown >= total:
            log.info("%s: trained to the end before, %d of %d samples shown", run.folder, shown, total)
        feed = Feed(task.reader, _keys(task, config, shown, total), machine)
        buffers, saved, parts = Buffers(model), Stopwatch(), _next_step(feed, task, config)
        with closing(Journal(run, step=step, shown=shown, batch=config.batch, total=total, machine=machine)) as journal:
            going_on = shown < total and _goes_on(run, task, config, ema, step, journal)
            while going_on and shown < total:
                model.train()
                set_lr(optimizer, lr_factor(shown, total, warmup, schedule=config.schedule))
                optimizer.zero_grad(set_to_none=True)
                buffers.keep()
                losses = _backward(losses_of, parts)
                norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                verdict = later(distributed.largest(_verdict(norm, losses, bool(stop))))
                parts = _next_step(feed, task, config)  # read and augmented while the device computes
                wrong, stopping = verdict()
                idle, step, shown = task.idle(), step + 1, shown + config.batch
                if wrong:
                    buffers.restore()
                    bad = _bad_step(run, task, config, step, shown, bad)
                else:
                    buffers.leave_alone(idle)
                    optimizer.step()
                    ema.update(step, idle)
                    bad = 0
                last, judge = shown >= total, _every(config.evaluate_every, step)
                if step % config.log_every == 0 or last:
                    journal.step(step, shown, numbers(losses), lr=max(g["lr"] for g in optimizer.param_groups),
                                 norm=float(norm), waited=feed.waited)
                if step % config.save_every == 0 or last or judge or stopping or saved.minutes() > config.save_minutes:
                    _save(run, step, model, ema, optimizer, {"bad": bad, "samples": shown})
                    saved = Stopwatch()
                if stopping:
                    raise SystemExit(_exit_code(stop))
                if judge and not last:
                    going_on = _goes_on(run, task, config, ema, step, journal)
            if not run.is_judged(step):
                _judge(run, task, ema, step, journal)
            if any(distributed.gather(bool(stop))):  # since the last step: what would follow is not to begin
                raise SystemExit(_exit_code(stop))
    return ema.model


class _Losses(nn.Module):
    """A task's loss as a module, so that averaging gradients over ranks begins while they are still computed."""

    def __init__(self, task: Task, config: TrainConfig, machine: Machine) -> None:
        super().__init__()
        self.model, self._task, self._device, self._bf16 = task.model, task, machine.device, config.bf16

    def forward(self, batch: Any) -> dict[str, Tensor]:
        with autocast(self._device, self._bf16):
            return self._task.loss(self.model, batch)


def _backward(losses_of: nn.Module, parts: Sequence[Any]) -> dict[str, Tensor]:
    """Gradients of the mean over the parts of a step -> the mean losses."""
    means: dict[str, Tensor] = {}
    for number, part in enumerate(parts, 1):
        with distributed.averaged(losses_of, number == len(parts)):  # once a step, not once a part
            losses = losses_of(part)
            torch.autograd.backward(torch.stack(list(losses.values())).sum() / len(parts))
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / len(parts)
    return means


def _every(steps: int, step: int) -> bool:
    return bool(steps) and step % steps == 0


def _verdict(norm: Tensor, losses: dict[str, Tensor], stop: bool) -> Tensor:
    """(2,) whether a loss or the gradient is not finite, and whether to stop; the device is not waited for."""
    finite = torch.isfinite(norm + torch.stack(list(losses.values())).sum().to(norm.device))
    return torch.stack([~finite, torch.full_like(finite, stop)]).float()


def _keys(task: Task, config: TrainConfig, shown: int, total: int) -> Iterator[list[SampleKey]]:
    """(epoch, position) of every part of this rank's share of every step, after ``shown`` samples."""
    for first in range(shown, total, config.batch):
        mine = distributed.share(sample_keys(task, first, config.batch))
        size = len(mine) // config.accumulate
        yield from (list(mine[i : i + size]) for i in range(0, len(mine), size))


def sample_keys(task: Task, first: int, count: int) -> list[SampleKey]:
    """(epoch, position) of ``count`` samples from the ``first`` ever shown."""
    return [divmod(i, task.samples_per_epoch) for i in range(first, first + count)]


def _next_step(feed: Feed, task: Task, config: TrainConfig) -> list[Any]:
    """The parts of the next step on the device; none after the last."""
    return [task.prepare(read) for read in islice(feed, config.accumulate)]


def _save(run: RunFolder, step: int, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer,
          state: dict[str, int]) -> None:
    parts = {"model": model.state_dict(), "ema": ema.model.state_dict(),
             "optimizer": checkpoint.optimizer_tensors(optimizer)}
    run.save(step, parts, state)


def _judge(run: RunFolder, task: Task, ema: Ema, step: int, journal: Journal) -> None:
    """Validate the average of a step that is saved already."""
    with journal.clock_stopped():
        distributed.copy_first(ema.model.buffers())  # each rank averaged its own batch-norm statistics
        judged = task.evaluate(ema.model)
        if judged.numbers and run.writes:
            journal.record({"step": step, **judged.numbers})
            run.judged(step, judged)
            strip = task.overlays(ema.model)
            if strip is not None:
                journal.picture(step, "validation", strip)


def _goes_on(run: RunFolder, task: Task, config: TrainConfig, ema: Ema, step: int, journal: Journal) -> bool:
    """Validate ``step`` where that is due and not done yet; -> False where patience has run out, which is told."""
    if step and _every(config.evaluate_every, step) and not run.is_judged(step):
        _judge(run, task, ema, step, journal)
    best = run.best() if config.patience else None
    if best is None or not patience_is_out(config.patience, config.evaluate_every, step=step, best=best.step):
        return True
    why = f"the AP has not risen in {(step - best.step) // config.evaluate_every} validations"
    run.append_log({"step": step, "stopped early": why, "best step": best.step, "best ap": best.ap})
    log.info("%s: stopped early at step %d: %s; step %d is the best, with AP %.4f. A larger --patience, or none, goes "
             "on", run.folder, step, why, best.step, best.ap)
    return False


def _resume(run: RunFolder, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer,
            batch: int) -> tuple[int, int, int]:
    """Fill everything from the newest whole step that the first rank finds.

    Returns (step, samples shown, bad steps in a row). Older checkpoints do not say how many were shown: as many as
    with this ``batch``.
    """
    found = run.newest()
    if found is None:
        distributed.copy_first([*model.state_dict().values(), *ema.model.state_dict().values()])
        return 0, 0, 0
    checkpoint.fill(model, found.parts["model"], str(run.folder))
    checkpoint.fill(ema.model, found.parts["ema"], str(run.folder))
    if not checkpoint.fill_optimizer(optimizer, found.parts["optimizer"]):
        log.warning("%s: step %d was made by another optimizer, or with other parameters frozen; its moments are left "
                    "out", run.folder, found.step)
    log.info("resumed %s at step %d", run.folder, found.step)
    return found.step, int(found.state.get("samples", found.step * batch)), int(found.state["bad"])


def _budget(run: RunFolder, task: Task, config: TrainConfig, losses_of: nn.Module) -> int:
    """Samples to show. Minutes are turned into samples once, after warm-up steps, and saved: a resume is exact."""
    if config.samples:
        return config.samples
    path, what = run.folder / BUDGET, {"minutes": config.minutes, "batch": config.batch}
    known = distributed.from_first(lambda: _known_budget(path, what))
    if known:
        return known
    keep = {k: v.clone() for k, v in task.model.state_dict().items()}  # the trial moves batch-norm statistics
    times: list[float] = []
    task.model.train()
    for keys in _keys(task, config, 0, TRIAL_STEPS * config.batch):
        start = time.perf_counter()
        losses = _backward(losses_of, [task.prepare(task.reader.read(keys))])
        torch.stack(list(losses.values())).sum().item()  # waits for the device
        times.append(time.perf_counter() - start)
    task.idle()  # forgets what the trial taught
    task.model.zero_grad(set_to_none=True)
    task.model.load_state_dict(keep)
    seconds = distributed.from_first(lambda: float(np.median(times[config.accumulate :])) * config.accumulate)
    samples = max(config.batch, int(config.minutes * 60 / seconds * config.batch))  # one step at least
    if run.writes:
        files.write_json(path, {"samples": samples, "seconds_per_step": seconds, **what})
    return samples


def _known_budget(path: Path, what: dict[str, float]) -> int:
    """The samples of ``budget.json``; 0 without one, or where it is that of other minutes or another batch."""
    if not path.is_file():
        return 0
    said = read_object(path)
    is_other = any(said.get(name, value) != value for name, value in what.items())  # older ones say neither
    return 0 if is_other else int(checkpoint.read_number(path, "samples"))


def _bad_step(run: RunFolder, task: Task, config: TrainConfig, step: int, shown: int, bad: int) -> int:
    """Count a step whose loss or gradient is not finite, and name its samples; the weights stay as they were."""
    bad += 1
    names = task.names(sample_keys(task, shown - config.batch, min(config.batch, NAMED)))
    run.append_log({"step": step, "skipped": "loss or gradient is not finite", "in a row": bad, "samples": names})
    if bad >= config.max_bad_steps:
        raise TrainingError(f"{run.folder}: {bad} steps in a row without a finite loss, the last at step {step}; "
                            "lower lr, or look at the samples of these steps, which log.jsonl names")
    return bad


def _exit_code(stop: Sequence[int]) -> int:
    """Of the signal that arrived here, or of SIGTERM where another rank was told to stop."""
    return stop[0] if stop else 128 + signal.SIGTERM


def shorter_warmup(warmup: int, samples: int) -> int:
    """For a schedule of so many samples: a tenth of it at most, or a short one would end before it is warm."""
    return min(warmup, samples // 10)


def shortened(config: TrainConfig, steps: int) -> TrainConfig:
    """The same schedule in as many samples as ``steps`` show: for rehearsals."""
    samples = steps * config.batch
    return replace(config, samples=samples, minutes=0.0, warmup=shorter_warmup(config.warmup, samples),
                   evaluate_every=0, patience=0, log_every=1)
