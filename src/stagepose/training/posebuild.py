"""From a recipe and files to a pose network's task, or to its training stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stagepose.coco import (
    CocoDataset,
    overlap_problems,
    read_dataset,
    read_negatives,
    refuse_bad_pictures,
    refuse_generated,
)
from stagepose.errors import ConfigError, DatasetError
from stagepose.evaluation.matching import truth_of
from stagepose.skeleton import Skeleton
from stagepose.training import start
from stagepose.training.augment import refuse_mirroring
from stagepose.training.crops import CropSpec, CropStore
from stagepose.training.inference import PoseInference
from stagepose.training.inputs import Report, RunContext, TrainingSet, open_stores
from stagepose.training.networks.cost import on_meta
from stagepose.training.networks.efficientnet_lite import imagenet_package
from stagepose.training.networks.zoo import build, row_length, trunk_of
from stagepose.training.people import PeopleSets, spread
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import check_fits
from stagepose.training.presets import PoseRecipe
from stagepose.training.stages import StagedTraining, StagesConfig
from stagepose.training.table import plain_batches
from stagepose.training.teacher import Teacher, open_teacher
from stagepose.training.uncut import cut_on_demand
from stagepose.training.validation import PoseValidation

UNFOLDED_ON = 512  # training samples that a model file's batch norms are measured on


@dataclass(frozen=True, eq=False)
class PoseInputs:
    """What a pose network learns from: people, and a trained network maybe; and by whom it is judged."""

    sets: PeopleSets
    validation: PoseValidation | None = None
    teacher: Teacher | None = None


def crop_spec(recipe: PoseRecipe, teacher: Teacher | None = None) -> CropSpec:
    """How the people that a recipe learns from are cut out: as large as it or its teacher, of one shape, wants them."""
    sizes = [recipe.pose.size] if teacher is None else [recipe.pose.size, teacher.size]
    return CropSpec.for_view(max(sizes), recipe.pose.box_padding)


def pose_inputs(recipe: PoseRecipe, sources: Sequence[TrainingSet], skeleton: Skeleton, context: RunContext,
                teacher: str | None = None) -> PoseInputs:
    """Crops, packed where they are missing; no picture of the judge's among them, nor made of one of those.

    They are as large as the recipe's network or the one that ``teacher`` names wants them, whichever wants more.
    """
    taught_by = None if teacher is None else open_teacher(teacher, skeleton, recipe.pose.codec, context.device)
    refuse_mirroring(recipe.pose.augment, skeleton)
    _refuse_idle_negatives(recipe, sources)
    validation = _pose_validation(recipe, skeleton, context)
    examined = [_examined(source, skeleton, validation) for source in sources]
    generated = [each.generated for each in examined]
    _refuse_mixing([(source, made) for source, made in zip(sources, generated, strict=True)
                    if source.kind != "negatives"])
    _tell_keypoints(sources, examined, skeleton, context.report)
    stores = open_stores(sources, crop_spec(recipe, taught_by), skeleton, context)
    _tell_shares(sources, stores, context.report)
    sets = PeopleSets(stores, [source.weight for source in sources], generated).loaded(context.device)
    return PoseInputs(sets, validation, taught_by)


def pose_task(recipe: PoseRecipe, inputs: PoseInputs, context: RunContext) -> PoseTask:
    """A fresh network, or one that begins as ``context.init`` says, with its people and its judge."""
    config, skeleton = recipe.pose, inputs.sets.skeleton
    torch.manual_seed(recipe.train.seed)  # a run killed before its first checkpoint begins again with the same weights
    network = start.fresh(config.network, len(skeleton), config.join, stages=config.stages,
                          imagenet=config.imagenet and context.init is None and context.began is None,
                          std=config.init_std)
    task = PoseTask(network, config, inputs.sets, seed=recipe.train.seed, device=context.device,
                    validation=inputs.validation, teacher=inputs.teacher, init=context.begins_with())
    if context.init is not None:
        some = spread(np.arange(len(task.reader)), UNFOLDED_ON)
        context.report(start.begin(task.model, context.init, skeleton=skeleton, make=partial(_inference, recipe),
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


def require_fit(recipe: PoseRecipe, keypoints: int) -> None:
    """:class:`ConfigError` where a recipe does not fit its network; asked before anything is packed."""
    check_fits(recipe.pose, on_meta(lambda: _inference(recipe, keypoints).network))


def require_startable(recipe: PoseRecipe, keypoints: int, context: RunContext) -> None:
    """An error where the recipe's network cannot begin as it is to; asked before anything is packed."""
    if context.init is not None:
        start.require_start(context.init, partial(_inference, recipe), keypoints)
    elif recipe.pose.imagenet and context.began is None:
        imagenet_package(trunk_of(on_meta(lambda: _inference(recipe, keypoints).network)).variant)


def first_stage(recipe: PoseRecipe) -> PoseRecipe:
    """Of a network trained stage by stage: what begins with ``context.init``."""
    return replace(recipe, pose=replace(recipe.pose, stages=1, stage_weights=(), coarse=(), ohkm=(), gates=()))


