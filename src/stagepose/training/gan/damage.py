"""What a photo suffers so that it can be repaired: the kinds of damage that carrying limbs to a new pose does.

Limbs are displaced, brought with something else around them, erased; and holes appear where another pose's limbs would
have been. B people, N bones, C chains.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from stagepose.geometry import Float
from stagepose.training.gan.limbs import RADIUS, Limbs
from stagepose.training.gan.moving import CUT, Move

CHOSEN, ERASED, HOLED = 0.6, 0.3, 0.6  # chances: of a chain, of a bone of a chosen chain, of a hole elsewhere
TURN, STRETCH, SHIFT = 12.0, 0.15, 0.3  # at most: degrees, share of the length, share of the radius
THICK, CORE = (0.8, 1.25), (0.5, 1.1)  # factors of the radius: of what is put down, of what of it is the limb's own
BEND = 120.0  # degrees at most between two bones of a hole elsewhere


class Draw(IntEnum):
    """Columns of each bone's uniform numbers."""

    CHOSEN, ERASED, HOLED, TURN, STRETCH, SHIFT_X, SHIFT_Y, THICK, CORE, ELSEWHERE = range(10)


def numbers(limbs: Limbs) -> int:
    """How many uniform numbers one sample consumes."""
    return len(limbs.bones) * len(Draw)


def damage(keypoints_BK3: Float, areas_B: Float, uniforms: Float, limbs: Limbs) -> Move:
    """The damage to photos of people; ``areas_B`` in their square pixels, ``uniforms`` (B, numbers(limbs))."""
    u = np.moveaxis(uniforms.reshape(len(uniforms), -1, len(Draw)), 2, 0)  # (Draw, B, N)
    source = limbs.segments(keypoints_BK3[..., :2])
    radii = radii_of(areas_B, limbs)
    first_of = np.flatnonzero(limbs.firsts)[limbs.chain_of]
    cut = limbs.whole(keypoints_BK3)[:, limbs.chain_of] & (u[Draw.CHOSEN][:, first_of] < CHOSEN)
    drawn = cut & (u[Draw.ERASED] >= ERASED)
    along = source[:, :, 1] - source[:, :, 0]
    shift = SHIFT * radii[..., None] * _spread(np.stack([u[Draw.SHIFT_X], u[Draw.SHIFT_Y]], -1))
    start = source[:, :, 0] + shift
    turned = turn(along * (1 + STRETCH * _spread(u[Draw.STRETCH]))[..., None], np.deg2rad(TURN) * _spread(u[Draw.TURN]))
    thick = radii * _between(u[Draw.THICK], THICK)
    holes = cut & (u[Draw.HOLED] < HOLED)
    return Move(source=source, target=np.stack([start, start + turned], 2), radii=thick, cut=cut, drawn=drawn,
                holes=_elsewhere(source, u[Draw.ELSEWHERE], limbs), hole_radii=np.where(holes, CUT * thick, 0),
                cores=_between(u[Draw.CORE], CORE))


def radii_of(areas_B: Float, limbs: Limbs) -> Float:
    """(B, N) how thick each bone's flesh is taken to be, in pixels."""
    return np.broadcast_to(RADIUS * np.sqrt(areas_B)[:, None], (len(areas_B), len(limbs.bones)))


def _elsewhere(source: Float, u: Float, limbs: Limbs) -> Float:
    """Chains of the same lengths turned about their roots, as another pose would have them."""
    along, out, bend = source[:, :, 1] - source[:, :, 0], source.copy(), np.zeros(len(source))
    for bone, first in enumerate(limbs.firsts):
        bend = np.pi * _spread(u[:, bone]) if first else bend + np.deg2rad(BEND) * _spread(u[:, bone])
        if not first:
            out[:, bone, 0] = out[:, bone - 1, 1]
        out[:, bone, 1] = out[:, bone, 0] + turn(along[:, bone], bend)
    return out


def turn(vectors: Float, angles: Float) -> Float:
    """Vectors (..., 2) turned by angles (...) in radians, from x towards y."""
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _spread(u: Float) -> Float:
    """Uniform in [0, 1) -> in [-1, 1)."""
    return 2 * u - 1


def _between(u: Float, limits: tuple[float, float]) -> Float:
    return limits[0] + (limits[1] - limits[0]) * u
