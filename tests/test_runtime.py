"""Model files and the sessions behind them."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from toy_models import (
    INPUT_SIZE,
    LEFT_SCORE,
    ONE,
    TOY,
    TWO,
    coco_bytes,
    detector_bytes,
    dot_finder,
    dots,
    lit_halves,
    pose_bytes,
    pose_info,
)

import stagepose
from stagepose import runtime
from stagepose.cores import available_cores
from stagepose.errors import ConfigError, ModelError, StagePoseError
from stagepose.heatmaps import Msra, UdpDark
from stagepose.modelinfo import PIXELS, ModelInfo, stamp, verify
from stagepose.runtime import DetectorModel, PoseModel, read_info, resolve
from stagepose.skeleton import COCO_17

FLIPS = 300


def crops(count: int, seed: int = 0) -> np.ndarray:
    w, h = INPUT_SIZE
    return np.random.default_rng(seed).integers(0, 256, (count, h, w, 3), dtype=np.uint8)


def test_info_survives_the_file() -> None:
    info = pose_info(metrics={"ap": 0.5}, training_data=("a", "b"), box_padding=1.1, extra={"colour": "RGB"})
    back = verify(stamp(dot_finder().SerializeToString(), info))
    assert back.to_json() == {**info.to_json(), "sha256": back.sha256, "graph_sha256": back.graph_sha256,
                              "info_sha256": back.info_sha256, "input": {"name": "crops", **PIXELS["pose"]}}
    assert back.skeleton == TOY and back.codec == Msra(input_size=INPUT_SIZE) and back.extra == {"colour": "RGB"}
    assert len(back.sha256) == 64


@pytest.mark.parametrize("name", ["größer", "a\nb", "\udcff"])  # the last as Python has a byte that is no UTF-8
def test_any_name_survives_the_file(name: str) -> None:
    assert verify(pose_bytes(name=name, training_data=(name,))).name == name


def test_a_pair_of_paddings_survives_the_file() -> None:
    info = pose_info(box_padding=(1.09, 1.135))
    back = verify(stamp(dot_finder().SerializeToString(), info))
    assert back.box_padding == (1.09, 1.135) and back.to_json()["box_padding"] == [1.09, 1.135]
    assert pose_info(box_padding=[1.09, 1.135]) == info
    assert "box_padding" in pose_info().to_json() and pose_info().to_json()["box_padding"] == 1.25


def test_detector_info_survives_the_file() -> None:
    info = verify(detector_bytes())
    assert info.kind == "detector" and info.detector == {"lit": 16.0} and info.skeleton is None
    with pytest.raises(ModelError, match="not a pose model"):
        _ = info.heatmaps_of


def test_a_new_file_says_what_its_network_is_fed_and_an_old_one_need_not() -> None:
    about = verify(detector_bytes())
    assert about.input == {"name": "image", "layout": "HWC", "dtype": "uint8", "colour": "RGB",
                           "normalisation": "inside"}
    old = {key: value for key, value in pose_info().to_json().items() if key != "input"}
    assert ModelInfo.from_json(old).input == {} and "input" not in ModelInfo.from_json(old).to_json()
    told = replace(pose_info(), input={"name": "x", "note": "y"})
    signed_again = verify(stamp(dot_finder().SerializeToString(), told))
    assert signed_again.input == {"name": "crops", "note": "y", **PIXELS["pose"]}


@pytest.mark.parametrize(("change", "message"), [
    ({"format": 2}, "format is 2.*upgrade"),
    ({"format": None}, "format is None; expected 1"), ({"format": True}, "format is True; expected 1"),
    ({"format": 0}, "format is 0; expected 1"),
    ({"kind": "spell"}, "kind is 'spell'; expected one of pose, detector"),
    ({"input_size": [96]}, r"input_size is \(96,\); expected width and height"),
    ({"input_size": [96, 128, 3]}, r"input_size is \(96, 128, 3\); expected width and height"),
    ({"input_size": [True, 128]}, r"input_size is \(True, 128\); expected width and height"),
    ({"input_size": [96, 10**400]}, "input_size is .* from 1 to 16,384"),
    ({"input_size": [192, 256]}, "codec.input_size"),
    ({"input_size": [1e400, 2]}, "whole numbers of pixels"),
    ({"input_size": [96.5, 128]}, "whole numbers of pixels"),
    ({"skeleton": None}, "needs a skeleton"),
    ({"skeleton": {"names": []}}, "makes no sense.*names"),
    ({"skeleton": {"names": ["a", "b", "a"]}}, r"names has \['a'\] more than once"),
    ({"skeleton": {"names": ["a", "b"], "sigmas": [0.1]}}, "sigmas has 1 values .* expected 2"),
    ({"codec": {"name": "magic"}}, "codec's name is 'magic'; use one of"),
    ({"codec": {"name": "msra"}}, "input_size is None, expected two whole numbers"),
    ({"codec": "msra"}, "makes no sense.*an object, got 'msra'"),
    ({"codec": {"name": "msra", "input_size": [96, 128], "flip_shift": True}}, "flip_shift is True, expected 1"),
    ({"codec": {"name": "msra", "input_size": [96, 128], "sigma": True}}, "'msra': sigma is True, expected 0.3 to 16"),
    ({"codec": {"name": "msra", "input_size": [96, 128], "kernel": 5}}, "it has no field kernel; its fields are"),
    ({"threshold": True}, "threshold is True; expected a score"),
    ({"threshold": "0.5"}, "threshold is '0.5'; expected"),
    ({"threshold": 1.5}, "threshold is 1.5; expected a score, a number from 0 to 1"),
    ({"training_data": "COCO"}, "training_data is 'COCO'; expected a list of texts"),
    ({"network": None}, "network is None; expected text"),
    ({"licence": ["CC0"]}, r"licence is \['CC0'\]; expected text"),
    ({"metrics": {"of": [{"ap": float("nan")}]}}, r"metrics\.of\[0\]\.ap is nan; expected a finite number"),
    ({"author": float("inf")}, "sense: author is inf; expected a finite number"),
    ({"box_padding": True}, "box_padding is True; expected a number, or a pair"),
    ({"box_padding": 10**400}, r"box_padding is .*; use 0\.5 to 4"),
    ({"box_padding": float("nan")}, "box_padding"),
    ({"box_padding": "wide"}, "box_padding is 'wide'; expected a number"),
    ({"box_padding": [1.1]}, r"box_padding is \[1\.1\]; expected a number, or a pair"),
    ({"box_padding": [1.1, 9]}, r"box_padding is \[1\.1, 9\]; use 0\.5 to 4"),
    ({"input": {"colour": "BGR"}}, r"input\.colour is 'BGR'; StagePose feeds a pose model 'RGB' alone"),
    ({"input": 5}, "input is 5; expected an object"), ({"input": {"name": 5}}, "input.name is 5; expected text"),
])  # fmt: skip
def test_metadata_that_makes_no_sense_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelInfo.from_json({**pose_info().to_json(), **change})


def test_heatmaps_have_the_promised_shape() -> None:
    model = PoseModel(pose_bytes(), threads=1)
    for count in (0, 1, 5):
        maps = model(crops(count))
        assert maps.shape == (count, 3, 32, 24) and maps.dtype == np.float32


def test_a_batch_gives_what_single_crops_give() -> None:
    model, batch = PoseModel(pose_bytes(), threads=1), crops(7)
    single = np.concatenate([model(crop[None]) for crop in batch])
    np.testing.assert_allclose(model(batch), single, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_run_in_parts_with_the_same_heatmaps(batch: int) -> None:
    """As ONNX Runtime's make_dynamic_shape_fixed writes a file, which some accelerators want."""
    plain = PoseModel(pose_bytes(), threads=1)
    model = PoseModel(stamp(with_sizes(dot_finder(), {"N": batch}), pose_info()), threads=1)
    assert (plain.batch, model.batch) == (None, batch)
    for count in (0, 1, 3, 4, 9):
        np.testing.assert_allclose(model(crops(count)), plain(crops(count)), atol=1e-6)
    found = stagepose.load(stamp(with_sizes(dot_finder(), {"N": batch}), pose_info()), detector_bytes(), threads=1)
    assert len(found(dots(TWO))[0]) == 2


