"""A trained network that teaches another: what it sees in a sample becomes a part of the sample's target.

Distillation (Hinton et al. 2015) on heatmaps. A label is one point; a teacher's heatmap also says how sure one can be,
and where else the joint might be. Where a joint has no label, as the faces of LSP-extended have none, the teacher is
the only one to say anything. B samples, K keypoints of the learner, h w heatmap size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stagepose.errors import ConfigError
from stagepose.geometry import Float, Size
from stagepose.heatmaps import Codec
from stagepose.runtime import PoseModel, read_info
from stagepose.skeleton import Skeleton, map_by_name
from stagepose.training import start
from stagepose.training.inference import PoseInference
from stagepose.training.machine import bf16_supported
from stagepose.training.trained import is_model_file, open_taught

SURE = 0.3  # a heatmap's peak from which a teacher is believed about a joint that nobody has labelled


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that stays as it is, on the learner's device.

    ``ask`` takes pictures (B, 3, h, w) float 0..255 of its ``size`` (width, height) to heatmaps; ``places`` (K,) of
    the learner's keypoints among its own, -1 for those that it does not know; ``sha256`` of its weights, by which a run
    knows it again: a file's as they are stored, for what they are unfolded to differs in the last bits with the number
    of threads.
    """

    ask: Callable[[Tensor], Tensor]
    size: Size
    places: Tensor
    sha256: str

    @torch.no_grad()
    def heatmaps(self, images: Tensor, size: Size) -> Tensor:
        """Pictures (B, 3, h, w) float 0..255 at its own size -> (B, K, *size) float, 0 where it knows nothing."""
        maps = self.ask(images).clamp_min(0)
        maps = maps[:, self.places.clamp_min(0)] * (self.places >= 0)[:, None, None]
        if maps.shape[-2:] != size[::-1]:  # corners on corners, as the grids of the unbiased codec lie
            maps = functional.interpolate(maps, size=size[::-1], mode="bilinear", align_corners=True)
        return maps


def open_teacher(source: str | Path, learner: Skeleton, codec: Codec, device: str) -> Teacher:
    """From a run folder, a model file or a shipped name.

    :class:`ConfigError` where what it sees can't be laid over the learner's heatmaps.
    """
    pose = open_taught(str(source))
    if not _same_view(pose.codec, codec):
        raise ConfigError(f"--teacher {source}: its input of {_by(pose.codec.input_size)} with codec "
                          f"{pose.codec.name!r} does not lie over {_by(codec.input_size)} with {codec.name!r}; give a "
                          "teacher of the same codec and of the same shape, of any size")
    if not pose.model.softmax:
        raise ConfigError(f"--teacher {source}: it was trained with loss 'mse', so its heatmaps do not say how likely "
                          "a joint is at each pixel; give a teacher that was trained with 'kl'")
    places = map_by_name(pose.skeleton, learner)
    if not (places >= 0).any():
        raise ConfigError(f"--teacher {source}: it knows none of the keypoints of {learner.name!r}: "
                          f"{', '.join(pose.skeleton.names)}")
    asked = _of_file(str(source)) if _best_as_file(str(source), device) else _of_network(pose.model.to(device))
    return Teacher(asked, pose.codec.input_size, torch.from_numpy(np.asarray(places)).to(device),
                   start.digest_of(str(source)))


def _of_network(model: PoseInference) -> Callable[[Tensor], Tensor]:
    model.requires_grad_(False)
    return lambda images: model.heatmaps(model.logits(images)[-1][0])


def _best_as_file(source: str, device: str) -> bool:
    """Whether ONNX Runtime is to run it: half of PyTorch's time without bfloat16 (benchmarks/teacher.md)."""
    if torch.device(device).type != "cpu" or bf16_supported("cpu") or not is_model_file(source):
        return False
    return bool(read_info(source).stages.get("reading", "last") == "last")


def _of_file(source: str) -> Callable[[Tensor], Tensor]:
    model = PoseModel(source, threads=torch.get_num_threads())
    return lambda images: torch.from_numpy(model(images.round().byte().permute(0, 2, 3, 1).numpy()))


def taught(drawn_BKhw: Tensor, shown_BKhw: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Targets of unit sum -> (B, K, h, w), and which joints have one now: (B, K).

    ``drawn`` from labels, all zero where there is none; ``shown`` by the teacher, all zero where it knows nothing.
    ``share`` of a labelled joint's target is the teacher's; a joint without a label takes all of it, if the teacher is
    :data:`SURE`.
    """
    drawn, labelled = _unit(drawn_BKhw)
    shown, known = _unit(shown_BKhw)
    sure = known & (shown_BKhw.flatten(2).amax(-1) >= SURE)
    weight = torch.where(labelled, known * share, sure.float())[..., None, None]
    return drawn * (1 - weight) + shown * weight, labelled | sure


def _unit(maps_BKhw: Tensor) -> tuple[Tensor, Tensor]:
    mass = maps_BKhw.sum((2, 3), keepdim=True)
    return maps_BKhw / mass.clamp_min(1e-6), mass[..., 0, 0] > 0


def _same_view(theirs: Codec, ours: Codec) -> bool:
    """Whether both heatmaps cover the same part of one picture."""
    width, height = theirs.input_size
    return (width * ours.input_size[1] == height * ours.input_size[0]
            and bool(np.allclose(_extent(theirs), _extent(ours))))


def _extent(codec: Codec) -> Float:
    """Where the first and the last heatmap pixel stand, as shares of the input: (2, 2)."""
    offset, pitch = codec.grid
    last = offset + pitch * (np.array(codec.heatmap_size) - 1)
    return np.asarray(np.stack([offset, last]) / (np.array(codec.input_size) - 1))


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
