"""The pose task: crops in, heatmaps out, judged by the predictor that users get. B samples, K keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.errors import ConfigError
from stagepose.geometry import Size
from stagepose.heatmaps import Codec
from stagepose.skeleton import Skeleton
from stagepose.training import targets
from stagepose.training.augment import UNIFORMS, AugmentConfig, augment, occluded
from stagepose.training.crops import CropStore
from stagepose.training.feed import HostBatch
from stagepose.training.inference import PoseInference
from stagepose.training.losses import HeatmapLoss, deep_loss
from stagepose.training.networks.zoo import trunk_of
from stagepose.training.randomness import Orders, SampleKey, uniforms, weighted_order

RESIDENT_SHARE = 0.45  # of a GPU's free memory: COCO's 149,813 people at 192x256 take 50 GB


class PoseJudge(Protocol):
    """How a pose network is judged while it learns."""

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """The averaged model -> numbers; ``ap`` chooses the best."""

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """A strip of people with what the model finds."""


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Everything about a pose network but its weights and schedule."""

    network: str
    codec: Codec
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: HeatmapLoss = "kl"
    level_weights: tuple[float, ...] = (1.0, 0.25, 0.25, 0.25)
    level_sigmas: tuple[float, ...] = (2.0, 1.5, 1.0, 0.75)  # heatmap pixels; coarse levels need no wide targets
    imagenet: bool = False  # start an EfficientNet-Lite trunk from ImageNet weights
    frozen: int = 0  # first blocks of such a trunk that keep them

    @property
    def size(self) -> Size:
        """(width, height) of the network's input."""
        return self.codec.input_size


@dataclass(frozen=True, kw_only=True)
class PoseRead(HostBatch):
    """What one batch needs of the stores: canvases (or just their ``rows``, where all canvases are on the device).

    ``crops`` (B, H, W, 3) and ``occluders`` (M, H, W, 3) uint8; ``keypoints`` (B, K, 3) in canvas pixels; ``draws``
    (B, UNIFORMS) random numbers.
    """

    rows: Tensor
    occluder_rows: Tensor
    crops: Tensor | None
    occluders: Tensor | None
    keypoints: NDArray[np.float64]
    draws: NDArray[np.float64]


@dataclass(frozen=True)
class PoseBatch:
    """``images`` (B, 3, h, w) float 0..255; ``keypoints`` (B, K, 3) in input pixels."""

    images: Tensor
    keypoints: NDArray[np.float64]


