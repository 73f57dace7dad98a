"""What ``train`` and ``train-stages`` are told: what is learnt, of which views, how long, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, arg

from stagepose.commands.arguments import (
    UNSAID,
    OptionalCount,
    OptionalCounts,
    OptionalFile,
    OptionalName,
    OptionalNumber,
    OptionalNumbers,
    OptionalSets,
    OptionalSize,
    OptionalSwitch,
    OptionalTexts,
    Sets,
)
from stagepose.commands.training_options import DataOptions, MachineOptions, ScheduleOptions
from stagepose.errors import ConfigError
from stagepose.heatmaps import CODECS, Codec, UdpOks
from stagepose.training.detector.presets import DETECTOR_PRESETS, DetectorRecipe
from stagepose.training.loop import TrainConfig
from stagepose.training.losses import KINDS, HeatmapLoss
from stagepose.training.networks.zoo import StageOptions
from stagepose.training.optim import OPTIMIZERS, SCHEDULES, OptimizerKind, Schedule
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import PoseRecipe
from stagepose.training.settings import changed

CodecName = Literal["udp-dark", "udp-oks", "msra", "megvii"]  # of CODECS
Join = Literal["concat-heatmaps", "residual", "aggregate"]
OF_POSES = ("skeleton", "input_size", "box_padding")  # options that mean nothing for a detector, as all Experiment's


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What the report's experiments, and later ones, change of a pose network's recipe; presets have set it well."""

    imagenet: OptionalSwitch = None
    """Initialise an EfficientNet-Lite trunk with ImageNet weights (True) or from a Gaussian (False), instead of as the
    preset does."""
    init_std: OptionalNumber = None
    """Standard deviation of the Gaussian that initialises convolutions; by default Kaiming's, by fan-out."""
    join: Annotated[list[Join] | None, arg(metavar="{concat-heatmaps,residual,aggregate} ...",
                                           help_behavior_hint=UNSAID)] = None
    """How stages in a row are joined, beyond the report's way: any of concat-heatmaps, residual, aggregate."""
    codec: Annotated[CodecName | None, arg(metavar="{" + ",".join(CODECS) + "}", help_behavior_hint=UNSAID)] = None
    """Heatmap codec, instead of the preset's: udp-dark is the usual unbiased one, udp-oks the same decoded for the best
    expected OKS, msra the older one quantised to pixels, megvii that of the report's successor."""
    loss: Annotated[HeatmapLoss | None, arg(metavar="{" + ",".join(KINDS) + "}", help_behavior_hint=UNSAID)] = None
    """Heatmap loss: kl (KL divergence of a softmax over each heatmap) or mse (mean squared error), instead of the
    preset's."""
    level_weights: OptionalNumbers = None
    """Loss weight of each level, finest first: one number for each level that the network's stages have."""
    upsample: OptionalSwitch = None
    """Upsample coarse levels to the finest's size for their loss, instead of computing it at their own."""
    hardest_of: OptionalCount = None
    """Adversarial augmentation: of so many augmentations of each sample, learn from the one with the greatest loss."""
    absent: OptionalNumber = None
    """Loss weight of joints outside of the picture relative to labelled ones, such as 0.2: their target is a flat
    heatmap, so that scores tell whose legs are in the picture. Joints that a data set never labels are ignored."""
    coarse: OptionalNumbers = None
    """Coarse-to-fine supervision: factor on the target width, one per stage, 1 for the last, such as 1.5 1."""
    ohkm: OptionalCounts = None
    """Online hard keypoint mining: joints kept on the finest level, one number per stage; 0 keeps all."""


DEFAULT_EXPERIMENT = Experiment()


