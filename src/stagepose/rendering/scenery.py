"""Where people are: a room or a landscape from noise, or a picture of the user's. H W picture size; linear light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stagepose.aliases import Bool, Float32, Rng
from stagepose.images import read_image
from stagepose.rendering.camera import Camera
from stagepose.rendering.light import Light, Shadows
from stagepose.rendering.patterns import EVERYWHERE, Pattern, Waves, draw_colour, draw_pattern, linear

FAR = 60.0  # metres at which the ground has become haze
X, Y, Z = 0, 1, 2
SKY, HORIZON, LEAVES = (70, 120, 200), (205, 215, 225), (52, 74, 42)
GROUNDS = ((88, 110, 58), (120, 114, 104), (150, 132, 100), (96, 96, 98))  # grass, gravel, sand, tar


def draw_backdrop(rng: Rng, camera: Camera, light: Light, shadows: Shadows, picture: Path | None) -> Float32:
    """(H, W, 3) all that is behind people and things, with their shadows on the ground."""
    rays = camera.rays()
    if picture is not None:
        view = _photo(rng, picture, camera.size)
    elif rng.random() < 0.5:
        view = _room(rng, camera, rays, light)
    else:
        view = _landscape(rng, camera, rays, light)
    view = _shadowed(view, camera, rays, shadows, light)
    blur = rng.choice((0.0, rng.uniform(0.3, 1.2), rng.uniform(1, 3.5))) * max(camera.size) / 256
    return np.asarray(cv2.GaussianBlur(view, (0, 0), blur), dtype=np.float32) if blur > 0.2 else view


def _near(rng: Rng, colour: tuple[int, int, int], spread: float) -> Float32:
    """A colour like this one: as much lighter or darker, hardly of another hue."""
    return linear((np.array(colour) + rng.normal(0, spread) + rng.normal(0, 0.3 * spread, 3)).clip(0, 255))


def _photo(rng: Rng, path: Path, size: tuple[int, int]) -> Float32:
    """A random cut of a picture of the user's, at least half of it each way, filling the size."""
    pixels = read_image(path).pixels
    height, width = size
    scale = max(height / pixels.shape[0], width / pixels.shape[1]) * rng.uniform(1, 2)
    cut = (max(1, round(height / scale)), max(1, round(width / scale)))
    top, left = (int(rng.integers(0, max(1, pixels.shape[i] - cut[i] + 1))) for i in (0, 1))
    part = pixels[top : top + cut[0], left : left + cut[1]]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    fitted = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_AREA)
    return linear(fitted.astype(np.float64))


# --- planes that rays meet


