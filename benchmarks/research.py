"""What the experiments on training have in common: a part of the training people held out, results written once."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import by_hand, commit, table

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.coco.dataset import to_json
from stagepose.evaluation import Judgement, evaluate_keypoints, judge_keypoints, predict_dataset
from stagepose.evaluation.bootstrap import draws
from stagepose.files import write_json, write_text
from stagepose.geometry import BOX_PADDING
from stagepose.heatmaps import Codec
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import Predictor, load
from stagepose.skeleton import COCO_17, Skeleton
from stagepose.training.crops import CropSpec, CropStore, open_or_pack
from stagepose.training.inference import NumpyHeatmaps, PoseInference

HELD_OUT = 1_000  # people
OUTCOME = "## What it says"
Sets = dict[str, tuple[CocoDataset, Path]]

log = logging.getLogger("research")


def arguments(description: str, seeds: tuple[int, ...], more: Callable[[ArgumentParser], None] | None = None,
              ) -> Namespace:
    """What every experiment is told, and ``more`` that only one is; the log and the threads are ready."""
    parser = ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("train", type=Path, help="COCO keypoint file, pictures in images/ beside it")
    parser.add_argument("val", type=Path, help="the same to judge by at the end")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results; resumed where they are")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(seeds))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing, write the Markdown of what is there")
    parser.add_argument("--lsp", type=Path, help="LSP-extended's keypoint file, for experiments that learn from it")
    if more is not None:
        more(parser)
    told = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    torch.set_num_threads(told.threads)
    told.work.mkdir(parents=True, exist_ok=True)
    return told


def packed(path: Path, folder: Path, codec: Codec, skeleton: Skeleton = COCO_17) -> CropStore:
    """The crops of a file's people."""
    return open_or_pack(path, path.parent / "images", folder / "crops", spec=CropSpec(input_size=codec.input_size),
                        skeleton=skeleton)


def laboratory_sets(folder: Path, train: Path, val: Path, codec: Codec) -> tuple[CropStore, Sets]:
    """The people to learn from, and those to judge by: held out of the training file, and the validation set."""
    rest, held = parted(train, folder)
    return packed(rest, folder, codec), {"held": (read_dataset(held), held.parent / "images"),
                                         "val": (read_dataset(val), val.parent / "images")}


def parted(path: Path, folder: Path) -> tuple[Path, Path]:
    """The training file's pictures in two files: to learn from, and about HELD_OUT people for the research."""
    rest, held = folder / "learn" / "people.json", folder / "held" / "people.json"
    if not held.is_file():
        dataset = read_dataset(path)
        chosen = drawn_pictures(dataset, HELD_OUT, seed=0)
        for file, inside in ((rest, False), (held, True)):
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "images").symlink_to((path.parent / "images").resolve())
            write_json(file, to_json(part(dataset, lambda i, inside=inside: (i in chosen) == inside)))
    return rest, held


def drawn_pictures(dataset: CocoDataset, people: int, *, seed: int) -> set[int]:
    """Ids of pictures at random that show about so many people."""
    counted = dataset.with_keypoints()
    order = np.random.default_rng(seed).permutation([image.id for image in dataset.images])
    counts = np.cumsum([counted[dataset.rows_by_image[int(i)]].sum() for i in order])
    return set(order[: int(np.searchsorted(counts, people)) + 1].tolist())


def part(dataset: CocoDataset, keep: Callable[[int], bool]) -> CocoDataset:
    rows = np.array([keep(int(i)) for i in dataset.image_ids])
    columns = {name: getattr(dataset, name)[rows] for name in
               ("ids", "image_ids", "boxes_xyxy", "keypoints", "areas", "crowd", "num_keypoints")}
    return replace(dataset, images=tuple(i for i in dataset.images if keep(i.id)), **columns)


def judge(model: PoseInference, codec: Codec, dataset: CocoDataset, images: Path, file: Path,
          box_padding: float = BOX_PADDING) -> None:
    """Write COCO results at ground-truth boxes, without flip test."""
    if file.is_file():
        return
    info = ModelInfo(kind="pose", name="research", input_size=codec.input_size, skeleton=COCO_17, codec=codec,
                     box_padding=box_padding)
    results = predict_dataset(Predictor(info, NumpyHeatmaps(model), None), dataset, images, boxes="ground-truth")
    write_json(file, results)
    log.info("%s: AP %.4f", file.stem, evaluate_keypoints(dataset, results).ap)


def flip_tested(run: Path, val: Path) -> Path:
    """COCO results of a run folder, as its exported file finds them at annotated boxes with flip test."""
    model, file = run / "model.onnx", run / "found.json"
    if not file.is_file():
        subprocess.run([sys.executable, "-m", "stagepose", "export", str(run), "--out", str(model)], check=True)
        write_json(file, predict_dataset(load(model, None, threads=1, flip=True), read_dataset(val),
                                         images_folder(val, None)))
    return file


class Judged:
    """Results of one arm, a judgement for each seed, on one set or a part of its people."""

    def __init__(self, dataset: CocoDataset, files: list[Path]) -> None:
        self.seeds = [judge_keypoints(dataset, json.loads(file.read_text())) for file in files]

    def aps(self) -> list[float]:
        return [judged.ap() for judged in self.seeds]

    def oks(self) -> NDArray[np.float64]:
        """(seeds, people) the best OKS that any result of a person's picture has with it; labelled people only."""
        return np.stack([best_oks(judged) for judged in self.seeds])


