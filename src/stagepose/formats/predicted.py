"""What ``stagepose predict`` has found, as labels to correct: docs/results.md has the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stagepose.coco.jsonfile import load_json
from stagepose.coco.results import IMAGES, PEOPLE
from stagepose.errors import DatasetError
from stagepose.formats.collect import Collector, Labels, number, stated_size
from stagepose.lines import printable
from stagepose.skeleton import VISIBLE, Skeleton, by_names

WHAT = "the folder that 'stagepose predict' wrote"


def read(path: Path, *, threshold: float, images: Path | None = None, skeleton: Skeleton | None = None) -> Labels:
    """The people of a folder. A keypoint that scores at least ``threshold`` is visible (2), others are unlabelled."""
    about, people = load_json(path / IMAGES, what=WHAT), load_json(path / PEOPLE, what=WHAT)
    to = Collector(images, skeleton)
    low = 0
    try:
        if not about.get("complete", True):
            to.notes.append("that run was stopped: the pictures that it had not come to are not among these")
        own = by_names(tuple(about["keypoints"]))
        places = {row["id"]: _picture(row, f"{printable(path / IMAGES)}: image {row['id']}", to)
                  for row in about["images"]}
        for at, row in enumerate(people):
            image, where = places[row["image_id"]], f"{printable(path / PEOPLE)}: result {at}"
            triples = [[number(v) for v in row["keypoints"][3 * k:3 * k + 3]] for k in range(len(own))]
            points = {name: (x, y, VISIBLE) for name, (x, y, score) in zip(own.names, triples, strict=True)
                      if score >= threshold}
            low += len(own) - len(points)
            left, top, right, bottom = map(number, row["box"])
            if image is not None:
                to.person(image, (left, top, right, bottom), points, where)
        to.leave_out("videos", len(about.get("videos", ())))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{printable(path)}: not {WHAT} ({type(error).__name__}: {error})") from error
    to.notes.append(f"visibility: 2 for keypoints that score {threshold:g} or more (--joint-threshold); the {low} "
                    "others are unlabelled")
    return to.finish(own, images)


def _picture(row: dict[str, Any], where: str, to: Collector) -> int | None:
    name = Path(row["file_name"])
    places = [to.images / name, to.images / name.name] if to.images else [name]
    return to.picture(name.as_posix(), places, where, stated_size(row["width"], row["height"]))