def _on_plane(camera: Camera, rays: Float32, axis: int, at: float) -> tuple[Float32, Bool]:
    """Where rays meet the plane on which one coordinate is ``at``: distance (H, W), and whether they do, ahead."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (at - camera.place[axis]) / rays[:, :, axis]
    met = np.isfinite(distance) & (distance > 0) & (distance < 10 * FAR)
    return np.where(met, distance, 0).astype(np.float32), met


def _painted(pattern: Callable[[Float32], Float32], camera: Camera, rays: Float32, distance: Float32, where: Bool,
             *, flat: bool = False) -> Float32:
    """A pattern at the places that the rays of ``where`` reach, (N, 3); ``flat`` lays it on the ground."""
    places = camera.place.astype(np.float32) + rays[where] * distance[where][:, None]
    return pattern(np.ascontiguousarray(places[:, [X, Z, Y]] if flat else places))


# --- rooms


@dataclass(frozen=True, eq=False)
class _Frame:
    """A window or a picture on the wall behind: middle and half of its size in metres."""

    x: float
    y: float
    half_width: float
    half_height: float
    pattern: Pattern


def _draw_frame(rng: Rng) -> _Frame:
    return _Frame(rng.uniform(-3, 3), rng.uniform(0.8, 2.0), rng.uniform(0.3, 1.1), rng.uniform(0.3, 0.8),
                  draw_pattern(rng, kinds=EVERYWHERE, scale=5, pale=rng.uniform(0, 0.8)))


def _room(rng: Rng, camera: Camera, rays: Float32, light: Light) -> Float32:
    """A floor, a wall behind and one at the side, a ceiling; pictures on the wall."""
    floor, wall = (draw_pattern(rng, kinds=EVERYWHERE, scale=rng.uniform(2, 6), pale=rng.uniform(0.2, 1))
                   for _ in range(2))
    behind, side = -rng.uniform(1.2, 5), rng.choice((-1, 1)) * rng.uniform(2, 6)
    ceiling = rng.uniform(2.5, 3.5)
    planes = ((Y, 0.0, floor, 1.0), (Z, behind, wall, 0.9), (X, side, wall, 0.72), (Y, ceiling, wall, 1.1))
    frames = [_draw_frame(rng) for _ in range(rng.integers(0, 4))]
    view = np.zeros((*camera.size, 3), dtype=np.float32)
    nearest = np.full(camera.size, np.inf, dtype=np.float32)
    for axis, at, pattern, bright in planes:
        distance, met = _on_plane(camera, rays, axis, at)
        mine = met & (distance < nearest)
        nearest[mine] = distance[mine]
        view[mine] = _painted(pattern, camera, rays, distance, mine, flat=axis == Y) * bright
        if axis == Z:
            _hang(view, camera, rays, distance, mine, frames)
    return np.asarray(view * (light.ground + 0.6 * (light.sky - light.ground) + 0.4 * light.lamp), dtype=np.float32)


def _hang(view: Float32, camera: Camera, rays: Float32, distance: Float32, wall: Bool, frames: list[_Frame]) -> None:
    places = camera.place + rays * distance[:, :, None]
    for frame in frames:
        across, up = np.abs(places[:, :, X] - frame.x), np.abs(places[:, :, Y] - frame.y)
        inside = wall & (across < frame.half_width) & (up < frame.half_height)
        view[inside] = _painted(frame.pattern, camera, rays, distance, inside)


# --- landscapes


def _landscape(rng: Rng, camera: Camera, rays: Float32, light: Light) -> Float32:
    """A sky, something far away against it, and ground that fades into haze."""
    unit = rays / np.linalg.norm(rays, axis=2, keepdims=True)
    view = np.asarray(_sky(rng, unit) * (light.sky.mean() + 0.5), dtype=np.float32)
    for layer in range(rng.integers(1, 4)):
        _skyline(rng, view, unit, light, (0.04 + 0.3 * rng.random()) / (layer + 1))
    distance, met = _on_plane(camera, rays, Y, 0.0)
    haze = np.exp(-2 * distance[met] / FAR)[:, None]
    bright = light.ground + 0.7 * light.sky + 0.5 * light.lamp
    ground = _painted(_draw_ground(rng), camera, rays, distance, met, flat=True) * bright
    view[met] = ground * haze + view[met] * (1 - haze)
    return view


def _sky(rng: Rng, unit: Float32) -> Float32:
    up = unit[:, :, Y, None]
    high, low = _near(rng, SKY, 35), _near(rng, HORIZON, 20)
    if rng.random() < 0.4:  # overcast
        high = low * rng.uniform(0.75, 1)
    clouds = Waves(rng, size=0.5, count=5)(unit.reshape(-1, 3)).reshape(up.shape)
    light = low + (high - low) * np.clip(up * 2.2, 0, 1) + 0.12 * np.clip(clouds, 0, 2) * (up > 0)
    return np.asarray(light, dtype=np.float32)


def _draw_ground(rng: Rng) -> Pattern:
    colour = _near(rng, GROUNDS[rng.integers(len(GROUNDS))], 14)
    pattern = draw_pattern(rng, kinds=("plain", "blotches", "checks"), scale=rng.uniform(4, 12))
    colours = np.stack([colour, colour * rng.uniform(0.6, 1.2)])
    return Pattern(pattern.kind, colours, pattern.size, fine=Waves(rng, size=0.05, count=9),
                   coarse=Waves(rng, size=1.7, count=8), rough=1.6)


def _skyline(rng: Rng, view: Float32, unit: Float32, light: Light, height: float) -> None:
    """Trees or houses along the horizon, up to ``height`` (sine of the elevation)."""
    houses = rng.random() < 0.5
    line = np.arctan2(unit[:, :, X], -unit[:, :, Z]) * rng.uniform(4, 10)
    steps = np.floor(line) if houses else line
    edge = np.sin(steps * 2.1 + rng.uniform(0, 6)) + np.sin(steps * 5.7 + rng.uniform(0, 6)) * 0.5
    if not houses:
        edge = edge + 0.3 * np.sin(line * 19) + 0.2 * np.sin(line * 43 + 1)
    below = (unit[:, :, Y] < height * (0.7 + 0.3 * edge)) & (unit[:, :, Y] > -0.02)
    base = draw_colour(rng) * 0.6 + 0.15 if houses else _near(rng, LEAVES, 15)
    places = np.ascontiguousarray(unit[below] * 3)
    texture = 1 + 0.3 * Waves(rng, size=0.12, count=6)(places)
    if houses:
        windows = (np.sin(places[:, Y] * 90) > 0.2) & (np.sin(line[below] * 14) > 0)
        texture = texture * (0.7 + 0.5 * windows)
    view[below] = (base * texture[:, None]).clip(0, 1) * (light.sky + 0.3 * light.lamp)


def _shadowed(view: Float32, camera: Camera, rays: Float32, shadows: Shadows, light: Light) -> Float32:
    """Ground darkened where people and things keep the lamp off it."""
    distance, met = _on_plane(camera, rays, Y, 0.0)
    met &= distance < FAR / 2
    lit = np.ones(camera.size, dtype=np.float32)
    lit[met] = shadows.lit(camera.place.astype(np.float32) + rays[met] * distance[met][:, None])
    lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), max(0.6, light.soft * max(camera.size) / 512)), dtype=np.float32)
    share = 1.2 * float(light.lamp.mean() / (light.lamp.mean() + light.sky.mean()))
    return np.asarray(view * np.clip(1 - share * (1 - lit), 0.2, 1)[:, :, None], dtype=np.float32)
