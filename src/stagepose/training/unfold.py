"""A pose model's file back into a network that can be trained: the start of fine-tuning what somebody ships.

An exported file holds no batch norm after a convolution: it was folded into it. Here every such batch norm gets the
mean and the variance that its convolution really has on real crops, and a scale and shift that undo them. In evaluation
mode the network then computes what the file computes; in training mode it does so up to the batch's own statistics.
After transposed convolutions a file still has its batch norms, and where no convolution stands right before them, as
before an hourglass's; those are taken as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.aliases import Float32
from stagepose.errors import ModelError
from stagepose.runtime import PoseModel, resolve
from stagepose.training.export import MAX_PARITY_ERROR, drawn_crops, parity
from stagepose.training.inference import NumpyHeatmaps, PoseInference
from stagepose.training.losses import KINDS
from stagepose.training.storage import stored_weights

Convolution = nn.Conv2d | nn.ConvTranspose2d
Numbers = list[Float32]  # of a batch norm: scale, shift, mean, variance


class Rebuilt(NamedTuple):
    """A network with a model file's convolutions, and its batch norms that were folded, which do nothing as yet."""

    model: PoseInference
    norms: list[nn.BatchNorm2d]


class Layers(NamedTuple):
    """A network's layers as they are executed: convolutions, each with the batch norm right behind it, and the others.

    ``alone`` are batch norms behind something else, such as a sum.
    """

    convolutions: list[tuple[Convolution, nn.BatchNorm2d | None]]
    alone: list[nn.BatchNorm2d]


class Stored(NamedTuple):
    """A convolution of a file, and the numbers of the batch norm behind it, where it has one."""

    weight: Float32
    bias: Float32
    norm: Numbers


def unfolded(rebuilt: Rebuilt, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """State dict that computes what the model file computes, to be trained on.

    ``batches`` of float pictures (N, 3, H, W) in 0..255, from which the batch norms learn their statistics.
    """
    _learn_statistics(rebuilt.model, rebuilt.norms, batches)
    return rebuilt.model.state_dict()


def rebuild(path: str | Path, like: PoseInference) -> Rebuilt:
    """A copy of ``like`` that computes what the model file ``path`` computes, whichever codec and loss it learnt by.

    What the file does not hold, such as the coarser levels' heads, keeps ``like``'s values.
    :class:`ModelError` when the file's network is another one.
    """
    file = resolve(path)
    data = file.read_bytes()
    theirs = PoseModel(file, threads=1)  # refuses what is not a pose model of ours
    sample = drawn_crops(theirs.info.input_size)
    model = copy.deepcopy(like).cpu().requires_grad_(True).eval()
    order, alone = _layers_in_order(model, torch.from_numpy(sample))
    stored, stored_alone = _stored_layers(data, file)
    if ([tuple(conv.weight.shape) for conv, _ in order], [norm.num_features for norm in alone]) != (
            [each.weight.shape for each in stored], [len(each[0]) for each in stored_alone]):
        raise ModelError(f"{file}: {len(stored)} convolutions that are not those of this network ({len(order)}); "
                         f"start from a file of the same preset{_and_keypoints(theirs, model, sample)}")
    folded = []
    for (conv, norm), each in zip(order, stored, strict=True):
        _take(conv, norm, each)
        if norm is not None and not each.norm:
            folded.append(norm)
    for norm, numbers in zip(alone, stored_alone, strict=True):
        _take_norm(norm, numbers)
    differences = []
    for loss in KINDS:  # the file does not tell it
        model.read_as(theirs.codec, loss)
        differences.append(parity(data, {"crops": sample}, [NumpyHeatmaps(model)(sample)]))
        if differences[-1] <= MAX_PARITY_ERROR:
            return Rebuilt(model, folded)
    other = _not_in_files(like)
    raise ModelError(f"{file}: the network rebuilt from it differs from it by {min(differences):.3g} of a heatmap's "
                     f"range, more than {MAX_PARITY_ERROR}; "
                     + (f"of a model file only convolutions and batch norms are taken back, and this network learns "
                        f"{other} too: give its run folder" if other else "it was made by another architecture"))


def _not_in_files(model: nn.Module) -> str:
    """The first parameter that is of no convolution or batch norm; empty where all are."""
    known = {id(p) for m in model.modules() if isinstance(m, (Convolution, nn.BatchNorm2d)) for p in m.parameters()}
    return next((name for name, p in model.named_parameters() if id(p) not in known), "")


@torch.no_grad()
def _and_keypoints(theirs: PoseModel, model: PoseInference, sample: NDArray[np.uint8]) -> str:
    """What to say of keypoints, where a network finds another number of them than a file."""
    count, wanted = len(theirs.skeleton), NumpyHeatmaps(model)(sample).shape[1]
    return "" if count == wanted else f" and {wanted} keypoints, not {count}"


@torch.no_grad()
def _take(conv: Convolution, norm: nn.BatchNorm2d | None, stored: Stored) -> None:
    """The file's numbers for a convolution and its batch norm; one that was folded only shifts by the file's bias."""
    conv.weight.copy_(torch.from_numpy(stored.weight))
    none = np.zeros_like(stored.bias)
    folded = norm is not None and not stored.norm
    if conv.bias is not None:
        conv.bias.copy_(torch.from_numpy(none if folded else stored.bias))
    if norm is not None:
        _take_norm(norm, stored.norm or [none + 1, stored.bias, none, none + 1 - norm.eps])


@torch.no_grad()
def _take_norm(norm: nn.BatchNorm2d, numbers: Numbers) -> None:
    for own, theirs in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), numbers, strict=True):
        assert own is not None
        own.copy_(torch.from_numpy(theirs))


