"""M1 and M3: model files that want to run code, read other files, or are not ours."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from toy_models import dot_finder, pose_bytes, pose_info

from stagepose import onnxfile
from stagepose.errors import ModelError
from stagepose.modelinfo import KEY, stamp, verify
from stagepose.runtime import DetectorModel, PoseModel, read_info


@pytest.fixture(autouse=True)
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may get as far as a runtime."""
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a session was made")

    monkeypatch.setattr(ort, "InferenceSession", refuse)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_m1_a_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Malicious(trace), protocol=protocol))
    for kind in (PoseModel, DetectorModel, read_info):
        with pytest.raises(ModelError, match=r"weights\.pth: "):
            kind(path)
    assert not trace.exists()


def test_m1_a_torch_checkpoint_is_named_for_what_it_is(tmp_path: Path) -> None:
    path, trace = tmp_path / "model.onnx", tmp_path / "trace"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Malicious(trace)))
    with pytest.raises(ModelError, match=r"pickle.*\.onnx file written by 'stagepose export'"):
        PoseModel(path)
    assert not trace.exists()


def test_m1_arrays_and_other_archives_are_no_pickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "body.npz", a=np.zeros(3))
    with pytest.raises(ModelError, match=r"body\.npz: this is an \.npz of NumPy arrays, without a network"):
        PoseModel(tmp_path / "body.npz")
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.writestr("pose.onnx", pose_bytes())
    with pytest.raises(ModelError, match="this is a ZIP archive"):
        PoseModel(tmp_path / "models.zip")


def test_m1_training_weights_are_named_for_what_they_are() -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with pytest.raises(ModelError, match=r"safetensors.*stagepose export"):
        PoseModel(len(header).to_bytes(8, "little") + header + bytes(4))


def with_external_data(location: str) -> bytes:
    model = dot_finder()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return stamp(model.SerializeToString(), pose_info())


@pytest.mark.parametrize("location", ["../../x", "/etc/passwd", "weights.bin", "*/_ORT_MEM_ADDR_/*", ""])
def test_m3_external_data_is_refused(location: str) -> None:
    with pytest.raises(ModelError, match="tensor 'kernel' keeps its data in another file"):
        PoseModel(with_external_data(location))


def test_m3_external_data_in_a_subgraph_is_refused() -> None:
    hidden = onnx.TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1])
    hidden.external_data.add(key="location", value="../../x")
    body = onnx.GraphProto(name="body", initializer=[hidden])
    model = dot_finder()
    node = model.graph.node.add(op_type="If")
    node.attribute.add(name="then_branch", g=body, type=onnx.AttributeProto.GRAPH)
    with pytest.raises(ModelError, match="tensor 'secret'"):
        PoseModel(stamp(model.SerializeToString(), pose_info()))


def test_m3_a_file_without_our_metadata_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(dot_finder().SerializeToString())
    with pytest.raises(ModelError, match=r"other\.onnx: no 'stagepose' entry in its metadata"):
        PoseModel(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}", '{"format": 1}', "[" * 100_000, '{"format": 99}',
                                  '{"format": true, "kind": "pose"}'])
def test_m3_metadata_of_another_making_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        PoseModel(onnxfile.with_metadata(dot_finder().SerializeToString(), {KEY: text}))


ODD = [None, True, False, 0, -1, 2.5, float("nan"), float("inf"), 10**400, "", "x", [], [1], [True, True], [1, 2, 3],
       [[]], [None, None], {}, {"a": 1}]
PYTHONS = ["iterable", "unpack", "NoneType", "not supported", "argument", "update sequence", "recursion"]


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys to every field of a description, and to the first entry of each list."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, part in inner:
        yield *at, key
        yield from places(part, (*at, key))


def changed(described: Any, at: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(described))
    *way, last = at
    reduce(lambda inside, key: inside[key], way, copy)[last] = value
    return copy


def test_m3_a_field_of_any_other_kind_is_taken_or_named(tmp_path: Path) -> None:
    path, data = tmp_path / "odd.onnx", pose_bytes(threshold=0.25, box_padding=(1.1, 1.2), metrics={"ap": 0.5})
    described = json.loads(onnxfile.read_metadata(data)[KEY])
    del described["info_sha256"]
    refused = set()
    for at in places(described):
        for value in ODD:
            path.write_bytes(onnxfile.with_metadata(data, {KEY: json.dumps(changed(described, at, value))}))
            try:
                read_info(path)
            except ModelError as error:
                refused.add(at)
                said = str(error)
                name = next(key for key in reversed(at) if isinstance(key, str))
                assert said.startswith(f"{path}: ") and name in said and re.search("again|upgrade", said), said
                assert said.isprintable() and len(said) < 700 and not any(word in said for word in PYTHONS), said
    assert refused == set(places(described)) - {("metrics", "ap", 0)}


