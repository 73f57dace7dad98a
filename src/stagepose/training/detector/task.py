"""The detector as a task for the common loop: batches, losses, validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stagepose.coco import CocoDataset
from stagepose.evaluation import detect_dataset, evaluate_boxes
from stagepose.evaluation.kept import UNJUDGED, Judged
from stagepose.runtime import Detector as Detect
from stagepose.training import distributed
from stagepose.training.detector.data import BoxData
from stagepose.training.detector.heads import Target
from stagepose.training.detector.inference import PictureDetector, numpy_detector
from stagepose.training.detector.model import Detector
from stagepose.training.feed import HostBatch
from stagepose.training.randomness import Orders, SampleKey

LOSS_WEIGHTS = {"loss_objectness": 1.0, "loss_rpn_box_reg": 2.0, "loss_classifier": 1.0, "loss_box_reg": 2.0}


@dataclass(frozen=True, kw_only=True)
class BoxRead(HostBatch):
    """``pixels`` (B, H, W, 3) uint8, and the boxes of all pictures one after the other, as :class:`BoxSample` has them.

    ``counts`` says how many (people, ignored regions) are each picture's; ``seed`` decides which regions the losses
    sample.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    counts: list[tuple[int, int]]
    seed: int


class BoxReader:
    """Where samples are read and augmented; worker processes hold a copy."""

    def __init__(self, data: BoxData) -> None:
        self.data = data
        self.orders = Orders(data.order)

    def read(self, samples: Sequence[SampleKey]) -> BoxRead:
        """The same keys give the same batch on any machine."""
        rows = self.orders.rows(samples).tolist()
        drawn = [self.data.sample(key, row) for key, row in zip(samples, rows, strict=True)]
        epoch, position = samples[0]
        return BoxRead(pixels=torch.from_numpy(np.stack([s.pixels for s in drawn])),
                       boxes=_end_to_end([s.boxes for s in drawn]), labels=_end_to_end([s.labels for s in drawn]),
                       ignore=_end_to_end([s.ignore for s in drawn]),
                       counts=[(len(s.boxes), len(s.ignore)) for s in drawn], seed=epoch * 1_000_003 + position)


def _end_to_end(columns: Sequence[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(columns))


@dataclass(frozen=True, eq=False)
class BoxBatch:
    """``images`` (B, 3, H, W) float RGB 0..255 channels-last."""

    images: Tensor
    targets: list[Target]
    seed: int


@dataclass(frozen=True, kw_only=True)
class BoxValidation:
    """COCO's AP and AR of person boxes over every picture of ``dataset``."""

    dataset: CocoDataset
    images_dir: Path

    def __call__(self, detect: Detect) -> Judged:
        mine = replace(self.dataset, images=tuple(distributed.share(self.dataset.images)))
        found_here = detect_dataset(detect, mine, self.images_dir)
        found = {image: boxes for part in distributed.gather(found_here) for image, boxes in part.items()}
        if not distributed.first():
            return UNJUDGED
        return Judged({name: float(value) for name, value in asdict(evaluate_boxes(self.dataset, found)).items()})


class DetectorTask:
    """``evaluate`` judges a plain callable, picture -> boxes: the same interface as the exported file has.

    ``init`` is the sha256 of the weights that ``model`` has begun with, if any.
    """

    def __init__(self, model: Detector, data: BoxData, validation: BoxValidation | None = None,
                 *, device: str = "cpu", init: str | None = None) -> None:
        self.model, self.network = model, model.trunk
        self.data, self.validation, self.device, self._init = data, validation, device, init
        self.reader = BoxReader(data)
        self.samples_per_epoch = len(data)

    @property
    def seed(self) -> int:
        """By which samples are ordered and augmented."""
        return self.data.seed

    @property
    def resident(self) -> bool:
        """False: pictures are of any size, and are read from the disk."""
        return False

    def describe(self) -> dict[str, Any]:
        """What decides the training besides the schedule, as plain JSON."""
        boxes, judge = self.data.boxes, {"val": self.validation.dataset.sha256()} if self.validation is not None else {}
        return {"kind": "detector", "detector": asdict(self.model.config), "augment": asdict(self.data.config),
                "init": self._init, **judge,
                "data": {"pictures": len(boxes.images), "categories": list(boxes.categories), "sha256": boxes.sha256,
                         "seed": self.data.seed, "left_out": boxes.left_out}}

    def names(self, samples: Sequence[SampleKey]) -> list[str]:
        """The samples' files."""
        return [self.data.boxes.images[row].file.name for row in self.reader.orders.rows(samples)]

    def prepare(self, read: BoxRead) -> BoxBatch:
        """Pixels and targets on the device, where the feed has brought them already."""
        read = read.to(self.device)
        people, ignored = [list(each) for each in zip(*read.counts, strict=True)]
        targets = [{"boxes": boxes, "labels": labels, "ignore": ignore} for boxes, labels, ignore in zip(
            torch.split(read.boxes, people), torch.split(read.labels, people), torch.split(read.ignore, ignored),
            strict=True)]
        return BoxBatch(read.pixels.permute(0, 3, 1, 2).float(), targets, read.seed)

    def batch(self, samples: Sequence[SampleKey]) -> BoxBatch:
        """Samples read and prepared here and now."""
        return self.prepare(self.reader.read(samples))

    def loss(self, model: nn.Module, batch: BoxBatch) -> dict[str, Tensor]:
        """torchvision's four losses; box regression counts double, for boxes that hold the whole person."""
        devices = [batch.images.device] if batch.images.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(batch.seed)
            _, losses = model(batch.images, batch.targets)
        return {name: LOSS_WEIGHTS[name] * value for name, value in losses.items()}

    def idle(self) -> list[nn.Module]:
        """Every part learns from every step."""
        return []

    def evaluate(self, model: nn.Module) -> Judged:
        """Validation numbers in float32, ``ap`` among them; nothing without a validation set."""
        if self.validation is None:
            return UNJUDGED
        assert isinstance(model, Detector)
        return self.validation(numpy_detector(PictureDetector(model)))

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """None: boxes are judged by numbers."""
        return None
