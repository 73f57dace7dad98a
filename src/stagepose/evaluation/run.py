"""A predictor run over all images of a split, giving results that an evaluator reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.results import keypoint_result
from stagepose.errors import ConfigError, DatasetError
from stagepose.images import read_image
from stagepose.lines import printable
from stagepose.structures import Detections

if TYPE_CHECKING:
    from stagepose.predictor import Predictor
    from stagepose.runtime import Detector

Boxes = Literal["ground-truth", "detector"] | Mapping[int, Detections]

NOBODY = Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0))


def predict_dataset(
    predictor: Predictor,
    dataset: CocoDataset,
    images_dir: str | Path,
    *,
    boxes: Boxes = "ground-truth",
    flip: bool | None = None,
    threshold: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """COCO keypoint results of all images of a set, in its order, an image's people best first.

    ``boxes``: ``"ground-truth"`` uses the annotated boxes with score 1, as HRNet does: of everybody who is not a crowd
    and has a labelled keypoint. ``"detector"`` uses the predictor's detector, from a score of ``threshold`` on: many
    bad boxes cost a ranking nothing, but a missing one much. Or detections by image id; an image without any has no
    results. ``flip`` runs the flip test, None as the predictor is set; ``progress`` is called with (images done,
    images).
    """
    if predictor.skeleton.names != dataset.skeleton.names:
        raise DatasetError(
            f"{dataset.shown}: has skeleton {dataset.skeleton.name!r}, the model has "
            f"{predictor.skeleton.name!r}; read the set with the model's skeleton to judge the keypoints that both have"
        )
    given = _boxes_of(dataset, boxes)
    changes: dict[str, Any] = {} if flip is None else {"flip": flip}
    judged = predictor.with_config(threshold=0.0, box_threshold=threshold, **changes)
    paths = _paths(dataset, Path(images_dir))
    results: list[dict[str, Any]] = []
    for done, (image, path) in enumerate(zip(dataset.images, paths, strict=True), start=1):
        its_boxes = None if given is None else given.get(image.id, NOBODY)
        if its_boxes is None or len(its_boxes):
            people = judged(path, boxes=its_boxes)[0]
            results += [keypoint_result(image.id, person) for person in people]
        if progress:
            progress(done, len(paths))
    return results


def detect_dataset(detector: Detector, dataset: CocoDataset, images_dir: str | Path, *,
                   progress: Callable[[int, int], None] | None = None) -> dict[int, Detections]:
    """What a detector finds on all images of a set, by image id; :func:`evaluate_boxes` judges it.

    ``progress`` is called with (images done, images).
    """
    paths = _paths(dataset, Path(images_dir))
    found: dict[int, Detections] = {}
    for image, path in zip(dataset.images, paths, strict=True):
        found[image.id] = detector(read_image(path).pixels)
        if progress:
            progress(len(found), len(paths))
    return found


def ground_truth_boxes(dataset: CocoDataset) -> dict[int, Detections]:
    """By image id the boxes, score 1, of everybody who is no crowd and has a labelled keypoint (HRNet's choice)."""
    counted_N = dataset.with_keypoints()
    return {
        image_id: Detections(boxes=dataset.boxes_xyxy[rows], scores=np.ones(len(rows)))
        for image_id, all_rows in dataset.rows_by_image.items()
        if len(rows := all_rows[counted_N[all_rows]])
    }


def _boxes_of(dataset: CocoDataset, boxes: Boxes) -> Mapping[int, Detections] | None:
    """Boxes by image id, or None to ask the detector."""
    if boxes == "ground-truth":
        return ground_truth_boxes(dataset)
    if boxes == "detector":
        return None
    if not isinstance(boxes, Mapping):
        raise ConfigError(f"boxes is {boxes!r}; use 'ground-truth', 'detector', or detections by image id")
    unknown = sorted(set(boxes) - set(dataset.image_by_id))
    if unknown:
        raise DatasetError(f"boxes: {len(unknown)} images, such as {unknown[0]}, are not in {dataset.shown}")
    return boxes


def _paths(dataset: CocoDataset, folder: Path) -> list[Path]:
    """Where the images are; all that are missing are counted before the first is read."""
    paths = [folder / image.file_name for image in dataset.images]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{printable(folder)}: {len(missing)} of {len(paths)} images of {dataset.shown} are missing, "
            f"such as {missing[0].name!r}; name the folder that holds them with --images"
        )
    return paths
