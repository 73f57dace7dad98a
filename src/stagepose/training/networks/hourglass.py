"""Stacked Hourglass (Newell et al. 2016), a baseline that the report starts from.

One pre-activation residual block a location and four halvings inside an hourglass, as in the paper. N people,
K keypoints, C features.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from stagepose.training.networks.blocks import conv_bn_relu


def _preactivated(in_channels: int, out_channels: int, kernel: int = 1) -> nn.Sequential:
    """Batch norm, ReLU, convolution; not in place, since the shortcut reads the same input."""
    return nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(),
                         nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2))


class PreactBottleneck(nn.Module):
    """1x1, 3x3, 1x1 with batch norm and ReLU before each, and a shortcut (the paper's figure 4 left)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.body = nn.Sequential(_preactivated(in_channels, half), _preactivated(half, half, 3),
                                  _preactivated(half, out_channels))
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)  # type: ignore[no-any-return]


class Hourglass(nn.Module):
    """``depth`` halvings and as many doublings with a skip at each size: (N, C, h, w) -> the same shape.

    Halves are rounded up and doublings cut to the skip's size, so that any input goes, not only multiples of 64.
    """

    def __init__(self, depth: int, features: int) -> None:
        super().__init__()
        self.skip = PreactBottleneck(features, features)
        self.down = PreactBottleneck(features, features)
        self.inner = Hourglass(depth - 1, features) if depth > 1 else PreactBottleneck(features, features)
        self.up = PreactBottleneck(features, features)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x)
        low = self.up(self.inner(self.down(functional.max_pool2d(x, 2, ceil_mode=True))))
        return skip + functional.interpolate(low, size=skip.shape[-2:], mode="nearest")  # type: ignore[no-any-return]


class _Stack(nn.Module):
    """An hourglass, a residual block, a linear layer and the heatmaps: x -> (feature, heatmap logits (N, K, h, w))."""

    def __init__(self, features: int, keypoints: int, depth: int) -> None:
        super().__init__()
        self.hourglass = Hourglass(depth, features)
        self.residual = PreactBottleneck(features, features)
        self.linear = conv_bn_relu(features, features)
        self.out = nn.Conv2d(features, keypoints, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.linear(self.residual(self.hourglass(x)))
        return feature, self.out(feature)


class _Remap(nn.Module):
    """What the next stack gets: the input, the feature and the heatmaps, each remapped by a 1x1 and added."""

    def __init__(self, features: int, keypoints: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(features, features, 1)
        self.heatmaps = nn.Conv2d(keypoints, features, 1)

    def forward(self, x: Tensor, feature: Tensor, heatmaps: Tensor) -> Tensor:
        return x + self.feature(feature) + self.heatmaps(heatmaps)  # type: ignore[no-any-return]


class StackedHourglass(nn.Module):
    """``forward(images (N, 3, H, W))`` -> ``[stage][level]`` heatmap logits with one level, stride 4, in every stage.

    HRNet's table (CVPR 2019, table 1) gives 8 stacks 25.1 M parameters and 14.3 GMACs at 256x192. The paper's layers,
    every location 213 k multiplications a pixel, make 25.4 M and 20.6: 2.4 a stack and 1.5 before the first.
    """

    def __init__(self, keypoints: int, *, stacks: int, features: int = 256, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn_relu(3, features // 4, 7, stride=2),
            PreactBottleneck(features // 4, features // 2),
            nn.MaxPool2d(2),
            PreactBottleneck(features // 2, features // 2),
            PreactBottleneck(features // 2, features),
        )
        self.stacks = nn.ModuleList(_Stack(features, keypoints, depth) for _ in range(stacks))
        self.remaps = nn.ModuleList(_Remap(features, keypoints) for _ in range(stacks - 1))

    @property
    def stage_count(self) -> int:
        """How many stages' heatmaps :meth:`forward` returns."""
        return len(self.stacks)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        x = self.stem(images)
        outputs = []
        for i, stack in enumerate(self.stacks):
            feature, heatmaps = stack(x)
            outputs.append([heatmaps])
            if i < len(self.remaps):
                x = self.remaps[i](x, feature, heatmaps)
        return outputs
