"""Pictures with boxes for the detector: read from COCO JSON, decoded once into one flat file, then augmented.

N pictures, P people in one, H W picture size, B samples; boxes are xyxy in pixels of the picture they belong to.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose import files
from stagepose.errors import ConfigError, DatasetError, ImageError
from stagepose.geometry import Size
from stagepose.images import IMAGE_SUFFIXES, read_image
from stagepose.training.randomness import SampleKey, generator

log = logging.getLogger(__name__)

FORMAT = 1
PERSON = "person"
Boxes = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxImage:
    """One picture: ``boxes`` (P, 4), ``labels`` (P,) from 1 (person), ``ignore`` (Q, 4) crowds, in file pixels."""

    file: Path
    boxes: Boxes
    labels: NDArray[np.int64]
    ignore: Boxes


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxSet:
    """Pictures fit for a detector, and how many were left out for which reason."""

    images: tuple[BoxImage, ...]
    categories: tuple[str, ...]
    left_out: dict[str, int]


def read_boxes(path: str | Path, images_dir: str | Path, *, negatives_dir: str | Path | None = None,
               people_only: bool = True) -> BoxSet:
    """Read a COCO instances or person file, and pictures without people from ``negatives_dir``.

    Pictures marked ``all_person_boxes: false`` are left out: their unboxed people would be learned as background.
    """
    path, images_dir = Path(path), Path(images_dir)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        images, annotations, categories = data["images"], data["annotations"], data["categories"]
        _require_unique(path, [image["id"] for image in images], [image["file_name"] for image in images])
        _require_unique(path, [category["id"] for category in categories], [c["name"] for c in categories])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(f"{path}: not a COCO instances file ({error}); expected images, annotations, "
                           "categories") from error
    labels = _labels(path, categories, people_only)
    by_image: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    left_out = {"picture not fully boxed": 0, "box of another category": 0, "box without area": 0,
                "annotation of no picture": 0}
    for annotation in annotations:
        reason = _why_not(path, annotation, labels, by_image)
        if reason:
            left_out[reason] += 1
        else:
            by_image[annotation["image_id"]].append(annotation)
    whole = [image for image in images if image.get("all_person_boxes", True)]
    left_out["picture not fully boxed"] = len(images) - len(whole)
    found = [_box_image(images_dir / image["file_name"], by_image[image["id"]], labels) for image in whole]
    if negatives_dir is not None:
        found += [_box_image(file, [], labels) for file in sorted(Path(negatives_dir).iterdir())
                  if file.suffix.lower() in IMAGE_SUFFIXES]
    log.info("%s: %d pictures; left out: %s", path, len(found), left_out)
    return BoxSet(images=tuple(found), categories=tuple(_names(labels, categories)), left_out=left_out)


def _require_unique(path: Path, ids: Sequence[Any], names: Sequence[Any]) -> None:
    """:class:`DatasetError` for pictures that share an id or a file: their boxes would be mixed up."""
    for what, values in (("id", ids), ("file_name", names)):
        if len(set(values)) != len(values):
            twice = next(v for v in values if values.count(v) > 1)
            raise DatasetError(f"{path}: two entries have {what} {twice!r}; 'stagepose check {path} --write-clean OUT' "
                               "mends it")


def _labels(path: Path, categories: Sequence[dict[str, Any]], people_only: bool) -> dict[int, int]:
    """COCO category id -> label, person 1 and the others after it in the file's order."""
    people = [c["id"] for c in categories if c.get("name") == PERSON]
    if len(people) != 1:
        raise DatasetError(f"{path}: {len(people)} categories named {PERSON!r}, expected exactly one; "
                           f"the file has {[c.get('name') for c in categories][:5]}")
    others = [] if people_only else [c["id"] for c in categories if c["id"] != people[0]]
    return {category: label for label, category in enumerate([*people, *others], 1)}


def _names(labels: dict[int, int], categories: Sequence[dict[str, Any]]) -> list[str]:
    """Category names in the order of their labels."""
    names = {c["id"]: str(c["name"]) for c in categories}
    return [names[category] for category in labels]


