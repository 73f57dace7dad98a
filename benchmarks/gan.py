"""What are made people worth? ``python benchmarks/gan.py TRAIN.json VAL.json --work DIR [--made GAN_SET.json]``

Trains every arm for every seed (resumable: what is finished in DIR is not done again) and, with ``--report``, writes
gan.md. About 1,000 of the training file's people are held out, by picture; about 3,000 of the others are learnt from,
and all made people are made of these alone. The held-out people are judged as they are, turned, and covered in part;
the validation set last of all. ``--split`` only writes DIR/learn-3000/people.json, to make people of with
``stagepose gan train`` and ``gan extend``; without ``--made`` the arm of those is left out.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median

import torch
from copies import COPIES, TURNED, copies
from research import (
    Judged,
    Sets,
    arguments,
    difference,
    drawn_pictures,
    heading,
    judge,
    oks_difference,
    only,
    packed,
    part,
    parted,
    spread,
    write_report,
)
from stages import hard_list, on_hard_list

from stagepose.coco import CocoDataset, overlap_problems, read_dataset
from stagepose.coco.dataset import to_json
from stagepose.coco.samepicture import image_key
from stagepose.files import write_json
from stagepose.heatmaps import UdpDark
from stagepose.skeleton import COCO_17
from stagepose.training import checkpoint, loop
from stagepose.training.crops import CropStore
from stagepose.training.inference import PoseInference
from stagepose.training.loop import TrainConfig
from stagepose.training.networks.zoo import build
from stagepose.training.people import PeopleSets
from stagepose.training.pose import PoseTask
from stagepose.training.poseconfig import PoseConfig
from stagepose.training.presets import pose_small
from stagepose.training.start import fresh

SEEDS = (1, 2, 3)
LEARNT = 3_000  # people
SAMPLES = 20_000  # that every arm learns from
SHARE = 1 / 3  # of made people among those shown
LOOKS = 4
PASTED = 1_500  # pictures, of about two new people each
CODEC = UdpDark(input_size=(64, 96))
POSE = PoseConfig(network="lite0-u", codec=CODEC, imagenet=True, frozen=3)
TRAIN = TrainConfig(batch=64, samples=SAMPLES, warmup=2_000, lr=2e-3, slower=pose_small().train.slower, log_every=20,
                    save_minutes=2)
ARMS = {"real": "real people alone", "pasted": "a third pasted people", "hardest": f"the hardest of {LOOKS} looks",
        "made": "a third people made by the GAN", "longer": "real people alone, as long as the hardest looks take"}
LONGER = 2.2  # times the samples of a plain training that cost what the hardest of LOOKS looks do
DESIGN = """\
`lite0-u`, pose-small's network, at 96x64 from its ImageNet trunk: {samples:,} samples each arm and seed
({seeds} seeds), batch {batch}, all else the preset's. {learnt:,} real people to learn from; {pasted}{made}
{held:,} others are held out by picture, {hard:,} of them on a hard list that two other networks of other seeds fixed
beforehand; copies of the held-out people turned by {low:.0f} to {high:.0f} degrees either way, and covered in three
places by patches of pictures without people (covered keypoints still count); {val} people of the public validation
subset.
The hardest of {looks} looks learns from as many samples, but sees {looks} times as many: the last column says what that
costs, and the arm "longer" gives a plain training {longer:g} times the samples."""

log = logging.getLogger("gan")


# --- the people


def learning_people(train: Path, folder: Path) -> Path:
    """About LEARNT of the people who are not held out, by whole pictures."""
    rest, _ = parted(train, folder)
    file = folder / f"learn-{LEARNT}" / "people.json"
    if not file.is_file():
        dataset = read_dataset(rest)
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "images").symlink_to((train.parent / "images").resolve())
        if (train.parent / "negatives").is_dir():
            (file.parent / "negatives").symlink_to((train.parent / "negatives").resolve())
        write_json(file, to_json(part(dataset, drawn_pictures(dataset, LEARNT, seed=1).__contains__)))
    return file


def pasted_people(learn: Path, folder: Path, pictures: int) -> Path:
    """Made by the command that users have."""
    out = folder / f"pasted-{pictures}"
    words = ["gan", "extend", learn, "-n", pictures, "--out", out, "--by", "paste", "--jobs", 1]
    subprocess.run([sys.executable, "-m", "stagepose.cli", *map(str, words)], check=True)
    return out / "person_keypoints.json"


def of_learning_people(made: Path, learn: Path, folder: Path) -> Path:
    """The pictures of a made set that are made of people to learn from alone; others would give away the judge's."""
    file = folder / f"made-{hashlib.sha256(made.read_bytes()).hexdigest()[:8]}" / "people.json"
    if not file.is_file():
        dataset = read_dataset(made)
        known = {image_key(image.file_name) for image in read_dataset(learn).images}
        sources = {row["id"]: row.get("sources", []) for row in dataset.raw["images"]}
        own = {i for i, names in sources.items() if names and all(
            image_key(source["file_name"]) in known for source in names)}
        log.info("%s: %d of %d pictures are made of people to learn from", made, len(own), len(sources))
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "images").symlink_to((made.parent / "images").resolve())
        write_json(file, to_json(part(dataset, own.__contains__)))
    return file


