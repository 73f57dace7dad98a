"""No JSON value, wherever it stands, brings a traceback: a list of problems, or one DatasetError."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import tiny_dict, write_json

from stagepose.coco import check_dataset, check_predictions, read_box_results, read_dataset, write_clean
from stagepose.coco.problems import errors
from stagepose.errors import DatasetError

NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([0, -1, 7, 0.5, "1", "nose", "person", 10**400, -(2**63), 2**63, 1e300, [], {}, [[]], [None],
                     "\ud800", {"id": 1}, [1, 2], [0, 0, 2], [float("inf")] * 4, [True] * 4, [1e308] * 4, [5] * 51]),
    st.recursive(st.none() | st.integers() | st.text(max_size=3),
                 lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                 max_leaves=5),
)  # fmt: skip
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a nested value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in pairs for place in ((value, key), *_places(inner))]


@st.composite
def _mutated(draw: st.DrawFn, seed_value: Any) -> Any:
    value = copy.deepcopy(seed_value)
    for _ in range(draw(st.integers(1, 4))):
        places = _places(value)
        if not places:
            return draw(NASTY)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            container[key] = copy.deepcopy(draw(NASTY))  # the next mutation may change it
        else:
            del container[key]
    return value


TINY = tiny_dict(2, 1)
for _annotation in TINY["annotations"]:
    _annotation["keypoints"] = _annotation["keypoints"][:6]
    _annotation["num_keypoints"] = sum(v > 0 for v in _annotation["keypoints"][2::3])
TINY["categories"][0]["keypoints"] = ["nose", "left_eye"]
TINY["categories"][0]["skeleton"] = [[1, 2]]


@RELAXED
@given(_mutated(TINY))
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
@given(_mutated([RESULT, RESULT]))
def test_mutated_results(results: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_dataset(write_json(Path(folder), TINY))
        assert isinstance(check_predictions(results, dataset), list)
        with contextlib.suppress(DatasetError):
            read_box_results(write_json(Path(folder), results, "results.json"))


@RELAXED
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: ('{"images": ' + t).encode("utf-8", "replace")))
def test_any_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.json"
        path.write_bytes(content)
        assert isinstance(check_dataset(path), list)
