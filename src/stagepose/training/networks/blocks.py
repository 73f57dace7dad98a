"""Convolution blocks shared by all networks. N people, C channels, H W map size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; (N, in, H, W) -> (N, out, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut of a residual block: nothing where shapes agree, else a strided 1x1 with batch norm."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(in_channels, width, 3, stride)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _projection(in_channels, width, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.conv1(x))) + self.shortcut(x))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut; the stride sits on the 3x3, as in torchvision and MSPN."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn_relu(in_channels, width, 1)
        self.conv2: nn.Module = conv_bn_relu(width, width, 3, stride)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.shortcut = _projection(in_channels, width * self.expansion, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn3(self.conv3(self.conv2(self.conv1(x))))
        return self.relu(out + self.shortcut(x))  # type: ignore[no-any-return]


class HalfBottleneck(Bottleneck):
    """A bottleneck whose inner maps have half the channels, not a quarter: CPN's RefineNet (Chen et al. 2018)."""

    expansion = 2


class InceptionSplit(nn.Module):
    """Parallel 1x1, 3x3 and 3x3-3x3 convolutions, concatenated: (N, C, H, W) -> (N, C, H / stride, W / stride).

    A quarter, a half and a quarter of the channels see 1, 3 and 5 pixels wide; 16 % fewer multiplications than one 3x3.
    """

    def __init__(self, width: int, stride: int = 1) -> None:
        super().__init__()
        if width % 4:
            raise ValueError(f"width {width} must be divisible by 4, to be split into a quarter, a half and a quarter")
        quarter = width // 4
        self.narrow = conv_bn_relu(width, quarter, 1, stride)
        self.middle = conv_bn_relu(width, width - 2 * quarter, 3, stride)
        self.wide = nn.Sequential(conv_bn_relu(width, quarter, 3, stride), conv_bn_relu(quarter, quarter, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.narrow(x), self.middle(x), self.wide(x)], 1)


class InceptionBottleneck(Bottleneck):
    """A bottleneck whose 3x3 is an :class:`InceptionSplit`: our reading of the report's "resInc".

    The report names resInc101 without a definition. Its successor says of the winner of 2017 that it was "based on
    Res-Inception", which also leaves the layers open; so this is a choice, not a reproduction.
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(in_channels, width, stride)
        self.conv2 = InceptionSplit(width, stride)
