"""Boxes of all categories of a COCO file, for detectors: judged by the same rules as people are.

N boxes. A label counts categories from 1, people first; 0 is what detectors call background.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import jsonfile
from stagepose.coco.category import PERSON, find_people
from stagepose.coco.parsedfile import ImageInfo, ParsedFile
from stagepose.coco.problems import Problem, as_error, errors
from stagepose.coco.samepicture import is_generated, sources_of
from stagepose.coco.validate import examine
from stagepose.geometry import xywh_to_xyxy

PERSON_LABEL = 1
_OF_A_BOX = ("id", "image_id", "category_id", "bbox", "iscrowd", "area")  # keypoints are not its concern
_TORN = "image-name-duplicate"  # a warning elsewhere; here the people of one entry would be the other's background


@dataclass(frozen=True, eq=False, kw_only=True)
class Instances:
    """Boxes of a COCO file in file order, crowds included; ``images`` are all of the file.

    ``partly_boxed`` are ids of images that the file marks with ``all_person_boxes: false``: there may be people in
    them whom no box shows. ``photos`` are the names of the photographs in each image, by its id: its own unless it is
    generated, and those that it was made of. ``left_out`` counts the boxes without area.
    """

    path: Path
    images: tuple[ImageInfo, ...]
    categories: tuple[str, ...]  # by label - 1
    ids: NDArray[np.int64]  # (N,)
    image_ids: NDArray[np.int64]  # (N,)
    boxes_xyxy: NDArray[np.float64]  # (N, 4)
    labels: NDArray[np.int64]  # (N,)
    crowd: NDArray[np.bool_]  # (N,)
    partly_boxed: frozenset[int]
    photos: dict[int, tuple[str, ...]]
    left_out: int

    def __len__(self) -> int:
        return len(self.labels)


def read_instances(path: str | Path) -> Instances:
    """Read the boxes of a COCO instances or keypoint file; one error counts all that is wrong with them."""
    path = Path(path)
    raw = jsonfile.load_json(path, what="a COCO instances file")
    table, problems = examine(_everything_a_person(raw))
    wrong = errors(problems) + [found for found in problems if found.kind == _TORN]
    if wrong:
        raise as_error(path, wrong)
    person = table.people.category_id
    label_of = _labels(raw["categories"], person)
    rows = [raw["annotations"][index]["category_id"] for index in table.index]
    sized_N = (table.boxes_xywh[:, 2:] > 0).all(1)
    names = {category["id"]: str(category.get("name", category["id"])) for category in raw["categories"]}
    return Instances(
        path=path, images=table.images, categories=tuple(names[category] for category in label_of),
        ids=table.ids[sized_N], image_ids=table.image_ids[sized_N], boxes_xyxy=xywh_to_xyxy(table.boxes_xywh)[sized_N],
        labels=np.array([label_of[category] for category in rows], dtype=np.int64)[sized_N],
        crowd=table.crowd[sized_N], partly_boxed=_partly_boxed(table),
        photos={row["id"]: _photos(raw, row) for row in _rows(table)}, left_out=int((~sized_N).sum()),
    )  # fmt: skip


def _everything_a_person(raw: Any) -> Any:
    """The same file with every box of a known category given to the people, so that one set of rules judges all."""
    if not isinstance(raw, dict) or not isinstance(raw.get("annotations", []), list):
        return raw  # the rules know what to say
    ignored: list[Problem] = []
    people = find_people(raw.get("categories"), [], None, ignored)
    if people.category_id is None:
        return {**raw, "annotations": []}
    renamed = [{"id": c["id"], "name": PERSON if c["id"] == people.category_id else f"category {c['id']}"}
               if isinstance(c, dict) and "id" in c else c for c in raw["categories"]]  # fmt: skip
    rows = [_of_a_person(row, people.category_id, people.known_ids) if isinstance(row, dict) else row
            for row in raw.get("annotations", [])]  # fmt: skip
    return {**raw, "categories": renamed, "annotations": rows}


def _of_a_person(row: dict[str, Any], person: int, known: frozenset[int]) -> dict[str, Any]:
    kept = {key: row[key] for key in _OF_A_BOX if key in row}
    if type(kept.get("category_id")) is int and kept["category_id"] in known:
        kept["category_id"] = person
    return kept


def _labels(categories: list[dict[str, Any]], person: int | None) -> dict[int, int]:
    """Category id -> label: the people's, then the others in the file's order."""
    ids = [category["id"] for category in categories]
    return {number: label for label, number in enumerate(sorted(ids, key=lambda i: i != person), PERSON_LABEL)}


def _partly_boxed(table: ParsedFile) -> frozenset[int]:
    return frozenset(row["id"] for row in _rows(table) if row.get("all_person_boxes", True) is False)


def _rows(table: ParsedFile) -> list[dict[str, Any]]:
    return [table.raw["images"][index] for index in table.image_index]


def _photos(raw: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    own = [] if is_generated(raw, row) else [row["file_name"]]
    return (*own, *sources_of(row))
