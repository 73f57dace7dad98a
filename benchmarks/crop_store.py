"""The crop store at COCO's size: ``python benchmarks/crop_store.py coco2017_train_labels.npz`` writes crop_store.md.

Real labels of 149,813 people with synthetic pixels, written by the writer that ``stagepose pack`` uses, then opened and
read in fresh processes. Needs 13 GB of disk in the temporary folder and removes them. A crop is 144 x 192 here (raw),
so that COCO fits the disk, and 288 x 384 as in training (JPEG).
"""

from __future__ import annotations

import argparse
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
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from report import commit

from stagepose.coco.dataset import CocoDataset, dataset_from_arrays
from stagepose.files import write_text
from stagepose.training.crops import CropSpec, PackConfig, open_store
from stagepose.training.cutting import Work
from stagepose.training.shards import Shard, ShardWriter, encode, shard_name
from stagepose.training.store import write_description, write_labels

ROOT = Path(__file__).resolve().parents[1]
SIZES = (1_000, 10_000, 149_813)  # the last: all people with keypoints of COCO train2017
SPECS = {"raw": CropSpec(input_size=(96, 128)), "jpeg": CropSpec()}
OPENINGS, BATCH, FEW, MANY = 5, 64, 1_000, 20_000
PICTURE = 640, 480  # the labels are fractions of pictures whose sizes are not in the file
PATTERNS = 256  # synthetic crops, repeated
DETAIL = 0.55  # share of fine noise: makes a JPEG as long as one of COCO (24.9 KB at quality 90)


def labels(path: Path, count: int) -> CocoDataset:
    with np.load(path) as file:
        boxes, xy, seen, images = (file[name][:count].astype(np.float64)
                                   for name in ("box_cxcywh", "keypoints_xy", "visibility", "image_id"))
    boxes, xy = boxes / 65535 * (PICTURE * 2), xy / 65535 * PICTURE
    corners = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
    return dataset_from_arrays(images.astype(np.int64), corners, np.dstack([xy, seen]), size=PICTURE)


