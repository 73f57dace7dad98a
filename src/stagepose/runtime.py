"""ONNX Runtime sessions behind two small classes: crops -> heatmaps, and a picture -> person boxes.

A file is checked (:func:`stagepose.modelinfo.verify`) before a session opens it. Pixels are uint8 RGB, never BGR.
N crops, H W pixels, K keypoints, h w heatmap size.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn, Self, TypeAlias

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stagepose.cores import available_cores
from stagepose.errors import ConfigError, ModelError
from stagepose.geometry import Size
from stagepose.lines import in_short, printable
from stagepose.modelinfo import ModelInfo, ModelKind, verify
from stagepose.names import meant
from stagepose.runfiles import CONFIG
from stagepose.structures import Detections

SESSION_ENTRIES = {
    "session.load_model_format": "ONNX",  # never ORT's own, which we do not check
    # A session's threads spin after their work, waiting for more, and would take the cores from the other session,
    # whose turn it is: pictures would take twice as long (benchmarks/spinning.md)
    "session.force_spinning_stop": "1",
}

PoseNetwork = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # RGB crops (N, H, W, 3) -> heatmaps (N, K, h, w)
Detector = Callable[[NDArray[np.uint8]], Detections]  # one RGB picture (H, W, 3) -> boxes in its pixels, in any order
Model: TypeAlias = str | Path | bytes | bytearray | memoryview  # a shipped name, a file, or what a file holds
Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]  # a name, or a pair of it and that provider's own options
Providers: TypeAlias = str | Sequence[Provider] | None

BYTES = bytes, bytearray, memoryview
WEIGHTS = Path(__file__).parent / "weights"  # the models that ship: NAME.onnx
PRESETS = frozenset({"pose-large", "pose-slim", "person-tiny", "person-medium", "person-resnet50"})  # not shipped
_INSTEAD = "pip uninstall onnxruntime, pip install"
PACKAGES = {  # what a provider is for, and the package that has it; docs/deploy.md
    "cuda": f"NVIDIA GPUs: {_INSTEAD} onnxruntime-gpu",
    "tensorrt": f"TensorRT: install its libraries, {_INSTEAD} onnxruntime-gpu",
    "coreml": "Apple's CoreML: use onnxruntime on macOS",
    "dml": f"DirectML on Windows: {_INSTEAD} onnxruntime-directml",
    "openvino": f"Intel's OpenVINO: {_INSTEAD} onnxruntime-openvino",
}
OTHER_NAMES = {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt", "directml": "dml", "mps": "coreml"}
NEVER_LISTED = "AzureExecutionProvider"  # in every ONNX Runtime, but runs nothing locally: it calls a service
MOST_THREADS = 1024  # more than the cores of any machine: a slip, which would cost memory before it fails
EXPORT_AGAIN = "Network and description do not belong together; 'stagepose export' writes both"
EARLIER_STEP = "Export it again from an earlier step: stagepose export RUN --step N"
LOG_ERRORS = 3  # ONNX Runtime's severity scale
MIN_SIDE = 8  # pixels; nobody can be recognised in a narrower picture
MAX_ASPECT = 8.0  # a narrower picture is padded with black, or its short side would vanish when resized
SHRINK_TO = 2.0  # times the detector's own size: larger pictures are shrunk by area before it resizes them itself


class _Opened:
    """What holds a session. Nothing in it changes, so a copy is itself; another process has to open its own."""

    source: str

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise ModelError(f"{self.source}: an open model cannot be pickled or sent to another process; call "
                         "stagepose.load() in each process, as in the initializer of a pool")


class PoseModel(_Opened):
    """A pose network: uint8 RGB crops of ``info.input_size`` -> heatmaps whose ideal peak is 1.

    ``batch`` is how many crops its file takes at once, where that is fixed; None, as in StagePose's own files: any.
    """

    def __init__(self, source: Model, *, threads: int | None = None, providers: Providers = None) -> None:
        self.source = _label(source)
        self.info, self._session = _open(source, "pose", threads, providers)
        self.skeleton, self.codec = self.info.heatmaps_of
        w, h = self.info.input_size
        map_w, map_h = self.codec.heatmap_size
        _expect(self.source, self._session.get_inputs(), [("tensor(uint8)", (None, h, w, 3))])
        self.batch = _fixed(self._session.get_inputs()[0].shape[0])
        heatmaps = self.batch, len(self.skeleton), map_h, map_w
        _expect(self.source, self._session.get_outputs(), [("tensor(float)", heatmaps)])

    def __call__(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K, h, w) float32; N may be 0. A network with a fixed ``batch`` is run on so many at a time."""
        w, h = self.info.input_size
        crops = np.ascontiguousarray(crops_NHW3)
        if crops.dtype != np.uint8 or crops.shape[1:] != (h, w, 3):
            raise ModelError(f"{self.source}: crops are {crops.dtype} {crops.shape}, expected uint8 (N, {h}, {w}, 3)")
        if not len(crops):
            map_w, map_h = self.codec.heatmap_size
            return np.zeros((0, len(self.skeleton), map_h, map_w), np.float32)
        if self.batch is None:
            return self._heatmaps(crops)
        filled = np.pad(crops, ((0, -len(crops) % self.batch), (0, 0), (0, 0), (0, 0)))
        parts = [self._heatmaps(filled[i : i + self.batch]) for i in range(0, len(filled), self.batch)]
        return np.concatenate(parts)[: len(crops)]

    def _heatmaps(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of one run."""
        map_w, map_h = self.codec.heatmap_size
        shape = len(crops_NHW3), len(self.skeleton), map_h, map_w
        maps = _run(self.source, self._session, crops_NHW3)[0]
        if maps.shape != shape:
            raise ModelError(f"{self.source}: heatmaps have shape {maps.shape}, expected {shape}. {EXPORT_AGAIN}")
        return np.asarray(maps, dtype=np.float32)


class PoseEnsemble:
    """Several pose networks as one: the mean of their heatmaps, which must be of the same crops and codec."""

    def __init__(self, models: Sequence[PoseModel]) -> None:
        self.models = tuple(models)
        first = self.models[0]
        for other in self.models[1:]:
            _expect_alike(first, other)
        self.source = " + ".join(model.source for model in self.models)
        infos = [model.info for model in self.models]
        self.info = replace(first.info, name=" + ".join(info.name for info in infos),
                            threshold=fmean(info.shown_from for info in infos))

    def __call__(self, crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K, h, w) float32."""
        total = self.models[0](crops_NHW3)
        for model in self.models[1:]:
            total = total + model(crops_NHW3)
        return np.asarray(total / len(self.models), dtype=np.float32)


class DetectorModel(_Opened):
    """A person detector: one uint8 RGB picture of any size -> boxes in its pixels, best first."""

    def __init__(self, source: Model, *, threads: int | None = None, providers: Providers = None) -> None:
        self.source = _label(source)
        self.info, self._session = _open(source, "detector", threads, providers)
        _expect(self.source, self._session.get_inputs(), [("tensor(uint8)", (None, None, 3))])
        height, width, _ = self._session.get_inputs()[0].shape
        if _fixed(height) or _fixed(width):
            raise ModelError(f"{self.source}: takes only pictures of height {height} and width {width}; pictures have "
                             f"any size, and the detector resizes them itself. Leave both open in the file: "
                             "'stagepose export' does")
        _expect(self.source, self._session.get_outputs(),
                [("tensor(float)", (None, 4)), ("tensor(float)", (None,))])

    def __call__(self, image_HW3: NDArray[np.uint8]) -> Detections:
        """Boxes within the picture; none in one narrower than :data:`MIN_SIDE`."""
        height, width = image_HW3.shape[:2]
        if min(height, width) < MIN_SIDE:
            return Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0))
        prepared, scale_xy = _prepare(image_HW3, round(SHRINK_TO * max(self.info.input_size)))
        boxes, scores = _run(self.source, self._session, prepared)
        if scores.ndim != 1 or boxes.shape != (len(scores), 4):
            raise ModelError(f"{self.source}: boxes of shape {boxes.shape} and scores of {scores.shape}, expected "
                             f"(n, 4) and (n,). {EXPORT_AGAIN}")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ModelError(f"{self.source}: NaN or infinite boxes or scores; its weights are broken. {EARLIER_STEP}")
        boxes = np.asarray(boxes, dtype=np.float64) * np.tile(scale_xy, 2)
        boxes = np.clip(boxes, 0, np.array([width, height, width, height]))
        found = Detections(boxes=boxes, scores=np.asarray(scores, dtype=np.float64))
        return found.best(len(found))


