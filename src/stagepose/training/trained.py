"""A finished run opened again: its averaged weights in the network that they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stagepose.errors import CheckpointError, ConfigError, ModelError, StagePoseError
from stagepose.geometry import BOX_PADDING, Padding
from stagepose.heatmaps import Codec, codec_from_json
from stagepose.modelinfo import ModelInfo
from stagepose.runfiles import CONFIG, read_object
from stagepose.runtime import read_info, shipped
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint
from stagepose.training.inference import PoseInference, Reading
from stagepose.training.networks.multistage import MultiStage
from stagepose.training.networks.zoo import ROWS, StageOptions, build
from stagepose.training.unfold import Rebuilt, rebuild

SHIPPED_NETWORK = "lite0-u"  # of files that do not tell their network, as those did not that shipped first
POSE_KINDS = ("pose", "stages")  # of runs that leave a pose network behind


@dataclass(frozen=True, eq=False)
class TrainedPose:
    """A pose network as a run left it, in evaluation mode on the CPU."""

    model: PoseInference
    skeleton: Skeleton
    codec: Codec
    box_padding: Padding
    network: str  # its name in the zoo


@dataclass(frozen=True)
class Mixed:
    """Another run, whose weights are a ``share`` of the mean; the rest is the run's own."""

    run: Path
    share: float

    @classmethod
    def parse(cls, text: str) -> Mixed:
        """``RUN:SHARE``."""
        run, _, share = text.rpartition(":")
        try:
            mixed = cls(Path(run), float(share))
        except ValueError:
            mixed = cls(Path(run), math.nan)
        if not run or not 0 < mixed.share < 1:
            raise ConfigError(f"--mix {text}: expected RUN:SHARE, a share between 0 and 1 such as runs/before:0.25")
        return mixed


def open_pose(run: str | Path, *, step: int | None = None, reading: Reading = "last", route_below: float = 0.0,
              mix: Sequence[Mixed] = ()) -> TrainedPose:
    """What a run folder of ``stagepose train`` or ``train-stages`` holds.

    ``step`` None takes the best by validation, else the newest; ``mix`` are runs to take the mean with. Raises
    :class:`CheckpointError` where ``run`` is no such folder.
    """
    run = Path(run)
    config = config_of(run)
    if config.get("kind") not in POSE_KINDS:
        raise CheckpointError(f"{run}: a run of kind {config.get('kind')!r}, expected one of a pose network")
    last = checkpoint.last_stage(run)
    with checkpoint.settings_of(run / CONFIG):
        pose = config["pose"]
        skeleton, codec = Skeleton.from_json(config["skeleton"]), codec_from_json(pose["codec"])
        stages = int(last.stem) if last else pose.get("stages", 0)  # of stages one by one: those that are done
        name = str(pose["network"])
        network = build(name, len(skeleton), StageOptions(**pose.get("join", {})), stages=stages)
        loss, box_padding = pose["loss"], float(pose.get("box_padding", BOX_PADDING))
    model = PoseInference(network, codec, loss, reading=reading, route_below=route_below)
    checkpoint.fill(model, averaged_weights(run, step, mix), str(run))
    return TrainedPose(model.eval(), skeleton, codec, box_padding, name)


def open_taught(source: str) -> TrainedPose:
    """The network that ``--teacher`` names, a run folder's or that of a model file: to be asked, not to learn on.

    :class:`CheckpointError` where it is neither; :class:`ModelError` where a file's network can't be made again.
    """
    try:
        return _open_any(source)
    except (CheckpointError, ModelError) as error:
        raise type(error)(f"--teacher {error}") from error


def _open_any(source: str) -> TrainedPose:
    if is_gone(source):
        raise CheckpointError(f"{source}: no run folder or model file, nor the name of a model that ships "
                              f"({', '.join(shipped())}); a teacher is asked in every step, so name where it is now, "
                              "or leave it out, with --accept-changes where a run began with it")
    if not is_model_file(source):
        return open_pose(source)
    info = read_info(source)
    skeleton, codec = info.heatmaps_of
    name = network_in(source, info) or SHIPPED_NETWORK
    rebuilt = rebuild_told(source, info, told_network(source, info, name, len(skeleton)))
    return TrainedPose(rebuilt.model, skeleton, codec, info.box_padding, name)


def told_stages(model: PoseInference, name: str) -> dict[str, Any]:
    """What a model file tells of its network's stages besides the network's ``name``; see :func:`told_network`."""
    told: dict[str, Any] = {}
    if name in ROWS and isinstance(row := model.network, MultiStage):
        join = StageOptions(concat_heatmaps=row.concat_heatmaps, residual=row.residual, aggregate=bool(row.bridges))
        told |= {"count": len(row.stages), "join": asdict(join)}
    if model.reading != "last":
        told |= {"reading": model.reading, "route_below": model.route_below}
    return told


