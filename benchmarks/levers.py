"""What else could teach more: ``python benchmarks/levers.py VAL.json WORK COCO.json LSP.json`` writes levers.md.

Every arm goes on from pose-small, in crops of 128x96, by ``stagepose train``, and differs from its control in one
thing: a teacher, the sets, the labels of hard poses, or the views. Judged on VAL.json with flip test, at annotated
boxes and at the shipped detector's, by a paired bootstrap over pictures. WORK keeps the runs: an ended one goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from report import by_hand, commit, processor, set_name, table
from research import OUTCOME, Judged, best_oks, difference, flip_tested, part, spread

from stagepose.coco import CocoDataset, images_folder, read_dataset
from stagepose.coco.dataset import to_json
from stagepose.evaluation import Judgement, judge_keypoints, predict_dataset
from stagepose.evaluation.run import detect_dataset
from stagepose.files import write_json, write_text
from stagepose.predictor import DEFAULT_DETECTOR, load
from stagepose.runtime import DetectorModel
from stagepose.structures import Detections

RESULT = Path(__file__).with_suffix(".md")
PRESET, START, SIZE, JUDGE = "pose-small", "pose-small", ("96", "128"), "pose-medium"
LEAST_OKS = 0.3  # of a label and what the judge finds, from which the label is believed
COCO, LSP = 6, 1  # how often each set's people are shown in an epoch
LEARNING_RATE, LATE_RATE = "8e-4", "2e-4"
MILD = ("rotation=35", "rotation_chance=0.5", "half_body_chance=0.1", "colour=0.25", "grey_chance=0.05",
        "occlusion_chance=0.2")


@dataclass(frozen=True)
class Arm:
    """One training: what it differs in from ``control`` (None: nothing), and the arm whose run it goes on from."""

    name: str
    what: str
    control: str | None = None
    sets: tuple[str, ...] = ("coco", "lsp")
    teacher: str | None = None
    augment: tuple[str, ...] = ()
    after: str | None = None


ARMS = (
    Arm("plain", "both sets, labels alone"),
    Arm("coco", "without LSP-extended", "plain", ("coco",)),
    Arm("cleaned", f"LSP-extended without labels that pose-medium's finds have an OKS below {LEAST_OKS:g} with",
        "plain", ("coco", "cleaned")),
    Arm("end", "a tenth more samples at a quarter of the rate, both sets", after="plain"),
    Arm("end-coco", "the same, COCO alone", "end", ("coco",), after="plain"),
    Arm("mild", "views changed less, as pose-medium's preset does", "plain",
        augment=(*MILD, "shift=0.06", "scale=0.25")),
    Arm("mild-boxes", "the same, but moved and zoomed as the detector's boxes are off (box_errors.md)", "mild",
        augment=(*MILD, "shift=0.1", "scale=0.3")),
    Arm("teacher", "half of the targets, and LSP's faces, from pose-medium", "plain", teacher="pose-medium"),
    Arm("itself", "the same from pose-small, which sees the picture with nothing in the way: easy and hard views must "
        "agree", "plain", teacher="pose-small"),
)


def train(arm: Arm, seed: int, told: argparse.Namespace) -> Path:
    """The run's folder."""
    run: Path = told.work / f"{arm.name}-{seed}"
    data = {"coco": f"{told.coco}:{COCO}", "lsp": f"{told.lsp}:{LSP}", "cleaned": f"{cleaned_file(told.work)}:{LSP}"}
    start = START if arm.after is None else str(told.work / f"{arm.after}-{seed}")
    samples = told.samples if arm.after is None else told.samples // 10
    subprocess.run([sys.executable, "-m", "stagepose", "train", PRESET, "--data", *(data[name] for name in arm.sets),
                    "--out", str(run), "--init", start, "--crops", str(told.work / "crops"), "--input-size", *SIZE,
                    "--batch", "16", "--lr", LEARNING_RATE if arm.after is None else LATE_RATE, "--threads", "1",
                    "--samples", str(samples), "--seed", str(seed), "--evaluate-every", "0",
                    *(() if arm.teacher is None else ("--teacher", arm.teacher)),
                    *(("--augment", *arm.augment) if arm.augment else ())], check=True)
    return run


