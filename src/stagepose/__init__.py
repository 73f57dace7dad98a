"""StagePose: every person in a picture and the keypoints of each.

    import stagepose

    predictor = stagepose.load()
    for person in predictor("photo.jpg")[0]:
        print(person.score, person["left_wrist"])

Names are imported when first used, so that ``import stagepose`` costs next to nothing. Pixels are RGB everywhere.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stagepose.ahead import newest
    from stagepose.config import PredictorConfig
    from stagepose.draw import draw_people
    from stagepose.errors import (
        CheckpointError,
        ConfigError,
        DatasetError,
        ImageError,
        MissingExtraError,
        ModelError,
        SkeletonError,
        StagePoseError,
        TrainingError,
        VideoError,
    )
    from stagepose.images import Picture, read_image, write_image
    from stagepose.modelinfo import ModelInfo
    from stagepose.predictor import Predictor, load
    from stagepose.skeleton import COCO_17, CROWDPOSE_14, LSP_14, MPII_16, Skeleton
    from stagepose.smoothing import Smoother
    from stagepose.structures import Detections, Person
    from stagepose.tracking import Tracker
    from stagepose.videoreader import Frame, Part, VideoReader
    from stagepose.videos import people_in, video
    from stagepose.videowriter import VideoWriter

__version__ = "0.1.0"

# ONNX Runtime, since 1.29, as soon as it is imported, writes an identifier below ~/.cache and may tell its maker what
# runs here (microsoft/onnxruntime, pull request 27379). Nobody has asked our users; who wants that sets this to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "stagepose.ahead": ("newest",),
    "stagepose.config": ("PredictorConfig",),
    "stagepose.draw": ("draw_people",),
    "stagepose.errors": (
        "CheckpointError", "ConfigError", "DatasetError", "ImageError", "MissingExtraError", "ModelError",
        "SkeletonError", "StagePoseError", "TrainingError", "VideoError",
    ),
    "stagepose.images": ("Picture", "read_image", "write_image"),
    "stagepose.modelinfo": ("ModelInfo",),
    "stagepose.predictor": ("Predictor", "load"),
    "stagepose.skeleton": ("COCO_17", "CROWDPOSE_14", "LSP_14", "MPII_16", "Skeleton"),
    "stagepose.smoothing": ("Smoother",),
    "stagepose.structures": ("Detections", "Person"),
    "stagepose.tracking": ("Tracker",),
    "stagepose.videoreader": ("Frame", "Part", "VideoReader"),
    "stagepose.videos": ("people_in", "video"),
    "stagepose.videowriter": ("VideoWriter",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "COCO_17",
    "CROWDPOSE_14",
    "LSP_14",
    "MPII_16",
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "Detections",
    "Frame",
    "ImageError",
    "MissingExtraError",
    "ModelError",
    "ModelInfo",
    "Part",
    "Person",
    "Picture",
    "Predictor",
    "PredictorConfig",
    "Skeleton",
    "SkeletonError",
    "Smoother",
    "StagePoseError",
    "Tracker",
    "TrainingError",
    "VideoError",
    "VideoReader",
    "VideoWriter",
    "__version__",
    "draw_people",
    "load",
    "newest",
    "people_in",
    "read_image",
    "video",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'stagepose' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
