"""What StagePose reads of an ONNX file itself, before any runtime opens it: metadata, digests, interface, hidden paths.

An ONNX file is a protobuf message. A tensor in it may name another file to read its data from ("external data"), and
that name may be ``../../x``; so every tensor is looked at first, in subgraphs and attributes too. The onnx package
is not needed. Every function takes the file's bytes and raises :class:`ModelError` where they make no sense.
Field numbers: onnx.proto (ONNX 1.21, Apache-2.0).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ModelError

AGAIN = "copy or download it again"
NO_MODEL = f"not an ONNX file, or a corrupted one; {AGAIN}"  # the rest of a line says how that shows
CUT_OFF = f"not an ONNX file, or a truncated one; {AGAIN}"
NOT_OURS = "no model that StagePose wrote is like this; give a file of 'stagepose export'"

MAX_FIELDS = 5_000_000  # the largest published networks have a tenth; a crafted file cannot keep us busy for long
MAX_DEPTH = 64  # messages within messages; a loop in a branch in a loop needs about 12

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types

# Message -> field number -> the message in it. Only the ways that lead to a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH, _METADATA, _INITIALIZER = 7, 14, 5
_DATA_TYPE, _TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 2, 8, 13, 14
_FLOAT_DATA, _INT32_DATA, _STRING_DATA, _INT64_DATA, _RAW_DATA, _DOUBLE_DATA, _UINT64_DATA = 4, 5, 6, 7, 9, 10, 11
_PLAIN_DATA = {_FLOAT_DATA, _STRING_DATA, _RAW_DATA, _DOUBLE_DATA}
_VARINT_DATA = {_INT32_DATA: 4, _INT64_DATA: 8, _UINT64_DATA: 8}  # bytes of an element, unless its type is narrower
_NARROW = {2: 1, 3: 1, 9: 1, 4: 2, 5: 2, 10: 2, 16: 2, 12: 4}  # (u)int8, bool, (u)int16, (b)float16, uint32


_OPSET, _INPUT, _OUTPUT = 8, 11, 12
_ELEMENTS = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}


class Value(NamedTuple):
    """An input or output as a file declares it; open sizes have a name there, which may be empty."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Interface(NamedTuple):
    """What a graph takes and gives, and the version of each operator set that it uses; ONNX's own is ""."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: dict[str, int]


class _Field(NamedTuple):
    number: int
    wire: int
    value: int | memoryview  # a varint's number, or the bytes of anything else
    whole: memoryview  # with its tag, for copying


def read_metadata(data: bytes) -> dict[str, str]:
    """The file's ``metadata_props``."""
    walk, found = _Walk(), dict[str, str]()
    for field in walk.fields(memoryview(data)):
        if field.number == _METADATA:
            key, value = walk.entry(field)
            if key in found:
                raise ModelError(f"metadata_props has {key!r} twice; the file is corrupted, or forged: {AGAIN}")
            found[key] = value
    return found


def with_metadata(data: bytes, props: Mapping[str, str]) -> bytes:
    """The same file with ``props`` among its ``metadata_props``; a key it has already is replaced."""
    walk = _Walk()
    kept = [f.whole for f in walk.fields(memoryview(data)) if f.number != _METADATA or walk.entry(f)[0] not in props]
    added = [_message(_METADATA, _message(1, k.encode()) + _message(2, v.encode())) for k, v in props.items()]
    return b"".join([*kept, *added])


def refuse_external_data(data: bytes) -> None:
    """:class:`ModelError` when a tensor anywhere in the file keeps its data outside the file."""
    walk = _Walk()
    for tensor in walk.tensors(memoryview(data), "model"):
        name, where, is_elsewhere = "", "", False
        for field in walk.fields(tensor):
            if field.number == _TENSOR_NAME:
                name = _text(field)
            elif field.number == _EXTERNAL_DATA:
                key, value = walk.entry(field)
                where, is_elsewhere = value if key == "location" else where, True
            elif field.number == _DATA_LOCATION and field.value != 0:
                is_elsewhere = True
        if is_elsewhere:
            raise ModelError(f"tensor {name!r} keeps its data in another file, {where[:80]!r}; such files are refused. "
                             "Save the model as one file, as 'stagepose export' does")


def sha256_of_initializers(data: bytes) -> str:
    """SHA-256 of all initializers' bytes (little-endian, as in ``raw_data``), in the order of their names."""
    walk = _Walk()
    found = [(*_name_and_type(walk.fields(tensor)), tensor) for graph in walk.messages(memoryview(data), _GRAPH)
             for tensor in walk.messages(graph, _INITIALIZER)]
    digest, again = hashlib.sha256(), _Walk()
    for _, kind, tensor in sorted(found, key=lambda one: one[0]):
        for payload in _payload(again.fields(tensor), kind):
            digest.update(payload)
    return digest.hexdigest()


def sha256_without_metadata(data: bytes) -> str:
    """SHA-256 of the whole file but its ``metadata_props``: the network's structure as well as its weights."""
    digest = hashlib.sha256()
    for field in _Walk().fields(memoryview(data)):
        if field.number != _METADATA:
            digest.update(field.whole)
    return digest.hexdigest()


def interface(data: bytes) -> Interface:
    """The graph's inputs, outputs and operator sets."""
    walk = _Walk()
    inputs, outputs = (tuple(walk.value(value) for graph in walk.messages(memoryview(data), _GRAPH)
                             for value in walk.messages(graph, number)) for number in (_INPUT, _OUTPUT))
    opsets = dict[str, int]()
    for one in walk.messages(memoryview(data), _OPSET):
        parts = {part.number: part for part in walk.fields(one)}
        version = parts[2].value if 2 in parts else 0
        opsets[_text(parts[1]) if 1 in parts else ""] = version if isinstance(version, int) else 0
    return Interface(inputs, outputs, opsets)


