"""Draw ``docs/rendered_keypoints.jpg``: every keypoint of COCO on the body, from four sides, to check them by eye.

    python tools/keypoints_picture.py docs/rendered_keypoints.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.images import write_image
from stagepose.rendering.body import BODY, EYES, Traits, load_body
from stagepose.rendering.camera import look_at
from stagepose.rendering.dressing import vertex_normals
from stagepose.rendering.figures import turned
from stagepose.rendering.landmarks import COCO_FILE, Landmarks, read_landmarks
from stagepose.rendering.pose import angles, move
from stagepose.rendering.raster import rasterise

SIDE = (620, 400)  # height and width of one view
VIEWS = (("front", 0), ("right side", 90), ("back", 180), ("left side", -90))
FACE = 5  # of COCO's keypoints come first
AWAY = 30.0  # metres: nearly parallel rays
POSE = {f"{side}_{name}": value for side in ("left", "right")
        for name, value in (("shoulder_abduct", 35), ("elbow", 20), ("hip_abduct", 10), ("fingers", 20))}  # fmt: skip


def main(target: Path) -> None:
    landmarks = read_landmarks(COCO_FILE)
    whole = [view(landmarks, name, yaw, face=False) for name, yaw in VIEWS]
    heads = [view(landmarks, name, yaw, face=True) for name, yaw in VIEWS]
    write_image(target, np.vstack([np.hstack(whole), np.hstack(heads)]))


def view(landmarks: Landmarks, name: str, yaw: float, *, face: bool) -> NDArray[np.uint8]:
    """The naked mesh as clay, shown through: keypoints are drawn on top wherever they are."""
    body = load_body()
    shape = body.shape(Traits(gender=1, age=0.5))
    frame = move(body, shape, angles(**POSE)[None])
    turn = turned(yaw, 0, 0).astype(np.float32)
    heads = frame.places[0] @ turn.T
    points = body.skin(shape, turn @ frame.turns[0], heads)
    ground = np.array([0, points[:, 1].min(), 0])
    points, heads = points - ground, heads - ground
    triangles = body.triangles[np.isin(np.repeat(body.parts, 2), (BODY, EYES))]
    places = landmarks.of(points, heads)
    middle = places[:FACE].mean(axis=0) if face else np.array([0, 0.9, 0])
    focal = SIDE[0] * AWAY / (0.42 if face else 1.95)
    camera = look_at(middle + np.array([0, 0, AWAY]), middle.astype(np.float64), roll=0, focal=focal, size=SIDE)
    hits = rasterise(camera.project(points), triangles, SIDE)
    normals = hits.of(vertex_normals(points, triangles), triangles)
    canvas = np.full((SIDE[0] * SIDE[1], 3), 246, dtype=np.uint8)
    light = 110 + 110 * np.clip(normals @ np.array([0.4, 0.5, 0.77]), 0, 1)
    canvas[hits.pixel] = light[:, None].astype(np.uint8)
    picture = canvas.reshape(*SIDE, 3).copy()
    cv2.putText(picture, name, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (60, 60, 60), 1, cv2.LINE_AA)
    shown = slice(0, FACE) if face else slice(FACE, None)
    for keypoint, (x, y, _) in zip(landmarks.skeleton.names[shown], camera.project(places[shown]), strict=True):
        near = keypoint.split("_")[0] in (name.split()[0], "nose")
        if near or not name.endswith("side"):
            write_name(picture, keypoint, float(x), float(y))
    return picture


def write_name(picture: NDArray[np.uint8], name: str, x: float, y: float) -> None:
    colour = (20, 120, 220) if name.startswith("left") else (220, 110, 0) if name.startswith("right") else (30, 30, 30)
    cv2.circle(picture, (round(x), round(y)), 4, colour, -1, cv2.LINE_AA)
    (width, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)
    left = round(x) - width - 7 if name.startswith("right") else round(x) + 7
    place = (min(max(left, 2), SIDE[1] - width - 2), round(y) + 4)
    cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
