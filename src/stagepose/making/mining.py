"""Hard negative mining: what a detector takes for people in labelled pictures, where nobody is.

A pose network that has only ever seen people finds keypoints in everything, and scores them as if somebody were there.
These are boxes that it will be given, and from which it learns not to (``stagepose train --negatives``).

    OUT/negatives.json                 an ordinary COCO file: boxes of the category "no person"
    OUT/images/                        the pictures that they are in: links, or copies where links cannot be made
    OUT/mine-negatives.json            what it was made with
    OUT/found.jsonl                    a line each searched picture: an interrupted search goes on after the last

N boxes of a picture, P people labelled in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose import files
from stagepose.aliases import Progress
from stagepose.claims import claim
from stagepose.coco import Instances, write_json_compact
from stagepose.coco.dataset import category_json, rows_by_id
from stagepose.coco.instances import PERSON_LABEL
from stagepose.coco.negatives import NEGATIVE, NEGATIVE_ID
from stagepose.errors import ConfigError, DatasetError
from stagepose.geometry import covered_shares, xyxy_to_xywh
from stagepose.images import read_image
from stagepose.lines import printable
from stagepose.skeleton import Skeleton
from stagepose.structures import Detections

Detect = Callable[[NDArray[np.uint8]], Detections]
Row = dict[str, Any]

VERB = "mine-negatives"
EMPTY = "negatives"  # folder below images/ for pictures without people
DIGITS = 2  # of a box's pixels
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Which of a detector's boxes are taken: of scores between the two, best first, at most ``each`` of a picture.

    ``overlap`` is the largest share of a box's area that may be covered by somebody's. Above ``most_score`` it is often
    somebody whom nobody has labelled.
    """

    least_score: float = 0.05
    most_score: float = 0.6
    overlap: float = 0.1
    least_side: float = 12.0  # pixels of the picture; smaller boxes show nothing
    each: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.least_score < self.most_score <= 1:
            raise ConfigError(f"scores from {self.least_score:g} to {self.most_score:g}: expected 0 to 1, the lower "
                              "first")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap is {self.overlap:g}, expected 0 to below 1: the share of a box that may be "
                              "covered by a person's")
        if self.each < 1:
            raise ConfigError(f"{self.each} boxes of a picture asked for; expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class Search:
    """The pictures to look through: those of ``labelled`` in which everybody is boxed, and of ``empty`` files.

    ``images`` is the folder of the former.
    """

    labelled: Instances
    images: Path
    empty: Sequence[Path] = ()

    @cached_property
    def rows(self) -> list[tuple[str, Path, NDArray[np.float64]]]:
        """Of each picture its name in OUT, its file, and the boxes of its people (P, 4)."""
        of_people = self.labelled.labels == PERSON_LABEL
        boxes, people_of = self.labelled.boxes_xyxy[of_people], rows_by_id(self.labelled.image_ids[of_people])
        nobody = np.zeros(0, dtype=np.int64)
        rows = [(image.file_name, self.images / image.file_name, boxes[people_of.get(image.id, nobody)])
                for image in self.labelled.images if image.id not in self.labelled.partly_boxed]
        return rows + [(f"{EMPTY}/{path.name}", path, boxes[nobody]) for path in self.empty]

    @property
    def left_out(self) -> int:
        """Pictures in which there may be people whom no box shows."""
        return len(self.labelled.partly_boxed)


@dataclass(frozen=True, kw_only=True)
class Mined:
    """A finished set: its file, and how many boxes in how many of the pictures that were searched."""

    file: Path
    boxes: int
    pictures: int
    searched: int


def negatives_among(found: Detections, people_P4: NDArray[np.float64], config: MiningConfig) -> Detections:
    """The boxes of one picture that are nobody's, best first. ``people_P4`` are all of it, crowds too, xyxy."""
    sides_N2 = found.boxes[:, 2:] - found.boxes[:, :2]
    covered_N = covered_shares(found.boxes, people_P4).max(1, initial=0.0)
    good_N = ((found.scores >= config.least_score) & (found.scores <= config.most_score)
              & (covered_N <= config.overlap) & (sides_N2.min(1, initial=np.inf) >= config.least_side))
    best = np.flatnonzero(good_N)[np.argsort(-found.scores[good_N], kind="stable")[: config.each]]
    return Detections(boxes=found.boxes[best], scores=found.scores[best])


def mine(search: Search, detect: Detect, out: Path, *, skeleton: Skeleton, config: MiningConfig,
         identity: dict[str, Any], progress: Progress) -> Mined:
    """Search the pictures that ``out`` does not know yet, and write the set.

    ``identity`` tells what it is mined with besides ``config``; another than it was begun with is refused.
    """
    claim(out, f"{VERB}.json", {"format": FORMAT, **identity, **asdict(config)}, VERB)
    journal = out / "found.jsonl"
    known = dict(_known(journal))
    todo = [row for row in search.rows if row[0] not in known]
    progress(len(search.rows) - len(todo), len(search.rows))
    for name, path, people in todo:
        known[name] = _looked_at(name, path, people, detect, config)
        with files.writing(printable(journal)), journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[name]) + "\n")
        progress(len(known), len(search.rows))
    rows = [known[name] for name, _, _ in search.rows]
    return _written(out, search, rows, skeleton, identity)


def _looked_at(name: str, path: Path, people_P4: NDArray[np.float64], detect: Detect, config: MiningConfig) -> Row:
    pixels = read_image(path).pixels
    found = negatives_among(detect(pixels), people_P4, config)
    return {"file_name": name, "width": pixels.shape[1], "height": pixels.shape[0],
            "boxes": np.round(xyxy_to_xywh(found.boxes), DIGITS).tolist(), "scores": np.round(found.scores, 4).tolist()}


def _known(journal: Path) -> Iterator[tuple[str, Row]]:
    """What an earlier search has written; a line that was cut off is taken away, and its picture searched again."""
    if not journal.is_file():
        return
    whole = 0
    for length, row in files.whole_records(journal):
        whole += length
        yield row["file_name"], row
    os.truncate(journal, whole)


def _written(out: Path, search: Search, rows: Sequence[Row], skeleton: Skeleton, identity: dict[str, Any]) -> Mined:
    shown = [row for row in rows if row["boxes"]]
    if not shown:
        raise DatasetError(f"{printable(out)}: no box without a person was found in {len(rows)} pictures; lower the "
                           "least score, or give pictures without people with --negatives")
    where = {name: path for name, path, _ in search.rows}
    images: list[Row] = []
    boxes: list[Row] = []
    for number, row in enumerate(shown, start=1):
        _put(where[row["file_name"]], out / "images" / row["file_name"])
        images.append({"id": number, **{name: row[name] for name in ("file_name", "width", "height")}})
        boxes += [{"id": len(boxes) + place, "image_id": number, "category_id": NEGATIVE_ID, "bbox": box,
                   "area": round(box[2] * box[3], DIGITS), "iscrowd": 0, "score": score}
                  for place, (box, score) in enumerate(zip(row["boxes"], row["scores"], strict=True), start=1)]
    file = out / "negatives.json"
    write_json_compact(file, {
        "info": {"description": f"Hard negatives, by stagepose {VERB}", VERB: identity}, "images": images,
        "annotations": boxes, "categories": [category_json(skeleton), {"id": NEGATIVE_ID, "name": NEGATIVE}]})
    return Mined(file=file, boxes=len(boxes), pictures=len(shown), searched=len(rows))


def _put(source: Path, target: Path) -> None:
    """One picture beside the boxes."""
    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        files.write_bytes(target, source.read_bytes())
