"""A contact sheet of training samples: pictures as a network is shown them, with the keypoints it is taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.images import write_image
from stagepose.labelled import draw_labelled, labelled_person
from stagepose.making.sheet import captioned, laid_out
from stagepose.training.augment import are_mirrored
from stagepose.training.loop import sample_keys
from stagepose.training.pose import PoseBatch, PoseTask

ACROSS, GAP = 10, 6  # tiles a row, and pixels between them
MOST = 1000  # samples: their sheet is held in memory, and no JPEG has more than 65,500 lines
THINNER = 0.6  # of what a whole picture's people are drawn with: pixels of a crop are few


def write_samples(task: PoseTask, count: int, path: Path) -> None:
    """The first ``count`` samples that a training shows, in its order, each under its annotation's id.

    Tiles have the network's own pixels; who is shown mirrored is said.
    """
    if not 1 <= count <= MOST:
        raise ConfigError(f"count is {count}; one sheet holds 1 to {MOST:,} samples")
    read = task.reader.read(sample_keys(task, 0, count))
    batch = task.prepare(read)
    assert isinstance(batch, PoseBatch)  # no preset looks at its samples more than once
    [store] = task.reader.stores
    ids = store.annotation_ids[read.rows.numpy()]
    mirrored = are_mirrored(read.draws[0], task.config.augment)
    images = batch.images.permute(0, 2, 3, 1).round().clamp(0, 255).byte().cpu().numpy()
    write_image(path, laid_out([_tile(task, *sample) for sample in
                                zip(images, batch.keypoints, ids.tolist(), mirrored.tolist(), strict=True)],
                               ACROSS, GAP))


def _tile(task: PoseTask, pixels_hw3: NDArray[np.uint8], keypoints_K3: NDArray[np.float64], annotation: int,
          mirrored: bool) -> NDArray[np.uint8]:
    width, height = task.config.size
    person = labelled_person(keypoints_K3, np.array([0.0, 0, width, height]), task.skeleton)
    drawn = draw_labelled(pixels_hw3, [person], boxes=False, thickness=THINNER)
    return captioned(drawn, f"#{annotation}{' mirrored' if mirrored else ''}")
