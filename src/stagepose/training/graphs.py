"""Rewriting an exported graph into one that computes the same and that ONNX Runtime runs faster."""

from __future__ import annotations

import onnx
from onnx import helper


def padded_convolutions(data: bytes) -> bytes:
    """Give TensorFlow's SAME padding to the strided convolutions themselves, and drop the Pad before each.

    A Pad of its own costs two changes of memory layout besides the copy: a fifth of a small detector's time. On even
    inputs, which all our networks have, kernel - stride pixels are added, an odd one at the bottom right.
    """
    model = onnx.load_model_from_string(data)
    graph = model.graph
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad" and readers.get(node.output[0]) == 1}
    for conv in list(graph.node):
        if conv.op_type != "Conv" or conv.input[0] not in pads:
            continue
        values = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
        kernel, stride, before = values["kernel_shape"][0], values["strides"][0], values.get("pads", [0] * 4)
        pad, total = pads[conv.input[0]], kernel - stride
        if any(before) or total < 1:
            continue
        kept = [a for a in conv.attribute if a.name != "pads"]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute("pads", [total // 2] * 2 + [total - total // 2] * 2)])
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)
    return bytes(model.SerializeToString())
