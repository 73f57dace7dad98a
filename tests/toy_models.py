"""Tiny real ONNX models without weights worth the name, so that everything from a photo to people can be tested.

``TOY`` people face us and have three joints: a red dot is the nose, a green one in the right half of their crop the
left hand, one in the left half the right hand. So a mirrored picture shows the mirrored person, and RGB is not BGR.
The detector boxes what is not black in the left and in the right half of a picture.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from stagepose.heatmaps import Codec, Msra
from stagepose.modelinfo import ModelInfo, stamp
from stagepose.skeleton import COCO_17, Skeleton

TOY = Skeleton(
    name="toy3",
    names=("nose", "left_hand", "right_hand"),
    flip_pairs=(("left_hand", "right_hand"),),
    limbs=(("nose", "left_hand"), ("nose", "right_hand")),
    sigmas=(0.05, 0.08, 0.08),
)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 255, 0))  # RGB of each joint's dot
INPUT_SIZE = (96, 128)
DOT = 8  # radius in pixels
LIT = 16.0  # the detector's idea of not black
LEFT_SCORE, RIGHT_SCORE = 0.9, 0.8

Node = onnx.NodeProto


def pose_bytes(**changes: Any) -> bytes:
    """The dot finder as a StagePose model file; ``changes`` are fields of its :class:`ModelInfo`."""
    return stamp(dot_finder().SerializeToString(), pose_info(**changes))


def pose_info(**changes: Any) -> ModelInfo:
    codec: Codec = Msra(input_size=INPUT_SIZE)
    fields: dict[str, Any] = {"kind": "pose", "name": "toy-pose", "skeleton": TOY, "input_size": INPUT_SIZE,
                              "codec": codec, "licence": "Apache-2.0", "training_data": ("none",)}
    return ModelInfo(**{**fields, **changes})


def detector_bytes() -> bytes:
    """The finder of whatever is not black as a StagePose model file."""
    info = ModelInfo(kind="detector", name="toy-detector", input_size=(640, 640), detector={"lit": LIT})
    return stamp(lit_halves().SerializeToString(), info)


def coco_bytes(**changes: Any) -> bytes:
    """A network with COCO's 17 joints; it finds all of them at the reddest spot."""
    everywhere = np.ones((len(COCO_17), INPUT_SIZE[0] // 4))
    model = dot_finder(np.tile(RED, (len(COCO_17), 1)), everywhere)
    return stamp(model.SerializeToString(), pose_info(**{"skeleton": COCO_17, "name": "toy-coco", **changes}))


RED, GREEN = np.array([1.0, -1.0, -1.0]), np.array([-1.0, 1.0, -1.0])
TOY_COLOURS = np.stack([RED, GREEN, GREEN])
RIGHT_HALF = (np.arange(INPUT_SIZE[0] // 4) >= INPUT_SIZE[0] // 8).astype(float)
TOY_PLACES = np.stack([RIGHT_HALF * 0 + 1, RIGHT_HALF, 1 - RIGHT_HALF])


def dot_finder(colours_K3: NDArray[np.float64] = TOY_COLOURS,
               where_Kw: NDArray[np.float64] = TOY_PLACES) -> onnx.ModelProto:
    """Crops -> how much of each joint's pure colour lies around each fourth pixel, 0 to 1."""
    w, h = INPUT_SIZE
    kernel = (colours_K3 / 255).astype(np.float32)[:, :, None, None]
    where = where_Kw.astype(np.float32)[None, :, None]
    nodes = [
        helper.make_node("Cast", ["crops"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["coloured"]),
        helper.make_node("Relu", ["coloured"], ["positive"]),
        helper.make_node("AveragePool", ["positive"], ["pooled"], kernel_shape=[9, 9], strides=[4, 4],
                         pads=[4, 4, 4, 4], count_include_pad=1),
        helper.make_node("Mul", ["pooled", "where"], ["heatmaps"]),
    ]
    return _model(nodes, {"kernel": kernel, "where": where}, {"crops": (TensorProto.UINT8, ["N", h, w, 3])},
                  {"heatmaps": (TensorProto.FLOAT, ["N", len(kernel), h // 4, w // 4])})


def lit_halves() -> onnx.ModelProto:
    """Picture -> the box of what is brighter than ``LIT`` in each half of it, if anything is."""
    constants: dict[str, NDArray[Any]] = {
        "lit": np.float32(LIT), "half": np.float32(0.5), "zero": np.float32(0), "one": np.float32(1),
        "far": np.float32(1e6), "minus": np.float32(-1e6), "scores": np.array([LEFT_SCORE, RIGHT_SCORE], np.float32),
        "first": np.array([0]), "second": np.array([1]), "izero": np.int64(0), "ione": np.int64(1),
        "channel": np.array([2]), "rows": np.array([1]), "columns": np.array([2]), "last": np.array([1]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        node("ReduceMax", ["real"], ["bright"], axes=[2], keepdims=0),
        node("Greater", ["bright", "lit"], ["is_lit"]),
        node("Unsqueeze", ["is_lit", "first"], ["lit_1HW"]),
        node("Shape", ["bright"], ["shape"]),
        node("Gather", ["shape", "izero"], ["height"]),
        node("Gather", ["shape", "ione"], ["width"]),
        node("Range", ["izero", "width", "ione"], ["x_int"]),
        node("Range", ["izero", "height", "ione"], ["y_int"]),
        node("Cast", ["x_int"], ["x"], to=TensorProto.FLOAT),
        node("Cast", ["y_int"], ["y"], to=TensorProto.FLOAT),
        node("Cast", ["width"], ["width_f"], to=TensorProto.FLOAT),
        node("Mul", ["width_f", "half"], ["middle"]),
        node("Less", ["x", "middle"], ["left_W"]),
        node("Not", ["left_W"], ["right_W"]),
        node("Unsqueeze", ["left_W", "first"], ["left_1W"]),
        node("Unsqueeze", ["right_W", "first"], ["right_1W"]),
        node("Concat", ["left_1W", "right_1W"], ["halves_2W"], axis=0),
        node("Unsqueeze", ["halves_2W", "second"], ["halves_21W"]),
        node("And", ["lit_1HW", "halves_21W"], ["masks_b"]),
        node("Cast", ["masks_b"], ["masks"], to=TensorProto.FLOAT),
        *_extent("x", "masks", axis=1),
        *_extent("y", "masks", axis=2),
        node("Concat", ["x_low", "y_low", "x_high", "y_high"], ["all_boxes"], axis=1),
        node("Greater", ["x_high", "x_low"], ["found_21"]),
        node("Squeeze", ["found_21", "last"], ["found"]),
        node("Compress", ["all_boxes", "found"], ["boxes"], axis=0),
        node("Compress", ["scores", "found"], ["kept_scores"], axis=0),
    ]
    return _model(nodes, constants, {"image": (TensorProto.UINT8, ["H", "W", 3])},
                  {"boxes": (TensorProto.FLOAT, ["M", 4]), "kept_scores": (TensorProto.FLOAT, ["M"])})


def _extent(name: str, masks: str, axis: int) -> list[Node]:
    """First and last-plus-one position along one axis of each mask (2, H, W), as (2, 1)."""
    node = helper.make_node
    return [
        node("ReduceMax", [masks], [f"{name}_seen"], axes=[axis], keepdims=0),
        node("Greater", [f"{name}_seen", "zero"], [f"{name}_hit"]),
        node("Where", [f"{name}_hit", name, "far"], [f"{name}_from"]),
        node("ReduceMin", [f"{name}_from"], [f"{name}_low"], axes=[1], keepdims=1),
        node("Add", [name, "one"], [f"{name}_next"]),
        node("Where", [f"{name}_hit", f"{name}_next", "minus"], [f"{name}_to"]),
        node("ReduceMax", [f"{name}_to"], [f"{name}_high"], axes=[1], keepdims=1),
    ]


def _model(nodes: list[Node], constants: dict[str, Any], inputs: dict[str, Any],
           outputs: dict[str, Any]) -> onnx.ModelProto:
    def values(named: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, *kind) for name, kind in named.items()]

    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", values(inputs), values(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def dots(people_NK2: object, size: tuple[int, int] = (320, 240), radius: int = DOT) -> NDArray[np.uint8]:
    """A black RGB picture (H, W, 3) of ``size`` (width, height) with every person's three dots."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    for person in np.asarray(people_NK2, dtype=np.float64).reshape(-1, len(TOY), 2):
        for (px, py), colour in zip(person, COLOURS, strict=True):
            image[(x - px) ** 2 + (y - py) ** 2 <= radius**2] = colour
    return image


def png(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


ONE = np.array([[[80.0, 60.0], [110.0, 140.0], [50.0, 150.0]]])  # a person in the left half of 320 x 240
TWO = np.concatenate([ONE, [[[240.0, 80.0], [262.0, 190.0], [208.0, 160.0]]]])  # and one in the right half
