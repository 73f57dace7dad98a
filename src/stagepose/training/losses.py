"""Heatmap losses, siblings of the networks. B samples, K keypoints, S stages, h w heatmap size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional

HeatmapLoss = Literal["kl", "mse"]  # the names of KINDS, for the command line
LevelTargets = Sequence[Tensor]  # finest first; each (B, K, h, w)


def kl_loss(logits_BKhw: Tensor, targets_BKhw: Tensor) -> Tensor:
    """Cross-entropy between the softmax over a heatmap and the unit-sum target; mean over labelled joints.

    Leaves the all-zero start much sooner than squared error. Unlabelled joints have all-zero targets and cost nothing.
    """
    losses_BK, drawn_BK = _kl_of_joints(logits_BKhw, targets_BKhw, targets_BKhw.new_ones(targets_BKhw.shape[:2]))
    return losses_BK.sum() / drawn_BK.sum().clamp_min(1)


def mse_loss(heatmaps_BKhw: Tensor, targets_BKhw: Tensor, labelled_BK: Tensor) -> Tensor:
    """Squared error on heatmaps of peak 1, mean over pixels of labelled joints."""
    losses_BK, count_BK = _mse_of_joints(heatmaps_BKhw, targets_BKhw, labelled_BK)
    return (losses_BK * count_BK).sum() / count_BK.sum().clamp_min(1)


def stage_losses(outputs: Sequence[Sequence[Tensor]], targets: LevelTargets | Sequence[LevelTargets],
                 labelled_BK: Tensor, *, kind: HeatmapLoss, level_weights: Sequence[float],
                 sample_weights: Tensor | None = None, ohkm: int | Sequence[int] = 0,
                 upsample: bool = False, by_sample: bool = False) -> list[Tensor]:
    """The loss of each stage over its levels: ``outputs[stage][level]`` against its targets, finest level first.

    - ``targets``: one list of levels for all stages, or one for each stage (coarse to fine: wider peaks in earlier
      stages). A stage with fewer levels, such as CPN's last, takes the finest.
    - ``sample_weights`` (B,) or (B, S): what a sample counts, in all stages or in each; 0 leaves it out. The sum is
      still divided by all labelled joints of the batch, so that a sample pulls as strongly whoever else is left out,
      and a stage that counts nobody has a gradient of exactly zero.
    - ``ohkm``: on the finest level only so many labelled joints of a sample count, those with the greatest loss, and
      the mean is over them; 0 counts all. One number, or one for each stage: (0, 8) for CPN.
    - ``upsample``: coarser heatmaps are brought to the finest's size (bilinear, corners on corners, which is how the
      grids of the unbiased codec lie); their targets must have that size then. Otherwise each at its own resolution.
    - ``by_sample``: (B,) of each sample alone, the mean over its own joints, instead of the batch's one number.
    """
    stages = len(outputs)
    per_stage = cast(Sequence[LevelTargets], [targets] * stages if isinstance(targets[0], Tensor) else targets)
    hardest = [ohkm] * stages if isinstance(ohkm, int) else list(ohkm)
    if len(per_stage) != stages or len(hardest) != stages:
        raise ValueError(f"{stages} stages, but targets for {len(per_stage)} and ohkm for {len(hardest)}")
    weights_BS = _sample_weights(sample_weights, len(labelled_BK), stages)
    losses = []
    for stage, (levels, wanted) in enumerate(zip(outputs, per_stage, strict=True)):
        if len(levels) > min(len(wanted), len(level_weights)):
            raise ValueError(f"stage {stage} has {len(levels)} levels, but there are {len(wanted)} targets and "
                             f"{len(level_weights)} level_weights")
        total = torch.zeros((), device=labelled_BK.device)
        for level, (heatmaps, target) in enumerate(zip(levels, wanted, strict=False)):
            if upsample:
                heatmaps = functional.interpolate(heatmaps.float(), size=levels[0].shape[-2:], mode="bilinear",
                                                  align_corners=True)
            if heatmaps.shape != target.shape:
                raise ValueError(f"stage {stage}, level {level}: heatmaps {tuple(heatmaps.shape)} against a target "
                                 f"{tuple(target.shape)}; see upsample")
            total = total + level_weights[level] * _level_loss(
                heatmaps, target, labelled_BK, kind=kind, hardest=hardest[stage] if level == 0 else 0,
                weights_B=None if weights_BS is None else weights_BS[:, stage], by_sample=by_sample)
        losses.append(total)
    return losses


def absent_losses(outputs: Sequence[Sequence[Tensor]], targets: Sequence[LevelTargets], named_BK: Tensor,
                  labelled_BK: Tensor, *, kind: HeatmapLoss, sample_weights: Tensor | None = None) -> list[Tensor]:
    """Of each stage's finest level: how far heatmaps of joints without a place in the view are from saying nothing.

    Those joints that the sample's data set labels (``named_BK`` 1) but that have no target here: out of the picture,
    hidden beyond guessing, or moved out of the crop. Divided by the labelled joints of the batch, as the heatmap loss
    is, so that one pulls as one of those does; ``sample_weights`` as in :func:`stage_losses`.
    """
    weights_BS = _sample_weights(sample_weights, len(labelled_BK), len(outputs))
    losses = []
    for stage, (levels, wanted) in enumerate(zip(outputs, targets, strict=True)):
        absent_BK = named_BK * (wanted[0].flatten(2).amax(-1) <= 0)
        weighted_BK = KINDS[kind].of_absent(levels[0]) * absent_BK
        if weights_BS is not None:
            weighted_BK = weighted_BK * weights_BS[:, stage, None]
        losses.append(weighted_BK.sum() / labelled_BK.sum().clamp_min(1))
    return losses


def _level_loss(heatmaps: Tensor, target: Tensor, labelled_BK: Tensor, *, kind: HeatmapLoss, hardest: int,
                weights_B: Tensor | None, by_sample: bool) -> Tensor:
    """Mean over the joints that count; ``weights_B`` scales samples without changing what is divided by."""
    losses_BK, counted_BK = KINDS[kind].of_joints(heatmaps, target, labelled_BK)
    if hardest:
        counted_BK = counted_BK * hardest_joints(losses_BK, counted_BK, hardest)
    weighted_BK = losses_BK * counted_BK
    if weights_B is not None:
        weighted_BK = weighted_BK * weights_B[:, None]
    if by_sample:
        return weighted_BK.sum(1) / counted_BK.sum(1).clamp_min(1)
    return weighted_BK.sum() / counted_BK.sum().clamp_min(1)


def hardest_joints(losses_BK: Tensor, labelled_BK: Tensor, count: int) -> Tensor:
    """1 for each sample's ``count`` labelled joints of the greatest loss, 0 elsewhere: (B, K); all where fewer are.

    Online hard keypoint mining (CPN, Chen et al. 2018), with min(count, K) joints: skeletons may have fewer than 8.
    """
    ranked = losses_BK.detach().masked_fill(labelled_BK <= 0, -torch.inf)
    best = ranked.topk(min(count, ranked.shape[1]), dim=1).indices
    return torch.zeros_like(ranked).scatter_(1, best, 1.0) * (labelled_BK > 0)


# --- the kinds


def _kl_of_joints(logits_BKhw: Tensor, targets_BKhw: Tensor, labelled_BK: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy; a labelled joint outside the map has no target there and does not count."""
    log_p = torch.log_softmax(logits_BKhw.float().flatten(2), -1)
    targets = targets_BKhw.flatten(2)
    mass = targets.sum(-1, keepdim=True)
    unit = targets / mass.clamp_min(1e-6)
    return -(unit * log_p).sum(-1), labelled_BK * (mass[..., 0] > 0).float()


