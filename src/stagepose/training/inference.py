"""The network as users run it: uint8 crops in, heatmaps out; the same module is trained, judged and exported."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.errors import ConfigError
from stagepose.heatmaps import Codec
from stagepose.training.losses import KINDS, HeatmapLoss
from stagepose.training.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE
from stagepose.training.networks.multistage import Given, MultiStage

Reading = Literal["last", "mean", "router"]  # which stages' heatmaps come out


class PoseInference(nn.Module):
    """Normalisation, network, and heatmaps whose ideal peak is 1.

    ``forward``: uint8 RGB crops (N, H, W, 3) -> float32 (N, K, H/4, W/4) of the finest level of

    - ``last``: the last stage (the report's way),
    - ``mean``: all stages on average,
    - ``router``: the first stage, or the last for people whose mean peak after the first is below ``route_below``:
      only they are seen by the later stages at all.

    Where the loss has it give logits ("kl"), their softmax is scaled by what a target adds up to, so a certain joint
    reaches 1.
    """

    def __init__(self, network: nn.Module, codec: Codec, loss: HeatmapLoss, *, reading: Reading = "last",
                 route_below: float = 0.0) -> None:
        super().__init__()
        if reading == "router" and not (isinstance(network, MultiStage) and len(network.stages) > 1):
            raise ConfigError("a router needs a network of several stages in a row; use 'last'")
        self.network, self.reading, self.route_below = network, reading, route_below
        self.read_as(codec, loss)

    def read_as(self, codec: Codec, loss: HeatmapLoss) -> None:
        """Take the network's maps for what one that learnt ``codec``'s targets by ``loss`` puts out."""
        self.softmax = KINDS[loss].softmax
        self.peak = codec.volume

    def logits(self, images: Tensor) -> list[list[Tensor]]:
        """Float pictures (N, 3, H, W) in 0..255 -> the network's ``[stage][level]`` maps."""
        return self.network(_normal(images))  # type: ignore[no-any-return]

    def heatmaps(self, maps: Tensor) -> Tensor:
        """One level's maps as the network gives them -> float32 heatmaps (N, K, h, w) of peak 1."""
        if not self.softmax:
            return maps.float()
        return torch.softmax(maps.float().flatten(2), -1).reshape(maps.shape) * self.peak

    def forward(self, crops: Tensor) -> Tensor:
        images = crops.permute(0, 3, 1, 2).float()
        if self.reading == "router":
            return self._routed(_normal(images))
        stages = [stage[0] for stage in self.logits(images)]
        if self.reading == "mean":
            return torch.stack([self.heatmaps(maps) for maps in stages]).mean(0)
        return self.heatmaps(stages[-1])

    def _routed(self, images: Tensor) -> Tensor:
        assert isinstance(self.network, MultiStage)
        first, given = self.network.run(0, Given(self.network.stem(images)))
        rows = torch.nonzero(self.heatmaps(first[0]).amax((2, 3)).clamp(0, 1).mean(1) < self.route_below)[:, 0]
        given = given.rows(rows)
        for number in range(1, len(self.network.stages)):
            last, given = self.network.run(number, given)
        return self.heatmaps(first[0].index_put((rows,), last[0]))


def _normal(images: Tensor) -> Tensor:
    """As EfficientNet-Lite's published weights have it: as good a centre as any for networks without such weights."""
    return ((images - PIXEL_MEAN) / PIXEL_SCALE).contiguous(memory_format=torch.channels_last)


class NumpyHeatmaps:
    """A torch model behind the predictor's signature: uint8 crops (N, H, W, 3) -> float32 heatmaps."""

    def __init__(self, model: nn.Module, device: str = "cpu") -> None:
        self.model, self.device = model.eval(), device

    @torch.inference_mode()
    def __call__(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = self.model(torch.from_numpy(crops_NHW3).to(self.device))
        return np.asarray(found.float().cpu().numpy(), dtype=np.float32)
