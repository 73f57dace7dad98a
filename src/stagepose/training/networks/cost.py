"""What a network costs: parameters, multiply-accumulates, and milliseconds on this CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagepose.geometry import Size

COUNTED = "multiply-accumulates of convolutions, transposed convolutions and linear layers, for one person"
_MIN_RUNS, _MAX_RUNS, _MAX_SECONDS = 5, 30, 4.0


@dataclass(frozen=True, kw_only=True)
class Count:
    """``macs``: :data:`COUNTED`, exactly; norms, activations, pooling and resizing are left out.

    ``levels``: heatmaps of how many sizes each stage gives.
    """

    macs: int
    levels: tuple[int, ...]


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``make`` builds, without memory for its weights; it can be counted, not run."""
    with torch.device("meta"):
        network = make().eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.ReLU)):  # shapes pass through; torch's own rule for it is slow
            module.forward = _same  # type: ignore[method-assign]
    return network


def _same(input: Tensor) -> Tensor:
    return input


def parameters(network: nn.Module) -> int:
    """Every number that training may change, batch norms' statistics not among them."""
    return sum(p.numel() for p in network.parameters())


def count(network: nn.Module, size: Size) -> Count:
    """Run once for one person of ``size`` (width, height), on whatever device the network is."""
    macs = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += _macs(module, inputs[0], output)

    counted = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, counted)]
    with torch.no_grad():
        outputs = network(torch.empty(1, 3, size[1], size[0], device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return Count(macs=macs, levels=tuple(len(stage) for stage in outputs))


def _macs(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """Of one call: a convolution works once per output, a transposed one once per input."""
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.ConvTranspose2d):
        return given.numel() * module.weight[0].numel()
    assert isinstance(module, nn.Linear)
    return output.numel() * module.in_features


@torch.inference_mode()
def latency(network: nn.Module, size: Size) -> float:
    """Median milliseconds for one person of ``size`` (width, height) on this CPU with torch's present threads."""
    network = network.eval().to(memory_format=torch.channels_last)
    images = torch.randn(1, 3, size[1], size[0]).contiguous(memory_format=torch.channels_last)
    network(images)  # the first run allocates
    times: list[float] = []
    while len(times) < _MIN_RUNS or (sum(times) < _MAX_SECONDS and len(times) < _MAX_RUNS):
        start = time.perf_counter()
        network(images)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1e3
