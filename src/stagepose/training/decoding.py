"""Heatmaps back to points on the device, the twin of :mod:`stagepose.heatmaps` (a test holds them equal to 1e-5).

For what needs a point while it trains, such as the gate between stages. Reported numbers never come from here.
B samples, K keypoints, h w heatmap size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stagepose.errors import ConfigError
from stagepose.heatmaps import Codec, Msra, UdpDark, UdpOks, gaussian_kernel
from stagepose.training.tensors import numbers_on

FLOOR = 1e-10  # keeps the log finite where a map is flat zero
_TINY = float(np.spacing(1))  # COCO adds it to an area, so that an area of 0 divides


@torch.no_grad()
def decode(codec: Codec, heatmaps_BKhw: Tensor, sigmas_K: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The same points as ``codec.decode``: (B, K, 2) in crop pixels and scores (B, K) in [0, 1], both float32.

    Raises :class:`ConfigError` for the codec ``megvii``, whose second maximum has no twin here.
    """
    heatmaps = heatmaps_BKhw.float()
    peaks, scores = _argmax(heatmaps)
    if isinstance(codec, UdpDark):
        pitch = numbers_on(heatmaps.device, np.asarray(codec.pitch))
        with torch.autocast(heatmaps.device.type, enabled=False):  # a Newton step on 8 bits of mantissa goes astray
            if isinstance(codec, UdpOks):
                source = _expected(heatmaps, codec.kernels(sigmas_K))
                peaks, _ = _argmax(source)
            else:
                source = _smoothed(heatmaps, peaks, codec.blur)
            return (peaks + _newton_steps(source, peaks)) * pitch, scores.clamp(0, 1)
    if isinstance(codec, Msra):
        return (peaks + 0.25 * _slopes(heatmaps, peaks).sign()) * codec.stride, scores.clamp(0, 1)
    raise ConfigError(f"codec {codec.name!r} is not decoded while a network trains; use 'udp-oks', "
                      "'udp-dark' or 'msra'")


@torch.no_grad()
def oks(points_BK2: Tensor, truth_BK3: NDArray[np.floating], areas_B: NDArray[np.floating],
        sigmas: Sequence[float]) -> Tensor:
    """(B,) similarity of each sample's points to its own labels, as :func:`stagepose.oks.oks_of_person`.

    All in the same pixels, ``areas_B`` in their square. 1 where nothing is labelled: nothing is left to be learnt.
    """
    device = points_BK2.device
    truth, areas = numbers_on(device, truth_BK3), numbers_on(device, areas_B)[:, None]
    variances = (2 * numbers_on(device, np.array(sigmas))) ** 2
    labelled = (truth[..., 2] > 0).float()
    squared = (points_BK2 - truth[..., :2]).square().sum(-1)
    closeness = torch.exp(-squared / variances / (areas + _TINY) / 2)
    counts = labelled.sum(-1)
    return torch.where(counts > 0, (closeness * labelled).sum(-1) / counts.clamp_min(1), 1.0)


def _argmax(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Peak positions (B, K, 2) as xy and their heights (B, K); the first of equals, as NumPy's."""
    scores, index = heatmaps.flatten(2).max(-1)
    width = heatmaps.shape[-1]
    return torch.stack([index % width, index // width], -1).float(), scores


def _at(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values (B, K) of maps (B, K, h, w) at whole pixels x, y (B, K)."""
    return maps.flatten(2).gather(2, (y * maps.shape[-1] + x)[..., None])[..., 0]


def _slopes(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """Central difference at each peak in x and y, (B, K, 2); both zero unless 1 < x < w - 1 and 1 < y < h - 1."""
    height, width = heatmaps.shape[-2:]
    x, y = peaks.long().unbind(-1)
    cx, cy = x.clamp(1, width - 2), y.clamp(1, height - 2)
    dx = _at(heatmaps, cx + 1, y) - _at(heatmaps, cx - 1, y)
    dy = _at(heatmaps, x, cy + 1) - _at(heatmaps, x, cy - 1)
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    return torch.stack([dx, dy], -1) * inside[..., None]


def _expected(heatmaps: Tensor, kernels: Sequence[NDArray[np.float64]]) -> Tensor:
    """Every joint's maps (B, K, h, w) blurred with its own kernel, zeros outside."""
    reach = max(len(kernel) for kernel in kernels) // 2
    rows = np.stack([np.pad(kernel, reach - len(kernel) // 2) for kernel in kernels])
    weights = numbers_on(heatmaps.device, rows)[:, None]
    maps = functional.conv2d(heatmaps, weights[:, :, None, :], padding=(0, reach), groups=len(kernels))
    return functional.conv2d(maps, weights[:, :, :, None], padding=(reach, 0), groups=len(kernels))


def _smoothed(heatmaps: Tensor, peaks: Tensor, kernel: int) -> Tensor:
    """Gaussian blur of every map, zeros outside; maps whose peak is near the border, which that bends, stay raw."""
    factor = numbers_on(heatmaps.device, gaussian_kernel(kernel))
    maps = heatmaps.flatten(0, 1)[:, None]
    maps = functional.conv2d(maps, factor[None, None, None, :], padding=(0, kernel // 2))
    maps = functional.conv2d(maps, factor[None, None, :, None], padding=(kernel // 2, 0))
    margin, (height, width) = kernel // 2 + 1, heatmaps.shape[-2:]
    central = ((peaks >= margin) & (peaks < numbers_on(peaks.device, np.array([width, height]) - margin))).all(-1)
    return torch.where(central[..., None, None], maps.reshape(heatmaps.shape), heatmaps)


def _newton_steps(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """DARK's step on the log heatmap from each peak, (B, K, 2), at most one pixel either way."""
    height, width = heatmaps.shape[-2:]
    x, y = peaks.long().unbind(-1)
    cx, cy = x.clamp(1, width - 2), y.clamp(1, height - 2)

    def at(dx: int, dy: int) -> Tensor:
        return _at(heatmaps, cx + dx, cy + dy).clamp_min(FLOOR).double().log()

    gx, gy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    gxx = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    gyy = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    gxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    det = gxx * gyy - gxy**2
    solvable = (det > 1e-12) & (gxx < 0) & (gyy < 0)
    safe = torch.where(solvable, det, 1.0)
    step = torch.stack([-(gyy * gx - gxy * gy) / safe, -(gxx * gy - gxy * gx) / safe], -1)
    step = torch.where(solvable[..., None], step, 0.0) + torch.stack([cx - x, cy - y], -1)
    return step.clamp(-1, 1).float()
