"""From a finished run to a model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stagepose.errors import CheckpointError, ConfigError
from stagepose.images import read_image
from stagepose.modelinfo import ModelInfo
from stagepose.runfiles import STAGES, read_object
from stagepose.training import checkpoint, trained
from stagepose.training.detector.build import export_detector_run
from stagepose.training.export import export_pose
from stagepose.training.inference import Reading
from stagepose.training.storage import Bits
from stagepose.training.table import Table

ROUTE_BELOW = 0.8  # OKS; as many go on to stage 2 in training


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a model file says of itself besides its network; ``metrics`` is a JSON file of measured numbers.

    ``threshold`` is what a person's score must reach to be shown, of a pose network alone.
    """

    name: str
    licence: str = ""
    training_data: tuple[str, ...] = ()
    metrics: Path | None = None
    threshold: float | None = None

    def told(self) -> dict[str, Any]:
        """As a file of any kind tells it."""
        return {"name": self.name, "licence": self.licence, "training_data": self.training_data,
                "metrics": read_object(self.metrics) if self.metrics else {}}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Which of a run's averaged weights, in so many ``bits`` each.

    ``step`` None takes the best by validation, else the newest; ``mix`` are runs to take the mean with.
    """

    step: int | None = None
    mix: Sequence[trained.Mixed] = ()
    bits: Bits = 16


@dataclass(frozen=True, kw_only=True)
class ReadStages:
    """Which stages' heatmaps come out of a pose network.

    A router goes on where the table after stage 1 predicts an OKS below ``route_below``.
    """

    reading: Reading = "last"
    route_below: float = ROUTE_BELOW


BEST, LAST_STAGE = Weights(), ReadStages()


def export_run(run: Path, out: Path, described: Described, weights: Weights = BEST, stages: ReadStages = LAST_STAGE,
               pictures: Sequence[Path] = ()) -> str:
    """Write the averaged weights of a run as one model file -> what was compared, in words.

    See :func:`stagepose.training.export.export_pose`; ``pictures`` are what a detector's file is compared on.
    """
    config = trained.config_of(run)
    if config.get("kind") in trained.POSE_KINDS:
        if pictures:
            raise ConfigError(f"--pictures are for a detector's file; {run} is of a pose network, so leave them out")
        return _export_pose_run(run, out, described, weights, stages, row=config.get("row", "?"))
    if config.get("kind") != "detector":
        raise CheckpointError(f"{run}: a run of kind {config.get('kind')!r}; a model file is made of one of a pose "
                              "network or a detector")
    if described.threshold is not None:
        raise ConfigError(f"--threshold {described.threshold} is a person's score, which a pose network gives; {run} "
                          "is of a detector, so leave it out")
    if stages.reading != "last":
        raise ConfigError(f"--reading {stages.reading} is of a pose network's stages; {run} is of a detector, so leave "
                          "it out")
    tensors = trained.averaged_weights(run, weights.step, weights.mix)
    shown = [np.array(read_image(path).pixels) for path in pictures]
    return export_detector_run(config, tensors, run, out, described.told(), bits=weights.bits, pictures=shown)


def _export_pose_run(run: Path, out: Path, described: Described, weights: Weights, stages: ReadStages, *,
                     row: int | str) -> str:
    """``row`` is how many stages a network trained stage by stage will have."""
    below = _route_score(run, stages.route_below) if stages.reading == "router" else 0.0
    pose = trained.open_pose(run, step=weights.step, reading=stages.reading, route_below=below, mix=weights.mix)
    info = ModelInfo(kind="pose", input_size=pose.codec.input_size, skeleton=pose.skeleton, codec=pose.codec,
                     network=pose.network, stages=trained.told_stages(pose.model, pose.network),
                     box_padding=pose.box_padding, threshold=described.threshold, **described.told())
    made = export_pose(pose.model, out, info, bits=weights.bits)
    last = checkpoint.last_stage(run)
    of_stage = f"stage {last.stem} of {row}; " if last else ""
    return (f"{made.megabytes:.1f} MB; {of_stage}heatmaps differ from the trained network's by "
            f"{made.max_difference:.2g} of their range")


def _route_score(run: Path, below: float) -> float:
    """The mean peak at which the people of a stage-by-stage run have an OKS of ``below`` after stage 1."""
    table = run / STAGES / "1.npz"
    if not table.is_file():
        raise ConfigError(f"{run}: no table of who is found how well after stage 1, by which a router decides; only "
                          "runs of 'stagepose train-stages' have one. Use reading last or mean")
    return Table.read(table).score_at(below)
