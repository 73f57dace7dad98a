"""torchvision's own detectors with their COCO weights -> a StagePose model file that hands on the people alone.

The network stays torchvision's, resizing, thresholds and NMS included: the file's boxes are its boxes.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from stagepose import files
from stagepose.errors import CheckpointError, ConfigError
from stagepose.lines import in_short
from stagepose.modelinfo import ModelInfo, stamp
from stagepose.training import checkpoint
from stagepose.training.detector.export import OPSET, Difference, Picture, Tolerance, compare, drawn_pictures
from stagepose.training.detector.inference import numpy_detector, sides_of
from stagepose.training.export import torch_to_onnx
from stagepose.training.storage import Bits, store_weights

PERSON = 1  # its label in torchvision's COCO weights, whose categories are COCO's 91 ids with background 0
COCO_CLASSES = 91
CLASSES_ARE_ROWS_OF = "roi_heads.box_predictor.cls_score.bias"  # Faster R-CNNs say themselves how many they know
NESTED = ("model", "state_dict")  # keys under which training scripts put the weights
SAME_BOXES = Tolerance(box=1e-3, score=1e-4, unmatched=0.0)  # box: of the longer side, as a share
SAME_ROUNDED = Tolerance(box=1e-2, score=0.05, unmatched=0.1)

# longest side of a picture inside the network, from torchvision's defaults; larger pictures are shrunk before it
LONGEST = {
    "fasterrcnn_resnet50_fpn_v2": 1333, "fasterrcnn_resnet50_fpn": 1333, "fasterrcnn_mobilenet_v3_large_fpn": 1333,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 640, "retinanet_resnet50_fpn_v2": 1333, "retinanet_resnet50_fpn": 1333,
    "fcos_resnet50_fpn": 1333, "ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320,
}  # fmt: skip


class ExactResize(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's, with the new size computed in doubles in an exported graph too.

    Its own export computes in floats: a picture 425 high becomes 799 instead of 800, and every box moves.
    """

    @classmethod
    def like(cls, other: GeneralizedRCNNTransform) -> ExactResize:
        """The same settings."""
        return cls(other.min_size, other.max_size, other.image_mean, other.image_std, other.size_divisible,
                   other.fixed_size)

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """One image (3, H, W), by the shorter side unless the longer would become too long."""
        if self.fixed_size is not None or not torch.onnx.is_in_onnx_export():
            return super().resize(image, target)  # type: ignore[no-any-return]
        size = torch._shape_as_tensor(image)[-2:].double()
        limits = size.new_tensor([[float(self.min_size[-1])], [float(self.max_size)]])  # the exporter turns numbers and
        sides = torch.stack([size.amin(0, keepdim=True), size.amax(0, keepdim=True)])  # scalars back into floats
        new = torch.floor(size * (limits / sides).amin(0)).long()
        return functional.interpolate(image[None], size=sides_of(new), mode="bilinear")[0], target


class People(nn.Module):
    """``forward(picture (H, W, 3) uint8 RGB)`` -> people's boxes (n, 4) xyxy in its pixels and scores (n,)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        model.transform = ExactResize.like(model.transform)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model([picture.permute(2, 0, 1).float() / 255])[0]
        people = torch.where(found["labels"] == PERSON)[0]
        return found["boxes"][people], found["scores"][people]


@dataclass(frozen=True)
class Imported:
    """What was written, and how far its boxes lie from torchvision's: as shares of the picture's longer side."""

    path: Path
    megabytes: float
    difference: Difference


def check_architecture(name: str) -> None:
    """:class:`ConfigError` with the names that there are."""
    if name not in LONGEST:
        raise ConfigError(f"no torchvision detector named {name!r} is known here; there are {', '.join(LONGEST)}")


def torchvision_detector(name: str, weights: Path | None) -> nn.Module:
    """A detector of torchvision with the weights of a file, or with its own COCO weights, which are fetched."""
    check_architecture(name)
    tensors = _fetched(name) if weights is None else _from_file(weights)
    rows = tensors.get(CLASSES_ARE_ROWS_OF)
    classes = COCO_CLASSES if rows is None else len(rows)
    model: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    checkpoint.fill(model, tensors, str(weights or name))
    return model.eval()


def _fetched(name: str) -> checkpoint.Tensors:
    try:
        found: checkpoint.Tensors = get_model_weights(name).DEFAULT.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network, or a file that is not what it should be
        raise CheckpointError(f"{name}: torchvision's weights could not be fetched ({in_short(error)}); fetch them "
                              "elsewhere and give the file with --weights") from error
    return found


def _from_file(path: Path) -> checkpoint.Tensors:
    """Tensors of a .safetensors file, or of a .pth that holds nothing else."""
    if path.suffix == ".safetensors":
        return checkpoint.load_weights(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols of pickle: what it cannot read it refuses
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file of weights") from error
    except pickle.UnpicklingError as error:  # torch's text advises to trust the file
        raise CheckpointError(f"{path}: no weights can be read from it: it is damaged, or holds more than tensors "
                              "(a whole model?), which can run code when opened; give a file of the model's "
                              "state_dict()") from error
    except Exception as error:  # torch's unpickler raises whatever a damaged file makes it raise
        raise CheckpointError(f"{path}: no weights can be read from it ({in_short(error)}); give a .safetensors or a "
                              ".pth file that holds a state_dict") from error
    for key in NESTED:
        found = found[key] if isinstance(found, dict) and isinstance(found.get(key), dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path}: holds {type(found).__name__}, expected a state_dict: tensors by name")
    return found


def import_detector(model: nn.Module, path: str | Path, info: ModelInfo, *, bits: Bits = 32,
                    pictures: Sequence[Picture] = ()) -> Imported:
    """Write a torchvision detector as a model file; compared on ``pictures``, else on drawn ones.

    Weights are stored in so many ``bits``. Raises
    :class:`ModelError` where ONNX Runtime finds other boxes than torch.
    """
    people, shown = People(model).eval(), pictures or drawn_pictures()
    data = torch_to_onnx(people, (torch.from_numpy(np.array(shown[0])),), inputs=["picture"],
                         outputs=["boxes", "scores"], opset=OPSET,
                         dynamic={"picture": {0: "height", 1: "width"}, "boxes": {0: "n"}, "scores": {0: "n"}})
    tolerance = SAME_BOXES if bits == 32 else SAME_ROUNDED
    data = stamp(store_weights(data, bits), replace(info, detector={"torchvision": info.name}))
    difference = compare(numpy_detector(people), data, shown, tolerance, long_side=1)
    difference.require(path, tolerance)
    files.write_bytes(path, data)
    return Imported(Path(path), len(data) / 1e6, difference)
