"""What a camera makes of light: exposure, white balance, blur, noise, 8 bits. H W picture size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Float32, Rng
from stagepose.rendering.patterns import GAMMA

GREY = 0.04  # of pictures are without colour
SOFT, SHAKEN = 0.3, 0.08  # shares of pictures out of focus, and of moved cameras
GRAINS, GRAIN_ODDS = (1.0, 3.0, 8.0), (0.5, 0.35, 0.15)  # spread of noise in 255ths
BRIGHTEST = 1.4  # light beyond which hardly anything may go: it would be white
BASE = 256  # pixels of the longer side for which widths below are


def finish(rng: Rng, light_HW3: Float32) -> NDArray[np.uint8]:
    """The picture (H, W, 3) that a camera takes."""
    middle, bright = np.percentile(light_HW3, (60, 98))
    exposure = min(rng.uniform(0.28, 0.5) / max(middle + 0.02, 0.08), BRIGHTEST / max(bright, 0.05), 2.5)
    exposure = exposure * (1 + rng.normal(0, 0.04, 3))
    screen = (1 - np.exp(-1.25 * light_HW3 * exposure)) ** (1 / GAMMA) * 255  # bright light saturates softly
    screen = (screen - 128) * rng.uniform(0.85, 1.2) + 128 + rng.normal(0, 6)
    screen = np.asarray(_blurred(rng, np.asarray(screen, dtype=np.float32)))
    if rng.random() < GREY:
        screen = np.repeat(screen.mean(axis=2, keepdims=True), 3, axis=2)
    grain = rng.choice(GRAINS, p=GRAIN_ODDS) * rng.uniform(0.5, 1.2)
    noise = rng.standard_normal(screen.shape, dtype=np.float32) * grain
    return np.asarray(np.clip(np.round(screen + noise), 0, 255), dtype=np.uint8)


def _blurred(rng: Rng, screen: Float32) -> Float32:
    scale, kind = max(screen.shape) / BASE, rng.random()
    if kind < SOFT:
        return np.asarray(cv2.GaussianBlur(screen, (0, 0), rng.uniform(0.3, 1.1) * scale), dtype=np.float32)
    if kind < SOFT + SHAKEN:
        length, angle = max(2, round(rng.uniform(2, 6) * scale)), rng.uniform(0, np.pi)
        middle = (length - 1) / 2
        kernel = np.zeros((length, length), dtype=np.float32)
        for step in np.linspace(-middle, middle, 3 * length):
            kernel[round(middle + step * np.sin(angle)), round(middle + step * np.cos(angle))] = 1
        return np.asarray(cv2.filter2D(screen, -1, kernel / kernel.sum()), dtype=np.float32)
    return screen