def test_a_detector_of_pictures_of_one_size_is_refused_when_it_is_opened() -> None:
    data = stamp(with_sizes(lit_halves(), {"H": 480, "W": 640}), verify(detector_bytes()))
    with pytest.raises(ModelError, match=r"takes only pictures of height 480 and width 640; .* Leave both open"):
        DetectorModel(data, threads=1)


def with_sizes(model: onnx.ModelProto, sizes: dict[str, int]) -> bytes:
    """With the open sizes of inputs and outputs set."""
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in sizes:
                axis.dim_value = sizes[axis.dim_param]
    return bytes(model.SerializeToString())


def test_crops_may_be_views() -> None:
    model, batch = PoseModel(pose_bytes(), threads=1), crops(2)
    np.testing.assert_array_equal(model(batch[:, :, ::-1]), model(batch[:, :, ::-1].copy()))


@pytest.mark.parametrize("wrong", [crops(1)[:, :-4], crops(1).astype(np.float32), crops(1)[0], crops(1)[..., :1]])
def test_other_crops_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"expected uint8 \(N, 128, 96, 3\)"):
        PoseModel(pose_bytes(), threads=1)(wrong)


def test_detections_are_in_the_pictures_pixels() -> None:
    found = DetectorModel(detector_bytes(), threads=1)(dots(ONE))
    np.testing.assert_array_equal(found.boxes, [[42, 52, 119, 159]])  # first and last lit pixel, plus one: edges
    assert found.scores == pytest.approx([LEFT_SCORE])


