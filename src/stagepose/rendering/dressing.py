"""Clothes and hair as shapes: the body's surface smoothed and pushed outwards, and the parts that only some wear.

V vertices, F triangles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32
from stagepose.rendering.body import BODY, EYES, HAIR, SKIRT, Body, Shape
from stagepose.rendering.chart import EYE, Chart, body_chart, part_masks
from stagepose.rendering.outfits import Outfit

SMOOTHED = 12  # passes that take the body's forms out of the cloth over it
SOFT_EDGES = 2  # passes that keep hems from being saws, where the mesh does not run along them
LAST = 60  # passes that make one shoe's tip of five toes
SHOE = 2.05  # level from which on a covered foot is a shoe or a sock
UNDER_SKIRT = (0.05, 0.25)  # levels from the hip down, and above the hem, between which legs are not drawn
LAYER = 0.002  # metres by which cloth lies over other cloth at least
FRINGE = (0.06, 0.1)  # hair that hangs lower (above the eyes) and further forward than this would hide the face

# The hairline: height above the eyes at which hair begins, by how far behind the eyes' front a place is (metres)
_BEHIND = (-0.03, 0.015, 0.045, 0.075, 0.082, 0.12, 0.2)
_HAIRLINE = (0.075, 0.07, 0.05, 0.03, -0.01, -0.045, -0.06)
CAP_EDGE = 0.035  # a cap ends no lower
SKULL = 0.074  # half its width: what is further out, low and not far back is ear
EAR = (0.03, 0.13)


def dressed(body: Body, shape: Shape, outfit: Outfit) -> Shape:
    """The shape at rest with clothes and hair as part of it."""
    chart, parts = body_chart(), part_masks()
    normals = vertex_normals(shape.vertices, body.triangles)
    push = outfit.hair_depth * (1 + 0.12 * outfit.mottle(chart.rest)) * hair_mask(outfit, chart, soft=0.02)
    covered = np.zeros(len(push), dtype=bool)
    for garment in outfit.garments:
        mine = garment.covers(chart)
        ease = garment.ease * (1 + 0.2 * garment.creases(chart.rest))
        push = np.where(mine, np.maximum(push + LAYER, ease), push)
        covered |= mine
    covered &= parts[BODY]
    push = _smoothed(np.where(parts[BODY], push, 0), body, parts[BODY], SOFT_EDGES)
    if outfit.skirt is not None:
        swing = 1 + 0.45 * outfit.skirt.creases(chart.rest) * np.clip(chart.level + 0.3, 0, 1)
        push = np.where(parts[SKIRT], outfit.skirt.ease * swing, push)
    push = push * np.ptp(shape.vertices[:, 1]) / np.ptp(body.vertices[:, 1])  # a child's clothes are a child's size
    feet = covered & (chart.level > SHOE)
    smooth = _smoothed(_smoothed(shape.vertices, body, covered, SMOOTHED), body, feet, LAST)
    vertices = smooth + push[:, None].astype(np.float32) * normals
    return Shape(vertices=vertices.astype(np.float32), heads=shape.heads, tails=shape.tails)


def _smoothed(values_V: Float32, body: Body, chosen_V: NDArray[np.bool_], passes: int) -> Float32:
    """Values (V, ...) of the chosen vertices drawn to the mean of their neighbours', some times over."""
    rows = np.flatnonzero(chosen_V)
    columns = body.neighbours[rows].T.copy()
    result = values_V.copy()
    for _ in range(passes):
        around = result[columns[0]]
        for column in columns[1:]:
            around += result[column]
        result[rows] = 0.4 * result[rows] + 0.6 / len(columns) * around
    return result


def hair_mask(outfit: Outfit, at: Chart, *, soft: float) -> Float32:
    """(S,) how much a place is hair, or cap, 0 to 1; ``soft`` metres from none to all."""
    if outfit.style == "bald":
        return np.zeros(len(at.rest), dtype=np.float32)
    x, up, behind = np.abs(at.rest[:, 0]), at.rest[:, 1] - EYE[1], EYE[2] - at.rest[:, 2]
    line = np.interp(behind, _BEHIND, _HAIRLINE)
    if outfit.style == "cap":
        line = np.maximum(line, CAP_EDGE)
    ear = (x > SKULL) & (up < EAR[0]) & (behind < EAR[1])
    return np.where(at.on_head & ~ear, np.clip((up - line) / soft, 0, 1), 0).astype(np.float32)


def shown_triangles(body: Body, outfit: Outfit) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Triangles (F, 3) that this person has, and the part each belongs to."""
    chart = body_chart()
    shown = np.isin(body.parts, (BODY, EYES))
    if outfit.skirt is not None:
        level = chart.level[body.faces]
        shown |= (body.parts == SKIRT) & (level.max(axis=1) < outfit.skirt.hem)
        under = (level > UNDER_SKIRT[0]).all(axis=1) & (level < outfit.skirt.hem - UNDER_SKIRT[1]).all(axis=1)
        shown &= (body.parts != BODY) | ~under  # a bent knee would come through the cloth
    if outfit.style == "long":
        lowest, foremost = chart.rest[body.faces, 1].min(axis=1), chart.rest[body.faces, 2].max(axis=1)
        before_face = (foremost > FRINGE[1]) & (lowest < EYE[1] + FRINGE[0])
        shown |= (body.parts == HAIR) & (lowest > outfit.hair_end) & ~before_face
    pair = np.repeat(shown, 2)
    return body.triangles[pair], np.repeat(body.parts, 2)[pair]


def vertex_normals(vertices_V3: Float32, triangles_F3: NDArray[np.int64]) -> Float32:
    """(V, 3) unit normals, the mean of the triangles around by area; zero where there are none."""
    a, b, c = (vertices_V3[triangles_F3[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    corners = triangles_F3.T.ravel()
    total = np.stack([np.bincount(corners, weights=np.tile(across[:, axis], 3), minlength=len(vertices_V3))
                      for axis in range(3)], axis=1)
    size = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.maximum(size, 1e-12), dtype=np.float32)