def best_oks(judged: Judgement) -> NDArray[np.float64]:
    pairs, best = judged.pairs, np.zeros(len(judged.truth))
    counts = np.diff(pairs.start)
    places = np.arange(len(pairs.oks)) - np.repeat(pairs.start[:-1], counts) + np.repeat(pairs.first, counts)
    np.maximum.at(best, places, pairs.oks)
    return best[~judged.truth.ignored]


def only(dataset: CocoDataset, kept: NDArray[np.bool_]) -> CocoDataset:
    """The same set where nobody but ``kept`` counts: the others are there, but nobody has to find them."""
    shown = dataset.keypoints * kept[:, None, None]
    return replace(dataset, keypoints=shown, num_keypoints=(shown[..., 2] > 0).sum(1))


def difference(a: Judged, b: Judged, resamples: int = 1_000) -> str:
    """AP of b - a, the mean of the seeds, with the 95 % interval of a paired bootstrap over pictures."""
    drawn = [np.mean([y.ap(w) - x.ap(w) for x, y in zip(a.seeds, b.seeds, strict=True)])
             for w in draws(a.seeds[0].truth.image_count, resamples, 0)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{np.mean(b.aps()) - np.mean(a.aps()):+.4f} ({low:+.4f} to {high:+.4f})"


def oks_difference(a: Judged, b: Judged, resamples: int = 1_000) -> str:
    """The same of the people's mean OKS, which needs no ranking and is much less noisy."""
    change, images = (b.oks() - a.oks()).mean(0), a.seeds[0].truth.images[~a.seeds[0].truth.ignored]
    count = a.seeds[0].truth.image_count
    sums, people = np.bincount(images, change, count), np.bincount(images, minlength=count)
    drawn = [(w * sums).sum() / (w * people).sum() for w in draws(count, resamples, 0)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def spread(values: Sequence[float]) -> str:
    """Mean of the seeds and their range."""
    return f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"


@dataclass(frozen=True)
class Column:
    """One measure of every arm: AP, or the mean OKS."""

    title: str
    judged: Mapping[str, Judged]  # by arm
    of_oks: bool = False

    def value(self, arm: str) -> str:
        judged = self.judged[arm]
        return spread(judged.oks().mean(1).tolist() if self.of_oks else judged.aps())

    def change(self, a: str, b: str) -> str:
        compare = oks_difference if self.of_oks else difference
        return compare(self.judged[a], self.judged[b])


def arms_and_differences(columns: Sequence[Column], arms: Mapping[str, str], pairs: Sequence[tuple[str, str]],
                         said: str) -> list[str]:
    """Two tables: every arm, by its name and what it is, with ``said`` below; the differences of those of ``pairs``."""
    titles = [column.title for column in columns]
    both = [(a, b) for a, b in pairs if a in arms and b in arms]
    return [*table(("arm", "", *titles), ([arm, what, *(c.value(arm) for c in columns)] for arm, what in arms.items())),
            "", said, "", "## Differences", "",
            "Mean of the seeds with the 95 % interval of a paired bootstrap over pictures, 1,000 draws; the seeds' own "
            "spread is in the table above.", "",
            *table(("", *titles), ([f"{b} - {a}", *(c.change(a, b) for c in columns)] for a, b in both))]


def heading(title: str, script: str, told: Namespace) -> list[str]:
    """Title, command, commit, date and machine."""
    names = " ".join(f"{path.parent.name}/{path.name}" for path in (told.train, told.val))
    return [f"# {title}", "", f"`python benchmarks/{script} {names} --work DIR`, report of {date.today()} at commit "
            f"{commit()}, {os.cpu_count()} cores ({platform.processor() or platform.machine()}), torch "
            f"{torch.__version__}, no GPU.", ""]


def comparison(title: str, name: str, told: Namespace, arms: list[str], base: str, design: str) -> None:
    """NAME.md: every arm's AP and mean OKS, and its difference to the arm ``base``; what is written below stays."""
    _, held_file = parted(told.train, told.work)
    sets = {"held": read_dataset(held_file), "val": read_dataset(told.val)}
    judged = {where: {arm: Judged(dataset, [told.work / f"{where}-{seed}-{arm}.json" for seed in told.seeds])
                      for arm in arms} for where, dataset in sets.items()}
    lines = [*heading(title, f"{name}.py", told), design, "",
             f"| start | AP, held-out | AP, validation | mean OKS, held-out | AP against {base}, held-out | the same, "
             f"validation | mean OKS against {base}, held-out |", "|" + "---|" * 7]
    for arm in arms:
        held, val = judged["held"][arm], judged["val"][arm]
        cells = [arm, spread(held.aps()), spread(val.aps()), spread(held.oks().mean(1).tolist())]
        if arm != base:
            first = judged["held"][base]
            cells += [difference(first, held), difference(judged["val"][base], val), oks_difference(first, held)]
        lines.append("| " + " | ".join([*cells, "", "", ""][:7]) + " |")
    lines += ["", f"Mean of {len(told.seeds)} seeds (lowest to highest); differences with the 95 % interval of a "
              "paired bootstrap over pictures.", ""]
    write_report(Path(__file__).with_name(f"{name}.md"), lines)


def write_report(path: Path, lines: list[str]) -> None:
    """The numbers anew, and what a person wrote about them below, under OUTCOME, as it was."""
    write_text(path, "\n".join([*lines, *by_hand(path, OUTCOME)]))
