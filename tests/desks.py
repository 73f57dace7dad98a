"""A working folder with the toy models in it, and ``stagepose predict`` run there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_models import detector_bytes, pose_bytes

from stagepose import cli
from stagepose.predictor import Predictor

MODELS = ("--pose", "pose.onnx", "--detector", "detector.onnx", "--threads", "1", "--out", "out")


def put_models() -> None:
    Path("pose.onnx").write_bytes(pose_bytes())
    Path("detector.onnx").write_bytes(detector_bytes())


def predict(*arguments: str) -> int:
    models = [word for word in MODELS if "--boxes" not in arguments or word not in MODELS[2:4]]
    return cli.main(["predict", *arguments, *models])


def read(path: str) -> Any:
    return json.loads(Path(path).read_text())


def stop_at(name: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends with ``error`` when it comes to the photo of this name."""
    people = Predictor.people

    def stopping(self: Predictor, picture: Any, boxes: Any = None) -> Any:
        if Path(picture.name).name == name:
            raise error
        return people(self, picture, boxes)

    monkeypatch.setattr(Predictor, "people", stopping)
