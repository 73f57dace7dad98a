"""The camera: a pinhole, somewhere around the people, a little above or below them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32


@dataclass(frozen=True, eq=False)
class Camera:
    """``turn`` (3, 3): rows are the picture's right, its down and the way ahead, in the world; ``focal`` in pixels.

    ``size`` is height and width; points are pixels as everywhere (docs/coordinates.md).
    """

    place: NDArray[np.float64]
    turn: NDArray[np.float64]
    focal: float
    size: tuple[int, int]

    def project(self, places_V3: Float32) -> Float32:
        """(V, 3): x and y in pixels, depth in metres. Behind the camera x and y mean nothing, the depth is below 0."""
        seen = (places_V3 - self.place) @ self.turn.T
        depth = seen[:, 2:]
        safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        middle = (np.array([self.size[1], self.size[0]]) - 1) / 2
        return np.concatenate([seen[:, :2] / safe * self.focal + middle, depth], axis=1).astype(np.float32)

    def rays(self) -> Float32:
        """(H, W, 3) world directions through the pixels, one metre ahead each."""
        height, width = self.size
        y, x = np.mgrid[:height, :width]
        local = np.stack([x - (width - 1) / 2, y - (height - 1) / 2, np.full_like(x, self.focal, dtype=float)], axis=-1)
        return (local / self.focal @ self.turn).astype(np.float32)

    def enlarged(self, factor: int) -> Camera:
        """The same view on ``factor`` times as many pixels each way."""
        return Camera(self.place, self.turn, self.focal * factor, (self.size[0] * factor, self.size[1] * factor))


def look_at(place: NDArray[np.float64], target: NDArray[np.float64], *, roll: float, focal: float,
            size: tuple[int, int]) -> Camera:
    """A camera at ``place`` that has ``target`` in its middle, tilted by ``roll`` radians."""
    ahead = (target - place) / np.linalg.norm(target - place)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    down = np.cross(ahead, right)
    cos, sin = np.cos(roll), np.sin(roll)
    return Camera(place, np.stack([cos * right + sin * down, cos * down - sin * right, ahead]), focal, size)
