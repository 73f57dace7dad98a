"""``stagepose gan train``: a network that repairs photos of people whose limbs were moved."""

from __future__ import annotations

from dataclasses import replace

from stagepose.coco import resolve_skeleton
from stagepose.commands.arguments import (
    Folder,
    OptionalCount,
    OptionalFolder,
    OptionalName,
    OptionalNumber,
    OptionalSwitch,
    Preset,
    Sets,
)
from stagepose.commands.trainings import started
from stagepose.training import loop, runs
from stagepose.training.gan.build import repair_task
from stagepose.training.gan.presets import repair_preset
from stagepose.training.runfolder import require_folder


def train(
    preset: Preset,
    *,
    data: Sets,
    out: Folder,
    crops: OptionalFolder = None,
    teacher: OptionalName = None,
    skeleton: OptionalName = None,
    samples: OptionalCount = None,
    minutes: OptionalNumber = None,
    steps: OptionalCount = None,
    batch: OptionalCount = None,
    lr: OptionalNumber = None,
    evaluate_every: OptionalCount = None,
    seed: int = 0,
    device: str = "auto",
    threads: OptionalCount = None,
    accumulate: OptionalCount = None,
    workers: OptionalCount = None,
    compile: OptionalSwitch = None,
    mirror: bool = True,
    drop_bad: bool = False,
    accept_changes: bool = False,
) -> None:
    """Train the network that repairs people, or go on with the run that OUT holds.

    Every photo is its own exercise: limbs are cut out, displaced and erased, and the network paints the photo again.
    OUT/pictures shows from time to time what it does to people it never learnt from. Stop it with Ctrl-C or SIGTERM: it
    saves, and the same command goes on from there, exactly.

    Args:
        preset: repair-128 (128x96 pixels), repair-256 (256x192), or repair-small (96x72, for CPUs).
        data: COCO annotation files, each FILE.json or FILE.json:WEIGHT, with images/ beside them.
        out: Run folder: checkpoints, log.jsonl, config.json, pictures.
        crops: Folder for packed crops, shared between runs; OUT's parent / crops by default.
        teacher: A trained pose network that must find the painted people: a run folder, an .onnx file or a shipped
            name. A model file cannot judge what is made then.
        skeleton: Keypoints: a published skeleton's name, a skeleton file or an annotation file; coco17 by default.
        samples: Photos to show, instead of the preset's.
        minutes: Train about so long instead; turned into samples once, at the start.
        steps: Only so many steps: a rehearsal.
        batch: Photos in one step.
        lr: Peak learning rate.
        evaluate_every: Steps between sample pictures; 0 only at the end.
        seed: Of the sample order and of all damage.
        device: cpu, cuda, or auto.
        threads: CPU threads; all cores by default.
        accumulate: Show a step's photos in so many parts.
        workers: Processes that read data ahead.
        compile: Let torch.compile take the generator; by default on a GPU.
        mirror: Show people mirrored too.
        drop_bad: Leave out pictures that are missing, unreadable or of another size, instead of refusing the set.
        accept_changes: Go on with a run although settings differ from those it began with.
    """
    recipe = repair_preset(preset)
    require_folder(out)
    if not mirror:
        augment = replace(recipe.repair.augment, flip_chance=0.0)
        recipe = replace(recipe, repair=replace(recipe.repair, augment=augment))
    config = runs.schedule(recipe.train, samples=samples, minutes=minutes, steps=steps, batch=batch, lr=lr,
                           accumulate=accumulate, evaluate_every=evaluate_every, seed=seed)
    device = runs.prepare_device(device, threads)
    with started(device) as report:
        task = repair_task(recipe, [runs.Source.parse(text) for text in data], resolve_skeleton(skeleton or "coco17"),
                           folder=crops or out.parent / "crops", seed=seed, device=device, teacher=teacher,
                           drop_bad=drop_bad, report=report, run=out)
        machine = runs.machine_for(device, workers, compile, resident=task.resident)
        loop.train(task, config, out, machine, accept_changes=accept_changes)
        report(f"trained; look at {out / 'pictures'}, then make people with: stagepose gan extend DATA.json --by gan "
               f"--with {out} -n N --out DIR")
