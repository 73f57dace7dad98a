"""Validation of a pose network in training: through the predictor and the evaluation that users get."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from stagepose.coco import CocoDataset
from stagepose.evaluation import evaluate_keypoints, predict_dataset
from stagepose.heatmaps import Codec
from stagepose.modelinfo import ModelInfo
from stagepose.predictor import Predictor, PredictorConfig
from stagepose.training.inference import NumpyHeatmaps

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoseValidation:
    """AP on ``dataset`` with ground-truth boxes; a callable that turns a model into named numbers."""

    dataset: CocoDataset
    images_dir: Path
    codec: Codec
    flip: bool = False
    device: str = "cpu"

    def __call__(self, model: nn.Module) -> dict[str, float]:
        info = ModelInfo(kind="pose", name="in training", input_size=self.codec.input_size,
                         skeleton=self.dataset.skeleton, codec=self.codec)
        predictor = Predictor(info, NumpyHeatmaps(model, self.device), None, PredictorConfig(flip=self.flip))
        results = predict_dataset(predictor, self.dataset, self.images_dir, boxes="ground-truth")
        metrics = evaluate_keypoints(self.dataset, results)
        log.info("validation: AP %.4f, AP50 %.4f", metrics.ap, metrics.ap50)
        return {"ap": metrics.ap, "ap50": metrics.ap50, "ap75": metrics.ap75, "ar": metrics.ar}
