"""Keypoints as sets that are made say them. K keypoints."""

from __future__ import annotations

import numpy as np

from stagepose.geometry import Float


def in_picture(keypoints_K3: Float, width: int, height: int) -> Float:
    """Keypoints x, y, v to a hundredth of a pixel; 0, 0, 0 outside of the picture, and where v is 0.

    COCO's are numbers of pixels, 0 to the side less 1; 0 itself is left out, as the corner means unlabelled to COCO.
    """
    rounded = np.round(keypoints_K3, 2)
    inside = ((rounded[:, :2] > 0) & (rounded[:, :2] <= (width - 1, height - 1))).all(axis=1)
    return np.where((inside & (rounded[:, 2] > 0))[:, None], rounded, 0.0)
