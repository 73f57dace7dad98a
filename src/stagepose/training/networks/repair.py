"""The two networks that learn to repair photos of people: a U-Net that paints, and a critic of patches.

N people, C channels, H W picture size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from stagepose.errors import ConfigError

GROUPS = 8  # of group norm: a picture is repaired the same in any batch
SLOPE = 0.2  # of leaky ReLU in the critic (Miyato et al. 2018)
PATCH_STEPS = 3  # halvings of the critic: a logit sees 54 pixels across


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3, twice, around a shortcut; (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, in_channels), nn.GroupNorm(GROUPS, out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(functional.silu(self.norm1(x)))
        out = self.conv2(functional.silu(self.norm2(out)))
        return self.shortcut(x) + out  # type: ignore[no-any-return]


class RepairNet(nn.Module):
    """What to add to a picture: (N, C, H, W) picture and condition -> (N, 3, H, W), zero before training.

    ``widths`` are the channels at strides ``block``, 2 ``block``, ...; every level but the first has ``depth`` residual
    blocks on its way down and one on its way up. The first has one convolution at each end: most of a picture is right
    already and reaches the end by itself. ``block`` 2 lays squares of 2x2 pixels on top of each other as channels
    (Shi et al. 2016), there and back, which makes a small network twice as fast.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], depth: int, block: int = 1) -> None:
        super().__init__()
        if len(widths) < 2 or depth < 1 or any(width < GROUPS or width % GROUPS for width in widths):
            raise ConfigError(f"widths {tuple(widths)} and depth {depth}: expected at least two widths, multiples of "
                              f"{GROUPS}, and a depth of 1 or more")
        self.stride = block * 2 ** (len(widths) - 1)  # what both sides of a picture must be divisible by
        self.stem = nn.Sequential(nn.PixelUnshuffle(block), nn.Conv2d(in_channels * block**2, widths[0], 3, padding=1))
        pairs = list(pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairs)
        self.down = nn.ModuleList(nn.Sequential(*(ResidualBlock(b, b) for _ in range(depth))) for _, b in pairs)
        self.lift = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairs[1:])
        self.up = nn.ModuleList(ResidualBlock(2 * a, a) for a, _ in pairs[1:])
        self.finish = nn.Conv2d(widths[1], widths[0], 3, padding=1)
        self.out = nn.Conv2d(2 * widths[0], 3 * block**2, 3, padding=1)
        self.unfold = nn.PixelShuffle(block)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for shrink, blocks in zip(self.shrink, self.down, strict=True):
            maps.append(blocks(shrink(maps[-1])))
        out = maps.pop()
        for lift, block in zip(reversed(self.lift), reversed(self.up), strict=True):
            out = block(torch.cat([lift(_doubled(out)), maps.pop()], 1))
        out = torch.cat([self.finish(_doubled(out)), maps.pop()], 1)
        return self.unfold(self.out(functional.silu(out)))  # type: ignore[no-any-return]


class PatchCritic(nn.Module):
    """How real every patch of a picture looks for its pose: (N, C, H, W) -> (N, 1, H / 8, W / 8), unbounded.

    A PatchGAN (Isola et al. 2017) whose layers' largest singular values are held at 1 (Miyato et al. 2018). The pose
    maps are among the C channels: a fine picture of another pose is no fine picture.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for step in range(PATCH_STEPS):
            layers += [spectral_norm(nn.Conv2d(channels, width * 2**step, 4, 2, 1)), nn.LeakyReLU(SLOPE)]
            channels = width * 2**step
        layers += [spectral_norm(nn.Conv2d(channels, channels, 3, padding=1)), nn.LeakyReLU(SLOPE),
                   spectral_norm(nn.Conv2d(channels, 1, 3, padding=1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Repairer(nn.Module):
    """Both networks: what is trained, saved and averaged together.

    The generator sees ``picture_channels`` and ``pose_channels``; the critic three of a picture, and the pose's.
    """

    def __init__(self, *, picture_channels: int, pose_channels: int, widths: Sequence[int], depth: int,
                 critic_width: int, block: int = 1) -> None:
        super().__init__()
        self.generator = RepairNet(picture_channels + pose_channels, widths, depth, block)
        self.critic = PatchCritic(3 + pose_channels, critic_width)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
