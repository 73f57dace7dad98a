"""Limbs cut out of pictures and put down elsewhere, all of a batch at once, on any device.

B pictures, N bones, M further holes, H W picture size in pixels. Pictures are float in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from stagepose.geometry import Float, Size
from stagepose.skeleton import VISIBLE, Skeleton
from stagepose.training.tensors import numbers_on

CUT = 1.4  # times as wide as what is put down is the strip that is cut out and filled: no rim of the limb stays
REPAIRED = 1.7  # times as wide is what may be repaired
JOINT_SIGMA = 0.025  # of a joint's spot in the pose maps, as a share of the picture's height
UNSEEN = 0.5  # how bright a joint that is labelled but not seen is there


@dataclass(frozen=True, kw_only=True)
class Move:
    """What happens to each bone of each picture. Capsules are segments with a radius, in pixels."""

    source: Float  # (B, N, 2, 2) where bones begin and end
    target: Float  # (B, N, 2, 2) where they go
    radii: Float  # (B, N) at the source; at the target they grow and shrink with the bone
    cut: NDArray[np.bool_]  # (B, N) who is taken out
    drawn: NDArray[np.bool_]  # (B, N) who is put down again
    holes: Float  # (B, M, 2, 2) further capsules that are filled
    hole_radii: Float  # (B, M) 0 for none
    cores: Float | None = None  # (B, N) share of a radius beyond which a limb brings something else along


@dataclass(frozen=True)
class Moved:
    """Pictures after a :class:`Move`: (B, 3, H, W), and where they may be repaired and were filled: (B, 1, H, W)."""

    pictures: Tensor
    changed: Tensor
    filled: Tensor


def move_limbs(pictures: Tensor, move: Move) -> Moved:
    """Cut out, fill what is behind, put down: bones in their order, so later chains lie over earlier ones."""
    size, device = (pictures.shape[3], pictures.shape[2]), pictures.device
    source, target, radii, holes, hole_radii = (numbers_on(device, part) for part in (
        move.source, move.target, move.radii, move.holes, move.hole_radii))
    there = radii * _lengths(target) / _lengths(source)  # of what is put down
    dug = move.hole_radii > 0  # asked here, as who is cut and drawn is: a device would have to be waited for
    removed = torch.maximum(_covered(source, radii * CUT, move.cut, size), _covered(holes, hole_radii, dug, size))
    around = torch.stack([_covered(source, radii * REPAIRED, move.cut, size),
                          _covered(target, there * REPAIRED, move.drawn, size),
                          _covered(holes, hole_radii * REPAIRED / CUT, dug, size)])
    out, filled = fill(pictures, removed), removed
    cores = None if move.cores is None else radii * numbers_on(device, move.cores)
    for bone in range(source.shape[1]):
        rows, own = numbers_on(device, np.flatnonzero(move.drawn[:, bone])), slice(bone, bone + 1)
        if not len(rows):
            continue
        limb = pictures[rows]
        if cores is not None:
            limb = torch.lerp(_elsewhere(limb), limb, capsules(source[rows, own], cores[rows, own], size))
        mask = capsules(target[rows, own], there[rows, own], size)
        limb = carried(limb, source[rows, bone], target[rows, bone])
        out = out.index_copy(0, rows, torch.lerp(out[rows], limb, mask))
        filled = filled.index_copy(0, rows, filled[rows] * (1 - mask))
    return Moved(out, around.amax(0), filled)


def capsules(segments_BN22: Tensor, radii_BN: Tensor, size: Size) -> Tensor:
    """(B, N, H, W) 1 within a radius of each segment, 0 outside, one pixel of slope between."""
    x, y = (torch.arange(side, device=segments_BN22.device, dtype=torch.float32) for side in size)
    start = segments_BN22[:, :, 0, :, None, None]
    along = segments_BN22[:, :, 1, :, None, None] - start
    x, y = x - start[:, :, 0], y[:, None] - start[:, :, 1]
    across, down = along[:, :, 0], along[:, :, 1]
    share = ((x * across + y * down) / (across.square() + down.square()).clamp_min(1e-6)).clamp_(0, 1)
    distance = (x - share * across).square_().add_((y - share * down).square_()).sqrt_()
    return (radii_BN[..., None, None] - distance).add_(0.5).clamp_(0, 1)


def _covered(segments: Tensor, radii: Tensor, wanted: NDArray[np.bool_], size: Size) -> Tensor:
    """(B, 1, H, W) where any of the capsules wanted is."""
    if not wanted.any():
        return segments.new_zeros((len(segments), 1, size[1], size[0]))
    counts = numbers_on(segments.device, wanted)[..., None, None]
    return (capsules(segments, radii, size) * counts).amax(1, keepdim=True)


def fill(pictures: Tensor, holes_B1HW: Tensor) -> Tensor:
    """Pictures whose holes (1) hold a smooth continuation of what is around them.

    Pull and push (Gortler et al. 1996): ever smaller pictures of what is known, and back, each filling the holes of
    the next larger one. Cheap and without detail: the detail is what the network paints.
    """
    known = 1 - holes_B1HW
    if min(pictures.shape[2:]) < 2:
        mean = (pictures * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1e-6)
        return pictures * known + mean * holes_B1HW
    weights = functional.avg_pool2d(known, 2, ceil_mode=True)
    smaller = functional.avg_pool2d(pictures * known, 2, ceil_mode=True) / weights.clamp_min(1e-6)
    behind = fill(smaller, 1 - (4 * weights).clamp(max=1))  # a pixel that is known in part is known
    behind = functional.interpolate(behind, size=pictures.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(behind, pictures, known)


def carried(pictures: Tensor, source_B22: Tensor, target_B22: Tensor) -> Tensor:
    """Pictures moved by the similarity that takes each source segment to its target; the border goes on outside."""
    height, width = pictures.shape[2:]
    origin, along = target_B22[:, 0], target_B22[:, 1] - target_B22[:, 0]
    wanted = source_B22[:, 1] - source_B22[:, 0]
    # the ratio of both as complex numbers turns and scales target offsets into source offsets
    squared = along.square().sum(-1).clamp_min(1e-6)
    a = (wanted * along).sum(-1) / squared
    b = (wanted[:, 1] * along[:, 0] - wanted[:, 0] * along[:, 1]) / squared
    linear = torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2)
    shift = source_B22[:, 0] - (linear @ origin[..., None])[..., 0]
    sides = numbers_on(pictures.device, np.array([width, height], dtype=np.float32))
    # grid_sample's -1 and 1 are the outer edges of the corner pixels; a pixel's centre is (2 p + 1) / side - 1
    middle = (sides - 1) / 2
    theta = torch.cat([linear * sides[None, None] / sides[None, :, None],
                       ((linear @ middle + shift - middle) * 2 / sides)[..., None]], -1)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def pose_maps(keypoints_BK3: Float, skeleton: Skeleton, size: Size, device: torch.device | str) -> Tensor:
    """(B, K + L, H, W) in [0, 1]: a spot for each joint, a line for each of the skeleton's L limbs.

    What is labelled but hidden is dimmer.
    """
    v = keypoints_BK3[..., 2]
    bright = numbers_on(device, np.select([v >= VISIBLE, v > 0], [1.0, UNSEEN], 0.0))
    points = numbers_on(device, keypoints_BK3[..., :2])
    sigma = JOINT_SIGMA * size[1]
    spots = [torch.exp(-((torch.arange(side, device=device) - points[..., axis, None]) / sigma).square() / 2)
             for axis, side in enumerate(size)]
    joints = bright[..., None, None] * spots[1][..., :, None] * spots[0][..., None, :]
    ends = numbers_on(device, np.array(skeleton.limb_index))
    lines = capsules(points[:, ends], points.new_full((len(points), len(ends)), sigma), size)
    return torch.cat([joints, lines * bright[:, ends].amin(-1)[..., None, None]], 1)


def _elsewhere(pictures: Tensor) -> Tensor:
    """What a limb brings along from behind it, in training: the same picture upside down and half a width aside."""
    return pictures.flip(2).roll(pictures.shape[3] // 2, 3)


def _lengths(segments: Tensor) -> Tensor:
    return torch.linalg.vector_norm(segments[..., 1, :] - segments[..., 0, :], dim=-1).clamp_min(1e-3)  # type: ignore[no-any-return]
