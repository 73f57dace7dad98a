"""COCO results JSON: keypoints of people, and the boxes of published detection files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stagepose.coco import jsonfile
from stagepose.coco.dataset import PERSON_CATEGORY, CocoDataset
from stagepose.coco.predictions import check_predictions, check_score, is_finite_number, no_list
from stagepose.coco.problems import Problem, as_error, errors, problem, show
from stagepose.errors import ConfigError, DatasetError
from stagepose.geometry import xywh_to_xyxy, xyxy_to_xywh
from stagepose.lines import printable
from stagepose.skeleton import Skeleton, by_names
from stagepose.structures import Detections, Person

IMAGES, PEOPLE = "images.json", "people.json"  # what 'stagepose predict' writes of photos


def keypoint_result(image_id: int, person: Person) -> dict[str, Any]:
    """One COCO result: x, y, score of each keypoint. No ``bbox``: evaluators would take its area for the person's."""
    return {"image_id": int(image_id), **_scored_keypoints(person)}


def person_result(person: Person) -> dict[str, Any]:
    """As :func:`keypoint_result`, of no image in particular, and with the person's ``box`` (xyxy)."""
    return {**_scored_keypoints(person), "box": [round(float(edge), 2) for edge in person.box]}


def person_of_result(result: Mapping[str, Any], skeleton: Skeleton | Sequence[str]) -> Person:
    """Whom :func:`person_result` told of, as far as its digits go; of what it does not tell, ``box_score`` is 1.

    So an entry of ``people.json`` is read back, with a video's ``track_id``. ``skeleton`` may be the keypoints' names,
    as ``images.json`` has them. :class:`ConfigError` names what is missing or does not fit.
    """
    own = skeleton if isinstance(skeleton, Skeleton) else by_names(tuple(skeleton))
    values = result.get("keypoints")
    if not isinstance(values, list) or len(values) != 3 * len(own):
        found = f"has {len(values)} numbers" if isinstance(values, list) else f"is {show(values)}"
        raise ConfigError(f"person: keypoints {found}, expected {3 * len(own)} ({len(own)} x (x, y, score))")
    keypoints = {name: values[3 * k : 3 * k + 3] for k, name in enumerate(own.names)}
    return Person.from_dict({**result, "keypoints": keypoints}, own)


def _scored_keypoints(person: Person) -> dict[str, Any]:
    """Pixels have 2 decimals and keypoints' scores 4, which is more than a network knows; the person's score has 6, so

    that people tie no more often than before.
    """
    triples = np.column_stack([person.keypoints.round(2), person.scores.round(4)]) + 0.0  # and no -0.0
    return {
        "category_id": PERSON_CATEGORY,
        "keypoints": triples.ravel().tolist(),
        "score": round(float(person.score), 6),
    }


def box_results(detections: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """COCO results of people's boxes by image id, in their order."""
    return [
        {"image_id": int(image_id), "category_id": PERSON_CATEGORY, "bbox": box, "score": score}
        for image_id, found in detections.items()
        for box, score in zip(xyxy_to_xywh(found.boxes).tolist(), found.scores.tolist(), strict=True)
    ]


def write_results(path: str | Path, results: Iterable[dict[str, Any]]) -> None:
    """Write results atomically, on one line, one after the other; NaN is refused."""
    jsonfile.write_list_compact(path, results)


def read_keypoint_results(path: str | Path, dataset: CocoDataset, names: Sequence[str] | None = None
                          ) -> list[dict[str, Any]]:  # fmt: skip
    """Read keypoint results for a ground truth, in its skeleton; one :class:`DatasetError` counts all that is wrong.

    ``names`` are the keypoints in the order that the file of results has them in, by default the skeleton's; those of
    other tools have them in the order of the truth's file: ``dataset.order_of_results``.
    """
    order = dataset.skeleton.names if names is None else tuple(names)
    results = jsonfile.load_json_leniently(path, what="a COCO results file")
    wrong = errors(check_predictions(results, dataset, order))
    if wrong:
        raise as_error(path, wrong)
    return reordered(results, order, dataset.skeleton.names)


def reordered(results: Iterable[dict[str, Any]], names: Sequence[str], wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Keypoint results whose keypoints are ``names``, with them in the order of ``wanted``, which are the same."""
    if tuple(names) == tuple(wanted):
        return list(results)
    places = [3 * names.index(name) + part for name in wanted for part in range(3)]
    return [{**result, "keypoints": [result["keypoints"][place] for place in places]} for result in results]


def read_box_results(path: str | Path, category_id: int = PERSON_CATEGORY) -> dict[int, Detections]:
    """Person boxes by image id from a COCO results file of ``image_id, category_id, bbox, score``, best first.

    Boxes of other categories than ``category_id``, the people's in the truth, are passed over; in a file without that
    one people are COCO's 1. One :class:`DatasetError` counts all that is wrong with any box, or says that there are
    boxes, but none of people.
    """
    return boxes_of_results(jsonfile.load_json_leniently(path, what="a COCO results file"), path, category_id)


def boxes_of_results(results: Any, path: str | Path, category_id: int = PERSON_CATEGORY) -> dict[int, Detections]:
    """The same of JSON that is parsed already; ``path`` is where it comes from."""
    if not isinstance(results, list):
        raise as_error(path, [no_list(results)])
    wrong = [found for index, result in enumerate(results) for found in _check_box(result, index)]
    if wrong:
        raise as_error(path, wrong)
    there = {result["category_id"] for result in results}
    wanted = category_id if category_id in there else PERSON_CATEGORY
    if there and wanted not in there:
        expected = " or ".join(map(str, dict.fromkeys((category_id, PERSON_CATEGORY))))
        raise DatasetError(f"{printable(path)}: none of its {len(results)} boxes is a person's: their category ids "
                           f"are {show(sorted(there))}, expected {expected}. Write that for the people")
    by_image: dict[int, list[list[float]]] = {}
    for result in results:
        if result["category_id"] == wanted:
            by_image.setdefault(result["image_id"], []).append([*result["bbox"], result["score"]])
    return {image_id: _detections(rows) for image_id, rows in by_image.items()}


def _detections(rows: list[list[float]]) -> Detections:
    values = np.array(rows, dtype=np.float64)
    values = values[np.argsort(-values[:, 4], kind="stable")]
    return Detections(boxes=xywh_to_xyxy(values[:, :4]), scores=values[:, 4])


def _check_box(result: Any, index: int) -> list[Problem]:
    where = f"result {index}"
    if not isinstance(result, dict):
        detail = f"is {show(result)}, expected an object"
        return [problem("result-type", where, detail, "results", index)]
    found = []
    for key, kind in (("image_id", "result-image"), ("category_id", "result-category")):
        value = result.get(key)
        if type(value) is not int or abs(value) >= 2**63:
            what = f"is {show(value)}, expected a whole number" if key in result else "is missing"
            found.append(problem(kind, where, f"{key} {what}", "results", index))
    box = result.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(is_finite_number(v) for v in box):
        detail = f"bbox is {show(box)}, expected 4 finite numbers (x, y, width, height)"
        found.append(problem("result-box", where, detail, "results", index))
    elif min(box[2:]) < 0 or max(map(abs, box)) > 2.0**62:
        detail = f"bbox is {show(box)}, expected a width and height from 0"
        found.append(problem("result-box", where, detail, "results", index))
    return found + check_score(result, index)
