"""What frozen blocks cost while the rest learns: ``python benchmarks/frozen_blocks.py`` writes its .md.

A step (forth and back, bf16, no data and no optimizer) of lite0-u with the stem and three blocks frozen: as it is, with
their norms folded into the convolutions and few pictures at once; and as the same network without that, block by block
with the whole batch. Every time is that of a process of its own on one thread; the two take turns, round by round.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch
from report import commit, table

from stagepose.files import write_text
from stagepose.training.machine import autocast, keep_freed_memory, use_threads
from stagepose.training.networks.zoo import build, trunk_of

RESULT = Path(__file__).with_suffix(".md")
BATCH, BLOCKS, STEPS, ROUNDS = 32, 3, 4, 3
SIZES = ((192, 256), (288, 384))  # (width, height)
WAYS = ("folded", "plain")


def step_seconds(way: str, width: int, height: int) -> float:
    """Of the processor: the least of a few steps, after one that warms up."""
    use_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    network = build("lite0-u", 17).to(memory_format=torch.channels_last)
    trunk = trunk_of(network)
    trunk.freeze(BLOCKS)
    network.train()
    if way == "plain":
        trunk._frozen = []  # its parts stay as freeze() and train() have left them
    images = torch.randn(BATCH, 3, height, width).to(memory_format=torch.channels_last)
    took = []
    for _ in range(1 + STEPS):
        start = time.process_time()
        with autocast("cpu", bf16=True):
            loss = torch.stack([level.float().square().mean() for stage in network(images) for level in stage]).sum()
        loss.backward()
        took.append(time.process_time() - start)
    return min(took[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", nargs=3, help="for itself: way, width, height")
    arguments = parser.parse_args()
    if arguments.child:
        way, width, height = arguments.child
        sys.stdout.write(f"{step_seconds(way, int(width), int(height))}\n")
        return
    rows = []
    for width, height in SIZES:
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                words = [sys.executable, __file__, "--child", way, str(width), str(height)]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                rates[way].append(BATCH / float(done.stdout))
        folded, plain = (statistics.median(rates[way]) for way in WAYS)
        rows.append([f"{height}x{width}", f"{plain:.1f}", f"{folded:.1f}", f"{folded / plain:.2f}"])
    text = [f"# What frozen blocks cost\n\n`python benchmarks/frozen_blocks.py`, commit {commit()}, {date.today()}, "
            f"{platform.machine()}, PyTorch {torch.__version__}, one thread: samples a second of processor time of "
            f"lite0-u's steps, forth and back, {BATCH} pictures a step, stem and {BLOCKS} blocks frozen; medians of "
            f"{ROUNDS} rounds.\n",
            *table(["input", "block by block, whole batch", "norms folded, few pictures at once", "times"], rows)]
    write_text(RESULT, "\n".join(text))
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
