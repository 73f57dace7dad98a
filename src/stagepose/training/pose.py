"""The pose task: crops in, heatmaps out, judged by the predictor that users get. B samples, K keypoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

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
from stagepose.training.inference import PoseInference
from stagepose.training.losses import HeatmapLoss, deep_loss
from stagepose.training.networks.zoo import trunk_of
from stagepose.training.randomness import SampleKey, uniforms, weighted_order

Validation = Callable[[nn.Module], dict[str, float]]  # the averaged model -> numbers; "ap" chooses the best


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


@dataclass(frozen=True)
class PoseBatch:
    """``images`` (B, 3, h, w) float 0..255; ``keypoints`` (B, K, 3) in input pixels."""

    images: Tensor
    keypoints: NDArray[np.float64]


class PoseTask:
    """See :class:`stagepose.training.loop.Task`."""

    def __init__(self, network: nn.Module, config: PoseConfig, stores: Sequence[CropStore], weights: Sequence[float],
                 *, seed: int = 0, validation: Validation | None = None, device: str = "cpu") -> None:
        names = {store.skeleton.names for store in stores}
        if len(names) != 1:
            raise ConfigError(f"the training sets have {len(names)} different skeletons; map them to one first")
        self.skeleton: Skeleton = stores[0].skeleton
        self.model = PoseInference(network, config.codec, config.loss)
        self.config, self.stores, self.weights, self.seed = config, list(stores), list(weights), seed
        self.validation, self.device = validation, device
        self.codecs = targets.level_codecs(config.codec, len(config.level_weights), config.level_sigmas)
        self.samples_per_epoch = len(self.order(0))
        self._keypoints = np.concatenate([store.keypoints for store in stores])
        self._starts = np.cumsum([0, *(len(s) for s in stores)])
        self._orders: dict[int, NDArray[np.int64]] = {}
        if config.frozen:
            trunk_of(network).freeze(config.frozen)

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON."""
        pose = asdict(self.config) | {"codec": self.config.codec.to_json()}
        return {"kind": "pose", "pose": pose, "skeleton": self.skeleton.to_json(), "sampling": self.weights,
                "data": [{"people": len(s), "fingerprint": s.fingerprint} for s in self.stores]}

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Rows of all sets, laid end to end, in the order of one epoch."""
        return weighted_order(self.seed, epoch, [len(s) for s in self.stores], self.weights)

    def _rows(self, samples: Sequence[SampleKey]) -> list[int]:
        epochs = {epoch for epoch, _ in samples}
        self._orders = {e: self._orders[e] if e in self._orders else self.order(e) for e in epochs}
        return [int(self._orders[epoch][position]) for epoch, position in samples]

    def batch(self, samples: Sequence[SampleKey]) -> PoseBatch:
        """Samples named (epoch, position); a sample is the same in any batch, on any machine."""
        rows = self._rows(samples)
        crops, keypoints = self._crops(rows), self._keypoints[rows]
        scale = self.config.size[1] / self.stores[0].spec.input_size[1]
        draws = uniforms(self.seed, samples, UNIFORMS)
        images, moved = augment(
            torch.from_numpy(crops).to(self.device), keypoints.astype(np.float64), draws, base_scale=scale,
            size=self.config.size, skeleton=self.skeleton, config=self.config.augment,
            occluders_MHW3=self._occluders(draws))
        return PoseBatch(images, moved)

    def _occluders(self, draws: NDArray[np.float64]) -> Tensor | None:
        """Canvases of other people, chosen by the samples' own numbers."""
        rows, choices = occluded(draws, self.config.augment)
        if not len(rows):
            return None
        return torch.from_numpy(self._crops([int(u * self._starts[-1]) for u in choices])).to(self.device)

    def _crops(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Canvases (B, H, W, 3) by their number among all sets."""
        sets = np.searchsorted(self._starts, rows, side="right") - 1
        return np.stack([self.stores[s].crops[row - self._starts[s]] for s, row in zip(sets, rows, strict=True)])

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
