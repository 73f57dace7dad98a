"""Blocks where the map is large: ``python benchmarks/spatial.py TRAIN.json VAL.json --work DIR`` trains ResNet-101's
{3, 4, 23, 3} against the report's {4, 8, 16, 3} and {4, 8, 18, 3} in narrow copies; ``--report`` writes spatial.md.

The report: 73.7 AP with ResNet-101 and 74.1 with {4, 8, 16, 3}: spatial information counts for more than semantic.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from research import arguments, comparison, judge, laboratory_sets

from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17
from stagepose.training import loop
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig
from stagepose.training.networks.blocks import Bottleneck
from stagepose.training.networks.multistage import MultiStage
from stagepose.training.networks.resnet import ResNetStem, ResNetTrunk
from stagepose.training.networks.ustage import UStage
from stagepose.training.networks.zoo import RES101, SPATIAL101, SPATIAL101_EQUAL, StageOptions, in_a_row
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig

SEEDS = (1, 2, 3)
ARMS = {"3-4-23-3": RES101, "4-8-16-3": SPATIAL101, "4-8-18-3": SPATIAL101_EQUAL}
WIDTHS = (16, 32, 64, 128)  # a quarter of ResNet's
CODEC = UdpDark(input_size=(64, 96))
POSE = PoseConfig(network="1xres101", codec=CODEC)  # its name only: the networks here are narrow copies
TRAIN = TrainConfig(batch=64, samples=20_000, warmup=1_000, lr=2e-3, ema_decay=0.998, log_every=100, save_minutes=2)

DESIGN = """\
The report's comparison of ResNet-101's blocks at a small scale: one stage, a quarter of the width (2.9, 2.5 and 2.6 M
parameters, 98, 94 and 98 MMACs at 96x64), from a Gaussian start, {samples:,} samples of about 6,000 people of COCO.
Judged on held-out people of the training file and on the public validation subset, ground-truth boxes, no flip test.
The report's figures (full width, all of COCO): 73.7 AP with {{3, 4, 23, 3}}, 74.1 with {{4, 8, 16, 3}}."""

def network(blocks: tuple[int, ...]) -> MultiStage:
    """One stage of the report, four times narrower."""
    trunk = ResNetTrunk(block=Bottleneck, blocks=blocks, widths=WIDTHS, in_channels=64)
    stage = UStage(trunk, trunk.out_channels, width=64, keypoints=len(COCO_17))
    return in_a_row(ResNetStem(64), [stage], StageOptions())


def work(folder: Path, train: Path, val: Path, seeds: list[int]) -> None:
    store, sets = laboratory_sets(folder, train, val, CODEC)
    for seed in seeds:
        for arm, blocks in ARMS.items():
            torch.manual_seed(seed)
            task = PoseTask(network(blocks), POSE, PeopleSets([store]), seed=seed)
            model = loop.train(task, replace(TRAIN, seed=seed), folder / f"seed{seed}" / arm)
            assert isinstance(model, PoseInference)
            for where, (dataset, images) in sets.items():
                judge(model, CODEC, dataset, images, folder / f"{where}-{seed}-{arm}.json")


def main() -> None:
    told = arguments(__doc__, SEEDS)
    if told.report:
        comparison("Blocks where the map is large", "spatial", told, list(ARMS), "3-4-23-3",
                   DESIGN.format(samples=TRAIN.samples))
    else:
        work(told.work, told.train, told.val, told.seeds)


if __name__ == "__main__":
    main()
