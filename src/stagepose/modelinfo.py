"""What a model file says about itself: the JSON in its ``metadata_props["stagepose"]``, parsed and written back."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from stagepose import onnxfile
from stagepose.errors import ModelError, StagePoseError
from stagepose.filekinds import HEAD, VIDEO, kind_of
from stagepose.geometry import BOX_PADDING, Padding, Size, read_padding
from stagepose.heatmaps import Codec, codec_from_json
from stagepose.jsonkeys import object_of
from stagepose.lines import printable
from stagepose.numeric import is_real, is_whole
from stagepose.skeleton import Skeleton

KEY = "stagepose"  # the entry of metadata_props
FORMAT = 1  # of the JSON; a reader refuses what is newer
MOST_SIDE = 16_384  # pixels that a network sees a side; more is a slip, which would cost memory before it fails

TOO_DEEP = "its metadata is nested too deeply, as StagePose writes none; give a file of 'stagepose export'"
MEND = "Copy, download or export the file again, or, if its metadata was edited on purpose, mend that field"
CHANGED = ("the file is corrupted, or was changed. Copy or download it again, or, if it was changed on purpose "
           "(simplified, quantised, its batch fixed), sign it again with stagepose.modelinfo.stamp: docs/deploy.md, "
           "'Changing a file'")

LFS = b"version https://git-lfs"
OTHERS = (  # where, with what, and what a file is then
    (0, b"<?xml", "XML (of OpenVINO?)"),
    (0, b"<!", "a web page (a download that failed?)"),
    (0, b"<html", "a web page (a download that failed?)"),
    (0, b"{", "JSON"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x89HDF", "an HDF5 file (of Keras?)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "a model in ONNX Runtime's own format"),
)

USUAL_THRESHOLD = 0.5  # of a person, where a model has none of its own; benchmarks/threshold.md

ModelKind = Literal["pose", "detector"]


_PIXELS = {"dtype": "uint8", "colour": "RGB", "normalisation": "inside"}
PIXELS: Mapping[ModelKind, Mapping[str, str]] = {  # what a model of each kind is fed, as its file says it
    "pose": {"layout": "NHWC", **_PIXELS}, "detector": {"layout": "HWC", **_PIXELS}}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A pose model's or a detector's description; ``pose`` needs ``skeleton`` and ``codec``.

    ``input_size`` (width, height): of the crops of a pose model; of a detector the size that it works at inside.
    ``network`` is what ``stagepose networks`` calls a pose model's, by which it can be made again and learn on;
    ``stages`` what the name does not say: how many are in a row, how they are joined, and which are read.
    ``threshold`` is the least score of a person whom a pose model finds that is worth showing, where the model has one
    of its own. ``detector`` holds a detector's own values, such as its thresholds; ``extra`` what else the JSON had.
    ``input`` says what the network is fed, for programs without StagePose; older files lack it, :func:`stamp` adds it.
    """

    kind: ModelKind
    name: str
    input_size: Size
    skeleton: Skeleton | None = None
    codec: Codec | None = None
    network: str = ""
    stages: Mapping[str, Any] = field(default_factory=dict)
    box_padding: Padding = BOX_PADDING
    threshold: float | None = None
    licence: str = ""
    training_data: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    detector: Mapping[str, Any] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    graph_sha256: str = ""
    info_sha256: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._refuse_other_kinds()
        if self.kind not in get_args(ModelKind):
            raise ModelError(f"kind is {self.kind!r}; expected one of {', '.join(get_args(ModelKind))}")
        try:
            object.__setattr__(self, "box_padding", read_padding(self.box_padding))
        except ValueError as error:
            raise ModelError(f"box_padding is {self.box_padding!r}; {error}") from error
        if self.threshold is not None:
            if not (is_real(self.threshold) and 0 <= self.threshold <= 1):
                raise ModelError(f"threshold is {self.threshold!r}; expected a score, a number from 0 to 1")
            object.__setattr__(self, "threshold", float(self.threshold))
        for key, ours in PIXELS[self.kind].items():
            if self.input.get(key, ours) != ours:
                raise ModelError(f"input.{key} is {self.input[key]!r}; StagePose feeds a {self.kind} model {ours!r} "
                                 "alone")
        if self.kind == "pose":
            if self.skeleton is None or self.codec is None:
                missing = "skeleton" if self.skeleton is None else "codec"
                raise ModelError(f"{missing} is missing; a pose model needs a skeleton and a codec")
            if self.codec.input_size != self.input_size:
                raise ModelError(f"codec.input_size is {self.codec.input_size}, the model's is {self.input_size}")

    def _refuse_other_kinds(self) -> None:
        """What is no text, no object of names and values and so on where one is expected."""
        for part in ("name", "network", "licence", "sha256", "graph_sha256", "info_sha256"):
            if not isinstance(getattr(self, part), str):
                raise ModelError(f"{part} is {getattr(self, part)!r}; expected text")
        if not isinstance(self.training_data, tuple) or not all(isinstance(text, str) for text in self.training_data):
            raise ModelError(f"training_data is {self.training_data!r}; expected a list of texts")
        for part in ("stages", "metrics", "detector", "input", "extra"):
            if not isinstance(getattr(self, part), Mapping):
                raise ModelError(f"{part} is {getattr(self, part)!r}; expected an object of names and values")
            _refuse_endless("" if part == "extra" else part, getattr(self, part))
        if not isinstance(self.input.get("name", ""), str):
            raise ModelError(f"input.name is {self.input['name']!r}; expected text")
        size = self.input_size
        if not (isinstance(size, tuple) and len(size) == 2 and all(is_whole(n) and 1 <= n <= MOST_SIDE for n in size)):
            raise ModelError(f"input_size is {size!r}; expected width and height, whole numbers of pixels from 1 to "
                             f"{MOST_SIDE:,}")

    @property
    def shown_from(self) -> float:
        """The least score of a person worth showing: the model's own, else the usual one."""
        return USUAL_THRESHOLD if self.threshold is None else self.threshold

    @property
    def identity(self) -> str:
        """The name, and what no other model has."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return f"{self.name} ({hashlib.sha256(text.encode()).hexdigest()[:12]})"

    @property
    def heatmaps_of(self) -> tuple[Skeleton, Codec]:
        """(skeleton, codec) of a pose model; :class:`ModelError` for a detector."""
        if self.skeleton is None or self.codec is None:
            raise ModelError(f"{self.name!r} is a {self.kind}, not a pose model")
        return self.skeleton, self.codec

    def to_json(self) -> dict[str, Any]:
        """A plain dict that :meth:`from_json` reads back."""
        known: dict[str, Any] = {
            "format": FORMAT, "kind": self.kind, "name": self.name, "input_size": list(self.input_size),
            "box_padding": list(self.box_padding) if isinstance(self.box_padding, tuple) else self.box_padding,
            "licence": self.licence, "training_data": list(self.training_data), "metrics": dict(self.metrics),
            "sha256": self.sha256, "graph_sha256": self.graph_sha256,
        }
        if self.skeleton is not None and self.codec is not None:
            known |= {"skeleton": self.skeleton.to_json(), "codec": self.codec.to_json()}
        if self.network:
            known["network"] = self.network
        if self.stages:
            known["stages"] = dict(self.stages)
        if self.threshold is not None:
            known["threshold"] = self.threshold
        if self.info_sha256:
            known["info_sha256"] = self.info_sha256
        if self.detector:
            known["detector"] = dict(self.detector)
        if self.input:
            known["input"] = dict(self.input)
        return {**self.extra, **known}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelInfo:
        """From the JSON's dict; :class:`ModelError` names the field that is missing or makes no sense."""
        version = data.get("format") if isinstance(data, Mapping) else None
        if is_whole(version) and version > FORMAT:
            raise ModelError(f"its format is {printable(version)}, this StagePose reads {FORMAT}; upgrade StagePose")
        try:
            return cls(**_fields(data))
        except RecursionError as error:
            raise ModelError(TOO_DEEP) from error
        except StagePoseError as error:
            raise ModelError(f"its metadata makes no sense: {printable(error)}. {MEND}") from error


