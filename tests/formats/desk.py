"""What the tests of formats share: sets to write, and one way to compare what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from stagepose.coco import CocoDataset, ImageInfo, dataset_from_arrays
from stagepose.formats import Labels, Read, open_source
from stagepose.skeleton import COCO_17, Skeleton

ODD = Skeleton(name="odd", names=('a"b', "naïve_<tip>", "left_x", "right_x", "it's"),
               flip_pairs=(("left_x", "right_x"),))
IMAGES = (ImageInfo(1, "a/one.png", 64, 48), ImageInfo(2, "two & 'more'.png", 100, 80),
          ImageInfo(3, "three.png", 33, 57))


def pictures(folder: Path) -> Path:
    """Grey pictures of :data:`IMAGES`."""
    for image in IMAGES:
        path = folder / image.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (image.width, image.height), 99).save(path)
    return folder


def read_labels(kind: Read, path: Path, *, split: str = "train", **how: Any) -> Labels:
    """The people of one split."""
    return open_source(kind, path, **how).read(split)


@st.composite
def sets(draw: st.DrawFn, skeleton: Skeleton) -> CocoDataset:
    """People anywhere on the pictures but at their corner, in pixels of two decimals."""
    def pixel(below: int, least: int = 0) -> float:
        return draw(st.integers(least, 100 * below)) / 100

    rows = []
    for image in IMAGES:
        for _ in range(draw(st.integers(0, 2))):
            left, top = pixel(image.width - 2), pixel(image.height - 2)
            box = (left, top, left + 1 + pixel(image.width - 1 - int(left + 1)),
                   top + 1 + pixel(image.height - 1 - int(top + 1)))
            points = [(pixel(image.width, 1), pixel(image.height), draw(st.integers(0, 2))) for _ in skeleton.names]
            rows.append((image.id, box, points))
    return dataset_from_arrays(
        [image for image, _, _ in rows], np.array([box for _, box, _ in rows]).reshape(-1, 4),
        np.array([points for _, _, points in rows], dtype=float).reshape(-1, len(skeleton), 3), skeleton=skeleton,
        images=IMAGES)


def people_of(dataset: CocoDataset) -> dict[str, list[dict[str, Any]]]:
    """By picture: every person's box, and keypoints by name, labelled ones only."""
    out: dict[str, list[dict[str, Any]]] = {image.file_name: [] for image in dataset.images}
    for row in range(len(dataset)):
        points = {name: tuple(point) for name, point in zip(dataset.skeleton.names, dataset.keypoints[row].tolist(),
                                                            strict=True) if point[2]}
        box = dataset.boxes_xyxy[row].round(2).tolist()
        out[dataset.image_of(row).file_name].append({"box": box, **points})
    return out


SKELETONS = {"coco17": COCO_17, "odd": ODD}
