"""Coordinates on the body's surface that are the same for everybody, so that a garment is a few numbers.

V vertices, S places anywhere on the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32
from stagepose.rendering.body import BODY, EYES, HAIR, SKIRT, Body, load_body

OFF_ARM = -0.3  # the arm's coordinate of all that is no arm
SHOULDER = -0.15  # arm coordinates from here on are on an arm
CHEST = -1.0  # the level of arms: as high as where they begin
HEAD = -1.5  # levels above are the head, or the hands of nobody
EYE = np.array([0.0308, 0.7284, 0.1392])  # front of the left eye
ARM = ("upperarm", "lowerarm", "wrist", "finger")


@dataclass(frozen=True, eq=False)
class Chart:
    """Places on the body.

    ``rest`` (S, 3) metres on the middle body, as MakeHuman's stands; ``level`` (S,) 0 at the hip, 1 knee, 2 ankle, -0.4
    waist, -1.4 neck; ``arm`` (S,) 0 at the shoulder, 1 elbow, 2 wrist; ``neck`` (S,) metres from the neck's foot.
    """

    rest: Float32
    level: Float32
    arm: Float32
    neck: Float32

    def columns(self) -> Float32:
        """(S, 6): what a rasteriser can mix between vertices."""
        return np.concatenate([self.rest, np.stack([self.level, self.arm, self.neck], axis=1)], axis=1)

    @classmethod
    def of(cls, columns_S6: Float32) -> Chart:
        """The inverse of :meth:`columns`."""
        return cls(np.ascontiguousarray(columns_S6[:, :3]), columns_S6[:, 3], columns_S6[:, 4], columns_S6[:, 5])

    @property
    def on_arm(self) -> NDArray[np.bool_]:
        """(S,)"""
        found: NDArray[np.bool_] = self.arm > SHOULDER
        return found

    @property
    def on_head(self) -> NDArray[np.bool_]:
        """(S,)"""
        return (self.level < HEAD) & ~self.on_arm


@cache
def body_chart() -> Chart:
    """Of the vertices (V) of the body that ships."""
    body = load_body()
    rest = body.vertices
    arms = _share(body, ARM)
    level = _levels(body)
    level = level - 0.6 * np.clip(_share(body, ("head",)) * 1.5 - 0.5, 0, 1)  # a chin is as low as a collar
    level[arms > 0.5] = CHEST
    foot = body.heads[body.bone("neck01")] + [0, 0, 0.02]
    neck = np.linalg.norm((rest - foot) * [1, 0.8, 1], axis=1)
    return Chart(rest, *(values.astype(np.float32) for values in (level, _along_arms(body, arms), neck)))


def _share(body: Body, bones: tuple[str, ...]) -> Float32:
    """(V,) how much of a vertex these bones move."""
    chosen = np.array([name.startswith(bones) for name in body.bones])
    total: Float32 = (body.weight * chosen[body.influence]).sum(axis=1)
    return total


def _levels(body: Body) -> NDArray[np.float64]:
    hip, knee, ankle = (float(body.heads[body.bone(f"{bone}.L")][1]) for bone in ("upperleg01", "lowerleg01", "foot"))
    top = 2.0  # metres, above everything
    heights = (ankle - 0.1, ankle, knee, hip, top)
    return np.interp(body.vertices[:, 1], heights, (2.3, 2, 1, 0, -(top - hip) / (hip - knee)))


def _along_arms(body: Body, share_V: Float32) -> NDArray[np.float64]:
    along = np.full(len(body.vertices), OFF_ARM, dtype=np.float64)
    for side, sign in (("L", 1), ("R", -1)):
        mine = np.flatnonzero((share_V > 0.5) & (body.vertices[:, 0] * sign > 0))
        shoulder, elbow, wrist = (body.heads[body.bone(f"{bone}.{side}")]
                                  for bone in ("upperarm01", "lowerarm01", "wrist"))
        upper, lower = (((body.vertices[mine] - start) @ (end - start)) / ((end - start) @ (end - start))
                        for start, end in ((shoulder, elbow), (elbow, wrist)))
        along[mine] = np.where(lower > 0, 1 + lower, np.minimum(upper, 1))
    return along


@cache
def part_masks() -> dict[int, NDArray[np.bool_]]:
    """For each part of the mesh, which vertices (V,) are its."""
    body = load_body()
    numbers = np.arange(len(body.vertices))
    return {part: np.isin(numbers, body.faces[body.parts == part]) for part in (BODY, EYES, HAIR, SKIRT)}
