"""Heatmap targets on the device, the twin of :mod:`stagepose.heatmaps` (a test holds them equal to 1e-5).

B samples, K keypoints, h w heatmap size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stagepose.heatmaps import Codec, GaussianCodec, Megvii
from stagepose.training.tensors import numbers_on

SMALLEST = -80.0  # exp() of less is below float32's normal numbers, and takes a CPU four times as long


def level_codecs(codec: Codec, levels: int = 4, widths: Sequence[float] | None = None, *,
                 shrink: bool = True) -> list[Codec]:
    """The codec at strides 4, 8, 16, ..., or all at its own without ``shrink``.

    ``widths`` in pixels of each level's own heatmap: sigmas, or kernels of the codec ``megvii`` (made odd).
    """
    out: list[Codec] = []
    for level in range(levels):
        at_level = replace(codec, stride=codec.stride * 2**level) if shrink else codec
        if widths is not None and isinstance(at_level, GaussianCodec):
            at_level = replace(at_level, sigma=widths[level])
        elif widths is not None and isinstance(at_level, Megvii):
            at_level = replace(at_level, kernel=int(widths[level]) // 2 * 2 + 1)
        out.append(at_level)
    return out


def encode(codec: Codec, points_BK2: NDArray[np.floating], labelled_BK: NDArray[np.bool_],
           device: torch.device | str = "cpu") -> Tensor:
    """The same targets as ``codec.encode``: (B, K, h, w) float32 with peak 1, built on ``device``."""
    size = codec.heatmap_size
    centres = codec.centres(points_BK2)
    inside = ((centres >= -0.5) & (centres < np.array(size) - 0.5)).all(-1) & labelled_BK
    factors = []
    for axis, count in enumerate(size):
        centre = numbers_on(device, centres[..., axis, None])
        factors.append(_falloff(codec, torch.arange(count, dtype=torch.float32, device=device) - centre))
    factors[1] = factors[1] * numbers_on(device, inside[..., None].astype(np.float32))
    return factors[1][..., :, None] * factors[0][..., None, :]


def _falloff(codec: Codec, distance: Tensor) -> Tensor:
    """``codec.falloff`` of heatmap pixels (B, K, side) from the centre."""
    if isinstance(codec, Megvii):
        reach = codec.kernel // 2
        away = distance.abs()
        return numbers_on(distance.device, codec.taps)[away.clamp(max=reach).long()] * (away <= reach)
    assert isinstance(codec, GaussianCodec)
    return torch.exp((-(distance**2) / (2 * codec.sigma**2)).clamp_(min=SMALLEST))
