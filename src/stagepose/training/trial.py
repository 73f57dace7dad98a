"""Whether a network does what training, export and fine-tuning ask of it, tried on four drawn pictures.

``stagepose networks NAME --check``. K keypoints.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stagepose.heatmaps import UdpDark
from stagepose.modelinfo import ModelInfo
from stagepose.skeleton import Skeleton
from stagepose.training import targets
from stagepose.training.export import MAX_PARITY_ERROR, drawn_crops, export_pose
from stagepose.training.inference import PoseInference
from stagepose.training.losses import stage_losses
from stagepose.training.networks.zoo import build, stages_of
from stagepose.training.presets import RECIPES, for_cpus, of_network
from stagepose.training.unfold import rebuild

CODEC = UdpDark(input_size=(64, 96))  # as small as all of a network's levels are still there
NEAR_ZERO = 1.0  # logits that a fresh network may give: the softmax over them is still nearly flat
STEPS, LR = 60, 2e-3
LEARNT = 0.5  # of the way from a flat heatmap's loss to the least there can be
GAUSSIAN = "call the last layer of a head 'out' and end the constructor with init.gaussian_(net)"


@dataclass(frozen=True)
class Finding:
    """``what`` was seen, and what to do about it where it is not well; ``needed``: no training without it."""

    ok: bool
    what: str
    remedy: str = ""
    needed: bool = False

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'no'}  {self.what}" + (f"; {self.remedy}" if not self.ok and self.remedy else "")


def tried(name: str, keypoints: int) -> Iterator[Finding]:
    """What can be told of a network by its name, one after the other; nothing more after what all else needs."""
    torch.manual_seed(0)
    network = build(name, keypoints)
    shapes = _tried("outputs", _outputs, network, keypoints, needed=True)
    yield shapes
    if shapes.ok:
        yield _tried("gradients", _gradients, network, needed=True)
        yield _tried("start", _start, network)
        yield _tried("learning", _learning, network, keypoints, needed=True)
        exported = _tried("export", _export, network, keypoints)
        yield exported
        if exported.ok:
            yield _tried("a model file", _unfolding, network, lambda: build(name, keypoints), keypoints)
    yield _recipe(name)


def _tried(topic: str, what: Callable[..., Finding], *given: object, needed: bool = False) -> Finding:
    """A finding, also where it could not be made: whatever a network of somebody else's fails at."""
    try:
        return what(*given)
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Finding(False, f"{topic}: {type(error).__name__}: {said}", needed=needed)


def _pictures() -> Tensor:
    """(4, 3, H, W) float 0..255."""
    return torch.from_numpy(drawn_crops(CODEC.input_size)).permute(0, 3, 1, 2).float()


def _model(network: nn.Module) -> PoseInference:
    return PoseInference(network, CODEC, "kl")


