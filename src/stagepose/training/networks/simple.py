"""SimpleBaseline (Xiao et al. 2018): a trunk and three transposed convolutions, the plain reference."""

from __future__ import annotations

from torch import Tensor, nn


class SimpleBaseline(nn.Module):
    """``forward(images (N, 3, H, W))`` -> ``[[heatmap logits (N, K, H/4, W/4)]]``: one stage, one level.

    Published: 34.0 / 53.0 / 68.6 M parameters on ResNet-50 / 101 / 152, 5.46 / 9.11 / 12.77 GMACs at 256x192
    (mmpose's table; the authors' own 8.9 / 12.4 / 15.7 are counted differently).
    """

    def __init__(self, stem: nn.Module, trunk: nn.Module, trunk_channels: int, *, keypoints: int,
                 width: int = 256) -> None:
        super().__init__()
        self.stem, self.trunk = stem, trunk
        self.up = nn.Sequential()
        for channels in (trunk_channels, width, width):
            self.up.append(nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False))
            self.up.append(nn.BatchNorm2d(width))
            self.up.append(nn.ReLU(inplace=True))
        self.out = nn.Conv2d(width, keypoints, 1)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        return [[self.out(self.up(self.trunk(self.stem(images))[-1]))]]
