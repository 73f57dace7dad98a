"""What it costs that ONNX Runtime's threads wait for work by spinning -> spinning.md.

``python benchmarks/spinning.py [examples/two_people.jpg]``: a picture whole, its boxes alone and its people alone, with
threads that stop at the end of each run, as StagePose has them, and without (the control), in turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from report import commit, processor, table

from stagepose import load, read_image, runtime
from stagepose.cores import available_cores
from stagepose.files import write_text

ROOT = Path(__file__).resolve().parents[1]
STOP = "session.force_spinning_stop"
ROUNDS, TIMES = 3, 20


def main(photo: Path) -> None:
    found: dict[str, list[list[float]]] = {"0": [], "1": []}
    for _ in range(ROUNDS):
        for value, rows in found.items():
            runtime.SESSION_ENTRIES[STOP] = value
            rows.append(measured(photo))
    control, ours = ([statistics.median(column) for column in zip(*found[value], strict=True)] for value in "01")
    lines = ["# Threads that spin", "",
             f"`python benchmarks/spinning.py`, commit {commit()}, {date.today()}, {processor()}, {available_cores()} "
             f"cores, all of them ONNX Runtime's; {photo.name}, medians of {ROUNDS} rounds of {TIMES}, milliseconds.",
             "",
             *table(("", "spinning goes on (the control)", "it stops with each run", "times as fast"),
                    [[name, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"] for name, a, b in zip(
                        ("boxes, then people", "boxes alone", "people alone"), control, ours, strict=True)]), ""]
    write_text(ROOT / "benchmarks/spinning.md", "\n".join(lines))


def measured(photo: Path) -> list[float]:
    predictor, picture = load(), read_image(photo)
    boxes = predictor.detect(picture)
    return [timed(lambda: predictor.people(picture)), timed(lambda: predictor.detect(picture)),
            timed(lambda: predictor.people(picture, boxes))]


def timed(work: Callable[[], object]) -> float:
    took = []
    for _ in range(TIMES + 2):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1e3)
    return statistics.median(took[2:])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "examples/two_people.jpg")
