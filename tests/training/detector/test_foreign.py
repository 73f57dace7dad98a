"""torchvision's detectors as model files: its own boxes, of people alone; here with random weights, offline."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from stagepose import cli  # noqa: E402
from stagepose.commands import import_detector as command  # noqa: E402
from stagepose.errors import CheckpointError, ConfigError  # noqa: E402
from stagepose.modelinfo import ModelInfo  # noqa: E402
from stagepose.runtime import DetectorModel  # noqa: E402
from stagepose.training.detector.export import drawn_pictures  # noqa: E402
from stagepose.training.detector.foreign import (  # noqa: E402
    LONGEST,
    PERSON,
    SAME_BOXES,
    import_detector,
    torchvision_detector,
)
from training.detector.lively import lively_detector  # noqa: E402

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"
SIZES = ((425, 640), (427, 640), (640, 427), (200, 300), (333, 500))  # heights at which floats and doubles round apart
INFO = ModelInfo(kind="detector", name=NAME, input_size=(LONGEST[NAME],) * 2)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    blobs = drawn_pictures()[3]
    return [np.ascontiguousarray(blobs[:height, :width]) for height, width in SIZES]


@pytest.fixture(scope="module")
def model(pictures: list[np.ndarray]) -> nn.Module:
    return lively_detector(NAME, pictures[0])


def test_the_files_boxes_are_torchvisions_own(model: nn.Module, pictures: list[np.ndarray], tmp_path: Path) -> None:
    with torch.no_grad():
        own = [model([torch.from_numpy(p).permute(2, 0, 1).float() / 255])[0] for p in pictures]
    made = import_detector(model, tmp_path / "x.onnx", INFO, pictures=pictures)
    assert made.difference.compared > 50 and made.difference.unmatched == 0 and made.difference.box <= SAME_BOXES.box
    file = DetectorModel(tmp_path / "x.onnx")
    assert file.info.name == NAME and file.info.detector == {"torchvision": NAME}
    compared = 0
    for picture, mine in zip(pictures, own, strict=True):
        people = mine["labels"] == PERSON
        found = file(picture)
        assert len(found) == int(people.sum())
        np.testing.assert_allclose(found.scores, mine["scores"][people], atol=1e-3)
        for box, score in zip(mine["boxes"][people].numpy(), mine["scores"][people].numpy(), strict=True):
            gaps = np.abs(found.boxes - box).max(1) / max(picture.shape[:2]) + np.abs(found.scores - score)
            assert gaps.min() < 1e-3
        compared += len(found)
    assert compared > 30


def test_weights_come_from_either_kind_of_file_through_the_command(
        model: nn.Module, pictures: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    two = [torchvision_detector(NAME, tmp_path / name) for name in ("w.pth", "w.safetensors")]
    for name, weight in model.state_dict().items():
        assert all(torch.equal(other.state_dict()[name], weight) for other in two)
    (tmp_path / "pictures").mkdir()
    for n, picture in enumerate(pictures[:2]):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{n}.png")
    assert cli.main(["import-detector", NAME, "--weights", str(tmp_path / "w.pth"), "--bits", "16", "--out",
                     str(tmp_path / "half.onnx"), "--pictures", str(tmp_path / "pictures")]) == 0
    assert "boxes agree with torchvision's" in capsys.readouterr().out
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * (tmp_path / "w.pth").stat().st_size


def test_nothing_is_fetched_for_a_wrong_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "torchvision_detector", lambda *_: pytest.fail("fetched"))
    (tmp_path / "empty").mkdir()
    for words, said in ((["yolo"], "no torchvision detector named 'yolo' is known here"),
                        ([NAME, "--pictures", str(tmp_path / "empty")], "empty: no pictures in this folder")):
        assert cli.main(["import-detector", *words, "--out", str(tmp_path / "x.onnx")]) == 1
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def test_what_is_no_state_dict_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.pth").write_bytes(b"PK torn")
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "pwned")))
    for name, message in (("torn.pth", "no weights can be read"), ("list.pth", "expected a state_dict"),
                          ("other.pth", "weights of another network"), ("none.pth", "no such file"),
                          ("whole.pt", r"holds more than tensors .* give a file of the model's state_dict\(\)"),
                          ("bomb.pt", "can run code when opened")):
        with pytest.raises(CheckpointError, match=message):
            torchvision_detector(NAME, tmp_path / name)
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(ConfigError, match="fasterrcnn_resnet50_fpn_v2"):
        torchvision_detector("yolo", None)


def test_without_a_network_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # nothing fetched before
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"could not be fetched .* with --weights"):
        torchvision_detector(NAME, None)
