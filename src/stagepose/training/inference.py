"""The network as users run it: uint8 crops in, heatmaps out; the same module is trained, judged and exported."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.heatmaps import Codec
from stagepose.training.losses import HeatmapLoss

MEAN = 127.0  # of EfficientNet-Lite's published weights; as good a centre as any for networks without such weights
SCALE = 128.0


class PoseInference(nn.Module):
    """Normalisation, network, and heatmaps whose ideal peak is 1.

    ``forward``: uint8 RGB crops (N, H, W, 3) -> float32 (N, K, H/4, W/4) of the last stage's finest level.
    A network trained with "kl" gives logits: their softmax is scaled by 2 pi sigma^2, so a certain joint reaches 1.
    """

    def __init__(self, network: nn.Module, codec: Codec, loss: HeatmapLoss) -> None:
        super().__init__()
        self.network = network
        self.softmax = loss == "kl"
        self.peak = 2 * math.pi * codec.spread[0] ** 2

    def logits(self, images: Tensor) -> list[list[Tensor]]:
        """Float pictures (N, 3, H, W) in 0..255 -> the network's ``[stage][level]`` maps."""
        normal = (images - MEAN) / SCALE
        return self.network(normal.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def forward(self, crops: Tensor) -> Tensor:
        maps = self.logits(crops.permute(0, 3, 1, 2).float())[-1][0].float()
        if not self.softmax:
            return maps
        return torch.softmax(maps.flatten(2), -1).reshape(maps.shape) * self.peak


class NumpyHeatmaps:
    """A torch model behind the predictor's signature: uint8 crops (N, H, W, 3) -> float32 heatmaps."""

    def __init__(self, model: nn.Module, device: str = "cpu") -> None:
        self.model, self.device = model.eval(), device

    @torch.inference_mode()
    def __call__(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = self.model(torch.from_numpy(crops_NHW3).to(self.device))
        return np.asarray(found.float().cpu().numpy(), dtype=np.float32)
