"""Regions of a pyramid as small maps of one size. R regions, C channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align


class AlignedPooler(nn.Module):
    """RoIAlign with aligned=True, each region from the pyramid level that fits its size.

    Level k takes regions of side sqrt(w * h) in [canonical / 2, canonical) for the second coarsest level, and so on
    by halves and doubles (Lin et al. 2017, equation 1, with the scale fitted to this input size). A cell is the mean of
    ``samples`` x ``samples`` points.
    """

    def __init__(self, *, strides: Sequence[int], size: int, samples: int = 2, canonical: float = 160.0) -> None:
        super().__init__()
        self.strides, self.size, self.samples, self.canonical = tuple(strides), size, samples, canonical

    def levels(self, boxes_R4: Tensor) -> Tensor:
        """Index into ``strides`` of every region, (R,) int64."""
        sides = ((boxes_R4[:, 2] - boxes_R4[:, 0]) * (boxes_R4[:, 3] - boxes_R4[:, 1])).clamp(min=1e-6).sqrt()
        top = len(self.strides) - 1
        return (torch.log2(sides / self.canonical + 1e-6).floor() + top).clamp(0, top).long()

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], image_sizes: object = None) -> Tensor:
        """Regions of all images, one after the other -> (R, C, size, size); maps finest first, more are ignored."""
        batch = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)]) if len(boxes) > 1 \
            else torch.zeros_like(boxes[0][:, :1])
        regions = torch.cat([batch, torch.cat(boxes)], 1)
        levels = self.levels(regions[:, 1:])
        pooled, rows = [], []
        for i, (level, stride) in enumerate(zip(maps.values(), self.strides, strict=False)):
            chosen = torch.where(levels == i)[0]
            pooled.append(roi_align(level, regions[chosen], self.size, 1 / stride, self.samples, aligned=True))
            rows.append(chosen)
        return torch.cat(pooled)[torch.argsort(torch.cat(rows))]
