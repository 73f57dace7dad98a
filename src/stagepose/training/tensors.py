"""NumPy arrays as tensors on the device that computes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def numbers_on(device: torch.device | str, values: NDArray[np.generic]) -> Tensor:
    """The same numbers on a device; floats in single precision.

    Unlike ``torch.as_tensor(values, device=device)`` it does not wait until a GPU has done all that was asked before.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return (tensor.float() if tensor.is_floating_point() else tensor).to(device, non_blocking=True)
