"""A contact sheet: some pictures of a set with their keypoints on them, to look at before a training does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.images import read_image, write_image
from stagepose.labelled import draw_labels

COLUMNS, ROWS = 6, 4
TILE, HEADER = 256, 22  # pixels of a picture's longer side, and of the line of text above one
PAPER, INK = (245, 247, 250), (22, 26, 38)


def draw_sheet(file: Path) -> Path:
    """``sheet.jpg`` beside a set's JSON, of its first pictures; returns its path."""
    dataset = read_dataset(file)
    tiles = [_tile(dataset, row, images_folder(file)) for row in range(min(COLUMNS * ROWS, len(dataset.images)))]
    target = file.with_name("sheet.jpg")
    write_image(target, laid_out(tiles, COLUMNS))
    return target


def laid_out(tiles: Sequence[NDArray[np.uint8]], across: int, gap: int = 0) -> NDArray[np.uint8]:
    """One picture of pictures (H, W, 3), of which there is at least one, in reading order.

    Cells are as large as the largest of them; ``gap`` pixels lie between and around.
    """
    across = min(across, len(tiles))
    height, width = (max(tile.shape[axis] for tile in tiles) + gap for axis in (0, 1))
    sheet = np.full((-(-len(tiles) // across) * height + gap, across * width + gap, 3), PAPER, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = gap + number // across * height, gap + number % across * width
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def captioned(pixels_HW3: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A picture under a line of text, HEADER pixels high; what is too long for it is cut."""
    header = np.full((HEADER, pixels_HW3.shape[1], 3), PAPER, dtype=np.uint8)
    cv2.putText(header, text, (3, HEADER - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.36, INK, 1, cv2.LINE_AA)
    return np.concatenate([header, pixels_HW3])


def _tile(dataset: CocoDataset, number: int, folder: Path) -> NDArray[np.uint8]:
    image = dataset.images[number]
    drawn = draw_labels(read_image(folder / image.file_name).pixels, dataset, image.id)
    scale = TILE / max(drawn.shape[:2])
    size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
    return np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
