"""Clips for benchmarks/video.py whose people are known: rendered people who walk past one another and behind a wall.

A walker is cut-outs of two steps, moved over a still background with a camera's noise: who is where in each frame, and
how much of them is seen, is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import stagepose
from stagepose.images import Picture
from stagepose.rendering.camera import look_at
from stagepose.rendering.families import Stance
from stagepose.rendering.figures import draw_figure, turned
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.light import draw_light
from stagepose.rendering.picture import draw_picture
from stagepose.rendering.pose import angles
from stagepose.rendering.scene import Scene

WIDTH, HEIGHT, RATE = 640, 288, 25
GROUND = 276  # the row of everybody's feet
PHASES, STRIDES = 8, 1.0  # cut-outs, and pairs of steps a second
NOISE = 5.0  # grey levels
CUT = 256  # pixels a side of a cut-out; 1.8 metres are 220
BODY = 64  # pixels, about as wide as a walker
APART = 130  # pixels between two before they meet, and after


@dataclass(frozen=True, eq=False)
class Walker:
    """``pixels`` (P, H, W, 3) of P phases, going right, and the person's ``masks`` (P, H, W) in them."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """A walker in a frame: the whole body's box, xyxy, and the share of its pixels that is seen."""

    box: NDArray[np.float64]
    share: float


@dataclass
class Clip:
    """``walkers``, the rearmost first, their middles in column ``columns[i][n]`` of frame n; ``wall`` before them."""

    walkers: Sequence[Walker]
    columns: Sequence[NDArray[np.float64]]
    wall: tuple[int, int] | None = None  # from column to column
    truth: list[list[Seen]] = field(default_factory=list)  # by frame and walker, once the frame has been made

    def frames(self) -> Iterator[stagepose.Frame]:
        rng = np.random.default_rng(0)
        grain = rng.normal(0, NOISE, (2 * HEIGHT, 2 * WIDTH, 3)).astype(np.int16)
        grey = np.linspace(165, 120, HEIGHT)[:, None, None] + np.array([0, 2, -4])
        self.truth = []
        for n in range(len(self.columns[0])):
            canvas = np.broadcast_to(grey, (HEIGHT, WIDTH, 3)).astype(np.int16)
            masks = [_put(canvas, walker, columns, n)
                     for walker, columns in zip(self.walkers, self.columns, strict=True)]
            cover = np.zeros((HEIGHT, WIDTH), dtype=bool)
            if self.wall:
                columns = slice(*self.wall)
                canvas[:, columns], cover[:, columns] = (98, 84, 70), True
            self.truth.append([_seen(mask, np.any([cover, *masks[i + 1:]], axis=0)) for i, mask in enumerate(masks)])
            y, x = rng.integers(0, (HEIGHT, WIDTH))
            noisy = np.clip(canvas + grain[y:y + HEIGHT, x:x + WIDTH], 0, 255).astype(np.uint8)
            yield stagepose.Frame(n, n / RATE, Picture(noisy, f"frame {n}"))


def make_walker(seed: int) -> Walker:
    """A rendered person, almost from the side."""
    landmarks, light = read_landmarks(COCO_FILE), draw_light(np.random.default_rng(3))
    camera = look_at(np.array([0.0, 1.0, 9.0]), np.array([0.0, 0.95, 0.0]), roll=0.0, focal=9 * CUT / 2.1,
                     size=(CUT, CUT))
    pixels, masks = [], []
    for phase in np.arange(PHASES) / PHASES * 2 * np.pi:
        rng = np.random.default_rng(seed)  # the same body and clothes each time
        scene = Scene((draw_figure(rng, _stride(phase)),), (), camera, light)
        picture, labels = draw_picture(rng, scene, landmarks)
        pixels.append(picture)
        masks.append(labels[0].mask)
    return Walker(np.array(pixels), np.array(masks))


def _stride(phase: float) -> Stance:
    pose = {"spine_bend": 2.0}
    for side, sign in (("left", 1), ("right", -1)):
        pose |= {f"{side}_hip_flex": 8 + 24 * sign * np.sin(phase),
                 f"{side}_knee": 8 + 44 * max(0.0, sign * np.cos(phase)),
                 f"{side}_shoulder_flex": -22 * sign * np.sin(phase), f"{side}_shoulder_abduct": 8.0,
                 f"{side}_elbow": 22.0}
    return Stance(angles(**pose), facing=turned(65, 3, 0))


def crossing(back: Walker, front: Walker, speeds: tuple[float, float]) -> Clip:
    """Two go so many pixels a second, to the right where above 0, and meet in the middle."""
    seconds = 2 * APART / abs(speeds[0] - speeds[1])
    times = np.arange(0, seconds, 1 / RATE) - seconds / 2
    return Clip([back, front], [WIDTH / 2 + speed * times for speed in speeds])


def behind_wall(walker: Walker, hidden: float, speed: float = 120.0) -> Clip:
    """One who is behind a wall, not to be seen at all, for so many seconds."""
    wall = BODY + speed * hidden
    left, before = WIDTH / 2 - wall / 2, 1.0
    times = np.arange(0, 2 * before + hidden + 2 * BODY / speed, 1 / RATE)
    return Clip([walker], [left - BODY / 2 + speed * (times - before)], (round(left), round(left + wall)))


def _put(canvas: NDArray[np.int16], walker: Walker, columns: NDArray[np.float64], n: int) -> NDArray[np.bool_]:
    """The walker in frame n onto the canvas; where that is (H, W)."""
    phase = round(n / RATE * STRIDES * PHASES) % PHASES
    way = 1 if columns[-1] >= columns[0] else -1
    pixels, mask = walker.pixels[phase][:, ::way], walker.masks[phase][:, ::way]
    y, x = np.nonzero(mask)
    to_y, to_x = y + GROUND - y.max(), x + round(columns[n] - CUT / 2)
    inside = (to_x >= 0) & (to_x < WIDTH) & (to_y >= 0)
    where = np.zeros((HEIGHT, WIDTH), dtype=bool)
    where[to_y[inside], to_x[inside]] = True
    canvas[to_y[inside], to_x[inside]] = pixels[y[inside], x[inside]]
    return where


def _seen(mask: NDArray[np.bool_], cover: NDArray[np.bool_]) -> Seen:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):  # outside of the picture
        return Seen(np.zeros(4), 0.0)
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)
    return Seen(box, float((mask & ~cover).sum() / mask.sum()))
