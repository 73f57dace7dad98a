"""How a network begins: Gaussian weights, a later stage that changes nothing, or tensors from a file.

The report found the Gaussian better than ImageNet weights where data and time are plenty (its table 2), and an
auxiliary keypoint set best of all: train on it, then :func:`load_file`. ImageNet weights come with EfficientNet-Lite
trunks alone (:func:`.efficientnet_lite.load_imagenet`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as read_safetensors
from torch import nn

from stagepose.errors import ModelError

HEAD_STD = 1e-3  # so that all heatmaps begin near zero, the softmax over them near uniform
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_PREFIX = "network."  # of a run's checkpoints, which hold the network inside PoseInference


def gaussian_(module: nn.Module, std: float | None = None) -> None:
    """Kaiming fan-out for convolutions, N(0, .001) for the last layer (``out``) of every heatmap head.

    The report doesn't give its standard deviation; fan-out is what its successor's backbone uses. ``std`` draws all
    convolutions but the last from N(0, std) instead; .01 was usual before Kaiming.
    """
    if all(p.is_meta for p in module.parameters()):
        return  # only counted: nothing to draw, and pretending to takes seconds
    for m in module.modules():
        if isinstance(m, _CONVOLUTIONS):
            if std is None:
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(m.weight, std=std)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
    for m in _last_layers(module):
        nn.init.normal_(m.weight, std=HEAD_STD)


def zero_heads_(module: nn.Module) -> None:
    """Zero the last layer of every heatmap head in ``module``: a residual stage that begins as the identity."""
    for m in _last_layers(module):
        nn.init.zeros_(m.weight)
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def load_file(network: nn.Module, path: str | Path, *, partial: bool = False) -> list[str]:
    """Fill ``network`` from a .safetensors file of its own or of a run -> names of the tensors that start fresh.

    ``partial`` takes what agrees in name and shape: an earlier stage, a network for other keypoints. Otherwise every
    tensor must be there. Raises :class:`ModelError`.
    """
    try:
        found = read_safetensors(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable .safetensors file: {error}") from error
    if any(name.startswith(_PREFIX) for name in found):
        found = {name.removeprefix(_PREFIX): t for name, t in found.items() if name.startswith(_PREFIX)}
    own = network.state_dict()
    fits = {name: t for name, t in found.items() if name in own and t.shape == own[name].shape}
    fresh = [name for name in own if name not in fits]
    if not fits or (fresh and not partial):
        raise ModelError(f"{path}: {len(fresh)} of the network's {len(own)} tensors are not in it with their shape, "
                         f"{fresh[0]} the first; give weights of the same network, or take what fits with partial")
    bad = [name for name, t in fits.items() if not bool(torch.isfinite(t).all())]
    if bad:
        raise ModelError(f"{path}: tensor {bad[0]} holds numbers that are not finite; give another file")
    network.load_state_dict({**own, **fits})
    return fresh


def _last_layers(module: nn.Module) -> list[nn.Conv2d]:
    return [m for name, m in module.named_modules() if name.rpartition(".")[2] == "out" and isinstance(m, nn.Conv2d)]
