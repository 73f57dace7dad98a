"""The weights of a detector's model file, to train on from it.

The exporter keeps the names of weights, but for those that it folds batch norms into. Our pretrained trunks have no
batch norm left; of a trunk that started from noise, as person-resnet50's, nothing comes back, which is refused.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stagepose.errors import ModelError
from stagepose.runtime import DetectorModel, resolve
from stagepose.training import storage

PREFIX = "model."  # PictureDetector's name of the network
TRUNK = "trunk."  # the network's name of its trunk


def stored_weights(path: str | Path) -> dict[str, Tensor]:
    """float32 weights of a file by their names in the network.

    :class:`ModelError` for what is no detector of ours, and for one whose trunk does not come back.
    """
    file = resolve(path)
    DetectorModel(file, threads=1)  # refuses what is not a detector of ours
    weights = {name.removeprefix(PREFIX): torch.from_numpy(values)
               for name, values in storage.stored_weights(file.read_bytes()).items() if name.startswith(PREFIX)}
    if not weights:
        raise ModelError(f"{file}: none of its weights has a name of ours; it was made from another program's network")
    if not any(name.startswith(TRUNK) for name in weights):
        raise ModelError(f"{file}: holds no weights of a trunk that training could go on with: batch norms were folded "
                         "into them; start from the run folder that it was made from")
    return weights
