"""Decoded pictures in one memory-mapped file, so that no epoch but the first decodes any. N pictures, H W pixels."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose import files
from stagepose.errors import DatasetError, ImageError, StagePoseError
from stagepose.images import read_image
from stagepose.training.detector.dataset import BoxImage

FORMAT = 1
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


def open_or_decode(images: Sequence[BoxImage], folder: str | Path, *, max_side: int) -> PixelCache:
    """The cache of these pictures below ``folder``, decoded first where it is missing; shrunk to ``max_side``."""
    stamps = [[str(i.file), i.file.stat().st_size, i.file.stat().st_mtime_ns] for i in images if i.file.is_file()]
    if len(stamps) != len(images):
        missing = [str(i.file) for i in images if not i.file.is_file()]
        raise DatasetError(f"{len(missing)} of {len(images)} pictures are missing, such as {missing[0]}; "
                           "check the images folder")
    key = hashlib.sha256(json.dumps([FORMAT, max_side, stamps]).encode()).hexdigest()[:12]
    home = Path(folder) / f"boxes-{max_side}-{key}"
    if not (home / "index.json").is_file():
        _decode(images, home, max_side)
    try:
        index = json.loads((home / "index.json").read_text(encoding="utf-8"))
        sizes, scales = np.array(index["sizes_hw"], dtype=np.int64).reshape(-1, 2), np.array(index["scales"], float)
        pixels = np.memmap(home / "pixels.bin", dtype=np.uint8, mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{home}: decoded pictures that are damaged ({error}); delete the folder") from error
    ends = np.cumsum(sizes.prod(1) * 3)
    if len(pixels) != (ends[-1] if len(ends) else 0):
        raise DatasetError(f"{home}: {len(pixels)} bytes of pixels, expected {ends[-1]}; delete the folder")
    return PixelCache(pixels, ends - sizes.prod(1) * 3, sizes, scales)


def _decode(images: Sequence[BoxImage], home: Path, max_side: int) -> None:
    """Write ``pixels.bin``, then ``index.json`` last, so that a cache is whole or absent."""
    temporary, sizes, scales = home / f"pixels.{os.getpid()}.tmp", [], []

    def load(image: BoxImage) -> tuple[Pixels, float]:
        try:
            pixels = read_image(image.file).pixels
        except ImageError as error:
            raise DatasetError(f"{error}; take it out of the data set or replace it") from error
        scale = min(1.0, max_side / max(pixels.shape[:2]))
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in pixels.shape[1::-1])
            pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return pixels, scale

    try:
        home.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file, ThreadPoolExecutor(2) as pool:
            for pixels, scale in pool.map(load, images):
                file.write(np.ascontiguousarray(pixels).data)
                sizes.append([int(s) for s in pixels.shape[:2]])
                scales.append(scale)
        temporary.replace(home / "pixels.bin")
    except BaseException as error:  # a picture that cannot be read, a full disk, Ctrl-C
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            home.rmdir()
        if isinstance(error, OSError):
            raise StagePoseError(f"{home}: cannot write the decoded pictures: {error.strerror}; "
                                 f"{files.remedy(error)} (--crops)") from error
        raise
    files.write_json(home / "index.json", {"format": FORMAT, "sizes_hw": sizes, "scales": scales})
