"""The pose task: crops in, heatmaps out, judged by the predictor that users get.

The way of a step's B samples, each named (epoch, position):
    PoseData.read     in worker processes, where there are any: canvases (B, H, W, 3) uint8 of the crop store,
                      keypoints (B, K, 3) in canvas pixels, random numbers (B, UNIFORMS)
    PoseTask.prepare  on the device, by one affine map each: images (B, 3, h, w) float 0..255, keypoints in input pixels
    PoseTask.loss     the network's [stage][level] (B, K, h / s, w / s), s = 4, 8, ..., against targets drawn as large

B samples, K keypoints, S stages, P people asked for by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.errors import ConfigError
from stagepose.evaluation.kept import UNJUDGED, Judged
from stagepose.geometry import BOX_PADDING, Float, Size
from stagepose.training import adversarial, decoding, distributed, targets
from stagepose.training.augment import NO_AUGMENTATION, UNIFORMS, AugmentConfig, Canvases, augment, refuse_mirroring
from stagepose.training.inference import PoseInference
from stagepose.training.losses import absent_losses, stage_losses
from stagepose.training.networks.multistage import MultiStage
from stagepose.training.networks.zoo import trunk_of
from stagepose.training.people import Chosen, PeopleSets, PoseData, PoseRead, on_device
from stagepose.training.poseconfig import PoseConfig, check_fits
from stagepose.training.randomness import SampleKey
from stagepose.training.teacher import Teacher, taught
from stagepose.training.tensors import numbers_on


class PoseJudge(Protocol):
    """How a pose network is judged while it learns."""

    @property
    def sha256(self) -> str | None:
        """Of the labels it judges by."""

    def __call__(self, model: nn.Module) -> Judged:
        """The averaged model -> numbers; ``ap`` chooses the best."""

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """A strip of people with what the model finds."""


@dataclass(frozen=True)
class PoseBatch:
    """``images`` (B, 3, h, w) float 0..255; ``keypoints`` (B, K, 3) in input pixels.

    ``named`` (B, K) are the joints that each sample's data set labels at all; ``negative`` (B,) show no person;
    ``areas`` (B,) in input pixels^2;
    ``importance`` (B,) is what each sample counts, None where all count alike.
    ``for_teacher`` are the same views at its size, with nothing in the way; None where nobody teaches.
    """

    images: Tensor
    keypoints: NDArray[np.float64]
    named: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    areas: NDArray[np.float64]
    importance: NDArray[np.float32] | None = None
    for_teacher: Tensor | None = None


@dataclass(frozen=True)
class Looks:
    """One batch in several augmentations, of which each sample will be learnt from in one."""

    each: tuple[PoseBatch, ...]

    def picked(self, which_B: Tensor) -> PoseBatch:
        """Every sample in the look of its number."""
        which, place = which_B.cpu().numpy(), np.arange(len(which_B))

        def pictures(of_looks: list[Tensor]) -> Tensor:
            chosen = torch.stack(of_looks)[which_B, torch.arange(len(which_B), device=which_B.device)]
            return chosen.contiguous(memory_format=torch.channels_last)

        larger = [look.for_teacher for look in self.each if look.for_teacher is not None]
        first = self.each[0]
        return PoseBatch(pictures([look.images for look in self.each]),
                         np.stack([look.keypoints for look in self.each])[which, place], first.named,
                         first.negative, np.stack([look.areas for look in self.each])[which, place], first.importance,
                         pictures(larger) if larger else None)


class PoseTask:
    """See :class:`stagepose.training.loop.Task`. ``chosen`` are the people of the sets to learn from, all without it.

    ``teacher`` is a trained network to learn from as well; ``init`` the sha256 of the weights that ``network`` has
    begun with, if any.
    """

    def __init__(self, network: nn.Module, config: PoseConfig, sets: PeopleSets, *, seed: int = 0, device: str = "cpu",
                 validation: PoseJudge | None = None, chosen: Chosen | None = None, teacher: Teacher | None = None,
                 init: str | None = None) -> None:
        self.sets, self.skeleton = sets, sets.skeleton
        refuse_mirroring(config.augment, self.skeleton)
        self.network, self.model = network, PoseInference(network, config.codec, config.loss)
        self.config, self.validation, self.device = config, validation, device
        self._on_gpu = torch.device(device).type == "cuda"
        self.reader = PoseData(sets.stores, sets.weights, config.augment, seed=seed, pixels=not sets.resident,
                               in_place=not self._on_gpu, chosen=chosen, looks=config.hardest_of)
        self.samples_per_epoch = len(self.reader.order(0))
        (width, height), (across, down) = sets.stores[0].spec.input_size, config.size
        if width * down != height * across:
            raise ConfigError(f"the crops are cut for an input of {width} x {height}, which is not of the shape of the "
                              f"network's {across} x {down}; pack them for it: CropSpec(input_size=({across}, {down}))")
        # input pixels per canvas pixel: a store's middle shows what BOX_PADDING does
        self._scale = down / height * BOX_PADDING / config.box_padding
        self._reached: Tensor | None = None  # (S,) which stages some sample of this step has taught
        self._teacher, self._init = teacher, init
        check_fits(config, network)
        if teacher is not None and not self.model.softmax:
            raise ConfigError(f"a teacher shows how likely a joint is at each pixel, which loss {config.loss!r} does "
                              "not learn; use 'kl'")
        if config.frozen:
            trunk_of(network).freeze(config.frozen)

    @property
    def seed(self) -> int:
        """By which samples are ordered and augmented."""
        return self.reader.seed

    @property
    def resident(self) -> bool:
        """Whether all pixels are on the device already."""
        return self.sets.resident

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON."""
        data = self.reader
        picked = {"chosen": {"people": data.counts, "sha256": data.chosen.digest}} if data.chosen.some else {}
        teacher = self._teacher.sha256 if self._teacher is not None else None
        judge = {"val": self.validation.sha256} if self.validation is not None else {}
        return {"kind": "pose", "pose": self.config.to_json(), "skeleton": self.skeleton.to_json(), "init": self._init,
                "teacher": teacher, "sampling": data.weights, **picked, **judge,
                "data": [{"people": len(s), "fingerprint": s.fingerprint, **({"generated": True} if made else {})}
                         for s, made in zip(data.stores, self.sets.generated, strict=True)]}

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """Store and annotation id of samples."""
        return self.reader.names(samples)

    def prepare(self, read: PoseRead) -> PoseBatch | Looks:
        """Augment on the device: one resampling per sample and look, straight from its canvas."""
        crops = self._canvases(read.rows, read.crops)
        occluders = self._canvases(read.occluder_rows, read.occluders) if len(read.occluder_rows) else None
        ends = np.cumsum(read.occluded).tolist()
        spans = [slice(end - count, end) for end, count in zip(ends, read.occluded, strict=True)]
        looks = tuple(self._look(read, crops, draws, occluders[span] if occluders is not None and count else None)
                      for draws, span, count in zip(read.draws, spans, read.occluded, strict=True))
        return looks[0] if len(looks) == 1 else Looks(looks)

    def _look(self, read: PoseRead, crops: Canvases, draws: NDArray[np.float64],
              occluders: Canvases | None) -> PoseBatch:
        """The batch as one row of random numbers a sample has it."""
        def seen(size: Size, config: AugmentConfig, occluders: Canvases | None) -> tuple[Tensor, Float, Float]:
            larger = (size[1] - 1) / (self.config.size[1] - 1)  # corner pixels on corner pixels, as heatmaps lie
            return augment(crops, read.keypoints, draws, base_scale=self._scale * larger, size=size,
                           skeleton=self.skeleton, config=config, occluders=occluders)

        images, moved, affines = seen(self.config.size, self.config.augment, occluders)
        areas = read.areas * np.abs(np.linalg.det(affines[:, :, :2]))
        shown = None if self._teacher is None else seen(self._teacher.size, self.config.augment.only_moved(), None)[0]
        return PoseBatch(images, moved, read.named, read.negative, areas, read.importance, shown)

    def _canvases(self, rows: Tensor, crops: Canvases | None) -> Canvases:
        return on_device(rows, crops, self.device, self.sets.canvases)

    def batch(self, samples: Sequence[SampleKey]) -> PoseBatch | Looks:
        """Samples read and augmented here and now."""
        return self.prepare(self.reader.read(samples))

    def plain(self, rows: NDArray[np.int64]) -> Tensor:
        """People as the predictor would cut them out, without augmentation: (P, 3, h, w) float 0..255."""
        canvases = self._canvases(torch.from_numpy(rows), self.reader.canvases(rows))
        images, _, _ = augment(canvases, self.reader.keypoints[rows], np.zeros((len(rows), UNIFORMS)),
                               base_scale=self._scale, size=self.config.size, skeleton=self.skeleton,
                               config=NO_AUGMENTATION)
        return images

    def plain_points(self, points_PK2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of :meth:`plain`'s pictures -> points of the canvases."""
        canvas = np.array(self.reader.stores[0].spec.canvas)
        return (points_PK2 - (np.array(self.config.size) - 1) / 2) / self._scale + (canvas - 1) / 2

    def loss(self, model: nn.Module, batch: PoseBatch | Looks) -> dict[str, Tensor]:
        """The heatmap loss over all levels of each stage; v = 1 (hidden) and v = 2 joints count alike.

        Of several looks, the hardest of each sample for the model as it is now: chosen here, not where batches are
        prepared, which is a step ahead. Notes which stages some sample has reached, where there are gates: :meth:`idle`
        tells it after the step.
        """
        assert isinstance(model, PoseInference)
        if isinstance(batch, Looks):
            batch = self._hardest(model, batch)
        outputs = model.logits(batch.images)
        stages = len(outputs)
        sample_weights, stage_weights = self._sample_weights(model, outputs, batch), self._stage_weights(stages)
        levels, mask = self._targets(batch, stages, self._lesson(batch))
        losses = self._stage_losses(outputs, levels, mask, sample_weights)
        names = [f"stage{number}" for number in range(1, stages + 1)] if stages > 1 else ["heatmaps"]
        terms = {name: w * loss for name, w, loss in zip(names, stage_weights, losses, strict=True)
                 if w or loss.requires_grad}  # a term of weight 0 keeps every parameter in the graph, as ranks need it
        if self.config.absent:
            named = numbers_on(self.device, batch.named.astype(np.float32))
            absent = absent_losses(outputs, levels, named, mask, kind=self.config.loss,
                                   sample_weights=sample_weights)
            weighted = [w * loss for w, loss in zip(stage_weights, absent, strict=True)]
            terms["absent"] = self.config.absent * torch.stack(weighted).sum()
        return terms

    def _stage_weights(self, stages: int) -> tuple[float, ...]:
        return self.config.stage_weights or (1.0,) * stages

    def _lesson(self, batch: PoseBatch) -> Tensor | None:
        """What the teacher sees in the batch: (B, K, h, w); nothing where there is no person, whatever it sees."""
        if self._teacher is None or batch.for_teacher is None:
            return None
        shown = self._teacher.heatmaps(batch.for_teacher, self.config.codec.heatmap_size)
        return shown * numbers_on(self.device, (~batch.negative).astype(np.float32))[:, None, None, None]

    def _targets(self, batch: PoseBatch, stages: int,
                 lesson: Tensor | None = None) -> tuple[list[list[Tensor]], Tensor]:
        """(targets ``[stage][level]``, each (B, K, h, w), and which joints have one: (B, K))."""
        config, labelled = self.config, batch.keypoints[..., 2] > 0
        codecs = config.codecs(stages)
        drawn = {codec: targets.encode(codec, batch.keypoints[..., :2], labelled, self.device)
                 for codec in {codec for levels in codecs for codec in levels}}  # stages that share one draw it once
        mask = numbers_on(self.device, labelled.astype(np.float32))
        if lesson is not None:  # coarser levels keep their targets: what has none costs nothing there
            for codec in {levels[0] for levels in codecs}:
                drawn[codec], known = taught(drawn[codec], lesson, config.teacher_share)
            mask = known.float()
        return [[drawn[codec] for codec in levels] for levels in codecs], mask

    def _stage_losses(self, outputs: list[list[Tensor]], levels: list[list[Tensor]], mask: Tensor,
                      sample_weights: Tensor | None = None, *, by_sample: bool = False) -> list[Tensor]:
        config = self.config
        return stage_losses(outputs, levels, mask, kind=config.loss, level_weights=config.level_weights,
                            sample_weights=sample_weights, ohkm=config.ohkm or 0, upsample=config.upsample,
                            by_sample=by_sample)

    def _hardest(self, model: PoseInference, looks: Looks) -> PoseBatch:
        """Every sample in the look of greatest loss, as the model that users would get sees it."""
        losses = []
        with adversarial.looking_on(model):
            for look in looks.each:
                outputs = model.logits(look.images)
                levels, mask = self._targets(look, len(outputs))
                weighted = zip(self._stage_weights(len(outputs)),
                               self._stage_losses(outputs, levels, mask, by_sample=True), strict=True)
                losses.append(torch.stack([w * loss for w, loss in weighted]).sum(0))
        return looks.picked(adversarial.hardest(torch.stack(losses)))

    def _sample_weights(self, model: PoseInference, outputs: list[list[Tensor]], batch: PoseBatch) -> Tensor | None:
        """(B, S) what each sample counts in each stage, None where all count alike; notes which stages count any."""
        if not self.config.gates and batch.importance is None:
            return None
        counts_BS = torch.ones(len(batch.images), len(outputs), device=self.device)
        for number, limit in enumerate(self.config.gates, 1):
            points, _ = decoding.decode(self.config.codec, model.heatmaps(outputs[number - 1][0].detach()),
                                        self.skeleton.sigmas)
            found = decoding.oks(points, batch.keypoints, batch.areas, self.skeleton.sigmas)
            counts_BS[:, number] = (found < limit).float()
        if self.config.gates:
            reached = counts_BS.amax(0)
            self._reached = reached if self._reached is None else torch.maximum(self._reached, reached)
        if batch.importance is not None:
            counts_BS = counts_BS * numbers_on(self.device, batch.importance)[:, None]
        return counts_BS

    def idle(self) -> list[nn.Module]:
        """The stages that no sample of the step just computed has taught, on any rank: their gates were all shut."""
        if self._reached is None:
            return []
        assert isinstance(self.network, MultiStage)
        reached, self._reached = distributed.largest(self._reached).tolist(), None
        return [part for number, any_ in enumerate(reached) if not any_ for part in self.network.parts(number)]

    def evaluate(self, model: nn.Module) -> Judged:
        """AP and its like; nothing without a validation set."""
        return self.validation(model) if self.validation is not None else UNJUDGED

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """A few validation people with what the model finds; None without a validation set."""
        return self.validation.overlays(model) if self.validation is not None else None
