"""A tiny COCO set drawn in code: stick people whose joints and limbs have colours of their own.

``from tiny import tiny_coco``: 4 images of 192x160 with 2 people each, in under a tenth of a second.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stagepose.skeleton import COCO_17

WIDTH, HEIGHT = 192, 160
JOINT_RADIUS = 3
HIDDEN, ABSENT = 0.1, 0.1  # shares of joints with v = 1 (labelled, drawn over in grey) and v = 0 (not drawn)
MARGIN = 6.0  # pixels of box around the outermost joints

# A standing person seen from the front, facing us: its left is at our right. Units of its height, (0, 0) mid-hip.
_STANDING = {
    "nose": (0.0, -0.43), "eye": (0.03, -0.46), "ear": (0.06, -0.44), "shoulder": (0.11, -0.32),
    "elbow": (0.17, -0.16), "wrist": (0.20, 0.0), "hip": (0.07, 0.0), "knee": (0.09, 0.22), "ankle": (0.10, 0.44),
}  # fmt: skip


def tiny_coco(folder: Path, images: int = 4, people: int = 2, seed: int = 0) -> Path:
    """Draw the pictures into ``folder/images`` and write ``folder/person_keypoints.json``; returns the JSON's path."""
    data = tiny_dict(images, people, seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for image in data["images"]:
        rng = np.random.default_rng([seed, image["id"]])
        mine = [a["keypoints"] for a in data["annotations"] if a["image_id"] == image["id"]]
        draw_people(mine, rng).save(folder / "images" / image["file_name"])
    path = folder / "person_keypoints.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def two_sets(folder: Path) -> tuple[Path, Path]:
    """The JSONs of a set to learn from and one to judge by, without a picture in common."""
    train, val = tiny_coco(folder / "train", images=4), tiny_coco(folder / "val", images=2, seed=1)
    data = json.loads(val.read_text())
    for image in data["images"]:
        picture = val.parent / "images" / image["file_name"]
        image.update(id=image["id"] + 100, file_name=f"val-{image['file_name']}")
        picture.rename(picture.with_name(image["file_name"]))
    for annotation in data["annotations"]:
        annotation["image_id"] += 100
    val.write_text(json.dumps(data))
    return train, val


def tiny_dict(images: int = 4, people: int = 2, seed: int = 0) -> dict[str, Any]:
    """The JSON of :func:`tiny_coco` as a dict, without pictures; free to be mutated."""
    rng = np.random.default_rng([seed, 10**6])
    rows = [tiny_person(rng, slot, people, n + 1) for n in range(images) for slot in range(people)]
    return {
        "info": {"description": "tiny stick people"},
        "images": [
            {"id": n + 1, "file_name": f"{n + 1:012d}.png", "width": WIDTH, "height": HEIGHT} for n in range(images)
        ],
        "annotations": [{"id": n + 1, **row} for n, row in enumerate(rows)],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(COCO_17.names),
                "skeleton": [[a + 1, b + 1] for a, b in COCO_17.limb_index],
            }
        ],
    }


def many_pictures(folder: Path, count: int, *sizes: tuple[int, int]) -> Path:
    """Slow to decode, quick to make: one noisy picture of each (width, height) in turn, under many names."""
    data = tiny_dict(images=count, people=1)
    (folder / "images").mkdir(parents=True)
    files = [folder / "images" / image["file_name"] for image in data["images"]]
    for number, (file, image) in enumerate(zip(files, data["images"], strict=True)):
        image["width"], image["height"] = width, height = sizes[number % len(sizes)]
        if number < len(sizes):
            noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(noise).save(file, compress_level=1)
        else:
            os.link(files[number % len(sizes)], file)
    return write_json(folder, data)


def write_json(folder: Path, data: object, name: str = "train.json") -> Path:
    """Any value as a JSON file; NaN goes in as the literal that is no JSON."""
    path = folder / name
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def tiny_person(rng: np.random.Generator, slot: int, people: int, image_id: int) -> dict[str, Any]:
    """One annotation without its id: a person of random height, lean and limbs in its slot of the picture."""
    xy = _pose(rng, slot, people)
    kind = rng.random(len(COCO_17))
    v = np.where(kind < ABSENT, 0, np.where(kind < ABSENT + HIDDEN, 1, 2))
    v[0] = 2  # nobody is without any keypoint
    low = np.clip(xy.min(0) + 0.5 - MARGIN, 0, [WIDTH, HEIGHT])
    size = np.clip(xy.max(0) + 0.5 + MARGIN, 0, [WIDTH, HEIGHT]) - low
    triples = np.column_stack([xy, v]) * (v > 0)[:, None]
    return {
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(float(value), 2) for value in (*low, *size)],
        "area": round(float(size.prod()) * 0.536, 2),
        "keypoints": [int(t) if i % 3 == 2 else float(t) for i, t in enumerate(triples.ravel())],
        "num_keypoints": int((v > 0).sum()),
    }


def _pose(rng: np.random.Generator, slot: int, people: int) -> NDArray[np.float64]:
    """(17, 2) xy, rounded to a tenth of a pixel."""
    tall = HEIGHT * rng.uniform(0.65, 0.85)
    middle = np.array([WIDTH * (slot + 0.5) / max(people, 1), HEIGHT * 0.52])
    points = []
    for name in COCO_17.names:
        x, y = _STANDING[name.split("_")[-1]]
        points.append((-x if name.startswith("right") else x, y))
    xy = np.array(points) * tall
    xy[7:11] += rng.normal(0, 0.05 * tall, (4, 2))  # elbows and wrists
    xy[13:17] += rng.normal(0, 0.02 * tall, (4, 2))  # knees and ankles
    angle = rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.round(np.clip(xy @ turn.T + middle, 2, [WIDTH - 3, HEIGHT - 3]), 1)


def draw_people(keypoints: list[list[float]], rng: np.random.Generator) -> Image.Image:
    """Stick people on a grey background with a little noise; every joint and every limb has its own colour."""
    noise = rng.integers(90, 120, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    picture = Image.fromarray(np.repeat(noise, 3, axis=2))
    pen = ImageDraw.Draw(picture)
    colours = np.random.default_rng(17).integers(0, 256, (64, 3))
    for flat in keypoints:
        person = np.reshape(flat, (-1, 3))
        for n, (a, b) in enumerate(COCO_17.limb_index):
            if person[a, 2] and person[b, 2]:
                line = [(float(person[j, 0]), float(person[j, 1])) for j in (a, b)]
                pen.line(line, fill=tuple(int(c) for c in colours[20 + n]), width=3)
        for k, (x, y, v) in enumerate(person):
            if v:
                colour = tuple(int(c) for c in colours[k]) if v == 2 else (60, 60, 60)
                r = JOINT_RADIUS
                pen.ellipse((float(x) - r, float(y) - r, float(x) + r, float(y) + r), fill=colour)
    return picture


def contents(home: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {str(file.relative_to(home)): file.read_bytes() for file in sorted(home.rglob("*")) if file.is_file()}
