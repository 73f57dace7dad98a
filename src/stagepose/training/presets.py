"""One function per recipe, returning frozen dataclasses; a plain dict is the only registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from stagepose.errors import ConfigError
from stagepose.heatmaps import Megvii, UdpOks
from stagepose.names import suggestion
from stagepose.training.augment import AugmentConfig
from stagepose.training.detector.presets import DETECTOR_PRESETS
from stagepose.training.loop import TrainConfig
from stagepose.training.networks.zoo import NETWORKS
from stagepose.training.poseconfig import PoseConfig

PRETRAINED_AT_HALF = (("network.stages.0.trunk.", 0.5),)  # what ImageNet has taught learns more slowly
PRETRAINED_AT_A_THIRD = (("network.stages.0.trunk.", 1 / 3),)


@dataclass(frozen=True, kw_only=True)
class PoseRecipe:
    """A pose network with its data handling and its schedule."""

    pose: PoseConfig
    train: TrainConfig


def pose_small() -> PoseRecipe:
    """The default pose network: 0.7 GMACs, from an ImageNet trunk whose first blocks stay as they are.

    Made for training on a CPU: 16,000 people, an hour or two on two cores.
    """
    return PoseRecipe(
        pose=PoseConfig(network="lite0-u", codec=UdpOks(input_size=(192, 256)), box_padding=1.15,
                        augment=AugmentConfig(shift=0.08), imagenet=True, frozen=3),
        train=TrainConfig(batch=32, samples=400_000, lr=2e-3, slower=PRETRAINED_AT_HALF),
    )


def pose_medium() -> PoseRecipe:
    """pose-small's network at 384x288 with residual blocks on its way up: 2.3 GMACs.

    Made to go on from pose-small (``--init pose-small``) on a CPU, where a network of this size underfits: on people it
    has learnt from its AP is but .06 higher (benchmarks/fit.md). So the pictures are changed less than pose-small's.
    """
    augment = AugmentConfig(rotation=35, rotation_chance=0.5, scale=0.25, shift=0.06, half_body_chance=0.1, colour=0.25,
                            grey_chance=0.05, occlusion_chance=0.2)
    return PoseRecipe(
        pose=replace(pose_small().pose, network="lite0-u1g", codec=UdpOks(input_size=(288, 384)), augment=augment,
                     absent=0.2),
        train=TrainConfig(batch=16, samples=65_000, lr=8e-4, slower=PRETRAINED_AT_HALF),
    )


def pose_large() -> PoseRecipe:
    """7.4 GMACs and 7 M parameters: the better pose network, and pose-small's teacher. Made for a GPU: ten minutes."""
    return PoseRecipe(
        pose=PoseConfig(network="lite2-u256", codec=UdpOks(input_size=(288, 384)), box_padding=1.15,
                        augment=AugmentConfig(scale=0.35, shift=0.08), imagenet=True),
        train=TrainConfig(batch=128, samples=1_600_000, warmup=20_000, lr=1e-3, ema_decay=0.999,
                          slower=PRETRAINED_AT_A_THIRD),
    )


def pose_slim() -> PoseRecipe:
    """A dense network of 0.9 GMACs from a Gaussian start, without any weights of others."""
    return PoseRecipe(
        pose=PoseConfig(network="slim-u", codec=UdpOks(input_size=(192, 256))),
        train=TrainConfig(batch=32, samples=1_000_000, lr=2e-3),
    )


def for_cpus(name: str) -> PoseRecipe:
    """A network that two cores can train: what is not said to be another in :data:`RECIPES`."""
    return PoseRecipe(pose=PoseConfig(network=name, codec=UdpOks(input_size=(192, 256))),
                      train=TrainConfig(batch=32, samples=1_000_000, lr=2e-3))


def on_imagenet(name: str) -> PoseRecipe:
    """The same on an EfficientNet-Lite trunk that ImageNet has taught: its first blocks stay as they are."""
    plain = for_cpus(name)
    return PoseRecipe(pose=replace(plain.pose, imagenet=True, frozen=3),
                      train=replace(plain.train, samples=400_000, slower=PRETRAINED_AT_HALF))


