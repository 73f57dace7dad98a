"""Hard negatives: boxes in which there is no person, from which a pose network learns to find no keypoint.

In a COCO file they are annotations of any category but the people's. What is mined from a detector's false positives
has the category :data:`NEGATIVE`, beside a person category that lists the keypoints.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.instances import PERSON_LABEL, read_instances
from stagepose.errors import DatasetError
from stagepose.lines import printable
from stagepose.skeleton import Skeleton

NEGATIVE = "no person"  # the name of the category, whose id is NEGATIVE_ID in what we write
NEGATIVE_ID = 2


def read_negatives(path: str | Path, skeleton: Skeleton) -> CocoDataset:
    """The boxes of all categories of a COCO file but the people's, crowds left out, as rows without any keypoint.

    :class:`DatasetError` where there are none.
    """
    path = Path(path)
    boxes = read_instances(path)
    rows = np.flatnonzero((boxes.labels != PERSON_LABEL) & ~boxes.crowd)
    if not len(rows):
        raise DatasetError(f"{printable(path)}: has no box of anything but people; hard negatives are boxes of other "
                           "categories, as 'stagepose mine-negatives' writes them")
    return CocoDataset(
        path=path, skeleton=skeleton, images=boxes.images, ids=boxes.ids[rows], image_ids=boxes.image_ids[rows],
        boxes_xyxy=boxes.boxes_xyxy[rows], keypoints=np.zeros((len(rows), len(skeleton), 3)),
        areas=np.full(len(rows), np.nan), crowd=np.zeros(len(rows), dtype=bool),
        num_keypoints=np.zeros(len(rows), dtype=np.int64), raw={}, negative=True,
    )  # fmt: skip
