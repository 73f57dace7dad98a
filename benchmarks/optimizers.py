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
from datetime import date
from pathlib import Path

import numpy as np
import torch
from report import commit, processor, set_name, table

from stagepose.coco import images_folder, read_dataset
from stagepose.evaluation import Judgement, compare, judge_keypoints, predict_dataset
from stagepose.files import write_text
from stagepose.predictor import load

RESULT = Path(__file__).with_suffix(".md")
PRESET, START, SIZE = "pose-medium", "pose-medium", ("96", "128")
RATES = (4e-4, 8e-4, 1.6e-3)
BATCH = 16


def trained(optimizer: str, rate: float, arguments: argparse.Namespace) -> Path:
    """The run's folder."""
    run: Path = arguments.work / f"{optimizer}-{rate:g}-{arguments.seed}"
    subprocess.run([sys.executable, "-m", "stagepose", "train", PRESET, "--data", *arguments.train, "--out", str(run),
                    "--init", START, "--crops", str(arguments.work / "crops"), "--input-size", *SIZE, "--batch",
                    str(BATCH), "--optimizer", optimizer, "--lr", f"{rate:g}", "--threads", "1", "--samples",
                    str(arguments.samples), "--seed", str(arguments.seed)], check=True)
    return run


def losses(run: Path) -> tuple[float, float]:
    """Mean of the heatmaps' loss in the second and in the last quarter."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values = np.array([line["heatmaps"] for line in lines if "heatmaps" in line])
    quarters = np.array_split(values, 4)
    return float(quarters[1].mean()), float(quarters[3].mean())


def judged(run: Path, val: Path) -> Judgement:
    model = run / "model.onnx"
    subprocess.run([sys.executable, "-m", "stagepose", "export", str(run), "--out", str(model)], check=True)
    dataset = read_dataset(val)
    return judge_keypoints(dataset, predict_dataset(load(model, None, threads=1, flip=True), dataset,
                                                    images_folder(val, None)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("val", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runs = {(optimizer, rate): trained(optimizer, rate, arguments) for rate in RATES for optimizer in ("adamw", "muon")}
    results = {arm: judged(run, arguments.val) for arm, run in runs.items()}
    best = max((arm for arm in results if arm[0] == "adamw"), key=lambda arm: results[arm].numbers()[0])
    rows = []
    for arm, run in sorted(runs.items()):
        told = compare(results[best], results[arm])
        gap = ["", ""] if arm == best else [f"{told.b[0] - told.a[0]:+.4f}", str(told.intervals[0])]
        rows.append([arm[0], f"{arm[1]:g}", *(f"{value:.3f}" for value in losses(run)), f"{told.b[0]:.4f}", *gap])
    headings = ("optimizer", "learning rate", "loss, second quarter", "last quarter", "AP", "against AdamW's best",
                "95 % interval")
    lines = ["# AdamW against Muon", "", f"`python benchmarks/optimizers.py {set_name(arguments.val)} WORK "
             f"{' '.join(shown(text) for text in arguments.train)} --seed {arguments.seed}`, commit {commit()}, "
             f"{date.today()}, torch {torch.__version__}, {processor()}: {arguments.samples:,} samples from {START}, "
             f"in crops of 128x96, batches of {BATCH}; the same samples in each. AP on the public validation subset, "
             "annotated boxes, flip test.", "", *table(headings, rows), ""]
    write_text(RESULT, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


def shown(source: str) -> str:
    """A set without this machine's folders, its weight kept."""
    path, colon, weight = source.rpartition(":")
    return set_name(Path(path)) + colon + weight if colon else set_name(Path(source))


if __name__ == "__main__":
    main()
