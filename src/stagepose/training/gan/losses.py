"""What a repaired photo is compared by: pixels, an ImageNet trunk's features, a critic, a frozen pose network.

B pictures, H W size; pictures are float in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stagepose.geometry import Float
from stagepose.heatmaps import Codec
from stagepose.training import decoding, targets
from stagepose.training.inference import PoseInference
from stagepose.training.losses import kl_loss, mse_loss
from stagepose.training.networks.efficientnet_lite import EfficientNetLite, load_imagenet
from stagepose.training.tensors import numbers_on

HALF = 127.5  # grey levels to 1
LEVELS = 3  # of the trunk's maps that features are matched on: strides 4, 8, 16


def pixel_loss(repaired: Tensor, photo: Tensor, changed_B1HW: Tensor) -> Tensor:
    """Mean absolute difference where a picture was changed."""
    return ((repaired - photo).abs() * changed_B1HW).sum() / (3 * changed_B1HW.sum()).clamp_min(1)


def critic_loss(of_photos: Tensor, of_repaired: Tensor, seen: Tensor) -> Tensor:
    """The hinge: photos are to be above 1, repaired pictures below -1; patches count by ``seen`` (B, 1, h, w)."""
    return _mean(functional.relu(1 - of_photos) + functional.relu(1 + of_repaired), seen)


def fooling_loss(of_repaired: Tensor, seen: Tensor) -> Tensor:
    """Low where the critic takes repaired patches for photos."""
    return -_mean(of_repaired, seen)


def seen_patches(changed_B1HW: Tensor, logits: Tensor) -> Tensor:
    """(B, 1, h, w) how much a patch was changed at most: of untouched ones there is nothing to be told."""
    return functional.adaptive_max_pool2d(changed_B1HW, logits.shape[-2:])


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values.float() * weights).sum() / weights.sum().clamp_min(1)


class Features(nn.Module):
    """Distance of two pictures in the eyes of an ImageNet trunk that stays as it is (Johnson et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(0)
        load_imagenet(self.trunk)
        self.eval().requires_grad_(False)

    def forward(self, repaired: Tensor, photo: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.trunk(photo)[:LEVELS]
        found = self.trunk(repaired)[:LEVELS]
        terms = [(a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp_min(1e-6)
                 for a, b in zip(found, wanted, strict=True)]
        return torch.stack(terms).mean()


@dataclass(frozen=True, eq=False)
class PoseFinder:
    """A trained pose network that stays as it is: it says whether it finds the pose that a picture is to show.

    It sees pictures at the size it was trained on, so on a CPU its share of a step is large: ``share`` of the batch.
    """

    model: PoseInference
    codec: Codec
    sigmas: tuple[float, ...]
    sha256: str  # of the file it came from, of a run folder its weights'
    share: float = 0.25

    def loss(self, pictures: Tensor, keypoints_BK3: Float) -> Tensor:
        """Its own training loss, on the first pictures of the batch."""
        some = max(1, round(self.share * len(pictures)))
        points, labelled = self._points(keypoints_BK3[:some], pictures), keypoints_BK3[:some, :, 2] > 0
        maps = self.model.logits(self._sized(pictures[:some]))[-1][0]
        drawn = targets.encode(self.codec, points, labelled, pictures.device)
        if self.model.softmax:
            return kl_loss(maps, drawn)
        return mse_loss(maps, drawn, numbers_on(pictures.device, labelled.astype(np.float32)))

    @torch.no_grad()
    def oks(self, pictures: Tensor, keypoints_BK3: Float, areas_B: Float) -> Tensor:
        """(B,) how well it finds the pose."""
        maps = self.model.heatmaps(self.model.logits(self._sized(pictures))[-1][0])
        points, _ = decoding.decode(self.codec, maps, self.sigmas)
        scale = numbers_on(points.device, np.array(self._scale(pictures)))
        return decoding.oks((points + 0.5) / scale - 0.5, keypoints_BK3, areas_B, self.sigmas)

    def _sized(self, pictures: Tensor) -> Tensor:
        """Grey levels at the network's own size."""
        width, height = self.codec.input_size
        return functional.interpolate((pictures.float() + 1) * HALF, size=(height, width), mode="bilinear",
                                      align_corners=False)

    def _scale(self, pictures: Tensor) -> tuple[float, float]:
        return self.codec.input_size[0] / pictures.shape[3], self.codec.input_size[1] / pictures.shape[2]

    def _points(self, keypoints_BK3: Float, pictures: Tensor) -> Float:
        return (keypoints_BK3[..., :2] + 0.5) * self._scale(pictures) - 0.5


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed meanwhile sends gradients through the module, but none to its parameters."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
