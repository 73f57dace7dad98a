"""A detector small enough for tests, and stick people to show it."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import tiny_coco

from stagepose.training.detector.augment import BoxAugment
from stagepose.training.detector.cache import open_or_decode
from stagepose.training.detector.config import DetectorConfig, Keeping
from stagepose.training.detector.data import BoxData
from stagepose.training.detector.dataset import read_boxes
from stagepose.training.detector.model import Detector

SMALL = DetectorConfig(pretrained=False, frozen_blocks=0, width=32, head_width=64, long_side=192,
                       keeping=Keeping(proposals=50))
PLAIN = BoxAugment(canvas=(192, 160), long_side=192, zoom=(1.0, 1.0), flip_chance=0, aim_chance=0, colour=0,
                   grey_chance=0, mosaic_chance=0, paste_chance=0)


def detector(config: DetectorConfig = SMALL, seed: int = 0) -> Detector:
    torch.manual_seed(seed)
    return Detector(config)


def tiny_data(folder: Path, config: BoxAugment = PLAIN, images: int = 4) -> BoxData:
    path = tiny_coco(folder, images=images)
    boxes = read_boxes(path, folder / "images")
    return BoxData(*open_or_decode(boxes, folder / "cache", max_side=192), augment=config, seed=0)


def damage_amid_pixels(file: Path) -> None:
    """Its header and its last mark still tell of a whole picture."""
    data = bytearray(file.read_bytes())
    for at in range(len(data) // 2, len(data) // 2 + 40):
        data[at] ^= 0x5A
    file.write_bytes(data)