class PoseData:
    """All stores laid end to end, read by (epoch, position). Worker processes hold one that opens the files again."""

    def __init__(self, stores: Sequence[CropStore], weights: Sequence[float], augment: AugmentConfig, *,
                 seed: int = 0, pixels: bool = True) -> None:
        canvases = {store.spec.canvas for store in stores}
        if len(canvases) != 1:
            raise ConfigError(f"the crop stores have different canvases {sorted(canvases)}; pack them alike")
        self.stores, self.weights, self.augment, self.seed = list(stores), list(weights), augment, seed
        self.pixels = pixels  # False: the task has them on its device already
        self.starts = np.cumsum([0, *(len(s) for s in stores)])
        self._keypoints = np.concatenate([store.keypoints for store in stores]).astype(np.float64)
        self._orders = Orders(self.order)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of all sets in the order of one epoch."""
        return weighted_order(self.seed, epoch, [len(s) for s in self.stores], self.weights)

    def read(self, samples: Sequence[SampleKey]) -> PoseRead:
        """A sample is the same in any batch, in any process, on any machine."""
        rows, draws = self._orders.rows(samples), uniforms(self.seed, samples, UNIFORMS)
        _, choices = occluded(draws, self.augment)
        others = (choices * len(self)).astype(np.int64)  # whose pixels cover a part of whom
        return PoseRead(
            rows=torch.from_numpy(rows), occluder_rows=torch.from_numpy(others),
            crops=torch.from_numpy(self.crops(rows)) if self.pixels else None,
            occluders=torch.from_numpy(self.crops(others)) if self.pixels and len(others) else None,
            keypoints=self._keypoints[rows], draws=draws)

    def crops(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Canvases (B, H, W, 3) by their number among all sets."""
        width, height = self.stores[0].spec.canvas
        out = np.empty((len(rows), height, width, 3), dtype=np.uint8)
        sets, places = self._located(rows)
        for number in np.unique(sets):
            chosen = np.flatnonzero(sets == number)
            out[chosen] = self.stores[number].read(places[chosen])
        return out

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """Store and annotation id of samples."""
        sets, places = self._located(self._orders.rows(samples))
        stores = [self.stores[number] for number in sets]
        return [f"{s.home.name}: annotation {s.annotation_ids[place]}" for s, place in zip(stores, places, strict=True)]

    def _located(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """(set, row within it) of rows of all sets."""
        sets = np.searchsorted(self.starts, rows, side="right") - 1
        return sets, rows - self.starts[sets]


class PoseTask:
    """See :class:`stagepose.training.loop.Task`. ``resident`` keeps all canvases in the device's memory."""

    def __init__(self, network: nn.Module, config: PoseConfig, stores: Sequence[CropStore], weights: Sequence[float],
                 *, seed: int = 0, validation: PoseJudge | None = None, device: str = "cpu",
                 resident: bool = False) -> None:
        names = {store.skeleton.names for store in stores}
        if len(names) != 1:
            raise ConfigError(f"the training sets have {len(names)} different skeletons; map them to one first")
        self.skeleton: Skeleton = stores[0].skeleton
        self.network, self.model = network, PoseInference(network, config.codec, config.loss)
        self.config, self.validation, self.device = config, validation, device
        self.reader = PoseData(stores, weights, config.augment, seed=seed, pixels=not resident)
        self.samples_per_epoch = len(self.reader.order(0))
        self.codecs = targets.level_codecs(config.codec, len(config.level_weights), config.level_sigmas)
        self._scale = config.size[1] / stores[0].spec.input_size[1]
        self._resident = load_resident(stores, device) if resident else None
        if config.frozen:
            trunk_of(network).freeze(config.frozen)

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON."""
        pose = asdict(self.config) | {"codec": self.config.codec.to_json()}
        return {"kind": "pose", "pose": pose, "skeleton": self.skeleton.to_json(), "sampling": self.reader.weights,
                "data": [{"people": len(s), "fingerprint": s.fingerprint} for s in self.reader.stores]}

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """Store and annotation id of samples."""
        return self.reader.names(samples)

    def prepare(self, read: PoseRead) -> PoseBatch:
        """Augment on the device: one resampling per sample, straight from its canvas."""
        crops, occluders = read.crops, read.occluders
        if self._resident is not None:
            crops = self._resident[read.rows.to(self.device)]
            occluders = self._resident[read.occluder_rows.to(self.device)] if len(read.occluder_rows) else None
        assert crops is not None
        images, moved = augment(
            crops.to(self.device, non_blocking=True), read.keypoints, read.draws, base_scale=self._scale,
            size=self.config.size, skeleton=self.skeleton, config=self.config.augment,
            occluders_MHW3=None if occluders is None else occluders.to(self.device, non_blocking=True))
        return PoseBatch(images, moved)

    def batch(self, samples: Sequence[SampleKey]) -> PoseBatch:
        """Samples read and augmented here and now."""
        return self.prepare(self.reader.read(samples))

    def loss(self, model: nn.Module, batch: PoseBatch) -> dict[str, Tensor]:
        """The heatmap loss over all levels of all stages; v = 1 (hidden) and v = 2 joints count alike."""
        labelled = batch.keypoints[..., 2] > 0
        levels = [targets.encode(c, batch.keypoints[..., :2], labelled, self.device) for c in self.codecs]
        assert isinstance(model, PoseInference)
        outputs = model.logits(batch.images)
        mask = torch.as_tensor(labelled, dtype=torch.float32, device=self.device)
        return {"heatmaps": deep_loss(outputs, levels, mask, kind=self.config.loss,
                                      level_weights=self.config.level_weights)}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """AP and its like; empty without a validation set."""
        return self.validation(model) if self.validation is not None else {}

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """A few validation people with what the model finds; None without a validation set."""
        return self.validation.overlays(model) if self.validation is not None else None


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
