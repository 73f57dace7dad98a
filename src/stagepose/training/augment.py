"""Augmentation in batches, on the device of the pictures: one affine per sample, then colour and occlusion.

B samples, K keypoints, H W canvas size, h w network input size. Nothing here draws a random number: every choice
comes from ``uniforms`` (B, UNIFORMS), a row a sample, so that a sample looks the same on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stagepose.errors import ConfigError
from stagepose.geometry import Size
from stagepose.skeleton import Skeleton

UNIFORMS = 28  # random numbers one sample consumes
Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges and chances; zeros switch a part off. Angles in degrees, shifts as a share of the input size."""

    rotation: float = 40.0
    rotation_chance: float = 0.6
    scale: float = 0.3
    shift: float = 0.05
    flip_chance: float = 0.5
    half_body_chance: float = 0.2
    half_body_joints: int = 8  # a body half is shown alone only where more joints than this are labelled in all
    colour: float = 0.3
    grey_chance: float = 0.1
    occlusion_chance: float = 0.4
    blur_chance: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rotation_chance", "flip_chance", "half_body_chance", "grey_chance", "occlusion_chance",
                     "blur_chance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a chance between 0 and 1")
        if not 0 <= self.scale < 1:
            raise ConfigError(f"scale is {self.scale}, expected at least 0 and below 1")


NO_AUGMENTATION = AugmentConfig(rotation_chance=0, scale=0, shift=0, flip_chance=0, half_body_chance=0, colour=0,
                                grey_chance=0, occlusion_chance=0, blur_chance=0)


def augment(crops_BHW3: Tensor, keypoints_BK3: Float, uniforms: Float, *, base_scale: float, size: Size,
            skeleton: Skeleton, config: AugmentConfig, occluders_MHW3: Tensor | None = None) -> tuple[Tensor, Float]:
    """uint8 canvases and their keypoints -> (images (B, 3, h, w) float 0..255, keypoints (B, K, 3) in input pixels).

    ``occluders_MHW3`` are other people's canvases, one for each sample of :func:`occluded`, in that order.
    ``base_scale`` input pixels per canvas pixel without any zoom. Keypoints that leave the input become unlabelled.
    """
    canvas = (crops_BHW3.shape[2], crops_BHW3.shape[1])
    forward, flipped = sample_affines(keypoints_BK3, uniforms[:, :10], base_scale=base_scale, canvas=canvas,
                                      size=size, skeleton=skeleton, config=config)
    keypoints = move_keypoints(keypoints_BK3, forward, flipped, size=size, skeleton=skeleton)
    images = warp(crops_BHW3, forward, size)
    images = colour(images, uniforms[:, 10:18], config)
    images = blur(images, uniforms[:, 18], config)
    if occluders_MHW3 is not None:
        images = occlude(images, occluders_MHW3, uniforms, config)
    return images, keypoints


def sample_affines(keypoints_BK3: Float, uniforms_B10: Float, *, base_scale: float, canvas: Size, size: Size,
                   skeleton: Skeleton, config: AugmentConfig) -> tuple[Float, NDArray[np.bool_]]:
    """-> maps (B, 2, 3) from canvas points to input points, and which samples are mirrored (B,)."""
    u = uniforms_B10
    count = len(u)
    angle = np.deg2rad(config.rotation * _bell(u[:, 0])) * (u[:, 1] < config.rotation_chance)
    zoom = base_scale * np.exp(np.log1p(config.scale) * (2 * u[:, 2] - 1))
    centre = np.broadcast_to((np.array(canvas) - 1.0) / 2, (count, 2)).copy()
    half = u[:, 3] < config.half_body_chance
    for i in np.flatnonzero(half):
        part = _half_body(keypoints_BK3[i], u[i, 4], skeleton, config)
        if part is not None:
            low, high = part
            centre[i] = (low + high) / 2
            grow = np.array(size) / (np.maximum(high - low, 4.0) * 1.5)  # half bodies keep 1.5 x around the joints
            zoom[i] = np.clip(grow.min(), base_scale, 2.5 * base_scale) * zoom[i] / base_scale
    flipped = u[:, 7] < config.flip_chance
    linear = zoom[:, None, None] * np.stack(
        [np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([-np.sin(angle), np.cos(angle)], -1)], -2)
    target = (np.array(size) - 1.0) / 2 + config.shift * np.array(size) * (2 * u[:, 5:7] - 1)
    shift = target - np.einsum("bij,bj->bi", linear, centre)
    forward = np.concatenate([linear, shift[..., None]], -1)
    forward[flipped, 0] *= -1
    forward[flipped, 0, 2] += size[0] - 1
    return forward, flipped


def _bell(u: Float) -> Float:
    """A uniform number -> a value in [-1, 1] that prefers the middle: small turns are more common than large ones."""
    centred = 2 * u - 1
    return np.asarray(np.sign(centred) * np.abs(centred) ** 1.5)


