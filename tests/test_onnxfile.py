"""Our own reading of ONNX files, against the onnx package's."""

from __future__ import annotations

import hashlib
import random
import tracemalloc
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy_models import dot_finder, lit_halves, pose_bytes

from stagepose import onnxfile
from stagepose.errors import ModelError

FLIPS = 3000


def model_with(initializers: list[onnx.TensorProto], nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    return helper.make_model(helper.make_graph(nodes, "g", [x], [y], initializers))


def external(name: str = "w", location: str = "../../x") -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def branch(tensor: onnx.TensorProto) -> onnx.GraphProto:
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    return helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "b", [], [out], [tensor])


def test_metadata_is_what_the_onnx_package_reads() -> None:
    data = onnxfile.with_metadata(dot_finder().SerializeToString(), {"a": "1", "stagepose": "{\"ü\": \"日本\"}"})
    onnx.checker.check_model(onnx.load_from_string(data))
    theirs = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}
    assert onnxfile.read_metadata(data) == theirs == {"a": "1", "stagepose": "{\"ü\": \"日本\"}"}


def test_an_existing_key_is_replaced_and_the_rest_kept() -> None:
    plain = dot_finder().SerializeToString()
    once = onnxfile.with_metadata(plain, {"a": "x" * 1000, "b": "2"})
    twice = onnxfile.with_metadata(once, {"a": ""})
    assert onnxfile.read_metadata(twice) == {"b": "2", "a": ""}
    assert onnx.load_from_string(twice).graph == onnx.load_from_string(plain).graph


def test_the_interface_is_what_the_onnx_package_reads() -> None:
    for model in (dot_finder(), lit_halves()):
        told = onnxfile.interface(model.SerializeToString())
        for ours, theirs in ((told.inputs, model.graph.input), (told.outputs, model.graph.output)):
            assert list(ours) == [
                (value.name, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                 tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim))
                for value in theirs]
        assert told.opsets == {"": 17}
    assert onnxfile.interface(b"") == ((), (), {})


def test_files_without_metadata_have_none() -> None:
    assert onnxfile.read_metadata(dot_finder().SerializeToString()) == {}
    assert onnxfile.read_metadata(b"") == {}


def test_sha256_is_that_of_the_arrays_in_name_order() -> None:
    for model in (dot_finder(), lit_halves()):
        arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        expected = hashlib.sha256(b"".join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
        assert onnxfile.sha256_of_initializers(model.SerializeToString()) == expected


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "INT8", "UINT8", "BOOL", "INT16", "UINT16", "INT32",
                                  "INT64", "UINT32", "UINT64"])
def test_sha256_does_not_depend_on_how_a_tensor_is_stored(kind: str) -> None:
    number = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    signed = kind.startswith(("INT", "FLOAT", "DOUBLE"))
    values = np.array([0, 1, 100, -3 if signed else 7, -100 if signed else 120]).astype(dtype)
    raw = numpy_helper.from_array(values, "w")
    typed = helper.make_tensor("w", number, values.shape, values.tolist(), raw=False)
    assert raw.raw_data and not typed.raw_data
    digests = {onnxfile.sha256_of_initializers(model_with([t]).SerializeToString()) for t in (raw, typed)}
    assert digests == {hashlib.sha256(values.tobytes()).hexdigest()}


def test_both_digests_ignore_metadata_and_see_everything_else() -> None:
    plain = dot_finder().SerializeToString()
    stamped = onnxfile.with_metadata(plain, {"a": "1"})
    assert onnxfile.sha256_of_initializers(stamped) == onnxfile.sha256_of_initializers(plain)
    assert onnxfile.sha256_without_metadata(stamped) == hashlib.sha256(plain).hexdigest()
    other = dot_finder()
    other.graph.node[3].op_type = "Elu"
    assert onnxfile.sha256_without_metadata(other.SerializeToString()) != hashlib.sha256(plain).hexdigest()


def hiding_places() -> dict[str, onnx.ModelProto]:
    node, x = helper.make_node, external()
    function = helper.make_function("d", "f", ["a"], ["b"], [node("Constant", [], ["b"], value=x)],
                                    [helper.make_opsetid("", 17)])
    with_function = model_with([])
    with_function.functions.append(function)
    with_training = model_with([])
    with_training.training_info.add().algorithm.CopyFrom(branch(x))
    sparse = model_with([])
    sparse.graph.sparse_initializer.add().values.CopyFrom(x)
    marked = model_with([onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)])
    inner = node("If", ["c"], ["q"], then_branch=branch(x), else_branch=branch(x))
    outer = branch(numpy_helper.from_array(np.zeros(1, np.float32), "w"))
    outer.node.append(inner)
    deep = model_with([], [node("Loop", ["m", "c"], ["y"], body=outer)])
    many = node("Identity", ["x"], ["y"])
    many.attribute.append(onnx.AttributeProto(name="t", type=onnx.AttributeProto.TENSORS, tensors=[x]))
    return {
        "initializer": model_with([x]), "marked without location": marked, "sparse": sparse,
        "constant": model_with([], [node("Constant", [], ["y"], value=x)]),
        "if": model_with([], [node("If", ["c"], ["y"], then_branch=branch(x), else_branch=branch(x))]),
        "if in a loop": deep, "list of tensors": model_with([], [many]),
        "function": with_function, "training": with_training,
    }  # fmt: skip


