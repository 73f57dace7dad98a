"""One call of the library that computes AP: rows of truth and results in, its statistics out.

Everything is handed over as fresh rows with one category and annotation ids counted from 1: the library takes an id of
0 for "unmatched", and writes into what it is given. Boxes are judged by it; keypoints by our own matching, which tests
compare with it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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


def judge(
    dataset: CocoDataset, areas_N: NDArray[np.float64], results: list[Row], kind: Literal["keypoints", "bbox"]
) -> dict[str, float]:
    """faster-coco-eval's statistics, by its names, of results on all images of a set.

    ``areas_N`` are those of the set's people; ``results`` are written into.
    """
    require_library()
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO({
        "images": [{"id": image.id} for image in dataset.images],
        "annotations": _annotations(dataset, areas_N),
        "categories": [{"id": PERSON, "name": "person"}],
    })  # fmt: skip
    with np.errstate(over="ignore", invalid="ignore"):  # points beyond all sense are misses, not warnings
        evaluation = COCOeval_faster(truth, truth.loadRes(results), kind, kpt_oks_sigmas=dataset.skeleton.sigmas)
        evaluation.params.catIds = [PERSON]
        evaluation.run()
    statistics: dict[str, float] = evaluation.stats_as_dict
    return statistics


def _annotations(dataset: CocoDataset, areas_N: NDArray[np.float64]) -> list[Row]:
    """All persons of a set, crowds too, in its order."""
    columns = zip(dataset.image_ids.tolist(), xyxy_to_xywh(dataset.boxes_xyxy).tolist(), areas_N.tolist(),
                  dataset.crowd.tolist(), dataset.num_keypoints.tolist(),
                  dataset.keypoints.reshape(len(dataset), 3 * len(dataset.skeleton)).tolist(), strict=True)  # fmt: skip
    return [
        {"id": number, "image_id": image_id, "category_id": PERSON, "bbox": box, "area": area, "iscrowd": int(crowd),
         "num_keypoints": labelled, "keypoints": keypoints}
        for number, (image_id, box, area, crowd, labelled, keypoints) in enumerate(columns, start=1)
    ]  # fmt: skip


def row(label: str, value: float) -> tuple[str, str]:
    """A line of a table: what was measured, and its value in three digits or the words for none."""
    return label, "no ground truth" if value == NO_TRUTH else f"{value:.3f}"
