"""The training people: all crop stores laid end to end, read by (epoch, position).

N people of all stores, B samples of a batch, K keypoints, L looks of each sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from stagepose.errors import ConfigError
from stagepose.skeleton import Skeleton
from stagepose.training.augment import UNIFORMS, AugmentConfig, Canvases, occluded
from stagepose.training.crops import CropStore
from stagepose.training.feed import HostBatch
from stagepose.training.randomness import Orders, SampleKey, uniforms, weighted_order

RESIDENT_SHARE = 0.45  # of a GPU's free memory: COCO's 149,813 people at 192x256 take 50 GB


@dataclass(frozen=True, eq=False)
class PeopleSets:
    """The sets to learn from, opened: the crops of each, how often an epoch shows its people, and which are generated.

    By default once, and none. ``canvases`` (N, H, W, 3) are those of all in the device's memory, where they fit.
    """

    stores: Sequence[CropStore]
    weights: Sequence[float] = ()
    generated: Sequence[bool] = ()
    canvases: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.stores)
        object.__setattr__(self, "weights", list(self.weights or [1.0] * count))
        object.__setattr__(self, "generated", list(self.generated or [False] * count))
        if not count == len(self.weights) == len(self.generated):
            raise ConfigError(f"weights {self.weights} and generated {self.generated} are not of {count} training sets "
                              "each; give one value for every set, or none at all")
        names = {store.skeleton.names for store in self.stores}
        if len(names) != 1:
            raise ConfigError(f"the training sets have {len(names)} different skeletons; map them to one first")

    @property
    def skeleton(self) -> Skeleton:
        """The one that all are labelled in."""
        return self.stores[0].skeleton

    @property
    def resident(self) -> bool:
        """Whether all pixels are in the device's memory, so that nobody needs to read any."""
        return self.canvases is not None

    def loaded(self, device: str) -> PeopleSets:
        """With all pixels in a GPU's memory, where they fit."""
        if not fits_on_device(self.stores, device):
            return self
        return replace(self, canvases=load_resident(self.stores, device))


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Who is shown, and how much each counts: what a stage learns from. ``kept`` (N,) bool, ``importance`` (N,)."""

    kept: NDArray[np.bool_]
    importance: NDArray[np.float32] | None = None

    @classmethod
    def everybody(cls, stores: Sequence[CropStore]) -> Chosen:
        """All people of all stores, each counting the same."""
        return cls(kept=np.ones(sum(map(len, stores)), dtype=bool))

    @property
    def some(self) -> bool:
        """Whether anybody is left out or counts less than others."""
        return self.importance is not None or not self.kept.all()

    @property
    def digest(self) -> str:
        """A sha256 by which a resume knows that the same people are shown."""
        weights = b"" if self.importance is None else self.importance.tobytes()
        return hashlib.sha256(np.packbits(self.kept).tobytes() + weights).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PoseRead(HostBatch):
    """What one batch needs of the stores: canvases (or just their ``rows``, where all canvases are on the device).

    ``crops`` of B people and ``occluders`` of M; ``keypoints`` (B, K, 3) in canvas pixels, of which ``named`` (B, K)
    are labelled in anybody of the set, and ``negative`` (B,) show no person; ``areas`` (B,) in their square;
    ``importance`` (B,) of each sample, or None; ``draws`` (L, B, UNIFORMS) random numbers; ``occluded`` (L,) how many
    samples of each look have an occluder: they lie in that order.
    """

    rows: Tensor
    occluder_rows: Tensor
    crops: Canvases | None
    occluders: Canvases | None
    keypoints: NDArray[np.float64]
    named: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    areas: NDArray[np.float64]
    importance: NDArray[np.float32] | None
    draws: NDArray[np.float64]
    occluded: tuple[int, ...]


class PoseData:
    """All stores laid end to end. Worker processes hold one that opens the files again.

    A store of weight 2.5 shows each of its chosen people 2.5 times an epoch. Each sample is read in so many ``looks``,
    of which the first is the same however many there are. Without ``pixels`` none are read (the task has them on its
    device already). ``in_place``: they are augmented on the CPU, in the process that reads them, which then gets views
    of the mapped files; who travels, to a GPU or from a worker process, does so in one tensor.
    """

    def __init__(self, stores: Sequence[CropStore], weights: Sequence[float], augment: AugmentConfig, *,
                 seed: int = 0, pixels: bool = True, in_place: bool = False, chosen: Chosen | None = None,
                 looks: int = 1) -> None:
        canvases = {store.spec.canvas for store in stores}
        if len(canvases) != 1:
            raise ConfigError(f"the crop stores have different canvases {sorted(canvases)}; pack them alike")
        self.stores, self.weights, self.augment, self.seed = list(stores), list(weights), augment, seed
        self.pixels, self.in_place, self.looks = pixels, in_place, looks
        self.starts = np.cumsum([0, *(len(s) for s in stores)])
        self.keypoints = np.concatenate([store.keypoints for store in stores]).astype(np.float64)  # (N, K, 3)
        grown = np.concatenate([np.abs(np.linalg.det(store.affines[:, :, :2])) for store in stores])
        self.areas = np.concatenate([store.areas for store in stores]).astype(np.float64) * grown  # (N,) canvas pixels
        self._named = np.stack([(store.keypoints[..., 2] > 0).any(0) for store in stores])  # (stores, K)
        self._negative = np.array([store.negative for store in stores])  # (stores,)
        self._named[self._negative] = self._named.any(0)  # known to be nowhere in the view
        self.chosen = chosen or Chosen.everybody(stores)
        self._shown = np.flatnonzero(self.chosen.kept)
        self._orders = Orders(self.order)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def counts(self) -> list[int]:
        """How many people of each store are shown."""
        return np.diff(np.searchsorted(self._shown, self.starts)).tolist()  # type: ignore[no-any-return]

    @property
    def sets(self) -> NDArray[np.int64]:
        """(N,) the number of each person's store."""
        return np.repeat(np.arange(len(self.stores)), np.diff(self.starts))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows in the order of one epoch."""
        return self._shown[weighted_order(self.seed, epoch, self.counts, self.weights)]

    def read(self, samples: Sequence[SampleKey]) -> PoseRead:
        """A sample is the same in any batch, in any process, on any machine."""
        rows, drawn = self._orders.rows(samples), uniforms(self.seed, samples, UNIFORMS * self.looks)
        draws = drawn.reshape(len(samples), self.looks, UNIFORMS).transpose(1, 0, 2)
        choices = [occluded(look, self.augment)[1] for look in draws]
        others = (np.concatenate(choices) * len(self)).astype(np.int64)  # whose pixels cover a part of whom
        importance, (sets, _) = self.chosen.importance, self._located(rows)
        return PoseRead(
            rows=torch.from_numpy(rows), occluder_rows=torch.from_numpy(others),
            crops=self.canvases(rows), occluders=self.canvases(others) if len(others) else None,
            keypoints=self.keypoints[rows], named=self._named[sets], negative=self._negative[sets],
            areas=self.areas[rows],
            importance=None if importance is None else importance[rows], draws=draws,
            occluded=tuple(map(len, choices)))

    def canvases(self, rows: NDArray[np.int64]) -> Canvases | None:
        """People by row, read as ``pixels`` and ``in_place`` say."""
        if not self.pixels:
            return None
        sets, places = self._located(rows)
        found: dict[int, NDArray[np.uint8]] = {}
        for number in np.unique(sets):
            chosen = np.flatnonzero(sets == number)
            found.update(zip(chosen.tolist(), self.stores[number].crops(places[chosen]), strict=True))
        crops = [found[position] for position in range(len(rows))]
        return crops if self.in_place and get_worker_info() is None else torch.from_numpy(np.stack(crops))

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """Store and annotation id of samples."""
        sets, places = self._located(self._orders.rows(samples))
        stores = [self.stores[number] for number in sets]
        return [f"{s.home.name}: annotation {s.annotation_ids[place]}" for s, place in zip(stores, places, strict=True)]

    def _located(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """(store, row within it) of rows of all stores."""
        sets = np.searchsorted(self.starts, rows, side="right") - 1
        return sets, rows - self.starts[sets]


def spread(rows_P: NDArray[np.int64], people: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spread."""
    count = min(people, len(rows_P))
    return rows_P[np.linspace(0, len(rows_P) - 1, count).astype(np.int64)] if count else rows_P[:0]


