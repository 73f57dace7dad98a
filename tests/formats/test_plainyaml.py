"""YAML without a library: what is plain is read as YAML reads it, all else is refused by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagepose.errors import DatasetError
from stagepose.formats.plainyaml import read_plain_yaml

KEYS = ("path", "train", "names", "kpt_shape", "flip_idx", "kpt_names")


def parsed(folder: Path, text: str, keys: tuple[str, ...] = KEYS) -> dict[str, Any]:
    path = folder / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return read_plain_yaml(path, keys, "a data.yaml")


def test_what_documentation_shows(tmp_path: Path) -> None:
    text = """\
# comment: with a colon
path: ../sets/pose8 # root
train: images/train
val:
kpt_shape: [17, 3]  # x, y, visible
flip_idx: [0, 2, 1,
           4, 3
          ]
names:
  0: person
  1: 'rider''s dog'
download: |
  from anywhere import &everything
  key: value
kpt_names:
  0:
    - nose
    - "left eye"
  1: [tail, 'tip: end']
"""
    assert parsed(tmp_path, text) == {
        "path": "../sets/pose8", "train": "images/train", "kpt_shape": [17, 3], "flip_idx": [0, 2, 1, 4, 3],
        "names": {0: "person", 1: "rider's dog"}, "kpt_names": {0: ["nose", "left eye"], 1: ["tail", "tip: end"]}}


def test_what_safe_dump_writes(tmp_path: Path) -> None:
    text = "flip_idx:\n- 0\n- 2\n- 1\nkpt_shape:\n- 3\n- 3\nkpt_names:\n- - a\n  - b\nnames:\n- person\npath: .\n"
    assert parsed(tmp_path, text) == {"flip_idx": [0, 2, 1], "kpt_shape": [3, 3], "kpt_names": [["a", "b"]],
                                      "names": ["person"], "path": "."}


@pytest.mark.parametrize(("text", "line"), [
    ("names: &a [person]", "line 1: cannot read"), ("path: .\nnames: *a", "line 2"), ("names: !!python/x y", "line 1"),
    ("names: |\n  person", "line 1"), ("names: [person", "line 1: a bracket is not closed"),
    ("names: [a]]", "line 1"), ("names: {0 person}", "line 1"), ("names: [a]\nnames: [b]", "line 2: names stands"),
    ("names:\n  0: a\n   1: b", "line 3"), ("names:\n  - a: 1", "line 2"), ("just words", "line 1"),
    ("names: " + "[" * 100_000, "line 1: a bracket"), ("names: " + "[" * 50_000 + "]" * 50_000, "line 1: nested too"),
    ("names: {0: a, 0: b}", "line 1: 0 stands there twice"), ("names:\n  0: a\n  0: b", "line 3: 0 stands there twice"),
    ("names: a: b", "line 1"), ('names: "a', "line 1"), ("names: [a, , b]", "line 1"), ("names: a\n  b", "line 2"),
    ("<<: *base\nnames: [a]", "line 1"), ("names:\n" + "".join(" " * n + "a:\n" for n in range(1, 20)), "nested too"),
])  # fmt: skip
def test_the_rest_is_refused(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        parsed(tmp_path, text)
    assert line in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


VALUES = st.recursive(st.integers(-999, 999) | st.text(max_size=6), lambda inner: st.lists(inner, max_size=4),
                      max_leaves=8)


@given(VALUES)
def test_json_is_yaml(value: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        assert parsed(Path(folder), f"names: {json.dumps(value)}\n") == {"names": value}


@given(st.text(alphabet="a1 :-[]{},'\"#\n&|", max_size=40))
def test_no_text_brings_a_traceback(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            parsed(Path(folder), f"names: {text}")
        except DatasetError as error:
            assert "\n" not in str(error)
