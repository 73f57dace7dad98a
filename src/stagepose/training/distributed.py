"""Several processes that train one network together, as ``torchrun`` starts them; alone, everything here is free.

The processes (ranks) agree on three things: the first one alone touches the run folder and tells the others what it
found; gradients are averaged; a step that one of them must skip, or after which one must stop, is so for all.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from stagepose.errors import ConfigError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)  # for a rank that says nothing more; a whole validation or compilation fits into it


def world() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, 0 the first."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def local_rank() -> int:
    """This process's number on its own machine, which is its GPU's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def started(device: str) -> Iterator[None]:
    """Join the others where ``torchrun`` started this process, and leave them at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.set_device(torch.device(device))
    # tensors travel over the devices' own network, Python objects and flags over the machines'
    dist.init_process_group("cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
        dist.barrier()  # nobody leaves while another still talks
    except BaseException as error:  # of SIGTERM too: the frames that it came through hold the wrapped module
        _empty_frames(error)
        raise
    finally:
        gc.collect()  # a wrapped module is a cycle that holds the group's threads: left to the exit, they abort it
        dist.destroy_process_group()


def _empty_frames(error: BaseException) -> None:
    """Let go of the variables of every frame that ``error``, and what led to it, came through; the lines stay."""
    following: BaseException | None = error
    while following is not None:
        traceback.clear_frames(following.__traceback__)
        following = following.__cause__ or following.__context__


def share(items: Sequence[T]) -> Sequence[T]:
    """This rank's part of ``items``: neighbours, every item on exactly one rank."""
    count, number = world(), rank()
    return items[len(items) * number // count : len(items) * (number + 1) // count]


def from_first(work: Callable[[], T]) -> T:
    """What ``work`` returns on the first rank, on every rank; where it fails there, all end, and only it says why."""
    if world() == 1:
        return work()
    told: list[tuple[str, T | None]] = [("", None)]
    error: BaseException | None = None
    if first():
        try:
            told = [("", work())]
        except BaseException as caught:
            error, told = caught, [(str(caught) or type(caught).__name__, None)]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    if error is not None:
        raise error
    problem, value = told[0]
    if problem:
        raise SystemExit(1)
    return value  # type: ignore[return-value]


def gather(value: T) -> list[T]:
    """Every rank's value, in their order, on every rank."""
    if world() == 1:
        return [value]
    values: list[T | None] = [None] * world()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def largest(values: Tensor) -> Tensor:
    """Element by element the largest of all ranks' values."""
    if world() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values


@torch.no_grad()
def copy_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite every rank's tensors with the first rank's."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def wrap(module: nn.Module) -> nn.Module:
    """``module`` with gradients averaged over all ranks; batch-norm statistics are the first rank's."""
    if world() == 1:
        return module
    device = next(module.parameters()).device
    return DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None,
                                   gradient_as_bucket_view=True)


def averaged(module: nn.Module, now: bool) -> AbstractContextManager[None]:
    """Where ``now`` is false, a wrapped module's gradients stay this rank's own for the time being."""
    if now or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


def refuse_uneven(batch: int, accumulate: int) -> None:
    """:class:`ConfigError` when a batch cannot be cut into equal parts."""
    parts = world() * accumulate
    if batch % parts:
        raise ConfigError(f"batch is {batch}, which {world()} processes that show it in {accumulate} parts cannot "
                          f"share equally; use {max(1, round(batch / parts)) * parts}")