def on_device(rows: Tensor, canvases: Canvases | None, device: str, resident: Tensor | None) -> Canvases:
    """As the augmentation wants them: on a GPU one tensor, on a CPU an array each.

    Of ``resident``, all people's in the device's memory, those of ``rows``; else ``canvases``, which were read.
    """
    if resident is not None:
        return resident[rows.to(device)]
    assert canvases is not None
    if torch.device(device).type != "cuda":
        return list(canvases.numpy()) if isinstance(canvases, Tensor) else canvases
    whole = canvases if isinstance(canvases, Tensor) else torch.from_numpy(np.stack(canvases))
    return whole.to(device, non_blocking=True)


def fits_on_device(stores: Sequence[CropStore], device: str) -> bool:
    """Whether all canvases fit into a GPU's memory and leave most of it to the network."""
    if torch.device(device).type != "cuda":
        return False
    needed = sum(len(s) * s.spec.canvas[0] * s.spec.canvas[1] * 3 for s in stores)
    return needed < RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def load_resident(stores: Sequence[CropStore], device: str) -> Tensor:
    """All canvases (N, H, W, 3) uint8 in the device's memory."""
    width, height = stores[0].spec.canvas
    pixels = torch.empty((sum(map(len, stores)), height, width, 3), dtype=torch.uint8, device=device)
    start = 0
    for store in stores:
        for rows, crops in store.chunks():
            pixels[start + rows.start : start + rows.stop] = torch.from_numpy(crops).to(device)
        start += len(store)
    return pixels
