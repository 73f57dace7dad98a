"""What a sample looks like: colour, somebody in the way, blur, compression, noise. The keypoints stay where they are.

B samples, R of them chosen, h w network input size. Images are (B, h, w, 3) float 0..255 and are changed in place: on
a CPU a new tensor of this size costs more than all that is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stagepose.aliases import Float
from stagepose.training.augment.config import AugmentConfig, Canvases, Draw
from stagepose.training.tensors import numbers_on

OCCLUDER_HEIGHT, OCCLUDER_WIDTH = (0.08, 0.33), (0.1, 0.5)  # of the input's sides
SAMPLED = 4  # the mean that contrast is changed around is that of every fourth line
BLOCK = 8  # pixels of a JPEG block's side
Rows = NDArray[np.intp]

# ITU-T T.81, tables K.1 and K.2: the steps of quality 50, which all encoders scale from
LUMA_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99)
CHROMA_STEPS = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, *(99,) * 32)
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF


def change_looks(images: Tensor, uniforms: Float, config: AugmentConfig, occluders: Canvases | None = None) -> None:
    """Everything in the order in which it happens to a photograph: light, scene, lens, sensor, file."""
    colour(images, uniforms, config)
    if occluders is not None:
        occlude(images, occluders, uniforms, config)
    coarsen(images, _chosen(uniforms, Draw.BLURRED, config.blur_chance), 2)
    coarsen(images, _chosen(uniforms, Draw.COARSE, config.coarse_chance), 4)
    add_noise(images, uniforms, config)
    compress(images, uniforms, config)


def _chosen(uniforms: Float, column: Draw, chance: float) -> Rows:
    return np.flatnonzero(uniforms[:, column] < chance)


def _picked(images: Tensor, rows: Rows) -> Tensor:
    """A copy of some pictures."""
    return images.index_select(0, numbers_on(images.device, rows))  # whole pictures: images[rows] goes number by number


def _put_back(images: Tensor, rows: Rows, changed: Tensor) -> None:
    images.index_copy_(0, numbers_on(images.device, rows), changed)


def colour(images: Tensor, uniforms: Float, config: AugmentConfig) -> None:
    """A gain per channel, contrast and brightness, together one factor and one summand; and now and then grey."""
    if config.colour:
        u = 2 * uniforms - 1
        gain = numbers_on(images.device, 1 + config.colour / 2 * u[:, [Draw.RED, Draw.GREEN, Draw.BLUE]])
        contrast, brightness = (numbers_on(images.device, 1 + config.colour * u[:, column, None])
                                for column in (Draw.CONTRAST, Draw.BRIGHTNESS))
        mean = (images[:, ::SAMPLED].mean(1).mean(1) * gain).mean(1, keepdim=True)
        width = images.shape[2]
        lines = images.view(len(images), -1, width * 3)  # a factor for each value of a line: vectors, not threes
        factor = (gain * contrast * brightness).repeat(1, width)[:, None]
        torch.addcmul((mean * (1 - contrast) * brightness)[:, None], lines, factor, out=lines).clamp_(0, 255)
    rows = _chosen(uniforms, Draw.GREY, config.grey_chance)
    if len(rows):
        chosen = _picked(images, rows)
        red, green, blue = chosen.unbind(-1)
        chosen[:] = ((red + green + blue) / 3)[..., None]
        _put_back(images, rows, chosen)


def occluded(uniforms: Float, config: AugmentConfig) -> tuple[Rows, Float]:
    """Which samples get an occluder, and a number in [0, 1) for each that chooses whose pixels it is made of."""
    rows = _chosen(uniforms, Draw.OCCLUDED, config.occlusion_chance)
    return rows, uniforms[rows, Draw.OCCLUDER]


def occlude(images: Tensor, occluders: Canvases, uniforms: Float, config: AugmentConfig) -> None:
    """A rectangle of somebody else covers a part; the labels stay: hidden joints are guessed too."""
    rows, _ = occluded(uniforms, config)
    if len(rows) != len(occluders):
        raise ValueError(f"{len(occluders)} occluders for {len(rows)} samples that are occluded")
    if not len(rows):
        return
    u, (height, width, _) = uniforms[rows].T, occluders[0].shape
    y = _span(images.shape[1], height, OCCLUDER_HEIGHT, u[[Draw.HEIGHT, Draw.TOP, Draw.FROM_Y]])
    x = _span(images.shape[2], width, OCCLUDER_WIDTH, u[[Draw.WIDTH, Draw.LEFT, Draw.FROM_X]])
    if isinstance(occluders, Tensor):
        _paste_tensor(images, occluders, rows, y, x)
    else:
        _paste_arrays(images, occluders, rows, y, x)


@dataclass(frozen=True)
class _Span:
    """One axis of R rectangles, and of the windows, all as long as the longest, that they lie in."""

    length: Rows  # of each rectangle
    start: Rows  # of each in the picture
    window: Rows  # where its window begins in the picture
    source: Rows  # where its window begins in the occluder
    longest: int

    @property
    def inside(self) -> NDArray[np.bool_]:
        """(R, longest) what of each window the rectangle takes."""
        into = np.arange(self.longest) + (self.window - self.start)[:, None]
        return (into >= 0) & (into < self.length[:, None])

    def slices(self, number: int) -> tuple[slice, slice]:
        """Where one of the rectangles lies in the picture and in the occluder."""
        start, length = self.start[number], self.length[number]
        origin = self.source[number] + start - self.window[number]
        return slice(start, start + length), slice(origin, origin + length)


def _span(picture: int, occluder: int, shares: tuple[float, float], u_3R: Float) -> _Span:
    length = (picture * (shares[0] + (shares[1] - shares[0]) * u_3R[0])).astype(np.intp)
    start, longest = ((picture - length) * u_3R[1]).astype(np.intp), int(picture * shares[1])
    return _Span(length, start, np.minimum(start, picture - longest),
                 ((occluder - longest) * u_3R[2]).astype(np.intp), longest)


def _paste_arrays(images: Tensor, occluders: Sequence[NDArray[np.uint8]], rows: Rows, y: _Span, x: _Span) -> None:
    """Rectangle by rectangle: no more is read of a canvas on disk than is seen."""
    pictures = images.numpy()
    for number, row in enumerate(rows):
        (to_y, from_y), (to_x, from_x) = y.slices(number), x.slices(number)
        pictures[row, to_y, to_x] = occluders[number][from_y, from_x]


def _paste_tensor(images: Tensor, occluders_RHW3: Tensor, rows: Rows, y: _Span, x: _Span) -> None:
    """All at once: windows are cut out of both pictures, and what is inside goes from one to the other."""
    device, shape = images.device, (y.longest, x.longest)
    inside = numbers_on(device, y.inside[:, None, :, None] & x.inside[:, None, None, :])
    there = tuple(numbers_on(device, i) for i in (rows, y.window, x.window))
    source = tuple(numbers_on(device, i) for i in (np.arange(len(rows)), y.source, x.source))
    covered, covering = _windows(images, shape), _windows(occluders_RHW3, shape)
    covered[there] = torch.where(inside, covering[source].to(images.dtype), covered[there])


def _windows(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """All windows (B, y, x, 3, h, w) of a height and a width in pictures (B, H, W, 3), without a copy."""
    return images.unfold(1, shape[0], 1).unfold(2, shape[1], 1)


def coarsen(images: Tensor, rows: Rows, factor: int) -> None:
    """Some pictures lose their fine detail, as people far away have none."""
    if not len(rows):
        return
    fine = _picked(images, rows).permute(0, 3, 1, 2)
    smooth = functional.interpolate(functional.avg_pool2d(fine, factor), size=fine.shape[-2:], mode="bilinear",
                                    align_corners=False)
    _put_back(images, rows, smooth.permute(0, 2, 3, 1))


def add_noise(images: Tensor, uniforms: Float, config: AugmentConfig) -> None:
    """Gaussian noise of some strength: a window, somewhere, of one large field that is always the same."""
    rows = _chosen(uniforms, Draw.NOISY, config.noise_chance)
    if not len(rows):
        return
    height, width = images.shape[1:3]
    [windows] = _windows(_noise(height, width, images.device)[None], (height, width))
    top, left = ((uniforms[rows, column] * side).astype(np.intp)
                 for column, side in ((Draw.NOISE_Y, height), (Draw.NOISE_X, width)))
    strength = numbers_on(images.device, config.noise * uniforms[rows, Draw.NOISE])
    drawn = windows[numbers_on(images.device, top), numbers_on(images.device, left)].permute(0, 2, 3, 1)
    _put_back(images, rows, (_picked(images, rows) + strength[:, None, None, None] * drawn).clamp_(0, 255))


@lru_cache(maxsize=4)
def _noise(height: int, width: int, device: torch.device) -> Tensor:
    """(2 h, 2 w, 3) independent standard normal numbers."""
    field = np.random.default_rng(0).standard_normal((2 * height, 2 * width, 3), dtype=np.float32)
    return numbers_on(device, field)


def compress(images: Tensor, uniforms: Float, config: AugmentConfig) -> None:
    """What a JPEG file of some quality, with all colours, keeps of a picture (4:4:4; a test compares with OpenCV's)."""
    rows = _chosen(uniforms, Draw.COMPRESSED, config.jpeg_chance)
    if not len(rows):
        return
    low, high = config.jpeg_quality
    steps = numbers_on(images.device, quantisation(np.round(low + (high - low) * uniforms[rows, Draw.QUALITY])))
    _put_back(images, rows, _as_jpeg(_picked(images, rows), steps))


def quantisation(quality_R: Float) -> Float:
    """The steps (R, 2, 64) of luma and chroma at qualities from 1 to 100, as libjpeg scales them."""
    scale = np.where(quality_R < 50, 5000 / quality_R, 200 - 2 * quality_R)
    steps = np.array([LUMA_STEPS, CHROMA_STEPS]) * scale[:, None, None]
    return np.asarray(np.clip(np.floor((steps + 50) / 100), 1, 255))


def _as_jpeg(images_RhW3: Tensor, steps_R2C: Tensor) -> Tensor:
    """C = 64 coefficients of a block; pictures whose sides are no multiples of 8 are continued by their edges."""
    count, height, width, _ = images_RhW3.shape
    ycc, dct = _matrices(images_RhW3.device)
    down, right = -height % BLOCK, -width % BLOCK
    planes = (images_RhW3.round() @ ycc.T).round_().permute(0, 3, 1, 2)
    planes = functional.pad(planes, (0, right, 0, down), mode="replicate")
    tall, wide = (height + down) // BLOCK, (width + right) // BLOCK
    blocks = planes.reshape(count, 3, tall, BLOCK, wide, BLOCK).transpose(3, 4).reshape(count, 3, -1, BLOCK**2)
    blocks[:, 0] -= 128
    steps = torch.cat([steps_R2C, steps_R2C[:, 1:]], 1)[:, :, None]  # both planes of chroma have the same
    kept = (((blocks @ dct.T) / steps).round() * steps) @ dct
    kept[:, 0] += 128
    planes = kept.reshape(count, 3, tall, wide, BLOCK, BLOCK).transpose(3, 4).reshape(planes.shape)
    images: Tensor = planes[..., :height, :width].permute(0, 2, 3, 1) @ torch.linalg.inv(ycc).T
    return images.clamp_(0, 255)


@lru_cache(maxsize=4)
def _matrices(device: torch.device) -> tuple[Tensor, Tensor]:
    """RGB to luma and chroma (3, 3), and the orthonormal cosine transform of a whole block (64, 64)."""
    k = np.arange(BLOCK)
    rows = np.cos(math.pi / BLOCK * (k + 0.5) * k[:, None]) * math.sqrt(2 / BLOCK)
    rows[0] /= math.sqrt(2)
    return numbers_on(device, np.array(TO_YCC)), numbers_on(device, np.kron(rows, rows))
