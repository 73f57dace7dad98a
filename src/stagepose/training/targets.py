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

from stagepose.heatmaps import Codec, GaussianCodec


def level_codecs(codec: Codec, levels: int = 4, sigmas: Sequence[float] | None = None) -> list[Codec]:
    """The codec at strides 4, 8, 16, ...; ``sigmas`` in pixels of each level's own heatmap."""
    out: list[Codec] = []
    for level in range(levels):
        at_level = replace(codec, stride=codec.stride * 2**level)
        if sigmas is not None and isinstance(at_level, GaussianCodec):
            at_level = replace(at_level, sigma=sigmas[level])
        out.append(at_level)
    return out


def encode(codec: Codec, points_BK2: NDArray[np.floating], labelled_BK: NDArray[np.bool_],
           device: torch.device | str = "cpu") -> Tensor:
    """The same targets as ``codec.encode``: (B, K, h, w) float32 with peak 1, built on ``device``."""
    sigma, radius = codec.spread
    size = codec.heatmap_size
    centres = codec.centres(points_BK2)
    inside = ((centres >= -0.5) & (centres < np.array(size) - 0.5)).all(-1) & labelled_BK
    factors = []
    for axis, count in enumerate(size):
        centre = torch.as_tensor(centres[..., axis, None], dtype=torch.float32, device=device)
        distance = torch.arange(count, dtype=torch.float32, device=device) - centre
        factor = torch.exp(-(distance**2) / (2 * sigma**2))
        factors.append(factor if radius is None else factor * (distance.abs() <= radius))
    factors[1] = factors[1] * torch.as_tensor(inside[..., None], dtype=torch.float32, device=device)
    return factors[1][..., :, None] * factors[0][..., None, :]
