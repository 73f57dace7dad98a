"""A detector learns every category of a file, not people alone -> all_categories.md.

``python benchmarks/all_categories.py coco128/instances.json``: pictures of all 80 categories, learnt by heart on a
frozen ImageNet trunk without augmentation, then judged on the same pictures. This shows that the path from the
categories of a file to the classes of the head is true; it says nothing of pictures never seen. What the trunk makes of
each picture is computed once, which makes a step several times cheaper.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from accuracy import say
from faster_coco_eval import COCO, COCOeval_faster
from report import commit, processor, set_name, table
from torch import Tensor
from tyro.conf import Positional

from stagepose.errors import StagePoseError
from stagepose.files import write_text
from stagepose.geometry import xyxy_to_xywh
from stagepose.training.detector.augment import BoxAugment
from stagepose.training.detector.cache import open_or_decode
from stagepose.training.detector.config import DetectorConfig, Keeping
from stagepose.training.detector.data import BoxData
from stagepose.training.detector.dataset import read_boxes
from stagepose.training.detector.heads import Target
from stagepose.training.detector.model import Detector
from stagepose.training.detector.task import LOSS_WEIGHTS, DetectorTask
from stagepose.training.networks.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE
from stagepose.training.optim import lr_factor, make_optimizer, set_lr

ROOT = Path(__file__).resolve().parents[1]
BATCH, WARMUP, LR, CLIP = 8, 400, 1e-3, 5.0
EVERY_BLOCK = 16  # of EfficientNet-Lite0
SIDE = 384  # pixels of the longer side, in training and when judged


def main(
    file: Positional[Annotated[Path, tyro.conf.arg(metavar="INSTANCES.json")]],
    *,
    minutes: float = 60,
    epochs: int = 80,
    first: int | None = None,
    cache: Path = Path("crops"),
    out: Path = ROOT / "benchmarks/all_categories.md",
) -> None:
    """Learn a small set by heart and judge it.

    Args:
        file: COCO instances file, with images/ beside it.
        minutes: Stop early after so long.
        first: Only so many of the pictures, for a quick try.
        epochs: Over all pictures; the learning rate falls towards their end, or the minutes'.
        cache: Folder for the decoded pictures.
        out: The Markdown file to write.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    boxes = read_boxes(file, file.parent / "images")
    boxes = replace(boxes, images=boxes.images[:first])
    plain = BoxAugment(canvas=(SIDE, SIDE), long_side=SIDE, zoom=(1.0, 1.0), aim_chance=0, flip_chance=0, colour=0,
                       grey_chance=0, mosaic_chance=0, paste_chance=0, least_side=1.0)  # fmt: skip
    data = BoxData(*open_or_decode(boxes, cache, max_side=SIDE), augment=plain, seed=0)
    task = DetectorTask(Detector(DetectorConfig(
        categories=len(boxes.categories), long_side=SIDE, frozen_blocks=EVERY_BLOCK,
        keeping=Keeping(proposals=300, floor=0.05))), data)  # fmt: skip
    canvases = look(task)
    seen, took = learn(task, canvases, minutes * 60, epochs * len(data))
    numbers = judge(task.model.eval(), canvases, boxes.categories)
    words = ["python", "benchmarks/all_categories.py", set_name(file), f"--minutes={minutes:g}", f"--epochs={epochs}",
             *([] if first is None else [f"--first={first}"])]
    found = len({label for image in boxes.images for label in image.labels.tolist()})
    lines = ["# All categories", "",
             f"`{shlex.join(words)}`, commit {commit()}, {date.today()}, one thread ({processor()}), beside other "
             "programs on the machine.", "",
             f"{len(data)} pictures with boxes of {found} of the file's {len(boxes.categories)} categories, learnt "
             f"on a frozen ImageNet trunk without augmentation: {seen} samples ({seen / len(data):.0f} epochs) "
             f"in {took / 60:.0f} minutes. Judged on the same pictures, all categories, no crowds.", "",
             *table(["AP .50:.95", "AP .50", "AP .75", "AR 100"], [[f"{value:.3f}" for value in numbers]]), ""]
    write_text(out, "\n".join(lines))
    sys.stdout.write("\n".join(lines))


@dataclass(frozen=True, eq=False)
class Canvases:
    """All N pictures: what the frozen trunk makes of them, each map (N, C, H, W) float32, and what is in them."""

    maps: list[Tensor]
    targets: list[Target]


