"""``stagepose train``, ``train-stages`` and ``export``: a preset and labelled pictures in, a model file out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, arg

from stagepose.commands.arguments import (
    UNSAID,
    Counts,
    File,
    Numbers,
    OptionalCount,
    OptionalCounts,
    OptionalFile,
    OptionalFolder,
    OptionalName,
    OptionalNumber,
    OptionalNumbers,
    OptionalSets,
    OptionalSize,
    OptionalSwitch,
    OptionalText,
    OptionalTexts,
    Preset,
    Run,
    Sets,
)
from stagepose.commands.console import say
from stagepose.commands.training_options import DataOptions, MachineOptions, ScheduleOptions
from stagepose.errors import ConfigError
from stagepose.files import require_place
from stagepose.heatmaps import CODECS, Codec, UdpOks
from stagepose.images import find_images
from stagepose.runtime import export_line
from stagepose.training import loop
from stagepose.training.detector.build import detector_task
from stagepose.training.detector.presets import DETECTOR_PRESETS
from stagepose.training.exportrun import Described, ReadStages, Weights, export_run
from stagepose.training.inference import Reading
from stagepose.training.inputs import RunContext, TrainingSet, going_on
from stagepose.training.losses import KINDS, HeatmapLoss
from stagepose.training.networks.zoo import StageOptions
from stagepose.training.optim import OPTIMIZERS, SCHEDULES, OptimizerKind, Schedule
from stagepose.training.posebuild import (
    first_stage,
    pose_inputs,
    pose_task,
    require_fit,
    require_stagewise,
    require_startable,
    staged_training,
)
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import PoseRecipe, pose_preset
from stagepose.training.runfolder import require_folder
from stagepose.training.settings import changed
from stagepose.training.stages import Pick, StagesConfig, first_networks
from stagepose.training.storage import Bits
from stagepose.training.trained import Mixed

MOST_PICTURES = 16  # to compare a detector's file on
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

    def scheduled(self, base: loop.TrainConfig) -> loop.TrainConfig:
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
    patience: OptionalCount = None
    """Early stopping: validations in a row (--evaluate-every) without a higher AP; by default none."""
    experiment: OmitArgPrefixes[TrainExperiment] = DEFAULT_TRAIN_EXPERIMENT

    def scheduled(self, base: loop.TrainConfig) -> loop.TrainConfig:
        """The recipe's, changed, and ended early where that is asked for."""
        if self.patience and self.val is None:
            raise ConfigError(f"--patience {self.patience} is for a training that is judged; give --val FILE")
        config = super().scheduled(base)
        return config if self.patience is None else replace(config, patience=self.patience)


def train(preset: Preset, *, options: Annotated[TrainOptions, arg(name="")]) -> None:
    """Train a network by the name of its preset, or go on with the run that OUT holds.

    Stop it at any time with Ctrl-C or SIGTERM: it saves, and the same command goes on from there, exactly. On several
    GPUs: torchrun --nproc-per-node N -m stagepose.cli train ...

    Args:
        preset: pose-small, pose-medium, pose-large, pose-slim, any network of 'stagepose networks', or a detector:
            person-tiny, person-small, person-medium, person-resnet50.
        options: How.
    """
    with _started(options, [options.out]) as context:
        sources = options.sources()
        if preset in DETECTOR_PRESETS:
            _refuse_useless(preset, {name: getattr(options, name) for name in OF_POSES} | vars(options.experiment)
                            | {"extra": options.extra, "no_mirror": None if options.mirror else True})
            boxes = DETECTOR_PRESETS[preset]()
            boxes = replace(boxes, augment=changed(boxes.augment, options.augment or (), "--augment"))
            if options.frozen is not None:
                boxes = replace(boxes, detector=replace(boxes.detector, frozen_blocks=options.frozen))
            boxes = replace(boxes, train=options.scheduled(boxes.train))
            config = boxes.train
            task: loop.Task = detector_task(boxes, sources, context, partly_boxed=options.partly_boxed)
        else:
            recipe, experiment = options.changed(pose_preset(preset)), options.experiment
            teacher, share = experiment.teacher, experiment.teacher_share
            if experiment.gates is not None:
                recipe = replace(recipe, pose=replace(recipe.pose, gates=tuple(experiment.gates)))
            if share is not None and teacher is None:
                raise ConfigError(f"--teacher-share {share} is for --teacher; leave it out")
            if share is not None:
                recipe = replace(recipe, pose=replace(recipe.pose, teacher_share=share))
            config, skeleton = recipe.train, options.keypoints()
            require_fit(recipe, len(skeleton))
            sources += [TrainingSet.parse(text, extra=True) for text in options.extra or ()]
            require_startable(recipe, len(skeleton), context)
            task = pose_task(recipe, pose_inputs(recipe, sources, skeleton, context, teacher), context)
        loop.train(task, config, options.out, context.machine(resident=task.resident),
                   accept_changes=options.accept_changes)
        _trained(options, context)