def patterns(spec: CropSpec) -> list[NDArray[np.uint8]]:
    """Soft blots of colour with some fine noise: to a JPEG encoder much like a photograph."""
    rng, (width, height), made = np.random.default_rng(0), spec.canvas, []
    for _ in range(PATTERNS):
        layers = [cv2.resize(rng.normal(128, 60, (height // size, width // size, 3)), spec.canvas,
                             interpolation=cv2.INTER_CUBIC) for size in (48, 12, 3)]
        mixed = 0.6 * layers[0] + 0.3 * layers[1] + 0.1 * layers[2] + DETAIL * rng.normal(0, 4, (height, width, 3))
        made.append(np.clip(mixed, 0, 255).astype(np.uint8))
    return made


def build(path: Path, home: Path, count: int, form: str) -> float:
    """Write a store as the packer would, without pictures; returns its MB."""
    home.mkdir()
    spec, config = SPECS[form], PackConfig(form="raw" if form == "raw" else "jpeg")
    work = Work(labels(path, count), home, spec, config)
    encoded = [encode(crop, config.form, config.quality) for crop in patterns(spec)]
    per_shard = int(config.shard_mb / work.megabytes(1))
    shards, sizes = list[Shard](), list[int]()
    for number, start in enumerate(range(0, len(work.rows), per_shard)):
        writer = ShardWriter(home / shard_name(number, config.form))
        for person in range(start, min(start + per_shard, len(work.rows))):
            writer.append(encoded[person % PATTERNS])
        shards.append(writer.finish())
        sizes += writer.sizes
    write_labels(home, work.dataset, work.rows, work.affines, np.array(sizes))
    write_description(home, spec=spec, skeleton=work.dataset.skeleton, fingerprint="synthetic", form=config.form,
                      left_out={}, shards=shards)
    return sum(shard.bytes for shard in shards) / 1e6


def forget(home: Path) -> None:
    """Take a store out of the system's cache."""
    for file in home.iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def resident() -> float:
    """MB of this process's memory, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def random_rows(people: int, count: int) -> NDArray[np.int64]:
    """As training reads them: everybody once before anybody twice."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.permutation(people) for _ in range(-(-count // people))])[:count]


def measure(home: Path, how: str) -> dict[str, float]:
    """In a process of its own: opening, a few rows from the disk, many rows, a few rows from the cache."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    before, start = resident(), time.perf_counter()
    store = open_store(home)
    found = {"open": time.perf_counter() - start, "rss_open": resident() - before, "rss_before": before}
    if how == "open":
        return found
    read = store.read
    if how == "memmap":  # what one would write without the store's reader
        height, width = store.spec.canvas[1], store.spec.canvas[0]
        files = [np.memmap(home / s.name, np.uint8, "r", shape=(s.people, height, width, 3)) for s in store.shards]
        starts = np.cumsum([0, *(s.people for s in store.shards)])

        def read(rows: Any, out: Any = None) -> Any:
            at = np.searchsorted(starts, rows, side="right") - 1
            return np.stack([files[a][r - starts[a]] for a, r in zip(at.tolist(), rows.tolist(), strict=True)])

    forget(home)
    for name, count in (("few", FEW), ("many", MANY), ("again", FEW)):
        rows, wall, cpu = random_rows(len(store), count), time.perf_counter(), time.process_time()
        for first in range(0, count, BATCH):
            read(rows[first : first + BATCH])
        found |= {name: count / (time.perf_counter() - wall), f"{name}_cpu": count / (time.process_time() - cpu),
                  f"rss_{name}": resident() - before}
    return found


def fresh(home: Path, how: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, str(home), "--measure", how], check=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def row(path: Path, folder: Path, count: int, form: str) -> str:
    home = folder / f"{form}-{count}"
    megabytes = build(path, home, count, form)
    openings = [fresh(home, "open") for _ in range(OPENINGS)]
    read = fresh(home, "read")
    cells = [f"{count:,}", form, f"{megabytes:,.0f}", f"{statistics.median(o['open'] for o in openings):.3f}",
             f"{statistics.median(o['rss_open'] for o in openings):.0f}",
             *(f"{read[f'rss_{name}']:,.0f}" for name in ("few", "many")),
             *(f"{read[name]:,.0f}" for name in ("few", "many", "again")), f"{read['again_cpu']:,.0f}"]
    if form == "raw":
        plain = fresh(home, "memmap")
        cells += [f"{plain['rss_many']:,.0f}", f"{plain['again']:,.0f}"]
    else:
        cells += ["", ""]
    for file in home.iterdir():
        file.unlink()
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path, help="coco2017_train_labels.npz")
    parser.add_argument("--people", type=int, nargs="*", default=SIZES)
    parser.add_argument("--measure", choices=("open", "read", "memmap"), help="for itself: measure this store")
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(arguments.labels, arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = [row(arguments.labels, Path(folder), count, form) for form in SPECS for count in arguments.people]
    lines = [
        "# The crop store at COCO's size", "",
        f"`python benchmarks/crop_store.py {arguments.labels.name}`, commit {commit()}, {date.today()}, "
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, NumPy {np.__version__}, "
        f"OpenCV {cv2.__version__}. Real labels, synthetic pixels: raw crops of 144 x 192, 82,944 bytes each (in "
        "training 331,776), JPEGs of 288 x 384. Fresh processes on one core, batches of 64; memory is what opening and "
        f"reading add to a process that has imported everything. Opening: median of {OPENINGS}.", "",
        "| people | form | MB on disk | open, s | MB of memory, open | after 1,000 random rows | after 20,000 | "
        "rows/s, the first 1,000, from disk | rows/s of 20,000 | rows/s, 1,000 cached | the same per second of CPU | "
        "numpy.memmap: MB after 20,000 | its rows/s, 1,000 cached |",
        "|" + "---|" * 13, *table, "",
        "Opening takes the labels into memory (0.3 KB a person). The pixels' part stops growing at about 256 MB, after "
        "which the reader hands mapped pages back; through plain `numpy.memmap` it grows with every row touched.", "",
    ]
    write_text(ROOT / "benchmarks/crop_store.md", "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
