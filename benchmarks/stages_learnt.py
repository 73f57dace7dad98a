"""Stage by stage after a stage that has learnt: ``python benchmarks/stages_learnt.py TRAIN VAL --lsp LSP --work DIR``

The arms of stages.py, but stage 1 begins with the weights that ship and judges its own training people by the report's
own threshold. Nobody can be held out of what the shipped weights have seen, so the arms are
judged on the validation set and on the hard poses of LSP-extended's. ``--report`` writes stages_learnt.md.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from research import Column, Judged, arguments, arms_and_differences, heading, judge, only, packed, write_report
from stages import EASED, RESIDUAL, TRAIN, Laboratory, Setup, hard_list, on_hard_list

from stagepose.coco import CocoDataset, read_dataset
from stagepose.heatmaps import UdpOks
from stagepose.training.augment import AugmentConfig
from stagepose.training.crops import CropStore
from stagepose.training.inputs import RunContext
from stagepose.training.loop import TrainConfig
from stagepose.training.people import Chosen, PeopleSets
from stagepose.training.posebuild import PoseInputs, pose_task
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import PoseRecipe
from stagepose.training.stages import StagedTraining, StagesConfig
from stagepose.training.table import Table

SEEDS = (1, 2, 3)
HARD_SEEDS, HARD_SAMPLES = (101,), 30_000  # of the small network that says whom it finds hard
FIRST, LATER = 50_000, 12_000  # samples: stage 1 gets used to the smaller pictures; what comes after it
SAME_COST = 8_820  # samples of stage 1 alone that cost what LATER of a new stage behind it cost, as in stages.py
THRESHOLD = 0.8  # the report's
PADDING = 1.15  # pose-small's
SETUP = Setup(
    pose=PoseConfig(network="2xlite0-u", codec=UdpOks(input_size=(96, 128)), box_padding=PADDING, frozen=5,
                    augment=AugmentConfig(shift=0.08), join=RESIDUAL),
    train=TrainConfig(batch=32, samples=FIRST, warmup=1_600, lr=1e-3, slower=EASED, ema_decay=0.998, log_every=100,
                      save_minutes=2),
    stages=StagesConfig(thresholds=(THRESHOLD,), folds=0, samples=(LATER,), recalibrate=2048), same_cost=SAME_COST)
ARMS = {
    "S": "stage 1 alone, as it was", "A2": "stage 1 trained on, as much computation", "C": "stage 2 on everybody",
    "D": "stage 2 on as many people at random", "E": "stage 2 on people below 0.8 (the report)",
    "E25": "E with a quarter easy people", "G": "stage 2 on everybody, each counting 1 - OKS",
    "E old norms": "E, batch norms as the hard people left them",
    "E mean": "E, the mean of both stages' heatmaps", "E router": "E, stage 2 only for whom stage 1 seems to miss",
}
PAIRS = (("D", "E"), ("S", "E"), ("A2", "E"), ("C", "E"), ("C", "G"), ("E", "E25"), ("D", "E25"), ("S", "D"),
         ("A2", "D"), ("E old norms", "E"), ("E", "E mean"), ("E", "E router"), ("D", "E router"))
DESIGN = """\
The experiment of [stages.md](stages.md), asked of a network that has learnt: `2xlite0-u` at 128x96, whose stage 1
begins with the shipped `pose-small` and has {first:,} samples to get used to pictures of half the size, in which it
finds nearly nobody at first; its first 5 blocks stay. Stage 2 adds to its heatmaps and begins as the identity.
{people:,} people of COCO to learn from, most of whom pose-small has learnt from before; each is judged by the very
stage 1 that learnt it, and goes on where its OKS is below 0.8: the report's letter. Of them {gone:.0%} go on (their
mean OKS is {below:.2f}, the others' {above:.2f}). Then {later:,} samples for each arm and seed ({seeds} seeds); A2 gets
{cost:,}, which cost as much.
Judged on {val} people of the public validation subset, {hard} of them on a hard list that a small network of another
seed fixed beforehand, and on {lsp} people of LSP-extended's held-out part (parkour, gymnastics; 12 joints; areas
estimated, so that AP there compares with no other). Ground-truth boxes, no flip test.
**E - D is the report's claim**: hard people against as many at random."""


