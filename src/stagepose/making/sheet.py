"""A contact sheet: some pictures of a set with their keypoints on them, to look at before a training does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.draw import draw_people
from stagepose.images import read_image, write_image
from stagepose.structures import Person

COLUMNS, ROWS = 6, 4
TILE = 256  # pixels
PAPER = 255
SCORES = np.array([0.0, 0.6, 1.0])  # by visibility: drawing leaves out what is not labelled


def draw_sheet(file: Path) -> Path:
    """``sheet.jpg`` beside a set's JSON, of its first pictures; returns its path."""
    dataset = read_dataset(file)
    tiles = [_tile(dataset, row, images_folder(file)) for row in range(min(COLUMNS * ROWS, len(dataset.images)))]
    rows = -(-len(tiles) // COLUMNS)
    sheet = np.full((rows * TILE, min(COLUMNS, len(tiles)) * TILE, 3), PAPER, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // COLUMNS * TILE, number % COLUMNS * TILE
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    target = file.with_name("sheet.jpg")
    write_image(target, sheet)
    return target


def _tile(dataset: CocoDataset, number: int, folder: Path) -> NDArray[np.uint8]:
    image = dataset.images[number]
    pixels = read_image(folder / image.file_name).pixels
    people = []
    for row in dataset.rows_by_image.get(image.id, np.zeros(0, dtype=np.int64)):
        points = dataset.keypoints[row]
        scores = SCORES[points[:, 2].astype(int)]
        people.append(Person(box=dataset.boxes_xyxy[row], keypoints=points[:, :2], scores=scores, score=1.0,
                             skeleton=dataset.skeleton))
    drawn = draw_people(pixels, people, labels="none")
    scale = TILE / max(drawn.shape[:2])
    size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
    return np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
