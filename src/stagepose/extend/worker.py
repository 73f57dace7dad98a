"""One process that makes pictures: made, judged, written, each before the note that vouches for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.coco import write_json_compact
from stagepose.extend.judge import Judge
from stagepose.extend.made import Made, MadePerson, Recipe, Refused
from stagepose.files import write_bytes
from stagepose.geometry import xyxy_to_xywh
from stagepose.making import encode_jpeg

JPEG_QUALITY = 92

Row = dict[str, Any]


@dataclass(frozen=True)
class Order:
    """What is to be made, who judges it, and where it goes."""

    recipe: Recipe
    judge: Judge | None
    out: Path


class Workshop:
    """What a process keeps from picture to picture."""

    def __init__(self, order: Order) -> None:
        self.out, self.by, self.maker = order.out, order.recipe.by, order.recipe.maker()
        self.judge = order.judge.opened(order.recipe.skeleton) if order.judge else None

    def work(self, numbers: Sequence[int]) -> None:
        """Make pictures; what is there already is written over with the same bytes."""
        for number, made in zip(numbers, self.maker.make(numbers), strict=True):
            write_json_compact(note_of(self.out, number), self._row(number, made))

    def _row(self, number: int, made: Made | Refused) -> Row:
        """Write picture ``number``; returns what its note says of it."""
        if isinstance(made, Refused):
            return {"number": number, "refused": made.reason}
        name = f"{self.by}-{number + 1:06d}.jpg"
        data = encode_jpeg(made.pixels, JPEG_QUALITY)
        write_bytes(self.out / "images" / name, data)
        new = [person for person in made.people if person.new]
        judged = self.judge.oks(_decoded(data), new) if self.judge else [None] * len(new)
        found = dict(zip(map(id, new), judged, strict=True))
        return {"number": number, "file_name": name, "width": made.pixels.shape[1], "height": made.pixels.shape[0],
                "sources": [source.to_json() for source in made.sources], "image": dict(made.notes),
                "people": [_annotation(person, found.get(id(person))) for person in made.people]}


def note_of(out: Path, number: int) -> Path:
    """What is known of picture ``number``."""
    return out / "notes" / f"{number:06d}.json"


def _annotation(person: MadePerson, oks: float | None) -> Row:
    x, y, width, height = (round(float(value), 2) for value in xyxy_to_xywh(person.box_xyxy))
    keypoints = np.round(person.keypoints, 2) * (person.keypoints[:, 2:] > 0)
    judged = {} if oks is None else {"oks": oks}
    return {"bbox": [x, y, width, height], "area": round(person.area, 2), "new": person.new, **judged, **person.notes,
            "keypoints": [int(value) if value.is_integer() else value for value in keypoints.ravel().tolist()]}


def _decoded(data: bytes) -> NDArray[np.uint8]:
    """As whoever learns from it will see it."""
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None  # it was encoded a moment ago
    return np.ascontiguousarray(pixels[:, :, ::-1], dtype=np.uint8)


_workshop: Workshop | None = None  # of this process, set once by start_worker


def start_worker(order: Order) -> None:
    """Run once in each process."""
    global _workshop
    _workshop = Workshop(order)


def work(numbers: Sequence[int]) -> None:
    """Make pictures in this process."""
    assert _workshop is not None
    _workshop.work(numbers)
