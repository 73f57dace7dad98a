"""Gaussian weights, and a later stage that changes nothing; :mod:`stagepose.training.start` has the other starts."""

from __future__ import annotations

from torch import nn

from stagepose.training.networks.blocks import BasicBlock, Bottleneck

HEAD_STD = 1e-3  # so that all heatmaps begin near zero, the softmax over them near uniform
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def gaussian_(module: nn.Module, std: float | None = None) -> None:
    """Kaiming fan-out for convolutions, N(0, .001) for the last layer (``out``) of every heatmap head.

    The report doesn't give its standard deviation; fan-out is what its successor's backbone uses. ``std`` draws all
    convolutions but the last from N(0, std) instead; .01 was usual before Kaiming.
    """
    if all(p.is_meta for p in module.parameters()):
        return  # only counted: nothing to draw, and pretending to takes seconds
    for m in module.modules():
        if isinstance(m, _CONVOLUTIONS):
            if std is None:
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(m.weight, std=std)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
    for m in _last_layers(module):
        nn.init.normal_(m.weight, std=HEAD_STD)


def zero_heads_(module: nn.Module) -> None:
    """Zero the last layer of every heatmap head in ``module``: a residual stage that begins as the identity."""
    for m in _last_layers(module):
        nn.init.zeros_(m.weight)
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def zero_residuals_(module: nn.Module) -> None:
    """Zero the last norm of every residual block in ``module``: blocks that begin as their shortcuts."""
    for m in module.modules():
        if isinstance(m, (BasicBlock, Bottleneck)):
            nn.init.zeros_((m.bn2 if isinstance(m, BasicBlock) else m.bn3).weight)


def _last_layers(module: nn.Module) -> list[nn.Conv2d]:
    return [m for name, m in module.named_modules() if name.rpartition(".")[2] == "out" and isinstance(m, nn.Conv2d)]
