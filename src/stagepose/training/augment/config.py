"""What may happen to a sample, how often and how much, and which random number decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stagepose.errors import ConfigError
from stagepose.skeleton import Skeleton

# what is augmented, uint8: on a GPU one tensor (B, H, W, 3); on a CPU an array (H, W, 3) each, wherever it lies
Canvases = Tensor | Sequence[NDArray[np.uint8]]


class Draw(IntEnum):
    """Columns of ``uniforms``. A new one goes to the end or into a gap: all others keep deciding what they decide."""

    ANGLE, TURNED, ZOOM, HALVED, WHICH_HALF, SHIFT_X, SHIFT_Y, MIRRORED, STRETCH_X, STRETCH_Y = range(10)
    RED, GREEN, BLUE, CONTRAST, BRIGHTNESS, GREY, STRETCHED, COARSE, BLURRED = range(10, 19)
    OCCLUDED, OCCLUDER, HEIGHT, WIDTH, TOP, LEFT, FROM_Y, FROM_X = range(19, 27)
    COMPRESSED, QUALITY, NOISY, NOISE, NOISE_Y, NOISE_X = range(27, 33)


UNIFORMS = len(Draw)  # random numbers that one sample consumes


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges and chances; zeros switch a part off."""

    rotation: float = 40.0  # degrees at most; small turns are more common than large ones
    rotation_chance: float = 0.6
    scale: float = 0.3  # zoom between 1 / (1 + scale) and 1 + scale
    shift: float = 0.05  # at most, as a share of the input's sides
    # how many times as wide and as high a box becomes at most, each alone, before it gets the input's shape: a zoom out
    stretch: tuple[float, float] = (1.6, 1.8)
    stretch_chance: float = 0.0
    flip_chance: float = 0.5  # to be mirrored
    half_body_chance: float = 0.2  # to be seen from head to hips only, or from hips to feet
    half_body_joints: int = 8  # but only where more joints than this are labelled in all
    colour: float = 0.3  # contrast and brightness change by this share at most, each channel's gain by half of it
    grey_chance: float = 0.1
    occlusion_chance: float = 0.4  # to be covered in part by a rectangle of somebody else
    blur_chance: float = 0.1  # to have half the resolution
    coarse_chance: float = 0.0  # to have a quarter
    jpeg_chance: float = 0.0  # to be compressed once more
    jpeg_quality: tuple[int, int] = (20, 80)  # between these
    noise_chance: float = 0.0
    noise: float = 12.0  # its standard deviation at most, in grey levels of 255

    def __post_init__(self) -> None:
        for name in vars(self):
            if name.endswith("_chance") and not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected a chance between 0 and 1")
        for name in ("scale", "shift", "colour"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 0 and below 1")
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"rotation is {self.rotation}, expected 0 to 180 degrees")
        if self.half_body_joints < 0:
            raise ConfigError(f"half_body_joints is {self.half_body_joints}, expected 0 or more joints")
        if min(self.stretch) < 1:
            raise ConfigError(f"stretch is {self.stretch}, expected two factors of at least 1")
        if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise ConfigError(f"jpeg_quality is {self.jpeg_quality}, expected the lowest and the highest, of 1 to 100")
        if not 0 <= self.noise <= 255:
            raise ConfigError(f"noise is {self.noise}, expected 0 to 255 grey levels")

    def only_moved(self) -> AugmentConfig:
        """The same places of pixels and points in pictures whose looks stay as they are."""
        return replace(self, colour=0, grey_chance=0, occlusion_chance=0, blur_chance=0, coarse_chance=0,
                       jpeg_chance=0, noise_chance=0)


NO_AUGMENTATION = AugmentConfig(rotation_chance=0, scale=0, shift=0, flip_chance=0, half_body_chance=0).only_moved()


def refuse_mirroring(config: AugmentConfig, skeleton: Skeleton) -> None:
    """:class:`ConfigError` where people would be mirrored but nothing says which keypoints trade places."""
    if config.flip_chance and not skeleton.flip_pairs:
        raise ConfigError(f"flip_chance is {config.flip_chance}, but the skeleton {skeleton.name!r} has no flip_pairs "
                          "to say which keypoints are the left and the right of the same; give it flip_pairs, or train "
                          "without mirroring: --no-mirror, in Python AugmentConfig(flip_chance=0)")
    lone = [name for name in skeleton.names if {"left", "right"} & set(name.split("_"))
            and not any(name in pair for pair in skeleton.flip_pairs)]
    if config.flip_chance and lone:
        raise ConfigError(f"flip_chance is {config.flip_chance}, but the flip_pairs of skeleton {skeleton.name!r} do "
                          f"not say what {lone[0]!r} trades places with; give it a pair, or train without mirroring: "
                          "--no-mirror, in Python AugmentConfig(flip_chance=0)")