# --- the arms


@dataclass
class Laboratory:
    """All arms of all seeds below ``folder``."""

    folder: Path
    train: Path
    val: Path
    samples: int
    pictures: int  # to paste
    made: Path | None

    @cached_property
    def learn(self) -> Path:
        return learning_people(self.train, self.folder)

    @cached_property
    def stores(self) -> dict[str, CropStore]:
        """Of the real and of the made people."""
        files = {"real": self.learn, "pasted": pasted_people(self.learn, self.folder, self.pictures)}
        if self.made is not None:
            files["made"] = of_learning_people(self.made, self.learn, self.folder)
        _, held = parted(self.train, self.folder)
        for file in files.values():
            for other in (held, self.val):
                shared = [p for p in overlap_problems(read_dataset(file), read_dataset(other)) if p.severity == "error"]
                assert not shared, f"{file}: {shared[0]}"
        return {name: packed(file, self.folder, CODEC) for name, file in files.items()}

    @cached_property
    def sets(self) -> Sets:
        """Who is judged, the validation set last."""
        _, held = parted(self.train, self.folder)
        negatives = self.train.parent / "negatives"
        return {"held": (read_dataset(held), held.parent / "images"),
                **{kind: copies(held, negatives, self.folder, kind) for kind in COPIES},
                "val": (read_dataset(self.val), self.val.parent / "images")}

    def arms(self) -> dict[str, Callable[[int], PoseInference]]:
        """Every arm's training, by seed."""
        arms = {"real": lambda seed: self.trained("real", seed),
                "pasted": lambda seed: self.trained("pasted", seed, extra="pasted"),
                "hardest": lambda seed: self.trained("hardest", seed, pose=replace(POSE, hardest_of=LOOKS))}
        if self.made is not None:
            arms["made"] = lambda seed: self.trained("made", seed, extra="made")
        return arms | {"longer": lambda seed: self.trained("longer", seed, times=LONGER)}

    def trained(self, name: str, seed: int, *, extra: str | None = None, pose: PoseConfig = POSE,
                times: float = 1.0) -> PoseInference:
        """A finished run's average; SHARE of the samples are ``extra`` people."""
        torch.manual_seed(seed)
        stores, weights = [self.stores["real"]], [1.0]
        if extra is not None:
            stores.append(self.stores[extra])
            weights.append(SHARE / (1 - SHARE) * len(stores[0]) / len(stores[1]))
        network = fresh(pose.network, len(COCO_17), pose.join, imagenet=True)
        task = PoseTask(network, pose, PeopleSets(stores, weights, [False, True][: len(stores)]), seed=seed)
        out, done = self.run_of(name, seed), self.run_of(name, seed).with_suffix(".safetensors")
        if not done.is_file():
            model = loop.train(task, replace(TRAIN, samples=round(times * self.samples), seed=seed), out)
            done.write_bytes(checkpoint.packed(model.state_dict()))
        model = PoseInference(build(pose.network, len(COCO_17), pose.join), CODEC, pose.loss)
        checkpoint.fill(model, checkpoint.load_weights(done), str(done))
        return model.eval()

    def run_of(self, name: str, seed: int) -> Path:
        return self.folder / f"seed{seed}" / name

    def work(self, seeds: list[int], chosen: list[str]) -> None:
        """Every arm of all seeds before the next, so that the report takes what is whole; validation after all."""
        hard_list(self.folder, self.stores["real"], *self.sets["held"],
                  train=replace(TRAIN, samples=3 * self.samples, slower=()))
        arms = {name: train for name, train in self.arms().items() if name in chosen}
        for kinds in (["held", *COPIES], ["val"]):
            for name, train in arms.items():
                for seed in seeds:
                    files = {kind: self.folder / f"{kind}-{seed}-{name}.json" for kind in kinds}
                    if not all(file.is_file() for file in files.values()):
                        model = train(seed)
                        for kind, file in files.items():
                            judge(model, CODEC, *self.sets[kind], file)

    def rate(self, name: str, seeds: list[int]) -> float:
        """Samples a second: the median of the logs' lines."""
        lines = [json.loads(line) for seed in seeds for line in
                 (self.run_of(name, seed) / "log.jsonl").read_text().splitlines()]
        return median(line["samples_per_second"] for line in lines if "samples_per_second" in line)