def _fields(data: Any) -> dict[str, Any]:
    """The fields of :class:`ModelInfo` out of the JSON: as they are there, since its own checks look at them."""
    if not isinstance(data, Mapping):
        raise ModelError(f"it is {data!r}; expected an object of names and values")
    missing = [key for key in ("format", "kind", "name", "input_size") if key not in data]
    if missing:
        raise ModelError(f"{' and '.join(missing)} missing; every model has a format, kind, name and input_size")
    if not is_whole(data["format"]) or data["format"] != FORMAT:
        raise ModelError(f"format is {data['format']!r}; expected {FORMAT}")
    known = set(ModelInfo.__dataclass_fields__) - {"extra"}
    fields: dict[str, Any] = {key: value for key, value in data.items() if key in known}
    for key in ("input_size", "training_data"):
        if isinstance(fields.get(key), list):
            fields[key] = tuple(fields[key])
    for key, read in (("skeleton", Skeleton.from_json), ("codec", codec_from_json)):
        if fields.get(key) is not None:
            fields[key] = read(fields[key])
    return {**fields, "extra": {key: value for key, value in data.items() if key not in known | {"format"}}}


def _refuse_endless(where: str, value: object) -> None:
    """NaN and infinity, which JSON has not, named by the keys on the way to them."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_endless(f"{where}.{key}".lstrip("."), part)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            _refuse_endless(f"{where}[{number}]", part)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ModelError(f"{where} is {value}; expected a finite number")


def stamp(data: bytes, info: ModelInfo) -> bytes:
    """An ONNX file's bytes with ``info`` in them, the three digests filled in; :func:`verify` reads them back.

    A file that was changed on purpose is signed again so, with the description of the file that it was made of.
    """
    inputs = onnxfile.interface(data).inputs
    signed = replace(info, sha256=onnxfile.sha256_of_initializers(data),
                     graph_sha256=onnxfile.sha256_without_metadata(data),
                     input={**info.input, "name": inputs[0].name if inputs else "", **PIXELS[info.kind]})
    described = signed.to_json()
    described["info_sha256"] = _info_sha256(json.loads(json.dumps(described)))  # as a reader finds it
    text = json.dumps(described, allow_nan=False)  # in ASCII, since a word of a shell may be no Unicode
    return onnxfile.with_metadata(data, {KEY: text})


def verify(data: bytes) -> ModelInfo:
    """The description in an ONNX file's bytes, after everything that can be checked without running it.

    :class:`ModelError` without our metadata, with external data, or where a digest differs. A file that was edited on
    purpose may leave ``graph_sha256`` and ``info_sha256`` out; ``sha256`` of the weights must always fit.
    """
    _refuse_pickles(data)
    text = _text_of(data)
    onnxfile.refuse_external_data(data)
    try:
        described = json.loads(text, object_pairs_hook=object_of)
    except RecursionError as error:
        raise ModelError(TOO_DEEP) from error
    except ValueError as error:
        raise ModelError(f"its metadata is not valid JSON: {printable(error)}. {MEND}") from error
    info = ModelInfo.from_json(described)
    found = onnxfile.sha256_of_initializers(data)
    if found != info.sha256:
        told = printable(info.sha256[:16]) or "none"
        raise ModelError(f"sha256 of the weights is {found[:16]}..., the file says {told}...: {CHANGED}")
    if info.graph_sha256 and onnxfile.sha256_without_metadata(data) != info.graph_sha256:
        raise ModelError(f"sha256 of the network differs from graph_sha256 in the file: {CHANGED}")
    if info.info_sha256 and _info_sha256(described) != info.info_sha256:
        raise ModelError("sha256 of its metadata differs from info_sha256 there: the file is corrupted. Copy or "
                         "download it again, or, if it was edited on purpose, leave info_sha256 out")
    return info


def _info_sha256(described: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON of all other fields, sorted, whatever the blanks and the order in the file."""
    others = {key: value for key, value in described.items() if key != "info_sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def _text_of(data: bytes) -> str:
    """The JSON in the file; :class:`ModelError` says what else the file is, where its first bytes tell."""
    try:
        text = onnxfile.read_metadata(data).get(KEY)
    except ModelError as error:
        raise ModelError(_otherwise(data) or str(error)) from error
    if text is None:
        raise ModelError(_otherwise(data) or (
            f"no {KEY!r} entry in its metadata: not a StagePose model, or a tool has dropped the entry (sign it again: "
            "docs/deploy.md, 'Changing a file'). Other projects' models cannot be used as they are; their boxes can, "
            "with --boxes FILE"))
    return text


def _otherwise(data: bytes) -> str | None:
    """What a file is that is no model, and what to do; asked only of a file that is none, for a model may begin so."""
    if not data:
        return "the file is empty; copy or download it again"
    if data.startswith(LFS):
        return "this is a pointer of Git LFS, not the file itself; run: git lfs pull"
    kind = kind_of(data[:HEAD])
    what = next((name for at, start, name in OTHERS if data[at : at + len(start)] == start), None)
    if kind is not None:
        what = kind if kind == VIDEO else f"a picture ({kind})"
    return f"this is {what}, not a model; give an .onnx file written by 'stagepose export'" if what else None


def _first_name(data: bytes) -> bytes:
    """The name of the first file in a ZIP archive."""
    return data[30:30 + int.from_bytes(data[26:28], "little")]


def _refuse_pickles(data: bytes) -> None:
    """Name the usual wrong files. Nothing is ever unpickled here: a pickle can run any code."""
    is_zip = data[:4] == b"PK\x03\x04"
    if is_zip and b".pkl" not in (first := _first_name(data)):
        what = "an .npz of NumPy arrays" if first.endswith(b".npy") else "a ZIP archive (a PyTorch checkpoint?)"
        raise ModelError(f"this is {what}, without a network. Expected an .onnx file written by 'stagepose export'")
    if is_zip or (data[:1] == b"\x80" and data[1:2] in b"\x01\x02\x03\x04\x05" and len(data) > 1):
        raise ModelError("this is a pickle (a PyTorch checkpoint?), which can run code when opened, so it is not "
                         "opened. Expected an .onnx file written by 'stagepose export'")
    if data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        raise ModelError("these are safetensors weights without a network. 'stagepose export' makes an .onnx of a run")
