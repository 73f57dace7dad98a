"""Adversarial augmentation: of several looks of a sample, the one is learnt from that is hardest at the time.

The worst of k random ones, as Engstrom et al. 2019 do against turned and shifted pictures (arXiv 1712.02779). It costs
k more forward passes and k - 1 more augmentations a sample. B samples, K looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def looking_on(model: nn.Module) -> Iterator[None]:
    """Forward passes in here leave no trace: no gradient, and batch norms neither use nor move a batch's statistics."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        torch.clear_autocast_cache()  # torch before PR 165068 kept weights that were cast in here, without gradients


def hardest(losses_KB: Tensor) -> Tensor:
    """(B,) the look of greatest loss of each sample, the first of equals; NaN counts as greatest, so that it shows."""
    return losses_KB.argmax(0)