def _layers_in_order(model: PoseInference, sample: Tensor) -> Layers:
    """The layers that the output depends on, as they are executed."""
    ran: list[tuple[Convolution, nn.BatchNorm2d | None]] = []
    alone: list[nn.BatchNorm2d] = []
    convolved: Tensor | None = None

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal convolved
        if isinstance(module, Convolution):
            ran.append((module, None))
            convolved = output
        elif isinstance(module, nn.BatchNorm2d) and inputs[0] is convolved:
            ran[-1] = (ran[-1][0], module)
        elif isinstance(module, nn.BatchNorm2d):
            alone.append(module)

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, (Convolution, nn.BatchNorm2d))]
    model(sample).sum().backward()
    for hook in hooks:
        hook.remove()
    used = Layers([pair for pair in ran if pair[0].weight.grad is not None],
                  [norm for norm in alone if norm.weight.grad is not None])
    model.zero_grad(set_to_none=True)
    return used


def _stored_layers(data: bytes, file: Path) -> tuple[list[Stored], list[Numbers]]:
    """The file's convolutions, and its batch norms behind none, both in the order of its graph."""
    weights, nodes = stored_weights(data), onnx.load_model_from_string(data).graph.node
    convolutions = [node for node in nodes if node.op_type in ("Conv", "ConvTranspose")]
    norms = {node.input[0]: node for node in nodes if node.op_type == "BatchNormalization"}
    if made := [name for node in (*convolutions, *norms.values()) for name in node.input[1:] if name not in weights]:
        raise ModelError(f"{file}: computes its weights {made[0]!r} itself, as quantized files do; start from the file "
                         "that it was made of")
    found = []
    for node in convolutions:
        weight, *bias = [weights[name] for name in node.input[1:]]
        norm = norms.pop(node.output[0], None)
        channels = weight.shape[0] if node.op_type == "Conv" else weight.shape[1]
        found.append(Stored(weight, bias[0] if bias else np.zeros(channels, dtype=np.float32),
                            [weights[name] for name in norm.input[1:]] if norm else []))
    return found, [[weights[name] for name in norm.input[1:]] for norm in norms.values()]


def _learn_statistics(model: PoseInference, norms: list[nn.BatchNorm2d], batches: Iterable[Tensor]) -> None:
    """Give every batch norm its input's mean and variance over ``batches``, and a scale and shift that undo them."""
    counts = dict.fromkeys(norms, 0)
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms}  # of x and of x * x

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...], _output: object) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        for picture in inputs[0]:  # one by one: a first layer's batch takes half a gigabyte in float64
            x = picture.double()  # in float32 a mean far from 0 would lose the variance; this is always on the CPU
            counts[norm] += x[0].numel()
            sums[norm] += torch.stack([x.sum((1, 2)), x.square().sum((1, 2))])

    hooks = [norm.register_forward_hook(measure) for norm in norms]
    with torch.no_grad():
        for images in batches:
            model.logits(images.cpu())
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, square = sums[norm] / counts[norm]
        variance = (square - mean.square()).clamp_min(0)  # of a constant, whose last bit may be below it
        with torch.no_grad():
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_(variance)  # type: ignore[union-attr]
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.add_(mean)
