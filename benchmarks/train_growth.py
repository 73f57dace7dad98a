"""How training grows: ``python benchmarks/train_growth.py coco2017_train_labels.npz`` writes train_growth.md.

Stores of 1,000, 10,000 and COCO's 149,813 people (real labels, synthetic pixels, raw canvases of 144 x 192: 13 GB in
the temporary folder, removed afterwards), opened and read at random as training does; then one and two processes that
train together. Every measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import torch
from crop_store import SIZES, SPECS, build, forget, resident
from report import commit

from stagepose.files import write_text
from stagepose.heatmaps import UdpDark
from stagepose.training import distributed, loop, targets
from stagepose.training.crops import open_store
from stagepose.training.machine import Machine, use_threads
from stagepose.training.networks import zoo
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig

ROOT = Path(__file__).resolve().parents[1]
CODEC = UdpDark(input_size=SPECS["raw"].input_size)
SAMPLES, AT_ONCE = 8192, 32
BATCH, STEPS, SKIPPED = 32, 12, 4
RANKS = (1, 2)


def task_of(home: Path) -> PoseTask:
    torch.manual_seed(0)
    config = PoseConfig(network="lite0-u", codec=CODEC, frozen=3)
    return PoseTask(zoo.build("lite0-u", 17), config, PeopleSets([open_store(home)]))


def load(home: Path) -> dict[str, float]:
    """Samples made ready for a network, on one core."""
    use_threads(1)
    cv2.setNumThreads(0)
    warm = task_of(home)  # imports and the network itself are not what grows
    warm.batch([(0, i) for i in range(AT_ONCE)])
    del warm
    forget(home)
    before, start = resident(), time.perf_counter()
    task = task_of(home)
    found = {"open": time.perf_counter() - start}
    cpu, most = time.process_time(), 0.0
    for first in range(0, SAMPLES, AT_ONCE):
        made = task.batch([divmod(i, task.samples_per_epoch) for i in range(first, first + AT_ONCE)])
        for codec in task.config.codecs(1)[0]:
            targets.encode(codec, made.keypoints[..., :2], made.keypoints[..., 2] > 0)
        most = max(most, resident())
    return {**found, "rate": SAMPLES / (time.process_time() - cpu), "rss_most": most - before}


def learn(home: Path, out: Path) -> None:
    """As one of the ranks that torchrun starts, or alone; every rank on one thread."""
    use_threads(1)
    cv2.setNumThreads(0)
    with distributed.started("cpu"):
        config = loop.TrainConfig(batch=BATCH, samples=BATCH * STEPS, warmup=BATCH, log_every=1, save_every=10**6,
                                  save_minutes=1e6)
        loop.train(task_of(home), config, out / "run", Machine())
        peaks = distributed.gather(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        if distributed.first():
            (out / "peaks.json").write_text(json.dumps(peaks))


def ranks_row(home: Path, ranks: int) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, *launcher, __file__, str(home), "--child", "learn", folder], check=True,
                       capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        log = [json.loads(line) for line in (Path(folder) / "run/log.jsonl").read_text().splitlines()][SKIPPED:]
        peaks = json.loads((Path(folder) / "peaks.json").read_text())
    clock = statistics.median(r["samples_per_second"] for r in log)
    busy = statistics.median(r["samples_per_second"] / r["utilisation"] / ranks for r in log)
    return f"| {ranks} | {clock:.1f} | {busy:.1f} | {', '.join(f'{peak:,.0f}' for peak in peaks)} |"


def child(home: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, str(home), "--child", "load"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, help="coco2017_train_labels.npz")
    parser.add_argument("--people", type=int, nargs="*", default=SIZES)
    parser.add_argument("--note", default="", help="a sentence about the machine, for the result")
    parser.add_argument("--child", nargs="+", help="for itself: load, or learn and a folder")
    arguments = parser.parse_args()
    if arguments.child:
        if arguments.child[0] == "load":
            sys.stdout.write(json.dumps(load(arguments.labels)))
        else:
            learn(arguments.labels, Path(arguments.child[1]))
        return
    rows, together = list[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for people in arguments.people:
            home = Path(folder) / f"raw-{people}"
            megabytes = build(arguments.labels, home, people, "raw")
            found = child(home)
            rows.append(f"| {people:,} | {megabytes:,.0f} | {found['open']:.2f} | {found['rate']:,.0f} | "
                        f"{found['rss_most']:,.0f} |")
            if not together:
                together = [ranks_row(home, ranks) for ranks in RANKS]
            for file in home.iterdir():
                file.unlink()
    lines = [
        "# How training grows", "",
        f"`python benchmarks/train_growth.py {arguments.labels.name}`, commit {commit()}, {date.today()}, "
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, PyTorch "
        f"{torch.__version__}. {arguments.note}".strip(), "",
        "## With the people", "",
        f"Raw canvases of 144 x 192; {SAMPLES:,} samples at random, read from a cold cache, augmented for an input of "
        "96 x 128, with their targets, per second of one core's processor time. Memory is what a process that has "
        "imported everything uses more. The task is ready when its labels are in memory, from a disk that may still be "
        "writing the store ([crop_store.md](crop_store.md) has opening alone).", "",
        "| people | MB on disk | task ready, s by the clock | samples/s of a core | MB of memory at most |",
        "|" + "---|" * 5, *rows, "", "## With the processes", "",
        f"lite0-u at 96 x 128 in bf16, {BATCH} pictures a step on all processes together, gloo, one thread each.", "",
        "| processes | samples/s by the clock | samples/s of a core's processor time | peak memory of each, MB |",
        "|" + "---|" * 4, *together, ""]
    write_text(ROOT / "benchmarks/train_growth.md", "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