def for_gpus(name: str) -> PoseRecipe:
    """The report's networks and their like."""
    return PoseRecipe(
        pose=PoseConfig(network=name, codec=UdpOks(input_size=(192, 256)),
                        augment=AugmentConfig(rotation=45, scale=0.35)),
        train=TrainConfig(batch=128, samples=12_000_000, warmup=80_000, lr=1e-3, ema_decay=0.9995))


def cpn(name: str) -> PoseRecipe:
    """CPN's losses: on the refined heatmaps the eight hardest joints count, coarse levels at the finest's size."""
    recipe = for_gpus(name)
    return replace(recipe, pose=replace(recipe.pose, ohkm=(0, 8), upsample=True))


def successor(name: str) -> PoseRecipe:
    """Of the report's published successor; its stages are counted in :data:`SUCCESSOR_STAGES`."""
    recipe = for_gpus(name)
    return replace(recipe, pose=_successor(recipe.pose, SUCCESSOR_STAGES[name]))


def _successor(pose: PoseConfig, stages: int) -> PoseConfig:
    """The losses of the report's published successor (arXiv 1901.00148 and its released settings).

    Squared error on all levels at the finest's size, drawn by kernels 5, 7, 9, 11 from the finest level to the
    coarsest, in earlier stages 7, 9, 11, 15 (the released settings list them from the coarsest on, as its network gives
    its levels); the eight hardest joints on the finest level; the other levels a quarter.
    """
    return replace(pose, codec=Megvii(input_size=pose.size), loss="mse", upsample=True,
                   coarse=(*(1.3,) * (stages - 1), 1.0), ohkm=(8,) * stages)


SUCCESSOR_STAGES = {"1xmspn50": 1, "2xmspn50": 2, "3xmspn50": 3, "4xmspn50": 4}
RECIPES: dict[str, Callable[[str], PoseRecipe]] = {  # of the zoo's networks that want another than for_cpus
    **dict.fromkeys(("lite0-u", "lite0-u1g", "lite1-u", "lite2-u", "lite2-u256", "2xlite0-u", "3xlite0-u"),
                    on_imagenet),
    **dict.fromkeys(("1xres50", "2xres50", "3xres50", "4xres50", "1xres101", "2xres101", "1xres101-spatial",
                     "1xres101-spatial18", "2xres101-spatial", "1xresinc101", "2xresinc101", "1xres152",
                     "hourglass-1", "hourglass-2", "hourglass-4", "hourglass-8",
                     "simple-res50", "simple-res101", "simple-res152"), for_gpus),
    **dict.fromkeys(("cpn-res50", "cpn-res101"), cpn),
    **dict.fromkeys(SUCCESSOR_STAGES, successor),
}


def of_network(name: str) -> PoseRecipe:
    """A network of the zoo with the recipe that :data:`RECIPES` names for it."""
    return RECIPES.get(name, for_cpus)(name)


OWN_PRESETS: dict[str, Callable[[], PoseRecipe]] = {
    "pose-small": pose_small, "pose-medium": pose_medium, "pose-large": pose_large, "pose-slim": pose_slim}
POSE_PRESETS: dict[str, Callable[[], PoseRecipe]] = {
    **OWN_PRESETS, **{name: partial(of_network, name) for name in NETWORKS}}


def pose_preset(name: str) -> PoseRecipe:
    """A recipe by name: one of ours, or any network of the zoo; :class:`ConfigError` tells what is near."""
    if name not in POSE_PRESETS:
        raise ConfigError(f"no preset named {name!r}; there are {', '.join((*OWN_PRESETS, *DETECTOR_PRESETS))}, and "
                          "every name that 'stagepose networks' lists"
                          + suggestion(name.lower(), POSE_PRESETS, count=3, cutoff=0.4))
    return POSE_PRESETS[name]()