class _Walk:
    """One walk through a file; counts the fields it reads, and gives up at :data:`MAX_FIELDS`."""

    def __init__(self) -> None:
        self.fields_read = 0

    def fields(self, data: memoryview) -> Iterator[_Field]:
        """The fields of one message, in the file's order."""
        at, end = 0, len(data)
        while at < end:
            self.fields_read += 1
            if self.fields_read > MAX_FIELDS:
                raise ModelError(f"more than {MAX_FIELDS} fields; {NOT_OURS}")
            tag, start = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise ModelError(f"{NO_MODEL} (field number {number})")
            value: int | memoryview
            if wire == _VARINT:
                value, after = _varint(data, start)
            else:
                after = start + {_FIXED64: 8, _FIXED32: 4}.get(wire, 0)
                if wire == _BYTES:
                    length, start = _varint(data, start)
                    after = start + length
                elif after == start:
                    raise ModelError(f"{NO_MODEL} (field {number} is of no kind that there is)")
                if after > end:
                    raise ModelError(f"{CUT_OFF} (a field is longer than the file)")
                value = data[start:after]
            yield _Field(number, wire, value, data[at:after])
            at = after

    def messages(self, data: memoryview, number: int) -> Iterator[memoryview]:
        """The messages under one field number."""
        for field in self.fields(data):
            if field.number == number:
                yield _bytes_of(field)

    def entry(self, field: _Field) -> tuple[str, str]:
        """(key, value) of a StringStringEntryProto."""
        parts = {part.number: _text(part) for part in self.fields(_bytes_of(field)) if part.number in (1, 2)}
        return parts.get(1, ""), parts.get(2, "")

    def inside(self, data: memoryview, *numbers: int) -> Iterator[memoryview]:
        """The messages under one field number after the other, from the outside inwards."""
        first, *rest = numbers
        for message in self.messages(data, first):
            yield from self.inside(message, *rest) if rest else (message,)

    def value(self, data: memoryview) -> Value:
        """A ValueInfoProto, of a tensor."""
        name = next((_text(field) for field in self.fields(data) if field.number == 1), "")
        kind = next((field.value for tensor in self.inside(data, 2, 1) for field in self.fields(tensor)
                     if field.number == 1 and isinstance(field.value, int)), 0)
        return Value(name, _ELEMENTS.get(kind, f"type {kind}"),
                     tuple(self._size(axis) for axis in self.inside(data, 2, 1, 2, 1)))

    def _size(self, axis: memoryview) -> int | str:
        """Of a TensorShapeProto.Dimension."""
        for field in self.fields(axis):
            if field.number in (1, 2):
                return field.value if isinstance(field.value, int) else _text(field)
        return ""

    def tensors(self, data: memoryview, kind: str, depth: int = 0) -> Iterator[memoryview]:
        """Every TensorProto at any depth below a message of ``kind``."""
        if depth > MAX_DEPTH:
            raise ModelError(f"messages nested more than {MAX_DEPTH} deep; {NOT_OURS}")
        if kind == "tensor":
            yield data
            return
        children = _CHILDREN[kind]
        for field in self.fields(data):
            if field.number in children:
                yield from self.tensors(_bytes_of(field), children[field.number], depth + 1)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """(number, position after it); at most ten bytes, as protobuf has it."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise ModelError(f"{CUT_OFF} (a number does not end)")


def _bytes_of(field: _Field) -> memoryview:
    if not isinstance(field.value, memoryview) or field.wire != _BYTES:
        raise ModelError(f"{NO_MODEL} (field {field.number} is of another kind than ONNX's)")
    return field.value


def _text(field: _Field) -> str:
    try:
        return str(_bytes_of(field), "utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"{NO_MODEL} (text that is not UTF-8)") from error


def _name_and_type(tensor: Iterator[_Field]) -> tuple[str, int | None]:
    """Of a TensorProto; the last of each counts, as protobuf has it."""
    name, kind = "", None
    for field in tensor:
        if field.number == _TENSOR_NAME:
            name = _text(field)
        elif field.number == _DATA_TYPE and isinstance(field.value, int):
            kind = field.value
    return name, kind


def _payload(tensor: Iterator[_Field], kind: int | None) -> Iterator[bytes | memoryview]:
    """A tensor's data as bytes, whichever of the seven ways it is stored in."""
    narrow = None if kind is None else _NARROW.get(kind)
    for field in tensor:
        if field.number in _PLAIN_DATA:
            yield field.value if isinstance(field.value, memoryview) else b""
        elif field.number in _VARINT_DATA:
            width = min(_VARINT_DATA[field.number], narrow or 8)
            packed = field.value if isinstance(field.value, memoryview) else field.whole[_varint(field.whole, 0)[1] :]
            yield _decode_varints(packed).astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def _decode_varints(packed: memoryview) -> NDArray[np.uint64]:
    """All numbers of a packed field at once."""
    raw = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if not len(ends) or ends[-1] != len(raw) - 1:
        if len(raw):
            raise ModelError(f"{CUT_OFF} (a number does not end)")
        return np.zeros(0, np.uint64)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise ModelError(f"{NO_MODEL} (a number of more than ten bytes)")
    out = np.zeros(len(ends), np.uint64)
    for position in range(int(lengths.max())):
        longer = lengths > position
        part = (raw[starts[longer] + position] & 0x7F).astype(np.uint64)
        out[longer] |= part << np.uint64(7 * position)
    return out


def _message(number: int, payload: bytes) -> bytes:
    """One length-delimited field."""
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(payload)) + payload


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
