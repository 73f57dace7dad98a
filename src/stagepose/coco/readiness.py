"""What is to be asked before hours of training, of sets that are read already: their pictures, and two sets' overlap.

The same rules as in :func:`~stagepose.coco.validate.check_dataset`, which begins with the files.
"""

from __future__ import annotations

from pathlib import Path

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.pictures import check_pictures
from stagepose.coco.problems import Problem
from stagepose.coco.samepicture import check_overlap


def picture_problems(dataset: CocoDataset, images_dir: str | Path) -> list[Problem]:
    """A problem for each picture of a set that is missing, unreadable or of another size than the set says."""
    return check_pictures(dataset.images, range(len(dataset.images)), Path(images_dir))


def overlap_problems(train: CocoDataset, val: CocoDataset) -> list[Problem]:
    """An error for each picture of ``train`` that ``val`` has too, a warning where only the id is the same."""
    name = val.path.name if val.path else "the other set"
    return check_overlap(train.images, range(len(train.images)), val.images, name)