def first_stage(folder: Path, store: CropStore) -> None:
    """Stage 1 from the shipped weights, and the table of its own people."""
    pose = replace(SETUP.pose, stages=1)
    context = RunContext(crops=folder / "crops", init="pose-small", report=print)
    inputs = PoseInputs(PeopleSets([store]))
    weights = pose_task(PoseRecipe(pose=pose, train=SETUP.train), inputs, context).model.state_dict()
    run = StagedTraining(pose=SETUP.pose, train=SETUP.train, config=SETUP.stages, sets=PeopleSets([store]),
                         out=folder, first=weights)
    run.train_stage(1, None, Chosen.everybody([store]))
    run.table_after(1)


def judging_sets(told: Namespace) -> dict[str, tuple[CocoDataset, Path]]:
    return {name: (read_dataset(file), file.parent / "images") for name, file in (("val", told.val), ("lsp", told.lsp))}


def work(told: Namespace) -> None:
    folder, sets = told.work, judging_sets(told)
    store = packed(told.train, folder, SETUP.pose.codec)
    hard_list(folder, store, *sets["val"], seeds=HARD_SEEDS, train=replace(TRAIN, samples=HARD_SAMPLES))
    first_stage(folder / "first", store)
    labs = {seed: Laboratory(folder / f"seed{seed}", store, seed, SETUP) for seed in told.seeds}
    for arm in [arm for arm in labs[told.seeds[0]].arms() if arm in ARMS]:  # an arm of all seeds before the next
        for seed, lab in labs.items():
            for name, model in lab.models(arm, lab.arms()[arm]()).items():
                for where, (dataset, images) in sets.items():
                    judge(model, SETUP.pose.codec, dataset, images, folder / f"{where}-{seed}-{name}.json", PADDING)


def report(told: Namespace) -> None:
    """stages_learnt.md of the results that are there for all seeds."""
    folder, seeds, sets = told.work, told.seeds, judging_sets(told)
    val, lsp = sets["val"][0], sets["lsp"][0]
    arms = [arm for arm in ARMS if all((folder / f"lsp-{seed}-{arm}.json").is_file() for seed in seeds)]
    parts = {"validation": val, "of these the hard list": only(val, on_hard_list(val, folder, HARD_SEEDS)),
             "LSP-extended": lsp}
    judged = {name: {arm: Judged(dataset, [folder / f"{'lsp' if dataset is lsp else 'val'}-{seed}-{arm}.json"
                                           for seed in seeds]) for arm in arms} for name, dataset in parts.items()}
    lines = heading("Stage by stage, after a stage that has learnt", "stages_learnt.py", told)
    columns = [Column(f"{measure}, {name}", of_arm, measure != "AP") for name, of_arm in judged.items()
               for measure in ("AP", "mean OKS")]
    lines += [design(told, list(parts.values())), "",
              *arms_and_differences(columns, {arm: ARMS[arm] for arm in arms}, PAIRS,
                                    f"Mean of {len(seeds)} seeds (lowest to highest).")]
    write_report(Path(__file__).with_name("stages_learnt.md"), [*lines, ""])


def design(told: Namespace, parts: Sequence[CocoDataset]) -> str:
    table = Table.read(told.work / "first" / "stages" / "1.npz")
    gone = table.oks < THRESHOLD
    val, hard, lsp = (int(dataset.with_keypoints().sum()) for dataset in parts)
    return DESIGN.format(first=FIRST, later=LATER, cost=SAME_COST, seeds=len(told.seeds), people=len(gone),
                         gone=gone.mean(), below=table.oks[gone].mean(), above=table.oks[~gone].mean(), val=val,
                         hard=hard, lsp=lsp)


def main() -> None:
    told = arguments(__doc__, SEEDS)
    if told.lsp is None:
        raise SystemExit("error: give LSP-extended's held-out keypoint file with --lsp")
    if told.report:
        report(told)
    else:
        work(told)


if __name__ == "__main__":
    main()
