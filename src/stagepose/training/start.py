"""Where a pose network's weights begin: Gaussian, an ImageNet trunk, a run, a file; also of other keypoints.

The report found the Gaussian better than ImageNet weights, and an auxiliary keypoint set best of all (its table 2):
train on that, then start from its run, whose heads find their places by the keypoints' names. K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from stagepose.errors import CheckpointError, ModelError
from stagepose.runfiles import CONFIG, read_object
from stagepose.runtime import read_info
from stagepose.skeleton import Skeleton, map_by_name
from stagepose.training import checkpoint
from stagepose.training.inference import PoseInference
from stagepose.training.networks.cost import on_meta
from stagepose.training.networks.efficientnet_lite import load_imagenet
from stagepose.training.networks.hourglass import StackedHourglass
from stagepose.training.networks.init import gaussian_, zero_heads_
from stagepose.training.networks.multistage import MultiStage
from stagepose.training.networks.zoo import StageOptions, build, trunk_of
from stagepose.training.trained import POSE_KINDS, is_model_file, network_in, rebuild_told, told_network
from stagepose.training.unfold import Rebuilt, rebuild, unfolded

Batches = Callable[[], Iterable[Tensor]]  # float pictures (N, 3, H, W) in 0..255, to measure batch norms on
Make = Callable[[int], PoseInference]  # the same architecture for so many keypoints


def fresh(network: str, keypoints: int, join: StageOptions, *, stages: int = 0, imagenet: bool = False,
          std: float = 0.0) -> nn.Module:
    """A network from a Gaussian start, with an ImageNet trunk where that is asked for; std 0 is Kaiming's."""
    net = build(network, keypoints, join, stages=stages)
    if std:
        gaussian_(net, std)
        for stage in net.stages[1:] if isinstance(net, MultiStage) and join.residual else ():
            zero_heads_(stage)
    if imagenet:
        load_imagenet(trunk_of(net))
    return net


def begin(model: PoseInference, init: str, *, skeleton: Skeleton, make: Make, batches: Batches) -> str:
    """Fill ``model`` from ``init`` -> a line that says what was taken.

    ``init`` is a run folder, a .safetensors file, a model file or a shipped name, also of a network that ``model``'s
    has more than. Heads are mapped by keypoint name where its skeleton is another; keypoints that it lacks start fresh.
    Raises :class:`CheckpointError` or :class:`ModelError`.
    """
    if is_model_file(init):
        theirs = read_info(init).skeleton
        weights = unfolded(_as_in_file(init, make, len(skeleton)), batches())
    else:
        weights, theirs = checkpoint.load_weights(init), skeleton_of(Path(init))
    found = ""
    if theirs is not None and theirs.names != skeleton.names:
        weights, count = mapped_heads(weights, model, theirs, skeleton)
        found = f"; {count} of {len(skeleton)} keypoints found by name among the {len(theirs)} of {theirs.name!r}"
    return "starts from " + checkpoint.fill_matching(model, weights, init) + found


def require_start(init: str, make: Make, keypoints: int) -> None:
    """Before any picture is looked at: the errors of :func:`begin` about what ``init`` is, and whether any of it fits.

    ``keypoints`` are those of the network that is to begin with it.
    """
    if is_model_file(init):
        _as_in_file(init, make, keypoints)
        return
    config = Path(init) / CONFIG
    kind = read_object(config).get("kind", "pose") if config.is_file() else "pose"
    if kind not in POSE_KINDS:
        raise CheckpointError(f"{init}: a run of kind {kind!r}; a pose network begins with one of a pose network")
    checkpoint.matching(on_meta(lambda: make(keypoints)), checkpoint.load_weights(init), init)


def _as_in_file(init: str, make: Make, keypoints: int) -> Rebuilt:
    """A model file's network: the one that ``make`` makes, or one that has less."""
    info = read_info(init)
    count = len(info.skeleton) if info.skeleton else keypoints
    like = make(count)
    wanted, told = like.network.state_dict(), network_in(init, info)
    try:
        return rebuild(init, like)
    except ModelError:
        if not told:
            raise
        like = told_network(init, info, told, count)
        theirs = like.network.state_dict()
        if not all(name in wanted and wanted[name].shape == tensor.shape for name, tensor in theirs.items()):
            raise
        return rebuild_told(init, info, like)


def digest(init: str | None) -> str | None:
    """sha256 of the weights that ``init`` stands for, of whichever kind of network; None without any."""
    return None if init is None else digest_of(init)


def digest_of(source: str) -> str:
    """The same of a run folder, a .safetensors file, a model file or a shipped name."""
    return read_info(source).sha256 if is_model_file(source) else checkpoint.digest(checkpoint.load_weights(source))


def skeleton_of(run: Path) -> Skeleton | None:
    """The skeleton that a run folder trained, None where ``run`` is none."""
    config = run / CONFIG
    if not config.is_file():
        return None
    described = read_object(config).get("skeleton")
    return Skeleton.from_json(described) if described else None


def mapped_heads(weights: checkpoint.Tensors, model: PoseInference, theirs: Skeleton,
                 ours: Skeleton) -> tuple[checkpoint.Tensors, int]:
    """Weights of a network for other keypoints, in the order of ours -> (weights, how many keypoints were found).

    The last layer of a head has a row for each keypoint, what reads heatmaps has a column for each; they are taken by
    name, and keypoints that are not found, maybe all, keep the values of ``model``, the same network for ours.
    """
    source = torch.from_numpy(map_by_name(theirs, ours))
    known = source >= 0
    out, own, readers = dict(weights), model.state_dict(), _readers(model.network)
    for name in weights.keys() & own.keys():
        mine, given = own[name].clone(), weights[name]
        is_head = name.rpartition(".")[0].rpartition(".")[2] == "out"  # docs/add_a_network.md: a head's last layer
        if is_head and given.shape == (len(theirs), *mine.shape[1:]):
            mine[known] = given[source[known]]
            out[name] = mine
        elif name in readers and given.shape[0] == mine.shape[0]:
            features = torch.arange(mine.shape[1] - len(ours))
            mine[:, torch.cat([features, len(features) + torch.where(known)[0]])] = given[
                :, torch.cat([features, len(features) + source[known]])]
            out[name] = mine
    return out, int(known.sum())


def _readers(network: nn.Module) -> set[str]:
    """Names, within a :class:`PoseInference`, of convolutions whose last inputs are heatmaps."""
    if isinstance(network, MultiStage) and network.concat_heatmaps:
        return {f"network.links.{number}.0.weight" for number in range(len(network.links))}
    if isinstance(network, StackedHourglass):
        return {f"network.{name}" for name, _ in network.named_parameters() if name.endswith(".heatmaps.weight")}
    return set()