def test_an_empty_picture_has_no_people() -> None:
    assert len(DetectorModel(detector_bytes(), threads=1)(dots([]))) == 0


def test_large_pictures_are_shrunk_and_boxes_grow_back() -> None:
    model = DetectorModel(detector_bytes(), threads=1)
    found = model(dots(TWO * 10, (3200, 2400), radius=80))
    np.testing.assert_allclose(found.boxes, [[420, 520, 1181, 1581], [2000, 720, 2701, 1981]], atol=4)


@pytest.mark.parametrize("size", [(1, 1), (2, 10_000), (7, 400), (400, 7)])
def test_slivers_have_no_people(size: tuple[int, int]) -> None:
    model = DetectorModel(detector_bytes(), threads=1)
    assert len(model(np.full((size[1], size[0], 3), 255, np.uint8))) == 0


def test_narrow_pictures_are_padded_and_boxes_stay_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = DetectorModel(detector_bytes(), threads=1), []
    real = runtime._run
    monkeypatch.setattr(runtime, "_run", lambda s, m, value: seen.append(value.shape) or real(s, m, value))
    found = model(np.full((20, 3000, 3), 200, np.uint8))
    assert seen == [(160, 1280, 3)]
    np.testing.assert_allclose(found.boxes, [[0, 0, 1500, 20], [1500, 0, 3000, 20]], atol=1)


