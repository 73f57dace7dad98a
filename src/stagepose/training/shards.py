"""Pixels in shards: files that hold people end to end, written once and read at random through memory maps.

H W canvas size in pixels.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.cores import available_cores
from stagepose.errors import ConfigError, DatasetError
from stagepose.geometry import Size

Form = Literal["raw", "jpeg"]
SUFFIXES: dict[Form, str] = {"raw": ".raw", "jpeg": ".jpg.bin"}

DECODERS = 4  # threads at most that unfold the JPEGs of one batch
ROWS_A_DECODER = 8  # at least; below, starting a thread costs more than it saves
RELEASE_AFTER = 256 * 2**20  # bytes read, after which the pages are handed back; see ShardReader
MAPPED_AROUND = 2 * 65536  # bytes that the system maps besides those of a row, at most (its fault-around)
REMEDY = "copy it again from where it was packed, or delete the folder and pack again"
# OpenCV before 4.11 has no flag that decodes straight to RGB
_TO_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)


@dataclass(frozen=True)
class Shard:
    """One file of a store: how many people it holds, and how long it must be."""

    name: str
    people: int
    bytes: int


def shard_name(number: int, form: Form) -> str:
    """``crops-00007.raw`` or ``crops-00007.jpg.bin``."""
    return f"crops-{number:05d}{SUFFIXES[form]}"


def encode(crop_HW3: NDArray[np.uint8], form: Form, quality: int) -> bytes:
    """One person as a shard holds it.

    JPEGs keep half the colour resolution (4:2:0), as the photographs they come from do. Measured on 199 people of
    COCO at 288x384: quality 90 takes 24.9 KB at 41.2 dB; full colour resolution at quality 85 takes 24.3 KB at 40.9 dB.
    So colour resolution buys nothing that quality would not buy for the same bytes, and 90 is past the point where the
    loss is below a camera's own noise. (4:4:4 at 90: 29.8 KB, 42.8 dB; raw: 331.8 KB.)
    """
    if form == "raw":
        return crop_HW3.tobytes()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    done, data = cv2.imencode(".jpg", crop_HW3[..., ::-1], options)
    assert done
    return data.tobytes()


def decode_jpeg(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB, the inverse of :func:`encode`; None for what is no JPEG."""
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR if _TO_RGB is None else _TO_RGB)
    except cv2.error:
        return None
    if pixels is None:
        return None
    # cvtColor would start OpenCV's threads, which a forked data worker does not have
    return np.asarray(pixels if _TO_RGB is not None else pixels[..., ::-1], dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How pixels are stored. ``shard_mb`` is met exactly by raw pixels, roughly by JPEGs."""

    form: Form = "raw"
    quality: int = 90
    shard_mb: int = 512
    jobs: int | None = None  # threads; None: one a core

    def __post_init__(self) -> None:
        for name, low, high in (("quality", 1, 100), ("shard_mb", 1, 100_000), ("jobs", 1, 1024)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}, expected {low} to {high}")

    @property
    def threads(self) -> int:
        """That decode pictures."""
        return self.jobs or available_cores()

    @property
    def suffix(self) -> str:
        """Of a store's name and fingerprint: stores of both forms may lie side by side."""
        return "" if self.form == "raw" else f"-jpeg{self.quality}"


class ShardWriter:
    """Appends people to a shard under a temporary name; :meth:`finish` gives it its own, whole and on disk."""

    def __init__(self, path: Path) -> None:
        self.path, self.sizes = path, list[int]()
        self._temporary = path.with_name(path.name + ".tmp")
        self._file = self._temporary.open("wb")

    def append(self, data: bytes) -> None:
        """The next person."""
        self._file.write(data)
        self.sizes.append(len(data))

    def finish(self) -> Shard:
        """Flush, sync, rename."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self.path)
        return Shard(self.path.name, len(self.sizes), sum(self.sizes))

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):  # what was buffered may have no room
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class ShardReader:
    """People by row, whatever shard they lie in. Files are mapped when first touched.

    A mapped page counts as this process's memory for as long as the mapping lives (numpy.memmap's known surprise: a
    random pass "uses" the whole set). So after every RELEASE_AFTER bytes the pages are handed back; they stay in the
    system's cache, where all processes share them and which it empties when it needs to. Views that are still held
    stay good.
    """

    def __init__(self, home: Path, shards: Sequence[Shard], form: Form, canvas: Size, sizes: NDArray[np.int64]) -> None:
        self.home, self.shards, self.form = home, tuple(shards), form
        self.shape = (canvas[1], canvas[0], 3)
        self._starts = np.cumsum([0, *(shard.people for shard in shards)])
        ends = np.cumsum(sizes)
        before = np.repeat(np.cumsum([0, *(shard.bytes for shard in shards)])[:-1], [s.people for s in shards])
        self._low, self._high = ends - sizes - before, ends - before  # bytes of a row within its shard
        self._maps: dict[int, tuple[mmap.mmap, NDArray[np.uint8]]] = {}
        self._touched = 0

    def read(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """The people (H, W, 3) of ``rows``: read-only views of the files where they are raw, decoded where not."""
        if self._touched > RELEASE_AFTER:
            self.release()
        self._touched += int((self._high[rows] - self._low[rows] + MAPPED_AROUND).sum())
        shard_of = (np.searchsorted(self._starts, rows, side="right") - 1).tolist()
        places = list(zip(rows.tolist(), shard_of, strict=True))
        self._announce(places)
        if self.form == "raw":
            return [self._data(place).reshape(self.shape) for place in places]
        threads = min(_decoders(), len(rows) // ROWS_A_DECODER)
        if threads < 2:
            return [self._decoded(place) for place in places]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._decoded, places))

    def _announce(self, places: Sequence[tuple[int, int]]) -> None:
        """Map the shards, before threads could do it twice, and let the disk fetch all rows at once, not in turn."""
        for row, shard in places:
            self._bytes(shard)
            if hasattr(mmap, "MADV_WILLNEED"):
                low = int(self._low[row]) // mmap.PAGESIZE * mmap.PAGESIZE
                self._maps[shard][0].madvise(mmap.MADV_WILLNEED, low, int(self._high[row]) - low)

    def release(self) -> None:
        """Hand mapped pages back to the system; what is read again later comes from its cache or the disk."""
        for mapped, _ in self._maps.values():
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)
        self._touched = 0

    def _bytes(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._maps:
            path = self.home / self.shards[shard].name
            try:
                with path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise DatasetError(f"{path}: cannot read: {error}; {REMEDY}") from error
            self._maps[shard] = mapped, np.frombuffer(mapped, dtype=np.uint8)
        return self._maps[shard][1]

    def _data(self, place: tuple[int, int]) -> NDArray[np.uint8]:
        row, shard = place
        return self._bytes(shard)[self._low[row] : self._high[row]]

    def _decoded(self, place: tuple[int, int]) -> NDArray[np.uint8]:
        pixels = decode_jpeg(self._data(place))
        if pixels is None or pixels.shape != self.shape:
            row, shard = place
            raise DatasetError(f"{self.home / self.shards[shard].name}: person {row} of the store is damaged; {REMEDY}")
        return pixels


def _decoders() -> int:
    """A data worker is one of many already and needs no threads of its own."""
    return 1 if multiprocessing.parent_process() is not None else min(DECODERS, available_cores())
