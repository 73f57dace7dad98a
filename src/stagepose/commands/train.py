"""``stagepose train`` and ``stagepose export``: a preset and labelled pictures in, a model file out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from stagepose.commands.console import note, say
from stagepose.errors import ConfigError
from stagepose.geometry import Size
from stagepose.images import find_images
from stagepose.skeleton import resolve
from stagepose.training import distributed, loop, runs
from stagepose.training.presets import DETECTOR_PRESETS, PoseRecipe, pose_preset

MOST_PICTURES = 16  # to compare a detector's file on


def train(
    preset: Positional[str],
    *,
    data: list[str],
    out: Path,
    val: Path | None = None,
    crops: Path | None = None,
    init: str | None = None,
    skeleton: str | None = None,
    input_size: tuple[int, int] | None = None,
    frozen: int | None = None,
    samples: int | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    evaluate_every: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    accumulate: int | None = None,
    workers: int | None = None,
    compile: bool | None = None,
    drop_bad: bool = False,
    accept_changes: bool = False,
) -> None:
    """Train a network by the name of its preset, or go on with the run that OUT holds.

    Stop it at any time with Ctrl-C or SIGTERM: it saves, and the same command goes on from there, exactly. On several
    GPUs: torchrun --nproc-per-node N -m stagepose.cli train ...

    Args:
        preset: pose-small, pose-slim, 1xres50, 2xres50, person-small.
        data: COCO annotation files, each FILE.json or FILE.json:WEIGHT (2.5: its people are shown 2.5 times an epoch).
            Pictures lie in images/ beside the file, pictures without people in negatives/ (detectors).
        out: Run folder: checkpoints, log.jsonl, config.json.
        val: COCO annotation file to judge by, with images/ beside it.
        crops: Folder for packed crops or decoded pictures, shared between runs; OUT's parent / crops by default.
        init: Weights to start from: a run folder or a .safetensors file; for pose networks also a model file or the
            name of one that ships, such as pose-small.
        skeleton: Keypoints to learn: a published skeleton's name or a file, coco17 by default; sets are mapped to it
            by name.
        input_size: Width and height of a pose network's input, instead of the preset's.
        frozen: First blocks of the trunk that keep their weights, instead of the preset's.
        samples: Pictures to show, instead of the preset's.
        minutes: Train about so long instead; turned into samples once, at the start.
        steps: Only so many steps: a rehearsal.
        batch: Pictures in one step.
        lr: Peak learning rate.
        evaluate_every: Steps between validations; 0 only at the end.
        seed: Of the sample order and of every augmentation.
        device: cpu, cuda, or auto.
        threads: CPU threads; all cores by default.
        accumulate: Show a step's pictures in so many parts, where a GPU's memory does not hold them at once.
        workers: Processes that read data ahead; by default none on a CPU, or where all data is in the GPU's memory.
        compile: Let torch.compile take the network, which costs minutes at the start; by default on a GPU.
        drop_bad: Leave out pictures that are missing, unreadable or of another size, instead of refusing the set.
        accept_changes: Go on with a run although settings differ from those it began with.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    chosen = runs.prepare_device(device, threads)
    with distributed.started(chosen):
        logging.getLogger("stagepose").setLevel(logging.INFO if distributed.first() else logging.ERROR)
        setting = runs.Setting(folder=crops or out.parent / "crops", val=val, init=init, seed=seed, device=chosen,
                               drop_bad=drop_bad, report=note if distributed.first() else lambda _: None)
        changes: dict[str, Any] = {"samples": samples, "minutes": minutes, "steps": steps, "batch": batch, "lr": lr,
                                   "accumulate": accumulate, "evaluate_every": evaluate_every, "seed": seed}
        sources = [runs.Source.parse(text) for text in data]
        if preset in DETECTOR_PRESETS:
            _refuse_useless(preset, {"--skeleton": skeleton, "--input-size": input_size, "--frozen": frozen})
            boxes = DETECTOR_PRESETS[preset]()
            config = runs.schedule(boxes.train, **changes)
            task: loop.Task = runs.detector_task(boxes, sources, setting)
        else:
            pose = _changed(pose_preset(preset), input_size, frozen)
            config = runs.schedule(pose.train, **changes)
            task = runs.pose_task(pose, sources, resolve(skeleton or "coco17"), setting)
        machine = runs.machine_for(chosen, workers, compile, resident=runs.is_resident(task))
        loop.train(task, config, out, machine, accept_changes=accept_changes)
        setting.report(f"trained; write the model file with: stagepose export {out} --out MODEL.onnx")


def _refuse_useless(preset: str, given: dict[str, object]) -> None:
    useless = [name for name, value in given.items() if value is not None]
    if useless:
        raise ConfigError(f"{', '.join(useless)} means nothing for the detector {preset}; leave it out")


def _changed(recipe: PoseRecipe, input_size: Size | None, frozen: int | None) -> PoseRecipe:
    """The recipe with another input size or another number of frozen blocks."""
    pose = recipe.pose
    if input_size is not None:
        if min(input_size) < 32 or input_size[0] % 32 or input_size[1] % 32:
            raise ConfigError(f"--input-size {input_size[0]} {input_size[1]}: both sides must be divisible by 32")
        pose = replace(pose, codec=replace(pose.codec, input_size=input_size))
    if frozen is not None:
        pose = replace(pose, frozen=frozen)
    return replace(recipe, pose=pose)


def export(
    run: Positional[Path],
    *,
    out: Path,
    name: str | None = None,
    licence: str = "",
    training_data: list[str] | None = None,
    metrics: Path | None = None,
    step: int | None = None,
    half: bool = True,
    pictures: Path | None = None,
) -> None:
    """Write a trained run as one self-describing ONNX file and compare it with the trained network.

    Args:
        run: Run folder of stagepose train.
        out: The .onnx file.
        name: The model's name; the file's by default.
        licence: What the model's users may do, for its description.
        training_data: Names of the sets it was trained on, for its description.
        metrics: JSON file of measured numbers, for its description.
        step: A certain step's weights; the best by validation, else the newest, by default.
        half: Store weights in 16 bits: half the size.
        pictures: Folder of pictures with people that a detector's file is compared on; drawn ones by default.
    """
    shown = find_images([pictures])[:MOST_PICTURES] if pictures else []
    made = runs.export_run(run, out, name=name or out.stem, licence=licence, training_data=tuple(training_data or ()),
                           metrics=metrics, step=step, half=half, pictures=shown)
    say(f"{out}: {made}")
