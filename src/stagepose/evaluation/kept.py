"""What a training's best validation found, kept in its run folder, so that runs are compared without an export.

Written and read side by side; reading needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagepose.coco import jsonfile
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.predictions import check_predictions
from stagepose.coco.problems import as_error, errors
from stagepose.errors import CheckpointError, SkeletonError
from stagepose.evaluation.judge import Row
from stagepose.lines import printable
from stagepose.runfiles import CONFIG, STAGES, finished_stages, read_object
from stagepose.skeleton import Skeleton

KEPT = "best_results.json"  # in a run folder, beside best.json, of whose step it is
OF_STAGE = ".results.json"  # ends the same of a finished stage of a stage-by-stage run


@dataclass(frozen=True, eq=False)
class KeypointResults:
    """COCO keypoint ``results`` on the images ``image_ids``."""

    results: list[Row]
    image_ids: Sequence[int]

    def write(self, path: Path, step: int | None = None) -> None:
        """Keep them, atomically; ``step`` is the training's."""
        jsonfile.write_json_compact(path, {"step": step, "images": sorted(self.image_ids), "results": self.results})


@dataclass(frozen=True, eq=False)
class Judged:
    """A validation: its ``numbers``, ``ap`` among them where it has one, and of a pose network what they measure."""

    numbers: Mapping[str, float]
    results: KeypointResults | None = None


UNJUDGED = Judged({})  # without a validation set, and on every rank but the first


@dataclass(frozen=True, eq=False, kw_only=True)
class JudgedRun:
    """A run folder of a pose network with the results of its best validation; of stages, the last finished one's."""

    folder: Path
    path: Path  # of the results
    skeleton: Skeleton
    seed: int
    val: str | None  # sha256 of the labels that it was judged by
    image_ids: frozenset[int]
    results: list[Row]

    @classmethod
    def read(cls, folder: str | Path) -> JudgedRun:
        """:class:`CheckpointError` where the folder is no such run, keeps no results, or is damaged."""
        folder = Path(folder)
        config_path, name = folder / CONFIG, printable(folder)
        if not config_path.is_file():
            raise CheckpointError(f"{name}: a folder that is no run (no {CONFIG}); give a run folder, or a file")
        config = read_object(config_path)
        if config.get("kind") not in ("pose", "stages"):
            raise CheckpointError(f"{name}: a run of kind {config.get('kind')!r}; only runs of pose networks have "
                                  "keypoint results")
        path = _place(folder)
        if not path.is_file():
            raise CheckpointError(f"{name}: keeps no results of a validation (no {path.name}): it was not judged by "
                                  "--val yet, or by an older StagePose; export it and give the .onnx file")
        kept = read_object(path)
        try:
            return cls(folder=folder, path=path, skeleton=Skeleton.from_json(config["skeleton"]),
                       seed=int(config["train"]["seed"]), val=config.get("val"),
                       image_ids=frozenset(kept["images"]), results=list(kept["results"]))
        except (KeyError, TypeError, ValueError, SkeletonError) as error:
            raise CheckpointError(f"{name}: {config_path.name} or {path.name} is damaged ({type(error).__name__}: "
                                  f"{error}); export the run and give the .onnx file") from error

    def results_on(self, dataset: CocoDataset) -> list[Row]:
        """The results; :class:`CheckpointError` where the training was judged on other pictures than the set's."""
        there = {image.id for image in dataset.images}
        if there != self.image_ids:
            truth = printable(dataset.path)
            raise CheckpointError(f"{printable(self.folder)}: was judged on another validation set than {truth}: "
                                  f"{len(there & self.image_ids)} of its {len(self.image_ids)} image ids are among the "
                                  f"{len(there)} there; give its own, or export it and give the .onnx file")
        if wrong := errors(check_predictions(self.results, dataset)):
            raise as_error(self.path, wrong)
        return self.results


def _place(run: Path) -> Path:
    """Where a run's results are: those of the last finished stage, where there are stages."""
    done = finished_stages(run)
    if not done:
        return run / KEPT
    of_stage = run / STAGES / f"{done[-1]}{OF_STAGE}"
    return of_stage if of_stage.is_file() else run / STAGES / str(done[-1]) / KEPT
