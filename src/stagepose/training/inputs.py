"""What a training is given besides its recipe: sets of labelled pictures, and the context that it runs in."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from stagepose.errors import ConfigError, DatasetError
from stagepose.runfiles import CONFIG, read_object
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint, distributed, start, trained
from stagepose.training.crops import CropSpec, CropStore, open_or_pack
from stagepose.training.devices import machine_for
from stagepose.training.machine import Machine
from stagepose.training.workfolder import told

log = logging.getLogger(__name__)

MOST_SHOWN = 10_000  # times in an epoch: its order lies in memory

SetKind = Literal["data", "extra", "negatives"]
Report = Callable[[str], None]  # a line for people


@dataclass(frozen=True)
class TrainingSet:
    """One labelled set: the annotation file, its pictures, and how often its people are shown in an epoch.

    ``kind`` is the option that it was given with: generated people are ``extra``, beside photographs; of ``negatives``
    the boxes are learnt in which there is no person.
    """

    path: Path
    images: Path
    weight: float
    kind: SetKind = "data"

    @classmethod
    def parse(cls, text: str, kind: SetKind = "data") -> TrainingSet:
        """``FILE.json`` or ``FILE.json:WEIGHT``; pictures lie in ``images/`` beside it."""
        option = f"--{kind}"
        name, _, weight = text.rpartition(":")
        if not name.endswith(".json"):
            name, weight = text, "1"
        try:
            factor = float(weight)
        except ValueError:
            factor = math.nan
        if not 0 < factor <= MOST_SHOWN:
            raise ConfigError(f"{option} {text}: weight {weight!r} must be above 0 and at most {MOST_SHOWN:,}: how "
                              "often each person is shown in an epoch")
        path = Path(name)
        if not path.is_file():
            raise DatasetError(f"{option} {text}: no file {path}{_near(path)}")
        images = path.parent / "images"
        if not images.is_dir():
            raise DatasetError(f"{path}: no folder {images}; put the pictures there, or a link to their folder")
        return cls(path, images, factor, kind)

    @property
    def holds(self) -> str:
        """What is cut out of its pictures."""
        return "boxes without a person" if self.kind == "negatives" else "people"


def _near(path: Path) -> str:
    """What a folder has that is called nearly so."""
    there = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=3, cutoff=0.4)
    return f"; {path.parent} has {', '.join(near)}" if near else f"; nor is there any .json in {path.parent}"


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every kind of task needs besides its recipe: where packed pictures go, the judge's set, the start.

    And what it runs on; ``workers`` and ``compiled`` may be left open, see :func:`.devices.machine_for`.
    """

    crops: Path
    val: Path | None = None
    init: str | None = None  # a run folder, a .safetensors file; for pose networks also a model file or a shipped name
    began: str | None = None  # sha256 of the weights that a run has begun with which goes on without them
    device: str = "cpu"
    workers: int | None = None
    compiled: bool | None = None
    drop_bad: bool = False
    report: Report = log.info

    def begins_with(self) -> str | None:
        """The sha256 of the weights that the training begins with, or has begun with; None without any. It reads them.
        """
        return self.began or start.digest(self.init)

    def machine(self, *, resident: bool) -> Machine:
        """For a task whose pixels are all on the device, or are not."""
        return machine_for(self.device, self.workers, self.compiled, resident=resident)


def going_on(context: RunContext, out: Path, networks: Sequence[Path]) -> RunContext:
    """The context of the run in ``out``, which needs nothing of ``context.init`` any more where that is gone.

    So it is where each of its ``networks``' folders has a checkpoint; what they began with, its config.json says.
    """
    init = context.init
    if init is None or not distributed.from_first(partial(trained.is_gone, init)):
        return context
    began = distributed.from_first(partial(_began_with, out, networks))
    if began is None:
        return context
    context.report(f"{init} is gone; {out} began with it, and goes on from its own checkpoint")
    return replace(context, init=None, began=began)


def _began_with(out: Path, networks: Sequence[Path]) -> str | None:
    config = out / CONFIG
    if not config.is_file() or not all(map(checkpoint.has_begun, networks)):
        return None
    known = read_object(config).get("init")
    return known if isinstance(known, str) else None


def open_stores(sources: Sequence[TrainingSet], spec: CropSpec, skeleton: Skeleton, context: RunContext,
                ) -> list[CropStore]:
    """The crops of each set, packed where they are missing; how many people they are, and who is left out, is told."""
    stores = []
    for source in sources:
        stores.append(open_or_pack(source.path, source.images, context.crops, spec=spec, skeleton=skeleton,
                                   drop_bad=context.drop_bad,
                                   progress=told(context.report, f"{source.path}: {source.holds} cut out of"),
                                   negative=source.kind == "negatives"))
        context.report(f"{source.path}: {len(stores[-1])} {source.holds}; left out: {stores[-1].left_out}")
    return stores
