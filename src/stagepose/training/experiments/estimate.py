"""How long an experiment takes: from a throughput that somebody measured, or from a few steps here."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from stagepose.errors import ConfigError
from stagepose.training.experiments.plan import Arm, Experiment
from stagepose.training.machine import autocast
from stagepose.training.networks import cost, zoo

STEPS, WARM_UP = 3, 1
MOST_AT_ONCE = 32  # pictures in a step that is timed; on a CPU fewer
ON_A_CPU = 4


@dataclass(frozen=True)
class Estimate:
    """One arm: multiply-accumulates of one picture forward, samples of the runs to do, pictures a second."""

    arm: str
    gmacs: float
    samples: int
    per_second: float

    @property
    def hours(self) -> float:
        """Of the device, for all runs to do."""
        return self.samples / self.per_second / 3600


def estimate(chosen: Experiment, keypoints: int, device: str, throughput: float | None = None,
             done: Mapping[str, Collection[int]] | None = None) -> list[Estimate]:
    """Every arm's time, but for its seeds that are ``done``.

    ``throughput``: training pictures a second of the first arm's network on the device meant;

    the others' follow by their multiply-accumulates. None times a few steps of every network on ``device``: the network
    and its gradients alone, without reading and augmenting.
    """
    if throughput is not None and not 0 < throughput < math.inf:
        raise ConfigError(f"throughput is {throughput}, expected pictures a second: a finite number above 0")
    gmacs = [_gmacs(arm, keypoints) for arm in chosen.arms]
    rates = ([throughput * gmacs[0] / one for one in gmacs] if throughput is not None else
             [_measured(arm, keypoints, device) for arm in chosen.arms])
    left = [chosen.seeds - len((done or {}).get(arm.name, ())) for arm in chosen.arms]
    return [Estimate(arm.name, one, arm.shown * runs, rate)
            for arm, one, runs, rate in zip(chosen.arms, gmacs, left, rates, strict=True)]


def _gmacs(arm: Arm, keypoints: int) -> float:
    network = cost.on_meta(partial(zoo.build, arm.recipe.pose.network, keypoints))
    return cost.count(network, arm.recipe.pose.size).macs / 1e9


def _measured(arm: Arm, keypoints: int, device: str) -> float:
    """Pictures a second, forward and backward."""
    width, height = arm.recipe.pose.size
    cuda = torch.device(device).type == "cuda"
    batch = min(arm.recipe.train.batch, MOST_AT_ONCE if cuda else ON_A_CPU)
    network = zoo.build(arm.recipe.pose.network, keypoints).to(device).to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        began = time.perf_counter()
        with autocast(device, arm.recipe.train.bf16):
            total = torch.stack([level.float().square().mean() for stage in network(images) for level in stage]).sum()
        torch.autograd.backward(total)
        total.item()  # waits for the device
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return batch / statistics.median(seconds[WARM_UP:])
