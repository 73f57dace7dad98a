"""Heatmap losses, siblings of the networks. B samples, K keypoints, h w heatmap size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

HeatmapLoss = Literal["kl", "mse"]


def kl_loss(logits_BKhw: Tensor, targets_BKhw: Tensor) -> Tensor:
    """Cross-entropy between the softmax over a heatmap and the unit-sum target; mean over labelled joints.

    Leaves the all-zero start much sooner than squared error. Unlabelled joints have all-zero targets and cost nothing.
    """
    log_p = torch.log_softmax(logits_BKhw.float().flatten(2), -1)
    targets = targets_BKhw.flatten(2)
    mass = targets.sum(-1, keepdim=True)
    labelled = mass[..., 0] > 0
    unit = targets / mass.clamp_min(1e-6)
    return -(unit * log_p).sum() / labelled.sum().clamp_min(1)


def mse_loss(heatmaps_BKhw: Tensor, targets_BKhw: Tensor, labelled_BK: Tensor) -> Tensor:
    """Squared error on heatmaps of peak 1, mean over pixels of labelled joints."""
    error = (heatmaps_BKhw.float() - targets_BKhw).square().mean((2, 3)) * labelled_BK
    return error.sum() / labelled_BK.sum().clamp_min(1)


def deep_loss(outputs: Sequence[Sequence[Tensor]], targets: Sequence[Tensor], labelled_BK: Tensor, *,
              kind: HeatmapLoss, level_weights: Sequence[float]) -> Tensor:
    """The loss on every level of every stage: ``outputs[stage][level]`` against ``targets[level]``."""
    total = torch.zeros((), device=targets[0].device)
    for levels in outputs:
        for heatmaps, target, weight in zip(levels, targets, level_weights, strict=True):
            loss = kl_loss(heatmaps, target) if kind == "kl" else mse_loss(heatmaps, target, labelled_BK)
            total = total + weight * loss
    return total
