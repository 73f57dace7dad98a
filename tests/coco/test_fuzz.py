"""No JSON value, wherever it stands, brings a traceback: a list of problems, or one DatasetError."""

from __future__ import annotations

import contextlib
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutated
from tiny import tiny_dict, write_json

from stagepose.coco import check_dataset, check_predictions, read_box_results, read_dataset, write_clean
from stagepose.coco.predictions import columns_of
from stagepose.coco.problems import errors
from stagepose.errors import DatasetError

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


TINY = tiny_dict(2, 1)
for _annotation in TINY["annotations"]:
    _annotation["keypoints"] = _annotation["keypoints"][:6]
    _annotation["num_keypoints"] = sum(v > 0 for v in _annotation["keypoints"][2::3])
TINY["categories"][0]["keypoints"] = ["nose", "left_eye"]
TINY["categories"][0]["skeleton"] = [[1, 2]]


@RELAXED
@given(mutated(TINY))
def test_a_mutated_data_set(data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, out = write_json(Path(folder), data), Path(folder) / "out.json"
        problems = check_dataset(path, images_dir=folder, other=path)
        assert isinstance(problems, list)
        plain = check_dataset(path)
        try:
            read_dataset(path)
            assert not errors(plain), "a reader refuses what the check calls an error"
        except DatasetError as error:
            assert errors(plain), error
            assert "\n" not in str(error)
        with contextlib.suppress(DatasetError):
            read_dataset(path, strict=False)
        try:
            write_clean(path, out)
        except DatasetError:
            assert not out.exists()
        else:
            assert not errors(check_dataset(out)), "what was cleaned passes the check"


RESULT = {"image_id": 1, "category_id": 1, "keypoints": [1.0, 2.0, 0.5] * 2, "score": 0.5, "bbox": [1, 2, 3, 4]}


@RELAXED
@given(mutated([RESULT, RESULT]))
def test_mutated_results(results: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_dataset(write_json(Path(folder), TINY))
        assert isinstance(check_predictions(results, dataset), list)
        with contextlib.suppress(DatasetError):
            read_box_results(write_json(Path(folder), results, "results.json"))


ODD: list[Any] = [
    np.float64(0.5), np.float32(0.25), np.float16(1), np.int64(1), np.uint8(1), np.bool_(True), np.float64("nan"),
    np.float32("inf"), True, 2**1023, 2**1024, "1", None, [0.5] * 6, list(np.ones(6)), list(np.ones(6, np.float32)),
    list(np.ones(6, int)), np.ones(6), tuple(range(6)), [*[0.5] * 5, np.float64("nan")], [*[0.5] * 5, False],
]  # fmt: skip


@RELAXED
@given(st.lists(st.dictionaries(st.sampled_from(sorted(RESULT)[1:]), st.sampled_from(ODD), max_size=2), max_size=2))
def test_results_are_columns_exactly_where_nothing_is_wrong(changes: list[dict[str, Any]]) -> None:
    results = [OrderedDict({**RESULT, **change}) for change in changes]
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_dataset(write_json(Path(folder), TINY))
    assert (columns_of(results, dataset) is None) == bool(errors(check_predictions(results, dataset)))


@RELAXED
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: ('{"images": ' + t).encode("utf-8", "replace")))
def test_any_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.json"
        path.write_bytes(content)
        assert isinstance(check_dataset(path), list)
