"""Where a sample's pixels and points go: one affine map each. B samples, K keypoints, H W canvas, h w network input."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stagepose.aliases import Float
from stagepose.geometry import Size
from stagepose.skeleton import Skeleton
from stagepose.training.augment.config import AugmentConfig, Canvases, Draw
from stagepose.training.tensors import numbers_on

HALF_CONTEXT = 1.5  # of the picture around the joints of a body half
HALF_ZOOM = 2.5  # how much closer a body half comes than the whole body, at most
FEWEST, NARROWEST = 3, 4.0  # labelled joints of a body half, and canvas pixels between the outermost, at least


def sample_affines(keypoints_BK3: Float, uniforms: Float, *, base_scale: float, canvas: Size, size: Size,
                   skeleton: Skeleton, config: AugmentConfig) -> tuple[Float, NDArray[np.bool_]]:
    """-> maps (B, 2, 3) from canvas points to input points, and which samples are mirrored (B,)."""
    u, sides = uniforms.T, np.array(size, dtype=np.float64)
    angle = np.deg2rad(config.rotation * _bell(u[Draw.ANGLE])) * (u[Draw.TURNED] < config.rotation_chance)
    zoom = base_scale * (1 + config.scale) ** (2 * u[Draw.ZOOM] - 1)
    centre, closer = _looked_at(keypoints_BK3, uniforms, base_scale=base_scale, canvas=canvas, size=size,
                                skeleton=skeleton, config=config)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    linear = (zoom * closer / _grown(uniforms, config))[:, None, None] * turn
    target = (sides - 1) / 2 + config.shift * sides * (2 * uniforms[:, [Draw.SHIFT_X, Draw.SHIFT_Y]] - 1)
    forward = np.concatenate([linear, (target - np.einsum("bij,bj->bi", linear, centre))[..., None]], -1)
    mirrored = are_mirrored(uniforms, config)
    forward[mirrored, 0] *= -1
    forward[mirrored, 0, 2] += size[0] - 1
    return forward, mirrored


def are_mirrored(uniforms: Float, config: AugmentConfig) -> NDArray[np.bool_]:
    """(B,) which samples are."""
    return np.asarray(uniforms[:, Draw.MIRRORED] < config.flip_chance)


def _grown(uniforms: Float, config: AugmentConfig) -> Float:
    """(B,) how many times as much of the picture is shown because a box grew, each side by its own factor.

    The grown box is fitted to the input's shape again, which shows more but distorts nobody. A crop does not know the
    box that it was cut by, so it is taken for one of the input's shape, whose larger factor decides.
    """
    sides = 1 + (np.array(config.stretch) - 1) * uniforms[:, [Draw.STRETCH_X, Draw.STRETCH_Y]]
    return np.where(uniforms[:, Draw.STRETCHED] < config.stretch_chance, sides.max(1), 1.0)


def _bell(u: Float) -> Float:
    """Uniform numbers -> values in [-1, 1] that prefer the middle."""
    centred = 2 * u - 1
    return np.asarray(np.sign(centred) * np.abs(centred) ** 1.5)


def _looked_at(keypoints_BK3: Float, uniforms: Float, *, base_scale: float, canvas: Size, size: Size,
               skeleton: Skeleton, config: AugmentConfig) -> tuple[Float, Float]:
    """The middle of what is shown (B, 2), in canvas pixels, and how much closer it comes (B,), as body halves do."""
    middle = (np.array(canvas) - 1.0) / 2
    labelled = keypoints_BK3[..., 2] > 0
    halves = np.array([[name in half for name in skeleton.names] for half in (skeleton.upper, skeleton.lower)])
    chosen = halves[(uniforms[:, Draw.WHICH_HALF] >= 0.5).astype(int)] & labelled
    alone = ((uniforms[:, Draw.HALVED] < config.half_body_chance) & (labelled.sum(1) > config.half_body_joints)
             & (chosen.sum(1) >= FEWEST) & halves.any(1).all())
    points = keypoints_BK3[..., :2]
    low = np.where(chosen[..., None], points, np.inf).min(1, where=alone[:, None, None], initial=np.inf)
    high = np.where(chosen[..., None], points, -np.inf).max(1, where=alone[:, None, None], initial=-np.inf)
    low, high = (np.where(alone[:, None], corner, middle) for corner in (low, high))
    closest = (np.array(size) / (np.maximum(high - low, NARROWEST) * HALF_CONTEXT)).min(1) / base_scale
    return (low + high) / 2, np.where(alone, np.clip(closest, 1, HALF_ZOOM), 1)


def move_keypoints(keypoints_BK3: Float, forward: Float, mirrored: NDArray[np.bool_], *, size: Size,
                   skeleton: Skeleton) -> Float:
    """Keypoints through the maps; mirrored people swap left and right; those outside the input become unlabelled."""
    moved = keypoints_BK3.astype(np.float64, copy=True)
    moved[..., :2] = np.einsum("bij,bkj->bki", forward[..., :2], moved[..., :2]) + forward[:, None, :, 2]
    moved[mirrored] = moved[mirrored][:, skeleton.flip_index]
    inside = ((moved[..., :2] >= -0.5) & (moved[..., :2] < np.array(size) - 0.5)).all(-1)
    moved[..., 2] = np.where(inside, moved[..., 2], 0)
    return moved


def warp(canvases: Canvases, forward: Float, size: Size) -> Tensor:
    """Bilinear resampling through maps (B, 2, 3) -> (B, h, w, 3) float 0..255, black outside the canvas."""
    if isinstance(canvases, Tensor):
        return _warp_tensor(canvases, forward, size)
    return _warp_arrays(canvases, forward, size)


def _warp_arrays(canvases: Sequence[NDArray[np.uint8]], forward: Float, size: Size) -> Tensor:
    """A call a sample, on bytes: turning whole canvases into floats alone would take longer.

    Four channels are resampled twice as fast as three, and a canvas that was copied to the processor's cache twice as
    fast as one that is fetched from memory in a slanted order: the first conversion is both.
    """
    height, width, _ = canvases[0].shape
    near, turned = np.empty((height, width, 4), np.uint8), np.empty((size[1], size[0], 4), np.uint8)
    out = np.empty((len(canvases), size[1], size[0], 3), dtype=np.uint8)
    for canvas, matrix, place in zip(canvases, forward, out, strict=True):
        cv2.cvtColor(canvas, cv2.COLOR_RGB2RGBA, dst=near)
        cv2.warpAffine(near, matrix, size, dst=turned, flags=cv2.INTER_LINEAR)
        cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB, dst=place)
    return torch.from_numpy(out).float()


def _warp_tensor(canvases_BHW3: Tensor, forward: Float, size: Size) -> Tensor:
    """The whole batch at once, on any device."""
    _, height, width, _ = canvases_BHW3.shape
    linear = np.linalg.inv(forward[..., :2])
    shift = -np.einsum("bij,bj->bi", linear, forward[..., 2])
    # grid_sample with align_corners=True puts -1 and 1 on the centres of the corner pixels: our own convention
    to_grid = 2 / np.array([width - 1, height - 1])
    theta = np.concatenate([linear * to_grid[:, None], (shift * to_grid - 1)[..., None]], -1)
    device = canvases_BHW3.device
    along_x, along_y, origin = numbers_on(device, theta)[:, None, None].unbind(-1)  # (B, 1, 1, 2) each
    xs, ys = (torch.arange(side, device=device, dtype=torch.float32)[:, None] for side in size)
    # no product of matrices: a GPU may keep 11 bits of the numbers in one (TF32): .28 px off in 432 x 576
    grid = along_x * xs + (along_y * ys[:, None] + origin)  # (B, h, w, 2)
    images = functional.grid_sample(canvases_BHW3.permute(0, 3, 1, 2).float(), grid,
                                    mode="bilinear", padding_mode="zeros", align_corners=True)
    return images.permute(0, 2, 3, 1).contiguous()
