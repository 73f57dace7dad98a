"""Gaussian initialisation, which the report found better than ImageNet weights where data and time are plenty."""

from __future__ import annotations

from torch import nn


def gaussian_(module: nn.Module) -> None:
    """Kaiming fan-out for convolutions, N(0, .001) for the last layer of every heatmap head.

    The report doesn't give its standard deviation; fan-out is what its successor's backbone uses.
    """
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
    for name, m in module.named_modules():
        if name.endswith(".out") and isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, std=1e-3)
