"""The weights of a detector's model file, to train on from it.

The exporter keeps the names of weights, and our pretrained trunks have no batch norm left to be folded away.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stagepose.errors import ModelError
from stagepose.runtime import DetectorModel, resolve
from stagepose.training import storage

PREFIX = "model."  # PictureDetector's name of the network


def stored_weights(path: str | Path) -> dict[str, Tensor]:
    """float32 weights of a file by their names in the network; :class:`ModelError` for what is no detector."""
    file = resolve(path)
    DetectorModel(file, threads=1)  # refuses what is not a detector of ours
    weights = {name.removeprefix(PREFIX): torch.from_numpy(values)
               for name, values in storage.stored_weights(file.read_bytes()).items() if name.startswith(PREFIX)}
    if not weights:
        raise ModelError(f"{file}: none of its weights has a name of ours; it was made from another program's network")
    return weights
