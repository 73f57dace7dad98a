"""One function per detector, returning a frozen recipe; a plain dict is the only registry.

Latencies of all of them, measured before any was trained: benchmarks/detector.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stagepose.training.detector.augment import BoxAugment
from stagepose.training.detector.config import DetectorConfig, Keeping
from stagepose.training.loop import TrainConfig


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe:
    """A detector with its augmentation and its schedule. How many categories it has, the training file says."""

    detector: DetectorConfig
    augment: BoxAugment
    train: TrainConfig


def person_tiny() -> DetectorRecipe:
    """For cameras and phones: a narrower pyramid, smaller regions, 384 pixels."""
    return DetectorRecipe(
        detector=DetectorConfig(width=64, pool=5, head_width=192, long_side=384,
                                anchor_sizes=((12, 20), (32, 52), (84, 128), (184, 264)),
                                keeping=Keeping(proposals=200, second_looks=20)),
        augment=BoxAugment(canvas=(320, 256), long_side=352),
        train=TrainConfig(batch=8, samples=50_000, warmup=1_600, lr=7e-4, slower=(("trunk.", 0.3),), ema_decay=0.998,
                          save_every=150, evaluate_every=1_250),
    )


def person_small() -> DetectorRecipe:
    """The default person detector: EfficientNet-Lite0 at 480 pixels, for training on a CPU."""
    return DetectorRecipe(
        detector=DetectorConfig(),
        augment=BoxAugment(zoom=(0.5, 1.6)),  # smaller people than that, a network of this size does not learn to see
        train=TrainConfig(batch=8, samples=50_000, warmup=1_600, lr=7e-4, slower=(("trunk.", 0.3),), ema_decay=0.998,
                          save_every=150, evaluate_every=1_250),
    )


def person_medium() -> DetectorRecipe:
    """EfficientNet-Lite2 at 640 pixels with a wider pyramid; a GPU trains it in hours."""
    return DetectorRecipe(
        detector=DetectorConfig(trunk="lite2", frozen_blocks=3, width=128, head_width=512, long_side=640, samples=2,
                                anchor_sizes=((18, 32), (52, 84), (136, 210), (300, 440)), regions_per_image=128),
        augment=BoxAugment(canvas=(640, 512), long_side=640),
        train=TrainConfig(batch=16, samples=600_000, warmup=16_000, lr=1e-3, slower=(("trunk.", 0.3),),
                          ema_decay=0.9995),
    )


def person_resnet50() -> DetectorRecipe:
    """The report's: ResNet-50 with levels P2 to P6 and torchvision's large box head, from a Gaussian; for GPUs."""
    return DetectorRecipe(
        detector=DetectorConfig(trunk="resnet50", pretrained=False, frozen_blocks=0, width=256, head_width=1024,
                                long_side=1_024, samples=2, anchor_sizes=((24,), (48,), (96,), (192,), (384,)),
                                proposals_train=1_000, anchors_per_image=256, regions_per_image=256,
                                keeping=Keeping(per_level=1_000, proposals=500, second_looks=0)),
        augment=BoxAugment(canvas=(832, 640), long_side=832),
        train=TrainConfig(batch=16, samples=2_000_000, warmup=32_000, lr=4e-4, ema_decay=0.9995),
    )


DETECTOR_PRESETS: dict[str, Callable[[], DetectorRecipe]] = {
    "person-tiny": person_tiny,
    "person-small": person_small,
    "person-medium": person_medium,
    "person-resnet50": person_resnet50,
}
