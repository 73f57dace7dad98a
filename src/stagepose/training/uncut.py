"""A crop store that is none: people are cut out of their pictures when they are asked for.

To look at a few of them needs no packing of all; they are those that a packed store holds, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset
from stagepose.errors import DatasetError
from stagepose.training.cutting import Work
from stagepose.training.shards import PackConfig
from stagepose.training.store import CropSpec, CropStore, labels_of


@dataclass(frozen=True, eq=False)
class UncutStore(CropStore):
    """See :func:`cut_on_demand`."""

    work: Work = field(kw_only=True)

    def crops(self, rows: Sequence[int] | NDArray[np.integer]) -> list[NDArray[np.uint8]]:
        """As of a packed store; :class:`DatasetError` for a picture that cannot be read or does not fit its labels."""
        canvas, found = (self.spec.canvas[1], self.spec.canvas[0], 3), dict[int, NDArray[np.uint8]]()
        for job in self.work.by_picture(sorted({int(row) for row in rows})):
            picture = self.work.cut(job)
            if picture.fault:
                raise DatasetError(f"{self.home}: {picture.fault.error}; training refuses such pictures: 'stagepose "
                                   "check' lists all, and --write-clean OUT drops them")
            found.update((row, np.frombuffer(crop, dtype=np.uint8).reshape(canvas))
                         for row, crop in zip(job[1], picture.crops, strict=True))
        return [found[int(row)] for row in rows]


def cut_on_demand(dataset: CocoDataset, images_dir: Path, spec: CropSpec) -> UncutStore:
    """All people of a set that a training would show; :class:`DatasetError` where there are none."""
    work = Work(dataset, images_dir, spec, PackConfig())
    if not len(work.rows):
        raise DatasetError(f"{dataset.path}: no person with a labelled keypoint; nothing to train on")
    return UncutStore(home=dataset.path or images_dir, **labels_of(dataset, work.rows, work.affines), image_names=(),
                      spec=spec, skeleton=dataset.skeleton, left_out={}, fingerprint="", form="raw", shards=(),
                      _sizes=np.full(len(work.rows), spec.row_bytes), work=work)
