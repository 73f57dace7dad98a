"""Photos a second of ``stagepose predict``, and its memory, against a checkout from before photos were read ahead.

``python benchmarks/many_photos.py --before CHECKOUT`` writes many_photos.md. The photos are examples/two_people.jpg in
several sizes. Processes of both take turns; a photo's time is that of so many less that of one, so that the start does
not count.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import tyro
from PIL import Image
from report import commit, processor, table

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((4000, 3000), (1600, 1200), (640, 480))
THREADS = (1, 2)
PHOTOS, ROUNDS = 16, 5


def main(before: Path) -> None:
    """Time both.

    Args:
        before: A checkout of the commit to compare with.
    """
    sources = {"before": before / "src", "now": ROOT / "src"}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            photos = make(Path(folder) / f"{size[0]}x{size[1]}", size)
            for threads in THREADS:
                found: dict[str, list[tuple[float, float]]] = {which: [] for which in sources}
                for _ in range(ROUNDS):
                    for which, source in sources.items():
                        found[which].append(a_photo(source, photos, threads, Path(folder) / "out"))
                rows.append([f"{size[0]} x {size[1]}", str(threads), *cells(**found)])
    write(rows, before)


def cells(before: list[tuple[float, float]], now: list[tuple[float, float]]) -> list[str]:
    """Medians of both, and the ratios of those who were neighbours."""
    ratios = [then[0] / later[0] for then, later in zip(before, now, strict=True)]
    ms = [f"{statistics.median(took for took, _ in each):.0f}" for each in (before, now)]
    mb = [f"{statistics.median(peak for _, peak in each):.0f}" for each in (before, now)]
    return [*ms, f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", *mb]


def make(folder: Path, size: tuple[int, int]) -> Path:
    folder.mkdir()
    photo = Image.open(ROOT / "examples/two_people.jpg").convert("RGB").resize(size, Image.Resampling.LANCZOS)
    for number in range(PHOTOS):
        photo.save(folder / f"{number:02}.jpg", quality=92)
    return folder


def a_photo(source: Path, photos: Path, threads: int, out: Path) -> tuple[float, float]:
    """(milliseconds a photo, MB at the peak)."""
    one, _ = timed(source, photos / "00.jpg", threads, out)
    every, peak = timed(source, photos, threads, out)
    return (every - one) / (PHOTOS - 1) * 1e3, peak


def timed(source: Path, photos: Path, threads: int, out: Path) -> tuple[float, float]:
    """Seconds from process start to exit, and peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "stagepose", "predict", str(photos), "--out", str(out), "--threads", str(threads)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(source)})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stagepose predict {photos} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def write(rows: list[list[str]], before: Path) -> None:
    told = subprocess.run(["git", "-C", str(before), "describe", "--always"], check=True, capture_output=True,
                          text=True)
    lines = [
        "# Many photos", "",
        f"`python benchmarks/many_photos.py --before CHECKOUT`, commit {commit()} against {told.stdout.strip()}, "
        f"{date.today()}, {processor()}, {os.cpu_count()} cores: `stagepose predict` on {PHOTOS} photos of two people, "
        f"overlays included, medians of {ROUNDS} processes of each in turns (ratios of neighbours, least to most).", "",
        *table(["photo", "`--threads`", "ms a photo before", "now", "times as fast", "MB before", "MB now"], rows), "",
    ]
    (ROOT / "benchmarks/many_photos.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
