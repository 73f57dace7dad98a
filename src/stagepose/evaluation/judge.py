"""One call of the library that computes the AP of boxes: rows of truth and results in, its statistics out.

Everything is handed over as fresh rows with one category and annotation ids counted from 1: the library takes an id of
0 for "unmatched", and writes into what it is given. Keypoints are judged by our own matching, which tests compare with
it.
"""

from __future__ import annotations

from typing import Any

from stagepose.coco.dataset import CocoDataset
from stagepose.errors import MissingExtraError
from stagepose.evaluation.precision import NO_TRUTH
from stagepose.geometry import xyxy_to_xywh

Row = dict[str, Any]
PERSON = 1  # the only category in what we hand over


def require_library() -> None:
    """:class:`MissingExtraError` where faster-coco-eval is not installed: to be asked before long work."""
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('judging boxes needs faster-coco-eval: pip install "stagepose[eval]"') from error


def judge_boxes(dataset: CocoDataset, results: list[Row]) -> dict[str, float]:
    """faster-coco-eval's statistics, by its names, of box results on all images of a set.

    A person without an area counts by the box's; ``results`` are written into.
    """
    require_library()
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO({
        "images": [{"id": image.id} for image in dataset.images],
        "annotations": _annotations(dataset),
        "categories": [{"id": PERSON, "name": "person"}],
    })  # fmt: skip
    evaluation = COCOeval_faster(truth, truth.loadRes(results), "bbox")
    evaluation.params.catIds = [PERSON]
    evaluation.run()
    statistics: dict[str, float] = evaluation.stats_as_dict
    return statistics


def _annotations(dataset: CocoDataset) -> list[Row]:
    """All persons of a set, crowds too, in its order."""
    columns = zip(dataset.image_ids.tolist(), xyxy_to_xywh(dataset.boxes_xyxy).tolist(),
                  dataset.areas_or_boxes().tolist(), dataset.crowd.tolist(), strict=True)
    return [
        {"id": number, "image_id": image_id, "category_id": PERSON, "bbox": box, "area": area, "iscrowd": int(crowd)}
        for number, (image_id, box, area, crowd) in enumerate(columns, start=1)
    ]


def row(label: str, value: float) -> tuple[str, str]:
    """A line of a table: what was measured, and its value in three digits or the words for none."""
    return label, "no ground truth" if value == NO_TRUTH else f"{value:.3f}"
