"""Things that stand about: seats, boxes, posts; before people they hide them. V vertices, F triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng
from stagepose.rendering.camera import Camera
from stagepose.rendering.patterns import Pattern, draw_pattern

Point = NDArray[np.float64]

MOST = 3
COUNT_ODDS = (0.4, 0.3, 0.2, 0.1)  # of none to MOST
BEFORE = 0.3  # of things stand between the camera and the people
ROUND = 12  # sides of a pillar
CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0, 1) for z in (-0.5, 0.5)])
SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


@dataclass(frozen=True, eq=False)
class Thing:
    """Corners (V, 3) in the world, triangles (F, 3), own coordinates (V, 3) for its pattern."""

    points: Float32
    triangles: NDArray[np.int64]
    places: Float32
    pattern: Pattern


def box(rng: Rng, bottom: Point, size: tuple[float, float, float], yaw: float) -> Thing:
    """Of ``size`` (width, height, depth), turned by ``yaw`` radians, its bottom's middle at ``bottom``."""
    return _thing(rng, CORNERS * size, SIDES, bottom, yaw)


def pillar(rng: Rng, bottom: Point, radius: float, height: float) -> Thing:
    """A round post, bin or tree trunk."""
    turn = np.linspace(0, 2 * np.pi, ROUND, endpoint=False)
    ring = np.stack([np.sin(turn), np.zeros(ROUND), np.cos(turn)], axis=1) * radius
    points = np.concatenate([ring, ring * rng.uniform(0.75, 1.1) + [0, height, 0], [[0, height, 0]]])
    around = np.arange(ROUND)
    after = (around + 1) % ROUND
    tip = np.full(ROUND, 2 * ROUND)
    wall = np.stack([around, after, after + ROUND, around + ROUND], axis=1)
    lid = np.stack([around + ROUND, after + ROUND, tip, tip], axis=1)
    return _thing(rng, points, np.concatenate([wall, lid]), bottom, rng.uniform(0, 6))


def _thing(rng: Rng, points: Point, quads: NDArray[np.int64], bottom: Point, yaw: float) -> Thing:
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    corners = points[quads].reshape(-1, 3)  # of their own for each face, so that edges stay sharp
    triangles = np.arange(len(corners)).reshape(-1, 4)[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    pattern = draw_pattern(rng, kinds=("plain", "across", "along", "blotches"), scale=rng.uniform(1, 4),
                           pale=rng.uniform(0, 0.8))
    return Thing((corners @ turn.T + bottom).astype(np.float32), triangles, corners.astype(np.float32), pattern)


def draw_things(rng: Rng, camera: Camera, near: float) -> list[Thing]:
    """A few around; ``near`` is the distance of the people in the middle, some things stand before them."""
    return [_draw_thing(rng, camera, near) for _ in range(rng.choice(MOST + 1, p=COUNT_ODDS))]


def _draw_thing(rng: Rng, camera: Camera, near: float) -> Thing:
    before = rng.random() < BEFORE
    away = rng.uniform(0.55, 0.85) * near if before else near + rng.uniform(0.6, 4)
    across = rng.uniform(-0.55, 0.55) * camera.size[1] / camera.focal * away
    ahead = camera.turn[2] * [1, 0, 1]
    ahead /= np.linalg.norm(ahead)
    bottom = (camera.place + ahead * away + camera.turn[0] * across) * [1, 0, 1]
    if rng.random() < 0.55:
        height = rng.uniform(0.25, 0.75) if before else rng.uniform(0.3, 1.6)
        return box(rng, bottom, (rng.uniform(0.3, 1.6), height, rng.uniform(0.3, 1)), rng.uniform(0, 3))
    return pillar(rng, bottom, rng.uniform(0.04, 0.12 if before else 0.25), rng.uniform(0.7, 3))
