"""Requests a second and their latency: ``python benchmarks/serving.py [examples/two_people.jpg]`` writes serving.md.

``stagepose serve`` with pose-small, asked by 1, 4 and 16 clients at once who each send the next picture when they have
the answer; beside it the same pictures given to a predictor in one process (the control). Once with one worker and all
cores' threads, once with a worker a core. What stands between the first and the control is HTTP and the pipes.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from report import commit, processor, table

import stagepose
from stagepose.cores import available_cores

ROOT = Path(__file__).resolve().parents[1]
CLIENTS = 1, 4, 16
WARM_UP = 3  # requests that do not count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=ROOT / "examples/two_people.jpg")
    parser.add_argument("--requests", type=int, default=400, help="for each row")
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    photo, cores = options.photo.read_bytes(), available_cores()
    rows = [["a predictor in one process (the control)", "1", *told(direct(photo, options.requests))]]
    for workers in sorted({1, cores}):
        with served(workers, cores // workers) as address:
            for clients in CLIENTS:
                rows.append([f"`--workers {workers} --threads {cores // workers}`", str(clients),
                             *told(asked(address, photo, options.requests, clients))])
    write(rows, options)


def direct(photo: bytes, count: int) -> tuple[list[float], float]:
    predictor = stagepose.load()
    return timed(lambda: predictor(photo), count, 1)


def asked(address: str, photo: bytes, count: int, clients: int) -> tuple[list[float], float]:
    opener = build_opener(ProxyHandler({}))

    def ask() -> None:
        with opener.open(Request(f"{address}/v1/predict", photo, {"Content-Type": "image/jpeg"})) as answer:
            answer.read()

    return timed(ask, count, clients)


def timed(work: Callable[[], object], count: int, clients: int) -> tuple[list[float], float]:
    """Seconds of each call, and of all."""
    def once(_: int) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(once, range(WARM_UP)))
        start = time.perf_counter()
        each = list(threads.map(once, range(count)))
        return each, time.perf_counter() - start


@contextmanager
def served(workers: int, threads: int) -> Iterator[str]:
    words = ["--port", "0", "--workers", str(workers), "--threads", str(threads)]
    process = subprocess.Popen([sys.executable, "-m", "stagepose", "serve", *words], stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+", process.stderr.readline())[0]
        while f'"processes":{workers}' not in build_opener(ProxyHandler({})).open(f"{address}/readyz").read().decode():
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate()


def told(times: tuple[list[float], float]) -> list[str]:
    each, whole = times
    return [f"{len(each) / whole:.1f}", f"{1000 * statistics.median(each):.0f}",
            f"{1000 * statistics.quantiles(each, n=20)[-1]:.0f}"]


def write(rows: list[list[str]], options: argparse.Namespace) -> None:
    lines = [
        "# People over HTTP", "",
        f"`python benchmarks/serving.py`, commit {commit()}, {date.today()}, {processor()}, {os.cpu_count()} cores; "
        f"{options.requests} requests a row of {options.photo.name}, pose-small and person-small, clients on the same "
        "machine.", "",
        *table(["", "clients", "requests a second", "median, ms", "95 of 100 within, ms"], rows), "",
    ]
    if not options.dry:
        (ROOT / "benchmarks/serving.md").write_text("\n".join(lines), encoding="utf-8")
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
