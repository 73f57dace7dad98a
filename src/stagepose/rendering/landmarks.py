"""Keypoints on the body: a small TOML file says where each is, so any skeleton can be rendered.

K keypoints, V vertices, B bones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32
from stagepose.errors import SkeletonError
from stagepose.rendering.body import Body, load_body
from stagepose.skeleton import COCO_17, Skeleton

COCO_FILE = Path(__file__).with_name("coco17.toml")
WIDEST = 0.5  # metres: a reach beyond it would call everything visible
SKIN = 0.005  # metres: what lies deeper is inside the body


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The keypoints of ``skeleton``: each the mean of ``vertices`` (numbers in our mesh), or the head of ``bone``.

    ``reach`` (K,) in metres: a keypoint is visible where the surface seen at its pixel lies so close to it on the
    resting body.
    """

    skeleton: Skeleton
    vertices: tuple[tuple[int, ...], ...]
    bones: tuple[int, ...]  # -1 where vertices say it
    reach: Float32

    def of(self, vertices_V3: Float32, heads_B3: Float32) -> Float32:
        """(K, 3) places on a body."""
        points = [vertices_V3[list(chosen)].mean(axis=0) if bone < 0 else heads_B3[bone]
                  for chosen, bone in zip(self.vertices, self.bones, strict=True)]
        return np.array(points, dtype=np.float32)

    @cached_property
    def rest(self) -> Float32:
        """(K, 3) on the chart."""
        body = load_body()
        return self.of(body.vertices, body.heads)

    @cached_property
    def on_skin(self) -> NDArray[np.bool_]:
        """(K,) which lie on the surface, as a nose does and the middle of a shoulder does not."""
        gaps = [np.linalg.norm(load_body().vertices - place, axis=1).min() for place in self.rest]
        return np.array(gaps) < SKIN


def read_landmarks(path: str | Path) -> Landmarks:
    """From a file; :class:`SkeletonError` names what in it is wrong."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkeletonError(f"{path}: cannot read the keypoints' file: {error.strerror}") from error
    except ValueError as error:
        raise SkeletonError(f"{path}: not valid TOML: {error}") from error
    try:
        return _landmarks(data)
    except SkeletonError as error:
        raise SkeletonError(f"{path}: {error}") from None


def _landmarks(data: dict[str, Any]) -> Landmarks:
    points = data.pop("points", None)
    if not isinstance(points, dict) or not points:
        raise SkeletonError("no table 'points'; it names each keypoint and where it is on the body")
    names = tuple(points)
    is_coco = data == {"name": COCO_17.name} and names == COCO_17.names
    skeleton = COCO_17 if is_coco else Skeleton.from_json(data | {"names": names})
    body = load_body()
    read = [_point(name, value, body) for name, value in points.items()]
    return Landmarks(skeleton, tuple(vertices for vertices, _, _ in read), tuple(bone for _, bone, _ in read),
                     np.array([reach for _, _, reach in read], dtype=np.float32))


def _point(name: str, value: Any, body: Body) -> tuple[tuple[int, ...], int, float]:
    """Vertices (of our mesh), bone (-1 without) and reach of one keypoint."""
    if not isinstance(value, Mapping) or set(value) not in ({"vertices", "reach"}, {"bone", "reach"}):
        raise SkeletonError(f"points.{name} is {value!r}; expected {{ vertices = [...], reach = ... }} or "
                            "{ bone = \"...\", reach = ... }")
    reach = value["reach"]
    if isinstance(reach, bool) or not isinstance(reach, int | float) or not 0 < reach <= WIDEST:
        raise SkeletonError(f"points.{name}: reach is {reach!r}; expected metres, more than 0 and at most {WIDEST}")
    if "bone" in value:
        if value["bone"] not in body.bones:
            raise SkeletonError(f"points.{name}: there is no bone {value['bone']!r}; bones are {', '.join(body.bones)}")
        return (), body.bone(value["bone"]), float(reach)
    numbers = value["vertices"]
    known = {int(number): row for row, number in enumerate(body.source_index)}
    if not isinstance(numbers, list) or not numbers or not all(type(n) is int and n in known for n in numbers):
        raise SkeletonError(f"points.{name}: vertices is {numbers!r}; expected numbers of vertices of MakeHuman's base "
                            "mesh, 0 to 13379 for the body")
    return tuple(known[number] for number in numbers), -1, float(reach)
