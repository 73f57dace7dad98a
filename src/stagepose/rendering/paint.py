"""The colour of each pixel of a person: skin, face, hair, then the garments over them. S pixels; linear light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32
from stagepose.rendering.body import BODY, EYES, HAIR, SKIRT
from stagepose.rendering.chart import EYE, Chart
from stagepose.rendering.dressing import hair_mask
from stagepose.rendering.outfits import LIPS, Garment, Outfit

Rows = NDArray[np.int64]

SKIN_GLOSS, CLOTH_GLOSS, EYE_GLOSS = 0.12, 0.02, 0.5
WHITE = np.array([0.75, 0.72, 0.7], dtype=np.float32)  # of an eye
PUPIL, IRIS = 0.0028, 0.0062  # radii in metres
GAZE = (0.0285, 0.7290)  # middle of the left pupil on the chart, x and y
FLUSH = np.array([0.12, -0.06, -0.06])  # of cheeks
FRONT = 0.1  # metres on the chart before which a head has a face


@dataclass(frozen=True, eq=False)
class Coat:
    """What the light falls on: ``colour`` (S, 3), ``gloss`` (S,), ``normals`` (S, 3) with folds in them."""

    colour: Float32
    gloss: Float32
    normals: Float32


def paint(outfit: Outfit, at: Chart, parts_S: NDArray[np.uint8], normals_S3: Float32) -> Coat:
    """The pixels of one person."""
    colour = np.asarray(outfit.skin * (1 + 0.06 * outfit.mottle(at.rest))[:, None], dtype=np.float32)
    coat = Coat(colour, np.full(len(colour), SKIN_GLOSS, dtype=np.float32), normals_S3.copy())
    head = np.flatnonzero(at.on_head & (parts_S == BODY))
    _paint_head(outfit, Chart.of(at.columns()[head]), head, coat)
    for garment in outfit.garments:
        _wear(garment, np.flatnonzero(garment.covers(at) & (parts_S == BODY)), at.rest, coat)
    if outfit.skirt is not None:
        _wear(outfit.skirt, np.flatnonzero(parts_S == SKIRT), at.rest, coat)
    long = np.flatnonzero(parts_S == HAIR)
    coat.colour[long] = _strands(outfit, at.rest[long])
    eyes = np.flatnonzero(parts_S == EYES)
    coat.colour[eyes], coat.gloss[eyes] = _eyes(outfit, at.rest[eyes]), EYE_GLOSS
    np.clip(coat.colour, 0, 1, out=coat.colour)
    return coat


def _wear(garment: Garment, rows: Rows, rest_S3: Float32, coat: Coat) -> None:
    places = rest_S3[rows]
    coat.colour[rows] = garment.pattern(places)
    coat.gloss[rows] = CLOTH_GLOSS
    coat.normals[rows] -= garment.crease * garment.creases.slope(places)


def _strands(outfit: Outfit, rest_S3: Float32) -> Float32:
    """Hair: its colour in streaks down the head."""
    streaks = outfit.strands(rest_S3 * np.array([1, 0.2, 1], dtype=np.float32))
    return np.asarray(outfit.hair * (1 + 0.28 * streaks)[:, None], dtype=np.float32)


def _paint_head(outfit: Outfit, at: Chart, rows: Rows, coat: Coat) -> None:
    coat.colour[rows] = _face(outfit, at.rest, coat.colour[rows])
    cover = outfit.cap(at.rest) if outfit.style == "cap" else _strands(outfit, at.rest)
    coat.colour[rows] += hair_mask(outfit, at, soft=0.006)[:, None] * (cover - coat.colour[rows])


def _face(outfit: Outfit, rest_S3: Float32, colour_S3: Float32) -> Float32:
    """Cheeks, lips, brows and beard on the skin of a head."""
    x, up, ahead = np.abs(rest_S3[:, 0]), rest_S3[:, 1] - EYE[1], rest_S3[:, 2]
    front = ahead > FRONT
    arch = 0.021 + 0.006 * np.sin(np.clip((x - 0.012) / 0.04, 0, 1) * np.pi)
    brow = front & (np.abs(up - arch) < 0.0045) & (x > 0.012) & (x < 0.048)
    lips = front & ((x / 0.024) ** 2 + ((up + 0.069) / 0.0095) ** 2 < 1)
    beard = (up < -0.045 - 0.5 * np.maximum(ahead - 0.14, 0)) & (up > -0.145) & (ahead > 0.055) & ~lips
    cheek = np.exp(-((x - 0.042) ** 2 + (up + 0.035) ** 2) / 0.0005) * front
    colour = colour_S3 * (1 + cheek[:, None] * FLUSH)
    colour = np.where(lips[:, None], 1.1 * outfit.skin * LIPS, colour)
    colour = np.where(brow[:, None], 0.3 * colour + 0.56 * outfit.hair, colour)
    thick = (outfit.beard * beard * np.clip(0.8 + 0.3 * outfit.strands(rest_S3), 0, 1))[:, None]
    return np.asarray(colour + thick * (outfit.hair - colour), dtype=np.float32)


def _eyes(outfit: Outfit, rest_S3: Float32) -> Float32:
    """White, iris and pupil by the distance from where the eye looks."""
    off = np.hypot(np.abs(rest_S3[:, 0]) - GAZE[0], rest_S3[:, 1] - GAZE[1])[:, None]
    return np.where(off < PUPIL, 0.01, np.where(off < IRIS, outfit.iris, WHITE)).astype(np.float32)