def _expect_alike(first: PoseModel, other: PoseModel) -> None:
    """:class:`ModelError` where two networks' heatmaps cannot be averaged."""
    parts: list[tuple[str, Any, Any]] = [
        ("keypoints", list(first.skeleton.names), list(other.skeleton.names)),
        ("heatmap codec", first.codec.to_json(), other.codec.to_json()),
        ("box padding", first.info.box_padding, other.info.box_padding),
    ]
    for what, ours, theirs in parts:
        if ours != theirs:
            raise ModelError(f"{other.source}: its {what} is {theirs}, that of {first.source} is {ours}; only networks "
                             "of the same keypoints, codec, input size and padding can be averaged")


def shipped(kind: ModelKind | None = None) -> list[str]:
    """Names of the included models, all or those of one kind."""
    names = sorted(path.stem for path in WEIGHTS.glob("*.onnx"))
    return [name for name in names if kind is None or read_info(name).kind == kind]


def resolve(name_or_path: str | Path, kind: ModelKind | None = None) -> Path:
    """The file of a shipped name or a path; :class:`ModelError` lists the included models of the wanted ``kind``."""
    try:
        return _resolved(name_or_path, kind)
    except OSError as error:  # a name too long, a folder that may not be entered
        raise ModelError(f"model {printable(name_or_path)!r}: {error.strerror}; check the path and its permissions"
                         ) from error


