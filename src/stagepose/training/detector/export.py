"""A trained detector -> one self-describing ONNX file, checked against the torch model before it is written.

H W picture size, n boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from stagepose import files
from stagepose.errors import ModelError
from stagepose.modelinfo import ModelInfo, stamp
from stagepose.runtime import Detector as Detect
from stagepose.structures import Detections
from stagepose.training.detector.config import STRIDE_MULTIPLE
from stagepose.training.detector.inference import PictureDetector, numpy_detector
from stagepose.training.detector.model import Detector
from stagepose.training.export import torch_to_onnx
from stagepose.training.storage import Bits, store_weights

OPSET = 18  # the first whose Resize has antialias; RoiAlign's half_pixel (aligned=True) came with 16
CONFIDENT = 0.1  # boxes of at least this score are compared; near the floor, a rounding decides who is kept

Picture = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What counts as the same box: within ``box`` pixels of the network's input and ``score``.

    A share of ``unmatched`` boxes is forgiven: where two overlap just so much, a rounding decides which one NMS keeps.
    """

    box: float
    score: float
    unmatched: float


SAME_ARITHMETIC = Tolerance(box=0.1, score=5e-3, unmatched=0.02)  # measured .01 px: the order of additions differs
SAME_DETECTOR = Tolerance(box=6.0, score=0.06, unmatched=0.1)  # 16-bit weights, another antialiasing of the resize


@dataclass(frozen=True)
class Difference:
    """Between two detectors' confident boxes on some pictures: how many were compared, how many have no twin within

    the tolerance, and how far the twins lie apart (input pixels, score).
    """

    compared: int
    unmatched: int
    box: float
    score: float

    def require(self, path: str | Path, tolerance: Tolerance) -> None:
        """:class:`ModelError` when there is nothing to compare, or more than rounding lies between the two."""
        if not self.compared:
            raise ModelError(f"{path}: the detector finds nobody on the pictures that the export is checked with; "
                             "give pictures with people (--pictures)")
        if self.unmatched > tolerance.unmatched * self.compared:
            raise ModelError(f"{path}: {self.unmatched} of {self.compared} boxes of the exported detector differ by "
                             f"more than {tolerance.box} px or {tolerance.score} in score from the trained one's; "
                             "nothing was written")


@dataclass(frozen=True)
class ExportedDetector:
    """What was written, and two comparisons with torch.

    ``graph``: float32 weights and plain resizing. ``stored``: the file, with its fewer bits and ONNX Runtime's own
    antialiasing, which differs from torch's by a few grey levels at edges.
    """

    path: Path
    megabytes: float
    graph: Difference
    stored: Difference


def export_detector(model: Detector, path: str | Path, info: ModelInfo, *, bits: Bits = 16,
                    pictures: Sequence[Picture] = ()) -> ExportedDetector:
    """Write picture (H, W, 3) uint8 -> boxes (n, 4), scores (n,); resizing and NMS are inside.

    What the model itself knows is filled into ``info``: its size, thresholds, cost and digests. Weights take so many
    ``bits``. Compared on ``pictures``, else on drawn ones. Raises :class:`ModelError` where ONNX Runtime finds other
    boxes than torch.
    """
    pictures = pictures or drawn_pictures()
    traced = to_onnx(model, pictures[0])
    side = model.config.long_side
    plain = numpy_detector(PictureDetector(model, antialias=False))
    graph = compare(plain, traced, pictures, SAME_ARITHMETIC, long_side=side)
    graph.require(path, SAME_ARITHMETIC)
    known = replace(info, input_size=(side, side), detector=describe(model))
    data = antialiased(traced)
    data = stamp(store_weights(data, bits), known)
    stored = compare(numpy_detector(PictureDetector(model)), data, pictures, SAME_DETECTOR, long_side=side)
    stored.require(path, SAME_DETECTOR)
    files.write_bytes(path, data)
    return ExportedDetector(Path(path), len(data) / 1e6, graph, stored)


