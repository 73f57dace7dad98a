"""What a network costs: parameters, multiply-accumulates, and milliseconds on this CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stagepose.geometry import Size
from stagepose.training.networks.attention import in_parts

COUNTED = "multiply-accumulates of convolutions, linear layers and matrix products, for one person"
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
    with torch.no_grad(), in_parts(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        outputs = network(torch.empty(1, 3, size[1], size[0], device=next(network.parameters()).device))
    return Count(macs=counter.get_total_flops() // 2, levels=tuple(len(stage) for stage in outputs))


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
