"""Which pictures two sets have in common: one rule, by which sets are checked, merged and split.

A picture is its file name. Ids say nothing between sets, since everybody counts from 1; where they do mean
something, as COCO's, the file name is that number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.problems import Problem, problem, show

_COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})")  # COCO_val2014_000000000139 in 2014, 000000000139 in 2017


@dataclass(frozen=True)
class Twins:
    """What pictures share with those of another set: places in the first list, and the other's picture.

    ``same`` are the same picture; ``only_id`` have the same id, but are taken for another picture.
    """

    same: dict[int, ImageInfo]
    only_id: dict[int, ImageInfo]


def image_key(file_name: str) -> str:
    """What all names of one picture have in common: COCO's number, or the path without its suffix."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    coco = _COCO_NAME.fullmatch(path.stem)
    return coco.group(1) if coco else str(path.with_suffix("")) if path.name else file_name


def is_generated(raw: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a file marks all its images, or the one of ``row``, as ``generated``: rendered, or made of others."""
    about = raw.get("info")  # null or a list in some files, and nobody's concern elsewhere
    return row.get("generated") is True or (isinstance(about, dict) and about.get("generated") is True)


def sources_of(row: dict[str, Any]) -> list[str]:
    """Names of the pictures that an image of a file was made of."""
    sources = row.get("sources")
    listed = sources if isinstance(sources, list) else []
    names = [source.get("file_name") for source in listed if isinstance(source, dict)]
    return [name for name in names if isinstance(name, str)]


def find_twins(images: Sequence[ImageInfo], others: Sequence[ImageInfo]) -> Twins:
    """Which of ``images`` the others have too."""
    by_key = {image_key(other.file_name): other for other in others}
    by_id = {other.id: other for other in others}
    same: dict[int, ImageInfo] = {}
    only_id: dict[int, ImageInfo] = {}
    for place, image in enumerate(images):
        named, numbered = by_key.get(image_key(image.file_name)), by_id.get(image.id)
        if named is not None:
            same[place] = named
        elif numbered is not None:
            only_id[place] = numbered
    return Twins(same, only_id)


def check_overlap(
    raw: dict[str, Any], images: Sequence[ImageInfo], index: Sequence[int], others: Sequence[ImageInfo], other_name: str
) -> list[Problem]:
    """An error for each picture of a file that the other set has too, a warning where only the id is the same.

    A generated picture's name and number are its maker's own and mean nothing; but where it was made of photographs, it
    is in the other set if one of them is. ``raw`` is the file's JSON, {} for a set from elsewhere, and ``index`` the
    place of each picture in its list.
    """
    listed = raw.get("images", [])
    twins, theirs = find_twins(images, others), {image_key(other.file_name) for other in others}
    found = []
    for place, (at, image) in enumerate(zip(index, images, strict=True)):
        row = listed[at] if raw else {}
        where, name, generated = f"image {image.id}", show(image.file_name), is_generated(raw, row)
        if place in twins.same and not generated:
            detail = f"{name} is also in {other_name}, as {show(twins.same[place].file_name)}"
            found.append(problem("overlap", where, detail, "images", at))
        elif place in twins.only_id and not generated:
            detail = f"{name}: {other_name} has the same id for {show(twins.only_id[place].file_name)}"
            found.append(problem("overlap-id", where, detail, "images", at))
        for source in sources_of(row):
            if image_key(source) in theirs:
                detail = f"{name} was made of {show(source)}, which is also in {other_name}"
                found.append(problem("overlap", where, detail, "images", at))
    return found
