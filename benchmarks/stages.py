"""What is training stage by stage on harder poses worth? ``python benchmarks/stages.py TRAIN.json VAL.json --work DIR``

Trains every arm for every seed (resumable: what is finished in DIR is not done again) and, with ``--report``, writes
stages.md. A fixed fifteenth of the training pictures' people (about 1,000 of 7,000) is held out for this research; the
validation set is looked at only by the report. All arms of a seed share stage 1 and are shown as many samples after it.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from stagepose.coco import CocoDataset, read_dataset
from stagepose.coco.dataset import to_json
from stagepose.evaluation import evaluate_keypoints, predict_dataset
from stagepose.files import write_json
from stagepose.heatmaps import UdpDark
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import Predictor
from stagepose.skeleton import COCO_17
from stagepose.training import checkpoint, loop
from stagepose.training.crops import CropSpec, CropStore, open_or_pack
from stagepose.training.inference import NumpyHeatmaps, PoseInference, Reading
from stagepose.training.loop import TrainConfig
from stagepose.training.networks.zoo import build
from stagepose.training.pose import PoseConfig, PoseTask
from stagepose.training.stages import StagedTraining, StagesConfig
from stagepose.training.start import fresh
from stagepose.training.table import Table

SEEDS = (1, 2, 3)
HARD_SEEDS = (101, 102)  # single-stage networks that say who of the held-out people is hard; used for nothing else
HELD_OUT = 1_000  # people
HARD_SHARE = 0.4  # of each set's people go on to stage 2; of the held-out ones are on the hard list
FIRST, LATER = 60_000, 30_000  # samples shown to stage 1, and to whatever comes after it
SAME_COST = 40_000  # samples of one stage that cost as much as LATER of a second on a frozen first: 3 against 4 passes
CODEC = UdpDark(input_size=(64, 96))
POSE = PoseConfig(network="2xu-300m", codec=CODEC)
TRAIN = TrainConfig(batch=64, samples=FIRST, warmup=4_000, lr=2e-3, ema_decay=0.998, log_every=100, save_minutes=2)
EASED = (("network.stages.0.", 0.5), ("network.stem.", 0.5))  # of what has learnt already, where it goes on learning
STAGES = StagesConfig(shares=(HARD_SHARE,), samples=(LATER,))

log = logging.getLogger("stages")


class Laboratory:
    """One seed's arms, below ``folder``; ``store`` holds the people to learn from."""

    def __init__(self, folder: Path, store: CropStore, seed: int) -> None:
        self.folder, self.store, self.seed = folder, store, seed
        self.train = replace(TRAIN, seed=seed)

    def staged(self, name: str, config: StagesConfig, pose: PoseConfig = POSE) -> Path:
        """A stage-by-stage run; all but "E" take stage 1, its folds and its table from "E"."""
        out = self.folder / name
        if name != "E":
            for file in sorted((self.folder / "E" / "stages").glob("1*.*")):
                if config.folds or ("fold" not in file.name and file.suffix != ".npz"):
                    (out / "stages").mkdir(parents=True, exist_ok=True)
                    if not (out / "stages" / file.name).is_file():
                        shutil.copy(file, out / "stages" / file.name)
        return StagedTraining(pose=pose, train=self.train, config=config, stores=[self.store], weights=[1.0],
                              out=out).run()

    def plain(self, name: str, pose: PoseConfig, samples: int, *, lr: float, slower: tuple = ()) -> Path:
        """An ordinary run that begins with the shared stage 1."""
        out, done = self.folder / name, self.folder / f"{name}.safetensors"
        if not done.is_file():
            torch.manual_seed(self.seed)
            network = fresh(pose.network, len(COCO_17), pose.join, stages=pose.stages)
            task = PoseTask(network, pose, [self.store], [1.0], seed=self.seed)
            checkpoint.fill_matching(task.model, checkpoint.load_weights(self.first), name)
            model = loop.train(task, replace(self.train, samples=samples, lr=lr, slower=slower), out)
            done.write_bytes(checkpoint.packed(model.state_dict()))
        return done

    @property
    def first(self) -> Path:
        return self.folder / "E" / "stages" / "1.safetensors"

    def arms(self) -> dict[str, Callable[[], Path]]:
        one, two = replace(POSE, stages=1), replace(POSE, stages=2)
        return {
            "E": lambda: self.staged("E", STAGES),
            "D": lambda: self.staged("D", replace(STAGES, pick="random")),
            "A": lambda: self.plain("A", one, LATER, lr=1e-3),
            "A2": lambda: self.plain("A2", one, SAME_COST, lr=1e-3),
            "C": lambda: self.staged("C", replace(STAGES, pick="all")),
            "B": lambda: self.plain("B", two, LATER, lr=2e-3, slower=EASED),
            "F": lambda: self.plain("F", replace(two, gates=(self.gate(),)), LATER, lr=2e-3, slower=EASED),
            "G": lambda: self.staged("G", replace(STAGES, pick="all", by_difficulty=True)),
            "E25": lambda: self.staged("E25", replace(STAGES, easy_share=0.25)),
            "I": lambda: self.staged("I", replace(STAGES, folds=0)),
            "R": lambda: self.staged("R", STAGES, replace(POSE, join=replace(POSE.join, residual=True))),
        }

    def gate(self) -> float:
        """The OKS below which the hardest share of the training people is: what "E" gates by, as a threshold."""
        return float(np.quantile(Table.read(self.folder / "E" / "stages" / "1.npz").oks, HARD_SHARE))

    def models(self, arm: str, file: Path) -> dict[str, PoseInference]:
        """The finished networks of an arm; of "E" also without new batch-norm statistics and with other readings."""
        pose = replace(POSE, stages=1 if arm.startswith("A") or arm == "S" else 2)
        if arm == "R":
            pose = replace(pose, join=replace(POSE.join, residual=True))

        def model(source: Path, reading: Reading = "last", below: float = 0.0) -> PoseInference:
            network = build(pose.network, len(COCO_17), pose.join, stages=pose.stages)
            made = PoseInference(network, CODEC, POSE.loss, reading=reading, route_below=below)
            checkpoint.fill(made, checkpoint.load_weights(source), str(source))
            return made

        made = {arm: model(file)}
        if arm == "E":
            below = Table.read(file.with_name("1.npz")).score_at(self.gate())
            made |= {"E old norms": model(file.with_suffix("")), "E mean": model(file, "mean"),
                     "E router": model(file, "router", below)}
        return made


