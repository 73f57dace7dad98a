"""The detector as users run it: one uint8 picture of any size in, person boxes in its pixels out.

The same module is judged during training and traced for export. H W picture size, n boxes found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stagepose.structures import Detections
from stagepose.training.detector.config import STRIDE_MULTIPLE
from stagepose.training.detector.model import Detector
from stagepose.training.networks.efficientnet_lite import PIXEL_MEAN


class PictureDetector(nn.Module):
    """``forward(picture (H, W, 3) uint8 RGB)`` -> (boxes (n, 4) xyxy float32 in its pixels, scores (n,)), best first.

    The picture is resized so that its long side is ``config.long_side`` and padded to multiples of 32.
    """

    def __init__(self, model: Detector, *, antialias: bool = True) -> None:
        super().__init__()
        self.model = model
        self.antialias = antialias  # export traces without it and sets it in the graph: torch cannot export it

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        planes = picture.permute(2, 0, 1)[None].float()
        original = _size(planes)
        size = (original.float() * (self.model.config.long_side / original.max().float())).round().clamp(min=1).long()
        planes = functional.interpolate(planes, size=sides_of(size), mode="bilinear", antialias=self.antialias)
        below, right = sides_of((-size) % STRIDE_MULTIPLE)
        planes = functional.pad(planes, (0, right, 0, below), value=PIXEL_MEAN)
        found = self.model(planes)[0][0]
        shrink = (original.float() / size.float()).flip(0).repeat(2)
        limits = original.float().flip(0).repeat(2)
        boxes = torch.minimum((found["boxes"] * shrink).clamp(min=0), limits)
        return boxes, found["scores"]


def _size(planes: Tensor) -> Tensor:
    """(2,) int64 height and width, as a tensor also while tracing, so that the graph fits any picture."""
    return torch._shape_as_tensor(planes)[-2:]


def sides_of(size: Tensor) -> tuple[int, int]:
    """Two whole numbers; during an export tensors in their place, so that the graph follows the picture's size."""
    return cast(tuple[int, int], (size[0], size[1]) if torch.onnx.is_in_onnx_export() else tuple(size.tolist()))


def numpy_detector(model: nn.Module) -> Callable[[NDArray[np.uint8]], Detections]:
    """A torch detector behind the predictor's signature: picture (H, W, 3) uint8 -> :class:`Detections`."""
    device = next(model.parameters()).device

    @torch.inference_mode()
    def detect(picture: NDArray[np.uint8]) -> Detections:
        model.eval()
        boxes, scores = model(torch.from_numpy(np.array(picture)).to(device))
        return Detections(boxes=boxes.double().cpu().numpy(), scores=scores.double().cpu().numpy())

    return detect
