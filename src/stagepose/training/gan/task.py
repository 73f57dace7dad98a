"""The repair task for the usual loop (:mod:`stagepose.training.loop`). B people, K keypoints, H W picture size.

A GAN's two networks usually take turns, with an optimizer each. Here both take their step at once, from one backward
pass over the sum of their losses: the critic's sees a repaired picture that is cut off from the generator, the
generator's goes through a critic whose parameters are set aside (:func:`~stagepose.training.gan.losses.frozen`), so
each network gets exactly its own gradient ("simultaneous gradient descent", Mescheder et al. 2018). AdamW keeps its
moments for each parameter alone, so one optimizer with a learning rate for each network is two. The loop therefore
stays as it is, and what it promises holds for both networks: a step whose losses or gradients are not finite leaves
weights, buffers (the critic's singular vectors among them) and moments of both as they were; checkpoints hold both; a
resume is exact; ranks average both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.errors import ConfigError, DatasetError
from stagepose.evaluation.kept import Judged
from stagepose.geometry import Float, Size
from stagepose.training.augment import NO_AUGMENTATION, UNIFORMS, AugmentConfig, Canvases, augment
from stagepose.training.crops import CropStore
from stagepose.training.gan import damage
from stagepose.training.gan.carry import carry_to
from stagepose.training.gan.limbs import Limbs, limbs_of
from stagepose.training.gan.losses import (
    HALF,
    Features,
    PoseFinder,
    critic_loss,
    fooling_loss,
    frozen,
    pixel_loss,
    seen_patches,
)
from stagepose.training.gan.moving import Moved, move_limbs, pose_maps
from stagepose.training.gan.poses import NewPose, Poses, learn_poses
from stagepose.training.networks.repair import Repairer, RepairNet
from stagepose.training.people import Chosen, PeopleSets, PoseData, PoseRead, on_device, spread
from stagepose.training.randomness import SampleKey, generator, uniforms

HELD_OUT = 48  # people at most who are never learnt from, and a twentieth of all at most
SHOWN = 8  # of them in a sample grid
FIXED = 2**30  # the epoch of samples that are the same at every validation
PICTURE_CHANNELS = 5  # the damaged picture, where it was changed, where it was filled
CUTS = 2**20  # added to the seed: numbers of the damage are others than those of the augmentation


@dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """Everything about the two networks but their weights and schedule; ``widths`` as in ``networks/repair.py``."""

    size: Size = (96, 128)
    widths: tuple[int, ...] = (48, 96, 192, 384, 512)
    depth: int = 1
    block: int = 1
    critic_width: int = 64
    augment: AugmentConfig = field(default_factory=lambda: replace(
        NO_AUGMENTATION, rotation=30.0, rotation_chance=0.5, scale=0.15, shift=0.04, flip_chance=0.5))
    pixels: float = 10.0  # what the losses count
    features: float = 2.0
    adversary: float = 0.05
    pose: float = 0.05

    def __post_init__(self) -> None:
        stride = self.block * 2 ** (len(self.widths) - 1)
        if self.size[0] % stride or self.size[1] % stride or min(self.size) < 32:
            raise ConfigError(f"size is {self.size[0]}x{self.size[1]}: both sides must be at least 32 and divisible by "
                              f"{stride}, as {len(self.widths)} widths halve them")
        for name in ("pixels", "features", "adversary", "pose"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected what a loss counts, 0 or more")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RepairConfig:
        """From what a run's config.json says."""
        return cls(**_tuples(data) | {"augment": AugmentConfig(**_tuples(data["augment"]))})


@dataclass(frozen=True, kw_only=True)
class RepairRead(PoseRead):
    """What one batch needs: people as the pose task reads them, and (B, n) numbers that decide the damage."""

    cuts: NDArray[np.float64]


@dataclass(frozen=True)
class RepairBatch:
    """Photos (B, 3, H, W) in [-1, 1], what became of them, and the pose that both show: maps and (B, K, 3)."""

    photos: Tensor
    moved: Moved
    maps: Tensor
    keypoints: Float
    areas: Float


class RepairData(PoseData):
    """The training people with the numbers of their damage."""

    def __init__(self, stores: Sequence[CropStore], weights: Sequence[float], config: RepairConfig, limbs: Limbs, *,
                 seed: int, pixels: bool, in_place: bool, chosen: Chosen) -> None:
        super().__init__(stores, weights, config.augment, seed=seed, pixels=pixels, in_place=in_place, chosen=chosen)
        self.numbers = damage.numbers(limbs)

    def read(self, samples: Sequence[SampleKey]) -> RepairRead:
        """A sample is the same in any batch, in any process, on any machine."""
        read = super().read(samples)
        people = {f.name: getattr(read, f.name) for f in fields(PoseRead)}
        return RepairRead(**people, cuts=uniforms(self.seed + CUTS, samples, self.numbers))


