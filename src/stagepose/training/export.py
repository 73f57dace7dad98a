"""torch -> one self-describing ONNX file, checked against the torch model before it gets its final name."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from stagepose import files
from stagepose.errors import ModelError, StagePoseError
from stagepose.geometry import Size
from stagepose.modelinfo import ModelInfo, stamp
from stagepose.training.graphs import padded_convolutions
from stagepose.training.inference import NumpyHeatmaps, PoseInference
from stagepose.training.networks.attention import in_parts
from stagepose.training.storage import Bits, store_weights

OPSET = 17
MAX_PARITY_ERROR = 0.05  # of a heatmap's range: 16-bit weights move it by about .01, other weights by 1 and more
MAX_ROUNDED = 0.6  # in 8 bits, which move it by .25 where nobody is, and leave the AP
OTHERWISE = ("build what does this of other operators: its weights stay, the run does too, and 'stagepose export' goes "
             "on from there")
PEOPLE = "people"  # the one axis of a pose network's input and output that the file leaves open
OPERATOR = re.compile(r"(?:operator '?|when translating )([\w:]+)")  # as the exporter's errors name it


@dataclass(frozen=True)
class Exported:
    """What was written, and the largest difference to the torch model, as a share of the outputs' range."""

    path: Path
    megabytes: float
    max_difference: float


def export_pose(model: PoseInference, path: str | Path, info: ModelInfo, *, bits: Bits = 16) -> Exported:
    """Write a pose network with its description; the digests in ``info`` are filled in.

    Weights are stored in so many ``bits``. Raises :class:`ModelError` when ONNX Runtime's heatmaps of drawn pictures
    differ from torch's by more than ``MAX_PARITY_ERROR`` of their range. In 8 bits that is asked before the weights are
    rounded, and ``MAX_ROUNDED`` after it.
    """
    sample = drawn_crops(info.input_size)
    skeleton, codec = info.heatmaps_of
    traced = torch_to_onnx(model, (torch.from_numpy(sample),), inputs=["crops"], outputs=["heatmaps"],
                           dynamic={"crops": {0: PEOPLE}, "heatmaps": {0: PEOPLE}})
    graph = with_output_shape(traced, (PEOPLE, len(skeleton), *codec.heatmap_size[::-1]))
    expected = NumpyHeatmaps(model)(sample)
    data = stamp(store_weights(graph, bits), info)
    rounded = [(graph, MAX_PARITY_ERROR), (data, MAX_ROUNDED)]
    for written, most in rounded if bits == 8 else [(data, MAX_PARITY_ERROR)]:
        difference = parity(written, {"crops": sample}, [expected])
        if difference > most:
            raise ModelError(f"{path}: the exported network differs from the trained one by {difference:.3g}, "
                             f"more than {most}; nothing was written")
    files.write_bytes(path, data)
    return Exported(Path(path), len(data) / 1e6, difference)


def drawn_crops(size: Size, seed: int = 0) -> NDArray[np.uint8]:
    """(4, H, W, 3): soft coloured blobs on which a network answers differently from place to place."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)
    return np.stack([cv2.resize(c, size, interpolation=cv2.INTER_CUBIC) for c in coarse])


def torch_to_onnx(model: nn.Module, example: tuple[Any, ...], *, inputs: list[str], outputs: list[str],
                  dynamic: Mapping[str, Mapping[int, str]], opset: int = OPSET) -> bytes:
    """The TorchScript exporter: batch norm folded, no external data, no second framework needed.

    :class:`ModelError` where a network computes something that it cannot write.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), in_parts(), _no_dump():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecation and of every traced shape
        try:
            torch.onnx.export(model.eval(), example, buffer,  # type: ignore[arg-type]
                              input_names=inputs, output_names=outputs,
                              dynamic_axes={k: dict(v) for k, v in dynamic.items()}, opset_version=opset, dynamo=False)
        except StagePoseError:
            raise
        except Exception as error:  # of any type: what translates an operator may fail at anything
            raise _unwritten(error) from error
    return padded_convolutions(buffer.getvalue())


def with_output_shape(data: bytes, shape: Sequence[str | int]) -> bytes:
    """An ONNX file's bytes whose one output is declared with these sizes, names where the file leaves them open.

    The exporter knows sizes only as far as constants reach: it calls the height of heatmaps ``people`` too.
    """
    model = onnx.load_model_from_string(data)
    [output] = model.graph.output
    kind = output.type.tensor_type.elem_type
    output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, list(shape)))
    return bytes(model.SerializeToString())


@contextmanager
def _no_dump() -> Iterator[None]:
    """Where it fails, the exporter prints the whole graph before anybody is asked, whatever its log is set to."""
    usual = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = usual


def _unwritten(error: Exception) -> ModelError:
    """What the exporter says in a page, in a line that names the operator, where it is one."""
    text = str(error)
    operator, reason = OPERATOR.search(text), (text.strip() or type(error).__name__).splitlines()[0].split(". ")[0]
    named = f"{operator[1]}: " if operator and operator[1] not in reason else ""
    return ModelError(f"the network cannot be written as ONNX: {named}{reason.rstrip('. ')}; {OTHERWISE}")


def parity(data: bytes, feed: Mapping[str, NDArray[Any]], expected: list[NDArray[Any]]) -> float:
    """Largest difference between ONNX Runtime's outputs and ``expected``, infinite for other shapes and for NaN.

    Each map (the last two axes) is measured by its own range: a softmax over thousands of pixels is tiny everywhere.
    :class:`ModelError` where ONNX Runtime does not take the network.
    """
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        found = session.run(None, dict(feed))
    except Exception as error:  # each of its faults has a class of its own
        raise ModelError(f"ONNX Runtime does not take the exported network: {str(error).splitlines()[0]}; the node's "
                         f"name says which layer it was written for: {OTHERWISE}") from error
    if any(f.shape != e.shape or not np.isfinite(f).all() for f, e in zip(found, expected, strict=True)):
        return float("inf")
    worst = 0.0
    for f, e in zip(found, expected, strict=True):
        span = e.max((-2, -1)) - e.min((-2, -1))
        difference = np.abs(f.astype(np.float64) - e).max((-2, -1))
        worst = max(worst, float((difference / np.maximum(span, 1e-12)).max(initial=0)))
    return worst