@torch.no_grad()
def look(task: DetectorTask) -> Canvases:
    """The trunk's maps of every picture, once: it is frozen, so they stay what they are."""
    data, parts, targets = task.data, [], []
    for number in range(len(data)):
        sample = data.sample((0, number), number)
        images = torch.from_numpy(sample.pixels).permute(2, 0, 1)[None].float()
        parts.append(task.model.trunk((images - PIXEL_MEAN) / PIXEL_SCALE))
        targets.append({"boxes": torch.from_numpy(sample.boxes), "labels": torch.from_numpy(sample.labels),
                        "ignore": torch.from_numpy(sample.ignore)})
    return Canvases([torch.cat(level) for level in zip(*parts, strict=True)], targets)


def pyramid(model: Detector, canvases: Canvases, rows: list[int]) -> OrderedDict[str, Tensor]:
    """The pyramid of some of the pictures, as :meth:`Detector.maps` makes it of pixels."""
    found = model.pyramid(OrderedDict((str(i), level[rows]) for i, level in enumerate(canvases.maps)))
    return OrderedDict((name, level.float()) for name, level in found.items())


def learn(task: DetectorTask, canvases: Canvases, seconds: float, samples: int) -> tuple[int, float]:
    """(samples shown, seconds it took); the learning rate falls by whichever of the two ends first."""
    model, size = task.model.train(), (SIDE, SIDE)
    optimizer = make_optimizer(model, lr=LR, weight_decay=1e-4)
    start, seen = time.monotonic(), 0
    while seen < samples and time.monotonic() - start < seconds:
        spent = max(seen / samples, (time.monotonic() - start) / seconds)
        set_lr(optimizer, lr_factor(max(seen, round(spent * samples)), samples, WARMUP))
        chosen = task.reader.orders.rows([divmod(seen + i, task.samples_per_epoch) for i in range(BATCH)]).tolist()
        targets = [canvases.targets[row] for row in chosen]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps = pyramid(model, canvases, chosen)
            proposals, losses = model.proposals(list(maps.values()), size, targets)
            losses |= model.head.losses(maps, proposals, targets)
        optimizer.zero_grad()
        torch.stack([LOSS_WEIGHTS[name] * value for name, value in losses.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        if seen // BATCH % 25 == 0:
            say(f"{seen} samples, {time.monotonic() - start:.0f} s: " + ", ".join(
                f"{name} {float(value.detach()):.3f}" for name, value in losses.items()))
        seen += BATCH
    return seen, time.monotonic() - start


@torch.inference_mode()
def every_category(model: Detector, maps: OrderedDict[str, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and labels of all categories on a canvas: what the head knows before the people are picked."""
    size = (SIDE, SIDE)
    proposals, _ = model.proposals(list(maps.values()), size)
    logits, deltas = model.head.box_predictor(model.head.box_head(model.head.box_roi_pool(maps, proposals)))
    boxes, scores, labels = model.head.postprocess_detections(logits, deltas, proposals, [size])
    return boxes[0].numpy(), scores[0].numpy(), labels[0].numpy()


@torch.inference_mode()
def judge(model: Detector, canvases: Canvases, categories: tuple[str, ...]) -> list[float]:
    """AP, AP50, AP75 and AR100 over all categories, on the canvases that were learnt."""
    truth, results = [], []
    for number, target in enumerate(canvases.targets):
        truth += rows(number, target["boxes"].numpy(), target["labels"].numpy())
        boxes, scores, labels = every_category(model, pyramid(model, canvases, [number]))
        results += [{**row, "score": float(score)}
                    for row, score in zip(rows(number, boxes, labels), scores, strict=True)]
    annotations = [{**row, "id": i, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
                   for i, row in enumerate(truth, 1)]  # fmt: skip
    named = [{"id": n, "name": name} for n, name in enumerate(categories, 1)]
    coco = COCO({"images": [{"id": n} for n in range(len(canvases.targets))], "annotations": annotations,
                 "categories": named})  # fmt: skip
    evaluation = COCOeval_faster(coco, coco.loadRes(results), "bbox")
    evaluation.run()
    got: dict[str, float] = evaluation.stats_as_dict
    return [got["AP_all"], got["AP_50"], got["AP_75"], got["AR_third"]]


def rows(number: int, boxes: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    return [{"image_id": number, "category_id": int(label), "bbox": box}
            for box, label in zip(xyxy_to_xywh(boxes).tolist(), labels, strict=True)]


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except StagePoseError as error:
        raise SystemExit(f"error: {error}") from None
