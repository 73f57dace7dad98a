"""From files to a repair task, and from a finished run to the network that repairs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stagepose.errors import CheckpointError, ConfigError
from stagepose.heatmaps import Codec, Megvii
from stagepose.runtime import PoseModel, resolve
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint
from stagepose.training.augment import refuse_mirroring
from stagepose.training.crops import CropSpec, CropStore, open_or_pack
from stagepose.training.gan.limbs import limbs_of
from stagepose.training.gan.losses import PoseTeacher
from stagepose.training.gan.presets import RepairRecipe
from stagepose.training.gan.task import PICTURE_CHANNELS, RepairConfig, RepairTask
from stagepose.training.inference import PoseInference
from stagepose.training.networks.repair import Repairer, RepairNet
from stagepose.training.networks.zoo import build
from stagepose.training.people import fits_on_device, load_resident, spread
from stagepose.training.runs import Report, Source
from stagepose.training.trained import open_pose
from stagepose.training.unfold import unfold_model_file

TEACHER_NETWORK = "lite0-u"  # of model files that teach: what pose-small ships as
MEASURED_ON = 256  # people that a model file's batch norms are measured on


def repair_task(recipe: RepairRecipe, sources: Sequence[Source], skeleton: Skeleton, *, folder: Path, seed: int,
                device: str, teacher: str | None, drop_bad: bool, report: Report) -> RepairTask:
    """Crops packed where they are missing, fresh networks, and the frozen pose network that ``teacher`` names."""
    limbs_of(skeleton)  # refuses a skeleton without limbs before anything is packed
    refuse_mirroring(recipe.repair.augment, skeleton)
    spec = CropSpec(input_size=recipe.repair.size)
    stores = []
    for source in sources:
        stores.append(open_or_pack(source.path, source.images, folder, spec=spec, skeleton=skeleton, drop_bad=drop_bad))
        report(f"{source.path}: {len(stores[-1])} people; left out: {stores[-1].left_out}")
    resident = load_resident(stores, device) if fits_on_device(stores, device) else None
    taught = None if teacher is None else open_teacher(teacher, stores, skeleton, device)
    if taught is None:
        report("no frozen pose network is asked whether poses can be seen; give one with --teacher")
    torch.manual_seed(seed)  # a run killed before its first checkpoint begins again with the same weights
    return RepairTask(fresh(recipe.repair, skeleton), recipe.repair, stores, [s.weight for s in sources], seed=seed,
                      device=device, resident=resident, teacher=taught)


def fresh(config: RepairConfig, skeleton: Skeleton) -> Repairer:
    """Both networks before training."""
    return Repairer(picture_channels=PICTURE_CHANNELS, pose_channels=len(skeleton) + len(skeleton.limbs),
                    widths=config.widths, depth=config.depth, critic_width=config.critic_width, block=config.block)


def open_teacher(source: str, stores: Sequence[CropStore], skeleton: Skeleton, device: str) -> PoseTeacher:
    """From a run folder of ``stagepose train``, or from a model file or shipped name of pose-small's architecture."""
    if Path(source).is_dir():
        model = _of_run(Path(source), skeleton)
        sha256 = checkpoint.digest(model[0].state_dict())
    else:
        data = resolve(source).read_bytes()
        info = PoseModel(data, threads=1).info
        _same_names(source, info.skeleton, skeleton)
        assert info.codec is not None
        like = PoseInference(build(TEACHER_NETWORK, len(skeleton)), info.codec, "kl")
        like.load_state_dict(unfold_model_file(source, like, [_people(stores, info.codec.input_size)]))
        model, sha256 = (like, info.codec), hashlib.sha256(data).hexdigest()
    network, codec = model
    if isinstance(codec, Megvii):
        raise ConfigError(f"--teacher {source}: its codec {codec.name!r} is not decoded while a network trains; give a "
                          "network of codec 'udp-oks', 'udp-dark' or 'msra'")
    network.to(device).eval().requires_grad_(False)
    return PoseTeacher(network, codec, skeleton.sigmas, source, sha256)


def _of_run(run: Path, skeleton: Skeleton) -> tuple[PoseInference, Codec]:
    pose = open_pose(run)
    _same_names(str(run), pose.skeleton, skeleton)
    return pose.model, pose.codec


def _same_names(source: str, theirs: Skeleton | None, ours: Skeleton) -> None:
    if theirs is None or theirs.names != ours.names:
        raise ConfigError(f"--teacher {source}: finds other keypoints than {ours.name!r} has; give a network for these")


def _people(stores: Sequence[CropStore], size: tuple[int, int]) -> Tensor:
    """Some people at a network's input size, (N, 3, h, w) float 0..255."""
    store = stores[0]
    crops = torch.from_numpy(store.read(spread(np.arange(len(store)), MEASURED_ON))).permute(0, 3, 1, 2).float()
    left, top = ((have - want) // 2 for have, want in zip(store.spec.canvas, store.spec.input_size, strict=True))
    width, height = store.spec.input_size
    return torch.nn.functional.interpolate(crops[:, :, top : top + height, left : left + width],
                                           size=(size[1], size[0]), mode="bilinear", align_corners=False)


def read_config(run: Path) -> tuple[RepairConfig, Skeleton, dict[str, Any]]:
    """What a run was trained with; :class:`ConfigError` where it is no run of ``stagepose gan train``."""
    if not (run / "config.json").is_file():
        raise CheckpointError(f"{run}: no run folder of 'stagepose gan train': it has no config.json")
    config = checkpoint.read_json(run / "config.json")
    if config.get("kind") != "repair":
        raise ConfigError(f"{run}: a run of kind {config.get('kind')!r}, expected one of 'stagepose gan train'")
    with checkpoint.settings_of(run / "config.json"):
        return RepairConfig.from_json(config["repair"]), Skeleton.from_json(config["skeleton"]), config


def load_generator(run: Path) -> RepairNet:
    """The averaged generator of a run's newest checkpoint."""
    config, skeleton, _ = read_config(run)
    model = fresh(config, skeleton)
    checkpoint.fill(model, checkpoint.load_weights(run), str(run))
    return model.generator.eval().requires_grad_(False)
