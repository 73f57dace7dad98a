"""Augmentation in batches: one affine per sample moves pixels and points together, then the looks are changed.

B samples, K keypoints, H W canvas size, h w network input size. Nothing here draws a random number: every choice
comes from ``uniforms`` (B, UNIFORMS), a row a sample, so that a sample looks the same in any batch.
"""

from __future__ import annotations

from torch import Tensor

from stagepose.geometry import Float, Size
from stagepose.skeleton import Skeleton
from stagepose.training.augment.config import (
    NO_AUGMENTATION,
    UNIFORMS,
    AugmentConfig,
    Canvases,
    Draw,
    refuse_mirroring,
)
from stagepose.training.augment.looks import change_looks, occluded
from stagepose.training.augment.motion import are_mirrored, move_keypoints, sample_affines, warp

__all__ = ["NO_AUGMENTATION", "UNIFORMS", "AugmentConfig", "Canvases", "Draw", "are_mirrored", "augment",
           "occluded", "refuse_mirroring"]


def augment(canvases: Canvases, keypoints_BK3: Float, uniforms: Float, *, base_scale: float, size: Size,
            skeleton: Skeleton, config: AugmentConfig, occluders: Canvases | None = None,
            ) -> tuple[Tensor, Float, Float]:
    """Canvases and their keypoints -> images (B, 3, h, w) float 0..255, keypoints (B, K, 3), affines (B, 2, 3).

    Keypoints and affines are in input pixels; what leaves the input becomes unlabelled. ``occluders`` are other
    people's canvases, one for each sample of :func:`occluded`, in that order. ``base_scale`` input pixels per canvas
    pixel without any zoom. Images lie in memory as the network wants them, channels last.
    """
    height, width, _ = canvases[0].shape
    forward, mirrored = sample_affines(keypoints_BK3, uniforms, base_scale=base_scale, canvas=(width, height),
                                       size=size, skeleton=skeleton, config=config)
    images = warp(canvases, forward, size)
    change_looks(images, uniforms, config, occluders)
    moved = move_keypoints(keypoints_BK3, forward, mirrored, size=size, skeleton=skeleton)
    return images.permute(0, 3, 1, 2), moved, forward
