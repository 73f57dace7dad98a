"""What is known of rendered people: masks, boxes, and where each keypoint is and whether it can be seen.

H W picture size, h w size of the finer samples, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import count_labelled, keypoints_json
from stagepose.making import in_picture
from stagepose.rendering.landmarks import Landmarks
from stagepose.rendering.scene import Scene
from stagepose.skeleton import HIDDEN, UNLABELLED, VISIBLE

LEAST_AREA = 0.0008  # of the picture, that a person must show to be asked for its keypoints: 7 x 7 pixels in 256 x 256
LEAST_SEEN = 2  # visible keypoints of such a person, where the skeleton has as many


@dataclass(frozen=True, eq=False)
class Surface:
    """What each sample sees: ``owner`` (h, w) -1 for nothing; ``rest`` (h, w, 3) where on the chart of its owner;

    ``hair`` (h, w) whether it is hair that hangs; ``finer`` samples a pixel each way.
    """

    owner: NDArray[np.int64]
    rest: NDArray[np.float32]
    hair: NDArray[np.bool_]
    finer: int


@dataclass(frozen=True, eq=False)
class Label:
    """One person: ``mask`` (H, W) of what is seen; ``keypoints`` (K, 3) x, y, v, all 0 outside of the picture."""

    mask: NDArray[np.bool_]
    keypoints: NDArray[np.float64]

    def annotation(self) -> dict[str, Any]:
        """Box, area and keypoints as COCO has them; so little seen of a person that nobody could say: no keypoints."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)).tolist() for axis in (1, 0))
        seen = (self.keypoints[:, 2] == VISIBLE).sum()
        wanted = min(LEAST_SEEN, len(self.keypoints))
        enough = self.mask.sum() >= LEAST_AREA * self.mask.size and seen >= wanted
        keypoints = keypoints_json(self.keypoints if enough else np.zeros_like(self.keypoints))
        return {
            "bbox": [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1],
            "area": int(self.mask.sum()),
            "keypoints": keypoints,
            "num_keypoints": count_labelled(keypoints),
        }


def label(scene: Scene, number: int, mask: NDArray[np.bool_], landmarks: Landmarks, surface: Surface) -> Label:
    """Of person ``number``."""
    figure, (height, width) = scene.figures[number], scene.camera.size
    seen = scene.camera.project(landmarks.of(figure.points, figure.heads)).astype(np.float64)
    before = np.where(seen[:, 2] > 0, HIDDEN, UNLABELLED)
    keypoints = in_picture(np.column_stack([seen[:, :2], before]), width, height)
    for k in np.flatnonzero(keypoints[:, 2]).tolist():
        x, y, _ = keypoints[k].tolist()
        if _is_seen(k, x, y, number, landmarks, surface):
            keypoints[k, 2] = VISIBLE
    return Label(mask, keypoints)


def _is_seen(k: int, x: float, y: float, number: int, landmarks: Landmarks, surface: Surface) -> bool:
    """Whether one of the samples around shows this person's surface near the keypoint."""
    row, column = (round(at * surface.finer + (surface.finer - 1) / 2) for at in (y, x))
    around = np.s_[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    off = np.linalg.norm(surface.rest[around] - landmarks.rest[k], axis=-1)
    shown = (surface.owner[around] == number) & (off < landmarks.reach[k])
    if landmarks.on_skin[k]:  # hair hides an ear; a shoulder under it is seen all the same
        shown &= ~surface.hair[around]
    return bool(shown.any())
