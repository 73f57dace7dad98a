"""Stages in a row: each later stage looks at the finest feature of the one before.

Source: the report, figure 5 and section 3.2.3.2; the 1x1 to 64 channels between stages as in its published
successor MSPN (arXiv 1901.00148).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from stagepose.training.networks.blocks import conv_bn_relu
from stagepose.training.networks.ustage import UStage

Heatmaps = list[list[Tensor]]  # [stage][level], level 0 the finest (stride 4); each (N, K, h, w)


class MultiStage(nn.Module):
    """``forward(images (N, 3, H, W))`` -> heatmap logits ``[stage][level]``, the same in training and inference.

    ``links`` are the modules between stages, one fewer than ``stages``; the first stage gets ``stem(images)``.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[UStage], links: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        if len(links) != len(stages) - 1:
            raise ValueError(f"{len(stages)} stages need {len(stages) - 1} links, got {len(links)}")
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.links = nn.ModuleList(links)

    def forward(self, images: Tensor) -> Heatmaps:
        x = self.stem(images)
        outputs: Heatmaps = []
        for i, stage in enumerate(self.stages):
            heatmaps, finest = stage(x)
            outputs.append(heatmaps)
            if i < len(self.links):
                x = self.links[i](finest)
        return outputs


def link(width: int, next_in_channels: int = 64) -> nn.Sequential:
    """The door between two stages: 1x1, batch norm, ReLU on the finest up-path feature."""
    return conv_bn_relu(width, next_in_channels, 1)
