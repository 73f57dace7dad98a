"""What benchmarks have in common: times of things that take turns, and what their Markdown says alike."""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import TypeVar

What = TypeVar("What")


def commit() -> str:
    """The checkout's, ``-dirty`` where files differ from it."""
    told = subprocess.run(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"], check=True,
                          capture_output=True, text=True)
    return told.stdout.strip()


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def set_name(file: Path) -> str:
    """Of folders of this machine only the last name stays."""
    return "/".join(file.resolve().parts[-2:])


def in_turns(calls: Mapping[What, Callable[[], object]], rounds: int) -> dict[What, float]:
    """Median milliseconds of each call, after a first round that warms up."""
    took: dict[What, list[float]] = {what: [] for what in calls}
    for _ in range(1 + rounds):
        for what, call in calls.items():
            start = perf_counter()
            call()
            took[what].append((perf_counter() - start) * 1e3)
    return {what: statistics.median(each[1:]) for what, each in took.items()}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings),
            *("| " + " | ".join(row) + " |" for row in rows)]


def models_asked(doc: str | None, first: str) -> argparse.Namespace:
    """What benchmarks that judge models on a set are told: ``val``, ``pose`` (``first`` by default), ``threads``."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("val", type=Path, help="COCO keypoint file, pictures in images/ beside it")
    parser.add_argument("--pose", nargs="+", default=[first], help="models; the first is compared with")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def by_hand(out: Path, title: str) -> list[str]:
    """The last section of the file that is there, from ``title`` on, which people write; none where there is none."""
    text = out.read_text(encoding="utf-8") if out.is_file() else ""
    return [title + text.partition(title)[2]] if title in text else []
