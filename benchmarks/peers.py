"""Two published networks behind StagePose's own signatures, so that one predictor and one judge serve all.

Both are Apache-2.0 and small enough for a CPU: PP-TinyPose 256x192 (PaddleDetection; an OpenVINO file) finds keypoints,
RTMDet-nano 320 (MMPose; an ONNX file) finds people. StagePose never depends on them: ``pip install openvino`` first.
N crops, K keypoints, H W pixels, h w heatmap size, M boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stagepose.aliases import Float
from stagepose.heatmaps import UdpDark
from stagepose.modelinfo import ModelInfo
from stagepose.skeleton import COCO_17
from stagepose.structures import Detections

TINYPOSE_FILE = "tinypose_256.xml"
RTMDET_FILE = "rtmdet_nano.onnx"

Precision = Literal["f32", "default"]  # "default" is OpenVINO's: bfloat16 where the CPU multiplies it faster


def _floats(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class TinyPoseCodec(UdpDark):
    """DARK's decoding with its 11x11 blur, but heatmap pixel i stands at crop pixel 4 i, as in MSRA's."""

    name: ClassVar[str] = "tinypose"
    flip_shift: ClassVar[int] = 1

    @property
    def pitch(self) -> Float:
        return np.array([self.stride, self.stride], dtype=np.float64)


class TinyPose:
    """PP-TinyPose as a pose network: uint8 RGB crops (N, 256, 192, 3) -> heatmaps (N, 17, 64, 48)."""

    MEAN, STD = _floats(0.485, 0.456, 0.406), _floats(0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]
    SIZE = 192, 256
    info = ModelInfo(kind="pose", name="PP-TinyPose", input_size=SIZE, skeleton=COCO_17,
                     codec=TinyPoseCodec(input_size=SIZE))

    def __init__(self, path: Path, threads: int, precision: Precision = "f32") -> None:
        import openvino

        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if precision == "f32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self._network = openvino.Core().compile_model(path, "CPU", options)
        self.precision = self._network.get_property("INFERENCE_PRECISION_HINT").to_string()

    def __call__(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The file is made for one crop at a time."""
        inputs_N3HW = ((crops_NHW3 / np.float32(255) - self.MEAN) / self.STD).transpose(0, 3, 1, 2)
        return np.stack([self._network(np.ascontiguousarray(one)[None])[0][0] for one in inputs_N3HW])


class RtmdetNano:
    """RTMDet-nano as a person detector: one uint8 RGB picture -> at most 50 boxes in its pixels, best first."""

    SIDE, GREY = 320, 114  # the picture is scaled into the top left of a grey square
    MEAN, STD = _floats(103.53, 116.28, 123.675), _floats(57.375, 57.12, 58.395)  # BGR
    STRIDES = 8, 16, 32
    FLOOR, NMS_IOU, MOST = 0.02, 0.6, 50

    def __init__(self, path: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def __call__(self, image_HW3: NDArray[np.uint8]) -> Detections:
        square, scale = self._letterbox(image_HW3)
        values = (square[..., ::-1] - self.MEAN) / self.STD
        outputs = self._session.run(None, {self._input: np.ascontiguousarray(values.transpose(2, 0, 1)[None])})
        parts = [self._boxes(out[0], stride) for out, stride in zip(outputs, self.STRIDES, strict=True)]
        boxes_M4, scores_M = (np.concatenate(column) for column in zip(*parts, strict=True))
        xywh_M4 = np.column_stack([boxes_M4[:, :2], boxes_M4[:, 2:] - boxes_M4[:, :2]])
        kept = np.asarray(cv2.dnn.NMSBoxes(xywh_M4.tolist(), scores_M.tolist(), self.FLOOR, self.NMS_IOU), dtype=int)
        height, width = image_HW3.shape[:2]
        inside = np.clip(boxes_M4[kept].astype(np.float64) / scale, 0, [width, height, width, height])
        return Detections(boxes=inside, scores=scores_M[kept]).best(self.MOST)

    def _letterbox(self, image_HW3: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
        height, width = image_HW3.shape[:2]
        scale = self.SIDE / max(height, width)
        square = np.full((self.SIDE, self.SIDE, 3), self.GREY, dtype=np.uint8)
        small = cv2.resize(image_HW3, (round(width * scale), round(height * scale)))
        square[: small.shape[0], : small.shape[1]] = small
        return square, scale

    def _boxes(self, out_hw5: NDArray[np.float32], stride: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Boxes (M, 4) and scores (M,) above the floor: distances go left, top, right, bottom from a cell's corner."""
        scores_hw = 1 / (1 + np.exp(-out_hw5[..., 0]))
        rows, columns = np.nonzero(scores_hw > self.FLOOR)
        corners = np.column_stack([columns, rows]).astype(np.float32) * stride
        distances = out_hw5[rows, columns, 1:]
        return np.column_stack([corners - distances[:, :2], corners + distances[:, 2:]]), scores_hw[rows, columns]