def describe(model: Detector) -> dict[str, Any]:
    """The detector's own values in the model file."""
    c = model.config
    short = math.ceil(0.75 * c.long_side / STRIDE_MULTIPLE) * STRIDE_MULTIPLE
    return {"long_side": c.long_side, "trunk": c.trunk, "categories": c.categories, **asdict(c.keeping),
            "gmacs_of_4_to_3": round(count_macs(model, short, c.long_side) / 1e9, 3)}


def to_onnx(model: Detector, picture: Picture) -> bytes:
    """The TorchScript exporter's graph (dynamo=True fails on torchvision's detectors), resizing without antialias."""
    return torch_to_onnx(PictureDetector(model, antialias=False), (torch.from_numpy(np.array(picture)),),
                         inputs=["picture"], outputs=["boxes", "scores"], opset=OPSET,
                         dynamic={"picture": {0: "height", 1: "width"}, "boxes": {0: "n"}, "scores": {0: "n"}})


def antialiased(data: bytes) -> bytes:
    """Set ``antialias`` on the first Resize, the picture's; the pyramid's own upsampling comes after it."""
    graph = onnx.load_model_from_string(data)
    resize = next((node for node in graph.graph.node if node.op_type == "Resize"), None)
    if resize is None:
        raise ModelError("the traced detector has no Resize: its picture was not resized inside the graph")
    resize.attribute.append(onnx.helper.make_attribute("antialias", 1))
    return bytes(graph.SerializeToString())


def onnx_detector(data: bytes) -> onnxruntime.InferenceSession:
    """A quiet CPU session."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def compare(detect: Detect, data: bytes, pictures: Sequence[Picture], tolerance: Tolerance, *,
            long_side: int) -> Difference:
    """The file's boxes against torch's, both ways round; in pixels of a picture whose long side is ``long_side``."""
    session = onnx_detector(data)
    gaps = [np.zeros((0, 2))]
    for picture in pictures:
        expected = detect(picture)
        boxes, scores = session.run(None, {"picture": picture})
        found = Detections(boxes=boxes, scores=scores)
        scale = long_side / max(picture.shape[:2])
        gaps += [_gaps(expected, found, scale), _gaps(found, expected, scale)]
    gap = np.concatenate(gaps)
    twin = (gap[:, 0] <= tolerance.box) & (gap[:, 1] <= tolerance.score)
    box, score = gap[twin].max(0, initial=0.0)
    return Difference(len(gap), int((~twin).sum()), float(box), float(score))


def _gaps(some: Detections, others: Detections, scale: float) -> NDArray[np.float64]:
    """Distance (input pixels, score) of every confident box of ``some`` to its nearest in ``others``, (n, 2)."""
    gaps = []
    for box, score in zip(some.boxes, some.scores, strict=True):
        if score < CONFIDENT:
            continue
        distances = np.abs(others.boxes - box).max(1, initial=0.0) * scale
        nearest = int(distances.argmin()) if len(others) else -1
        gaps.append((distances[nearest], abs(others.scores[nearest] - score)) if len(others) else (np.inf, np.inf))
    return np.array(gaps, dtype=np.float64).reshape(-1, 2)


def drawn_pictures(seed: int = 0) -> list[Picture]:
    """Soft blobs in several shapes: landscape, portrait, larger and smaller than the detector's own size."""
    rng = np.random.default_rng(seed)
    pictures = []
    for height, width in ((480, 640), (640, 427), (200, 300), (900, 1300)):
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 9, 9)))
        fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255)
        pictures.append(np.ascontiguousarray(fine[0].permute(1, 2, 0).numpy().astype(np.uint8)))
    return pictures


def count_macs(model: Detector, height: int, width: int) -> int:
    """Multiply-adds of one picture of this network input, the head at its number of test proposals included."""
    config, training = model.config, model.training
    looks = config.keeping.proposals + config.keeping.second_looks
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = model.eval().maps(torch.zeros(1, 3, height, width))
        model.proposals.head(list(maps.values()))
        model.head.box_predictor(model.head.box_head(torch.zeros(looks, config.width, config.pool, config.pool)))
    model.train(training)
    return int(counter.get_total_flops()) // 2
