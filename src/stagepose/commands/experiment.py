"""``stagepose experiment``: one of the report's experiments, from labelled pictures to a table and a plot."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from stagepose.commands.arguments import (
    UNSAID,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalName,
    OptionalNumber,
)
from stagepose.commands.console import note, say, table, wrong_usage
from stagepose.commands.training_options import MachineOptions, keypoints
from stagepose.training import distributed
from stagepose.training.experiments import (
    Outcome,
    Scale,
    estimate,
    experiment,
    finished_before,
    run_all,
    write_outcome,
)
from stagepose.training.experiments.outcome import require_plots
from stagepose.training.experiments.plan import Experiment
from stagepose.training.experiments.runner import Place
from stagepose.training.inputs import TrainingSet
from stagepose.training.runfolder import require_folder

ANY_MACHINE = MachineOptions()


def run_experiment(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    *,
    data: Annotated[tuple[str, ...], arg(metavar="FILE.json ...", help_behavior_hint=UNSAID)] = (),
    val: OptionalFile = None,
    out: OptionalFolder = None,
    scale: Scale = "small",
    arms: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint=UNSAID)] = (),
    seeds: OptionalCount = None,
    samples: OptionalCount = None,
    batch: OptionalCount = None,
    crops: OptionalFolder = None,
    pretrained: OptionalFolder = None,
    skeleton: OptionalName = None,
    extra: Annotated[tuple[str, ...], arg(metavar="FILE.json ...", help_behavior_hint=UNSAID)] = (),
    plan: bool = False,
    throughput: OptionalNumber = None,
    machine: Annotated[MachineOptions, arg(name="")] = ANY_MACHINE,
) -> None:
    """Repeat one of the report's experiments: train every arm with several seeds, write a table and a plot.

    backbone: depth, and the spatial ResNet. stages: one to four. initialisation: Gaussian or ImageNet weights.
    resampling: later stages on hard people, on as many at random, on everybody. extension: with generated people.
    Stop it at any time; the same command goes on, and keeps what is finished. OUT/NAME.md is written after every run,
    OUT/NAME.png at the end; the runs are in OUT/runs.

    Args:
        name: backbone, stages, initialisation, resampling or extension.
        data: COCO annotation files to learn from, each FILE.json or FILE.json:WEIGHT, pictures in images/ beside it.
        val: COCO annotation file to judge by, with images/ beside it.
        out: Folder of the runs and of the outcome; runs/NAME-SCALE by default.
        scale: full: the report's networks and input size, for GPUs; small: the same question on networks or pictures
            that a CPU can do over night; tiny: a rehearsal of a few steps.
        arms: Only these arms.
        seeds: Number of random seeds, each a run of every arm, instead of the scale's.
        samples: Pictures to show in a run, or in each stage of one stage by stage, instead of the scale's.
        batch: Pictures in one step, instead of the scale's.
        crops: Folder for packed crops, shared between experiments; OUT/crops by default.
        pretrained: Folder of weights for the ImageNet arms at full scale.
        skeleton: Keypoints to learn, as for train.
        extra: Generated sets for extension, such as those of 'stagepose render', each FILE.json or FILE.json:WEIGHT.
        plan: Estimate the time of the runs that are not finished in OUT, and stop.
        throughput: Training pictures per second of the first arm on the target device, for the estimate; by default a
            few steps of every network are timed here.
        machine: Device options.
    """
    wanted = keypoints(skeleton)
    chosen = experiment(name, scale).changed(arms=arms, seeds=seeds, samples=samples, batch=batch)
    folder = out or Path("runs") / f"{name}-{scale}"
    if plan or scale == "full":
        _print_plan(chosen, len(wanted), machine.prepared(), throughput, finished_before(chosen, folder))
    if plan:
        return
    if not data or val is None:
        wrong_usage("an experiment needs labelled pictures: --data FILE.json and --val FILE.json (or --plan)")
    require_plots()
    require_folder(folder)
    with machine.started(crops or folder / "crops", val=val) as context:
        place = Place(out=folder, sources=[TrainingSet.parse(text) for text in data], skeleton=wanted, context=context,
                      pretrained=pretrained, extra=[TrainingSet.parse(text, "extra") for text in extra])
        files = ", ".join(Path(text.rpartition(".json")[0]).name + ".json" for text in (*data, *extra))
        write = partial(write_outcome, out=folder, command=_command(),
                        data=f"Learnt from {files}, judged on {val.name}.")
        outcome = Outcome.of(chosen, run_all(chosen, place, lambda results: write(Outcome.of(chosen, results))))
        if distributed.first():
            _print_outcome(outcome)  # first: a full disk must not cost the numbers
            write(outcome)  # also where all was finished before
            note(f"written to {folder / outcome.experiment.name}.md and .png")


def _print_plan(chosen: Experiment, keypoints: int, device: str, throughput: float | None,
                done: Mapping[str, Sequence[int]]) -> None:
    planned = estimate(chosen, keypoints, device, throughput, done)
    rows = [(one.arm, f"{one.gmacs:.2f}", f"{one.samples:,}", f"{one.per_second:,.0f}", f"{one.hours:,.1f}")
            for one in planned]
    table(("arm", "GMACs", "samples", "pictures/s", "hours"), rows)
    finished = [f"{arm}, seed {seed}" for arm, seeds in done.items() for seed in seeds]
    if finished:
        say(f"{len(finished)} of {len(chosen.arms) * chosen.seeds} runs are finished and not counted: "
            f"{'; '.join(finished)}")
    unit = "hours of the device whose throughput was given" if throughput else f"hours on {device}"
    say(f"{chosen.seeds} seeds: {sum(one.hours for one in planned):,.1f} {unit}"
        + ("" if throughput else ", the networks and their gradients alone, timed over a few steps"))


def _print_outcome(outcome: Outcome) -> None:
    table(("arm", "report", "difference", "ours", "difference", "95 % interval"),
          [(row[0], *row[2:6], row[-1]) for row in outcome.rows()])


def _command() -> str:
    """As anybody would type it: of folders of this machine only the last two names stay."""
    words = ["/".join(Path(word).parts[-2:]) if word.startswith(("/", ".")) else word for word in sys.argv[1:]]
    return shlex.join(["stagepose", *words])
