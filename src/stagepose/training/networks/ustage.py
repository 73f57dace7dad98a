"""One U-shaped stage: a trunk going down, a pyramid coming up, heatmap heads on all four levels.

Source: the report, section 3.2.3 and figure 6; :class:`LateUpPath` and :class:`LateHead` as CPN and the report's
successor describe theirs. N people, K keypoints, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from stagepose.errors import ConfigError
from stagepose.training.networks.blocks import conv_bn_relu


def _lateral(in_channels: int, width: int) -> nn.Sequential:
    """1x1 and batch norm, no ReLU: what is added up is rectified after the sum."""
    return nn.Sequential(nn.Conv2d(in_channels, width, 1, bias=False), nn.BatchNorm2d(width))


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class UpPath(nn.Module):
    """[C2..C5] -> [P2..P5], all with ``width`` channels (256 in the report).

    Bilinear x2, a lateral 1x1 on the trunk's map, addition, and a 1x1 after the merge against aliasing. What goes up to
    the next level is the map after that 1x1 (batch norm and ReLU with it); by the report's text, as in FPN, it is the
    merged map itself, and the 1x1 makes P alone. The models that ship have learnt it so, hence it stays: the same
    weights in the other order would compute something else. ``refine``, not the report's: a module for each level that
    its merged map goes through, finest first.
    """

    def __init__(self, in_channels: Sequence[int], width: int, refine: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_lateral(c, width) for c in in_channels)
        self.merge = nn.ModuleList(conv_bn_relu(width, width, 1) for _ in in_channels)
        self.refine = nn.ModuleList(refine)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        ups: list[Tensor] = []
        for level in reversed(range(len(maps))):
            x = self.lateral[level](maps[level])
            if ups:
                x = x + _upsampled(ups[-1], x)
            merged = self.merge[level](functional.relu(x))
            ups.append(self.refine[level](merged) if self.refine else merged)
        return ups[::-1]


class LateUpPath(nn.Module):
    """The up path of CPN and of the report's successor: the 1x1 sits on the upsampled map, before the addition."""

    def __init__(self, in_channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_lateral(c, width) for c in in_channels)
        self.rise = nn.ModuleList(_lateral(width, width) for _ in in_channels[1:])  # from level i + 1 to level i

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        ups: list[Tensor] = []
        for level in reversed(range(len(maps))):
            x = self.lateral[level](maps[level])
            if ups:
                x = x + self.rise[level](_upsampled(ups[-1], x))
            ups.append(functional.relu(x))
        return ups[::-1]


class HeatmapHead(nn.Module):
    """The report's: 3x3 then 1x1; a pyramid map (N, C, h, w) -> heatmap logits (N, K, h, w).

    On four levels of 256 channels at 256x192 that is 2.42 GMACs a stage; :class:`LateHead` needs 0.42.
    """

    def __init__(self, width: int, keypoints: int) -> None:
        super().__init__()
        self.conv = conv_bn_relu(width, width, 3)
        self.out = nn.Conv2d(width, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x))  # type: ignore[no-any-return]


class LateHead(nn.Module):
    """The head of CPN and of the report's successor: 1x1 then 3x3, cheap since the 3x3 makes only K maps."""

    def __init__(self, width: int, keypoints: int) -> None:
        super().__init__()
        self.conv = conv_bn_relu(width, width, 1)
        self.out = nn.Conv2d(width, keypoints, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x))  # type: ignore[no-any-return]


class StageOutput(NamedTuple):
    """What a stage gives, finest level first: heatmap logits, the pyramid P2..P5, and the trunk's maps C2..C5."""

    heatmaps: list[Tensor]
    pyramid: list[Tensor]
    maps: list[Tensor]


class UStage(nn.Module):
    """Trunk, up path and heads: input of the trunk -> :class:`StageOutput`.

    ``late`` builds the stage as the report's successor does (:class:`LateUpPath`, :class:`LateHead`); ``refine`` is for
    an :class:`UpPath` alone.
    ``skips``, where given, are an earlier stage's maps for the trunk to add; see :class:`.multistage.Bridge`.
    """

    def __init__(self, trunk: nn.Module, trunk_channels: Sequence[int], *, width: int, keypoints: int,
                 late: bool = False, refine: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        if late and refine:
            raise ConfigError("refine: a late up path merges without a module to refine with; leave one of them out")
        self.trunk_channels, self.width, self.keypoints = tuple(trunk_channels), width, keypoints
        head = LateHead if late else HeatmapHead
        self.trunk = trunk
        self.up = LateUpPath(trunk_channels, width) if late else UpPath(trunk_channels, width, refine)
        self.heads = nn.ModuleList(head(width, keypoints) for _ in trunk_channels)

    def forward(self, x: Tensor, skips: Sequence[Tensor] | None = None) -> StageOutput:
        maps = self.trunk(x) if skips is None else self.trunk(x, skips)
        pyramid = self.up(maps)
        return StageOutput([head(p) for head, p in zip(self.heads, pyramid, strict=True)], pyramid, maps)
