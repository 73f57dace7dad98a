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

from stagepose.aliases import Progress
from stagepose.claims import read_json
from stagepose.coco import read_dataset
from stagepose.coco.dataset import person_json
from stagepose.making import MadeSet, check_wish, in_processes
from stagepose.making.madeset import Row
from stagepose.rendering.fit import targets
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.settings import RenderConfig
from stagepose.rendering.worker import Batch, Order, Workshop

BATCH = 16  # pictures: what a stop loses of each process
CC0 = {"id": 1, "name": "CC0 1.0 Universal", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}


@dataclass(frozen=True)
class Rendered:
    """A finished set: its file, and how much is in it."""

    file: Path
    pictures: int
    people: int
    with_keypoints: int


def render_set(count: int, out: Path, config: RenderConfig, *, jobs: int, progress: Progress) -> Rendered:
    """Make ``count`` pictures in ``out``, or those of them that are still missing."""
    check_wish(count, jobs, config.seed)
    skeleton = read_landmarks(config.skeleton).skeleton
    backdrops = config.backdrops()
    if config.poses is not None:
        targets(read_dataset(config.poses), read_landmarks(COCO_FILE))
    made = MadeSet(out=out, verb="render", seed=config.seed, identity=config.identity(backdrops))
    made.begin(count, _pictures)
    batches = [Batch(number, number * BATCH, min(count, (number + 1) * BATCH)) for number in range(-(-count // BATCH))]
    missing = [batch for batch in batches if not _is_done(out, batch)]
    done = count - sum(len(batch) for batch in missing)
    progress(done, count)
    for batch in in_processes(Workshop, Order(out, config, backdrops), missing, processes=jobs):
        done += len(batch)
        progress(done, count)
    images, people = _gather(out, batches, licensed=config.backgrounds is None)
    made.finish("Rendered people, made by stagepose render", skeleton, images, people,
                [CC0] if config.backgrounds is None else None)
    return Rendered(made.file, count, len(people), sum(person["num_keypoints"] > 0 for person in people))


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
    """Images and annotations of all batches, in their order."""
    images: list[Row] = []
    people: list[Row] = []
    licence = {"license": CC0["id"]} if licensed else {}
    for batch in batches:
        for row in read_json(_labels(out, batch)):
            number = row["number"] + 1
            images.append({"id": number, "file_name": row["file_name"], "width": row["width"],
                           "height": row["height"], "generated": True, **licence})
            people += [person_json(number, person["bbox"], person["keypoints"], more={"area": person["area"]})
                       for person in row["people"]]
    return images, people
