"""What the results of all benchmarks say alike, in Markdown: of which commit, on which processor, in which tables."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path


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


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings),
            *("| " + " | ".join(row) + " |" for row in rows)]


def by_hand(out: Path, title: str) -> list[str]:
    """The last section of the file that is there, from ``title`` on, which people write; none where there is none."""
    text = out.read_text(encoding="utf-8") if out.is_file() else ""
    return [title + text.partition(title)[2]] if title in text else []