def _outputs(network: nn.Module, keypoints: int) -> Finding:
    with torch.no_grad():
        outputs = _model(network).eval().logits(_pictures())
    found = [[tuple(level.shape) for level in stage] for stage in outputs]
    across, down = CODEC.heatmap_size
    wanted = [[(4, keypoints, down // 2**level, across // 2**level) for level in range(len(stage))] for stage in found]
    told = "[" + ", ".join("[" + ", ".join(f"{s[-1]}x{s[-2]}" for s in stage) + "]" for stage in found) + "]"
    what = f"outputs [stage][level] of {CODEC.input_size[0]}x{CODEC.input_size[1]} pixels: {told}"
    if not found or not all(found) or found != wanted:
        return Finding(False, what, f"each level must be (N, {keypoints}, H / s, W / s) with s = 4, 8, 16, 32: "
                       f"{wanted} here, not {found}", needed=True)
    if len(found) != stages_of(network):
        return Finding(False, f"{what}, but stage_count is {stages_of(network)}",
                       f"give the network stage_count = {len(found)}", needed=True)
    strides = ", ".join(str(4 * 2**level) for level in range(max(map(len, found))))
    return Finding(True, f"{what}, strides {strides}", needed=True)


def _gradients(network: nn.Module) -> Finding:
    outputs = _model(network).train().logits(_pictures())
    total = torch.stack([level.square().sum() for stage in outputs for level in stage]).sum()
    total.backward()  # type: ignore[no-untyped-call]
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    network.zero_grad(set_to_none=True)
    count = sum(1 for p in network.parameters() if p.requires_grad)
    if idle:
        return Finding(False, f"gradients: {len(idle)} of {count} parameters have none, such as {idle[0]}",
                       "leave out what no output depends on: torchrun's processes wait for it", needed=True)
    return Finding(True, f"gradients: all {count} parameters have one", needed=True)


def _start(network: nn.Module) -> Finding:
    with torch.no_grad():
        outputs = _model(network).train().logits(_pictures())
    most = max(float(level.abs().max()) for stage in outputs for level in stage)
    heads = [name for name, _ in network.named_modules() if name.rpartition(".")[2] == "out"]
    what = f"start: heatmap logits up to {most:.2g}, {len(heads)} layers named 'out'"
    return Finding(bool(heads) and most < NEAR_ZERO, what, GAUSSIAN)


def _learning(network: nn.Module, keypoints: int) -> Finding:
    """Four pictures by heart, in batch statistics, as training begins."""
    model, wanted = _model(network).train(), _four_targets(keypoints)
    labelled = torch.ones(4, keypoints)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0)
    losses = []
    for _ in range(STEPS):
        outputs = model.logits(_pictures())
        finest = [[stage[0]] for stage in outputs]
        losses.append(float(stage_losses(finest, wanted, labelled, kind="kl", level_weights=(1.0,))[-1].detach()))
        loss = torch.stack(stage_losses(outputs, wanted, labelled, kind="kl",
                                        level_weights=(1.0, *(0.25,) * (len(wanted) - 1)))).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.zero_grad(set_to_none=True)
    flat, least = math.log(math.prod(CODEC.heatmap_size)), _entropy(wanted[0])
    what = f"learns 4 pictures by heart: loss {losses[0]:.2f} -> {losses[-1]:.2f} in {STEPS} steps (least {least:.2f})"
    return Finding(losses[-1] < flat - LEARNT * (flat - least), what,
                   f"look for what keeps the pictures from the heads, and whether it begins near zero: {GAUSSIAN}",
                   needed=True)


def _four_targets(keypoints: int) -> list[Tensor]:
    """Of all levels, finest first, each (4, K, h, w)."""
    points = np.random.default_rng(0).uniform(8, min(CODEC.input_size) - 8, (4, keypoints, 2))
    codecs = targets.level_codecs(CODEC, 4, (2.0, 1.5, 1.0, 0.75))
    return [targets.encode(codec, points, np.ones((4, keypoints), dtype=bool)) for codec in codecs]


def _entropy(target_NKhw: Tensor) -> float:
    """The loss of a network that gives just the target."""
    unit = target_NKhw.flatten(2) / target_NKhw.sum((2, 3))[..., None]
    return float(-(unit * unit.clamp_min(1e-30).log()).sum(-1).mean())


def _written(network: nn.Module, path: Path, keypoints: int) -> float:
    """The largest difference of a model file that was written of it."""
    skeleton = Skeleton(name="any", names=tuple(f"keypoint_{number}" for number in range(1, keypoints + 1)))
    info = ModelInfo(kind="pose", name="trial", input_size=CODEC.input_size, skeleton=skeleton, codec=CODEC)
    return export_pose(_model(network).eval(), path, info, bits=32).max_difference


def _export(network: nn.Module, keypoints: int) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        most = _written(network, Path(folder) / "trial.onnx", keypoints)
    return Finding(True, f"exports: ONNX differs from torch by {most:.2g} of a heatmap's range "
                         f"(at most {MAX_PARITY_ERROR} is taken)")


def _unfolding(network: nn.Module, again: Callable[[], nn.Module], keypoints: int) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.onnx"
        _written(network, path, keypoints)
        try:
            rebuild(path, _model(again()).eval())
        except Exception as error:
            said = str(error).partition(": ")[2].splitlines()[0]
            return Finding(False, f"a model file of it does not become a network again ({said})",
                           "give --init and --teacher its run folder")
    return Finding(True, "a model file of it becomes a network that learns again (--init FILE.onnx)")


def _recipe(name: str) -> Finding:
    recipe = of_network(name)
    width, height = recipe.pose.size
    return Finding(True, f"recipe: {RECIPES.get(name, for_cpus).__name__}, {recipe.train.samples:,} pictures in "
                         f"batches of {recipe.train.batch}, lr {recipe.train.lr:g}, {height}x{width} (presets.py)")
