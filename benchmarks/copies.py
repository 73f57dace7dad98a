"""Copies of labelled people, each alone in a picture: turned, or covered in part. The same from the same seed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset, dataset_from_arrays, read_dataset
from stagepose.coco.dataset import to_json
from stagepose.coco.parsedfile import ImageInfo
from stagepose.files import write_json
from stagepose.geometry import Float, similarity
from stagepose.images import find_images, read_image, write_image
from stagepose.skeleton import COCO_17

COPIES = {"turned": 1, "covered": 2}  # and their seeds
TURNED = (30.0, 120.0)  # degrees, either way: training turns by 40 at most
COVERED, PATCHES = (0.15, 0.28), 3  # radii of a patch as shares of the box's root area; so many a person
CONTEXT = 1.6  # times the box, that a copy shows
LONGEST = 320  # pixels of a copy's longer side
LIMBS = [COCO_17.index(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
         for side in ("left", "right")]


def copies(held: Path, negatives: Path, folder: Path, kind: str) -> tuple[CocoDataset, Path]:
    """Every held-out person alone in a picture, turned or covered: the same from the same seed."""
    file = folder / kind / "people.json"
    if not file.is_file():
        dataset, patches = read_dataset(held), sorted(find_images([negatives]))
        rows = np.flatnonzero(dataset.with_keypoints())
        made = [_copy(dataset, int(row), held.parent / "images", patches, file.parent / "images", kind) for row in rows]
        images, boxes, keypoints, areas = zip(*made, strict=True)
        copied = dataset_from_arrays([image.id for image in images], np.stack(boxes), np.stack(keypoints),
                                     images=images, areas=areas)
        write_json(file, to_json(copied))
    return read_dataset(file), file.parent / "images"


def _copy(dataset: CocoDataset, row: int, images: Path, patches: list[Path], out: Path, kind: str,
          ) -> tuple[ImageInfo, Float, Float, float]:
    rng = np.random.default_rng([COPIES[kind], row])
    box, points = dataset.boxes_xyxy[row], dataset.keypoints[row].copy()
    width, height = box[2:] - box[:2]
    angle = rng.uniform(*TURNED) * rng.choice([-1, 1]) if kind == "turned" else 0.0
    turn = np.deg2rad(angle)
    half = np.hypot(np.array([width, height]) / 2 * np.cos(turn), np.array([height, width]) / 2 * np.sin(turn))
    shown = 2 * CONTEXT * half  # the ellipse within the box, turned, and what lies around
    scale = min(1.0, LONGEST / float(shown.max()))
    size = max(8, round(float(shown[0]) * scale)), max(8, round(float(shown[1]) * scale))
    middle = (np.array(size) - 1) / 2
    move = similarity((box[:2] + box[2:]) / 2 - 0.5, middle, scale, angle)
    pixels = move.warp(read_image(images / dataset.image_by_id[int(dataset.image_ids[row])].file_name).pixels, size)
    points[:, :2] = move.points(points[:, :2])
    inside = (points[:, 2] > 0) & (points[:, :2] > 0).all(1) & (points[:, :2] < np.array(size) - 1).all(1)
    points = np.where(inside[:, None], points, 0.0)
    extent = scale * half
    new_box = np.concatenate([middle + 0.5 - extent, middle + 0.5 + extent])
    if kind == "covered":
        pixels = _covered(rng, pixels, points, float(np.sqrt(4 * extent.prod())), patches)
    image = ImageInfo(row + 1, f"{row + 1:06d}.png", *size)
    write_image(out / image.file_name, pixels)
    return image, new_box, points, float(dataset.areas[row]) * scale**2


def _covered(rng: np.random.Generator, pixels: NDArray[np.uint8], points: Float, root: float, patches: list[Path],
             ) -> NDArray[np.uint8]:
    """Ellipses of other pictures over keypoints of arms, legs and trunk, whose v becomes 1 in place."""
    height, width = pixels.shape[:2]
    cover = np.zeros((height, width), dtype=np.uint8)
    seen = [k for k in LIMBS if points[k, 2] > 0]
    for k in rng.permutation(seen)[:PATCHES]:
        axes = np.maximum(1, np.round(root * rng.uniform(*COVERED, 2))).astype(int)
        centre = np.round(points[k, :2]).astype(int)
        cv2.ellipse(cover, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, cv2.FILLED)
    patch = cv2.resize(read_image(patches[int(rng.integers(len(patches)))]).pixels, (width, height),
                       interpolation=cv2.INTER_AREA)
    at = np.round(points[:, :2]).astype(int)
    points[(cover[at[:, 1], at[:, 0]] > 0) & (points[:, 2] > 0), 2] = 1
    return np.asarray(np.where(cover[..., None] > 0, patch, pixels), dtype=np.uint8)
