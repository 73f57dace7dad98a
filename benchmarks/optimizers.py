"""AdamW against Muon: ``python benchmarks/optimizers.py VAL.json WORK TRAIN.json[:WEIGHT] ...`` writes optimizers.md.

Each goes on from a model that ships, in crops of 128x96, by ``stagepose train``, with the same people in the same
order and views; only the optimizer and its learning rate differ. Judged on VAL.json at annotated boxes with flip test,
against AdamW's best learning rate, by a paired bootstrap over pictures. WORK keeps the runs: an ended one goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from report import commit, processor, set_name, table
from research import flip_tested

from stagepose.coco import read_dataset
from stagepose.evaluation import Judgement, compare, judge_keypoints
from stagepose.files import write_text
from stagepose.training.machine import use_threads
from stagepose.training.networks.zoo import build
from stagepose.training.optim import OptimizerKind, make_optimizer
from stagepose.training.presets import pose_preset

RESULT = Path(__file__).with_suffix(".md")
PRESET, START, SIZE = "pose-medium", "pose-medium", ("96", "128")
Arm = tuple[str, float]  # optimizer, learning rate
ARMS: tuple[Arm, ...] = (*(("adamw", rate) for rate in (4e-4, 8e-4, 1.6e-3)),
                         *(("muon", rate) for rate in (4e-4, 8e-4, 1.6e-3, 3.2e-3)))
BATCH, STEPS = 16, 5


def trained(arm: Arm, seed: int, arguments: argparse.Namespace) -> Path:
    """The run's folder."""
    run: Path = arguments.work / f"{arm[0]}-{arm[1]:g}-{seed}"
    subprocess.run([sys.executable, "-m", "stagepose", "train", PRESET, "--data", *arguments.train, "--out", str(run),
                    "--init", START, "--crops", str(arguments.work / "crops"), "--input-size", *SIZE, "--batch",
                    str(BATCH), "--optimizer", arm[0], "--lr", f"{arm[1]:g}", "--threads", "1", "--samples",
                    str(arguments.samples), "--seed", str(seed)], check=True)
    return run


def losses(run: Path) -> tuple[float, float]:
    """Mean of the heatmaps' loss in the second and in the last quarter."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values = np.array([line["heatmaps"] for line in lines if "heatmaps" in line])
    quarters = np.array_split(values, 4)
    return float(quarters[1].mean()), float(quarters[3].mean())


def judged(run: Path, val: Path) -> Judgement:
    return judge_keypoints(read_dataset(val), json.loads(flip_tested(run, val).read_text()))


def own_milliseconds(kind: OptimizerKind) -> float:
    """Of the optimizer alone, a step of one core's processor time: the least of a few."""
    use_threads(1)
    network = build(pose_preset(PRESET).pose.network, 17).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(network, kind, lr=1e-4, weight_decay=0.05)
    took = []
    for _ in range(STEPS):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        start = time.process_time()
        optimizer.step()
        took.append(time.process_time() - start)
    return min(took) * 1e3


def rows_of(arms: list[Arm], seed: int, arguments: argparse.Namespace) -> tuple[list[list[str]], dict[str, Arm]]:
    """A row an arm, compared with AdamW's best, and the best of each optimizer."""
    runs = {arm: trained(arm, seed, arguments) for arm in arms}
    results = {arm: judged(run, arguments.val) for arm, run in runs.items()}
    best = {kind: max((arm for arm in arms if arm[0] == kind), key=lambda arm: results[arm].numbers()[0])
            for kind in ("adamw", "muon")}
    rows = []
    for arm, run in runs.items():
        told = compare(results[best["adamw"]], results[arm])
        gap = ["", ""] if arm == best["adamw"] else [f"{told.b[0] - told.a[0]:+.4f}", str(told.intervals[0])]
        rows.append([arm[0], f"{arm[1]:g}", str(seed), *(f"{value:.3f}" for value in losses(run)), f"{told.b[0]:.4f}",
                     *gap])
    return rows, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("val", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, default=2, help="after the first, only the best rates of both")
    arguments = parser.parse_args()
    rows, best = rows_of(list(ARMS), 0, arguments)
    for seed in range(1, arguments.seeds):
        rows += rows_of(list(best.values()), seed, arguments)[0]
    headings = ("optimizer", "learning rate", "seed", "loss, second quarter", "last quarter", "AP",
                "against AdamW's best", "95 % interval")
    lines = ["# AdamW against Muon", "", f"`python benchmarks/optimizers.py {set_name(arguments.val)} WORK "
             f"{' '.join(shown(text) for text in arguments.train)}`, commit {commit()}, {date.today()}, torch "
             f"{torch.__version__}, {processor()}: {arguments.samples:,} samples from {START}, in crops of 128x96, "
             f"batches of {BATCH}; the same samples in each of a seed. AP on the public validation subset, annotated "
             "boxes, flip test; the learning rates were chosen there too. The optimizer alone takes "
             f"{own_milliseconds('adamw'):.0f} ms of a step with AdamW, {own_milliseconds('muon'):.0f} with Muon, "
             "whatever the pictures' size.", "", *table(headings, rows), ""]
    write_text(RESULT, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


def shown(source: str) -> str:
    """A set without this machine's folders, its weight kept."""
    path, colon, weight = source.rpartition(":")
    return set_name(Path(path)) + colon + weight if colon else set_name(Path(source))


if __name__ == "__main__":
    main()