def _why_not(path: Path, annotation: dict[str, Any], labels: dict[int, int], known: dict[int, Any]) -> str:
    """Why an annotation is left out, or an empty text."""
    if annotation.get("image_id") not in known:
        return "annotation of no picture"
    if annotation.get("category_id") not in labels:
        return "box of another category"
    box = np.asarray(annotation.get("bbox", ()), dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise DatasetError(f"{path}: annotation {annotation.get('id')}: bbox is {annotation.get('bbox')!r}, "
                           "expected 4 finite numbers x, y, width, height")
    return "" if box[2:].min() > 0 else "box without area"


def _box_image(file: Path, annotations: Sequence[dict[str, Any]], labels: dict[int, int]) -> BoxImage:
    boxes = np.array([a["bbox"] for a in annotations], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
    categories = np.array([labels[a["category_id"]] for a in annotations], dtype=np.int64)
    return BoxImage(file=file, boxes=boxes[~crowd], labels=categories[~crowd], ignore=boxes[crowd])


@dataclass(frozen=True, eq=False)
class PixelCache:
    """Decoded pictures laid end to end in one memory-mapped file; ``scales`` (N,) cached pixels per file pixel."""

    pixels: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes_hw: NDArray[np.int64]
    scales: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts)

    def image(self, index: int) -> NDArray[np.uint8]:
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
    index = json.loads((home / "index.json").read_text(encoding="utf-8"))
    sizes = np.array(index["sizes_hw"], dtype=np.int64).reshape(-1, 2)
    ends = np.cumsum(sizes.prod(1) * 3)
    pixels = np.memmap(home / "pixels.bin", dtype=np.uint8, mode="r")
    if len(pixels) != (ends[-1] if len(ends) else 0):
        raise DatasetError(f"{home}: {len(pixels)} bytes of pixels, expected {ends[-1]}; delete the folder")
    return PixelCache(pixels, ends - sizes.prod(1) * 3, sizes, np.array(index["scales"]))


def _decode(images: Sequence[BoxImage], home: Path, max_side: int) -> None:
    """Write ``pixels.bin``, then ``index.json`` last, so that a cache is whole or absent."""
    home.mkdir(parents=True, exist_ok=True)
    temporary, sizes, scales = home / f"pixels.{os.getpid()}.tmp", [], []

    def load(image: BoxImage) -> tuple[NDArray[np.uint8], float]:
        try:
            pixels = read_image(image.file).pixels
        except ImageError as error:
            raise DatasetError(f"{error}; take it out of the data set or replace it") from error
        scale = min(1.0, max_side / max(pixels.shape[:2]))
        if scale < 1:
            width, height = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
            pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        return pixels, scale

    with temporary.open("wb") as file, ThreadPoolExecutor(2) as pool:
        for pixels, scale in pool.map(load, images):
            file.write(np.ascontiguousarray(pixels).data)
            sizes.append([int(s) for s in pixels.shape[:2]])
            scales.append(scale)
    temporary.replace(home / "pixels.bin")
    files.write_json(home / "index.json", {"format": FORMAT, "sizes_hw": sizes, "scales": scales})


@dataclass(frozen=True, kw_only=True)
class BoxAugment:
    """How a picture becomes a training canvas; zoom 1 is the scale that training is meant for."""

    canvas: Size = (384, 320)
    long_side: int = 416  # canvas pixels of a whole picture at zoom 1: a little below test time's, which is cheaper
    zoom: tuple[float, float] = (0.6, 1.6)
    flip_chance: float = 0.5
    aim_chance: float = 0.6  # crops aimed at a person, else anywhere
    colour: float = 0.3
    grey_chance: float = 0.05
    least_visible: float = 0.3  # a box with less of it inside the canvas is ignored: neither person nor background
    least_side: float = 5.0  # canvas pixels; smaller people are ignored too
    fill: int = 127  # what lies outside the picture: zero after normalisation, as at test time

    def __post_init__(self) -> None:
        if any(side % 32 for side in self.canvas):
            raise ConfigError(f"canvas is {self.canvas}, expected multiples of 32")
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ConfigError(f"zoom is {self.zoom}, expected 0 < low <= high")


@dataclass(frozen=True, eq=False)
class BoxSample:
    """One augmented picture (H, W, 3) with its boxes in canvas pixels."""

    pixels: NDArray[np.uint8]
    boxes: Boxes
    labels: NDArray[np.int64]
    ignore: Boxes


def augment(pixels: NDArray[np.uint8], image: BoxImage, *, to_cache: float, long_side: int,
            config: BoxAugment, rng: np.random.Generator) -> BoxSample:
    """Cut a canvas out of a cached picture; ``to_cache`` cached pixels per pixel of ``image``'s boxes."""
    boxes, ignore = image.boxes * to_cache, image.ignore * to_cache
    matrix = _sample_matrix(pixels.shape[:2], boxes, long_side, config, rng)
    border = (config.fill,) * 3
    small = matrix.copy()  # cv2 counts from pixel centres, boxes from pixel edges: p + .5 is an edge coordinate
    small[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5
    canvas = cv2.warpAffine(np.ascontiguousarray(pixels), small, config.canvas, flags=cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_CONSTANT, borderValue=border)
    canvas = _colour(np.asarray(canvas, dtype=np.uint8), config, rng)
    moved, visible = _move(boxes, matrix, config.canvas)
    sides = np.minimum(moved[:, 2] - moved[:, 0], moved[:, 3] - moved[:, 1])
    fit = (visible >= config.least_visible) & (sides >= config.least_side)
    crowd, crowd_visible = _move(ignore, matrix, config.canvas)
    ignored = np.concatenate([moved[~fit & (visible > 0)], crowd[crowd_visible > 0]])
    return BoxSample(canvas, moved[fit], image.labels[fit], ignored)


def _sample_matrix(size_hw: tuple[int, ...], boxes: Boxes, long_side: int, config: BoxAugment,
                   rng: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) from cached edges to canvas edges: zoom, flip, and a place that shows as much picture as it can."""
    height, width = size_hw
    low, high = np.log(config.zoom)
    zoom = float(np.exp(rng.uniform(low, high))) * long_side / max(height, width)
    aim, flip, which = rng.random(3)
    spare = np.array(config.canvas) - np.array([width, height]) * zoom  # negative: the picture is cut
    offset = rng.uniform(np.minimum(spare, 0), np.maximum(spare, 0))
    if len(boxes) and aim < config.aim_chance:
        box = boxes[int(which * len(boxes))]
        centre = (box[:2] + box[2:]) / 2 * zoom
        wanted = np.array(config.canvas) * rng.uniform(0.25, 0.75, 2) - centre
        offset = np.clip(wanted, np.minimum(spare, 0), np.maximum(spare, 0))
    matrix = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
    if flip < config.flip_chance:
        matrix[0] *= -1
        matrix[0, 2] += config.canvas[0]
    return matrix


def _move(boxes: Boxes, matrix: NDArray[np.float64], canvas: Size) -> tuple[Boxes, NDArray[np.float64]]:
    """Boxes on the canvas, clipped to it, and the share of each that is still visible."""
    scale, shift = np.diag(matrix[:, :2]), matrix[:, 2]
    corners = boxes.reshape(-1, 2, 2) * scale + shift
    full = np.concatenate([corners.min(1), corners.max(1)], 1)
    clipped = np.clip(full, 0, np.tile(np.array(canvas, dtype=np.float64), 2))
    area = (full[:, 2:] - full[:, :2]).prod(1)
    visible = (clipped[:, 2:] - clipped[:, :2]).prod(1) / np.maximum(area, 1e-6)
    return clipped.astype(np.float32), visible


def _colour(pixels: NDArray[np.uint8], config: BoxAugment, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Contrast, brightness and a tint per channel through one look-up table, now and then grey."""
    contrast, light = 1 + config.colour * rng.uniform(-1, 1, 2)
    tint = 1 + 0.3 * config.colour * rng.uniform(-1, 1, 3)
    grey = rng.random() < config.grey_chance
    ramp = (np.arange(256)[:, None] - config.fill) * contrast * tint + config.fill * light
    table = np.clip(ramp, 0, 255).astype(np.uint8)
    out = np.asarray(cv2.LUT(pixels, table[None]), dtype=np.uint8)
    return np.repeat(out.mean(2, keepdims=True).astype(np.uint8), 3, axis=2) if grey else out


class BoxData:
    """A :class:`BoxSet` with its pixels, ready to hand out augmented samples by key."""

    def __init__(self, boxes: BoxSet, cache: PixelCache, *, augment: BoxAugment, long_side: int, seed: int) -> None:
        if not boxes.images:
            raise DatasetError("no picture is left for training; see what was left out: " + str(boxes.left_out))
        self.boxes, self.cache, self.config, self.long_side, self.seed = boxes, cache, augment, long_side, seed

    def __len__(self) -> int:
        return len(self.boxes.images)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Every picture once, shuffled."""
        return np.asarray(generator(self.seed, epoch, 2**62).permutation(len(self)), dtype=np.int64)

    def sample(self, key: SampleKey, row: int) -> BoxSample:
        """Picture ``row`` as the sample ``key`` = (epoch, position) sees it."""
        image = self.boxes.images[row]
        return augment(self.cache.image(row), image, to_cache=float(self.cache.scales[row]),
                       long_side=self.long_side, config=self.config, rng=generator(self.seed, *key))
