"""Validation of a pose network in training: through the predictor and the evaluation that users get."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stagepose.coco import CocoDataset
from stagepose.config import PredictorConfig
from stagepose.draw import draw_people
from stagepose.evaluation import evaluate_keypoints, gather_by_person, predict_dataset
from stagepose.evaluation.kept import UNJUDGED, Judged, KeypointResults
from stagepose.geometry import BOX_PADDING, crop_affine, fit_box
from stagepose.heatmaps import Codec
from stagepose.images import read_image
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import Predictor
from stagepose.structures import Detections
from stagepose.training import distributed
from stagepose.training.inference import NumpyHeatmaps
from stagepose.training.people import spread

log = logging.getLogger(__name__)

SHOWN, SIDE = 8, 192  # people on a strip of overlays, and the side of each in pixels
PEOPLE_OF_AN_IMAGE = 1_000_000  # more than any has


@dataclass(frozen=True, kw_only=True)
class PoseValidation:
    """AP on ``dataset`` with ground-truth boxes; a callable: a model -> :class:`Judged`."""

    dataset: CocoDataset
    images_dir: Path
    codec: Codec
    box_padding: float = BOX_PADDING
    flip: bool = False
    device: str = "cpu"

    @property
    def sha256(self) -> str | None:
        """Of the labels; pictures are known by them."""
        return self.dataset.sha256()

    def __call__(self, model: nn.Module) -> Judged:
        mine = replace(self.dataset, images=tuple(distributed.share(self.dataset.images)))
        results = predict_dataset(self._predictor(model), mine, self.images_dir, boxes="ground-truth")
        parts = distributed.gather(by_person(results))
        if not distributed.first():
            return UNJUDGED
        everybody = gather_by_person(parts)
        metrics = evaluate_keypoints(self.dataset, everybody)
        log.info("validation: AP %.4f, AP50 %.4f", metrics.ap, metrics.ap50)
        return Judged({"ap": metrics.ap, "ap50": metrics.ap50, "ap75": metrics.ap75, "ar": metrics.ar},
                      KeypointResults(everybody, [image.id for image in self.dataset.images]))

    def overlays(self, model: nn.Module) -> NDArray[np.uint8] | None:
        """(SIDE, n * SIDE, 3): some of the set's people, evenly spaced, with what the model finds in their boxes."""
        rows = np.flatnonzero(self.dataset.with_keypoints())
        if not len(rows):
            return None
        predictor = self._predictor(model)
        tiles = []
        for row in spread(rows, SHOWN):
            name = self.dataset.image_by_id[int(self.dataset.image_ids[row])].file_name
            pixels = read_image(self.images_dir / name).pixels
            box = self.dataset.boxes_xyxy[row]
            people = predictor(pixels, boxes=Detections(boxes=box[None], scores=np.ones(1)))[0]
            tiles.append(crop_affine(fit_box(box, 1.0), (SIDE, SIDE)).warp(draw_people(pixels, people), (SIDE, SIDE)))
        return np.concatenate(tiles, axis=1)

    def _predictor(self, model: nn.Module) -> Predictor:
        info = ModelInfo(kind="pose", name="in training", input_size=self.codec.input_size,
                         skeleton=self.dataset.skeleton, codec=self.codec,
                         box_padding=self.box_padding)
        return Predictor(info, NumpyHeatmaps(model, self.device), None, PredictorConfig(flip=self.flip))


def by_person(results: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Results under a number of their own, the same whichever rank made them: image and place within it."""
    counts: Counter[int] = Counter()
    numbered = {}
    for result in results:
        image = int(result["image_id"])
        numbered[image * PEOPLE_OF_AN_IMAGE + counts[image]] = result
        counts[image] += 1
    return numbered
