"""An experiment's runs, one after the other: a folder each, what is finished is kept, what was begun goes on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stagepose import files
from stagepose.coco import read_dataset
from stagepose.errors import ConfigError, DatasetError
from stagepose.runfiles import CONFIG, JUDGED, read_object
from stagepose.skeleton import Skeleton
from stagepose.training import checkpoint, distributed, loop, posebuild, start
from stagepose.training.crops import fingerprint_of
from stagepose.training.experiments.plan import PRETRAINED, Arm, Experiment
from stagepose.training.inputs import RunContext, TrainingSet
from stagepose.training.runfolder import differences

RESULT = "result.json"  # in a run folder that is finished
Results = dict[str, list[dict[str, Any] | None]]  # of every arm by seed; None of a run that is not finished


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the data is and where the runs go; ``context`` is every run's but for the weights that it begins with."""

    out: Path
    sources: Sequence[TrainingSet]
    skeleton: Skeleton
    context: RunContext
    pretrained: Path | None = None
    extra: Sequence[TrainingSet] = ()  # generated sets, for the arms that are extended


def run_all(chosen: Experiment, place: Place, told: Callable[[Results], None] = lambda _: None) -> Results:
    """Train what is not trained yet -> the results of every arm, a dict a seed.

    ``told`` is given those there are after every run, on the first rank alone.
    """
    _check(chosen, place)
    results: Results = {arm.name: [_known(arm, seed, place) for seed in range(chosen.seeds)] for arm in chosen.arms}
    for seed in range(chosen.seeds):  # seed by seed: a first answer comes early, and every arm has as many
        for arm in chosen.arms:
            if results[arm.name][seed] is None:
                results[arm.name][seed] = _run(arm, seed, place)
                if distributed.first():
                    told(results)
    return results


def finished_before(chosen: Experiment, out: Path) -> dict[str, list[int]]:
    """The seeds of every arm whose run in ``out`` is finished, with the schedule asked for; data is not looked at."""
    return {arm.name: [seed for seed in range(chosen.seeds) if _has_schedule(folder_of(arm, seed, out), arm, seed)]
            for arm in chosen.arms}


def _has_schedule(folder: Path, arm: Arm, seed: int) -> bool:
    if not (folder / RESULT).is_file():
        return False
    asked = json.loads(json.dumps({"train": asdict(replace(arm.recipe.train, seed=seed)),
                                   "stages": None if arm.stages is None else asdict(arm.stages)}))
    with checkpoint.settings_of(folder / CONFIG):
        begun = read_object(folder / CONFIG)
        return not differences({"train": begun["train"], "stages": begun.get("stages")}, asked)


def _check(chosen: Experiment, place: Place) -> None:
    """What would else be found out after the first hours."""
    if place.context.val is None:
        raise ConfigError("an experiment is judged on a set of its own; name it with --val FILE.json")
    if not read_dataset(place.context.val, skeleton=place.skeleton).with_keypoints().any():
        raise DatasetError(f"{place.context.val}: nobody in it has labelled keypoints, so no AP can be measured; give "
                           "another file with --val")
    if any(arm.extended for arm in chosen.arms) and not place.extra:
        raise ConfigError(f"experiment {chosen.name!r} needs generated people: make some with 'stagepose render', and "
                          "name their file with --extra FILE.json")
    if place.extra and not any(arm.extended for arm in chosen.arms):
        raise ConfigError(f"--extra means nothing for experiment {chosen.name!r}; leave it out")
    missing = [file for arm in chosen.arms if (file := _start(arm, place)) and not file.is_file()]
    if missing:
        raise ConfigError(f"{missing[0]}: no such file; the ImageNet arms start from files of weights, whose tensors "
                          f"have the network's names, in {PRETRAINED}. Or name the other arms with --arms")


def folder_of(arm: Arm, seed: int, out: Path) -> Path:
    """A run's folder: the arm's name in letters that every file system takes."""
    return out / "runs" / re.sub(r"[^a-z0-9]+", "-", arm.name.lower()).strip("-") / f"seed-{seed}"


def _start(arm: Arm, place: Place) -> Path | None:
    """The file of an arm that starts from one."""
    if arm.pretrained is None:
        return None
    return (place.pretrained or Path("pretrained")) / arm.pretrained


