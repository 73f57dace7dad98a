"""Twenty kills: ``python benchmarks/kill.py`` writes kill.md.

A small convolutional network is trained by the loop that users run, saving after every step, so that about half of the
time a checkpoint is being written. SIGKILL hits it at twenty random moments, and the same command starts it again. At
the end its weights, average and moments must be those of a training that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import commit
from torch import Tensor, nn

from stagepose.evaluation.kept import UNJUDGED, Judged
from stagepose.files import write_text
from stagepose.training.checkpoint import newest_checkpoint
from stagepose.training.loop import TrainConfig, train
from stagepose.training.randomness import SampleKey, uniforms

ROOT = Path(__file__).resolve().parents[1]
KILLS, STEPS, WIDTH, SIDE = 20, 400, 96, 12
EARLIEST, LATEST = 0.0, 1.2  # seconds between a start's first new checkpoint and its kill


class Pictures:
    """Learn the mean of a random picture."""

    samples_per_epoch = 1000
    seed = 0
    resident = True

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = self.network = nn.Sequential(
            nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3), nn.BatchNorm2d(WIDTH),
            nn.ReLU(), nn.Conv2d(WIDTH, 1, 1))
        self.reader = self

    def read(self, samples: Sequence[SampleKey]) -> Tensor:
        return torch.as_tensor(uniforms(0, samples, 3 * SIDE**2), dtype=torch.float32).reshape(-1, 3, SIDE, SIDE)

    def prepare(self, read: Tensor) -> Tensor:
        return read

    def loss(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        return {"mean": (model(batch).mean((1, 2, 3)) - batch.mean((1, 2, 3))).square().mean()}

    def idle(self) -> Sequence[nn.Module]:
        return ()

    def evaluate(self, model: nn.Module) -> Judged:
        return UNJUDGED

    def overlays(self, model: nn.Module) -> None:
        return None

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        return [str(key) for key in samples]

    def describe(self) -> dict[str, Any]:
        return {"kind": "pictures"}


def learn(out: Path) -> None:
    torch.set_num_threads(1)
    config = TrainConfig(batch=8, samples=8 * STEPS, warmup=80, save_every=1, log_every=50)
    train(Pictures(), config, out)


def start(out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--out", str(out)], stderr=subprocess.DEVNULL)


def newest_name(out: Path) -> str:
    return max((p.name for p in out.glob("steps/?????????")), default="")


def killed(out: Path, wait: float) -> str:
    """Start, wait for the first new checkpoint and then ``wait`` seconds, kill -> what was going on just then."""
    before, process = newest_name(out), start(out)
    while newest_name(out) == before:
        if process.poll() is not None:
            raise SystemExit(f"ended with {process.returncode} before it could be killed; raise STEPS")
        time.sleep(0.002)
    time.sleep(wait)
    if process.poll() is not None:
        raise SystemExit("ended before it could be killed; raise STEPS")
    process.kill()
    process.wait()
    unfinished = list(out.glob("steps/*.tmp"))
    if not unfinished:
        return "between checkpoints"
    return "with data, before the manifest" if list(unfinished[0].glob("*.safetensors")) else "at a checkpoint's begin"


def differing(a: Path, b: Path) -> tuple[int, int]:
    """(tensors compared, tensors that differ) of the last steps of two runs."""
    ends = [newest_checkpoint(folder) for folder in (a, b)]
    assert all(end is not None and end.step == STEPS for end in ends)
    first, second = (end.parts for end in ends if end is not None)
    pairs = [(first[part][name], second[part][name]) for part in first for name in first[part]]
    return len(pairs), sum(not torch.equal(x, y) for x, y in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="for itself: train into this folder")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.out:
        learn(arguments.out)
        return
    rng, seen, steps = np.random.default_rng(arguments.seed), Counter[str](), list[int]()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(KILLS):
            seen[killed(Path(folder) / "killed", float(rng.uniform(EARLIEST, LATEST)))] += 1
            steps.append(int(newest_name(Path(folder) / "killed")))
        for name in ("killed", "whole"):
            if start(Path(folder) / name).wait():
                raise SystemExit(f"{name}: the training failed")
        compared, differ = differing(Path(folder) / "killed", Path(folder) / "whole")
    lines = [
        f"# {KILLS} kills", "",
        f"`python benchmarks/kill.py`, commit {commit()}, {date.today()}, {os.cpu_count()} cores "
        f"({platform.machine()}), Python {platform.python_version()}, PyTorch {torch.__version__}. A training of "
        f"{STEPS} steps that saves after each, killed with SIGKILL {KILLS} times at random moments, and started again "
        "with the same command.",
        "",
        "| | |", "|---|---|", *(f"| killed {moment} | {count} |" for moment, count in seen.most_common()),
        f"| newest step at each kill | {', '.join(map(str, steps))} |",
        f"| tensors of weights, average and optimizer at the end | {compared} |",
        f"| that differ from an undisturbed training's in any bit | {differ} |", ""]
    write_text(ROOT / "benchmarks/kill.md", "\n".join(lines))
    sys.stdout.write("\n".join(lines))
    raise SystemExit(1 if differ else 0)


if __name__ == "__main__":
    main()
