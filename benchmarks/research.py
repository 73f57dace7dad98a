"""What the experiments on training have in common: a part of the training people held out, results written once."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stagepose.coco import CocoDataset, read_dataset
from stagepose.coco.dataset import to_json
from stagepose.evaluation import evaluate_keypoints, predict_dataset
from stagepose.files import write_json
from stagepose.heatmaps import Codec
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import Predictor
from stagepose.skeleton import COCO_17, Skeleton
from stagepose.training.crops import CropSpec, CropStore, open_or_pack
from stagepose.training.inference import NumpyHeatmaps, PoseInference

HELD_OUT = 1_000  # people
Sets = dict[str, tuple[CocoDataset, Path]]

log = logging.getLogger("research")


def arguments(description: str, seeds: tuple[int, ...]) -> Namespace:
    """What every experiment is told; the log and the threads are ready."""
    parser = ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("train", type=Path, help="COCO keypoint file, pictures in images/ beside it")
    parser.add_argument("val", type=Path, help="the same to judge by at the end")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and results; resumed where they are")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(seeds))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing, write the Markdown of what is there")
    parser.add_argument("--lsp", type=Path, help="LSP-extended's keypoint file, for experiments that learn from it")
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


def judge(model: PoseInference, codec: Codec, dataset: CocoDataset, images: Path, file: Path) -> None:
    """Write COCO results at ground-truth boxes, without flip test."""
    if file.is_file():
        return
    info = ModelInfo(kind="pose", name="research", input_size=codec.input_size, skeleton=COCO_17, codec=codec)
    results = predict_dataset(Predictor(info, NumpyHeatmaps(model), None), dataset, images, boxes="ground-truth")
    write_json(file, results)
    log.info("%s: AP %.4f", file.stem, evaluate_keypoints(dataset, results).ap)