# --- the report


def report(lab: Laboratory, told: Namespace) -> None:
    """gan.md of the results that are there for all seeds."""
    seeds, folder = told.seeds, lab.folder
    arms = [arm for arm in ARMS if all((folder / f"val-{seed}-{arm}.json").is_file() for seed in seeds)]
    held = lab.sets["held"][0]
    sets = {"held": held, "hard list": only(held, on_hard_list(held, folder)),
            **{kind: lab.sets[kind][0] for kind in COPIES}, "val": lab.sets["val"][0]}
    judged = {name: {arm: Judged(dataset, [
        folder / f"{'held' if name == 'hard list' else name}-{seed}-{arm}.json" for seed in seeds]) for arm in arms}
        for name, dataset in sets.items()}
    lines = [*heading("What made people are worth", "gan.py", told), _design(lab, told, sets), ""]
    names = [{"held": "held-out", "val": "validation"}.get(name, name) for name in sets]
    for title, measure in (("AP", lambda one: spread(one.aps())),
                           ("Mean OKS", lambda one: spread(one.oks().mean(1).tolist()))):
        lines += [f"## {title}", "", f"| arm | | {' | '.join(names)} | samples a second |",
                  "|---" * (len(names) + 3) + "|"]
        for arm in arms:
            cells = [measure(judged[name][arm]) for name in sets]
            lines.append(f"| {arm} | {ARMS[arm]} | {' | '.join(cells)} | {lab.rate(arm, seeds):.0f} |")
        lines.append("")
    lines += ["Mean of the seeds (lowest to highest). Ground-truth boxes, no flip test.", "",
              "## Against real people alone", "", "Mean of the seeds with the 95 % interval of a paired bootstrap over "
              "pictures, 1,000 draws; the seeds' own spread is in the tables above.", ""]
    lines += [f"| arm | measure | {' | '.join(names)} |", "|---" * (len(sets) + 2) + "|"]
    for arm in arms[1:]:
        for title, compare in (("AP", difference), ("mean OKS", oks_difference)):
            cells = [compare(judged[name][arms[0]], judged[name][arm]) for name in sets]
            lines.append(f"| {arm} | {title} | {' | '.join(cells)} |")
    write_report(Path(__file__).with_name("gan.md"), [*lines, ""])


def _design(lab: Laboratory, told: Namespace, sets: dict[str, CocoDataset]) -> str:
    counts = {name: len(store) for name, store in lab.stores.items()}
    made = f"{counts['made']:,} made by the GAN." if "made" in counts else "the arm of GAN-made people was not run."
    people = {name: int(dataset.with_keypoints().sum()) for name, dataset in sets.items()}
    return DESIGN.format(samples=lab.samples, seeds=len(told.seeds), batch=TRAIN.batch, learnt=counts["real"],
                         pasted=f"{counts['pasted']:,} pasted, ", made=made, held=people["held"],
                         hard=people["hard list"], low=TURNED[0], high=TURNED[1], val=people["val"], looks=LOOKS,
                         longer=LONGER)


def options(parser: ArgumentParser) -> None:
    """What only this experiment is told."""
    parser.add_argument("--made", type=Path, help="set of gan extend --by gan; without it that arm is skipped")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each arm and seed: fewer for a rehearsal")
    parser.add_argument("--pasted", type=int, default=PASTED, help="pictures to paste")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    parser.add_argument("--split", action="store_true", help="only write the file to make people of")


def main() -> None:
    told = arguments(__doc__, SEEDS, options)
    lab = Laboratory(told.work, told.train, told.val, told.samples, told.pasted, told.made)
    if told.split:
        log.info("%s", lab.learn)
    elif told.report:
        report(lab, told)
    else:
        if told.made is None and "made" in told.arms:
            log.info("no --made: the arm of people made by the GAN is skipped")
        lab.work(told.seeds, told.arms)


if __name__ == "__main__":
    main()