def _kl_of_absent(logits_BKhw: Tensor) -> Tensor:
    """The divergence from a flat heatmap."""
    log_p = torch.log_softmax(logits_BKhw.float().flatten(2), -1)
    return -log_p.mean(-1) - math.log(log_p.shape[-1])


def _mse_of_joints(heatmaps_BKhw: Tensor, targets_BKhw: Tensor, labelled_BK: Tensor) -> tuple[Tensor, Tensor]:
    drawn = targets_BKhw.flatten(2).amax(-1) > 0  # a codec may round a joint on the border off a coarse level
    return (heatmaps_BKhw.float() - targets_BKhw).square().mean((2, 3)), labelled_BK * drawn


def _mse_of_absent(heatmaps_BKhw: Tensor) -> Tensor:
    """Squared error to an empty heatmap."""
    return heatmaps_BKhw.float().square().mean((2, 3))


@dataclass(frozen=True)
class Kind:
    """What a heatmap loss is made of; all else (levels, stages, hardest joints, weights) is the same for every kind.

    ``of_joints``: what a network gives, targets, labelled (B, K) -> the loss of each joint, and which count: (B, K).
    ``of_absent``: what it gives -> how far each joint's map is from saying that it is nowhere: (B, K).
    ``softmax``: it gives logits, and the heatmap of a joint is their softmax over the pixels.
    """

    of_joints: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    of_absent: Callable[[Tensor], Tensor]
    softmax: bool


KINDS: dict[HeatmapLoss, Kind] = {
    "kl": Kind(_kl_of_joints, _kl_of_absent, softmax=True),
    "mse": Kind(_mse_of_joints, _mse_of_absent, softmax=False),
}


def _sample_weights(weights: Tensor | None, samples: int, stages: int) -> Tensor | None:
    if weights is None:
        return None
    if weights.shape not in ((samples,), (samples, stages)):
        raise ValueError(f"sample_weights {tuple(weights.shape)}, expected ({samples},) or ({samples}, {stages})")
    return weights.float()[:, None].expand(samples, stages) if weights.ndim == 1 else weights.float()
