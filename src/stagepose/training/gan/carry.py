"""Limbs carried from one pose to another. B people, N bones, C chains, K keypoints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stagepose.geometry import Float
from stagepose.skeleton import HIDDEN, VISIBLE
from stagepose.training.gan.damage import radii_of
from stagepose.training.gan.limbs import Limbs
from stagepose.training.gan.moving import Move

COVERS = 0.8  # of a limb's radius hides what is behind it


def carry_to(old_BK3: Float, new_BK3: Float, moved_BC: NDArray[np.bool_], areas_B: Float, limbs: Limbs) -> Move:
    """The move that takes the bones of chains ``moved_BC`` from old to new keypoints."""
    bones = moved_BC[:, limbs.chain_of]
    none = np.zeros((len(old_BK3), 0))
    return Move(source=limbs.segments(old_BK3[..., :2]), target=limbs.segments(new_BK3[..., :2]),
                radii=radii_of(areas_B, limbs), cut=bones, drawn=bones, holes=none.reshape(len(old_BK3), 0, 2, 2),
                hole_radii=none)


def covered(new_K3: Float, moved_C: NDArray[np.bool_], area: float, limbs: Limbs) -> Float:
    """Keypoints (K, 3) with v = 1 where a limb that was moved now lies over a joint that was seen.

    Bones are put down in their order, so those that end in a joint are covered, and it with them, by later ones only:
    a forearm may hide its own shoulder.
    """
    out = new_K3.astype(np.float64, copy=True)
    segments, radii = limbs.segments(new_K3[None, :, :2])[0], COVERS * radii_of(np.array([area]), limbs)[0]
    put_down = np.flatnonzero(moved_C[limbs.chain_of])
    last_at = np.full(len(out), -1)  # the last bone put down that begins or ends in each joint
    for bone in put_down:
        last_at[limbs.bones[bone]] = bone
    for bone in put_down:
        for joint in np.flatnonzero((out[:, 2] == VISIBLE) & (last_at < bone)):
            if _distance(out[joint, :2], segments[bone]) < radii[bone]:
                out[joint, 2] = HIDDEN
    return out


def _distance(point: Float, segment: Float) -> float:
    along = segment[1] - segment[0]
    share = np.clip((point - segment[0]) @ along / max(float(along @ along), 1e-6), 0, 1)
    return float(np.linalg.norm(point - segment[0] - share * along))
