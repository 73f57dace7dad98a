"""Judging a list of keypoint results before an evaluator sees it: some give full marks to NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import PERSON_CATEGORY, CocoDataset
from stagepose.coco.problems import Problem, problem, show

_WHOLE = (int, np.integer)
_NUMBER = (*_WHOLE, float, np.floating)  # NumPy's too: results need not come from a file


@dataclass(frozen=True, eq=False)
class Columns:
    """M keypoint results without any mistake."""

    image_ids: NDArray[np.int64]  # (M,)
    keypoints: NDArray[np.float64]  # (M, K, 3) x, y, score
    scores: NDArray[np.float64]  # (M,) the people's


def columns_of(results: Any, dataset: CocoDataset) -> Columns | None:
    """Keypoint results as columns, None where anything is wrong with one; :func:`check_predictions` says what.

    It judges all at once, twenty times as fast as one by one.
    """
    numbers = 3 * len(dataset.skeleton)
    if not isinstance(results, list) or not _are(results, dict):
        return None
    images, categories, people, scores = ([result.get(key) for result in results]
                                          for key in ("image_id", "category_id", "keypoints", "score"))
    if not (_are(images, _WHOLE) and _are(categories, _WHOLE) and _are(people, list) and _are(scores, _NUMBER)
            and set(map(len, people)) <= {numbers} and _are(chain.from_iterable(people), _NUMBER)
            and set(images) <= dataset.image_by_id.keys()
            and set(categories) <= {PERSON_CATEGORY, dataset.category_id}):
        return None
    try:
        keypoints = np.fromiter(chain.from_iterable(people), np.float64, numbers * len(people))
        columns = Columns(np.array(images, dtype=np.int64), keypoints.reshape(len(people), numbers // 3, 3),
                          np.array(scores, dtype=np.float64))
    except OverflowError:  # an integer beyond the largest double
        return None
    return columns if np.isfinite(columns.keypoints).all() and np.isfinite(columns.scores).all() else None


def _are(values: Iterable[Any], kinds: type | tuple[type, ...]) -> bool:
    """Whether all values are of one of the kinds, which bool, though an int to Python, is not."""
    return all(issubclass(kind, kinds) and kind is not bool for kind in set(map(type, values)))


def check_predictions(results: Any, dataset: CocoDataset, names: Sequence[str] | None = None) -> list[Problem]:
    """All that is wrong with keypoint results (``image_id, category_id, keypoints, score``) for a ground truth.

    ``names`` are the keypoints in the results' order, by default the skeleton's. A non-empty ``bbox`` is a warning:
    evaluators then take its area instead of the keypoints' extent, which moves results between AP-medium and AP-large.
    """
    if not isinstance(results, list):
        return [no_list(results)]
    if columns_of(results, dataset) is not None:
        return [found for index, result in enumerate(results) for found in _check_bbox(result, index)]
    order = dataset.skeleton.names if names is None else names
    return [found for index, result in enumerate(results) for found in _check(result, index, dataset, order)]


def no_list(results: Any) -> Problem:
    """What is wrong with results that are no list; most often they are annotations."""
    what = f"{show(results)}, expected a list"
    if isinstance(results, dict) and "annotations" in results:
        what = "an object with annotations, as a file of the truth is, expected a list of results"
    return problem("results-type", "", f"the file holds {what}", "results")


def _check(result: Any, index: int, dataset: CocoDataset, names: Sequence[str]) -> list[Problem]:
    if not isinstance(result, dict):
        return [_wrong("result-type", index, f"is {show(result)}, expected an object")]
    found = _check_ids(result, index, dataset)
    values, numbers = result.get("keypoints"), 3 * len(dataset.skeleton)
    wish = f"expected {numbers} ({numbers // 3} x (x, y, score))"
    if not isinstance(values, list):
        found.append(_wrong("result-keypoints", index, f"keypoints is {show(values)}, {wish}"))
    elif len(values) != numbers:
        found.append(_wrong("result-keypoints", index, f"keypoints has {len(values)} numbers, {wish}"))
    else:
        bad = [n for n, value in enumerate(values) if not is_finite_number(value)]
        if bad:
            name = f"{names[bad[0] // 3]} {('x', 'y', 'score')[bad[0] % 3]}"
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            detail = f"{name} is {show(values[bad[0]])}, expected a finite number{more}"
            found.append(_wrong("result-keypoints", index, detail))
    return found + check_score(result, index) + _check_bbox(result, index)


def _check_bbox(result: dict[str, Any], index: int) -> list[Problem]:
    box = result.get("bbox")
    return [_wrong("result-has-bbox", index, f"has bbox {show(box)}")] if box else []


def _check_ids(result: dict[str, Any], index: int, dataset: CocoDataset) -> list[Problem]:
    found = []
    image, category = result.get("image_id"), result.get("category_id")
    if not _are([image], _WHOLE) or image not in dataset.image_by_id:
        what = f"{show(image)} is not an image of the ground truth" if "image_id" in result else "is missing"
        found.append(_wrong("result-image", index, f"image_id {what}"))
    if not _are([category], _WHOLE) or category not in (PERSON_CATEGORY, dataset.category_id):
        what = f"is {show(category)}" if "category_id" in result else "is missing"
        found.append(_wrong("result-category", index, f"category_id {what}, expected {PERSON_CATEGORY}"))
    return found


def check_score(result: dict[str, Any], index: int) -> list[Problem]:
    """The problem of a result whose score is missing or no finite number."""
    if is_finite_number(result.get("score")):
        return []
    what = f"is {show(result['score'])}, expected a finite number" if "score" in result else "is missing"
    return [_wrong("result-score", index, f"score {what}")]


def is_finite_number(value: Any) -> bool:
    """A number, no bool, that a double can hold."""
    try:
        return _are([value], _NUMBER) and math.isfinite(value)
    except OverflowError:  # an integer beyond the largest double
        return False


def _wrong(kind: str, index: int, detail: str) -> Problem:
    return problem(kind, f"result {index}", detail, "results", index)