def train_stages(
    preset: Preset,
    *,
    options: Annotated[Options, arg(name="")],
    thresholds: tuple[float, ...] = StagesConfig.thresholds,
    shares: Numbers = (),
    pick: Pick = "hard",
    by_difficulty: bool = False,
    easy_share: float = 0.0,
    folds: int = 2,
    earlier: Literal["frozen", "tuned"] = "frozen",
    earlier_lr: float = StagesConfig.earlier_lr,
    later_samples: Counts = (),
    recalibrate: int = 4096,
) -> None:
    """Train a network stage by stage, each later stage on the people whom the stages before it do not find.

    The report's way: stage 1 on everybody, stage 2 on those whose OKS is below 0.8 after it, stage 3 on those below 0.6
    after that. Stop it and start it again as any training; docs/stages.md says what OUT holds.

    Args:
        preset: A network of several stages, such as 3xres50 or 2xlite0-u.
        options: What every training is told; samples are those shown to stage 1.
        thresholds: OKS below which a person goes on, one for each later stage.
        shares: Instead of thresholds: the hardest share of each set, such as 0.4 0.15.
        pick: Who goes on: hard people, or as a control as many at random, or all.
        by_difficulty: Weight each sample of a later stage by 1 - OKS.
        easy_share: Share of easy people among those of a later stage.
        folds: Cross-validation folds by which each person's OKS is measured; 0 measures it by the network that was
            trained on the person.
        earlier: Whether earlier stages are frozen or fine-tuned.
        earlier_lr: Their learning rate, relative to that of the new stage; with --earlier tuned.
        later_samples: Pictures shown to each later stage, as many as to stage 1 by default.
        recalibrate: People on whom the batch-norm statistics of a finished later stage are recomputed; 0 keeps them.
    """
    if shares and thresholds != StagesConfig.thresholds:
        raise ConfigError("--shares are instead of --thresholds; leave one of the two out")
    if earlier == "frozen" and earlier_lr != StagesConfig.earlier_lr:
        raise ConfigError(f"--earlier-lr {earlier_lr:g} is for --earlier tuned; leave it out")
    stages = StagesConfig(thresholds=thresholds, shares=shares, pick=pick, by_difficulty=by_difficulty,
                          easy_share=easy_share, folds=folds, earlier=earlier, earlier_lr=earlier_lr,
                          samples=later_samples, recalibrate=recalibrate)
    with _started(options, first_networks(options.out, folds)) as context:
        if preset in DETECTOR_PRESETS:
            raise ConfigError(f"{preset} is a detector; stage by stage trains pose networks of several stages")
        recipe = options.changed(pose_preset(preset))
        require_stagewise(recipe, stages)
        skeleton = options.keypoints()
        require_fit(recipe, len(skeleton))
        sources = options.sources()
        require_startable(first_stage(recipe), len(skeleton), context)
        inputs = pose_inputs(recipe, sources, skeleton, context)
        staged_training(recipe, stages, inputs, context, options.out, accept_changes=options.accept_changes).run()
        _trained(options, context)


@contextmanager
def _started(options: Options, networks: list[Path]) -> Iterator[RunContext]:
    """The device and the other processes ready: what a task needs besides its recipe.

    ``networks`` are the run folders of what begins with ``--init``.
    """
    require_folder(options.out)
    with options.started(options.crops or options.out.parent / "crops", val=options.val, init=options.init,
                         drop_bad=options.drop_bad) as context:
        yield going_on(context, options.out, networks)


def _trained(options: Options, context: RunContext) -> None:
    context.report(f"trained; write the model file with: {export_line(options.out)}")


def _refuse_useless(preset: str, given: dict[str, object]) -> None:
    useless = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if useless:
        raise ConfigError(f"{', '.join(useless)} means nothing for the detector {preset}; leave it out")


def export(
    run: Run,
    *,
    out: File,
    name: OptionalText = None,
    licence: str = "",
    training_data: OptionalTexts = None,
    metrics: OptionalFile = None,
    threshold: OptionalNumber = None,
    step: OptionalCount = None,
    mix: OptionalTexts = None,
    bits: Bits = 16,
    pictures: OptionalFolder = None,
    reading: Reading = "last",
    route_below: OptionalNumber = None,
) -> None:
    """Write a trained run as one self-describing ONNX file and compare it with the trained network.

    Args:
        run: Run folder of stagepose train or train-stages.
        out: The .onnx file.
        name: The model's name; the file's by default.
        licence: What the model's users may do, for its description.
        training_data: Names of the sets it was trained on, for its description.
        metrics: JSON file of measured numbers, for its description.
        threshold: Default person-score threshold stored in a pose model's file; 0.5 where it has none.
        step: Checkpoint to export; by default the best by validation, else the newest.
        mix: Weight averaging with other runs, each RUN:SHARE (runs/before:0.25: a quarter of the mean is its own). The
            mean of a run and of the run that it started from is often better than either.
        bits: Bits per stored weight: 8, 16 or 32; computation is always in float32.
        pictures: Folder of pictures with people that a detector's file is compared on; drawn ones by default.
        reading: Of a network of several stages: the last one's heatmaps, the mean of all, or a router, which shows the
            later stages only people that the first finds hard (for runs of train-stages).
        route_below: OKS, as predicted from the heatmaps of the first stage, below which a router goes on; 0.8 by
            default.
    """
    if route_below is not None and reading != "router":
        raise ConfigError(f"--route-below {route_below} is for --reading router; leave it out")
    require_place(out, suffix=".onnx")
    shown = find_images([pictures])[:MOST_PICTURES] if pictures else []
    described = Described(name=name or out.stem, licence=licence, training_data=tuple(training_data or ()),
                          metrics=metrics, threshold=threshold)
    weights = Weights(step=step, mix=[Mixed.parse(text) for text in mix or ()], bits=bits)
    stages = ReadStages(reading=reading) if route_below is None else ReadStages(reading=reading,
                                                                               route_below=route_below)
    made = export_run(run, out, described, weights, stages, shown)
    say(f"{out}: {made}")
