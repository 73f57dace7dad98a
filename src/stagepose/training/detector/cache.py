"""Decoded pictures in one memory-mapped file, so that no epoch but the first decodes any. N pictures, H W pixels.

``pixels.bin`` holds them end to end, ``pictures.jsonl`` a line for each. While they are decoded the folder is
``NAME.partial``, held by a lock: both files grow, and what no line tells of is decoded again after a kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose import files
from stagepose.ahead import in_order
from stagepose.cores import available_cores
from stagepose.errors import DatasetError, ImageError, StagePoseError
from stagepose.geometry import Size
from stagepose.images import read_image
from stagepose.training.detector.dataset import BoxImage, BoxSet
from stagepose.training.workfolder import PARTIAL, Progress, lock_of, mention_leftovers

FORMAT = 2
PIXELS, RECORD = "pixels.bin", "pictures.jsonl"
AHEAD = 4  # pictures a thread may be ahead of the writer: they wait in memory
BATCH = 100  # pictures from one sync to the next: a kill loses no more

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PixelCache:
    """Pictures laid end to end in one memory-mapped file; ``scales`` (N,) cached pixels per file pixel."""

    pixels: Pixels
    starts: NDArray[np.int64]
    sizes_hw: NDArray[np.int64]
    scales: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts)

    def image(self, index: int) -> Pixels:
        """(H, W, 3) RGB, a view of the file."""
        height, width = self.sizes_hw[index]
        start = self.starts[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


class _Row(NamedTuple):
    """A picture's line: (H, W) as it is cached, cached pixels per file pixel, and why there are none, if so."""

    height: int
    width: int
    scale: float
    fault: str = ""


def open_or_decode(boxes: BoxSet, folder: str | Path, *, max_side: int, drop_bad: bool = False,
                   progress: Progress | None = None) -> tuple[BoxSet, PixelCache]:
    """The set and the cache of its pictures below ``folder``, shrunk to ``max_side``; decoded where it is missing.

    Pictures that cannot be decoded are refused with their count (:class:`DatasetError`), or left out of both and
    counted with ``drop_bad``. Killed at any moment, the same call goes on with what is done.
    """
    images = boxes.images
    home = Path(folder) / f"boxes-{max_side}-{_fingerprint(images, max_side)}"
    if not (home / RECORD).is_file():
        _make(images, home, max_side, progress)
    try:
        rows = _rows(_lines(home))
        length = (home / PIXELS).stat().st_size
    except OSError as error:
        raise _damaged(home, error) from error
    sizes = np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2)
    lengths = sizes.prod(1) * 3
    if len(rows) != len(images) or length != lengths.sum():
        raise _damaged(home, f"{len(rows)} of {len(images)} pictures, {length:,} of {lengths.sum():,} bytes")
    _refuse_faults(rows, home, drop_bad)
    pixels = np.memmap(home / PIXELS, dtype=np.uint8, mode="r")
    kept_N = np.array([not row.fault for row in rows])
    cache = PixelCache(pixels, (np.cumsum(lengths) - lengths)[kept_N], sizes[kept_N],
                       np.array([row.scale for row in rows])[kept_N])
    return boxes.keep(kept_N), cache


def _refuse_faults(rows: Sequence[_Row], home: Path, drop_bad: bool) -> None:
    faults = [row.fault for row in rows if row.fault]
    if len(faults) == len(rows):
        raise DatasetError(f"none of {len(rows)} pictures can be decoded, such as {faults[0]}; check the images "
                           f"folder, and delete {home}")
    if faults and not drop_bad:
        raise DatasetError(f"{len(faults)} of {len(rows)} pictures cannot be decoded, such as {faults[0]}; replace "
                           f"them and delete {home}, or leave them out with --drop-bad, which goes on with what is "
                           "decoded there")


def _fingerprint(images: Sequence[BoxImage], max_side: int) -> str:
    """Changes when the pictures' names, sizes or times change."""
    stamps = [[str(i.file), i.file.stat().st_size, i.file.stat().st_mtime_ns] for i in images if i.file.is_file()]
    if len(stamps) != len(images):
        missing = [str(i.file) for i in images if not i.file.is_file()]
        raise DatasetError(f"{len(missing)} of {len(images)} pictures are missing, such as {missing[0]}; "
                           "check the images folder")
    return hashlib.sha256(json.dumps([FORMAT, max_side, stamps]).encode()).hexdigest()[:12]


def _damaged(home: Path, why: object) -> DatasetError:
    return DatasetError(f"{home}: decoded pictures that are damaged ({why}); delete the folder")


