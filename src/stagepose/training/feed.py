"""Batches for the steps still to do: read ahead by worker processes, copied to the device while it computes."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stagepose.training.machine import Machine
from stagepose.training.randomness import SampleKey

AHEAD = 3  # batches that each worker keeps ready


class Reader(Protocol):
    """The part of a task that worker processes hold: pickled by its paths, never by its pixels."""

    def read(self, samples: Sequence[SampleKey]) -> Any:
        """The samples' data in memory: CPU tensors, or a dataclass of such; the same on any machine."""


@dataclass(frozen=True)
class HostBatch:
    """A base for dataclasses whose tensor fields travel to the device together."""

    def pin_memory(self) -> Self:
        """As PyTorch's loader calls it: tensors in memory that a GPU copies from on its own."""
        return self._with(lambda t: t.pin_memory())

    def to(self, device: torch.device | str) -> Self:
        """The same batch on ``device``."""
        return self._with(lambda t: t.to(device, non_blocking=True))

    def tensors(self) -> dict[str, Tensor]:
        """The tensor fields by name."""
        return {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(tensor) for name, tensor in self.tensors().items()})


class Feed:
    """Iterates over host batches of ``keys``, on the device; ``waited`` counts the seconds nothing was ready."""

    def __init__(self, reader: Reader, keys: Iterable[list[SampleKey]], machine: Machine) -> None:
        self.waited = 0.0
        self._device = torch.device(machine.device)
        self._copies = _stream(self._device) if machine.cuda else None
        with warnings.catch_warnings():  # how many workers is the user's choice, and a line of his log is not torch's
            warnings.filterwarnings("ignore", message=".*suggested max number of worker")
            # Python 3.12 warns of threads at a fork; the workers touch none of them
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            self._loader = iter(DataLoader(
                _Keyed(reader), batch_size=None, sampler=_Keys(keys), collate_fn=_as_it_is,
                num_workers=machine.workers, prefetch_factor=AHEAD if machine.workers else None,
                pin_memory=machine.cuda, worker_init_fn=_begin_worker, generator=torch.Generator()))
        self._next = self._fetch()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._next is None:
            raise StopIteration
        batch = self._next
        if self._copies is not None and isinstance(batch, HostBatch):
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._copies)
            for tensor in batch.tensors().values():
                tensor.record_stream(current)
        self._next = self._fetch()
        return batch

    def _fetch(self) -> Any:
        start = time.perf_counter()
        batch = next(self._loader, None)
        self.waited += time.perf_counter() - start
        if self._copies is None or not isinstance(batch, HostBatch):
            return batch
        with torch.cuda.stream(self._copies):
            return batch.to(self._device)


@dataclass(frozen=True)
class _Keyed(Dataset[Any]):
    reader: Reader

    def __getitem__(self, samples: list[SampleKey]) -> Any:
        return self.reader.read(samples)


@dataclass(frozen=True)
class _Keys:
    keys: Iterable[list[SampleKey]]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self.keys)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin_worker(_number: int) -> None:
    """A worker outlives the signals that stop a training: without it the last checkpoint could not be written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = lambda *_: None  # what fails here is told there; a thread that shares memory would print as well
    cv2.setNumThreads(0)
