"""From a recipe and files to a task, and from a finished run to a model file."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stagepose.coco import CocoDataset, overlap_problems, read_dataset, refuse_bad_pictures, refuse_generated
from stagepose.cores import available_cores
from stagepose.errors import CheckpointError, ConfigError, DatasetError, ModelError
from stagepose.evaluation.matching import truth_of
from stagepose.images import read_image
from stagepose.modelinfo import ModelInfo
from stagepose.runfiles import CONFIG, STAGES, read_object
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint, distributed, start, trained
from stagepose.training.augment import refuse_mirroring
from stagepose.training.crops import CropSpec, CropStore, open_or_pack
from stagepose.training.detector.build import export_detector_run
from stagepose.training.export import export_pose
from stagepose.training.inference import PoseInference, Reading
from stagepose.training.loop import TrainConfig, shortened, shorter_warmup
from stagepose.training.machine import Machine, use_threads
from stagepose.training.networks.cost import on_meta
from stagepose.training.networks.efficientnet_lite import imagenet_package
from stagepose.training.networks.zoo import build, row_length, trunk_of
from stagepose.training.people import PeopleSets, spread
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import check_fits
from stagepose.training.presets import PoseRecipe
from stagepose.training.stages import StagedTraining, StagesConfig
from stagepose.training.storage import Bits
from stagepose.training.table import Table, plain_batches
from stagepose.training.teacher import Teacher, open_teacher
from stagepose.training.uncut import cut_on_demand
from stagepose.training.validation import PoseValidation
from stagepose.training.workfolder import Progress, told

MOST_WORKERS = 8  # processes that read data for one GPU
MOST_SHOWN = 10_000  # times in an epoch: its order lies in memory
UNFOLDED_ON = 512  # training samples that a model file's batch norms are measured on

Report = Callable[[str], None]  # a line for people


@dataclass(frozen=True)
class Source:
    """One labelled set: the annotation file, its pictures, and how often its people are shown in an epoch.

    ``extra`` people are generated: given with ``--extra``, beside photographs.
    """

    path: Path
    images: Path
    weight: float
    extra: bool = False

    @classmethod
    def parse(cls, text: str, extra: bool = False) -> Source:
        """``FILE.json`` or ``FILE.json:WEIGHT``; pictures lie in ``images/`` beside it."""
        option = "--extra" if extra else "--data"
        name, _, weight = text.rpartition(":")
        if not name.endswith(".json"):
            name, weight = text, "1"
        try:
            factor = float(weight)
        except ValueError:
            factor = math.nan
        if not 0 < factor <= MOST_SHOWN:
            raise ConfigError(f"{option} {text}: weight {weight!r} must be above 0 and at most {MOST_SHOWN:,}: how "
                              "often each person is shown in an epoch")
        path = Path(name)
        if not path.is_file():
            raise DatasetError(f"{option} {text}: no file {path}{_near(path)}")
        images = path.parent / "images"
        if not images.is_dir():
            raise DatasetError(f"{path}: no folder {images}; put the pictures there, or a link to their folder")
        return cls(path, images, factor, extra)


def _near(path: Path) -> str:
    """What a folder has that is called nearly so."""
    there = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=3, cutoff=0.4)
    return f"; {path.parent} has {', '.join(near)}" if near else f"; nor is there any .json in {path.parent}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both kinds of task need besides their recipe: where packed pictures go, the judge's set, the start."""

    folder: Path
    val: Path | None
    init: str | None  # a run folder, a .safetensors file; for pose networks also a model file or a shipped name
    device: str
    drop_bad: bool
    report: Report
    began: str | None = None  # sha256 of the weights that a run has begun with which goes on without them

    @property
    def init_sha256(self) -> str | None:
        """Of the weights that the training begins with, or has begun with; None without any."""
        return self.began or start.digest(self.init)


