"""What every network costs: ``python benchmarks/networks.py`` writes the table of docs/networks.md.

Parameters and multiply-accumulates are counted, milliseconds are measured: for one person, in float32, each time in a
process of its own, the networks taking turns, round by round. With names it measures only these and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections import defaultdict
from datetime import date
from functools import partial
from pathlib import Path

import torch
from report import commit

from stagepose.files import write_text
from stagepose.training.machine import use_threads
from stagepose.training.networks import cost, zoo

ROOT = Path(__file__).resolve().parents[1]
PAGE, BEFORE, AFTER = ROOT / "docs/networks.md", "## By name\n", "## The loss\n"
SIZES = ((192, 256), (288, 384))  # (width, height) that the literature reports
KEYPOINTS = 17

ABOUT = """\
For 17 keypoints: parameters; GMACs (1e9 multiply-accumulates of convolutions, linear layers and matrix products such as
attention's, counted exactly; biases, norms, activations and resizing are left out); and the median time of one person
at 256x192 on a CPU, in float32 by PyTorch, as `stagepose networks --latency` measures it. All heads are counted, as
training has them; a model file has the last stage's finest alone: pose-small .67 GMACs, not .75; pose-medium, at
384x288, 2.16, not 2.35."""
KINDS = """\
`u-*` and `slim-u` are ours, narrow and shallow, for CPUs; `lite*-u` too, on ImageNet trunks, their later stages those
of `u-300m`. `*xres*` are the report's, which gives no sizes, `*xmspn50` its successor's. Hourglasses and SimpleBaseline
give one level a stage, CPN four and one."""
MMPOSE, HRNET = "[1]", "[2]"
SOURCES = """\
[1] mmpose, docs/en/inference_speed_summary.md: batch norms are counted too. [2] HRNet (CVPR 2019), table 1: how it
counts is not said. The successor's released code has biases beside its batch norms, with which stages 1 to 4 make 25.1,
56.9, 88.6 and 120.3 M."""
PUBLISHED = {  # M parameters; GMACs at 256x192
    "1xmspn50": f"25.11; 5.11 {MMPOSE}", "2xmspn50": f"56.80; 11.35 {MMPOSE}",
    "3xmspn50": f"88.49; 17.59 {MMPOSE}", "4xmspn50": f"120.18; 23.82 {MMPOSE}",
    "simple-res50": f"34.00; 5.46 {MMPOSE}, 8.9 {HRNET}", "simple-res101": f"52.99; 9.11 {MMPOSE}, 12.4 {HRNET}",
    "simple-res152": f"68.64; 12.77 {MMPOSE}, 15.7 {HRNET}",
    "hourglass-8": f"25.1; 14.3 {HRNET}: fewer layers than its paper's, see `hourglass.py`",
    "cpn-res50": f"27.0; 6.20 {HRNET}: .3 of it by where a trunk's strides sit",
    "1xres101-spatial": "{4, 8, 16, 3}, \"same FLOPs\" as res101 (the report)",
    "1xres101-spatial18": "{4, 8, 18, 3} has exactly those",
    "1xresinc101": "not defined in the report; our reading in `blocks.py`",
}  # fmt: skip


def child(name: str, threads: int) -> float:
    """Milliseconds of one network in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--child", name, "--threads", str(threads)], capture_output=True,
                          text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout)


def row(name: str, milliseconds: float) -> str:
    network = cost.on_meta(partial(zoo.build, name, KEYPOINTS))
    counts = [cost.count(network, size) for size in SIZES]
    cells = [f"`{name}`", f"{len(counts[0].levels)}", f"{cost.parameters(network) / 1e6:.2f}",
             *(f"{c.macs / 1e9:.2f}" for c in counts), f"{milliseconds:.1f}", PUBLISHED.get(name, "")]
    return "| " + " | ".join(cells).rstrip() + " |"


def table(names: list[str], rounds: int, threads: int) -> list[str]:
    times = defaultdict[str, list[float]](list)
    for _ in range(rounds):
        for name in names:
            times[name].append(child(name, threads))
    return ["| network | stages | M | GMACs 256x192 | GMACs 384x288 | ms a person | published: M; GMACs at 256x192 |",
            "|" + "---|" * 7, *(row(name, min(times[name])) for name in names)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these, and write nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="a sentence about the machine, for the result")
    parser.add_argument("--child", help="for itself: a network's name")
    arguments = parser.parse_args()
    if arguments.child:
        use_threads(arguments.threads)
        sys.stdout.write(str(cost.latency(zoo.build(arguments.child, KEYPOINTS), SIZES[0])))
        return
    lines = table(arguments.names or list(zoo.NETWORKS), arguments.rounds, arguments.threads)
    if arguments.names:
        sys.stdout.write("\n".join([*lines, ""]))
        return
    text = [
        "", ABOUT, "", *lines, "", SOURCES, "", KINDS, "",
        f"`python benchmarks/networks.py`, commit {commit()}, {date.today()}, {os.cpu_count()} cores "
        f"({platform.machine()}), PyTorch {torch.__version__}, threads: {arguments.threads}; fresh processes, the "
        f"least of {arguments.rounds} medians, for what else a machine does only adds. {arguments.note}".strip(), ""]
    page = PAGE.read_text(encoding="utf-8")
    head, rest = page.split(BEFORE)
    write_text(PAGE, head + BEFORE + "\n".join([*text, ""]) + AFTER + rest.split(AFTER)[1])
    sys.stdout.write("\n".join(text))


if __name__ == "__main__":
    main()