def require_stagewise(recipe: PoseRecipe, stages: StagesConfig) -> None:
    """:class:`ConfigError` where a network cannot be trained stage by stage so; asked before anything is packed."""
    if not recipe.train.samples:
        raise ConfigError("stage by stage is told in samples, not in minutes: how long a stage takes depends on how "
                          "many people go on; give --samples")
    stages.check(recipe.pose.stages or row_length(recipe.pose.network))


def staged_training(recipe: PoseRecipe, stages: StagesConfig, inputs: PoseInputs, context: RunContext, out: Path,
                    *, accept_changes: bool = False) -> StagedTraining:
    """The same for a training stage by stage; ``context.init`` is what stage 1 begins with."""
    first = None
    if context.init is not None:
        first = pose_task(first_stage(recipe), inputs, context).model.state_dict()
    return StagedTraining(pose=recipe.pose, train=recipe.train, config=stages, sets=inputs.sets, out=out,
                          machine=context.machine(resident=inputs.sets.resident), validation=inputs.validation,
                          first=first, init=context.begins_with(), accept_changes=accept_changes)


def _pose_validation(recipe: PoseRecipe, skeleton: Skeleton, context: RunContext) -> PoseValidation | None:
    """The judge, its labels and pictures looked at before the first step and not after the last."""
    if context.val is None:
        return None
    dataset, images = read_dataset(context.val, skeleton=skeleton), context.val.parent / "images"
    refuse_generated(dataset)
    truth_of(dataset)  # refuses people without an area
    refuse_bad_pictures(dataset, images)
    return PoseValidation(dataset=dataset, images_dir=images, codec=recipe.pose.codec,
                          box_padding=recipe.pose.box_padding, device=context.device)


@dataclass(frozen=True)
class _Examined:
    """What is known of a set before its people are cut out."""

    generated: bool
    unread: tuple[str, ...]  # its keypoints that the skeleton lacks
    labelled: NDArray[np.bool_]  # (K,) which of the skeleton's are labelled in anybody


def _examined(source: TrainingSet, skeleton: Skeleton, validation: PoseValidation | None) -> _Examined:
    """:class:`DatasetError` where a set has pictures of the judge's, or is made of some."""
    read = read_negatives if source.kind == "negatives" else read_dataset
    dataset = read(source.path, skeleton=skeleton)
    if validation is not None:
        _refuse_overlap(dataset, validation.dataset)
    return _Examined(bool(dataset.generated), dataset.unread, np.any(dataset.keypoints[..., 2] > 0, axis=0))


def _tell_keypoints(sources: Sequence[TrainingSet], examined: Sequence[_Examined], skeleton: Skeleton,
                    report: Report) -> None:
    """What of the labels is not learnt, and what is to be learnt without a label."""
    for source, each in zip(sources, examined, strict=True):
        if each.unread:
            report(f"{source.path}: not learnt, since skeleton {skeleton.name!r} lacks them: {', '.join(each.unread)}; "
                   "--skeleton names another one, or a file of yours")
    labelled_K = np.any([each.labelled for each in examined], axis=0)
    if never := [name for name, labelled in zip(skeleton.names, labelled_K, strict=True) if not labelled]:
        report(f"warning: nobody is labelled with {', '.join(never)} of skeleton {skeleton.name!r}: cannot be learnt")


def _refuse_idle_negatives(recipe: PoseRecipe, sources: Sequence[TrainingSet]) -> None:
    """:class:`ConfigError` where boxes without a person would teach nothing."""
    given = [source for source in sources if source.kind == "negatives"]
    if given and not recipe.pose.absent:
        raise ConfigError(f"--negatives {given[0].path}: boxes without a person teach only by joints that are nowhere "
                          "in the view; give --absent 0.2 too")


def _refuse_mixing(people: Sequence[tuple[TrainingSet, bool]]) -> None:
    """:class:`ConfigError` where generated people stand among photographs under the name of data, or the other way."""
    for source, made in people:
        if source.kind == "extra" and not made:
            raise ConfigError(f"--extra {source.path}: none of its pictures is marked generated; give it with --data")
        if source.kind == "data" and made and not all(generated for _, generated in people):
            raise ConfigError(f"--data {source.path}: its pictures are generated; beside photographs, give it with "
                              "--extra FILE.json:WEIGHT")


def _tell_shares(sources: Sequence[TrainingSet], stores: Sequence[CropStore], report: Report) -> None:
    shown = [source.weight * len(store) for source, store in zip(sources, stores, strict=True)]
    for source, count in zip(sources, shown, strict=True):
        if source.kind != "data":
            what = "generated" if source.kind == "extra" else "negatives"
            report(f"{source.path}: {what}; {count / max(sum(shown), 1e-9):.1%} of the samples shown are its own")


def _refuse_overlap(train: CocoDataset, val: CocoDataset) -> None:
    """:class:`DatasetError` when pictures are both learnt from and judged by."""
    shared = [each for each in overlap_problems(train, val) if each.severity == "error"]
    if shared:
        raise DatasetError(f"{val.path}: {len(shared)} of its pictures are in {train.path} too, such as "
                           f"{shared[0]}; take them out of one with 'stagepose split {train.path} --minival "
                           f"{val.path} --out DIR'")