def _resolved(name_or_path: str | Path, kind: ModelKind | None) -> Path:
    if isinstance(name_or_path, str) and (WEIGHTS / f"{name_or_path}.onnx").parent == WEIGHTS:
        inside = WEIGHTS / f"{name_or_path}.onnx"
        if inside.is_file():
            return inside
    path = Path(name_or_path)
    if not path.is_file():
        _refuse_left_out(name_or_path)
        if (path / CONFIG).is_file():
            raise ModelError(f"model {str(name_or_path)!r}: a run folder; make a model file of it: {export_line(path)}")
        what = "is not a file" if path.exists() else "no such file"
        names = shipped(kind)
        near = meant(str(name_or_path), names)
        guess = (" It is a preset of 'stagepose train', and does not ship." if name_or_path in PRESETS
                 else f" Did you mean {near[0]!r}?" if near else "")
        raise ModelError(f"model {str(name_or_path)!r}: {what}.{guess} Give the path of an .onnx file or one of the "
                         f"names that ship: {', '.join(names) or 'none in this build'}")
    return path


def _refuse_left_out(name: str | Path) -> None:
    """:class:`ModelError` for the name of a model that the package should have, but was installed without."""
    if not isinstance(name, str) or name in PRESETS or Path(name).name != name or Path(name).suffix:
        return
    has_card = (WEIGHTS / f"{name}.md").is_file()
    if not Path(name).exists() and (has_card or not shipped()):
        raise ModelError(f"model {name!r}: {printable(WEIGHTS / f'{name}.onnx')} is missing: StagePose was packed or "
                         "installed without its models. Install it again; a frozen application has to bundle them "
                         "(PyInstaller: --collect-data stagepose); or give the path of an .onnx file")


def export_line(run: Path) -> str:
    """The command that exports a run folder, quoted for a shell."""
    return printable(f"stagepose export {shlex.quote(str(run))} --out MODEL.onnx")


def read_info(source: Model) -> ModelInfo:
    """A model's description, checked as for use but without opening a session."""
    return _read(source, None)[0]


def _label(source: Model) -> str:
    """What messages call it."""
    return "model" if isinstance(source, BYTES) else printable(source)


def _read(source: Model, kind: ModelKind | None) -> tuple[ModelInfo, bytes]:
    """(description, bytes) of a model file; :class:`ModelError` with its path in front.

    ``kind`` is the one wanted, for what an error lists; the caller checks whether the file is of that kind.
    """
    if not isinstance(source, (str, os.PathLike, *BYTES)):
        raise ModelError(f"model: got a {type(source).__name__}; give a name that ships ({', '.join(shipped(kind))}), "
                         "the path of an .onnx file, or the bytes of one")
    if isinstance(source, BYTES):
        data = bytes(source)
    else:
        path = resolve(source, kind)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{printable(path)}: cannot read: {error.strerror}; check its permissions") from error
    try:
        return verify(data), data
    except ModelError as error:
        raise ModelError(f"{_label(source)}: {error}") from error