def parted(path: Path, folder: Path) -> tuple[Path, Path]:
    """The training file's pictures in two files: to learn from, and about HELD_OUT people for the research."""
    rest, held = folder / "learn" / "people.json", folder / "held" / "people.json"
    if not held.is_file():
        dataset = read_dataset(path)
        people = dataset.with_keypoints()
        order = np.random.default_rng(0).permutation([image.id for image in dataset.images])
        counts = np.cumsum([people[dataset.rows_by_image[int(i)]].sum() for i in order])
        chosen = set(order[: int(np.searchsorted(counts, HELD_OUT)) + 1].tolist())
        for file, inside in ((rest, False), (held, True)):
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "images").symlink_to((path.parent / "images").resolve())
            write_json(file, to_json(part(dataset, lambda i, inside=inside: (i in chosen) == inside)))
    return rest, held


def part(dataset: CocoDataset, keep: Callable[[int], bool]) -> CocoDataset:
    rows = np.array([keep(int(i)) for i in dataset.image_ids])
    columns = {name: getattr(dataset, name)[rows] for name in
               ("ids", "image_ids", "boxes_xyxy", "keypoints", "areas", "crowd", "num_keypoints")}
    return replace(dataset, images=tuple(i for i in dataset.images if keep(i.id)), **columns)


def judge(model: PoseInference, dataset: CocoDataset, images: Path, file: Path) -> None:
    """Write COCO results at ground-truth boxes, without flip test."""
    if file.is_file():
        return
    info = ModelInfo(kind="pose", name="research", input_size=CODEC.input_size, skeleton=COCO_17, codec=CODEC)
    results = predict_dataset(Predictor(info, NumpyHeatmaps(model), None), dataset, images, boxes="ground-truth")
    write_json(file, results)
    log.info("%s: AP %.4f", file.stem, evaluate_keypoints(dataset, results).ap)


def work(folder: Path, train: Path, val: Path, seeds: list[int]) -> None:
    rest, held = parted(train, folder)
    store = open_or_pack(rest, rest.parent / "images", folder / "crops", spec=CropSpec(input_size=CODEC.input_size),
                         skeleton=COCO_17)
    sets = {"held": (read_dataset(held), held.parent / "images"), "val": (read_dataset(val), val.parent / "images")}
    for seed in HARD_SEEDS if 0 in seeds else ():  # "seed 0": who is hard
        lab = Laboratory(folder / f"hard{seed}", store, seed)
        task = PoseTask(fresh("2xu-300m", len(COCO_17), POSE.join, stages=1), replace(POSE, stages=1), [store], [1.0],
                        seed=seed)
        model = loop.train(task, lab.train, lab.folder)
        judge(model, *sets["held"], folder / f"held-hard{seed}.json")
    for seed in seeds:
        lab = Laboratory(folder / f"seed{seed}", store, seed)
        for arm, make in lab.arms().items() if seed else ():
            done = make()
            models = lab.models(arm, done)
            if arm == "E":
                models |= lab.models("S", lab.first)  # stage 1 itself
            for name, model in models.items():
                for where, (dataset, images) in sets.items():
                    judge(model, dataset, images, folder / f"{where}-{seed}-{name}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="COCO keypoint file, pictures in images/ beside it")
    parser.add_argument("val", type=Path, help="the same to judge by at the end")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results; resumed where they are")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, *SEEDS], help="0 makes the hard list")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    write_json(arguments.work / "config.json", json.loads(json.dumps(
        {"train": asdict(TRAIN), "first": FIRST, "later": LATER, "stages": asdict(STAGES)})))
    work(arguments.work, arguments.train, arguments.val, arguments.seeds)


if __name__ == "__main__":
    main()
