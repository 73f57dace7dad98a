"""What ``train``, ``train-stages``, ``gan train`` and ``experiment`` are told alike, and what each begins with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stagepose.coco import resolve_skeleton
from stagepose.commands.arguments import (
    Folder,
    OptionalCount,
    OptionalFolder,
    OptionalName,
    OptionalNumber,
    OptionalSwitch,
    Sets,
)
from stagepose.commands.console import note
from stagepose.errors import ConfigError
from stagepose.skeleton import Skeleton
from stagepose.training import distributed
from stagepose.training.devices import prepare_device
from stagepose.training.inputs import RunContext, TrainingSet
from stagepose.training.loop import TrainConfig, shortened, shorter_warmup


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is learnt from, and where it goes."""

    data: Sets
    """COCO annotation files, each FILE.json or FILE.json:WEIGHT (2.5: its people are shown 2.5 times an epoch).
    Pictures lie in images/ beside the file."""
    out: Folder
    """Run folder: checkpoints, log.jsonl, config.json."""
    crops: OptionalFolder = None
    """Folder for packed crops or decoded pictures, shared between runs; OUT's parent / crops by default."""
    skeleton: OptionalName = None
    """Keypoints to learn: a published skeleton's name, a skeleton file, or a COCO annotation file whose category lists
    them; coco17 by default. Sets are mapped to it by name, and what a set does not label costs nothing."""
    mirror: bool = True
    """Show people mirrored too; the skeleton's flip_pairs say which keypoints trade places then."""
    drop_bad: bool = False
    """Leave out pictures that are missing, unreadable or of another size, instead of refusing the set."""
    accept_changes: bool = False
    """Go on with a run although settings differ from those it began with."""

    def keypoints(self) -> Skeleton:
        """What ``--skeleton`` names."""
        return keypoints(self.skeleton)

    def sources(self) -> list[TrainingSet]:
        """What ``--data`` names."""
        return [TrainingSet.parse(text) for text in self.data]


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How long, and how; None leaves what the preset says."""

    samples: OptionalCount = None
    """Pictures to show, instead of the preset's."""
    minutes: OptionalNumber = None
    """Train for about this many minutes instead; converted to samples once, at the start."""
    steps: OptionalCount = None
    """Rehearsal: train for this many steps, logging each."""
    batch: OptionalCount = None
    """Pictures in one step."""
    lr: OptionalNumber = None
    """Peak learning rate."""
    evaluate_every: OptionalCount = None
    """Steps between validations; 0 only at the end."""
    accumulate: OptionalCount = None
    """Gradient accumulation: split each batch into this many parts, if it does not fit in GPU memory."""
    seed: int = 0
    """Random seed of sample order and augmentation."""

    def scheduled(self, base: TrainConfig) -> TrainConfig:
        """A recipe's schedule, changed."""
        if self.samples is not None and self.minutes is not None:
            raise ConfigError(f"give either --samples or --minutes, got {self.samples} and {self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"--steps is {self.steps}; use at least 1, or leave it out for the whole training")
        given = {name: value for name in ("batch", "lr", "evaluate_every", "accumulate", "seed")
                 if (value := getattr(self, name)) is not None}
        config = replace(base, **given)
        if self.samples is not None:
            config = replace(config, samples=self.samples, minutes=0.0,
                             warmup=shorter_warmup(config.warmup, self.samples))
        if self.minutes is not None:
            config = replace(config, samples=0, minutes=self.minutes)
        if self.steps is None:
            return config
        return replace(shortened(config, self.steps), evaluate_every=self.evaluate_every or 0)


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """What it runs on."""

    device: str = "auto"
    """cpu, cuda, or auto."""
    threads: OptionalCount = None
    """CPU threads; all cores by default."""
    workers: OptionalCount = None
    """Processes that read data ahead; by default none on a CPU, or where all data is in the GPU's memory."""
    compile: OptionalSwitch = None
    """Compile the network with torch.compile, which costs minutes at the start; by default on a GPU."""

    def prepared(self) -> str:
        """The device's name, and its threads set."""
        return prepare_device(self.device, self.threads)

    @contextmanager
    def started(self, crops: Path, *, val: Path | None = None, init: str | None = None,
                drop_bad: bool = False) -> Iterator[RunContext]:
        """All processes of a training: what a task needs besides its recipe. Of several only the first says anything.
        """
        device = self.prepared()
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        with distributed.started(device):
            first = distributed.first()
            logging.getLogger("stagepose").setLevel(logging.INFO if first else logging.ERROR)
            yield RunContext(crops=crops, val=val, init=init, device=device, workers=self.workers,
                             compiled=self.compile, drop_bad=drop_bad, report=note if first else lambda _: None)


@dataclass(frozen=True, kw_only=True)
class RunOptions(MachineOptions, ScheduleOptions, DataOptions):  # help lists them from the last to the first
    """What every training is told."""


def keypoints(name: str | None) -> Skeleton:
    """What ``--skeleton`` names; COCO's 17 without it."""
    return resolve_skeleton(name or "coco17")
