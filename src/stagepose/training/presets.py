"""One function per recipe, returning frozen dataclasses; a plain dict is the only registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stagepose.errors import ConfigError
from stagepose.heatmaps import UdpDark
from stagepose.training.augment import AugmentConfig
from stagepose.training.detector.data import BoxAugment
from stagepose.training.detector.model import DetectorConfig
from stagepose.training.loop import TrainConfig
from stagepose.training.pose import PoseConfig


@dataclass(frozen=True, kw_only=True)
class PoseRecipe:
    """A pose network with its data handling and its schedule."""

    pose: PoseConfig
    train: TrainConfig


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe:
    """A person detector with its augmentation and its schedule."""

    detector: DetectorConfig
    augment: BoxAugment
    train: TrainConfig


def pose_small() -> PoseRecipe:
    """The default pose network: 0.7 GMACs, from an ImageNet trunk whose first blocks stay as they are.

    Made for training on a CPU: 16,000 people, an hour or two on two cores.
    """
    return PoseRecipe(
        pose=PoseConfig(network="lite0-u", codec=UdpDark(input_size=(192, 256)), imagenet=True, frozen=3),
        train=TrainConfig(batch=32, samples=400_000, lr=2e-3, trunk_lr=0.5),
    )


def pose_slim() -> PoseRecipe:
    """A dense network of 0.9 GMACs from a Gaussian start, without any weights of others."""
    return PoseRecipe(
        pose=PoseConfig(network="slim-u", codec=UdpDark(input_size=(192, 256))),
        train=TrainConfig(batch=32, samples=1_000_000, lr=2e-3),
    )


def _res50(stages: int) -> PoseRecipe:
    return PoseRecipe(
        pose=PoseConfig(network=f"{stages}xres50", codec=UdpDark(input_size=(192, 256)),
                        augment=AugmentConfig(rotation=45, scale=0.35)),
        train=TrainConfig(batch=128, samples=12_000_000, warmup=80_000, lr=1e-3, ema_decay=0.9995),
    )


def pose_1xres50() -> PoseRecipe:
    """The report's single stage on ResNet-50; for GPUs."""
    return _res50(1)


def pose_2xres50() -> PoseRecipe:
    """Two stages on ResNet-50; for GPUs."""
    return _res50(2)


def person_small() -> DetectorRecipe:
    """The default person detector: 1.6 GMACs at 416x320 on EfficientNet-Lite0, for training on a CPU."""
    return DetectorRecipe(
        detector=DetectorConfig(),
        augment=BoxAugment(zoom=(0.65, 1.5)),
        train=TrainConfig(batch=8, samples=25_000, warmup=1_600, lr=7e-4, trunk_lr=0.3, ema_decay=0.998,
                          save_every=150, evaluate_every=625),
    )


DETECTOR_PRESETS: dict[str, Callable[[], DetectorRecipe]] = {"person-small": person_small}

POSE_PRESETS: dict[str, Callable[[], PoseRecipe]] = {
    "pose-small": pose_small,
    "pose-slim": pose_slim,
    "1xres50": pose_1xres50,
    "2xres50": pose_2xres50,
}


def pose_preset(name: str) -> PoseRecipe:
    """A recipe by name; :class:`ConfigError` lists the names."""
    if name not in POSE_PRESETS:
        raise ConfigError(f"no pose preset named {name!r}; the presets are {sorted(POSE_PRESETS)}")
    return POSE_PRESETS[name]()