@pytest.mark.parametrize(("boxes", "scores", "message"), [
    (np.zeros((2, 5)), np.zeros(2), r"boxes of shape \(2, 5\) and .*, expected \(n, 4\) and \(n,\)\. Network and desc"),
    (np.zeros((2, 4)), np.zeros(3), r"boxes of shape \(2, 4\) and scores of \(3,\), expected"),
    (np.zeros((2, 4)), np.zeros((2, 1)), r"and scores of \(2, 1\), expected"),
    (np.zeros((2, 4)), np.array([1, np.nan]), r"NaN or infinite boxes or scores; .* Export it again from an earlier"),
    (np.full((2, 4), np.inf), np.ones(2), "NaN or infinite boxes or scores"),
])  # fmt: skip
def test_what_are_no_boxes_is_named_with_the_remedy(boxes: np.ndarray, scores: np.ndarray, message: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may leave its outputs' sizes open, or tell others than its network gives."""
    model = DetectorModel(detector_bytes(), threads=1)
    monkeypatch.setattr(runtime, "_run", lambda *_: [boxes, scores])
    with pytest.raises(ModelError, match=f"^model: .*{message}"):
        model(dots(ONE))


def test_each_class_takes_its_own_kind() -> None:
    with pytest.raises(ModelError, match=r"a detector model .* where a pose model is expected"):
        PoseModel(detector_bytes())
    with pytest.raises(ModelError, match=r"a pose model .* where a detector model is expected"):
        DetectorModel(pose_bytes())


def test_a_network_that_does_not_fit_its_description_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected.*17"):
        PoseModel(pose_bytes(skeleton=COCO_17))
    with pytest.raises(ModelError, match="expected"):
        PoseModel(pose_bytes(input_size=(192, 256), codec=UdpDark(input_size=(192, 256))))
    swapped = ModelInfo(kind="detector", name="no", input_size=(1, 1))
    with pytest.raises(ModelError, match="expected"):
        DetectorModel(stamp(dot_finder().SerializeToString(), swapped))
    with pytest.raises(ModelError, match="expected"):
        PoseModel(stamp(lit_halves().SerializeToString(), pose_info()))


def test_a_changed_weight_or_node_is_a_digest_that_differs() -> None:
    data = bytearray(pose_bytes())
    weight = data.index(dot_finder().graph.initializer[0].raw_data)
    data[weight] ^= 1
    with pytest.raises(ModelError, match="sha256 of the weights"):
        PoseModel(bytes(data))
    data[weight] ^= 1
    data[data.index(b"Relu")] ^= 2
    with pytest.raises(ModelError, match="graph_sha256"):
        PoseModel(bytes(data))


def test_flipped_bytes_give_a_model_error_or_a_working_model(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, whole = random.Random(1), pose_bytes()
    real, opened = runtime._open, []
    monkeypatch.setattr(runtime, "_open", lambda *a: opened.append(real(*a)) or opened[-1])
    refused = 0
    for _ in range(FLIPS):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            model = PoseModel(bytes(data), threads=1)
        except ModelError:
            refused += 1
            continue
        assert model(crops(1)).shape[:2] == (1, len(model.skeleton))
    assert refused > FLIPS / 2 and len(opened) >= FLIPS - refused


def test_paths_names_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "ein modell ü.onnx"
    path.write_bytes(pose_bytes())
    assert PoseModel(path, threads=1).info == PoseModel(str(path), threads=1).info == read_info(path)
    assert read_info(coco_bytes()).skeleton == COCO_17


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_bytes_of_a_file_may_be_of_any_kind(kind: Callable[[bytes], bytes]) -> None:
    pose, detector = kind(pose_bytes()), kind(detector_bytes())
    assert read_info(pose) == read_info(pose_bytes())
    for models in (pose, [pose, pose]):
        assert len(stagepose.load(models, detector, threads=1)(dots(TWO))[0]) == 2
    with pytest.raises(ModelError, match=r"^model: a detector model"):
        PoseModel(detector)


def test_shipped_names_are_files_beside_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"'mine\.onnx': no such file.*none in this build"):
        resolve("mine.onnx")
    (tmp_path / "pose-tiny.onnx").write_bytes(pose_bytes())
    assert resolve("pose-tiny") == tmp_path / "pose-tiny.onnx" and read_info("pose-tiny").name == "toy-pose"
    with pytest.raises(ModelError, match="names that ship: pose-tiny"):
        resolve("pose-small")
    with pytest.raises(ModelError, match="no such file"):
        resolve("../" + tmp_path.name + "/pose-tiny")
    with pytest.raises(ModelError, match="is not a file"):
        resolve(tmp_path)


def test_a_package_without_its_models_names_the_file_that_is_missing(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a frozen application whose data was not collected, or in a wheel that was made without them."""
    monkeypatch.setattr(runtime, "WEIGHTS", tmp_path)
    message = (rf"'pose-small': {re.escape(str(tmp_path))}/pose-small\.onnx is missing: .* Install it again; .*"
               r"PyInstaller: --collect-data stagepose\); or give the path")
    with pytest.raises(ModelError, match=message):
        stagepose.load()
    (tmp_path / "pose-small.md").write_text("the card")
    (tmp_path / "person-small.onnx").write_bytes(detector_bytes())
    with pytest.raises(ModelError, match=message):
        stagepose.load()
    with pytest.raises(ModelError, match="'pose-smal': no such file"):
        stagepose.load("pose-smal")


def test_a_path_with_a_line_break_is_one_line_in_every_message(tmp_path: Path) -> None:
    path = tmp_path / "a\nb.onnx"
    for data, kind in ((b"", PoseModel), (pose_bytes(skeleton=COCO_17), PoseModel), (pose_bytes(), DetectorModel)):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"/a\\nb\.onnx: ") as error:
            kind(path, threads=1)
        assert str(error.value).isprintable()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        PoseModel(tmp_path / "pipe.onnx")


def test_threads_and_providers() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    assert PoseModel(pose_bytes(), threads=1, providers=["CPU"]).info.name == "toy-pose"
    assert PoseModel(pose_bytes(), providers=["CPUExecutionProvider"]).info.name == "toy-pose"
    for wrong in (0, -1, 2.5, "2", 10**10, True):
        with pytest.raises(ConfigError, match=rf"threads is {wrong}; use a whole number from 1 to 1,024, or leave"):
            PoseModel(pose_bytes(), threads=wrong)  # type: ignore[arg-type]
    assert PoseModel(pose_bytes(), providers="cpu").info.name == "toy-pose"
    with pytest.raises(ModelError, match=r"providers.*CPUExecutionProvider"):
        PoseModel(pose_bytes(), providers=["abacus"])
    for nothing in ([], {}, 5):
        with pytest.raises(ConfigError, match=rf"providers is {re.escape(repr(nothing))}; give a name such as 'cuda'"):
            PoseModel(pose_bytes(), providers=nothing)  # type: ignore[arg-type]
    for none in (None, ("cpu",), ("cpu", "cuda", {}), ("cpu", 5)):
        with pytest.raises(ConfigError, match=rf"providers: {re.escape(repr(none))} is none; give a name"):
            PoseModel(pose_bytes(), providers=["cpu", none])  # type: ignore[list-item]


def test_a_providers_own_options_go_on_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair of name and options is the form that ONNX Runtime itself takes."""
    real, given = ort.InferenceSession, []
    monkeypatch.setattr(ort, "InferenceSession",
                        lambda *session, providers, **how: given.append(providers) or real(*session, providers, **how))
    options = {"arena_extend_strategy": "kSameAsRequested"}
    stagepose.load(pose_bytes(), None, providers=[("CPUExecutionProvider", options)])
    stagepose.load(pose_bytes(), None, providers=[["cpu", options]])  # as JSON has pairs
    stagepose.load(pose_bytes(), None, providers="cpu")
    assert given == [[("CPUExecutionProvider", options)]] * 2 + [[("CPUExecutionProvider", {})]]
    with pytest.raises(ModelError, match=r"providers \['abacus'\]: not all are in this ONNX Runtime"):
        PoseModel(pose_bytes(), providers=[("abacus", options)])


def test_a_provider_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider", "CUDAExecutionProvider"])
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", _without_providers(ort.InferenceSession))
    with pytest.raises(ModelError, match=r"could not start \['CUDAExecutionProvider'\]"):
        PoseModel(pose_bytes(), providers=["cuda", "cpu"])


def _without_providers(real: type) -> object:
    return lambda data, options, providers, **how: real(data, options, providers=["CPUExecutionProvider"], **how)


def test_a_provider_that_fails_is_not_replaced_and_nothing_is_printed(monkeypatch: pytest.MonkeyPatch,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime's own way is four lines on standard output and the CPU, when a file is opened and in every run."""
    def fail(self: object, providers: object, *_: object) -> None:
        tried.append(providers)
        raise RuntimeError("no device")

    tried: list[object] = []
    assert not PoseModel(pose_bytes(), threads=1)._session._enable_fallback
    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(ModelError, match=r"^model: ONNX Runtime cannot open it: no device"):
        PoseModel(pose_bytes(), threads=1)
    assert len(tried) == 1 and capsys.readouterr() == ("", "")


def test_a_failing_run_is_a_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("bad\nluck")

    model = PoseModel(pose_bytes(), threads=1)
    monkeypatch.setattr(model._session, "run", fail)
    with pytest.raises(StagePoseError, match=r"failed on an input of shape.*bad luck"):
        model(crops(1))


@pytest.mark.parametrize(("name", "end"), [("cuda", ""), ("CUDAExecutionProvider", ""), ("gpu", ", then name 'cuda'")])
def test_a_gpu_that_this_runtime_does_not_know_says_which_runtime_does(name: str, end: str,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ModelError, match=rf"has \['CPUExecutionProvider'\]; .*pip install onnxruntime-gpu{end}$"):
        PoseModel(pose_bytes(), providers=name)
    with pytest.raises(ModelError) as error:
        PoseModel(pose_bytes(), providers=["coreml"])
    assert "onnxruntime-gpu" not in str(error.value)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ModelError, match=r"did you mean 'cuda'\?$"):
        PoseModel(pose_bytes(), providers="gpu")


@pytest.mark.parametrize(("name", "end"), [
    ("openvino", "for Intel's OpenVINO: pip uninstall onnxruntime, pip install onnxruntime-openvino"),
    ("OpenVINOExecutionProvider", "for Intel's OpenVINO: pip uninstall onnxruntime, pip install onnxruntime-openvino"),
    ("dml", "for DirectML on Windows: pip uninstall onnxruntime, pip install onnxruntime-directml"),
    ("directml", "pip install onnxruntime-directml, then name 'dml'"), ("cpuexecutionprovider", "did you mean 'cpu'?"),
    ("tensorrt", "for TensorRT: install its libraries, pip uninstall onnxruntime, pip install onnxruntime-gpu"),
    ("coreml", "for Apple's CoreML: use onnxruntime on macOS"),
    ("cuda:1", "for NVIDIA GPUs: pip uninstall onnxruntime, pip install onnxruntime-gpu; a device is an option: "
               "providers=[('cuda', {'device_id': 1})], on the command line CUDA_VISIBLE_DEVICES=1"),
    ("openvino:gpu", "pip install onnxruntime-openvino; a device is an option: "
                     "providers=[('openvino', {'device_type': 'GPU'})]"),
    ("abacus", "has ['CPUExecutionProvider']"), ("abacus:1", "has ['CPUExecutionProvider']"),
])  # fmt: skip
def test_a_provider_is_known_by_the_names_that_people_type(name: str, end: str,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    for providers in (name, ["cpu", name]):
        with pytest.raises(ModelError) as error:
            PoseModel(pose_bytes(), providers=providers)
        assert str(error.value).endswith(end)


def test_a_device_of_a_provider_that_is_there_is_told_as_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ModelError) as error:
        PoseModel(pose_bytes(), providers="cuda:0")
    assert str(error.value).endswith("'CPUExecutionProvider']; a device is an option: providers=[('cuda', "
                                     "{'device_id': 0})], on the command line CUDA_VISIBLE_DEVICES=0")
