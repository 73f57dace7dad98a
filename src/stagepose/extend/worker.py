"""One process that makes pictures: made, judged, written, each before the note that vouches for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stagepose.coco import write_json_compact
from stagepose.coco.dataset import keypoints_json
from stagepose.extend.judge import Judge
from stagepose.extend.made import Made, MadePerson, Recipe, Refused
from stagepose.files import write_bytes
from stagepose.geometry import xyxy_to_xywh
from stagepose.images import read_image
from stagepose.making import encode_jpeg
from stagepose.making.madeset import Row

JPEG_QUALITY = 92


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

    def __call__(self, numbers: Sequence[int]) -> None:
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
        judged = ([None] * len(new) if self.judge is None
                  else self.judge.oks(read_image(data).pixels, new))  # as whoever learns from it will see it
        found = dict(zip(map(id, new), judged, strict=True))
        return {"number": number, "file_name": name, "width": made.pixels.shape[1], "height": made.pixels.shape[0],
                "sources": [source.to_json() for source in made.sources], "image": dict(made.notes),
                "people": [_annotation(person, found.get(id(person))) for person in made.people]}


def note_of(out: Path, number: int) -> Path:
    """What is known of picture ``number``."""
    return out / "notes" / f"{number:06d}.json"


def _annotation(person: MadePerson, oks: float | None) -> Row:
    x, y, width, height = (round(float(value), 2) for value in xyxy_to_xywh(person.box_xyxy))
    keypoints = keypoints_json(np.round(person.keypoints, 2) * (person.keypoints[:, 2:] > 0))
    judged = {} if oks is None else {"oks": oks}
    return {"bbox": [x, y, width, height], "area": round(person.area, 2), "new": person.new, **judged, **person.notes,
            "keypoints": keypoints}