def _open(source: Model, kind: ModelKind, threads: int | None,
          providers: Providers) -> tuple[ModelInfo, ort.InferenceSession]:
    info, data = _read(source, kind)
    if info.kind != kind:
        raise ModelError(f"{_label(source)}: a {info.kind} model ({info.name!r}), where a {kind} model is expected")
    chosen, options = _providers(providers), _options(threads)
    try:
        # Its fallback would print on standard output, and go on on the CPU behind the user's back
        session = ort.InferenceSession(data, options, providers=chosen, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common root below Exception
        raise ModelError(f"{_label(source)}: ONNX Runtime cannot open it: {in_short(error)}") from error
    missing = sorted({name for name, _ in chosen} - set(session.get_providers()))
    if missing:
        raise ModelError(f"{_label(source)}: ONNX Runtime could not start {missing}; it has fallen back to "
                         f"{session.get_providers()}. Install its libraries, or leave providers out")
    return info, session


def _options(threads: int | None) -> ort.SessionOptions:
    is_count = isinstance(threads, (int, np.integer)) and not isinstance(threads, bool)
    if threads is not None and not (is_count and 1 <= threads <= MOST_THREADS):
        raise ConfigError(f"threads is {threads}; use a whole number from 1 to {MOST_THREADS:,}, or leave it out for "
                          f"all {available_cores()} cores")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = LOG_ERRORS
    options.enable_cpu_mem_arena = False  # the arena keeps all it ever took: 495 MB instead of 317, no faster
    for entry, value in SESSION_ENTRIES.items():
        options.add_session_config_entry(entry, value)
    return options


def _providers(wanted: Providers) -> list[tuple[str, dict[str, Any]]]:
    """Execution providers by their ONNX Runtime names or shorter (``cuda``), each with its options; by default the CPU.

    :class:`ModelError` for one that is not in this ONNX Runtime, :class:`ConfigError` for what names none.
    """
    if wanted is None or isinstance(wanted, str):
        wanted = ["cpu" if wanted is None else wanted]
    if not isinstance(wanted, Sequence) or not wanted:
        raise ConfigError(f"providers is {wanted!r}; give a name such as 'cuda' or a list of some, or leave it out for "
                          "the CPU")
    pairs = [_with_options(one) for one in wanted]
    have = ort.get_available_providers()
    by_short_name = {name.removesuffix("ExecutionProvider").lower(): name for name in have}
    chosen = [(name if name in have else by_short_name.get(name.lower(), ""), options) for name, options in pairs]
    missing = [name for (name, _), (found, _) in zip(pairs, chosen, strict=True) if not found]
    if missing:
        raise ModelError(f"providers {[name for name, _ in pairs]}: not all are in this ONNX Runtime, which has "
                         f"{[name for name in have if name != NEVER_LISTED]}{_advice(missing[0], by_short_name)}")
    return chosen


def _advice(missing: str, there: Collection[str]) -> str:
    """What to do about a name that this ONNX Runtime lacks; ``there`` are the short names of what it has."""
    word, _, device = missing.lower().removesuffix("executionprovider").partition(":")
    name = OTHER_NAMES.get(word, word)
    if name in there and not device:
        return f"; did you mean {name!r}?"
    told = ""
    if name in PACKAGES and name not in there:
        told = f"; for {PACKAGES[name]}" + (f", then name {name!r}" if name != word else "")
    if device and (name in PACKAGES or name in there):
        option = {"device_type": device.upper()} if name == "openvino" else {
            "device_id": int(device) if device.isdecimal() else device}
        told += f"; a device is an option: providers=[({name!r}, {option})]"
        told += f", on the command line CUDA_VISIBLE_DEVICES={device}" if name in ("cuda", "tensorrt") else ""
    return told


def _with_options(provider: object) -> tuple[str, dict[str, Any]]:
    match provider:
        case str():
            return provider, {}
        case [str() as name, Mapping() as options]:
            return name, dict(options)
    raise ConfigError(f"providers: {provider!r} is none; give a name such as 'cuda', or a pair (name, options)")


def _run(source: str, session: ort.InferenceSession, value: NDArray[np.uint8]) -> list[NDArray[Any]]:
    try:
        return list(session.run(None, {session.get_inputs()[0].name: value}))
    except Exception as error:  # as above
        raise ModelError(f"{source}: failed on an input of shape {value.shape}: {in_short(error)}") from error


def _fixed(size: object) -> int | None:
    """A size that a file declares; None where it leaves it open, by a name or by nothing."""
    return size if isinstance(size, int) and size > 0 else None


def _expect(source: str, found: Sequence[Any], wanted: Sequence[tuple[str, tuple[int | None, ...]]]) -> None:
    """Inputs or outputs must have these types and shapes; None, or a name in the file, is any size."""
    def fits(arg: Any, kind: str, shape: tuple[int | None, ...]) -> bool:
        return arg.type == kind and len(arg.shape) == len(shape) and all(
            s is None or not isinstance(have, int) or have == s for have, s in zip(arg.shape, shape, strict=True))

    if len(found) != len(wanted) or not all(fits(a, *w) for a, w in zip(found, wanted, strict=True)):
        have = [(arg.name, arg.type, arg.shape) for arg in found]
        raise ModelError(f"{source}: the network has {have}, expected {list(wanted)}. {EXPORT_AGAIN}")


def _prepare(image: NDArray[np.uint8], limit: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """(picture for the detector, (x, y) original pixels per pixel of it): shrunk to ``limit``, padded if narrow."""
    height, width = image.shape[:2]
    scale = min(1.0, limit / max(height, width))
    size: Size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    least = math.ceil(max(size) / MAX_ASPECT)
    down, right = max(0, least - size[1]), max(0, least - size[0])
    if down or right:
        image = np.pad(image, ((0, down), (0, right), (0, 0)))
    return np.ascontiguousarray(image), np.array([width / size[0], height / size[1]])