def going_on(setting: Setting, out: Path, networks: Sequence[Path]) -> Setting:
    """The setting of the run in ``out``, which needs nothing of ``setting.init`` any more where that is gone.

    So it is where each of its ``networks``' folders has a checkpoint; what they began with, its config.json says.
    """
    init = setting.init
    if init is None or not distributed.from_first(partial(trained.is_gone, init)):
        return setting
    began = distributed.from_first(partial(_began_with, out, networks))
    if began is None:
        return setting
    setting.report(f"{init} is gone; {out} began with it, and goes on from its own checkpoint")
    return replace(setting, init=None, began=began)


def _began_with(out: Path, networks: Sequence[Path]) -> str | None:
    config = out / CONFIG
    if not config.is_file() or not all(map(checkpoint.has_begun, networks)):
        return None
    known = read_object(config).get("init")
    return known if isinstance(known, str) else None


def prepare_device(name: str, threads: int | None) -> str:
    """``auto`` -> this rank's GPU where there is one, else ``cpu``; ``threads`` CPU threads, None for all cores."""
    use_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    here, ranks = ["cpu"], int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus:
        here += ["cuda", *(f"cuda:{number}" for number in range(gpus))]
    if name not in here:
        raise ConfigError(f"device {name!r} is not here; use {' or '.join(['auto', *here])}")
    if name != "cpu" and ranks > (gpus if name == "cuda" else 1):
        raise ConfigError(f"{ranks} ranks on this machine, but device {name!r} has "
                          f"{f'{gpus} GPUs' if name == 'cuda' else 'one GPU'}: each needs its own; start torchrun with "
                          f"--nproc-per-node {gpus}, and with --device cuda or auto")
    return f"cuda:{distributed.local_rank()}" if name == "cuda" else name


