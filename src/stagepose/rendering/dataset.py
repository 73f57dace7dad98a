"""Many pictures: an ordinary COCO set, on all cores, that goes on where it was stopped.

Picture number i is made from (seed, i) alone, so neither the number of processes nor an interruption can change it.
Pictures are made in batches; a batch's labels are written when all of its pictures are, and say that it is done.

    OUT/images/000000000001.jpg ...    OUT/person_keypoints.json    OUT/sheet.jpg
    OUT/render.json                    what all of it was made with
    OUT/labels/000000.json ...         a batch each
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagepose.coco import read_dataset, write_json_compact
from stagepose.coco.dataset import PERSON_CATEGORY, category_json
from stagepose.errors import ConfigError
from stagepose.making import Progress, claim, in_processes, read_json, refuse_fewer
from stagepose.rendering.fit import targets
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.settings import RenderConfig
from stagepose.rendering.worker import Batch, Order, make_batch, start_worker

BATCH = 16  # pictures: what a stop loses of each process
CC0 = {"id": 1, "name": "CC0 1.0 Universal", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}

Row = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """A finished set: its file, and how much is in it."""

    file: Path
    pictures: int
    people: int
    with_keypoints: int


def render_set(count: int, out: Path, config: RenderConfig, *, jobs: int, progress: Progress) -> Rendered:
    """Make ``count`` pictures in ``out``, or those of them that are still missing."""
    if count < 1:
        raise ConfigError(f"{count} pictures asked for; expected 1 or more")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; expected 1 or more processes")
    category = category_json(read_landmarks(config.skeleton).skeleton)
    backdrops = config.backdrops()
    if config.poses is not None:
        targets(read_dataset(config.poses), read_landmarks(COCO_FILE))
    identity = config.identity(backdrops)
    claim(out, "render.json", identity, "render")
    refuse_fewer(out, _pictures(out), count)
    batches = [Batch(number, number * BATCH, min(count, (number + 1) * BATCH)) for number in range(-(-count // BATCH))]
    missing = [batch for batch in batches if not _is_done(out, batch)]
    done = count - sum(len(batch) for batch in missing)
    progress(done, count)
    for batch in in_processes(make_batch, missing, processes=jobs, start=start_worker,
                              order=Order(out, config, backdrops)):
        done += len(batch)
        progress(done, count)
    images, people = _gather(out, batches, licensed=config.backgrounds is None)
    about = {"description": "Rendered people, made by stagepose render", "generated": True, "seed": config.seed,
             "render": identity}
    licences = {"licenses": [CC0]} if config.backgrounds is None else {}
    file = out / "person_keypoints.json"
    write_json_compact(file, {"info": about, **licences, "images": images, "annotations": people,
                              "categories": [category]})
    return Rendered(file, count, len(people), sum(person["num_keypoints"] > 0 for person in people))


# --- the folder


def _pictures(out: Path) -> int:
    """How many pictures the last batch that is done reaches."""
    labels = sorted((out / "labels").glob("*.json"))
    rows = read_json(labels[-1]) if labels else None
    return rows[-1]["number"] + 1 if rows else 0


def _labels(out: Path, batch: Batch) -> Path:
    return out / "labels" / f"{batch.number:06d}.json"


def _is_done(out: Path, batch: Batch) -> bool:
    """Whether its labels are written and its pictures, which came before them, are still there."""
    rows = read_json(_labels(out, batch)) or []
    return len(rows) >= len(batch) and all((out / "images" / row["file_name"]).is_file() for row in rows)


def _gather(out: Path, batches: Sequence[Batch], *, licensed: bool) -> tuple[list[Row], list[Row]]:
    """Images and annotations of all batches, numbered in their order."""
    images: list[Row] = []
    people: list[Row] = []
    licence = {"license": CC0["id"]} if licensed else {}
    for batch in batches:
        for row in read_json(_labels(out, batch)):
            number = row["number"] + 1
            images.append({"id": number, "file_name": row["file_name"], "width": row["width"],
                           "height": row["height"], "generated": True, **licence})
            people += [{"id": len(people) + place, "image_id": number, "category_id": PERSON_CATEGORY, "iscrowd": 0,
                        **person} for place, person in enumerate(row["people"], start=1)]
    return images, people
