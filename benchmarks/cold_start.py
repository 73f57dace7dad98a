"""Install size and cold start of the ground floor: ``python benchmarks/cold_start.py`` writes cold_start.md.

Makes a fresh virtual environment of this checkout (ground floor only), then times ``stagepose predict`` on an example
from process start to exit, and takes its peak memory on a 12-megapixel photo.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from report import commit

ROOT = Path(__file__).resolve().parents[1]
RUNS = 9


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, cwd=cwd)
    return done.stdout


def megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


def timed_predict(env: Path, photo: Path, work: Path) -> tuple[float, float]:
    """Seconds from process start to exit, and peak memory in MB, of one fresh process."""
    start = time.perf_counter()
    process = subprocess.Popen([str(env / "bin/stagepose"), "predict", str(photo), "--out", str(work / "out")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"stagepose predict {photo} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        env = work / "env"
        run(sys.executable, "-m", "venv", env)
        empty = megabytes(env)
        start = time.perf_counter()
        run(env / "bin/pip", "install", "-q", "--no-cache-dir", ROOT, cwd=work)
        install_seconds = time.perf_counter() - start
        size = megabytes(env) - empty
        photo = ROOT / "examples/astronaut.jpg"
        times, peaks = zip(*(timed_predict(env, photo, work) for _ in range(RUNS)), strict=True)
        large = work / "large.jpg"
        script = ("from PIL import Image; import sys; "
                  "Image.open(sys.argv[1]).convert('RGB').resize((4000, 3000)).save(sys.argv[2])")
        run(env / "bin/python", "-c", script, photo, large)
        large_seconds, large_peak = timed_predict(env, large, work)
        imported = run(env / "bin/python", "-c",
                       "import sys, json, stagepose, stagepose.cli, stagepose.predictor;"
                       "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))")
        torch = "torch" in json.loads(imported)
    lines = [
        "# Cold start of the ground floor", "",
        f"`python benchmarks/cold_start.py`, commit {commit()}, {date.today()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. Times are medians of {RUNS} fresh processes (least to most).", "",
        "| | |", "|---|---|",
        f"| installed size, with everything it needs | {size:.0f} MB |",
        f"| `pip install .` | {install_seconds:.0f} s |",
        f"| `stagepose predict examples/astronaut.jpg`, process start to exit | {statistics.median(times):.2f} s "
        f"({min(times):.2f} to {max(times):.2f}) |",
        f"| its peak memory | {statistics.median(peaks):.0f} MB |",
        f"| the same picture as a 12-megapixel photo | {large_seconds:.2f} s, {large_peak:.0f} MB at its peak |",
        f"| torch imported | {'yes' if torch else 'no'} |", "",
    ]
    (ROOT / "benchmarks/cold_start.md").write_text("\n".join(lines), encoding="utf-8")
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
