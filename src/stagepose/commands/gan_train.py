"""``stagepose gan train``: a network that repairs photos of people whose limbs were moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from tyro.conf import arg

from stagepose.commands.arguments import OptionalName, Preset
from stagepose.commands.training_options import RunOptions
from stagepose.training import loop
from stagepose.training.gan.build import repair_task
from stagepose.training.gan.presets import repair_preset
from stagepose.training.runfolder import require_folder


def train(preset: Preset, *, options: Annotated[RunOptions, arg(name="")], teacher: OptionalName = None) -> None:
    """Train the network that repairs people, or go on with the run that OUT holds.

    Every photo is its own exercise: limbs are cut out, displaced and erased, and the network paints the photo again.
    OUT/pictures shows from time to time, as --evaluate-every says, what it does to people it never learnt from. Stop it
    with Ctrl-C or SIGTERM: it saves, and the same command goes on from there, exactly.

    Args:
        preset: repair-128 (128x96 pixels), repair-256 (256x192), or repair-small (96x72, for CPUs).
        options: What every training is told.
        teacher: Trained pose network for a pose loss on the painted people: a run folder, an .onnx file or a shipped
            name. A model file given here cannot be the --judge of what is made later.
    """
    recipe, out = repair_preset(preset), options.out
    require_folder(out)
    if not options.mirror:
        augment = replace(recipe.repair.augment, flip_chance=0.0)
        recipe = replace(recipe, repair=replace(recipe.repair, augment=augment))
    recipe = replace(recipe, train=options.scheduled(recipe.train))
    with options.started(options.crops or out.parent / "crops", drop_bad=options.drop_bad) as context:
        task = repair_task(recipe, options.sources(), options.keypoints(), context, teacher=teacher, run=out)
        loop.train(task, recipe.train, out, context.machine(resident=task.resident),
                   accept_changes=options.accept_changes)
        context.report(f"trained; look at {out / 'pictures'}, then make people with: stagepose gan extend DATA.json "
                       f"--by gan --with {out} -n N --out DIR")
