"""ResNet trunks: a stride-4 stem and four groups of residual blocks with outputs C2..C5."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from stagepose.training.networks.blocks import BasicBlock, Bottleneck, conv_bn_relu


class ResNetStem(nn.Module):
    """The classic stem: 7x7 stride 2 and a 3x3 max pool; (N, 3, H, W) -> (N, width, H/4, W/4)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.conv = conv_bn_relu(3, width, 7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.conv(images))  # type: ignore[no-any-return]


class SlimStem(nn.Module):
    """Two strided 3x3: cheaper than the 7x7 on a CPU; (N, 3, H, W) -> (N, width, H/4, W/4)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.conv1 = conv_bn_relu(3, width // 2, 3, stride=2)
        self.conv2 = conv_bn_relu(width // 2, width, 3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv2(self.conv1(images))  # type: ignore[no-any-return]


class ResNetTrunk(nn.Module):
    """Residual groups conv2..conv5 from a stride-4 map: (N, in, h, w) -> [C2, C3, C4, C5] at strides 4..32.

    Source: the report, figures 5 and 8. ``blocks`` are the residual blocks per group ({3, 4, 6, 3} is
    ResNet-50, {4, 8, 16, 3} the report's spatial ResNet-101); ``widths`` the inner width of each group.
    ``skips`` are maps of an earlier stage, added to each group's output on its way to the next group.
    """

    def __init__(
        self,
        *,
        block: type[BasicBlock] | type[Bottleneck],  # or a bottleneck's relative, such as InceptionBottleneck
        blocks: Sequence[int],
        widths: Sequence[int] = (64, 128, 256, 512),
        in_channels: int = 64,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or len(widths) != 4:
            raise ValueError(f"blocks {tuple(blocks)} and widths {tuple(widths)} must name four groups each")
        self.groups = nn.ModuleList()
        channels = in_channels
        for level, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            group = nn.Sequential()
            for i in range(count):
                stride = 2 if level > 0 and i == 0 else 1
                group.append(block(channels, width, stride))
                channels = width * block.expansion
            self.groups.append(group)
        self.out_channels = tuple(w * block.expansion for w in widths)

    def forward(self, x: Tensor, skips: Sequence[Tensor] | None = None) -> list[Tensor]:
        maps = []
        for level, group in enumerate(self.groups):
            x = group(x) if skips is None else group(x) + skips[level]
            maps.append(x)
        return maps
