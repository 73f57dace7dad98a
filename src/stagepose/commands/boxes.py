"""``--boxes FILE``: people's boxes from a file, and which photo each belongs to."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset
from stagepose.coco.dataset import PERSON_CATEGORY, dataset_of
from stagepose.coco.jsonfile import load_json
from stagepose.coco.predictions import is_finite_number
from stagepose.coco.results import boxes_of_results
from stagepose.commands.console import counted, note
from stagepose.errors import DatasetError
from stagepose.geometry import xyxy_to_xywh
from stagepose.imagefiles import path_ends
from stagepose.lines import printable
from stagepose.structures import Detections

LARGEST_ID = 2**53  # what every reader of JSON holds exactly


@dataclass(frozen=True)
class BoxFile:
    """Boxes by image id; and the ids by the file's paths and every end of one, None where several have the same end."""

    path: Path
    boxes: Mapping[int, Detections]
    id_of_name: Mapping[str, int | None]

    @classmethod
    def read(cls, path: Path, category_id: int = PERSON_CATEGORY) -> BoxFile:
        """COCO results (a list), predict's own people.json among them, or annotations (an object) but for crowds.

        ``category_id`` is the people's in the set that the boxes are for. :class:`DatasetError` where the file does
        not tell which picture boxes are of.
        """
        raw = load_json(path, what="COCO box results or annotations")
        if isinstance(raw, dict):
            dataset = dataset_of(raw, path)
            names = _ids_of_names(((image.file_name, image.id) for image in dataset.images), path)
            return cls(path, _boxes_by_image(dataset), _with_ends(names))
        rows = [_with_bbox(row) for row in raw] if isinstance(raw, list) else raw
        boxes = boxes_of_results(rows, path, category_id)
        if others := len(raw) - sum(map(len, boxes.values())):
            note(f"{counted(others, 'box', 'boxes')} of {printable(path)} passed over, of other categories than "
                 "the people's")
        names = _ids_of_names(((row["file_name"], row["image_id"]) for row in raw
                               if isinstance(row.get("file_name"), str)), path)
        return cls(path, boxes, _with_ends(names))

    def image_id(self, name: str) -> int | None:
        """Of a photo: by its path or the longest end of it that the file tells; else the number at its name's end.

        None where it has neither, or where several of the file's pictures are called so.
        """
        told = self._told(name)
        return number_in(name) if told is None else self.id_of_name[told]

    def _told(self, name: str) -> str | None:
        return next((key for key in (name, *path_ends(name)) if key in self.id_of_name), None)

    def of(self, name: str) -> Detections:
        """A photo's boxes, none where the file has none for its id; :class:`DatasetError` when it has no id."""
        image_id = self.image_id(name)
        if image_id is None and (told := self._told(name)):
            raise DatasetError(f"{printable(name)}: {printable(self.path)} has several pictures called "
                               f"{printable(told)}; name the photo by as much of its path as tells them apart")
        if image_id is None:
            raise DatasetError(f"{printable(name)}: {printable(self.path)} has no entry with this file_name, and "
                               "the name ends in no number to be its image_id")
        return self.boxes.get(image_id, _certain(np.zeros((0, 4))))

    def require_any(self, names: Sequence[str]) -> None:
        """:class:`DatasetError` when not one of these photos has boxes: then the ids are other ids.

        So it is where two photos' names end in the number of the same boxes, which cannot be both's.
        """
        ids = [self.image_id(name) for name in names]
        claimed: dict[int, str] = {}
        for name, image_id in zip(names, ids, strict=True):
            if image_id in self.boxes and self._told(name) is None:
                assert image_id is not None
                if claimed.setdefault(image_id, name) != name:
                    raise DatasetError(f"{printable(self.path)}: its boxes of image {image_id} could be those of "
                                       f"{printable(claimed[image_id])} and of {printable(name)}; give its entries a "
                                       "file_name, or name the photos of one folder alone")
        if not self.boxes:
            raise DatasetError(f"{printable(self.path)}: holds no box of a person; leave --boxes out to have them "
                               "found")
        if ids and not any(image_id in self.boxes for image_id in ids):
            theirs = f"the photos' ids {ids[:3]}" if any(ids) else "no photo's name ends in a number to be its id"
            raise DatasetError(f"{printable(self.path)}: has boxes for none of the photos: its image ids begin "
                               f"{sorted(self.boxes)[:3]}, {theirs}. Give its entries a file_name")

    def below(self, threshold: float, names: Sequence[str]) -> int:
        """How many boxes of these photos have a lower score."""
        ids = {self.image_id(name) for name in names}
        return sum(int((boxes.scores < threshold).sum()) for image_id, boxes in self.boxes.items() if image_id in ids)

    def of_set(self, dataset: CocoDataset) -> dict[int, Detections]:
        """Boxes on a set's pictures. Published files hold those of a whole split: the others are counted and left."""
        mine = {image_id: boxes for image_id, boxes in self.boxes.items() if image_id in dataset.image_by_id}
        if self.boxes and not mine:
            raise DatasetError(f"{printable(self.path)}: has boxes for none of the {len(dataset.images)} images: "
                               f"its image ids begin {sorted(self.boxes)[:3]}, the set's "
                               f"{sorted(dataset.image_by_id)[:3]}")
        if len(mine) < len(self.boxes):
            note(f"{len(self.boxes) - len(mine)} images of {printable(self.path)} are not in this set: left out")
        return mine


