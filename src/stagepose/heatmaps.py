"""Heatmap codecs: encode(points) and decode(heatmaps) side by side, tested as inverses.

The only decoding in StagePose: validation in training and prediction both use it. Points are in crop pixels
(docs/coordinates.md); each published codec's own definition of where a heatmap pixel lies stays inside it.
N people, K keypoints, H W heatmap height and width. Exact values: design of MSRA (Xiao et al. 2018), Megvii
(the released MSPN), UDP (Huang et al. 2020) with DARK (Zhang et al. 2020).
:class:`UdpOks` is our own: the same heatmaps, decoded for the measure that people are judged by.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.errors import ConfigError
from stagepose.geometry import Size
from stagepose.numeric import is_real

Heatmaps = NDArray[np.float32]  # (N, K, H, W), an ideal peak is 1

PERSON = 0.23  # square root of a person's area, in heights of the crop, that udp-oks reckons with. People have about
# .41 (a box padded by 1.25, half of it covered); narrower kernels keep sharp peaks: benchmarks/default_models.md
TIE_DECIMALS = 5  # of heatmaps with peak 1: nearer values are equal, and the first in reading order comes first
KERNELS = range(3, 32, 2)  # sides of a megvii target in heatmap pixels; the published ones are 5 to 15
STRIDE = 4  # crop pixels per pixel of the finest heatmap, in every published codec


@dataclass(frozen=True, kw_only=True)
class Codec(ABC):
    """Points of a crop of ``input_size`` (width, height) <-> heatmaps smaller by ``stride``."""

    input_size: Size
    stride: int = STRIDE  # 4 at the level that is decoded; 8, 16, 32 for targets of the coarser levels
    name: ClassVar[str]
    flip_shift: ClassVar[int] = 0  # heatmap pixels a mirrored-back heatmap moves to the right in the flip test

    def __post_init__(self) -> None:
        w, h = self.input_size
        if not (isinstance(w, int) and isinstance(h, int)):
            raise ConfigError(f"input_size {w!r} x {h!r} must be whole numbers of pixels")
        if w % self.stride or h % self.stride or w < 32 or h < 32:
            raise ConfigError(f"input_size {w}x{h} must be at least 32x32 and divisible by {self.stride}")

    @property
    def heatmap_size(self) -> Size:
        """(width, height) of the heatmaps."""
        return self.input_size[0] // self.stride, self.input_size[1] // self.stride

    @property
    def grid(self) -> tuple[Float, Float]:
        """(offset, pitch), each (x, y): heatmap pixel i stands at crop pixel offset + pitch i."""
        return np.zeros(2), np.full(2, float(self.stride))

    @abstractmethod
    def centres(self, points_NK2: NDArray[np.floating]) -> Float:
        """Where a target's peak is drawn: crop points -> heatmap pixels, (N, K, 2)."""

    @abstractmethod
    def falloff(self, distance: Float) -> Float:
        """A target's height along one axis, so many heatmap pixels (any shape) from its centre; 1 at the centre."""

    @property
    @abstractmethod
    def volume(self) -> float:
        """The sum of a whole target: how much higher the peak of one is than that of one of sum 1."""

    def encode(self, points_NK2: NDArray[np.floating], labelled_NK: NDArray[np.bool_]) -> Heatmaps:
        """Targets (N, K, H, W) with peak 1; all zero for unlabelled joints and for peaks outside the map.

        Separable: the product of two factors along the axes.
        """
        centres, (w, h) = self.centres(points_NK2), self.heatmap_size
        inside = ((centres >= -0.5) & (centres < np.array([w, h]) - 0.5)).all(-1) & np.asarray(labelled_NK, dtype=bool)
        along_x, along_y = (self.falloff(np.arange(count) - centres[..., axis, None])
                            for axis, count in enumerate((w, h)))
        maps = along_y[..., :, None] * along_x[..., None, :]
        return np.asarray(maps * inside[..., None, None], dtype=np.float32)

    @abstractmethod
    def decode(self, heatmaps_NKHW: NDArray[np.floating], sigmas_K: Sequence[float]) -> tuple[Float, Float]:
        """-> points (N, K, 2) in crop pixels and scores (N, K), the peak's height within [0, 1].

        ``sigmas_K`` are the skeleton's, of OKS; only ``udp-oks`` looks at them.
        """

    def merge_flipped(self, plain: Heatmaps, of_mirrored: Heatmaps, flip_index: NDArray[np.int64]) -> Heatmaps:
        """The flip test: mean of ``plain`` and the heatmaps of the mirrored crop, mirrored back and shifted."""
        back = of_mirrored[:, flip_index, :, ::-1]
        if self.flip_shift:
            shifted = back.copy()
            shifted[..., self.flip_shift:] = back[..., : -self.flip_shift]
            back = shifted
        return np.asarray((plain + back) / 2, dtype=np.float32)

    def zoomed(self, heatmaps_NKHW: Heatmaps, scale: float) -> Heatmaps:
        """Heatmaps of crops that show ``scale`` times as much about the same centre, as of the crops themselves.

        Bilinear; zero where a smaller crop saw nothing. For the multi-scale test, which takes the mean over scales.
        """
        across, down = (_zoom(count, offset, pitch, side, scale) for count, offset, pitch, side in
                        zip(self.heatmap_size, *self.grid, self.input_size, strict=True))
        return np.asarray(down @ heatmaps_NKHW @ across.T, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """What a model file stores; :func:`codec_from_json` reads it back."""
        return {"name": self.name, "flip_shift": self.flip_shift, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class GaussianCodec(Codec):
    """Targets are whole Gaussians of ``sigma`` heatmap pixels."""

    sigma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_real(self.sigma) and 0.3 <= self.sigma <= 16):
            raise ConfigError(f"sigma is {self.sigma!r}, expected 0.3 to 16 heatmap pixels; 2 is usual")

    def falloff(self, distance: Float) -> Float:
        return np.asarray(np.exp(-(distance**2) / (2 * self.sigma**2)))

    @property
    def volume(self) -> float:
        return 2 * math.pi * self.sigma**2


@dataclass(frozen=True, kw_only=True)
class UdpDark(GaussianCodec):
    """Unbiased: stride (W-1)/(w-1), a Gaussian around the sub-pixel centre, decoded by a Newton step on the log.

    Both grids have their corner pixels' centres in common, so a mirrored heatmap needs no shift.
    """

    name: ClassVar[str] = "udp-dark"

    @property
    def grid(self) -> tuple[Float, Float]:
        return np.zeros(2), self.pitch

    @property
    def pitch(self) -> Float:
        """(x, y) exact distance of two heatmap pixels, in crop pixels; the whole side where there is but one."""
        return (np.array(self.input_size) - 1.0) / np.maximum(np.array(self.heatmap_size) - 1.0, 1.0)

    @property
    def blur(self) -> int:
        """Side of the Gaussian kernel that a heatmap is smoothed with before the Newton step; 11 for sigma 2 (DARK)."""
        return _odd(self.sigma * 5.5)

    def centres(self, points_NK2: NDArray[np.floating]) -> Float:
        return np.asarray(points_NK2, dtype=np.float64) / self.pitch

    def decode(self, heatmaps_NKHW: NDArray[np.floating], sigmas_K: Sequence[float]) -> tuple[Float, Float]:
        heatmaps = np.asarray(heatmaps_NKHW, dtype=np.float32)
        peaks, scores = _argmax(heatmaps)
        margin = self.blur // 2 + 1  # nearer to the border the blur bends the map
        inside = (peaks >= margin) & (peaks < np.array(self.heatmap_size) - margin)
        central = np.asarray(inside.all(-1))[..., None, None]
        source = np.where(central, _blur(heatmaps, self.blur), heatmaps)
        return (peaks + _newton_steps(source, peaks)) * self.pitch, np.clip(scores, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class UdpOks(UdpDark):
    """Targets as of ``udp-dark``; decoded where the expected OKS is largest, not where the heatmap is.

    A heatmap that was learnt as a distribution (loss "kl") says how likely a joint is at each pixel. OKS forgives a
    hip much and an eye little, so the best answer for a hip with two weak peaks close together lies between them. The
    expected similarity of every pixel is the heatmap blurred with the joint's own OKS kernel. A joint on the crop's
    very border, where half of its heatmap is cut off, comes out up to 5 crop pixels inside; 3 pixels for an eye.
    """

    name: ClassVar[str] = "udp-oks"

    def kernels(self, sigmas_K: Sequence[float]) -> list[Float]:
        """Of each joint, the weights of its kernel along one axis, an odd number of them."""
        w, h = self.heatmap_size
        widths = [2 * sigma * PERSON * h for sigma in sigmas_K]
        reaches = [min(int(np.ceil(3 * width)), min(w, h) - 1) for width in widths]
        return [np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
                for width, reach in zip(widths, reaches, strict=True)]

    def decode(self, heatmaps_NKHW: NDArray[np.floating], sigmas_K: Sequence[float]) -> tuple[Float, Float]:
        heatmaps = np.asarray(heatmaps_NKHW, dtype=np.float32)
        if heatmaps.shape[1] != len(sigmas_K):
            raise ConfigError(f"heatmaps of {heatmaps.shape[1]} joints, but sigmas of {len(sigmas_K)}")
        _, scores = _argmax(heatmaps)
        expected = np.empty_like(heatmaps)
        for k, kernel in enumerate(self.kernels(sigmas_K)):
            for n in range(len(heatmaps)):
                expected[n, k] = cv2.sepFilter2D(heatmaps[n, k], -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        peaks, _ = _argmax(expected)
        return (peaks + _newton_steps(expected, peaks)) * self.pitch, np.clip(scores, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Msra(GaussianCodec):
    """Gaussian around the rounded pixel, decoded a quarter pixel towards the higher neighbour.

    Heatmap pixel i stands at crop pixel 4 i, so a mirrored-back heatmap moves one pixel to the right. As published (the
    released SimpleBaseline and HRNet), a peak stays whole in both axes where either lies at pixel 0, at 1 or at the
    last one.
    """

    name: ClassVar[str] = "msra"
    flip_shift: ClassVar[int] = 1

    def centres(self, points_NK2: NDArray[np.floating]) -> Float:
        return np.trunc(np.asarray(points_NK2, dtype=np.float64) / self.stride + 0.5)

    def decode(self, heatmaps_NKHW: NDArray[np.floating], sigmas_K: Sequence[float]) -> tuple[Float, Float]:
        heatmaps = np.asarray(heatmaps_NKHW, dtype=np.float32)
        peaks, scores = _argmax(heatmaps)
        return (peaks + 0.25 * np.sign(_slopes(heatmaps, peaks))) * self.stride, np.clip(scores, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Megvii(Codec):
    """A delta blurred with a ``kernel`` x ``kernel`` Gaussian, decoded towards the second maximum.

    Heatmap pixel i stands at crop pixel 4 i + 2; heatmaps are scaled to peak 1 here (the released code: 255).
    """

    kernel: int = 5
    name: ClassVar[str] = "megvii"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.kernel, int) or self.kernel not in KERNELS:
            raise ConfigError(f"kernel is {self.kernel!r}, expected an odd whole number of heatmap pixels, "
                              f"{KERNELS[0]} to {KERNELS[-1]}; 5 is usual")

    @property
    def grid(self) -> tuple[Float, Float]:
        return np.full(2, self.stride / 2), np.full(2, float(self.stride))

    def centres(self, points_NK2: NDArray[np.floating]) -> Float:
        return np.trunc(np.asarray(points_NK2, dtype=np.float64) / self.stride)

    @property
    def taps(self) -> Float:
        """(kernel // 2 + 1,) a target's heights along one axis, from its peak of 1 outwards.

        OpenCV's own: it has tables for kernels up to 9, and a Gaussian of the sigma that it derives for larger ones.
        """
        half = gaussian_kernel(self.kernel)[self.kernel // 2 :]
        return np.asarray(half / half[0])

    def falloff(self, distance: Float) -> Float:
        away = np.abs(distance).astype(int)  # whole numbers: centres are whole pixels
        return np.where(away <= self.kernel // 2, self.taps[np.minimum(away, self.kernel // 2)], 0.0)

    @property
    def volume(self) -> float:
        return float(2 * self.taps.sum() - 1) ** 2

    def decode(self, heatmaps_NKHW: NDArray[np.floating], sigmas_K: Sequence[float]) -> tuple[Float, Float]:
        heatmaps = np.asarray(heatmaps_NKHW, dtype=np.float32)
        pad, blur = 10, 5  # the released test code: 10 zeros around, then a 5x5 Gaussian
        rest = _blur(np.pad(heatmaps, ((0, 0), (0, 0), (pad, pad), (pad, pad))), blur).round(TIE_DECIMALS)
        first, _ = _argmax(rest)
        n, k = np.indices(first.shape[:2])
        rest[n, k, first[..., 1].astype(int), first[..., 0].astype(int)] = 0
        second, _ = _argmax(rest)
        towards = second - first
        distance = np.linalg.norm(towards, axis=-1, keepdims=True)
        points = first - pad + 0.25 * towards / np.where(distance > 0, distance, 1)
        points = np.clip(points, 0, np.array(self.heatmap_size) - 1)
        rows = np.round(points).astype(int)
        scores = np.clip(heatmaps[n, k, rows[..., 1], rows[..., 0]].astype(np.float64), 0.0, 1.0)
        return points * self.stride + self.stride / 2, scores


CODECS: dict[str, type[Codec]] = {c.name: c for c in (UdpDark, UdpOks, Msra, Megvii)}


def codec_from_json(data: Mapping[str, Any]) -> Codec:
    """The codec a model file describes; :class:`ConfigError` when it is unknown or deviates from its kind."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"a heatmap codec is described by an object, got {data!r}")
    name = data.get("name")
    kind = CODECS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ConfigError(f"a heatmap codec's name is {name!r}; use one of {sorted(CODECS)}")
    try:
        return kind(**_settings(kind, data))
    except ConfigError as error:
        raise ConfigError(f"heatmap codec {name!r}: {error}") from error


def _settings(kind: type[Codec], data: Mapping[str, Any]) -> dict[str, Any]:
    """What ``kind`` is made of again; its own checks look at the values."""
    for key, ours in (("stride", STRIDE), ("flip_shift", kind.flip_shift)):
        theirs = data.get(key, ours)
        if theirs != ours or isinstance(theirs, bool):
            raise ConfigError(f"{key} is {theirs!r}, expected {ours}")
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(data) - {"name", "flip_shift", *known})
    if unknown:
        raise ConfigError(f"it has no field {', '.join(unknown)}; its fields are {', '.join(known)}")
    size = data.get("input_size")
    if not (isinstance(size, (list, tuple)) and len(size) == 2):
        raise ConfigError(f"input_size is {size!r}, expected two whole numbers of pixels, width and height")
    return {key: data[key] for key in known if key in data} | {"stride": STRIDE, "input_size": tuple(size)}


def _zoom(count: int, offset: float, pitch: float, side: int, scale: float) -> Heatmaps:
    """(count, count) linear interpolation along one axis: rows are pixels wanted, columns the pixels there are."""
    middle = (side - 1) / 2
    wanted = offset + pitch * np.arange(count)
    place = (middle + (wanted - middle) / scale - offset) / pitch
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count))), dtype=np.float32)


def _odd(value: float) -> int:
    """The nearest odd kernel size; 11 for sigma 2, as published."""
    return int(value) // 2 * 2 + 1


def gaussian_kernel(size: int) -> Float:
    """(size,) weights of sum 1: OpenCV's blur of so many pixels, along one axis."""
    return np.asarray(cv2.getGaussianKernel(size, 0, cv2.CV_64F)[:, 0], dtype=np.float64)


def _argmax(heatmaps: Heatmaps) -> tuple[Float, Float]:
    """Peak positions (N, K, 2) as xy and their heights (N, K); the first of equals."""
    n, k, h, w = heatmaps.shape
    flat = heatmaps.reshape(n, k, h * w)
    index = flat.argmax(-1)
    scores = np.take_along_axis(flat, index[..., None], -1)[..., 0]
    return np.stack([index % w, index // w], -1).astype(np.float64), scores.astype(np.float64)


def _slopes(heatmaps: Heatmaps, peaks: Float) -> Float:
    """Central difference at each peak in x and y, (N, K, 2); both zero unless 1 < x < W - 1 and 1 < y < H - 1."""
    _, _, h, w = heatmaps.shape
    n, k = np.indices(peaks.shape[:2])
    x, y = peaks[..., 0].astype(int), peaks[..., 1].astype(int)
    xi, yi = np.clip(x, 1, w - 2), np.clip(y, 1, h - 2)
    dx = heatmaps[n, k, y, xi + 1] - heatmaps[n, k, y, xi - 1]
    dy = heatmaps[n, k, yi + 1, x] - heatmaps[n, k, yi - 1, x]
    inside = (x > 1) & (x < w - 1) & (y > 1) & (y < h - 1)
    return np.where(inside[..., None], np.stack([dx, dy], -1), 0).astype(np.float64)


def _blur(heatmaps: Heatmaps, kernel: int) -> Heatmaps:
    """Gaussian blur of every map with OpenCV's sigma for ``kernel``; zeros outside."""
    n, k, h, w = heatmaps.shape
    out = np.empty_like(heatmaps)
    for i in range(n):  # OpenCV blurs all channels of an (H, W, K) picture in one call
        picture = np.ascontiguousarray(heatmaps[i].transpose(1, 2, 0))
        blurred = cv2.GaussianBlur(picture, (kernel, kernel), 0, borderType=cv2.BORDER_CONSTANT)
        out[i] = blurred.reshape(h, w, k).transpose(2, 0, 1)
    return out


def _newton_steps(heatmaps: Heatmaps, peaks: Float) -> Float:
    """One Newton step on the log heatmap from each peak, (N, K, 2), at most one pixel either way (DARK)."""
    n_people, n_joints, h, w = heatmaps.shape
    if h < 3 or w < 3 or not peaks.size:
        return np.zeros_like(peaks)
    x, y = peaks[..., 0].astype(int), peaks[..., 1].astype(int)
    n, k = np.indices((n_people, n_joints))
    cx, cy = np.clip(x, 1, w - 2), np.clip(y, 1, h - 2)

    floor = 1e-10  # keeps the log finite where a map is flat zero

    def at(dx: int, dy: int) -> Float:
        return np.asarray(np.log(np.maximum(heatmaps[n, k, cy + dy, cx + dx], floor)), dtype=np.float64)

    gx, gy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    gxx = at(1, 0) - 2 * at(0, 0) + at(-1, 0)
    gyy = at(0, 1) - 2 * at(0, 0) + at(0, -1)
    gxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    det = gxx * gyy - gxy**2
    solvable = (det > 1e-12) & (gxx < 0) & (gyy < 0)
    safe = np.where(solvable, det, 1.0)
    step = np.stack([-(gyy * gx - gxy * gy) / safe, -(gxx * gy - gxy * gx) / safe], -1)
    step = np.where(solvable[..., None], step, 0.0) + np.stack([cx - x, cy - y], -1)
    return np.asarray(np.clip(step, -1.0, 1.0))
