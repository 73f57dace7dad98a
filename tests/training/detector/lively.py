"""Random torchvision detectors whose boxes can be compared: fresh ones give every region the same score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model

PERSON_ROW = 1
CLASSIFIERS = ("cls_score", "cls_logits", "classification_head.module_list")
REGRESSORS = ("bbox_pred", "bbox_reg", "regression_head.module_list")
LIKELY = 8.0  # logits by which people are ahead: they win about half of the regions
SPREAD = {"score": 2.0, "box": 0.3, "": 1.0}  # standard deviation of what a layer gives


def lively_detector(name: str, picture: np.ndarray, classes: int = 91, seed: int = 0) -> nn.Module:
    """A detector of random weights, scaled layer by layer on a picture so that its signal neither dies nor explodes."""
    torch.manual_seed(seed)
    model: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=classes).eval()
    hooks = [module.register_forward_hook(_scaled(_kind(path))) for path, module in model.named_modules()
             if isinstance(module, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        model([torch.from_numpy(picture).permute(2, 0, 1).float() / 255])
        for hook in hooks:
            hook.remove()
        for path, parameter in model.named_parameters():
            if path.endswith("bias") and _kind(path) == "score" and len(parameter) % classes == 0:
                parameter.view(-1, classes)[:, PERSON_ROW] += LIKELY
    if hasattr(model, "roi_heads"):
        model.roi_heads.score_thresh = 0.0
    return model


def _kind(path: str) -> str:
    return "score" if any(c in path for c in CLASSIFIERS) else "box" if any(r in path for r in REGRESSORS) else ""


def _scaled(kind: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
    done: set[int] = set()

    def hook(module: nn.Module, _inputs: object, out: Tensor) -> Tensor:
        if id(module) in done:  # a head shared by the levels of a pyramid is scaled on the first
            return out
        done.add(id(module))
        factor = SPREAD[kind] / (float(out.std()) + 1e-12)
        module.weight.mul_(factor)
        return out * factor

    return hook
