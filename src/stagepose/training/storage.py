"""How many bits the weights of a model file take; all are computed with in 32.

ONNX Runtime folds what is said here into float32 weights once, when it loads a file: only its size and the rounding
differ. Smaller arithmetic is another matter, and a deployer's (docs/deploy.md).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stagepose.aliases import Float32
from stagepose.errors import ModelError

Bits = Literal[8, 16, 32]
HALF, EIGHTH, SCALE = ".fp16", ".int8", ".scale"  # end the names of what a weight is stored as
HALF_FROM = 256  # initializers of at least this many numbers are worth a Cast
ROW_FROM = 64  # numbers that share a scale; depthwise kernels have 9 or 25, and suffer most from rounding
LARGEST = 127  # of 8 bits with a sign, the same on both sides of zero


class _Stored(NamedTuple):
    """A weight as it lies in the file, and the nodes that make it of that."""

    tensors: list[TensorProto]
    nodes: list[onnx.NodeProto]


def store_weights(data: bytes, bits: Bits) -> bytes:
    """An ONNX file's bytes with its large float32 initializers in so many bits; :func:`stored_weights` reads them.

    In 8 bits every row (of a convolution: every output channel) has a scale of its own, and short rows keep 16.
    """
    if bits not in (8, 16, 32):
        raise ModelError(f"bits is {bits}, expected 8, 16 or 32")
    if bits == 32:
        return data
    model = onnx.load_model_from_string(data)
    graph = model.graph
    stored = [_stored(tensor, bits) for tensor in graph.initializer]
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensor for each in stored for tensor in each.tensors)
    graph.node.extend([*(node for each in stored for node in each.nodes), *nodes])
    return bytes(model.SerializeToString())


def stored_weights(data: bytes) -> dict[str, Float32]:
    """The float weights of an ONNX file's bytes, by the names that its layers know them by, in 32 bits."""
    graph = onnx.load_model_from_string(data).graph
    known: dict[str, NDArray[Any]] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    parts: set[str] = set()  # what weights are made of
    for node in graph.node:
        if node.op_type not in ("Identity", "Cast", "Mul") or any(name not in known for name in node.input):
            continue
        first, *others = (known[name].astype(np.float32) for name in node.input)
        known[node.output[0]] = first * others[0] if others else first
        parts.update(node.input if node.op_type != "Identity" else ())
    return {name: values.astype(np.float32) for name, values in known.items()
            if values.dtype.kind == "f" and name not in parts}


def _stored(tensor: TensorProto, bits: Bits) -> _Stored:
    values = numpy_helper.to_array(tensor)
    if tensor.data_type != TensorProto.FLOAT or values.size < HALF_FROM:
        return _Stored([tensor], [])
    if bits == 16 or values.ndim < 2 or values[0].size < ROW_FROM:
        return _in_16(tensor.name, values)
    return _in_8(tensor.name, values)


def _in_16(name: str, values: NDArray[Any]) -> _Stored:
    limit = float(np.finfo(np.float16).max)
    half = numpy_helper.from_array(np.clip(values, -limit, limit).astype(np.float16), name + HALF)
    return _Stored([half], [helper.make_node("Cast", [half.name], [name], to=TensorProto.FLOAT)])


def _in_8(name: str, values: NDArray[Any]) -> _Stored:
    """A channel's largest weight becomes 127; a Cast and a product, for ORT folds a DequantizeLinear only if told."""
    largest = np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True)
    scale = np.maximum(largest / LARGEST, np.finfo(np.float32).tiny, dtype=np.float32)  # a channel may be all zeros
    tensors = [numpy_helper.from_array(np.rint(values / scale).astype(np.int8), name + EIGHTH),
               numpy_helper.from_array(scale, name + SCALE)]
    cast = name + EIGHTH + ".cast"
    return _Stored(tensors, [helper.make_node("Cast", [name + EIGHTH], [cast], to=TensorProto.FLOAT),
                             helper.make_node("Mul", [cast, name + SCALE], [name])])
