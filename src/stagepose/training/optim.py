"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from stagepose.errors import ConfigError


def adamw(model: nn.Module, *, lr: float, weight_decay: float,
          slower: Sequence[tuple[str, float]] = (),
          betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """AdamW; no decay on biases and norms.

    ``slower``: pairs of the start of parameters' names and the share of ``lr`` that they learn at; the first that fits
    decides. Every group carries ``base_lr``, which :func:`set_lr` scales.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = lr * next((share for start, share in slower if name.startswith(start)), 1.0)
            groups.setdefault((rate, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    if not groups:
        raise ConfigError("every parameter of the network is frozen; nothing to train")
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()],
        betas=betas, fused=True)


def lr_factor(samples: int, total: int, warmup: int, floor: float = 0.01) -> float:
    """Linear warm-up, then a cosine down to ``floor``; a function of samples seen, so a resume continues it."""
    if samples < warmup:
        return (samples + 1) / (warmup + 1)
    progress = min(1.0, (samples - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's ``base_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


class Buffers:
    """A copy of a model's buffers: what a batch did to batch-norm statistics on its way can be taken back."""

    def __init__(self, model: nn.Module) -> None:
        self.own = list(model.buffers())
        self.kept = [b.clone() for b in self.own]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the present values."""
        if self.own:
            torch._foreach_copy_(self.kept, self.own)

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to the remembered values: the batch made NaN."""
        if self.own:
            torch._foreach_copy_(self.own, self.kept)

    @torch.no_grad()
    def leave_alone(self, parts: Iterable[nn.Module]) -> None:
        """Let the step pass ``parts`` by: no gradient, so that no optimizer moves them, and the remembered buffers."""
        kept = dict(zip(map(id, self.own), self.kept, strict=True))
        for part in parts:
            for buffer in part.buffers():
                buffer.copy_(kept[id(buffer)])
            for parameter in part.parameters():
                parameter.grad = None


class Ema:
    """A moving average of weights and batch-norm statistics, in a copy of the model that is what gets judged.

    The decay warms up as (1 + step) / (10 + step), so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"ema_decay is {decay}, expected at least 0 and below 1")
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        self._averaged = [mine for mine, _ in pairs if mine.is_floating_point()]
        self._current = [theirs for mine, theirs in pairs if mine.is_floating_point()]
        self._counters = [(mine, theirs) for mine, theirs in pairs if not mine.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int, idle: Iterable[nn.Module] = ()) -> None:
        """One step of the average, which passes ``idle`` parts by; integer buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        passed = {t.data_ptr() for part in idle for t in (*part.parameters(), *part.buffers())}
        pairs = [(mine, theirs) for mine, theirs in zip(self._averaged, self._current, strict=True)
                 if theirs.data_ptr() not in passed] if passed else zip(self._averaged, self._current, strict=True)
        averaged, current = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in self._counters:
            mine.copy_(theirs)