@pytest.mark.parametrize(("text", "message"), [
    ('{"format": 1, "threshold": 0.3, "threshold": 0.9}', "not valid JSON: 'threshold' stands twice in one object"),
    ("[" * 100_000, "nested too deeply"), ('{"format": 1}', "kind and name and input_size missing"),
    ("[1]", r"it is \[1\]; expected an object"), ('{"format": 99}', "format is 99, .* upgrade StagePose"),
])  # fmt: skip
def test_m3_metadata_is_told_what_is_wrong_with_it(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PoseModel(onnxfile.with_metadata(dot_finder().SerializeToString(), {KEY: text}))


@pytest.mark.parametrize("field", [rb'"box_padding": ([\d.]+)', rb'"threshold": ([\d.]+)', rb'"sigmas": \[([\d., ]+)',
                                   rb'"info_sha256": "(\w+)"'])
def test_m3_a_digit_of_the_metadata_that_changed_is_noticed(field: bytes) -> None:
    """One bit makes of a padding of 1.15 one of 3.15, which any reader would take."""
    whole = pose_bytes(box_padding=1.15, threshold=0.25)
    verify(whole)
    values = re.search(field, whole)
    assert values is not None
    digits = [at for at in range(*values.span(1)) if whole[at:at + 1].isdigit()]
    assert len(digits) >= 2
    for at in digits:
        for bit in range(3):  # another digit, mostly
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            with pytest.raises(ModelError):
                verify(bytes(changed))


def test_metadata_without_a_digest_of_its_own_is_taken_as_it_is() -> None:
    """As in the models that ship, and in files edited on purpose."""
    info = json.loads(onnxfile.read_metadata(pose_bytes())[KEY])
    del info["info_sha256"]
    edited = onnxfile.with_metadata(pose_bytes(), {KEY: json.dumps({**info, "box_padding": 1.5}, indent=1)})
    assert verify(edited).box_padding == 1.5


@pytest.mark.parametrize("what", ["weights", "graph"])
def test_a_file_that_was_changed_on_purpose_is_told_how_it_is_signed_again(what: str) -> None:
    original = pose_bytes()
    model = onnx.load_model_from_string(original)
    if what == "weights":
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[::-1]
    else:
        model.graph.node[0].name = "simplified"
    changed = model.SerializeToString()
    with pytest.raises(ModelError, match=r"corrupted, or was changed\. Copy or download it again, or, .* on purpose "
                                         r".*sign it again with stagepose\.modelinfo\.stamp: docs/deploy\.md"):
        verify(changed)
    again = verify(stamp(changed, verify(original)))
    assert again.skeleton == verify(original).skeleton and again.graph_sha256 != verify(original).graph_sha256


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"<html>", np.arange(999, dtype=np.uint8).tobytes(), b"\x80"])
def test_files_of_any_other_kind_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        PoseModel(data)


@pytest.mark.parametrize(("data", "what"), [
    (b"\xff\xd8\xff\xe0" + bytes(40), r"a picture \(JPEG\)"), (b"\x89PNG\r\n\x1a\n" + bytes(40), r"a picture \(PNG\)"),
    (b"\0\0\0\x18ftypmp42" + bytes(40), "a video"),
    (b'<?xml version="1.0"?>\n<net name="pose" version="11">', r"XML \(of OpenVINO\?\)"),
    (b"<!DOCTYPE html><html>", "a web page"), (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model"),
    (b'{"format": 1}', "JSON"), (b"\x20\0\0\0ORTM" + bytes(100), "a model in ONNX Runtime's own format"),
])  # fmt: skip
def test_what_is_no_model_is_named_for_what_it_is(data: bytes, what: str) -> None:
    with pytest.raises(ModelError, match=f"model: this is {what}.*, not a model; give an .onnx file written by"):
        PoseModel(data)


def test_files_that_did_not_arrive_are_to_be_copied_again() -> None:
    with pytest.raises(ModelError, match="the file is empty; copy or download it again"):
        PoseModel(b"")
    with pytest.raises(ModelError, match="a pointer of Git LFS, not the file itself; run: git lfs pull"):
        PoseModel(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")


def test_a_model_that_begins_as_a_bitmap_does_is_a_model() -> None:
    """Its operator set first, in a message of 77 bytes."""
    opset = onnxfile._message(8, onnxfile._message(1, b"x" * 73) + b"\x10\x01")
    data = stamp(opset + dot_finder().SerializeToString(), pose_info())
    assert data[:2] == b"BM" and verify(data).name == "toy-pose"


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(part: float) -> None:
    whole = pose_bytes()
    with pytest.raises(ModelError, match="a truncated one; copy or download it again"):
        PoseModel(whole[: int(len(whole) * part)])


def test_another_projects_model_is_told_what_of_it_can_be_used() -> None:
    with pytest.raises(ModelError, match=r"not a StagePose model, or .* their boxes can, with --boxes FILE$"):
        PoseModel(dot_finder().SerializeToString())


def test_the_runtimes_own_format_is_never_taken() -> None:
    with pytest.raises(ModelError):
        PoseModel(b"\x20\0\0\0ORTM" + bytes(100))
