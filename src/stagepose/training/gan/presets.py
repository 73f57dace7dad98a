"""One function per size, returning a frozen recipe; a plain dict is the only registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stagepose.errors import ConfigError
from stagepose.names import suggestion
from stagepose.training.gan.task import RepairConfig
from stagepose.training.loop import TrainConfig

BETAS = (0.9, 0.99)  # of both optimizers; with (0.5, 0.99), usual for GANs, the pixels were learnt more slowly
CRITIC_FASTER = (("critic.", 2.0),)  # two time scales (Heusel et al. 2017)


@dataclass(frozen=True, kw_only=True)
class RepairRecipe:
    """Both networks and their schedule."""

    repair: RepairConfig
    train: TrainConfig


def repair_128() -> RepairRecipe:
    """128x96 pixels, a generator of 21 million parameters; some 1.5 million samples, minutes of a large GPU."""
    return RepairRecipe(
        repair=RepairConfig(),
        train=TrainConfig(batch=256, samples=1_500_000, warmup=20_000, lr=4e-4, slower=CRITIC_FASTER, weight_decay=0.0,
                          betas=BETAS, ema_decay=0.999, evaluate_every=500))


def repair_256() -> RepairRecipe:
    """The same at 256x192, with one level more: for sets whose people are shown to networks of that size."""
    return RepairRecipe(
        repair=RepairConfig(size=(192, 256), widths=(32, 64, 128, 256, 384, 512)),
        train=TrainConfig(batch=96, samples=1_500_000, warmup=20_000, lr=3e-4, slower=CRITIC_FASTER, weight_decay=0.0,
                          betas=BETAS, ema_decay=0.999, evaluate_every=1_000))


def repair_small() -> RepairRecipe:
    """96x72 pixels, 0.8 million parameters: for CPUs, where half an hour is a rehearsal that repairs little."""
    return RepairRecipe(
        repair=RepairConfig(size=(72, 96), widths=(32, 64, 128), block=2, critic_width=24),
        train=TrainConfig(batch=16, samples=40_000, warmup=800, lr=1e-3, slower=CRITIC_FASTER, weight_decay=0.0,
                          betas=BETAS, ema_decay=0.995, evaluate_every=500))


REPAIR_PRESETS: dict[str, Callable[[], RepairRecipe]] = {
    "repair-128": repair_128, "repair-256": repair_256, "repair-small": repair_small}


def repair_preset(name: str) -> RepairRecipe:
    """A recipe by name; :class:`ConfigError` tells what there is."""
    if name not in REPAIR_PRESETS:
        raise ConfigError(f"no preset named {name!r}; there are {', '.join(REPAIR_PRESETS)}"
                          + suggestion(name.lower(), REPAIR_PRESETS, cutoff=0.4))
    return REPAIR_PRESETS[name]()
