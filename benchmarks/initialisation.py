"""Gaussian, ImageNet or an auxiliary keypoint set as a start.

``python benchmarks/initialisation.py TRAIN.json VAL.json --lsp LSP.json --work DIR`` trains every arm for every seed
(resumable), with ``--report`` it writes initialisation.md.

The report's table 2 compares Gaussian and ImageNet weights and says that a large auxiliary keypoint set is best of all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from research import arguments, comparison, judge, laboratory_sets, packed

from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17, LSP_14, Skeleton
from stagepose.training import loop, start
from stagepose.training.crops import CropStore
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig

SEEDS = (1, 2, 3)
SAMPLES = 8_000
CODEC = UdpDark(input_size=(64, 96))
POSE = PoseConfig(network="lite0-u", codec=CODEC)
TRAIN = TrainConfig(batch=64, samples=SAMPLES, warmup=1_000, lr=2e-3, ema_decay=0.998, log_every=100, save_minutes=2)
ARMS = {  # name: (what comes before, how often the samples are shown, ImageNet trunk)
    "Gaussian": ("", 1, False),
    "Gaussian, twice as long": ("", 2, False),
    "LSP-extended": ("LSP-extended first", 1, False),
    "ImageNet": ("", 1, True),
    "ImageNet, then LSP-extended": ("ImageNet, LSP-extended first", 1, True),
}

DESIGN = """\
The report's table 2 at a small scale: `lite0-u` at 96x64, {samples:,} samples of about 6,000 people of COCO after each
start, KL loss, AdamW 2e-3, nothing frozen, an ImageNet trunk at half that rate. LSP-extended first: {samples:,} samples
of its 9,016 people with their 14 joints; the heads of the 12 that COCO has too are found by name, the five of the face
start fresh. Judged on held-out people of the training file and on the public validation subset, ground-truth boxes, no
flip test.
The report's figures (its competition networks, all of COCO): Gaussian 77.5 against ImageNet 76.9 with 3xres50."""

def trained(out: Path, store: CropStore, skeleton: Skeleton, seed: int, *, times: int, imagenet: bool,
            before: Path | None) -> PoseInference:
    """A run from one start to its end."""
    torch.manual_seed(seed)
    network = start.fresh(POSE.network, len(skeleton), POSE.join, imagenet=imagenet and before is None)
    task = PoseTask(network, POSE, PeopleSets([store]), seed=seed)
    if before is not None:
        start.begin(task.model, str(before), skeleton=skeleton, batches=list,
                    make=lambda count: PoseInference(build(POSE.network, count), CODEC, POSE.loss))
    slower = (("network.stages.0.trunk.", 0.5),) if imagenet else ()
    model = loop.train(task, replace(TRAIN, samples=SAMPLES * times, seed=seed, slower=slower), out)
    assert isinstance(model, PoseInference)
    return model


def work(folder: Path, train: Path, val: Path, lsp: Path, seeds: list[int]) -> None:
    store, sets = laboratory_sets(folder, train, val, CODEC)
    poses = packed(lsp, folder, CODEC, LSP_14)
    for seed in seeds:
        for arm, (first, times, imagenet) in ARMS.items():
            files = {where: folder / f"{where}-{seed}-{arm}.json" for where in sets}
            if all(file.is_file() for file in files.values()):
                continue
            before = folder / f"seed{seed}" / first if first else None
            if before is not None:
                trained(before, poses, LSP_14, seed, times=1, imagenet=imagenet, before=None)
            model = trained(folder / f"seed{seed}" / arm, store, COCO_17, seed, times=times, imagenet=imagenet,
                            before=before)
            for where, (dataset, images) in sets.items():
                judge(model, CODEC, dataset, images, files[where])


def main() -> None:
    told = arguments(__doc__, SEEDS)
    if told.report:
        comparison("What a network starts from", "initialisation", told, list(ARMS), "Gaussian",
                   DESIGN.format(samples=SAMPLES))
    else:
        work(told.work, told.train, told.val, told.lsp, told.seeds)


if __name__ == "__main__":
    main()
