"""What a way to make people gives: pictures with exact labels, each from (seed, number) alone.

K keypoints of the set's skeleton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import CocoDataset, refuse_bad_pictures
from stagepose.errors import DatasetError
from stagepose.geometry import Float
from stagepose.skeleton import Skeleton

KEPT_NOTES = ("all_person_boxes",)  # where it is false, no detector may take the rest for background


@dataclass(frozen=True)
class Source:
    """A picture that pixels or a pose were taken from: its ``file_name``, the ``person``'s annotation id there."""

    file_name: str
    person: int | None = None
    licence: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As the set says it."""
        named = {"person": self.person, "license": self.licence}
        return {"file_name": self.file_name, **{name: value for name, value in named.items() if value is not None}}


@dataclass(frozen=True, eq=False)
class MadePerson:
    """``box_xyxy`` (4,) and ``area`` of what is seen; ``keypoints`` (K, 3) x, y, v in pixels of the picture.

    Who is ``new`` is judged and keeps the keypoints. Others, bystanders of the pictures it was made from, stand in
    their own set as they are: only their boxes are kept, so that a detector does not take them for background.
    """

    box_xyxy: Float
    area: float
    keypoints: Float
    new: bool = True
    notes: Mapping[str, Any] = field(default_factory=dict)  # what else the annotation says, as plain JSON


@dataclass(frozen=True, eq=False)
class Made:
    """One picture: ``pixels`` (H, W, 3) uint8 RGB, its people, and what it was made of."""

    pixels: NDArray[np.uint8]
    people: tuple[MadePerson, ...]
    sources: tuple[Source, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)  # what else the image's row says, as plain JSON


@dataclass(frozen=True)
class Refused:
    """No picture of this number can be made. Reasons are counted: a few words, the same for the same cause."""

    reason: str


class Maker(Protocol):
    """A way to make pictures, with all that it keeps in memory; one in each process."""

    def make(self, numbers: Sequence[int]) -> list[Made | Refused]:
        """One for each number, in their order, each from (seed, number) alone, whatever the numbers beside it."""


class Recipe(Protocol):
    """What pictures are made from. Plain data, which travels to other processes."""

    @property
    def by(self) -> str:
        """The way's name, such as ``paste``."""
    @property
    def seed(self) -> int: ...
    @property
    def skeleton(self) -> Skeleton:
        """Of the people who are made."""
    @property
    def licences(self) -> Sequence[Mapping[str, Any]]:
        """COCO's ``licenses`` of the pictures that it takes from."""
    @property
    def taught_by(self) -> frozenset[str]:
        """SHA-256 of the model files that it learnt from: none of them may judge what it makes."""

    def check(self) -> None:
        """:class:`StagePoseError` where nobody can be made of the set, or its pictures do not fit its labels.

        Called once, before a folder is claimed; what it finds out travels to the processes.
        """

    def identity(self) -> dict[str, Any]:
        """What must be the same for two runs to give one set, as plain JSON."""

    def maker(self) -> Maker:
        """Ready to make; called once in each process."""


def source_of(dataset: CocoDataset, row: int) -> Source:
    """A person of a set as the source of one who is made."""
    image = dataset.image_of(row)
    return Source(image.file_name, int(dataset.ids[row]), dataset.raw_images.get(image.id, {}).get("license"))


def notes_of(dataset: CocoDataset, image_id: int) -> dict[str, Any]:
    """What a picture's row says that holds of any picture with it as background: whether all people have boxes."""
    row = dataset.raw_images.get(image_id, {})
    return {name: row[name] for name in KEPT_NOTES if name in row}


def refuse_unfit(dataset: CocoDataset, images_dir: Path) -> None:
    """:class:`DatasetError` for pictures that do not fit their labels, and for those that were made of others.

    What is made of the latter would no longer name the photographs it shows. Rendered ones show none.
    """
    made = sum(bool(row.get("sources")) for row in dataset.raw.get("images", ()))
    if made:
        raise DatasetError(f"{dataset.shown}: {made} of its pictures are generated already; name the set of "
                           "photographs that they were made of")
    refuse_bad_pictures(dataset, images_dir)