def _make(images: Sequence[BoxImage], home: Path, max_side: int, progress: Progress | None) -> None:
    """Decode in a working folder that gets its final name when all pictures are in it."""
    if home.exists() and not (home / RECORD).is_file():
        raise _damaged(home, f"it has no {RECORD}")
    working = home.with_name(home.name + PARTIAL)
    try:
        lock = lock_of(working, home / RECORD)
        if lock is None:  # another process has decoded them meanwhile
            return
        with lock:
            try:
                others = sorted(set(home.parent.glob(f"boxes-*{PARTIAL}")) - {working})
                mention_leftovers(others, "unfinished decoded pictures, of another set or of this one as it was")
                _decode(images, working, max_side, progress)
                working.rename(home)
            except BaseException:
                if not ((working / RECORD).is_file() and _lines(working)):  # nothing worth keeping
                    shutil.rmtree(working, ignore_errors=True)
                raise
    except OSError as error:
        raise StagePoseError(f"{home}: cannot write the decoded pictures: {error.strerror}; {files.remedy(error)} "
                             "(--crops)") from error


def _decode(images: Sequence[BoxImage], working: Path, max_side: int, progress: Progress | None) -> None:
    """Append the pictures that are not there yet; their lines only when their pixels are on the disk."""
    done, threads = _resume(working), available_cores()
    _refuse_full_disk(images[done:], working, max_side)
    with ((working / PIXELS).open("ab") as pixels, (working / RECORD).open("ab") as record,
          ThreadPoolExecutor(threads) as pool):
        decoded = in_order(pool, partial(_load, max_side=max_side), images[done:], AHEAD * threads)
        for stop in [*range(done - done % BATCH + BATCH, len(images), BATCH), len(images)]:
            lines = []
            for row, picture in islice(decoded, stop - done):
                pixels.write(picture.data)
                lines.append(json.dumps(row) + "\n")
            _sync(pixels)
            record.write("".join(lines).encode())
            _sync(record)
            done = stop
            if progress:
                progress(done, len(images))


def _load(image: BoxImage, max_side: int) -> tuple[_Row, Pixels]:
    """A picture decoded and shrunk, or none and why."""
    try:
        pixels = read_image(image.file).pixels
    except ImageError as error:
        return _Row(0, 0, 1.0, str(error)), np.zeros((0, 0, 3), dtype=np.uint8)
    size = (pixels.shape[1], pixels.shape[0])
    width, height = _shrunk(size, max_side)
    if (width, height) != size:
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return _Row(height, width, _scale(size, max_side)), np.ascontiguousarray(pixels)


def _scale(size: Size, max_side: int) -> float:
    return min(1.0, max_side / max(size))


def _shrunk(size: Size, max_side: int) -> Size:
    """What a picture of ``size`` is cached at; a thin one keeps a pixel of its short side."""
    scale = _scale(size, max_side)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _resume(working: Path) -> int:
    """Cut both files to the pictures that are whole -> how many these are."""
    for name in (PIXELS, RECORD):
        (working / name).touch()
    lines = _lines(working)
    ends = np.cumsum([0, *(row.height * row.width * 3 for row in _rows(lines))])
    done = int(np.searchsorted(ends, (working / PIXELS).stat().st_size, side="right")) - 1
    os.truncate(working / PIXELS, int(ends[done]))
    os.truncate(working / RECORD, sum(len(line) + 1 for line in lines[:done]))
    return done


def _lines(folder: Path) -> list[bytes]:
    """Of the record, without one that was torn."""
    return (folder / RECORD).read_bytes().split(b"\n")[:-1]


def _rows(lines: Iterable[bytes]) -> list[_Row]:
    """The pictures that lines tell of, up to one that is none."""
    rows = []
    for line in lines:
        try:
            height, width, scale, fault = json.loads(line)
            rows.append(_Row(int(height), int(width), float(scale), str(fault)))
        except (ValueError, TypeError):
            break
    return rows


def _refuse_full_disk(images: Sequence[BoxImage], working: Path, max_side: int) -> None:
    """:class:`StagePoseError` where these pictures will not fit."""
    needed = sum(3 * width * height for width, height in (_shrunk(image.size, max_side) for image in images)) / 1e6
    free = shutil.disk_usage(working).free / 1e6
    if needed > free:
        raise StagePoseError(f"{working}: disk full, {needed:,.1f} MB needed for decoded pictures; {free:,.0f} MB are "
                             "free; make room, or choose another folder with --crops; finished ones are kept")
