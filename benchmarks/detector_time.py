"""Milliseconds of a picture, each detector in a fresh process as users have it -> detector_time.md.

``python benchmarks/detector_time.py PICTURES --peers DIR --earlier FILE.onnx``. Processor time on one thread, so that
other work on the machine hardly counts. In a process that has used much memory before, such as a benchmark's, large
buffers come cheaper, and everybody looks quicker: that is why each has its own.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Annotated

import tyro
from report import commit, processor, table
from tyro.conf import Positional

from stagepose.files import write_text
from stagepose.images import find_images, read_image
from stagepose.predictor import DEFAULT_DETECTOR
from stagepose.runtime import Detector, DetectorModel

ROOT = Path(__file__).resolve().parents[1]
PICTURES, ROUNDS, PROCESSES, WARM_UP = 12, 6, 3, 3


def main(
    pictures: Positional[Annotated[Path, tyro.conf.arg(metavar="PICTURES")]],
    *,
    peers: Path | None = None,
    earlier: Path | None = None,
    of: str | None = None,
    out: Path = ROOT / "benchmarks/detector_time.md",
) -> None:
    """Measure detectors, or with --of one of them in this process.

    Args:
        pictures: Folder of photographs.
        peers: Folder with rtmdet_nano.onnx.
        earlier: An earlier file of our detector.
        of: Print the time of this one: a shipped name, a model file, or rtmdet_nano.onnx.
        out: The Markdown file to write.
    """
    if of is not None:
        sys.stdout.write(f"{measured(of, pictures)}\n")
        return
    names = {DEFAULT_DETECTOR: DEFAULT_DETECTOR}
    if earlier is not None:
        names[f"{DEFAULT_DETECTOR}, first file"] = str(earlier)
    if peers is not None:
        names["RTMDet-nano"] = str(peers / "rtmdet_nano.onnx")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(PROCESSES):
        for name, source in names.items():
            words = [sys.executable, __file__, str(pictures), "--of", source]
            times[name].append(float(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    ours = min(next(iter(times.values())))
    command = shlex.join(["python", "benchmarks/detector_time.py", "/".join(pictures.parts[-2:]), "--peers", "peers",
                          "--earlier", "FIRST.onnx"])
    lines = ["# The detector's time in a fresh process", "",
             f"`{command}`, commit {commit()}, {date.today()}, {processor()}, other programs beside it.", "",
             f"Processor time of one thread for a picture, mean of {PICTURES} photographs, best of {ROUNDS} rounds, "
             f"in {PROCESSES} processes each, in turns; in brackets the worst process.", "",
             *table(["detector", "ms a picture", "times ours"],
                    [[name, f"{min(its):.1f} ({max(its):.1f})", f"{min(its) / ours:.2f}"]
                     for name, its in times.items()]), ""]  # fmt: skip
    write_text(out, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


def measured(source: str, folder: Path) -> float:
    """The best round's processor time of a picture, in milliseconds."""
    if Path(source).name == "rtmdet_nano.onnx":
        import cv2
        from peers import RtmdetNano

        cv2.setNumThreads(1)
        detector: Detector = RtmdetNano(Path(source), 1)
    else:
        detector = DetectorModel(source, threads=1)
    shown = [read_image(path).pixels for path in find_images([folder])[:PICTURES]]
    for picture in shown[:WARM_UP]:
        detector(picture)
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for picture in shown:
            detector(picture)
        rounds.append(1e3 * (time.process_time() - start) / len(shown))
    return min(rounds)


if __name__ == "__main__":
    tyro.cli(main)
