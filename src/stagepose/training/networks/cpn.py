"""Cascaded Pyramid Network (Chen et al. 2018), a baseline that the report starts from.

GlobalNet is a U-stage with cheap heads; RefineNet takes its pyramid, works longest on the coarsest level, and
concatenates. Meant to be trained with all joints on GlobalNet and the hardest eight on RefineNet (``ohkm=(0, 8)``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stagepose.training.networks.blocks import HalfBottleneck
from stagepose.training.networks.ustage import UStage


class RefineNet(nn.Module):
    """[P2..P5] of ``width`` channels -> heatmap logits (N, K, h, w) of P2's size.

    Level i goes through i bottlenecks (0 on P2, 3 on P5), where maps are small and context is cheap; all are brought
    to P2's size, concatenated, and merged by one more bottleneck and a 3x3.
    """

    def __init__(self, width: int, keypoints: int, levels: int = 4) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            nn.Sequential(*(HalfBottleneck(width, width // 2) for _ in range(level))) for level in range(levels))
        self.merge = HalfBottleneck(width * levels, width // 2)
        self.out = nn.Conv2d(width, keypoints, 3, padding=1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        size = pyramid[0].shape[-2:]
        deep = [path(p) for path, p in zip(self.paths, pyramid, strict=True)]
        same = [deep[0], *(functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
                           for x in deep[1:])]
        return self.out(self.merge(torch.cat(same, 1)))  # type: ignore[no-any-return]


class CPN(nn.Module):
    """``forward(images (N, 3, H, W))`` -> ``[[P2..P5 of GlobalNet], [RefineNet]]`` heatmap logits.

    GlobalNet's maps come at their own resolution, as in every network here; the paper upsamples them in the network,
    which the loss can do (``upsample=True``). Published for ResNet-50: 27.0 M parameters, as here, and 6.20 GMACs at
    256x192 (HRNet, CVPR 2019, table 1); here 7.23, 0.3 of them since a trunk's strides sit on the 3x3, not the 1x1.
    """

    stage_count = 2

    def __init__(self, stem: nn.Module, global_net: UStage, keypoints: int) -> None:
        super().__init__()
        self.stem, self.global_net = stem, global_net
        self.refine_net = RefineNet(global_net.width, keypoints, len(global_net.trunk_channels))

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        heatmaps, pyramid, _ = self.global_net(self.stem(images))
        return [heatmaps, [self.refine_net(pyramid)]]
