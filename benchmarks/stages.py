"""What is training stage by stage on harder poses worth? ``python benchmarks/stages.py TRAIN.json VAL.json --work DIR``

Trains every arm for every seed (resumable: what is finished in DIR is not done again) and, with ``--report``, writes
stages.md. About 1,000 of the training file's people are held out for this research, by picture; the validation set is
looked at only by the report. All arms begin with the same stage 1, of which there is one, and its two folds; a seed
decides the weights, the order and the augmentation of whatever comes after it.
"""

from __future__ import annotations

import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from research import (
    Column,
    Judged,
    arguments,
    arms_and_differences,
    heading,
    judge,
    laboratory_sets,
    only,
    parted,
    write_report,
)

from stagepose.coco import CocoDataset, read_dataset
from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17
from stagepose.training import checkpoint, loop
from stagepose.training.crops import CropStore
from stagepose.training.inference import PoseInference, Reading
from stagepose.training.loop import TrainConfig
from stagepose.training.networks.zoo import StageOptions, build
from stagepose.training.people import Chosen, PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.stages import StagedTraining, StagesConfig
from stagepose.training.start import fresh
from stagepose.training.table import Table

SEEDS = (1, 2, 3)
HARD_SEEDS = (101, 102)  # u-300m networks that say who of the held-out people is hard; used for nothing else
HARD_SHARE = 0.4  # of the people go on to stage 2; of the held-out ones are on the hard list
FIRST, LATER = 60_000, 20_000  # samples shown to stage 1, and to whatever comes after it
SAME_COST = 14_700  # samples of stage 1 alone that cost what LATER of a new stage behind it cost
CODEC = UdpDark(input_size=(64, 96))
RESIDUAL = StageOptions(residual=True)  # a stage from a Gaussian needs far more samples than these to catch up
POSE = PoseConfig(network="2xlite0-u", codec=CODEC, imagenet=True, frozen=5, join=RESIDUAL)
TRAIN = TrainConfig(batch=64, samples=FIRST, warmup=4_000, lr=2e-3, ema_decay=0.998, log_every=100, save_minutes=2)
EASED = (("network.stages.0.", 0.5),)  # of what has learnt already, where it goes on learning beside a new stage
STAGES = StagesConfig(shares=(HARD_SHARE,), samples=(LATER,))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What an experiment's arms have in common; ``same_cost`` samples of stage 1 alone cost what a new stage's do."""

    pose: PoseConfig
    train: TrainConfig
    stages: StagesConfig
    same_cost: int

    @property
    def later(self) -> int:
        """Samples that every arm learns from."""
        return self.stages.samples[0]


SETUP = Setup(pose=POSE, train=TRAIN, stages=STAGES, same_cost=SAME_COST)
ARMS = {
    "S": "stage 1 alone, as it was", "A": "stage 1 trained on, as many samples",
    "A2": "stage 1 trained on, as much computation", "B": "both stages together on everybody",
    "C": "stage 2 on everybody", "D": "stage 2 on as many people at random", "E": "stage 2 on the hardest people",
    "F": "both stages together, stage 2 gated on each sample", "G": "stage 2 on everybody, each counting 1 - OKS",
    "E25": "E with a quarter easy people", "I": "E, people judged by what learnt them (the report's letter)",
    "L": "E, stage 2 from a Gaussian (the report's letter)",
    "E old norms": "E, batch norms as the hard people left them",
    "E mean": "E, the mean of both stages' heatmaps", "E router": "E, stage 2 only for whom stage 1 seems to miss",
}
PAIRS = (("D", "E"), ("S", "E"), ("A", "E"), ("A2", "E"), ("C", "E"), ("B", "E"), ("B", "F"), ("C", "G"), ("E", "E25"),
         ("D", "E25"), ("I", "E"), ("L", "E"), ("E old norms", "E"), ("E", "E mean"), ("E", "E router"),
         ("D", "E router"))
DESIGN = """\
A small copy of the report's experiment: `2xlite0-u` at 96x64 (stage 1 of 94 MMACs on an ImageNet trunk whose first 5
blocks stay, stage 2 of 37 that adds to its heatmaps), KL loss, AdamW. Learnt from about 6,000 people; {people[0]}
others, held out by picture, {people[1]} of them on a hard list that two other networks of other seeds fixed beforehand,
{people[2]} with genuine segment areas (the others' are estimated from their boxes); {people[3]} people of the public
validation subset. One stage 1 of {first:,} samples for all arms, then {later:,} more for each arm and seed ({seeds}
seeds); A2 gets {cost:,}, which cost as much as {later:,} of a new stage behind a frozen one (what the two fold networks
cost, {first:,} samples together, is not counted). "Hardest" is the lowest 40 % of OKS, judged out of fold, since so
small a network leaves most people under the report's 0.8; F gates at the OKS that 40 % of the people are below.
**E - D is the report's claim**: hard people against as many at random."""


class Laboratory:
    """One seed's arms, below ``folder``; ``store`` holds the people to learn from."""

    def __init__(self, folder: Path, store: CropStore, seed: int, setup: Setup = SETUP) -> None:
        self.folder, self.store, self.seed, self.setup = folder, store, seed, setup
        self.train = replace(setup.train, seed=seed)

    def staged(self, name: str, config: StagesConfig, pose: PoseConfig | None = None) -> Path:
        """A stage-by-stage run that finds stage 1, its folds and its table there already."""
        pose = pose or self.setup.pose
        out = self.folder / name
        for file in sorted(self.first.parent.glob("1*.*")):
            same = config.folds == self.setup.stages.folds  # else another table, and no folds
            if same or ("fold" not in file.name and file.suffix != ".npz"):
                (out / "stages").mkdir(parents=True, exist_ok=True)
                if not (out / "stages" / file.name).is_file():
                    shutil.copy(file, out / "stages" / file.name)
        return StagedTraining(pose=pose, train=self.train, config=config, sets=PeopleSets([self.store]),
                              out=out).run()

    def plain(self, name: str, pose: PoseConfig, samples: int, *, lr: float,
              slower: tuple[tuple[str, float], ...] = ()) -> Path:
        """An ordinary run that begins with the shared stage 1."""
        out, done = self.folder / name, self.folder / f"{name}.safetensors"
        if not done.is_file():
            torch.manual_seed(self.seed)
            network = fresh(pose.network, len(COCO_17), pose.join, stages=pose.stages)
            task = PoseTask(network, pose, PeopleSets([self.store]), seed=self.seed)
            checkpoint.fill_matching(task.model, checkpoint.load_weights(self.first), name)
            model = loop.train(task, replace(self.train, samples=samples, lr=lr, slower=slower), out)
            done.write_bytes(checkpoint.packed(model.state_dict()))
        return done

    @property
    def first(self) -> Path:
        return self.folder.parent / "first" / "stages" / "1.safetensors"

    def arms(self) -> dict[str, Callable[[], Path]]:
        setup, stages = self.setup, self.setup.stages
        one, two = replace(setup.pose, stages=1), replace(setup.pose, stages=2)
        return {
            "S": lambda: self.first,
            "E": lambda: self.staged("E", stages),
            "D": lambda: self.staged("D", replace(stages, pick="random")),
            "C": lambda: self.staged("C", replace(stages, pick="all")),
            "A": lambda: self.plain("A", one, setup.later, lr=setup.train.lr / 2),
            "E old norms": lambda: self.staged("E", stages),
            "B": lambda: self.plain("B", two, setup.later, lr=setup.train.lr, slower=EASED),
            "F": lambda: self.plain("F", replace(two, gates=(self.gate(),)), setup.later, lr=setup.train.lr,
                                    slower=EASED),
            "G": lambda: self.staged("G", replace(stages, pick="all", by_difficulty=True)),
            "E25": lambda: self.staged("E25", replace(stages, easy_share=0.25)),
            "A2": lambda: self.plain("A2", one, setup.same_cost, lr=setup.train.lr / 2),
            "I": lambda: self.staged("I", replace(stages, folds=0)),
            "L": lambda: self.staged("L", stages, replace(setup.pose, join=StageOptions())),
        }

    def gate(self) -> float:
        """The OKS below which the hardest share of the training people is: what "E" gates by, as a threshold."""
        if not self.setup.stages.shares:
            return self.setup.stages.thresholds[0]
        return float(np.quantile(Table.read(self.first.with_name("1.npz")).oks, HARD_SHARE))

    def models(self, arm: str, file: Path) -> dict[str, PoseInference]:
        """The finished network of an arm; of "E" at last also with old batch-norm statistics and other readings."""
        pose = replace(self.setup.pose, stages=1 if arm in ("S", "A", "A2") else 2)
        if arm == "L":
            pose = replace(pose, join=StageOptions())

        def model(source: Path, reading: Reading = "last", below: float = 0.0) -> PoseInference:
            network = build(pose.network, len(COCO_17), pose.join, stages=pose.stages)
            made = PoseInference(network, pose.codec, pose.loss, reading=reading, route_below=below)
            checkpoint.fill(made, checkpoint.load_weights(source), str(source))
            return made

        if arm != "E old norms":
            return {arm: model(file)}
        below = Table.read(file.with_name("1.npz")).score_at(self.gate())
        return {"E old norms": model(file.with_suffix("")), "E mean": model(file, "mean"),
                "E router": model(file, "router", below)}


def first_stage(folder: Path, store: CropStore) -> None:
    """Stage 1, the networks that judge its people, and their table: a stage-by-stage run that ends before stage 2."""
    run = StagedTraining(pose=POSE, train=TRAIN, config=STAGES, sets=PeopleSets([store]), out=folder)
    everybody = Chosen.everybody([store])
    for fold in (None, 0, 1):
        run.train_stage(1, fold, everybody)
    run.table_after(1)


def hard_list(folder: Path, store: CropStore, dataset: CocoDataset, images: Path, *,
              seeds: tuple[int, ...] = HARD_SEEDS, train: TrainConfig = TRAIN) -> None:
    """What small networks of other seeds find of the people who are judged by."""
    for seed in seeds:
        file = folder / f"held-hard{seed}.json"
        if not file.is_file():
            torch.manual_seed(seed)
            task = PoseTask(fresh("u-300m", len(COCO_17), StageOptions()), PoseConfig(network="u-300m", codec=CODEC),
                            PeopleSets([store]), seed=seed)
            model = loop.train(task, replace(train, seed=seed), folder / f"hard{seed}")
            assert isinstance(model, PoseInference)
            judge(model, CODEC, dataset, images, file)


def work(folder: Path, train: Path, val: Path, seeds: list[int]) -> None:
    store, sets = laboratory_sets(folder, train, val, CODEC)
    hard_list(folder, store, *sets["held"])
    first_stage(folder / "first", store)
    labs = {seed: Laboratory(folder / f"seed{seed}", store, seed) for seed in seeds}
    for arm in labs[seeds[0]].arms():  # an arm of all seeds before the next: the report takes what is whole
        for seed, lab in labs.items():
            done = lab.arms()[arm]()
            for name, model in lab.models(arm, done).items():
                for where, (dataset, images) in sets.items():
                    judge(model, CODEC, dataset, images, folder / f"{where}-{seed}-{name}.json")


def report(told: Namespace) -> None:
    """stages.md of the results that are there for all seeds."""
    folder, seeds = told.work, told.seeds
    _, held_file = parted(told.train, folder)
    held, val = read_dataset(held_file), read_dataset(told.val)
    arms = [arm for arm in ARMS if all((folder / f"val-{seed}-{arm}.json").is_file() for seed in seeds)]
    sources = {a["id"]: a.get("area_source") for a in held.raw["annotations"]}
    genuine = np.array([sources[i] != "estimated" for i in held.ids.tolist()])
    sets = {"held-out people": held, "of these the hard list": only(held, on_hard_list(held, folder)),
            "of these with genuine areas": only(held, genuine), "validation": val}
    judged = {name: {arm: Judged(dataset, [folder / f"{'val' if dataset is val else 'held'}-{seed}-{arm}.json"
                                           for seed in seeds]) for arm in arms} for name, dataset in sets.items()}
    lines = heading("What training stage by stage is worth", "stages.py", told)
    lines += [DESIGN.format(seeds=len(seeds), first=FIRST, later=LATER, cost=SAME_COST,
                            people=[int(d.with_keypoints().sum()) for d in sets.values()]), ""]
    held_out, hard, *_ = judged.values()
    columns = [*(Column(f"AP, {name}", of_arm) for name, of_arm in judged.items()),
               Column("mean OKS, held-out", held_out, of_oks=True), Column("mean OKS, hard list", hard, of_oks=True)]
    lines += arms_and_differences(columns, {arm: ARMS[arm] for arm in arms}, PAIRS,
                                  "Mean of the seeds (lowest to highest). Ground-truth boxes, no flip test.")
    write_report(Path(__file__).with_name("stages.md"), [*lines, ""])


def on_hard_list(held: CocoDataset, folder: Path, seeds: tuple[int, ...] = HARD_SEEDS) -> NDArray[np.bool_]:
    """(N,) the people of lowest OKS by networks of other seeds, fixed before any arm was judged."""
    judged = Judged(held, [folder / f"held-hard{seed}.json" for seed in seeds])
    truth, mean = judged.seeds[0].truth, judged.oks().mean(0)
    rows = truth.rows[~truth.ignored]
    kept = np.zeros(len(held), dtype=bool)
    kept[rows[np.argsort(mean, kind="stable")[: round(HARD_SHARE * len(rows))]]] = True
    return kept


def main() -> None:
    told = arguments(__doc__, SEEDS)
    if told.report:
        report(told)
    else:
        work(told.work, told.train, told.val, told.seeds)


if __name__ == "__main__":
    main()
