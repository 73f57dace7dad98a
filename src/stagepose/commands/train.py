"""``stagepose train``, ``train-stages`` and ``export``: a preset and labelled pictures in, a model file out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from stagepose.commands.arguments import (
    Counts,
    File,
    Numbers,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalNumber,
    OptionalText,
    OptionalTexts,
    Preset,
    Run,
)
from stagepose.commands.console import say
from stagepose.commands.recipe_options import Options, TrainOptions
from stagepose.errors import ConfigError
from stagepose.files import require_place
from stagepose.images import find_images
from stagepose.runtime import export_line
from stagepose.training import loop
from stagepose.training.detector.build import detector_task
from stagepose.training.detector.presets import DETECTOR_PRESETS
from stagepose.training.exportrun import Described, ReadStages, Weights, export_run
from stagepose.training.inference import Reading
from stagepose.training.inputs import RunContext, TrainingSet, going_on
from stagepose.training.posebuild import (
    first_stage,
    pose_inputs,
    pose_task,
    require_fit,
    require_stagewise,
    require_startable,
    staged_training,
)
from stagepose.training.presets import pose_preset
from stagepose.training.runfolder import require_folder
from stagepose.training.stages import Pick, StagesConfig, first_networks
from stagepose.training.storage import Bits
from stagepose.training.trained import Mixed

MOST_PICTURES = 16  # to compare a detector's file on


def train(preset: Preset, *, options: Annotated[TrainOptions, arg(name="")]) -> None:
    """Train a network by the name of its preset, or go on with the run that OUT holds.

    Stop it at any time with Ctrl-C or SIGTERM: it saves, and the same command goes on from there, exactly. On several
    GPUs: torchrun --nproc-per-node N -m stagepose.cli train ...

    Args:
        preset: pose-small, pose-medium, pose-large, pose-slim, any network of 'stagepose networks', or a detector:
            person-tiny, person-small, person-medium, person-resnet50.
        options: How.
    """
    with _started(options, [options.out]) as context:
        sources = options.sources()
        if preset in DETECTOR_PRESETS:
            boxes = options.of_detector(preset)
            config = boxes.train
            task: loop.Task = detector_task(boxes, sources, context, partly_boxed=options.partly_boxed)
        else:
            recipe, skeleton = options.changed(pose_preset(preset)), options.keypoints()
            config = recipe.train
            require_fit(recipe, len(skeleton))
            sources += [TrainingSet.parse(text, "extra") for text in options.extra or ()]
            sources += [TrainingSet.parse(text, "negatives") for text in options.negatives or ()]
            require_startable(recipe, len(skeleton), context)
            inputs = pose_inputs(recipe, sources, skeleton, context, options.experiment.teacher)
            task = pose_task(recipe, inputs, context)
        loop.train(task, config, options.out, context.machine(resident=task.resident),
                   accept_changes=options.accept_changes)
        _trained(options, context)


def train_stages(
    preset: Preset,
    *,
    options: Annotated[Options, arg(name="")],
    thresholds: tuple[float, ...] = StagesConfig.thresholds,
    shares: Numbers = (),
    pick: Pick = "hard",
    by_difficulty: bool = False,
    easy_share: float = 0.0,
    folds: int = 2,
    earlier: Literal["frozen", "tuned"] = "frozen",
    earlier_lr: float = StagesConfig.earlier_lr,
    later_samples: Counts = (),
    recalibrate: int = 4096,
) -> None:
    """Train a network stage by stage, each later stage on the people whom the stages before it do not find.

    The report's way: stage 1 on everybody, stage 2 on those whose OKS is below 0.8 after it, stage 3 on those below 0.6
    after that. Stop it and start it again as any training; docs/stages.md says what OUT holds.

    Args:
        preset: A network of several stages, such as 3xres50 or 2xlite0-u.
        options: What every training is told; samples are those shown to stage 1.
        thresholds: OKS below which a person goes on, one for each later stage.
        shares: Instead of thresholds: the hardest share of each set, such as 0.4 0.15.
        pick: Who goes on: hard people, or as a control as many at random, or all.
        by_difficulty: Weight each sample of a later stage by 1 - OKS.
        easy_share: Share of easy people among those of a later stage.
        folds: Cross-validation folds by which each person's OKS is measured; 0 measures it by the network that was
            trained on the person.
        earlier: Whether earlier stages are frozen or fine-tuned.
        earlier_lr: Their learning rate, relative to that of the new stage; with --earlier tuned.
        later_samples: Pictures shown to each later stage, as many as to stage 1 by default.
        recalibrate: People on whom the batch-norm statistics of a finished later stage are recomputed; 0 keeps them.
    """
    if shares and thresholds != StagesConfig.thresholds:
        raise ConfigError("--shares are instead of --thresholds; leave one of the two out")
    if earlier == "frozen" and earlier_lr != StagesConfig.earlier_lr:
        raise ConfigError(f"--earlier-lr {earlier_lr:g} is for --earlier tuned; leave it out")
    stages = StagesConfig(thresholds=thresholds, shares=shares, pick=pick, by_difficulty=by_difficulty,
                          easy_share=easy_share, folds=folds, earlier=earlier, earlier_lr=earlier_lr,
                          samples=later_samples, recalibrate=recalibrate)
    with _started(options, first_networks(options.out, folds)) as context:
        if preset in DETECTOR_PRESETS:
            raise ConfigError(f"{preset} is a detector; stage by stage trains pose networks of several stages")
        recipe = options.changed(pose_preset(preset))
        require_stagewise(recipe, stages)
        skeleton = options.keypoints()
        require_fit(recipe, len(skeleton))
        sources = options.sources()
        require_startable(first_stage(recipe), len(skeleton), context)
        inputs = pose_inputs(recipe, sources, skeleton, context)
        staged_training(recipe, stages, inputs, context, options.out, accept_changes=options.accept_changes).run()
        _trained(options, context)


@contextmanager
def _started(options: Options, networks: list[Path]) -> Iterator[RunContext]:
    """The device and the other processes ready: what a task needs besides its recipe.

    ``networks`` are the run folders of what begins with ``--init``.
    """
    require_folder(options.out)
    with options.started(options.crops or options.out.parent / "crops", val=options.val, init=options.init,
                         drop_bad=options.drop_bad) as context:
        yield going_on(context, options.out, networks)


def _trained(options: Options, context: RunContext) -> None:
    context.report(f"trained; write the model file with: {export_line(options.out)}")


def export(
    run: Run,
    *,
    out: File,
    name: OptionalText = None,
    licence: str = "",
    training_data: OptionalTexts = None,
    metrics: OptionalFile = None,
    threshold: OptionalNumber = None,
    step: OptionalCount = None,
    mix: OptionalTexts = None,
    bits: Bits = 16,
    pictures: OptionalFolder = None,
    reading: Reading = "last",
    route_below: OptionalNumber = None,
) -> None:
    """Write a trained run as one self-describing ONNX file and compare it with the trained network.

    Args:
        run: Run folder of stagepose train or train-stages.
        out: The .onnx file.
        name: The model's name; the file's by default.
        licence: What the model's users may do, for its description.
        training_data: Names of the sets it was trained on, for its description.
        metrics: JSON file of measured numbers, for its description.
        threshold: Default person-score threshold stored in a pose model's file; 0.5 where it has none.
        step: Checkpoint to export; by default the best by validation, else the newest.
        mix: Weight averaging with other runs, each RUN:SHARE (runs/before:0.25: a quarter of the mean is its own). The
            mean of a run and of the run that it started from is often better than either.
        bits: Bits per stored weight: 8, 16 or 32; computation is always in float32.
        pictures: Folder of pictures with people that a detector's file is compared on; drawn ones by default.
        reading: Of a network of several stages: the last one's heatmaps, the mean of all, or a router, which shows the
            later stages only people that the first finds hard (for runs of train-stages).
        route_below: OKS, as predicted from the heatmaps of the first stage, below which a router goes on; 0.8 by
            default.
    """
    if route_below is not None and reading != "router":
        raise ConfigError(f"--route-below {route_below} is for --reading router; leave it out")
    require_place(out, suffix=".onnx")
    shown = find_images([pictures])[:MOST_PICTURES] if pictures else []
    described = Described(name=name or out.stem, licence=licence, training_data=tuple(training_data or ()),
                          metrics=metrics, threshold=threshold)
    weights = Weights(step=step, mix=[Mixed.parse(text) for text in mix or ()], bits=bits)
    stages = ReadStages(reading=reading) if route_below is None else ReadStages(reading=reading,
                                                                               route_below=route_below)
    made = export_run(run, out, described, weights, stages, shown)
    say(f"{out}: {made}")
