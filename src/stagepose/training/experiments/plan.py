"""What an experiment is: a question, and arms that differ in the one thing it asks about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stagepose.errors import ConfigError
from stagepose.training.loop import shorter_warmup
from stagepose.training.networks.zoo import row_length
from stagepose.training.presets import PoseRecipe
from stagepose.training.stages import StagesConfig

Scale = Literal["tiny", "small", "full"]
PRETRAINED = "--pretrained DIR"  # where ImageNet weights come from that no package brings


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train. ``published``: the report's AP in percent, where it gives one.

    ``pretrained`` names a file of weights to start from, which the user must bring; None for a start of the recipe's.
    ``stages``: trained stage by stage, and how; None for all stages together. The recipe's samples are then those of a
    stage; ``times`` as many are shown to an arm that is to see what such an arm sees in all its stages.
    ``extended``: the user's generated sets are learnt from beside the others, as many samples in all.
    """

    name: str
    recipe: PoseRecipe
    published: float | None = None
    pretrained: str | None = None
    stages: StagesConfig | None = None
    times: int = 1
    extended: bool = False

    @property
    def shown(self) -> int:
        """Samples of one run, those of the networks that only judge among them."""
        samples = self.recipe.train.samples
        if self.stages is None:
            return samples
        count = row_length(self.recipe.pose.network)
        return samples * (count + (count - 1) * max(self.stages.folds - 1, 0))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Arms at one scale, the first of which the others are compared with."""

    name: str
    question: str
    published_where: str  # whose figures they are, and what is not known about them
    scale: Scale
    arms: tuple[Arm, ...]
    seeds: int

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"experiment {self.name!r}: arms {names} must be some, and differ in name")
        if self.seeds < 1:
            raise ConfigError(f"experiment {self.name!r}: {self.seeds} seeds; use 1 or more, 2 to see a spread")

    def changed(self, *, arms: tuple[str, ...] = (), seeds: int | None = None, samples: int | None = None,
                batch: int | None = None) -> Experiment:
        """With only some arms, another number of seeds, or another schedule (None leaves it)."""
        unknown = sorted(set(arms) - {arm.name for arm in self.arms})
        if unknown:
            raise ConfigError(f"experiment {self.name!r} has no arm {unknown[0]!r} at scale {self.scale!r}; its arms "
                              f"are {[arm.name for arm in self.arms]}")
        kept = tuple(_scheduled(arm, samples, batch) for arm in self.arms if not arms or arm.name in arms)
        return replace(self, arms=kept, seeds=self.seeds if seeds is None else seeds)


def _scheduled(arm: Arm, samples: int | None, batch: int | None) -> Arm:
    """A shorter schedule warms up for no more than a tenth of it."""
    train = arm.recipe.train
    shown = train.samples if samples is None else samples * arm.times
    train = replace(train, samples=shown, warmup=shorter_warmup(train.warmup, shown),
                    batch=train.batch if batch is None else batch)
    return replace(arm, recipe=replace(arm.recipe, train=train))