def _asked_for(arm: Arm, seed: int, place: Place) -> tuple[Arm, RunContext, list[TrainingSet]]:
    """An arm's recipe, context and sets with a seed."""
    weights_file = _start(arm, place)
    context = replace(place.context, init=None if weights_file is None else str(weights_file))
    arm = replace(arm, recipe=replace(arm.recipe, train=replace(arm.recipe.train, seed=seed)))
    return arm, context, [*place.sources, *(place.extra if arm.extended else ())]


def _known(arm: Arm, seed: int, place: Place) -> dict[str, Any] | None:
    """The result of a run that is finished already; None where it is not."""
    arm, context, sources = _asked_for(arm, seed, place)
    folder = folder_of(arm, seed, place.out)
    done = distributed.from_first(lambda: _finished(folder, arm, sources, place.skeleton, context))
    if done is not None:
        context.report(f"{arm.name}, seed {seed}: finished already, AP {done['ap']:.3f}")
    return done


def _run(arm: Arm, seed: int, place: Place) -> dict[str, Any]:
    arm, context, sources = _asked_for(arm, seed, place)
    folder, recipe = folder_of(arm, seed, place.out), arm.recipe
    context.report(f"{arm.name}, seed {seed}: {arm.shown:,} samples, in {folder}")
    inputs = posebuild.pose_inputs(recipe, sources, place.skeleton, context)
    if arm.stages is None:
        task = posebuild.pose_task(recipe, inputs, context)
        loop.train(task, recipe.train, folder, context.machine(resident=task.resident))
        judged = folder / JUDGED
    else:
        weights = posebuild.staged_training(recipe, arm.stages, inputs, context, folder).run()
        judged = weights.with_suffix(".json")
    return distributed.from_first(lambda: _finish(folder, judged, recipe.train))


def _finished(folder: Path, arm: Arm, sources: Sequence[TrainingSet], skeleton: Skeleton,
              context: RunContext) -> dict[str, Any] | None:
    """The result of a finished run; :class:`ConfigError` where it had other settings, other data or another judge."""
    if not (folder / RESULT).is_file():
        return None
    asked = _asked(arm, sources, skeleton, context)
    with checkpoint.settings_of(folder / CONFIG):
        changes = _changes(read_object(folder / CONFIG), asked)
    if changes:
        raise ConfigError(f"{folder}: this finished run had other settings ({'; '.join(changes)}); use them again, or "
                          "another --out")
    return read_object(folder / RESULT)


def _asked(arm: Arm, sources: Sequence[TrainingSet], skeleton: Skeleton, context: RunContext) -> dict[str, Any]:
    """What a run's config.json would say, of what is known before its sets are opened."""
    assert context.val is not None  # _check
    spec = posebuild.crop_spec(arm.recipe)
    told = {
        "train": asdict(arm.recipe.train), "stages": None if arm.stages is None else asdict(arm.stages),
        "sampling": [source.weight for source in sources], "skeleton": skeleton.to_json(),
        "data": [fingerprint_of(source.path, source.images, spec, skeleton) for source in sources],
        "val": hashlib.sha256(context.val.read_bytes()).hexdigest(), "init": start.digest(context.init),
    }  # fmt: skip
    plain: dict[str, Any] = json.loads(json.dumps(told))  # as a file holds it: lists for tuples
    return plain


def _changes(begun: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What a run with the config.json ``begun`` had otherwise; what an older version did not note is no change."""
    changes = differences(begun["train"], asked["train"])
    changes += differences({"sampling": begun["sampling"], "stages": begun.get("stages")}, asked)
    prints = [each["fingerprint"].partition("-")[0] for each in begun["data"]]  # JPEG crops say so behind it
    if begun["skeleton"] != asked["skeleton"]:  # fingerprints differ by it too
        changes.append(f"skeleton: {begun['skeleton']['name']} -> {asked['skeleton']['name']}")
    elif prints != asked["data"]:
        changes.append("data: other labels or pictures than those of --data and --extra")
    for name, what in (("val", "labels than those of --val"), ("init", "weights than those of --pretrained")):
        if begun.get(name, asked[name]) != asked[name]:
            changes.append(f"{name}: other {what}")
    return changes


def _finish(folder: Path, judged: Path, config: loop.TrainConfig) -> dict[str, Any]:
    """The last validation, which is that of the whole schedule: never the best of several."""
    last = read_object(judged)
    result = {name: last[name] for name in ("ap", "ap50", "ap75", "ar")} | {"seed": config.seed}
    files.write_json(folder / RESULT, result)
    return result
