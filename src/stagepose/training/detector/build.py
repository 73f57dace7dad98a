"""From a recipe and files to a detector's task, and from a finished run to its model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stagepose.coco import read_dataset, refuse_bad_pictures, refuse_generated
from stagepose.coco.samepicture import image_key
from stagepose.errors import ConfigError, DatasetError
from stagepose.modelinfo import ModelInfo
from stagepose.runfiles import CONFIG
from stagepose.training import checkpoint
from stagepose.training.detector.cache import open_or_decode
from stagepose.training.detector.config import DetectorConfig
from stagepose.training.detector.data import BoxData
from stagepose.training.detector.dataset import BoxSet, read_boxes
from stagepose.training.detector.export import Picture, export_detector
from stagepose.training.detector.model import Detector
from stagepose.training.detector.presets import DetectorRecipe
from stagepose.training.detector.reload import stored_weights
from stagepose.training.detector.task import BoxValidation, DetectorTask
from stagepose.training.inputs import RunContext, TrainingSet
from stagepose.training.storage import Bits
from stagepose.training.trained import is_model_file
from stagepose.training.workfolder import told


def detector_task(recipe: DetectorRecipe, sources: Sequence[TrainingSet], context: RunContext, *,
                  partly_boxed: bool = False) -> DetectorTask:
    """Pictures decoded where they are missing, a fresh or warmed-up detector, and its judge."""
    if len(sources) != 1 or sources[0].weight != 1:
        given = " ".join(f"{s.path}" + (f":{s.weight:g}" if s.weight != 1 else "") for s in sources)
        raise ConfigError(f"--data {given}: a detector is trained on one annotation file of weight 1; name one, "
                          "without a weight")
    path, images = sources[0].path, sources[0].images
    negatives = path.parent / "negatives"
    boxes = read_boxes(path, images, negatives_dir=negatives if negatives.is_dir() else None,
                       partly_boxed=partly_boxed, drop_bad=context.drop_bad)
    validation = None if context.val is None else _validation(context.val, path, boxes)
    torch.manual_seed(recipe.train.seed)
    model = Detector(replace(recipe.detector, categories=len(boxes.categories)))
    if context.init is not None:  # before any picture is decoded: it may be no detector's
        context.report(checkpoint.fill_matching(model, _starting_weights(context.init), context.init))
    augment = recipe.augment
    boxes, cache = open_or_decode(boxes, context.crops, max_side=round(augment.long_side * augment.zoom[1]),
                                  drop_bad=context.drop_bad, progress=told(context.report, f"{path}: decoded"))
    data = BoxData(boxes, cache, augment=augment, seed=recipe.train.seed)
    context.report(f"{path}: {len(data)} pictures, {len(boxes.categories)} categories; left out: {boxes.left_out}")
    return DetectorTask(model, data, validation, device=context.device, init=context.begins_with())


def _starting_weights(init: str) -> checkpoint.Tensors:
    return stored_weights(init) if is_model_file(init) else checkpoint.load_weights(init)


def _validation(val: Path, path: Path, boxes: BoxSet) -> BoxValidation:
    """The judge; :class:`DatasetError` when pictures are both learnt from and judged by."""
    truth, folder = read_dataset(val), val.parent / "images"
    refuse_generated(truth)
    refuse_bad_pictures(truth, folder)
    shared = {image_key(name) for image in boxes.images for name in image.photos} & {
        image_key(image.file_name) for image in truth.images}
    if shared:
        raise DatasetError(f"{val}: {len(shared)} of its pictures are in {path} too, or in pictures made of them, such "
                           f"as {min(shared)}; take them out of one with 'stagepose split'")
    return BoxValidation(dataset=truth, images_dir=folder)


def export_detector_run(config: Mapping[str, Any], weights: checkpoint.Tensors, run: Path, out: Path,
                        described: Mapping[str, Any], *, bits: Bits, pictures: Sequence[Picture]) -> str:
    """Write a run's detector as one model file -> what was compared, in words."""
    with checkpoint.settings_of(run / CONFIG):
        detector = Detector(DetectorConfig.from_json(config["detector"]), filled=True)
    checkpoint.fill(detector, weights, str(run))
    side = detector.config.long_side
    made = export_detector(detector.eval(), out, ModelInfo(kind="detector", input_size=(side, side), **described),
                           bits=bits, pictures=pictures)
    gap = made.stored
    return (f"{made.megabytes:.1f} MB; {gap.compared - gap.unmatched} of {gap.compared} boxes agree with the trained "
            f"detector's, within {gap.box:.2g} px and {gap.score:.2g} in score")