def _half_body(keypoints_K3: Float, u: float, skeleton: Skeleton, config: AugmentConfig) -> tuple[Float, Float] | None:
    """Corners of the labelled joints of one body half, or None where too few joints are labelled."""
    labelled = keypoints_K3[:, 2] > 0
    if labelled.sum() <= config.half_body_joints or not skeleton.upper or not skeleton.lower:
        return None
    names = skeleton.upper if u < 0.5 else skeleton.lower
    chosen = np.array([n in names for n in skeleton.names]) & labelled
    if chosen.sum() < 3:
        return None
    points = keypoints_K3[chosen, :2]
    return points.min(0), points.max(0)


def move_keypoints(keypoints_BK3: Float, forward: Float, flipped: NDArray[np.bool_], *, size: Size,
                   skeleton: Skeleton) -> Float:
    """Keypoints through the maps; mirrored people swap left and right; those outside the input become unlabelled."""
    moved = keypoints_BK3.astype(np.float64, copy=True)
    moved[..., :2] = np.einsum("bij,bkj->bki", forward[..., :2], moved[..., :2]) + forward[:, None, :, 2]
    moved[flipped] = moved[flipped][:, skeleton.flip_index]
    inside = ((moved[..., :2] >= -0.5) & (moved[..., :2] < np.array(size) - 0.5)).all(-1)
    moved[..., 2] = np.where(inside, moved[..., 2], 0)
    return moved


def warp(crops_BHW3: Tensor, forward: Float, size: Size) -> Tensor:
    """Bilinear resampling through the inverse maps -> (B, 3, h, w) float 0..255, black outside the canvas."""
    _, height, width, _ = crops_BHW3.shape
    linear = np.linalg.inv(forward[..., :2])
    shift = -np.einsum("bij,bj->bi", linear, forward[..., 2])
    # grid_sample with align_corners=True puts -1 and 1 on the centres of the corner pixels: our own convention
    to_grid = 2 / np.array([width - 1, height - 1])
    theta = np.concatenate([linear * to_grid[:, None], (shift * to_grid - 1)[..., None]], -1)
    device = crops_BHW3.device
    ys, xs = torch.meshgrid(torch.arange(size[1], device=device, dtype=torch.float32),
                            torch.arange(size[0], device=device, dtype=torch.float32), indexing="ij")
    base = torch.stack([xs, ys, torch.ones_like(xs)], -1).reshape(-1, 3)
    grid = base @ torch.as_tensor(theta, dtype=torch.float32, device=device).transpose(1, 2)
    pictures = crops_BHW3.permute(0, 3, 1, 2).float()
    return functional.grid_sample(pictures, grid.reshape(-1, size[1], size[0], 2), mode="bilinear",
                                  padding_mode="zeros", align_corners=True)


def _column(values: NDArray[Any], like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)


def colour(images: Tensor, uniforms_B8: Float, config: AugmentConfig) -> Tensor:
    """Brightness, contrast, a gain per channel, and now and then grey."""
    if not config.colour and not config.grey_chance:
        return images
    u = 2 * uniforms_B8 - 1
    gain = torch.as_tensor(1 + config.colour / 2 * u[:, :3], dtype=images.dtype, device=images.device)
    images = images * gain[:, :, None, None]
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * _column(1 + config.colour * u[:, 3], images)
    images = images * _column(1 + config.colour * u[:, 4], images)
    grey = _column(uniforms_B8[:, 5] < config.grey_chance, images)
    return (images + grey * (images.mean(1, keepdim=True) - images)).clamp(0, 255)


def blur(images: Tensor, uniforms_B: Float, config: AugmentConfig) -> Tensor:
    """Now and then a picture loses its fine detail, as people far away have none."""
    rows = np.flatnonzero(uniforms_B < config.blur_chance)
    if not len(rows):
        return images
    index = torch.as_tensor(rows, device=images.device)
    coarse = functional.avg_pool2d(images[index], 2)
    smooth = functional.interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return images.index_copy(0, index, smooth)


def occluded(uniforms: Float, config: AugmentConfig) -> tuple[NDArray[np.intp], Float]:
    """Which samples get an occluder, and a number in [0, 1) for each that chooses whose pixels it is made of."""
    rows = np.flatnonzero(uniforms[:, 19] < config.occlusion_chance)
    return rows, uniforms[rows, 20]


def occlude(images: Tensor, occluders_MHW3: Tensor, uniforms: Float, config: AugmentConfig) -> Tensor:
    """A rectangle of somebody else covers a part; the labels stay: hidden joints are guessed too."""
    rows, _ = occluded(uniforms, config)
    _, _, height, width = images.shape
    out = images.clone()
    for other, i in zip(occluders_MHW3, rows, strict=True):
        u = uniforms[i, 21:27]
        h, w = int(height * (0.08 + 0.25 * u[0])), int(width * (0.1 + 0.4 * u[1]))
        y, x = int((height - h) * u[2]), int((width - w) * u[3])
        sy, sx = int((other.shape[0] - h) * u[4]), int((other.shape[1] - w) * u[5])
        out[i, :, y : y + h, x : x + w] = other[sy : sy + h, sx : sx + w].permute(2, 0, 1).to(images.dtype)
    return out
