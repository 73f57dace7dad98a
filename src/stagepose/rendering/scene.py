"""A scene: who is where, seen from where. Everything random comes from one generator, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Rng
from stagepose.rendering.body import load_body
from stagepose.rendering.camera import Camera, look_at
from stagepose.rendering.families import Stance
from stagepose.rendering.figures import Figure, draw_figure
from stagepose.rendering.light import Light, draw_light
from stagepose.rendering.things import Thing, box, draw_things

Point = NDArray[np.float64]

ODDS = (0.42, 0.3, 0.18, 0.1)  # of 1, 2, 3, 4 people in a picture
MORE = 0.06  # of each larger number
SHAPES = ((1.0, 1.0), (1.0, 0.75), (0.75, 1.0), (1.0, 0.67), (0.67, 1.0))  # of pictures: height and width
FOCAL = (0.9, 2.2)  # of the longer side: from a wide lens to a portrait's
CLOSEST = 0.8  # metres from the camera to the first person's middle
TRIES = 12
TOUCH = 0.3  # of a person's width or depth may lie within another's: arms reach out of the box that a body fills
THIGH = 0.115  # metres from a hip's middle down to what it sits on
SMALL, WHOLE, PART = (0.25, 0.55), (0.55, 0.95), (1.0, 2.2)  # how much of the picture the first person would fill
SHARES = (0.22, 0.6, 0.18)


@dataclass(frozen=True, eq=False)
class Scene:
    """People, things that stand about, a camera and a light."""

    figures: tuple[Figure, ...]
    things: tuple[Thing, ...]
    camera: Camera
    light: Light


def draw_scene(rng: Rng, size: int, most_people: int, stance: Callable[[Rng], Stance]) -> Scene:
    """A random scene for a picture whose longer side is ``size``; ``stance`` draws each person's pose."""
    odds = np.array([*ODDS, *[MORE] * most_people][:most_people])
    count = 1 + int(rng.choice(most_people, p=odds / odds.sum()))
    first, *others = [draw_figure(rng, stance(rng)) for _ in range(count)]
    camera, near = _draw_camera(rng, first, size)
    figures = [first]
    for figure in others:
        figures.append(_placed(rng, figure, near, figures))
    seats = [_seat(rng, figure) for figure in figures if figure.stance.seat]
    return Scene(tuple(figures), (*seats, *draw_things(rng, camera, near)), camera, draw_light(rng))


def _draw_camera(rng: Rng, first: Figure, size: int) -> tuple[Camera, float]:
    """Sees the first person whole, small, or in part; and how far away that person is."""
    sides = SHAPES[rng.integers(len(SHAPES))]
    height, width = (max(8, round(size * side)) for side in sides)
    low, high = first.bounds()
    extent = (high - low).astype(np.float64)
    focal = size * rng.uniform(*FOCAL)
    share = rng.uniform(*(SMALL, WHOLE, PART)[rng.choice(3, p=SHARES)])
    pixel = max(extent[1] / height, max(extent[0], extent[2]) / width) / share  # metres
    away = max(CLOSEST, focal * pixel)
    target = (low + high).astype(np.float64) / 2
    if share > 1:  # a part: mostly the upper one
        target[1] = high[1] - extent[1] * rng.beta(1.5, 2.5)
    else:
        room = (1 - share) * pixel
        target += [rng.uniform(-0.4, 0.4) * room * width, rng.uniform(-0.35, 0.35) * room * height, 0]
    rise = np.radians(np.clip(rng.normal(7, 13), -12, 60))
    place = target + away * np.array([0.0, np.sin(rise), np.cos(rise)])
    place[1] = max(place[1], 0.12)  # above the ground
    return look_at(place, target, roll=np.radians(rng.normal(0, 3)), focal=focal, size=(height, width)), away


def _placed(rng: Rng, figure: Figure, near: float, others: list[Figure]) -> Figure:
    """Somewhere that nobody else stands in, as far as a few tries find it."""
    for _ in range(TRIES):
        moved = _beside(rng, figure, near)
        if not any(_inside(moved, other) for other in others):
            break
    return moved


def _inside(one: Figure, other: Figure) -> bool:
    """Whether the boxes around two people, seen from above, share more than their edges: hands may touch."""
    (low, high), (least, most) = one.bounds(), other.bounds()
    reach = np.minimum(high, most) - np.maximum(low, least)
    slim = TOUCH * np.minimum(high - low, most - least)
    return bool((reach > slim)[[0, 2]].all())


def _beside(rng: Rng, figure: Figure, near: float) -> Figure:
    """Next to the first person, before or behind, at times far behind."""
    side = rng.choice((-1, 1))
    if rng.random() < 0.75:
        ahead = float(np.clip(rng.normal(-0.2, 0.6), -2, 0.45 * near))
        return figure.moved(np.array([side * rng.uniform(0.25, 1.2), 0, ahead]))
    behind = rng.uniform(1.5, 6)
    return figure.moved(np.array([side * rng.uniform(0.1, 0.3) * (near + behind), 0, -behind]))


def _seat(rng: Rng, figure: Figure) -> Thing:
    """A box below a sitting person, up to just under the thighs."""
    hips, knees = (_middle(figure, bone) for bone in ("upperleg01", "lowerleg01"))
    ahead = (knees - hips) * [1, 0, 1]
    ahead = ahead / (np.linalg.norm(ahead) + 1e-6)
    size = (rng.uniform(0.38, 0.6), max(0.05, float(hips[1]) - THIGH), rng.uniform(0.36, 0.5))
    return box(rng, (hips + ahead * 0.08) * [1, 0, 1], size, float(np.arctan2(ahead[0], ahead[2])))


def _middle(figure: Figure, bone: str) -> Point:
    """Between the left and the right bone's heads."""
    body = load_body()
    middle: Point = (figure.heads[body.bone(f"{bone}.L")] + figure.heads[body.bone(f"{bone}.R")]).astype(np.float64) / 2
    return middle