def told_network(source: str, info: ModelInfo, name: str, keypoints: int) -> PoseInference:
    """A fresh network ``name`` with the stages that a file of ``info`` tells, joined and read as they are there.

    :class:`ModelError` where they are none that this version knows.
    """
    told = info.stages
    try:
        network = build(name, keypoints, StageOptions(**told.get("join", {})), stages=int(told.get("count", 0)))
        return PoseInference(network, info.heatmaps_of[1], "kl", reading=told.get("reading", "last"),
                             route_below=float(told.get("route_below", 0.0)))
    except (TypeError, ValueError, AttributeError, StagePoseError) as error:
        raise ModelError(f"{source}: its network {name!r} with stages {dict(told)} can't be made again by this version "
                         f"({error}); use its run folder, or the version of StagePose that wrote it") from error


def rebuild_told(source: str, info: ModelInfo, like: PoseInference) -> Rebuilt:
    """:func:`.unfold.rebuild` of a file in what its description tells; the error says where it tells too little."""
    try:
        return rebuild(source, like)
    except ModelError as error:
        if info.network not in ROWS or info.stages:
            raise
        raise ModelError(f"{source}: an older file, which does not tell how the stages of its {info.network} are "
                         "joined, how many they are and which are read; use its run folder, or a file that 'stagepose "
                         "export' makes of that now") from error


def network_in(source: str, info: ModelInfo) -> str:
    """The name of a model file's network, empty where it is not known."""
    return info.network or (SHIPPED_NETWORK if info.kind == "pose" and source in shipped() else "")


def is_model_file(source: str) -> bool:
    """Whether ``source`` is a model file or a name that ships, not a run folder or a .safetensors file."""
    return source in shipped() or source.endswith(".onnx")


def is_gone(source: str) -> bool:
    """Whether there is neither a file nor a folder ``source``, nor a model of that name that ships."""
    return source not in shipped() and not Path(source).exists()


def config_of(run: Path) -> dict[str, Any]:
    """Every setting of a run; :class:`CheckpointError` where ``run`` is no run folder."""
    if not (run / CONFIG).is_file():
        raise CheckpointError(f"{run}: no run folder of 'stagepose train': it has no {CONFIG}")
    return read_object(run / CONFIG)


def averaged_weights(run: Path, step: int | None = None, mix: Sequence[Mixed] = ()) -> checkpoint.Tensors:
    """Of a step, by default the best by validation, else the newest; then the mean with those of ``mix``.

    :class:`CheckpointError` where one of them is of another network, or trained for something else.
    Weights of one network that went on from the other lie in one valley: their mean finds more than either (Wortsman
    et al., "Model soups", ICML 2022; Izmailov et al. 2018).
    """
    own = 1 - sum(other.share for other in mix)
    if own <= 0:
        raise ConfigError(f"--mix: the shares of the other runs add up to {1 - own:g}; leave something of {run}")
    weights = _of_step(run, step)
    for name, tensor in weights.items() if mix else ():
        if tensor.is_floating_point():
            weights[name] = tensor * own
    for other in mix:
        _refuse_other_meaning(other.run, run)
        theirs = _of_step(other.run, None)
        strange = [name for name in weights.keys() | theirs.keys()
                   if name not in weights or name not in theirs or weights[name].shape != theirs[name].shape]
        if strange:
            raise CheckpointError(f"--mix {other.run}: weights of another network than {run}: {len(strange)} tensors "
                                  f"are missing or of another shape, such as {min(strange)}")
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                weights[name] = tensor + other.share * theirs[name]
    return weights


def _refuse_other_meaning(other: Path, run: Path) -> None:
    """:class:`CheckpointError` where the same number in a heatmap of both runs does not say the same."""
    if not (other / CONFIG).is_file():
        raise CheckpointError(f"--mix {other}: no run folder; a mean is taken with the weights of another run of "
                              "'stagepose train', so give its folder")
    ours, theirs = _meaning(run), _meaning(other)
    if strange := [f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in ours if theirs[name] != ours[name]]:
        raise CheckpointError(f"--mix {other}: trained otherwise than {run}: {'; '.join(strange)}; give a run of the "
                              "same settings")


def _meaning(run: Path) -> dict[str, Any]:
    """What a pose run's weights are made for besides its network; nothing is told of a detector's."""
    config = config_of(run)
    with checkpoint.settings_of(run / CONFIG):
        pose, skeleton = config.get("pose", {}), config.get("skeleton", {})
        return {"keypoints": skeleton.get("names"), "codec": pose.get("codec"), "loss": pose.get("loss"),
                "box_padding": float(pose.get("box_padding", BOX_PADDING)),
                "join": asdict(StageOptions(**pose.get("join", {})))}


def _of_step(run: Path, step: int | None) -> checkpoint.Tensors:
    if step is not None and checkpoint.last_stage(run) is not None:
        raise ConfigError(f"{run}: --step {step} means nothing for stages trained one by one, whose last batch "
                          f"norms are measured at their end; leave it out")
    return checkpoint.load_weights(run) if step is None else checkpoint.certain_step(run, step).parts["ema"]
