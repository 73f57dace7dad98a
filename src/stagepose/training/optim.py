"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from stagepose.errors import ConfigError

OptimizerKind = Literal["adamw", "muon"]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerKind)
Schedule = Literal["cosine", "linear"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)
FLOOR = 0.01  # of its peak, that the learning rate falls to by a cosine
MATRIX_FROM = 32  # rows and columns; thinner ones, such as those that make the heatmaps, stay with AdamW
MOMENTUM = 0.95
ADAMW_LENGTH = 0.2  # root mean square of AdamW's usual step, in learning rates (Liu et al. 2025)
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: in five steps singular values from .01 on come to .7 to 1.2
QUINTIC_STEPS = 5


class Muon(torch.optim.AdamW):
    """AdamW, but groups with ``matrices`` step along their momentum made orthogonal (Jordan et al., "Muon", 2024).

    The momentum of a convolution, as a matrix of output channels by what each looks at, has few strong directions;
    made orthogonal, the weak ones get as much of the step. The step is as long as AdamW's usually is (Liu et al.,
    "Muon is scalable for LLM training", 2025), so that learning rates of AdamW's size do; twice its best was best here
    (benchmarks/optimizers.md).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        with _exact_products():
            for group in self.param_groups:
                for parameter in group["params"] if group["matrices"] else ():
                    if parameter.grad is not None:
                        self._turn(parameter, group["lr"], group["weight_decay"])
                        parameter.grad = None  # so that AdamW passes it by
        loss: float | None = super().step(closure)
        return loss

    def _turn(self, parameter: nn.Parameter, lr: float, weight_decay: float) -> None:
        state = self.state[parameter]
        if not state:  # AdamW wants a "step" in every state that it loads
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(parameter))
        assert parameter.grad is not None
        momentum: Tensor = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
        ahead = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
        length = ADAMW_LENGTH * math.sqrt(max(ahead.shape))  # for its mean square is 1 over the longer side
        parameter.mul_(1 - lr * weight_decay)
        parameter.add_(orthogonal(ahead).reshape(parameter.shape), alpha=-lr * length)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products in all of float32's digits: what TF32 drops, the steps of :func:`orthogonal` would multiply."""
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(usual)


def orthogonal(matrix: Tensor) -> Tensor:
    """(rows, columns) -> about the orthogonal matrix nearest to it, without a decomposition.

    Newton-Schulz steps with a quintic polynomial, which leaves singular values between .7 and 1.2: near enough here.
    They are taken on the matrix's products with itself, which are small; the matrix is multiplied once, at the end.
    """
    a, b, c = QUINTIC
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / (wide.norm() + 1e-7)
    gram = x @ x.T
    turn = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(QUINTIC_STEPS):
        polynomial = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        turn, gram = polynomial @ turn, polynomial @ gram @ polynomial
    x = turn @ x
    return x if wide is matrix else x.T


def make_optimizer(model: nn.Module, kind: OptimizerKind = "adamw", *, lr: float, weight_decay: float,
                   slower: Sequence[tuple[str, float]] = (),
                   betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.AdamW:
    """AdamW or :class:`Muon`; no decay on biases and norms.

    ``slower``: pairs of the start of parameters' names and the share of ``lr`` that they learn at; the first that fits
    decides. Every group carries ``base_lr``, which :func:`set_lr` scales.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = lr * next((share for start, share in slower if name.startswith(start)), 1.0)
            decay = weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay, kind == "muon" and _is_matrix(parameter)), []).append(parameter)
    if not groups:
        raise ConfigError("every parameter of the network is frozen; nothing to train")
    described: list[dict[str, Any]] = [
        {"params": p, "lr": rate, "base_lr": rate, "weight_decay": decay, "matrices": matrices}
        for (rate, decay, matrices), p in groups.items()]
    return (Muon if kind == "muon" else torch.optim.AdamW)(described, betas=betas, fused=True)


def _is_matrix(parameter: nn.Parameter) -> bool:
    """Whether it has rows and columns enough; a depthwise convolution has none."""
    return (parameter.ndim > 1 and parameter.shape[1] > 1
            and min(parameter.shape[0], parameter[0].numel()) >= MATRIX_FROM)


def lr_factor(samples: int, total: int, warmup: int, schedule: Schedule = "cosine") -> float:
    """Linear warm-up, then a cosine down to :data:`FLOOR`, or a line down to 0.

    A function of samples seen, so a resume continues it.
    """
    if samples < warmup:
        return (samples + 1) / (warmup + 1)
    progress = min(1.0, (samples - warmup) / max(1, total - warmup))
    if schedule == "linear":
        return 1 - progress
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * progress))


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
