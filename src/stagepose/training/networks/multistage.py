"""Stages in a row: each later stage looks at the finest feature of the one before.

Source: the report, figure 5 and section 3.2.3.2. The 1x1 to 64 channels between stages and the aggregation across
stages follow the description in its published successor (arXiv 1901.00148); concatenated and residual heatmaps are
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from stagepose.training.networks.blocks import conv_bn_relu
from stagepose.training.networks.ustage import UStage

Heatmaps = list[list[Tensor]]  # [stage][level], level 0 the finest (stride 4); each (N, K, h, w)


def link(width: int, next_in_channels: int = 64) -> nn.Sequential:
    """The door between two stages: 1x1, batch norm, ReLU on the finest up-path feature."""
    return conv_bn_relu(width, next_in_channels, 1)


class Bridge(nn.Module):
    """Aggregation across stages: a stage's trunk maps and pyramid -> what the next trunk adds on each level.

    Two 1x1 paths a level, from the way down and from the way up, so that a later stage need not find again what an
    earlier one knew before its features were squeezed through the 64 channels of the link.
    """

    def __init__(self, trunk_channels: Sequence[int], width: int, next_trunk_channels: Sequence[int]) -> None:
        super().__init__()
        pairs = list(zip(trunk_channels, next_trunk_channels, strict=True))
        self.down = nn.ModuleList(conv_bn_relu(mine, its, 1) for mine, its in pairs)
        self.up = nn.ModuleList(conv_bn_relu(width, its, 1) for _, its in pairs)

    def forward(self, maps: Sequence[Tensor], pyramid: Sequence[Tensor]) -> list[Tensor]:
        return [down(c) + up(p) for down, up, c, p in zip(self.down, self.up, maps, pyramid, strict=True)]


class Given(NamedTuple):
    """What a stage gets: its input, what its trunk adds on each level, and the heatmaps of the stage before."""

    x: Tensor
    skips: list[Tensor] | None = None
    heatmaps: list[Tensor] | None = None

    def rows(self, index: Tensor) -> Given:
        """Of some samples only."""
        return Given(self.x[index], *(None if maps is None else [m[index] for m in maps] for maps in self[1:]))


class MultiStage(nn.Module):
    """``forward(images (N, 3, H, W))`` -> heatmap logits ``[stage][level]``, the same in training and inference.

    ``links`` are the modules between stages, one fewer than ``stages``; the first stage gets ``stem(images)``.

    - ``bridges``: one :class:`Bridge` for each link, or none: aggregation across stages.
    - ``concat_heatmaps``: links get the finest feature with the finest heatmaps behind it (width + K channels).
    - ``residual``: a later stage's heatmaps are added to those of the stage before, level by level. With
      :func:`.init.zero_heads_` on it a new stage begins as the identity, so whom the earlier stages already find
      stays found until the later one learns something better.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[UStage], links: Sequence[nn.Module] = (), *,
                 bridges: Sequence[Bridge] = (), concat_heatmaps: bool = False, residual: bool = False) -> None:
        super().__init__()
        if len(links) != len(stages) - 1:
            raise ValueError(f"{len(stages)} stages need {len(stages) - 1} links, got {len(links)}")
        if len(bridges) not in (0, len(links)):
            raise ValueError(f"{len(stages)} stages need {len(links)} bridges or none, got {len(bridges)}")
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.links = nn.ModuleList(links)
        self.bridges = nn.ModuleList(bridges)
        self.concat_heatmaps, self.residual = concat_heatmaps, residual
        self.frozen: list[nn.Module] = []
        self._held: list[nn.Parameter] = []  # those that learnt until freeze_stages stopped them

    @property
    def stage_count(self) -> int:
        """How many stages' heatmaps :meth:`forward` returns."""
        return len(self.stages)

    def forward(self, images: Tensor) -> Heatmaps:
        given, outputs = Given(self.stem(images)), []
        for number in range(len(self.stages)):
            heatmaps, given = self.run(number, given)
            outputs.append(heatmaps)
        return outputs

    def run(self, number: int, given: Given) -> tuple[list[Tensor], Given]:
        """One stage -> its heatmaps, finest first, and what the next one gets (after the last: nothing new)."""
        heatmaps, pyramid, maps = self.stages[number](given.x, given.skips)
        if self.residual and given.heatmaps is not None:
            heatmaps = [old + change for old, change in zip(given.heatmaps, heatmaps, strict=True)]
        if number == len(self.links):
            return heatmaps, Given(given.x, None, heatmaps)
        x = self.links[number](torch.cat([pyramid[0], heatmaps[0]], 1) if self.concat_heatmaps else pyramid[0])
        skips = self.bridges[number](maps, pyramid) if len(self.bridges) else None
        return heatmaps, Given(x, skips, heatmaps)

    def parts(self, number: int) -> list[nn.Module]:
        """The modules that stage ``number`` (from 0) adds: itself and its doors, or the stem."""
        if number == 0:
            return [self.stem, self.stages[0]]
        return [self.stages[number], self.links[number - 1], *list(self.bridges)[number - 1 : number]]

    def freeze_stages(self, count: int) -> None:
        """Keep the stem and the first ``count`` stages as they are, batch-norm statistics included; 0 frees all."""
        if not 0 <= count < len(self.stages):
            raise ValueError(f"{count} frozen stages of {len(self.stages)}: at least one must be left to learn")
        for parameter in self._held:
            parameter.requires_grad_(True)
        self.frozen = [part for number in range(count) for part in self.parts(number)]
        self._held = [p for part in self.frozen for p in part.parameters() if p.requires_grad]
        for parameter in self._held:
            parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As every module's; frozen stages stay in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self