def in_boxes(run: Path, val: Path, boxes: dict[int, Detections]) -> Path:
    """COCO results of an exported run in a detector's boxes, with flip test."""
    file = run / "found-in-boxes.json"
    if not file.is_file():
        write_json(file, predict_dataset(load(run / "model.onnx", None, threads=1, flip=True), read_dataset(val),
                                         images_folder(val, None), boxes=boxes))
    return file


def cleaned_file(work: Path) -> Path:
    return work / "cleaned" / "people.json"


def clean(told: argparse.Namespace) -> tuple[int, int]:
    """Write LSP-extended without labels that the judge does not believe -> (people kept, people in all)."""
    dataset, found, file = read_dataset(told.lsp), told.work / "lsp.json", cleaned_file(told.work)
    if not found.is_file():
        write_json(found, predict_dataset(load(JUDGE, None, threads=1), dataset, images_folder(told.lsp, None)))
    believed = believed_pictures(dataset, judge_keypoints(dataset, json.loads(found.read_text())))
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / "images").symlink_to(images_folder(told.lsp, None).resolve())
        write_json(file, to_json(part(dataset, lambda image: image in believed)))
    return len(believed), len(dataset.images)


def believed_pictures(dataset: CocoDataset, judged: Judgement) -> set[int]:
    """Ids of LSP's pictures, each of one person, whose label and find agree."""
    ids: NDArray[np.int64] = np.array([image.id for image in dataset.images])
    rows = judged.truth.images[~judged.truth.ignored]
    return set(ids[rows[best_oks(judged) >= LEAST_OKS]].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, what in (("val", "COCO keypoint file to judge by"), ("work", "folder for runs and results"),
                       ("coco", "COCO keypoint file to learn from"), ("lsp", "LSP-extended's")):
        parser.add_argument(name, type=Path, help=what)
    parser.add_argument("--samples", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="*", default=[arm.name for arm in ARMS],
                        help="these alone; controls among them")
    parser.add_argument("--train-only", action="store_true", help="write no report: another process has other seeds")
    told = parser.parse_args()
    arms = [arm for arm in ARMS if arm.name in told.arms]
    cleaned = any("cleaned" in arm.sets for arm in arms)
    said = "Of LSP-extended's {1:,} people {0:,} are kept by cleaning.".format(*clean(told)) if cleaned else ""
    runs = {arm.name: [train(arm, seed, told) for seed in told.seeds] for arm in arms}
    dataset = read_dataset(told.val)
    exact = {name: [flip_tested(run, told.val) for run in each] for name, each in runs.items()}
    boxes = detect_dataset(DetectorModel(DEFAULT_DETECTOR, threads=1), dataset, images_folder(told.val, None))
    off = {name: [in_boxes(run, told.val, boxes) for run in each] for name, each in runs.items()}
    if told.train_only:
        return
    columns = [{name: Judged(dataset, files) for name, files in found.items()} for found in (exact, off)]
    rows = [[arm.name, arm.what, *chain.from_iterable(
        (spread(judged[arm.name].aps()), "" if arm.control is None else
         f"{difference(judged[arm.control], judged[arm.name])} to {arm.control}") for judged in columns)]
            for arm in arms]
    lines = ["# Levers in training", "", f"`python benchmarks/levers.py {set_name(told.val)} WORK "
             f"{set_name(told.coco)} {set_name(told.lsp)}`, commit {commit()}, {date.today()}, torch "
             f"{torch.__version__}, {processor()}: {told.samples:,} samples from {START}, in crops of 128x96, batches "
             f"of 16 by AdamW at {LEARNING_RATE}, COCO's people {COCO} times as often as LSP-extended's; "
             f"seeds {', '.join(map(str, told.seeds))}, the same samples in arms of the same sets. AP on the public "
             f"validation subset, flip test. {said}".rstrip(), "",
             *table(("arm", "", "AP, annotated boxes: mean (lowest to highest)", "difference, 95 % interval",
                     f"AP, boxes of {DEFAULT_DETECTOR}", "difference, 95 % interval"), rows), "",
             *by_hand(RESULT, OUTCOME)]
    write_text(RESULT, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