def machine_for(device: str, workers: int | None, compiled: bool | None, *, resident: bool) -> Machine:
    """What None leaves open: a GPU gets torch.compile, and readers of its own unless it holds all data itself."""
    cuda = torch.device(device).type == "cuda"
    if workers is None:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = min(MOST_WORKERS, max(1, available_cores() // ranks_here - 1)) if cuda and not resident else 0
    return Machine(device=device, workers=workers, compile=cuda if compiled is None else compiled)


def schedule(base: TrainConfig, *, samples: int | None, minutes: float | None, steps: int | None,
             **changes: Any) -> TrainConfig:
    """A recipe's schedule with what the command line changes; None leaves the recipe's value."""
    if samples is not None and minutes is not None:
        raise ConfigError(f"give either --samples or --minutes, got {samples} and {minutes}")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps is {steps}; use at least 1, or leave it out for the whole training")
    config = replace(base, **{k: v for k, v in changes.items() if v is not None})
    if samples is not None:
        config = replace(config, samples=samples, minutes=0.0, warmup=shorter_warmup(config.warmup, samples))
    if minutes is not None:
        config = replace(config, samples=0, minutes=minutes)
    if steps is None:
        return config
    asked = {name: value for name, value in changes.items() if name == "evaluate_every" and value is not None}
    return replace(shortened(config, steps), **asked)


@dataclass(frozen=True, eq=False)
class PoseInputs:
    """What a pose network learns from: people, and a trained network maybe; and by whom it is judged."""

    sets: PeopleSets
    validation: PoseValidation | None = None
    teacher: Teacher | None = None


def _teacher_of(recipe: PoseRecipe, source: str | None, skeleton: Skeleton, setting: Setting) -> Teacher | None:
    """A trained network as a teacher for the recipe's; asked for before anything is packed."""
    try:
        return None if source is None else open_teacher(source, skeleton, recipe.pose.codec, setting.device)
    except (CheckpointError, ModelError) as error:
        raise type(error)(f"--teacher {error}") from error


def crop_spec(recipe: PoseRecipe, teacher: Teacher | None = None) -> CropSpec:
    """How the people that a recipe learns from are cut out: as large as it or its teacher, of one shape, wants them."""
    sizes = [recipe.pose.size] if teacher is None else [recipe.pose.size, teacher.size]
    return CropSpec.for_view(max(sizes), recipe.pose.box_padding)


def pose_inputs(recipe: PoseRecipe, sources: Sequence[Source], skeleton: Skeleton, setting: Setting,
                teacher: str | None = None) -> PoseInputs:
    """Crops, packed where they are missing; no picture of the judge's among them, nor made of one of those.

    They are as large as the recipe's network or the one that ``teacher`` names wants them, whichever wants more.
    """
    taught_by = _teacher_of(recipe, teacher, skeleton, setting)
    refuse_mirroring(recipe.pose.augment, skeleton)
    validation = _pose_validation(recipe, skeleton, setting)
    examined = [_examined(source, skeleton, validation) for source in sources]
    generated = [each.generated for each in examined]
    _refuse_mixing(sources, generated)
    _tell_keypoints(sources, examined, skeleton, setting.report)
    spec = crop_spec(recipe, taught_by)
    stores = []
    for source in sources:
        stores.append(open_or_pack(source.path, source.images, setting.folder, spec=spec, skeleton=skeleton,
                                   drop_bad=setting.drop_bad, progress=packing(source.path, setting.report)))
        setting.report(f"{source.path}: {len(stores[-1])} people; left out: {stores[-1].left_out}")
    _tell_shares(sources, stores, setting.report)
    sets = PeopleSets(stores, [source.weight for source in sources], generated).loaded(setting.device)
    return PoseInputs(sets, validation, taught_by)


def pose_task(recipe: PoseRecipe, inputs: PoseInputs, setting: Setting) -> PoseTask:
    """A fresh network, or one that begins as ``setting.init`` says, with its people and its judge."""
    config, skeleton = recipe.pose, inputs.sets.skeleton
    torch.manual_seed(recipe.train.seed)  # a run killed before its first checkpoint begins again with the same weights
    network = start.fresh(config.network, len(skeleton), config.join, stages=config.stages,
                          imagenet=config.imagenet and setting.init is None and setting.began is None,
                          std=config.init_std)
    task = PoseTask(network, config, inputs.sets, seed=recipe.train.seed, device=setting.device,
                    validation=inputs.validation, teacher=inputs.teacher, init=setting.init_sha256)
    if setting.init is not None:
        some = spread(np.arange(len(task.reader)), UNFOLDED_ON)
        setting.report(start.begin(task.model, setting.init, skeleton=skeleton, make=partial(_inference, recipe),
                                   batches=lambda: plain_batches(task, some)))
    return task


def task_to_look_at(recipe: PoseRecipe, dataset: CocoDataset, images_dir: Path, seed: int) -> PoseTask:
    """A task that shows what a training of the recipe on one set would, whose network has no weights.

    Nothing is packed: people are cut out when they are shown.
    """
    network = on_meta(lambda: _inference(recipe, len(dataset.skeleton)).network)
    sets = PeopleSets([cut_on_demand(dataset, images_dir, crop_spec(recipe))])
    return PoseTask(network, recipe.pose, sets, seed=seed)


def _inference(recipe: PoseRecipe, keypoints: int) -> PoseInference:
    """The recipe's network for so many keypoints."""
    config = recipe.pose
    return PoseInference(build(config.network, keypoints, config.join, stages=config.stages), config.codec, config.loss)


def check(recipe: PoseRecipe, keypoints: int) -> None:
    """:class:`ConfigError` where a recipe does not fit its network; asked before anything is packed."""
    check_fits(recipe.pose, on_meta(lambda: _inference(recipe, keypoints).network))


def check_start(recipe: PoseRecipe, keypoints: int, setting: Setting) -> None:
    """An error where the recipe's network cannot begin as it is to; asked before anything is packed."""
    if setting.init is not None:
        start.require_start(setting.init, partial(_inference, recipe), keypoints)
    elif recipe.pose.imagenet and setting.began is None:
        imagenet_package(trunk_of(on_meta(lambda: _inference(recipe, keypoints).network)).variant)


def first_stage(recipe: PoseRecipe) -> PoseRecipe:
    """Of a network trained stage by stage: what begins with ``setting.init``."""
    return replace(recipe, pose=replace(recipe.pose, stages=1, stage_weights=(), coarse=(), ohkm=(), gates=()))


def check_stages(recipe: PoseRecipe, stages: StagesConfig) -> None:
    """:class:`ConfigError` where a network cannot be trained stage by stage so; asked before anything is packed."""
    if not recipe.train.samples:
        raise ConfigError("stage by stage is told in samples, not in minutes: how long a stage takes depends on how "
                          "many people go on; give --samples")
    stages.check(recipe.pose.stages or row_length(recipe.pose.network))


def staged_training(recipe: PoseRecipe, stages: StagesConfig, inputs: PoseInputs, setting: Setting, out: Path,
                    machine: Machine, *, accept_changes: bool) -> StagedTraining:
    """The same for a training stage by stage; ``setting.init`` is what stage 1 begins with."""
    first = None
    if setting.init is not None:
        first = pose_task(first_stage(recipe), inputs, setting).model.state_dict()
    return StagedTraining(pose=recipe.pose, train=recipe.train, config=stages, sets=inputs.sets, out=out,
                          machine=machine, validation=inputs.validation, first=first, init=setting.init_sha256,
                          accept_changes=accept_changes)


def _pose_validation(recipe: PoseRecipe, skeleton: Skeleton, setting: Setting) -> PoseValidation | None:
    """The judge, its labels and pictures looked at before the first step and not after the last."""
    if setting.val is None:
        return None
    dataset, images = read_dataset(setting.val, skeleton=skeleton), setting.val.parent / "images"
    refuse_generated(dataset)
    truth_of(dataset)  # refuses people without an area
    refuse_bad_pictures(dataset, images)
    return PoseValidation(dataset=dataset, images_dir=images, codec=recipe.pose.codec,
                          box_padding=recipe.pose.box_padding, device=setting.device)


@dataclass(frozen=True)
class _Examined:
    """What is known of a set before its people are cut out."""

    generated: bool
    unread: tuple[str, ...]  # its keypoints that the skeleton lacks
    labelled: NDArray[np.bool_]  # (K,) which of the skeleton's are labelled in anybody


def _examined(source: Source, skeleton: Skeleton, validation: PoseValidation | None) -> _Examined:
    """:class:`DatasetError` where a set has pictures of the judge's, or is made of some."""
    dataset = read_dataset(source.path, skeleton=skeleton)
    if validation is not None:
        _refuse_overlap(dataset, validation.dataset)
    return _Examined(bool(dataset.generated), dataset.unread, np.any(dataset.keypoints[..., 2] > 0, axis=0))


def _tell_keypoints(sources: Sequence[Source], examined: Sequence[_Examined], skeleton: Skeleton,
                    report: Report) -> None:
    """What of the labels is not learnt, and what is to be learnt without a label."""
    for source, each in zip(sources, examined, strict=True):
        if each.unread:
            report(f"{source.path}: not learnt, since skeleton {skeleton.name!r} lacks them: {', '.join(each.unread)}; "
                   "--skeleton names another one, or a file of yours")
    labelled_K = np.any([each.labelled for each in examined], axis=0)
    if never := [name for name, labelled in zip(skeleton.names, labelled_K, strict=True) if not labelled]:
        report(f"warning: nobody is labelled with {', '.join(never)} of skeleton {skeleton.name!r}: cannot be learnt")


def _refuse_mixing(sources: Sequence[Source], generated: Sequence[bool]) -> None:
    """:class:`ConfigError` where generated people stand among photographs under the name of data, or the other way."""
    for source, made in zip(sources, generated, strict=True):
        if source.extra and not made:
            raise ConfigError(f"--extra {source.path}: none of its pictures is marked generated; give it with --data")
        if not source.extra and made and not all(generated):
            raise ConfigError(f"--data {source.path}: its pictures are generated; beside photographs, give it with "
                              "--extra FILE.json:WEIGHT")


def _tell_shares(sources: Sequence[Source], stores: Sequence[CropStore], report: Report) -> None:
    shown = [source.weight * len(store) for source, store in zip(sources, stores, strict=True)]
    for source, count in zip(sources, shown, strict=True):
        if source.extra:
            report(f"{source.path}: generated; {count / max(sum(shown), 1e-9):.1%} of the people shown are its own")


def _refuse_overlap(train: CocoDataset, val: CocoDataset) -> None:
    """:class:`DatasetError` when pictures are both learnt from and judged by."""
    shared = [each for each in overlap_problems(train, val) if each.severity == "error"]
    if shared:
        raise DatasetError(f"{val.path}: {len(shared)} of its pictures are in {train.path} too, such as "
                           f"{shared[0]}; take them out of one with 'stagepose split {train.path} --minival "
                           f"{val.path} --out DIR'")


def packing(path: Path, report: Report) -> Progress:
    """What tells, every thousand pictures, how far the cutting out of a set is."""
    return told(report, f"{path}: people cut out of")


def export_run(run: Path, out: Path, *, name: str, licence: str, training_data: tuple[str, ...],
               metrics: Path | None, step: int | None, bits: Bits, threshold: float | None = None,
               pictures: Sequence[Path] = (), reading: Reading = "last", route_below: float = 0.8,
               mix: Sequence[trained.Mixed] = ()) -> str:
    """Write the averaged weights of a run as one model file; see :func:`stagepose.training.export.export_pose`.

    ``step`` None takes the best by validation, else the newest; ``pictures`` are what a detector's file is compared
    on; ``threshold`` is what a person's score must reach to be shown. ``reading`` says which stages' heatmaps come out;
    a router goes on where the table after stage 1 predicts an OKS below ``route_below``. ``mix`` are runs to take the
    mean of the weights with. Returns what was compared, in words.
    """
    described: dict[str, Any] = {"name": name, "licence": licence, "training_data": training_data,
                                 "metrics": read_object(metrics) if metrics else {}}
    config = trained.config_of(run)
    if config.get("kind") in trained.POSE_KINDS:
        if pictures:
            raise ConfigError(f"--pictures are for a detector's file; {run} is of a pose network, so leave them out")
        below = _route_score(run, route_below) if reading == "router" else 0.0
        pose = trained.open_pose(run, step=step, reading=reading, route_below=below, mix=mix)
        info = ModelInfo(kind="pose", input_size=pose.codec.input_size, skeleton=pose.skeleton, codec=pose.codec,
                         network=pose.network, stages=trained.told_stages(pose.model, pose.network),
                         box_padding=pose.box_padding, threshold=threshold, **described)
        made = export_pose(pose.model, out, info, bits=bits)
        last = checkpoint.last_stage(run)
        stages = f"stage {last.stem} of {config.get('row', '?')}; " if last else ""
        return (f"{made.megabytes:.1f} MB; {stages}heatmaps differ from the trained network's by "
                f"{made.max_difference:.2g} of their range")
    if config.get("kind") != "detector":
        raise CheckpointError(f"{run}: a run of kind {config.get('kind')!r}; a model file is made of one of a pose "
                              "network or a detector")
    if threshold is not None:
        raise ConfigError(f"--threshold {threshold} is a person's score, which a pose network gives; {run} is of a "
                          "detector, so leave it out")
    if reading != "last":
        raise ConfigError(f"--reading {reading} is of a pose network's stages; {run} is of a detector, so leave it out")
    weights = trained.averaged_weights(run, step, mix)
    shown = [np.array(read_image(path).pixels) for path in pictures]
    return export_detector_run(config, weights, run, out, described, bits=bits, pictures=shown)


def _route_score(run: Path, below: float) -> float:
    """The mean peak at which the people of a stage-by-stage run have an OKS of ``below`` after stage 1."""
    table = run / STAGES / "1.npz"
    if not table.is_file():
        raise ConfigError(f"{run}: no table of who is found how well after stage 1, by which a router decides; only "
                          "runs of 'stagepose train-stages' have one. Use reading last or mean")
    return Table.read(table).score_at(below)


