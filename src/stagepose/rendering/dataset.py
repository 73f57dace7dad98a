"""Many pictures: an ordinary COCO set, on all cores, that goes on where it was stopped.

Picture number i is made from (seed, i) alone, so neither the number of processes nor an interruption can change it.
Pictures are made in batches; a batch's labels are written when all of its pictures are, and say that it is done.

    OUT/images/000000000001.jpg ...    OUT/person_keypoints.json    OUT/sheet.jpg
    OUT/render.json                    what all of it was made with
    OUT/labels/000000.json ...         a batch each
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from stagepose.coco import read_dataset, write_json_compact
from stagepose.coco.dataset import category_json
from stagepose.errors import ConfigError, DatasetError, StagePoseError
from stagepose.files import write_json
from stagepose.images import find_images, printable, read_header
from stagepose.rendering.fit import targets
from stagepose.rendering.landmarks import COCO_FILE, read_landmarks
from stagepose.rendering.worker import Batch, Order, make_batch, start_worker
from stagepose.skeleton import Skeleton

BATCH = 16  # pictures: what a stop loses of each process
FORMAT = 1  # of what is rendered: raised when the same seed would no longer give the same pictures
SMALLEST, LARGEST = 32, 2048  # pixels of a picture's longer side
CC0 = {"id": 1, "name": "CC0 1.0 Universal", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # one each: the processes share the cores

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """What decides the pictures: the longer ``size`` in pixels, at most so many ``people`` in one, the ``seed``.

    ``skeleton``: a file of keypoints on the body; ``backgrounds``: a folder of pictures without people; ``poses``: a
    COCO file whose people's poses are taken.
    """

    size: int = 256
    people: int = 4
    seed: int = 0
    skeleton: Path | None = None
    backgrounds: Path | None = None
    poses: Path | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("size", SMALLEST, LARGEST), ("people", 1, 12), ("seed", 0, 2**32 - 1)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected {low} to {high}")

    def identity(self, backdrops: list[Path]) -> dict[str, Any]:
        """What must be the same for two runs to give one set; files count by what is in them."""
        return {
            "format": FORMAT, "size": self.size, "people": self.people, "seed": self.seed,
            "skeleton": _digest([self.skeleton or COCO_FILE]), "backgrounds": _digest(backdrops),
            "poses": _digest([self.poses] if self.poses else []),
        }  # fmt: skip


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
    skeleton = read_landmarks(config.skeleton or COCO_FILE).skeleton
    backdrops = _backdrops(config.backgrounds)
    if config.poses is not None:
        targets(read_dataset(config.poses), read_landmarks(COCO_FILE))
    _claim(out, config.identity(backdrops))
    batches = [Batch(number, number * BATCH, min(count, (number + 1) * BATCH)) for number in range(-(-count // BATCH))]
    _nothing_beyond(out, count)
    missing = [batch for batch in batches if not _is_done(out, batch)]
    done = count - sum(len(batch) for batch in missing)
    progress(done, count)
    for batch in _make(missing, out, config, backdrops, min(jobs, len(missing))):
        done += len(batch)
        progress(done, count)
    return _gather(out, count, batches, skeleton, config)


def _make(batches: list[Batch], out: Path, config: RenderConfig, backdrops: list[Path], jobs: int) -> Any:
    """Batches as they are done, by processes of one thread each."""
    if not batches:
        return
    order = Order(out, config.size, config.people, config.seed, config.skeleton or COCO_FILE, tuple(backdrops),
                  config.poses)
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=start_worker, initargs=(order,))
    try:
        waiting: dict[Future[None], Batch] = {pool.submit(make_batch, batch): batch for batch in batches}
        for future in as_completed(waiting):
            future.result()
            yield waiting[future]
    except BrokenProcessPool as error:
        raise StagePoseError("a process that renders died, perhaps for want of memory; what is done is kept: run the "
                             "same command again, with fewer --jobs") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _backdrops(folder: Path | None) -> list[Path]:
    """The pictures of a folder, each looked at: one that cannot be read is refused before any work."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise DatasetError(f"{printable(str(folder))}: no such folder; --backgrounds names one of pictures without "
                           "people")
    files = sorted(find_images([folder]))
    for file in files:
        read_header(file)
    return files


def _digest(files: list[Path]) -> str:
    """Of the contents of files, whatever their names."""
    total = hashlib.sha256()
    for file in files:
        try:
            total.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise DatasetError(f"{printable(str(file))}: cannot be read: {error.strerror}") from error
    return total.hexdigest()[:16] if files else ""


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Take an empty folder, or one that was begun with the same settings."""
    note = out / "render.json"
    if not note.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DatasetError(f"{printable(str(out))}: is not an empty folder, and none that was begun by render; "
                               "choose another")
        write_json(note, identity)
        return
    try:
        begun = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{printable(str(note))}: cannot be read; choose another folder") from error
    changed = [name for name in identity if not isinstance(begun, dict) or begun.get(name) != identity[name]]
    if changed:
        name = changed[0]
        was = begun.get(name) if isinstance(begun, dict) else None
        raise DatasetError(f"{printable(str(out))}: was begun with {name} {was!r}, now it is {identity[name]!r}; "
                           "give the same settings to go on with it, or choose another folder")


def _nothing_beyond(out: Path, count: int) -> None:
    """A set that is there already is never made smaller: its other pictures would lie about unlabelled."""
    made = sorted((out / "labels").glob("*.json"))
    if made and (rows := json.loads(made[-1].read_text(encoding="utf-8"))) and rows[-1]["number"] >= count:
        raise DatasetError(f"{printable(str(out))}: holds {rows[-1]['number'] + 1} pictures already, {count} are asked "
                           "for; ask for as many or more, or choose another folder")


def _labels(out: Path, batch: Batch) -> Path:
    return out / "labels" / f"{batch.number:06d}.json"


def _is_done(out: Path, batch: Batch) -> bool:
    """Whether its labels are written and its pictures, which came before them, are still there."""
    try:
        rows = json.loads(_labels(out, batch).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return len(rows) >= len(batch) and all((out / "images" / row["file_name"]).is_file() for row in rows[: len(batch)])


def _gather(out: Path, count: int, batches: list[Batch], skeleton: Skeleton, config: RenderConfig) -> Rendered:
    """All labels into one COCO file."""
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for batch in batches:
        for row in json.loads(_labels(out, batch).read_text(encoding="utf-8"))[: len(batch)]:
            number = row["number"] + 1
            licence = {"license": CC0["id"]} if config.backgrounds is None else {}
            images.append({"id": number, "file_name": row["file_name"], "width": row["width"], "height": row["height"],
                           "generated": True, **licence})
            people += [{"id": len(people) + 1 + i, "image_id": number, "category_id": 1, "iscrowd": 0, **person}
                       for i, person in enumerate(row["people"])]
    about = {"description": "Rendered people, made by stagepose render", "generated": True, "seed": config.seed,
             "render": config.identity(_backdrops(config.backgrounds))}
    licences = {"licenses": [CC0]} if config.backgrounds is None else {}
    file = out / "person_keypoints.json"
    write_json_compact(file, {"info": about, **licences, "images": images, "annotations": people,
                              "categories": [category_json(skeleton)]})
    return Rendered(file, count, len(people), sum(person["num_keypoints"] > 0 for person in people))