class RepairTask:
    """See :class:`stagepose.training.loop.Task`. ``finder`` is the frozen pose network, None without one."""

    def __init__(self, model: Repairer, config: RepairConfig, sets: PeopleSets, *, seed: int = 0, device: str = "cpu",
                 finder: PoseFinder | None = None) -> None:
        self.model, self.network, self.config, self.device = model, model.generator, config, device
        self.sets, self.skeleton = sets, sets.skeleton
        self.limbs = limbs_of(self.skeleton)
        everybody = PoseData(sets.stores, sets.weights, config.augment, pixels=False)
        whole = np.any(self.limbs.whole(everybody.keypoints), axis=1)
        self.held_out = held_out(np.flatnonzero(whole))
        learnt = whole.copy()
        learnt[self.held_out] = False
        if not learnt.any():
            raise DatasetError(f"no poses to learn from: of {len(whole)} people none shows a whole limb, beside the "
                               f"{len(self.held_out)} kept for the sample pictures; give a larger set")
        self.reader = RepairData(sets.stores, sets.weights, config, self.limbs, seed=seed, pixels=not sets.resident,
                                 in_place=torch.device(device).type != "cuda", chosen=Chosen(kept=learnt))
        self.samples_per_epoch = len(self.reader.order(0))
        self._scale = config.size[1] / sets.stores[0].spec.input_size[1]
        self._finder = finder
        self._features = Features().to(device) if config.features else None

    @property
    def seed(self) -> int:
        """By which samples are ordered and damaged."""
        return self.reader.seed

    @property
    def resident(self) -> bool:
        """Whether all pixels are on the device already."""
        return self.sets.resident

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON."""
        data, finder = self.reader, self._finder
        return {"kind": "repair", "repair": asdict(self.config), "skeleton": self.skeleton.to_json(),
                "sampling": data.weights, "held_out": hashlib.sha256(self.held_out.tobytes()).hexdigest(),
                "teacher": None if finder is None else {"sha256": finder.sha256},
                "data": [{"people": len(s), "fingerprint": s.fingerprint} for s in data.stores]}

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """Store and annotation id of samples."""
        return self.reader.names(samples)

    def idle(self) -> list[nn.Module]:
        """Nothing: every step teaches both networks."""
        return []

    def prepare(self, read: RepairRead) -> RepairBatch:
        """Augmented and damaged on the device."""
        return self._damaged(self._canvases(read.rows, read.crops), read.keypoints, read.areas, read.draws[0],
                             read.cuts, self.config.augment)

    def _damaged(self, canvases: Canvases, keypoints: Float, areas: Float, draws: Float, cuts: Float,
                 config: AugmentConfig) -> RepairBatch:
        size = self.config.size
        images, points, affines = augment(canvases, keypoints, draws, base_scale=self._scale, size=size,
                                          skeleton=self.skeleton, config=config)
        photos = (images.contiguous() - HALF) / HALF
        grown = areas * np.abs(np.linalg.det(affines[:, :, :2]))
        moved = move_limbs(photos, damage.damage(points, grown, cuts, self.limbs))
        return RepairBatch(photos, moved, pose_maps(points, self.skeleton, size, self.device), points, grown)

    def loss(self, model: nn.Module, batch: RepairBatch) -> dict[str, Tensor]:
        """Of the generator: pixels, features, adversary, pose; and the critic's own."""
        assert isinstance(model, Repairer)
        config, changed = self.config, batch.moved.changed
        repaired = repair(model.generator, batch.moved, batch.maps)
        losses = {"pixels": config.pixels * pixel_loss(repaired, batch.photos, changed)}
        if self._features is not None:
            losses["features"] = config.features * self._features(repaired, batch.photos)
        if config.adversary:
            with frozen(model.critic):
                says = model.critic(torch.cat([repaired, batch.maps], 1))
            seen = seen_patches(changed, says)
            losses["adversary"] = config.adversary * fooling_loss(says, seen)
            both = torch.cat([torch.cat([batch.photos, batch.maps], 1), torch.cat([repaired.detach(), batch.maps], 1)])
            of_photos, of_repaired = model.critic(both).chunk(2)
            losses["critic"] = critic_loss(of_photos, of_repaired, seen)
        if self._finder is not None and config.pose:
            losses["pose"] = config.pose * self._finder.loss(repaired, batch.keypoints)
        return losses

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Judged:
        """Of people never learnt from: mean difference to the photo before and after repair; OKS of new poses.

        Differences in grey levels where a picture was changed; what the frozen pose network, where there is one, finds
        of new poses that were only carried, and of those that were repaired.
        """
        assert isinstance(model, Repairer)
        batch, poses = self._fixed, self._posed
        repaired = repair(model.generator, batch.moved, batch.maps)
        found = {"damaged": float(HALF * pixel_loss(batch.moved.pictures, batch.photos, batch.moved.changed)),
                 "repaired": float(HALF * pixel_loss(repaired, batch.photos, batch.moved.changed))}
        if self._finder is not None and poses is not None:
            made = repair(model.generator, poses.moved, poses.maps)
            for name, pictures in (("oks_carried", poses.moved.pictures), ("oks_repaired", made)):
                found[name] = float(self._finder.oks(pictures, poses.keypoints, poses.areas).mean())
        return Judged(found)

    @torch.no_grad()
    def overlays(self, model: nn.Module) -> NDArray[np.uint8]:
        """Rows of people never learnt from: photo, damaged, repaired; limbs carried to a new pose, repaired."""
        assert isinstance(model, Repairer)
        shown: list[Tensor] = [self._fixed.photos, self._fixed.moved.pictures,
                               repair(model.generator, self._fixed.moved, self._fixed.maps)]
        if self._posed is not None:
            shown += [self._posed.moved.pictures, repair(model.generator, self._posed.moved, self._posed.maps)]
        rows = [torch.cat(list(pictures[:SHOWN]), 2) for pictures in shown]
        return to_pixels(torch.cat(rows, 1)[None]).squeeze(0)

    @cached_property
    def poses(self) -> Poses:
        """What poses the training people take, in canvas pixels."""
        learnt = self.reader.chosen.kept
        return learn_poses(self.reader.keypoints[learnt], self.reader.areas[learnt], self.limbs)

    @cached_property
    def _fixed(self) -> RepairBatch:
        """The people kept aside, damaged in the same way every time."""
        rows, keys = self.held_out, [(FIXED, row) for row in self.held_out.tolist()]
        cuts = uniforms(self.reader.seed + CUTS, keys, self.reader.numbers)
        canvases = self._canvases(torch.from_numpy(rows), self.reader.canvases(rows))
        return self._damaged(canvases, self.reader.keypoints[rows], self.reader.areas[rows],
                             np.zeros((len(rows), UNIFORMS)), cuts, NO_AUGMENTATION)

    @cached_property
    def _posed(self) -> RepairBatch | None:
        """The same people, their limbs carried to new poses; None where too few people teach what is possible."""
        batch = self._fixed
        try:
            drawn = [self.poses.draw(points, area, self.config.size, generator(self.reader.seed, FIXED, row))
                     for points, area, row in zip(batch.keypoints, batch.areas, self.held_out.tolist(), strict=True)]
        except DatasetError:
            return None
        rows = [row for row, pose in enumerate(drawn) if isinstance(pose, NewPose)]
        if not rows:
            return None
        new = [pose for pose in drawn if isinstance(pose, NewPose)]
        points = np.stack([pose.keypoints for pose in new])
        move = carry_to(batch.keypoints[rows], points, np.stack([pose.moved for pose in new]), batch.areas[rows],
                        self.limbs)
        photos = batch.photos[rows]
        maps = pose_maps(points, self.skeleton, self.config.size, self.device)
        return RepairBatch(photos, move_limbs(photos, move), maps, points, batch.areas[rows])

    def _canvases(self, rows: Tensor, crops: Canvases | None) -> Canvases:
        return on_device(rows, crops, self.device, self.sets.canvases)


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples, which JSON does not know."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def repair(network: RepairNet | nn.Module, moved: Moved, maps: Tensor) -> Tensor:
    """Pictures repaired where they were changed, elsewhere as they were; float32."""
    layers = torch.cat([moved.pictures, moved.changed, moved.filled, maps], 1)
    painted = network(layers.contiguous(memory_format=torch.channels_last))
    return moved.pictures + moved.changed * painted.float()  # type: ignore[no-any-return]


def held_out(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """People for the sample pictures, evenly spread: a twentieth, at least one, at most HELD_OUT."""
    return spread(rows, min(HELD_OUT, max(1, len(rows) // 20)))


def to_pixels(pictures: Tensor) -> NDArray[np.uint8]:
    """Float pictures (B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8."""
    levels = (pictures.detach().float() * HALF + HALF).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())
