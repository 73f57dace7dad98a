"""Which parts of a body can be moved: chains of bones from the trunk to a tip.

N bones, C chains, B people, K keypoints.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import SkeletonError
from stagepose.geometry import Float
from stagepose.skeleton import VISIBLE, Skeleton

RADIUS = 0.075  # of a limb, as a share of the square root of the person's area: half an arm's to half a thigh's width
TIP = 0.3  # so much of the last bone lies beyond its last joint: hands, feet


@dataclass(frozen=True, eq=False)
class Limbs:
    """The chains of a skeleton and their bones, those of a chain in a row and the one at the trunk first."""

    skeleton: Skeleton
    chains: tuple[tuple[int, ...], ...]  # joints, from where the chain hangs on to its tip

    @cached_property
    def roots(self) -> NDArray[np.int64]:
        """(C,) the joint that each chain hangs on."""
        return np.array([chain[0] for chain in self.chains])

    @cached_property
    def bones(self) -> NDArray[np.int64]:
        """(N, 2) the joints where each bone begins and ends."""
        return np.array([pair for chain in self.chains for pair in pairwise(chain)])

    @cached_property
    def chain_of(self) -> NDArray[np.int64]:
        """(N,) each bone's chain."""
        return np.repeat(np.arange(len(self.chains)), [len(chain) - 1 for chain in self.chains])

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """(N,) whether it is its chain's first bone."""
        return np.diff(self.chain_of, prepend=-1) > 0

    @cached_property
    def lasts(self) -> NDArray[np.bool_]:
        """(N,) whether it is its chain's last bone."""
        return np.diff(self.chain_of, append=len(self.chains)) > 0

    def whole(self, keypoints_BK3: Float) -> NDArray[np.bool_]:
        """(B, C) chains of which every joint is seen: no other can be cut out of a picture."""
        seen = keypoints_BK3[..., 2] == VISIBLE
        return np.stack([seen[:, list(chain)].all(1) for chain in self.chains], axis=1)

    def segments(self, points_BK2: Float) -> Float:
        """(B, N, 2, 2) the ends of each bone; a last one reaches beyond its joint."""
        ends = points_BK2[:, self.bones].astype(np.float64)
        reach = np.where(self.lasts, TIP, 0)[:, None] * (ends[:, :, 1] - ends[:, :, 0])
        ends[:, :, 1] += reach
        return np.asarray(ends)


def limbs_of(skeleton: Skeleton) -> Limbs:
    """Chains from every joint with one neighbour inwards to the first with more than two: arms and legs of a person.

    :class:`SkeletonError` for a skeleton without any.
    """
    if not skeleton.limbs:
        raise SkeletonError(f"skeleton {skeleton.name!r}: has no limbs, so nothing of a person can be moved; give it "
                            "limbs, pairs of the keypoints that a bone joins")
    neighbours: dict[int, list[int]] = defaultdict(list)
    for a, b in skeleton.limb_index:
        neighbours[a].append(b)
        neighbours[b].append(a)
    chains: list[tuple[int, ...]] = []
    for tip in sorted(joint for joint, others in neighbours.items() if len(others) == 1):
        if not any(tip == chain[0] for chain in chains):  # of a plain row of bones, one end is enough
            chains.append(_inwards(tip, neighbours)[::-1])
    if not chains:
        raise SkeletonError(f"skeleton {skeleton.name!r}: its limbs {skeleton.limbs} form closed rings only; none ends "
                            "in a joint of its own that could be moved")
    return Limbs(skeleton, tuple(chains))


def _inwards(tip: int, neighbours: dict[int, list[int]]) -> tuple[int, ...]:
    path = [tip, neighbours[tip][0]]
    while len(neighbours[path[-1]]) == 2:
        path.append(next(joint for joint in neighbours[path[-1]] if joint != path[-2]))
    return tuple(path)
