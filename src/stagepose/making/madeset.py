"""A set in the making: what may be asked for, its folder, and at its end an ordinary COCO file with a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagepose.claims import claim
from stagepose.coco import write_json_compact
from stagepose.coco.dataset import category_json
from stagepose.errors import ConfigError, DatasetError
from stagepose.lines import printable
from stagepose.making.sheet import draw_sheet
from stagepose.skeleton import Skeleton

LARGEST_SEED = 2**32 - 1

Row = dict[str, Any]


def check_wish(count: int, jobs: int, seed: int) -> None:
    """:class:`ConfigError` unless so many pictures can be made by so many processes from this seed."""
    if count < 1:
        raise ConfigError(f"{count} pictures asked for; expected 1 or more")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected 1 or more processes")
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"seed is {seed}; expected 0 to {LARGEST_SEED}")


@dataclass(frozen=True, kw_only=True)
class MadeSet:
    """The set in the folder ``out`` that the command ``verb`` makes; two runs of one ``identity`` make the same."""

    out: Path
    verb: str
    seed: int
    identity: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """Where its labels are once it is finished."""
        return self.out / "person_keypoints.json"

    def begin(self, count: int, reached: Callable[[Path], int]) -> None:
        """Take the folder; ``reached`` tells how many pictures have been come to there.

        :class:`DatasetError` where those are more than the ``count`` asked for: none is ever taken away.
        """
        claim(self.out, f"{self.verb}.json", self.identity, self.verb)
        there = reached(self.out)
        if there > count:
            raise DatasetError(f"{printable(self.out)}: has come to picture {there} already, {count} are asked for; "
                               "ask for as many or more, or choose another folder")

    def finish(self, description: str, skeleton: Skeleton, images: Sequence[Row], people: Iterable[Row],
               licences: Sequence[Mapping[str, Any]] | None) -> None:
        """The COCO file of these images and people, who are numbered here, and its sheet.

        Without ``licences`` it says nothing of them, with an empty list that there are none.
        """
        about = {"description": description, "generated": True, "seed": self.seed, self.verb: self.identity}
        write_json_compact(self.file, {
            "info": about, **({} if licences is None else {"licenses": list(licences)}), "images": images,
            "annotations": [{"id": number, **person} for number, person in enumerate(people, start=1)],
            "categories": [category_json(skeleton)]})
        draw_sheet(self.file)
