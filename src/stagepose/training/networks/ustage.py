"""One U-shaped stage: a trunk going down, a pyramid coming up, heatmap heads on all four levels.

Source: the report, section 3.2.3 and figure 6. N people, K keypoints, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from stagepose.training.networks.blocks import conv_bn_relu


class UpPath(nn.Module):
    """[C2..C5] -> [P2..P5], all with ``width`` channels.

    Bilinear x2, a lateral 1x1 on the trunk's map, addition, and a 1x1 after the merge against aliasing.
    """

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width))
                                     for c in in_channels)
        self.merge = nn.ModuleList(conv_bn_relu(width, width, 1) for _ in in_channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        ups: list[Tensor] = []
        for level in reversed(range(len(maps))):
            x = self.lateral[level](maps[level])
            if ups:
                x = x + functional.interpolate(ups[-1], size=x.shape[-2:], mode="bilinear", align_corners=False)
            ups.append(self.merge[level](functional.relu(x)))
        return ups[::-1]


class HeatmapHead(nn.Module):
    """3x3 then 1x1: a pyramid map (N, C, h, w) -> heatmap logits (N, K, h, w)."""

    def __init__(self, width: int, keypoints: int) -> None:
        super().__init__()
        self.conv = conv_bn_relu(width, width, 3)
        self.out = nn.Conv2d(width, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x))  # type: ignore[no-any-return]


class UStage(nn.Module):
    """Trunk, up path and heads: input of the trunk -> (heatmaps of P2..P5, the finest feature P2)."""

    def __init__(self, trunk: nn.Module, trunk_channels: Sequence[int], *, width: int, keypoints: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.up = UpPath(trunk_channels, width)
        self.heads = nn.ModuleList(HeatmapHead(width, keypoints) for _ in trunk_channels)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        pyramid = self.up(self.trunk(x))
        return [head(p) for head, p in zip(self.heads, pyramid, strict=True)], pyramid[0]
