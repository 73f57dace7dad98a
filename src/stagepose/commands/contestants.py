"""Who is compared: files of results, run folders and pose models, one or several a side, judged on one truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stagepose.coco import CocoDataset, resolve_skeleton
from stagepose.commands.arguments import changed
from stagepose.commands.console import wrong_usage
from stagepose.commands.judging import ModelOptions, predict, read_results, read_truth, results_of_run
from stagepose.errors import ConfigError
from stagepose.evaluation import JudgedRun, Judgement, judge_keypoints
from stagepose.lines import printable
from stagepose.predictor import Predictor
from stagepose.runtime import shipped
from stagepose.skeleton import Skeleton

AROUND = " -_./"  # around what the names of one training's runs have in common: runs/a-0 and runs/a-1 are a


@dataclass(frozen=True, eq=False)
class Contestant:
    """One that is compared: its name, how it is judged, and, of a run whose seed is known, that."""

    name: str
    judged: Judgement
    seed: int | None


Side = tuple[Contestant, ...]  # the runs of one training, or a single contestant


@dataclass(frozen=True)
class Opened:
    """Everybody who is compared, opened but not judged yet: what does not fit is refused before anything is run."""

    runs: dict[str, JudgedRun]
    predictors: dict[str, Predictor]
    model: ModelOptions
    skeleton: str | None

    @classmethod
    def of(cls, names: Sequence[str], model: ModelOptions, skeleton: str | None) -> Opened:
        """Ends with a usage error where options mean nothing for who is compared."""
        folders = [name for name in names if name not in shipped() and Path(name).is_dir()]
        models = [name for name in names if not name.endswith(".json") and name not in folders]
        if not models and (idle := changed(model)):
            what = "two files of results need" if not folders and len(names) == 2 else "results and runs need"
            wrong_usage(f"{what} no model; leave out {', '.join(idle)}")
        if (models or folders) and skeleton is not None:
            wrong_usage("--skeleton goes with files of results; a model or a run brings its own skeleton")
        runs = {name: JudgedRun.read(name) for name in folders}
        return cls(runs, {name: model.predictor((name,)) for name in models}, model, skeleton)

    def common_skeleton(self) -> Skeleton | None:
        """That of models and runs, or the named one; :class:`ConfigError` where two find different keypoints."""
        found = {name: one.skeleton for name, one in self.predictors.items()}
        found |= {name: one.skeleton for name, one in self.runs.items()}
        for name, own in found.items():
            first = next(iter(found))
            if own.names != found[first].names:
                raise ConfigError(f"{first} and {name} find different keypoints, whose AP cannot be compared")
        return next(iter(found.values()), resolve_skeleton(self.skeleton) if self.skeleton else None)

    def judge(self, names: Sequence[str], dataset: CocoDataset, truth: Path) -> Side:
        """One side on the truth."""
        return tuple(Contestant(name, self._judge(name, dataset, truth),
                                self.runs[name].seed if name in self.runs else None) for name in names)

    def _judge(self, name: str, dataset: CocoDataset, truth: Path) -> Judgement:
        if name in self.runs:
            results = results_of_run(self.runs[name], dataset)
        elif name in self.predictors:
            results = predict(self.predictors[name], dataset, truth, self.model).results
        else:
            results = read_results(name, dataset, self.skeleton)
        return judge_keypoints(dataset, results)


def judge_sides(a: Sequence[str], b: Sequence[str], truth: Path, skeleton: str | None, model: ModelOptions
                ) -> tuple[Side, Side]:  # fmt: skip
    """Both sides, judged on the truth in the keypoints of whoever brings some."""
    repeated = next((name for side in (a, b) for name in side if list(side).count(name) > 1), None)
    if repeated is not None:
        wrong_usage(f"{printable(repeated)} is on one side twice; name each run once")
    everybody = Opened.of(list(dict.fromkeys((*a, *b))), model, skeleton)
    dataset = read_truth(truth, everybody.common_skeleton())
    return everybody.judge(a, dataset, truth), everybody.judge(b, dataset, truth)


def are_paired(a: Side, b: Side) -> bool:
    """Whether every run has one of the same seed on the other side: several, and each seed once."""
    mine, others = (sorted(one.seed for one in side if one.seed is not None) for side in (a, b))
    return mine == others and len(set(mine)) == len(mine) == len(a) == len(b) > 1


def by_seed(side: Side) -> Side:
    """The same in the order of the seeds, all of which are known."""
    return tuple(sorted(side, key=lambda one: one.seed or 0))


def titles(a: Sequence[str], b: Sequence[str]) -> tuple[str, str]:
    """What the sides are called: their own names, or what the names of a side's runs have in common."""
    paths = [Path(_beginning(side).rstrip(AROUND) if len(side) > 1 else side[0]) for side in (a, b)]
    several = len(a) > 1 or len(b) > 1
    while several and paths[0].name == paths[1].name != "":  # such as ARM/seed-0: the arms tell the sides apart
        paths = [path.parent for path in paths]
    short = [path.name for path in paths]
    for first, second in (short, [str(path) for path in paths]):
        if first and second and first != second:
            return printable(first), printable(second)
    return "A", "B"


def _beginning(names: Sequence[str]) -> str:
    """The letters that all names begin with."""
    first, last = min(names), max(names)
    return first[: next((n for n, (x, y) in enumerate(zip(first, last, strict=False)) if x != y), len(first))]
