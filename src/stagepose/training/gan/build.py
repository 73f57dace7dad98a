"""From files to a repair task, and from a finished run to the network that repairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stagepose.errors import CheckpointError, ConfigError
from stagepose.heatmaps import Megvii
from stagepose.runfiles import CONFIG, read_object
from stagepose.runtime import resolve
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint, start
from stagepose.training.augment import refuse_mirroring
from stagepose.training.crops import CropSpec
from stagepose.training.gan.limbs import limbs_of
from stagepose.training.gan.losses import PoseFinder
from stagepose.training.gan.presets import RepairRecipe
from stagepose.training.gan.task import PICTURE_CHANNELS, RepairConfig, RepairTask
from stagepose.training.inputs import RunContext, TrainingSet, open_stores
from stagepose.training.networks.repair import Repairer, RepairNet
from stagepose.training.people import PeopleSets
from stagepose.training.trained import is_model_file, open_taught


def repair_task(recipe: RepairRecipe, sources: Sequence[TrainingSet], skeleton: Skeleton, context: RunContext, *,
                teacher: str | None = None, run: Path | None = None) -> RepairTask:
    """Crops packed where they are missing, fresh networks, and the frozen pose network that ``teacher`` names.

    ``run`` is the run folder, whose settings may know that network as older versions did.
    """
    limbs_of(skeleton)  # refuses a skeleton without limbs before anything is packed
    refuse_mirroring(recipe.repair.augment, skeleton)
    finder = None if teacher is None else open_finder(teacher, skeleton, context.device, run)
    stores = open_stores(sources, CropSpec(input_size=recipe.repair.size), skeleton, context)
    sets = PeopleSets(stores, [source.weight for source in sources]).loaded(context.device)
    if finder is None:
        context.report("no frozen pose network is asked whether poses can be seen; give one with --teacher")
    torch.manual_seed(recipe.train.seed)  # a run killed before its first checkpoint begins again with the same weights
    return RepairTask(fresh(recipe.repair, skeleton), recipe.repair, sets, seed=recipe.train.seed,
                      device=context.device, finder=finder)


def fresh(config: RepairConfig, skeleton: Skeleton) -> Repairer:
    """Both networks before training."""
    return Repairer(picture_channels=PICTURE_CHANNELS, pose_channels=len(skeleton) + len(skeleton.limbs),
                    widths=config.widths, depth=config.depth, critic_width=config.critic_width, block=config.block)


def open_finder(source: str, skeleton: Skeleton, device: str, run: Path | None = None) -> PoseFinder:
    """From a run folder of ``stagepose train``, a model file or a shipped name."""
    pose = open_taught(source)
    if pose.skeleton.names != skeleton.names:
        raise ConfigError(f"--teacher {source}: finds other keypoints than {skeleton.name!r} has; give a network for "
                          "these")
    if isinstance(pose.codec, Megvii):
        raise ConfigError(f"--teacher {source}: its codec {pose.codec.name!r} is not decoded while a network trains; "
                          "give a network of codec 'udp-oks', 'udp-dark' or 'msra'")
    network = pose.model.to(device).eval().requires_grad_(False)
    return PoseFinder(network, pose.codec, skeleton.sigmas, _known_as(source, run))


def _known_as(source: str, run: Path | None) -> str:
    """The sha256 of a finder's weights, as every training knows networks again.

    Older versions knew a model file by all of its bytes: a ``run`` that began so keeps that.
    """
    config = None if run is None else run / CONFIG
    if config is not None and config.is_file() and is_model_file(source):
        whole = hashlib.sha256(resolve(source).read_bytes()).hexdigest()
        if read_object(config).get("teacher") == {"sha256": whole}:
            return whole
    return start.digest_of(source)


def read_config(run: Path) -> tuple[RepairConfig, Skeleton, dict[str, Any]]:
    """What a run was trained with.

    :class:`CheckpointError` where it is no run folder; :class:`ConfigError` where it is one of another kind.
    """
    if not (run / CONFIG).is_file():
        raise CheckpointError(f"{run}: no run folder of 'stagepose gan train': it has no {CONFIG}")
    config = read_object(run / CONFIG)
    if config.get("kind") != "repair":
        raise ConfigError(f"{run}: a run of kind {config.get('kind')!r}, expected one of 'stagepose gan train'")
    with checkpoint.settings_of(run / CONFIG):
        return RepairConfig.from_json(config["repair"]), Skeleton.from_json(config["skeleton"]), config


def load_generator(run: Path) -> RepairNet:
    """The averaged generator of a run's newest checkpoint."""
    config, skeleton, _ = read_config(run)
    model = fresh(config, skeleton)
    checkpoint.fill(model, checkpoint.load_weights(run), str(run))
    return model.generator.eval().requires_grad_(False)
