"""Augmentation in batches: one affine per sample moves pixels and points together, then the looks are changed.

B samples, K keypoints, H W canvas size, h w network input size. Nothing here draws a random number: every choice
comes from ``uniforms`` (B, UNIFORMS), a row a sample, so that a sample looks the same in any batch.
"""

from __future__ import annotations

from torch import Tensor

from stagepose.geometry import Size
from stagepose.skeleton import Skeleton
from stagepose.training.augment.config import (
    NO_AUGMENTATION,
    UNIFORMS,
    AugmentConfig,
    Draw,
    Float,
    refuse_mirroring,
)
from stagepose.training.augment.looks import change_looks, occluded
from stagepose.training.augment.motion import move_keypoints, sample_affines, warp

__all__ = ["NO_AUGMENTATION", "UNIFORMS", "AugmentConfig", "Draw", "augment", "occluded", "refuse_mirroring"]


def augment(crops_BHW3: Tensor, keypoints_BK3: Float, uniforms: Float, *, base_scale: float, size: Size,
            skeleton: Skeleton, config: AugmentConfig, occluders_MHW3: Tensor | None = None) -> tuple[Tensor, Float]:
    """uint8 canvases and their keypoints -> (images (B, 3, h, w) float 0..255, keypoints (B, K, 3) in input pixels).

    ``occluders_MHW3`` are other people's canvases, one for each sample of :func:`occluded`, in that order.
    ``base_scale`` input pixels per canvas pixel without any zoom. Keypoints that leave the input become unlabelled.
    Images lie in memory as the network wants them, channels last.
    """
    canvas = (crops_BHW3.shape[2], crops_BHW3.shape[1])
    forward, mirrored = sample_affines(keypoints_BK3, uniforms, base_scale=base_scale, canvas=canvas, size=size,
                                       skeleton=skeleton, config=config)
    images = warp(crops_BHW3, forward, size)
    change_looks(images, uniforms, config, occluders_MHW3)
    return images.permute(0, 3, 1, 2), move_keypoints(keypoints_BK3, forward, mirrored, size=size, skeleton=skeleton)