@pytest.mark.parametrize("place", sorted(hiding_places()))
def test_external_data_is_found_wherever_it_hides(place: str) -> None:
    with pytest.raises(ModelError, match="keeps its data in another file"):
        onnxfile.refuse_external_data(hiding_places()[place].SerializeToString())


def test_a_second_graph_field_hides_nothing() -> None:
    first, second = model_with([]).SerializeToString(), model_with([external()]).SerializeToString()
    with pytest.raises(ModelError, match=r"\.\./\.\./x"):
        onnxfile.refuse_external_data(first + second)  # protobuf merges the two


def test_ordinary_models_pass() -> None:
    onnxfile.refuse_external_data(dot_finder().SerializeToString())
    onnxfile.refuse_external_data(lit_halves().SerializeToString())


def test_metadata_given_twice_is_refused() -> None:
    data = onnxfile.with_metadata(b"", {"a": "1"})
    with pytest.raises(ModelError, match="twice"):
        onnxfile.read_metadata(data + data)


@pytest.mark.parametrize("data", [b"\xff" * 40, b"hello world", b"\x3a\xff\xff\xff\xff\x0f", b"\x3b\x3c", b"\x00\x00",
                                  b"\x80" * 9, b"\x72\x03\x0a\x01\xff"])
def test_what_is_no_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"not an ONNX file, or a (corrupted|truncated) one; copy or download"):
        onnxfile.read_metadata(data)


def test_deep_nesting_is_refused() -> None:
    def field(number: int, inner: bytes) -> bytes:
        return onnxfile._message(number, inner)

    data = b""
    for _ in range(2000):  # node in graph in attribute in node ...
        data = field(1, field(5, field(6, data)))
    with pytest.raises(ModelError, match="deep"):
        onnxfile.refuse_external_data(field(7, data))


def test_many_fields_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxfile, "MAX_FIELDS", 100)
    with pytest.raises(ModelError, match="more than 100 fields"):
        onnxfile.read_metadata(b"\x08\x01" * 101)


@pytest.mark.parametrize("look", [onnxfile.refuse_external_data, onnxfile.sha256_of_initializers])
def test_many_fields_are_refused_in_however_many_tensors(look: Callable[[bytes], object],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxfile, "MAX_FIELDS", 100)
    tensor = onnxfile._message(5, b"\x08\x01" * 40)
    look(onnxfile._message(7, tensor * 2))
    with pytest.raises(ModelError, match="more than 100 fields"):
        look(onnxfile._message(7, tensor * 3))


def test_many_fields_are_refused_in_however_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxfile, "MAX_FIELDS", 100)
    of_the_file, of_a_tensor = (onnxfile._message(number, b"\x18\x01" * 60) for number in (14, 13))
    with pytest.raises(ModelError, match="more than 100 fields"):
        onnxfile.with_metadata(of_the_file * 2, {"a": "1"})
    with pytest.raises(ModelError, match="more than 100 fields"):
        onnxfile.refuse_external_data(onnxfile._message(7, onnxfile._message(5, of_a_tensor * 2)))


@pytest.mark.parametrize("look", [onnxfile.refuse_external_data, onnxfile.sha256_of_initializers])
def test_fields_are_not_kept(look: Callable[[bytes], object]) -> None:
    """Of a file as small as these fields are, the largest that may be would take more than a gigabyte."""
    data = onnxfile._message(7, onnxfile._message(5, b"\x08\x01" * 20_000))
    tracemalloc.start()
    look(data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000


def test_flipped_bytes_raise_a_model_error_or_nothing() -> None:
    rng, whole = random.Random(0), pose_bytes()
    for _ in range(FLIPS):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 1, 4])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        for look in (onnxfile.read_metadata, onnxfile.refuse_external_data, onnxfile.sha256_of_initializers,
                     onnxfile.sha256_without_metadata, onnxfile.interface):
            try:
                look(bytes(data))
            except ModelError:
                continue
