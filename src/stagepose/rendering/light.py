"""Light: one lamp or sun with shadows, and the glow of sky and ground. S places, V vertices, F triangles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng
from stagepose.rendering.raster import rasterise

MAP = 320  # pixels a side of the shadow map: about 1 cm of a person's shadow each
BIAS = 0.025  # metres that a place may lie behind the lit surface and still be it


@dataclass(frozen=True, eq=False)
class Light:
    """``way`` (3,) unit, towards the lamp; colours (3,) of the lamp, the sky and the ground; ``shade`` of shadows."""

    way: NDArray[np.float64]
    lamp: Float32
    sky: Float32
    ground: Float32
    shade: float
    soft: float  # pixels of the shadow map over which a shadow's edge fades


def draw_light(rng: Rng) -> Light:
    """Sun, an overcast sky, a lamp: from hard to hardly any shadow, warm to cold."""
    height, around = np.radians(rng.uniform(25, 80)), rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(height) * np.sin(around), np.sin(height), np.cos(height) * np.cos(around)])
    hard = rng.beta(1.2, 1.2)
    warm = rng.normal(0, 0.1)
    tint = np.array([1 + warm, 1, 1 - warm])
    glow = rng.uniform(0.35, 0.65) * (1.3 - 0.6 * hard)
    return Light(
        way, (tint * (0.25 + 0.95 * hard)).astype(np.float32), (glow * (2 - tint)).astype(np.float32),
        (0.5 * glow * np.array([1.05, 1, 0.9])).astype(np.float32), float(0.35 + 0.6 * hard), float(1 + 5 * (1 - hard)),
    )  # fmt: skip


class Shadows:
    """What the lamp sees: the depth of the nearest surface on a grid across its rays."""

    def __init__(self, light: Light, points_V3: Float32, triangles_F3: NDArray[np.int64]) -> None:
        side = np.cross([0.0, 1.0, 0.1], light.way)
        side /= np.linalg.norm(side)
        self._axes = np.stack([side, np.cross(light.way, side), -light.way])
        self._light = light
        seen = points_V3 @ self._axes.T
        self._low = seen.min(axis=0) - 0.05
        self._scale = (MAP - 1) / max(float((seen.max(axis=0) + 0.05 - self._low)[:2].max()), 1e-6)
        hits = rasterise(self._to_map(seen), triangles_F3, (MAP, MAP), both_sides=True)
        near = np.full(MAP * MAP, np.inf, dtype=np.float32)
        near[hits.pixel] = hits.depth
        self._near = near.reshape(MAP, MAP)

    def _to_map(self, seen: Float32) -> Float32:
        """(V, 3): x and y on the map, depth in metres from 1 on."""
        return np.concatenate([(seen[:, :2] - self._low[:2]) * self._scale, seen[:, 2:] - self._low[2] + 1], axis=1,
                              dtype=np.float32)

    def lit(self, places_S3: Float32) -> Float32:
        """(S,) how much of the lamp reaches a place, from 1 - shade to 1."""
        on_map = self._to_map((places_S3 @ self._axes.T).astype(np.float32))
        total = np.zeros(len(on_map), dtype=np.float32)
        ring = np.array([(0, 0), (1, 0.3), (-1, -0.3), (-0.3, 1), (0.3, -1)]) * self._light.soft * 0.5
        for dx, dy in ring:
            x, y = np.round(on_map[:, 0] + dx).astype(np.int64), np.round(on_map[:, 1] + dy).astype(np.int64)
            inside = (x >= 0) & (y >= 0) & (x < MAP) & (y < MAP)
            near = self._near[np.clip(y, 0, MAP - 1), np.clip(x, 0, MAP - 1)]
            total += ~(inside & (near < on_map[:, 2] - BIAS - 0.01 * self._light.soft))
        return (1 - self._light.shade * (1 - total / len(ring))).astype(np.float32)


def shade(light: Light, colour_S3: Float32, normals_S3: Float32, lit_S: Float32, gloss_S: Float32,
          to_eye_S3: Float32) -> Float32:
    """Light (S, 3) that comes from a surface; ``to_eye`` are unit directions."""
    facing = np.clip((normals_S3 @ light.way + 0.12) / 1.12, 0, 1)  # skin and cloth scatter a little round the edge
    up = (0.5 + 0.5 * normals_S3[:, 1:2]).astype(np.float32)
    half = to_eye_S3 + light.way
    half /= np.linalg.norm(half, axis=1, keepdims=True) + 1e-9
    shine = gloss_S * np.clip(np.sum(normals_S3 * half, axis=1), 0, 1) ** 24
    glow = light.ground + (light.sky - light.ground) * up
    got = glow + light.lamp * (facing * lit_S)[:, None]
    return np.asarray(colour_S3 * got + light.lamp * (shine * lit_S)[:, None], dtype=np.float32)


def closeness(depth_HW: Float32, reach: float) -> Float32:
    """(H, W) 0.55 to 1: darker where the surroundings within ``reach`` pixels stand before a surface (folds, armpits).

    ``depth`` in metres, NaN where there is nothing.
    """
    filled = np.nan_to_num(depth_HW, nan=0.0)
    there = (~np.isnan(depth_HW)).astype(np.float32)
    total = cv2.GaussianBlur(filled, (0, 0), reach)
    weight = cv2.GaussianBlur(there, (0, 0), reach)
    behind = filled - total / np.maximum(weight, 1e-3)  # metres behind the mean around
    return (1 - 0.45 * np.clip(behind / 0.1, 0, 1)).astype(np.float32)
