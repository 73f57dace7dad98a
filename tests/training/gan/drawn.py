"""Drawn people for the repair network: thick limbs, each of one colour on everybody, a trunk and a striped background.

``drawn_coco(folder, people)``: pictures of 96x128 with one person each, in any pose of the arms and legs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from stagepose.coco.dataset import category_json
from stagepose.skeleton import COCO_17

WIDTH, HEIGHT, THICK = 96, 128, 7
TRUNK = {"nose": (0, -31), "left_eye": (3, -34), "right_eye": (-3, -34), "left_ear": (6, -32), "right_ear": (-6, -32),
         "left_shoulder": (9, -22), "right_shoulder": (-9, -22), "left_hip": (7, 8), "right_hip": (-7, 8)}
LIMBS = (  # root, joints on the way out, lengths, where it points on average (degrees from x towards y), colour
    ("left_shoulder", ("left_elbow", "left_wrist"), (15, 13), 40, (230, 40, 40)),
    ("right_shoulder", ("right_elbow", "right_wrist"), (15, 13), 140, (40, 200, 40)),
    ("left_hip", ("left_knee", "left_ankle"), (18, 16), 80, (50, 80, 240)),
    ("right_hip", ("right_knee", "right_ankle"), (18, 16), 100, (240, 220, 40)),
)
COLOURS = {chain[-1]: colour for _, chain, _, _, colour in LIMBS}  # by the limb's tip


def drawn_coco(folder: Path, people: int, seed: int = 0) -> Path:
    """Draw into ``folder/images`` and write ``folder/person_keypoints.json``; returns the JSON's path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, people + 1):
        rng = np.random.default_rng([seed, number])
        points = _pose(rng)
        name = f"{number:06d}.png"
        _picture(points, rng).save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 1})
        low, high = points.min(0) - 5, points.max(0) + 5
        low, high = np.clip(low, 0, None), np.clip(high, None, [WIDTH, HEIGHT])
        annotations.append({"id": 10 * number, "image_id": number, "category_id": 1, "iscrowd": 0,
                            "bbox": [*low.tolist(), *(high - low).tolist()], "area": 2000.0,
                            "keypoints": np.column_stack([points, np.full(17, 2)]).round(1).ravel().tolist(),
                            "num_keypoints": 17})
    path = folder / "person_keypoints.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category_json(COCO_17)],
                                "licenses": [{"id": 1, "name": "CC0"}]}))
    return path


def _pose(rng):
    """(17, 2) xy; arms and legs turn by up to 70 degrees, and by as much at the elbow and the knee."""
    places = {name: np.array(place, dtype=float) for name, place in TRUNK.items()}
    for root, joints, lengths, mean, _ in LIMBS:
        place, angle = places[root], mean
        for joint, length in zip(joints, lengths, strict=True):
            angle = angle + rng.uniform(-70, 70)
            place = place + length * np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
            places[joint] = place
    middle = np.array([WIDTH / 2, HEIGHT / 2 + 5]) + rng.uniform(-4, 4, 2)
    points = np.stack([places[name] for name in COCO_17.names]) + middle
    return np.clip(points, 3, [WIDTH - 4, HEIGHT - 4])


def _picture(points, rng):
    stripes = rng.integers(70, 150, (HEIGHT // 8, 1, 1)).repeat(8, 0) + rng.integers(0, 12, (HEIGHT, WIDTH, 1))
    picture = Image.fromarray(np.repeat(stripes, 3, 2).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    at = dict(zip(COCO_17.names, map(tuple, points.tolist()), strict=True))
    pen.polygon([at[name] for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")], fill=(90, 60, 90))
    x, y = at["nose"]
    pen.ellipse((x - 8, y - 9, x + 8, y + 7), fill=(220, 180, 150))
    for root, joints, _, _, colour in LIMBS:
        path = [at[root], *(at[joint] for joint in joints)]
        pen.line(path, fill=colour, width=THICK, joint="curve")
    return picture
