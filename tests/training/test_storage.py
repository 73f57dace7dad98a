"""Weights in fewer bits: a smaller file, weights nearly as they were, and nothing left to do for ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from stagepose.errors import ModelError
from stagepose.training.storage import ROW_FROM, store_weights, stored_weights

rng = np.random.default_rng(0)
WEIGHTS = {
    "wide": rng.normal(size=(24, 16, 3, 3)) * np.geomspace(1e-3, 1e3, 24)[:, None, None, None],  # channels unlike
    "depthwise": rng.normal(size=(24, 1, 5, 5)),
    "bias": rng.normal(size=24),
    "dense": rng.normal(size=(10, 24)),
}
WEIGHTS = {name: values.astype(np.float32) for name, values in WEIGHTS.items()}
WEIGHTS["wide"][3] = 0  # a channel that was pruned away
WEIGHTS["wide"][4] = 1e-44  # and one that is nearly so


@pytest.fixture(scope="module")
def data():
    nodes = [helper.make_node("Conv", ["x", "wide", "bias"], ["a"], pads=[1, 1, 1, 1]),
             helper.make_node("Conv", ["a", "depthwise"], ["b"], group=24, pads=[2, 2, 2, 2]),
             helper.make_node("GlobalAveragePool", ["b"], ["c"]), helper.make_node("Flatten", ["c"], ["d"]),
             helper.make_node("Gemm", ["d", "dense"], ["y"], transB=1)]
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(values, name) for name, values in WEIGHTS.items()])
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_weights_come_back_as_they_were_up_to_rounding(data, bits):
    back = stored_weights(store_weights(data, bits))
    assert back.keys() == WEIGHTS.keys()
    for name, values in WEIGHTS.items():
        largest = np.abs(values).max(tuple(range(1, values.ndim)), keepdims=True)
        step = {8: np.maximum(largest / 127, np.finfo(np.float32).tiny),
                16: np.float32(2**-10) * np.abs(values) + np.float32(1e-7), 32: 0}[bits]
        assert back[name].dtype == np.float32
        assert (np.abs(back[name] - values) <= step / 2 * 1.001).all(), name


def test_few_numbers_a_channel_keep_16_bits(data):
    def types(bits):
        return {tensor.name: tensor.data_type
                for tensor in onnx.load_model_from_string(store_weights(data, bits)).graph.initializer}

    assert WEIGHTS["depthwise"][0].size < ROW_FROM < WEIGHTS["wide"][0].size
    assert types(8) == {"wide.int8": TensorProto.INT8, "wide.scale": TensorProto.FLOAT, "bias": TensorProto.FLOAT,
                        "depthwise.fp16": TensorProto.FLOAT16, "dense": TensorProto.FLOAT}
    assert types(32) == dict.fromkeys(WEIGHTS, TensorProto.FLOAT)


def test_onnx_runtime_folds_it_away_when_it_loads_the_file(data, tmp_path):
    """No layer may pay for it in every picture."""
    def operators(bits):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(tmp_path / f"{bits}.onnx")
        onnxruntime.InferenceSession(store_weights(data, bits), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]

    assert operators(8) == operators(16) == operators(32)


def test_other_numbers_of_bits_are_refused(data):
    with pytest.raises(ModelError, match="bits is 4, expected 8, 16 or 32"):
        store_weights(data, 4)
