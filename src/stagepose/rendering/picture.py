"""A scene to a picture with labels. H W picture size, V vertices, F triangles, S pixels hit, K keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng
from stagepose.rendering.body import HAIR, SKIRT
from stagepose.rendering.chart import Chart, body_chart
from stagepose.rendering.dressing import vertex_normals
from stagepose.rendering.labels import Label, Surface, label
from stagepose.rendering.landmarks import Landmarks
from stagepose.rendering.lens import finish
from stagepose.rendering.light import Shadows, closeness, shade
from stagepose.rendering.paint import CLOTH_GLOSS, paint
from stagepose.rendering.raster import Hits, rasterise
from stagepose.rendering.scene import Scene
from stagepose.rendering.scenery import draw_backdrop

FINER = 2  # samples a pixel, each way: edges are mixed as a lens does
NOTHING = -1  # owner of a pixel that shows the backdrop
FOLD = 0.05  # metres around a place whose shape darkens it


@dataclass(frozen=True, eq=False)
class Geometry:
    """All triangles of a scene in one list, people first.

    ``columns`` (V, 6) are a person's chart coordinates, or a thing's own in the first three; ``owner`` (F,) the number
    of the person or, behind them, the thing; ``both_sides`` (F,) cloth and hair that hang free, and things.
    """

    points: Float32
    normals: Float32
    columns: Float32
    triangles: NDArray[np.int64]
    owner: NDArray[np.int64]
    parts: NDArray[np.uint8]
    both_sides: NDArray[np.bool_]


def draw_picture(rng: Rng, scene: Scene, landmarks: Landmarks, backdrop: Path | None = None,
                 ) -> tuple[NDArray[np.uint8], list[Label]]:
    """The picture (H, W, 3) uint8 RGB, and a label for each person of the scene."""
    geometry = gather(scene)
    fine = scene.camera.enlarged(FINER)
    hits = rasterise(fine.project(geometry.points), geometry.triangles, fine.size, both_sides=geometry.both_sides)
    shadows = Shadows(scene.light, geometry.points, geometry.triangles)
    behind = draw_backdrop(rng, scene.camera, scene.light, shadows, backdrop)
    surface = _surface(geometry, hits, fine.size)
    cover = _smaller((surface.owner != NOTHING).astype(np.float32))
    view = _smaller(_lit(scene, geometry, hits, shadows, fine.size)) + behind * (1 - cover[:, :, None])
    masks = [_smaller((surface.owner == number).astype(np.float32)) > 0.5 for number in range(len(scene.figures))]
    labels = [label(scene, number, mask, landmarks, surface) for number, mask in enumerate(masks)]
    return finish(rng, view), labels


def gather(scene: Scene) -> Geometry:
    """People and things in one list."""
    columns = body_chart().columns()
    meshes = [(figure.points, figure.triangles, columns, figure.parts) for figure in scene.figures]
    for thing in scene.things:
        own = np.pad(thing.places, ((0, 0), (0, 3)))
        meshes.append((thing.points, thing.triangles, own, np.zeros(len(thing.triangles), np.uint8)))
    starts = np.cumsum([0, *(len(mesh[0]) for mesh in meshes)])
    owner = np.repeat(np.arange(len(meshes)), [len(mesh[1]) for mesh in meshes])
    parts = np.concatenate([mesh[3] for mesh in meshes])
    return Geometry(
        points=np.concatenate([mesh[0] for mesh in meshes]),
        normals=np.concatenate([vertex_normals(mesh[0], mesh[1]) for mesh in meshes]),
        columns=np.concatenate([mesh[2] for mesh in meshes]),
        triangles=np.concatenate([mesh[1] + start for mesh, start in zip(meshes, starts, strict=False)]),
        owner=owner,
        parts=parts,
        both_sides=np.isin(parts, (HAIR, SKIRT)) | (owner >= len(scene.figures)),
    )


def _surface(geometry: Geometry, hits: Hits, size: tuple[int, int]) -> Surface:
    owner = np.full(size[0] * size[1], NOTHING)
    owner[hits.pixel] = geometry.owner[hits.face]
    rest = np.full((size[0] * size[1], 3), np.inf, dtype=np.float32)
    rest[hits.pixel] = hits.of(geometry.columns[:, :3], geometry.triangles)
    hair = np.zeros(size[0] * size[1], dtype=bool)
    hair[hits.pixel] = geometry.parts[hits.face] == HAIR
    return Surface(owner.reshape(size), rest.reshape(*size, 3), hair.reshape(size), FINER)


def _lit(scene: Scene, geometry: Geometry, hits: Hits, shadows: Shadows, size: tuple[int, int]) -> Float32:
    """(H, W, 3) light from people and things, 0 elsewhere."""
    places = hits.of(geometry.points, geometry.triangles)
    colour, gloss, normals = _painted(scene, geometry, hits)
    to_eye = scene.camera.place.astype(np.float32) - places
    to_eye /= np.linalg.norm(to_eye, axis=1, keepdims=True)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    away = geometry.both_sides[hits.face] & (np.sum(normals * to_eye, axis=1) < 0)
    normals[away] *= -1
    light = shade(scene.light, colour, normals, shadows.lit(places), gloss, to_eye)
    view = np.zeros((size[0] * size[1], 3), dtype=np.float32)
    view[hits.pixel] = light * _folds(scene, hits, size)[:, None]
    return view.reshape(*size, 3)


def _painted(scene: Scene, geometry: Geometry, hits: Hits) -> tuple[Float32, Float32, Float32]:
    """Colour (S, 3), gloss (S,) and normals (S, 3), owner by owner."""
    columns, normals = (hits.of(values, geometry.triangles) for values in (geometry.columns, geometry.normals))
    owner, parts = geometry.owner[hits.face], geometry.parts[hits.face]
    colour, gloss = np.zeros_like(normals), np.full(len(owner), CLOTH_GLOSS, dtype=np.float32)
    for number, figure in enumerate(scene.figures):
        mine = np.flatnonzero(owner == number)
        coat = paint(figure.outfit, Chart.of(columns[mine]), parts[mine], normals[mine])
        colour[mine], gloss[mine], normals[mine] = coat.colour, coat.gloss, coat.normals
    for number, thing in enumerate(scene.things, start=len(scene.figures)):
        mine = np.flatnonzero(owner == number)
        colour[mine] = thing.pattern(np.ascontiguousarray(columns[mine, :3]))
    return colour, gloss, normals


def _folds(scene: Scene, hits: Hits, size: tuple[int, int]) -> Float32:
    """(S,) darker in armpits, between fingers, under skirts."""
    if not len(hits.pixel):
        return np.zeros(0, dtype=np.float32)
    depth = np.full(size[0] * size[1], np.nan, dtype=np.float32)
    depth[hits.pixel] = hits.depth
    reach = FOLD * scene.camera.focal * FINER / float(np.median(hits.depth))
    return closeness(depth.reshape(size), float(np.clip(reach, 1, 60))).ravel()[hits.pixel]


def _smaller(fine: Float32) -> Float32:
    size = (fine.shape[1] // FINER, fine.shape[0] // FINER)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