@dataclass(frozen=True, kw_only=True)
class LearningOptions(DataOptions):
    """What is learnt, and of which views."""

    data: Sets
    """COCO annotation files, each FILE.json or FILE.json:WEIGHT (2.5: its people are shown 2.5 times an epoch).
    Pictures lie in images/ beside the file, pictures without people in negatives/ (detectors)."""
    val: OptionalFile = None
    """COCO annotation file to judge by, with images/ beside it."""
    init: OptionalName = None
    """Weights to start from: a run folder, a .safetensors file, a model file or the name of one that ships, such as
    pose-small. Heads are matched by keypoint name."""
    input_size: OptionalSize = None
    """Width and height of a pose network's input, instead of the preset's."""
    box_padding: OptionalNumber = None
    """Crop size relative to the person's box, in training and inference; smaller is closer."""
    frozen: OptionalCount = None
    """Number of trunk blocks to freeze, from the first, of pose networks and detectors, instead of the preset's."""
    augment: OptionalTexts = None
    """Settings of the augmentation instead of the preset's, each NAME=VALUE, such as shift=0.1 occlusion_chance=0;
    docs/train_your_own.md lists them."""
    partly_boxed: bool = False
    """Detectors: use pictures marked with all_person_boxes: false as well, without any background in them."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(ScheduleOptions):
    """How long, and how; None leaves what the preset says."""

    optimizer: Annotated[OptimizerKind | None, arg(metavar="{" + ",".join(OPTIMIZERS) + "}",
                                                   help_behavior_hint=UNSAID)] = None
    """adamw, or muon, whose steps along convolutions are made orthogonal: learns more from the same number of pictures.
    """
    schedule: Annotated[Schedule | None, arg(metavar="{" + ",".join(SCHEDULES) + "}", help_behavior_hint=UNSAID)] = None
    """Learning-rate schedule: cosine decay to 1 % of the peak (the presets'), or linear decay to 0."""
    weight_decay: OptionalNumber = None
    """Decoupled weight decay; 0.05 in pose presets."""

    def scheduled(self, base: TrainConfig) -> TrainConfig:
        """A recipe's schedule, changed."""
        given = {name: value for name in ("optimizer", "schedule", "weight_decay")
                 if (value := getattr(self, name)) is not None}
        return super().scheduled(replace(base, **given))


@dataclass(frozen=True, kw_only=True)
class Options(MachineOptions, OptimizerOptions, LearningOptions):  # help lists them from the last to the first
    """What every training of what finds people is told."""

    experiment: OmitArgPrefixes[Experiment] = DEFAULT_EXPERIMENT

    def changed(self, recipe: PoseRecipe) -> PoseRecipe:
        """The recipe with what the options change."""
        pose, train, experiment = recipe.pose, recipe.train, self.experiment
        if self.partly_boxed:
            raise ConfigError("--partly-boxed means nothing for a pose network; leave it out")
        if self.input_size is not None:
            width, height = self.input_size
            if min(width, height) < 32 or width % 32 or height % 32:
                raise ConfigError(f"--input-size {width} {height}: both sides must be divisible by 32")
            pose = replace(pose, codec=replace(pose.codec, input_size=self.input_size))
        if experiment.codec is not None:
            pose = replace(pose, codec=_codec(experiment.codec, pose, experiment.loss or pose.loss))
        given: dict[str, Any] = {"box_padding": self.box_padding, "frozen": self.frozen}
        given |= {name: getattr(experiment, name) for name in
                  ("imagenet", "init_std", "loss", "upsample", "hardest_of", "absent")}
        for name in ("level_weights", "coarse", "ohkm"):
            values = getattr(experiment, name)
            given[name] = None if values is None else tuple(values)
        if experiment.imagenet is False:  # noise is not worth keeping, nor learning more slowly
            train = replace(train, slower=())
            given["frozen"] = self.frozen or 0
        augment = changed(pose.augment, self.augment or (), "--augment")
        given["augment"] = augment if self.mirror else replace(augment, flip_chance=0.0)
        if experiment.join is not None:
            given["join"] = StageOptions(**{name.replace("-", "_"): True for name in experiment.join})
        pose = replace(pose, **{name: value for name, value in given.items() if value is not None})
        return PoseRecipe(pose=pose, train=self.scheduled(train))


def _codec(name: CodecName, pose: PoseConfig, loss: HeatmapLoss) -> Codec:
    """The codec of that name for a recipe's input; :class:`ConfigError` where its decoding is not for the loss."""
    if name == UdpOks.name and not KINDS[loss].softmax:
        raise ConfigError(f"--codec {name} decodes heatmaps that say how likely a joint is at each pixel, which loss "
                          f"{loss!r} does not learn; use --loss kl, or --codec udp-dark")
    return CODECS[name](input_size=pose.size)


@dataclass(frozen=True, kw_only=True)
class TrainExperiment(Experiment):
    """What the report's experiments, and later ones, change of a pose network's recipe; presets have set it well."""

    gates: OptionalNumbers = None
    """OKS thresholds of a network of several stages that train together, one per later stage: a sample contributes to
    that stage's loss only if the OKS after the stage before is below."""
    teacher: OptionalName = None
    """Knowledge distillation: a trained pose network (a run folder, an .onnx file or a shipped name) whose heatmaps are
    mixed into the targets, and are the target where a joint has no label and it is confident."""
    teacher_share: OptionalNumber = None
    """Weight of the teacher's heatmap in a labelled joint's target, 0.5 by default."""


DEFAULT_TRAIN_EXPERIMENT = TrainExperiment()


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """What a training in one go is told."""

    extra: OptionalSets = None
    """Generated sets to learn from beside --data, each FILE.json or FILE.json:WEIGHT (0.5: half of its people are
    shown in an epoch, others in the next). They are never judged by."""
    negatives: OptionalSets = None
    """Hard negatives: COCO files whose boxes of other categories than people are shown as such without a person, each
    FILE.json or FILE.json:WEIGHT, as 'stagepose mine-negatives' writes. Every joint's target is a flat heatmap there;
    give --absent as well."""
    patience: OptionalCount = None
    """Early stopping: validations in a row (--evaluate-every) without a higher AP; by default none."""
    experiment: OmitArgPrefixes[TrainExperiment] = DEFAULT_TRAIN_EXPERIMENT

    def scheduled(self, base: TrainConfig) -> TrainConfig:
        """The recipe's, changed, and ended early where that is asked for."""
        if self.patience and self.val is None:
            raise ConfigError(f"--patience {self.patience} is for a training that is judged; give --val FILE")
        config = super().scheduled(base)
        return config if self.patience is None else replace(config, patience=self.patience)

    def changed(self, recipe: PoseRecipe) -> PoseRecipe:
        """The recipe with what the options change."""
        recipe, told = super().changed(recipe), self.experiment
        if told.teacher_share is not None and told.teacher is None:
            raise ConfigError(f"--teacher-share {told.teacher_share} is for --teacher; leave it out")
        given: dict[str, Any] = {} if told.gates is None else {"gates": tuple(told.gates)}
        if told.teacher_share is not None:
            given["teacher_share"] = told.teacher_share
        return replace(recipe, pose=replace(recipe.pose, **given))

    def of_detector(self, preset: str) -> DetectorRecipe:
        """A detector's recipe with what the options change; those that mean nothing for it are refused."""
        given = {name: getattr(self, name) for name in OF_POSES} | vars(self.experiment) | {
            "extra": self.extra, "negatives": self.negatives, "no_mirror": None if self.mirror else True}
        if useless := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
            raise ConfigError(f"{', '.join(useless)} means nothing for the detector {preset}; leave it out")
        recipe = DETECTOR_PRESETS[preset]()
        detector = recipe.detector
        if self.frozen is not None:
            detector = replace(detector, frozen_blocks=self.frozen)
        return replace(recipe, detector=detector, augment=changed(recipe.augment, self.augment or (), "--augment"),
                       train=self.scheduled(recipe.train))
