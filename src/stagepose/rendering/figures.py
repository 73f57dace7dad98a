"""People in the world: a body of some traits, dressed, in a pose, turned and put somewhere. V vertices, B bones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng
from stagepose.rendering.body import Traits, load_body
from stagepose.rendering.dressing import dressed, shown_triangles
from stagepose.rendering.families import Stance
from stagepose.rendering.outfits import Outfit, draw_outfit, draw_traits
from stagepose.rendering.pose import move

FACING, TURNED = 0.6, 45.0  # this share of people looks to the camera, give or take so many degrees


@dataclass(frozen=True, eq=False)
class Figure:
    """``points`` (V, 3) and ``heads`` (B, 3) of the bones in the world; ``triangles`` (F, 3) with their ``parts``."""

    outfit: Outfit
    stance: Stance
    points: Float32
    heads: Float32
    triangles: NDArray[np.int64]
    parts: NDArray[np.uint8]

    def moved(self, by: NDArray[np.float64]) -> Figure:
        """The same person somewhere else."""
        step = by.astype(np.float32)
        return replace(self, points=self.points + step, heads=self.heads + step)

    def bounds(self) -> tuple[Float32, Float32]:
        """Lowest and highest corner of what is shown."""
        shown = self.points[np.unique(self.triangles)]
        return shown.min(axis=0), shown.max(axis=0)


def draw_figure(rng: Rng, stance: Stance, traits: Traits | None = None) -> Figure:
    """A random person, or one of these traits, in a pose, at the origin, ``lift`` above the ground; z is to the camera.
    """
    yaw = rng.normal(0, TURNED) if rng.random() < FACING else rng.uniform(-180, 180)
    turn_33 = turned(yaw, stance.lean, stance.roll) if stance.facing is None else stance.facing
    body = load_body()
    traits = draw_traits(rng) if traits is None else traits
    outfit = draw_outfit(rng, traits)
    shape = dressed(body, body.shape(traits), outfit)
    frame = move(body, shape, stance.angles[None])
    turns = turn_33.astype(np.float32) @ frame.turns[0]
    heads = frame.places[0] @ turn_33.T.astype(np.float32)
    points = body.skin(shape, turns, heads)
    triangles, parts = shown_triangles(body, outfit)
    figure = Figure(outfit, stance, points, heads, triangles, parts)
    low, high = figure.bounds()
    middle = (low + high) / 2
    return figure.moved(np.array([-middle[0], stance.lift - low[1], -middle[2]]))


def turned(yaw: float, lean: float, roll: float) -> NDArray[np.float64]:
    """(3, 3) from degrees: first forward, then to the person's left, then around."""
    y, x, z = np.radians([yaw, lean, -roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    result: NDArray[np.float64] = about_y @ about_z @ about_x
    return result