def _with_bbox(row: Any) -> Any:
    """A person that predict found says where it looked: ``box``, x1, y1, x2, y2, in place of COCO's ``bbox``."""
    box = row.get("box") if isinstance(row, dict) and "bbox" not in row else None
    if not isinstance(box, list) or len(box) != 4 or not all(is_finite_number(edge) for edge in box):
        return row
    return {**row, "bbox": xyxy_to_xywh(np.array(box, dtype=np.float64)).tolist()}


def _boxes_by_image(dataset: CocoDataset) -> dict[int, Detections]:
    people = {image_id: rows[~dataset.crowd[rows]] for image_id, rows in dataset.rows_by_image.items()}
    return {image_id: _certain(dataset.boxes_xyxy[rows]) for image_id, rows in people.items()}


def _ids_of_names(pairs: Iterable[tuple[str, int]], path: Path) -> dict[str, int]:
    """Of (file_name, image_id); :class:`DatasetError` for a name of two ids and an id of two names."""
    ids: dict[str, int] = {}
    names: dict[int, str] = {}
    for name, image_id in pairs:
        other_id, other_name = ids.setdefault(name, image_id), names.setdefault(image_id, name)
        if (other_id, other_name) != (image_id, name):
            wrong = (f"image {image_id} is {printable(other_name)} and {printable(name)}" if other_name != name
                     else f"{printable(name)} is image {other_id} and image {image_id}")
            raise DatasetError(f"{printable(path)}: {wrong}; give every picture one image_id and one file_name, "
                               "which no other has")
    return ids


def _with_ends(id_of_name: Mapping[str, int]) -> dict[str, int | None]:
    """Also under every end of a path, with None where several have it."""
    ends: dict[str, int | None] = {}
    for name, number in id_of_name.items():
        for end in path_ends(name):
            ends[end] = number if ends.get(end, number) == number else None
    return {**ends, **id_of_name}


def number_in(name: str) -> int | None:
    """The number at the end of a file's name: 139 of ``000000000139.jpg``; never 0, which COCO tools stumble over."""
    digits = re.search(r"[0-9]+$", PurePath(name).stem)
    number = int(digits[0]) if digits and len(digits[0]) < 20 else 0
    return number if 0 < number < LARGEST_ID else None


def image_ids(names: Sequence[str], boxes: BoxFile | None = None) -> list[int]:
    """The photos' numbers in the results: that of a box file or of its name, where no other photo has the same one.

    The others are numbered on from the largest id that is known, and a note says so.
    """
    found = [boxes.image_id(name) if boxes else number_in(name) for name in names]
    known = {image_id for image_id in found if image_id is not None}
    if boxes:
        known |= {*boxes.boxes, *filter(None, boxes.id_of_name.values())}
    times = Counter(found)
    certain = [image_id if times[image_id] == 1 else None for image_id in found]
    first, strangers = max(known, default=0) + 1, certain.count(None)
    if strangers and known:
        whose = counted(strangers, "photo without an image id of its own", "photos without an image id of their own")
        note(f"{whose}: numbered from {first} on")
    fresh = itertools.count(first)
    return [next(fresh) if image_id is None else image_id for image_id in certain]


def _certain(boxes_N4: NDArray[Any]) -> Detections:
    return Detections(boxes=boxes_N4, scores=np.ones(len(boxes_N4)))
