"""Every sample's randomness comes from (seed, epoch, index), so that workers, ranks and resumes cannot change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError

ORDER_STREAM = 2**62  # an epoch's order draws from it: far from any sample's own index
SampleKey = tuple[int, int]  # (epoch, position within the epoch's order)


def generator(seed: int, epoch: int, index: int = 0) -> np.random.Generator:
    """A counter-based generator of its own for one sample; streams of different keys do not overlap."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, index, epoch]))


def uniforms(seed: int, samples: Sequence[SampleKey], count: int) -> NDArray[np.float64]:
    """(B, count) numbers in [0, 1), a row per sample."""
    return np.stack([generator(seed, epoch, index).random(count) for epoch, index in samples])


class Orders:
    """Which rows samples (epoch, position) show; the orders of the epochs in use are kept."""

    def __init__(self, order: Callable[[int], NDArray[np.int64]]) -> None:
        self._order, self._kept = order, dict[int, NDArray[np.int64]]()

    def rows(self, samples: Sequence[SampleKey]) -> NDArray[np.int64]:
        """(B,) row numbers."""
        epochs = {epoch for epoch, _ in samples}
        self._kept = {e: self._kept[e] if e in self._kept else self._order(e) for e in epochs}
        return np.array([self._kept[epoch][position] for epoch, position in samples], dtype=np.int64)


def weighted_order(seed: int, epoch: int, counts: Sequence[int], weights: Sequence[float]) -> NDArray[np.int64]:
    """Row numbers of one epoch over several sets laid end to end, shuffled.

    A set of weight 2.5 shows each of its rows twice, and half of them (a new half every epoch) a third time.
    """
    if not any(round(count * weight) for count, weight in zip(counts, weights, strict=True)):
        raise ConfigError(f"an epoch over sets of {list(counts)} samples with weights {list(weights)} is empty; "
                          "give larger weights")
    rng = generator(seed, epoch, ORDER_STREAM)
    parts, start = [], 0
    for count, weight in zip(counts, weights, strict=True):
        whole, part = int(weight), weight - int(weight)
        rows = np.arange(start, start + count)
        parts += [rows] * whole + [rng.choice(rows, round(count * part), replace=False)]
        start += count
    return np.asarray(rng.permutation(np.concatenate(parts)), dtype=np.int64)
