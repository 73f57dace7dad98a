"""From annotations and pictures to a crop store: shard by shard, so that a killed packing goes on where it was.

While it is packed a store lies in ``NAME.partial`` beside its final place, held by a lock; a finished shard has a small
JSON beside it that says what is in it, and is never written again. P people of the store, K keypoints.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stagepose import files
from stagepose.ahead import in_order
from stagepose.coco import CocoDataset, read_dataset, read_negatives, refuse_bad_pictures
from stagepose.errors import DatasetError, StagePoseError
from stagepose.images import IMAGE_SUFFIXES
from stagepose.skeleton import Skeleton
from stagepose.training.cutting import MISFIT, UNREADABLE, Fault, Work
from stagepose.training.shards import SUFFIXES, PackConfig, Shard, ShardWriter, shard_name
from stagepose.training.store import (
    FORMAT,
    STORE,
    CropSpec,
    CropStore,
    open_store,
    write_description,
    write_labels,
)
from stagepose.training.workfolder import PARTIAL, Progress, lock_of, mention_leftovers

PLAN = "plan.json"
AHEAD = 4  # pictures a thread may be ahead of the writer: their crops wait in memory
MOST_SHARDS = 256  # each is an open file while a store is read; systems allow 1,024
REPORT_EVERY = 50  # pictures
UNFINISHED = re.compile(r"(?P<set>.+)-[0-9a-f]{12}(-jpeg\d+)?\.partial")
CROWD, UNLABELLED = "crowd", "no labelled keypoint"


def open_or_pack(path: str | Path, images_dir: str | Path, folder: str | Path, *, spec: CropSpec, skeleton: Skeleton,
                 drop_bad: bool = False, progress: Progress | None = None, negative: bool = False) -> CropStore:
    """The store of annotation file ``path`` below ``folder``, packed first where it is missing or out of date.

    Of its people, or with ``negative`` of its boxes in which there is none (:mod:`stagepose.coco.negatives`). One of
    JPEGs that 'stagepose pack' has left there will do; what is packed here is raw.
    """
    path, folder = Path(path), Path(folder)
    fingerprint = fingerprint_of(path, Path(images_dir), spec, skeleton, negative)
    packed = [PackConfig(), *(PackConfig(form="jpeg", quality=quality) for quality in range(100, 0, -1))]
    if (home := _packed(folder, fingerprint, packed)) is not None:
        return open_store(home)
    return pack_file(path, images_dir, folder, spec=spec, skeleton=skeleton, drop_bad=drop_bad, progress=progress,
                     fingerprint=fingerprint, negative=negative)


def fingerprint_of(path: Path, images_dir: Path, spec: CropSpec, skeleton: Skeleton, negative: bool = False) -> str:
    """Changes when the labels, the pictures' names, sizes or times, what is cut out, or the way of it change."""
    try:
        digest = hashlib.sha256(path.read_bytes())
        pictures = sorted((name, found.st_size, found.st_mtime_ns) for name, found in _pictures(images_dir))
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot read: {error.strerror}") from error
    what = ["negative"] if negative else []
    digest.update(json.dumps([FORMAT, asdict(spec), skeleton.to_json(), pictures, *what]).encode())
    return digest.hexdigest()


def pack_file(path: str | Path, images_dir: str | Path, folder: str | Path, *, spec: CropSpec, skeleton: Skeleton,
              config: PackConfig | None = None, drop_bad: bool = False, progress: Progress | None = None,
              fingerprint: str = "", negative: bool = False) -> CropStore:
    """The store of ``path`` in just the form that ``config`` asks for, packed where it is missing or out of date.

    Pictures that are missing, unreadable or of another size than their labels say are refused with their count
    (:class:`DatasetError`), or left out and counted with ``drop_bad``. ``fingerprint``, where it is known already,
    spares reading all labels for it.
    """
    path, images_dir, config = Path(path), Path(images_dir), config or PackConfig()
    fingerprint = fingerprint or fingerprint_of(path, images_dir, spec, skeleton, negative)
    home = _packed(Path(folder), fingerprint, [config])
    if home is None:
        home = Path(folder) / (_store_name(path, fingerprint) + config.suffix)
        dataset = read_negatives(path, skeleton) if negative else read_dataset(path, skeleton=skeleton)
        if not drop_bad:
            refuse_bad_pictures(dataset, images_dir, "leave them out with --drop-bad")
        pack(dataset, images_dir, home, spec=spec, fingerprint=fingerprint + config.suffix, config=config,
             drop_bad=drop_bad, progress=progress)
    return open_store(home)


def pack(dataset: CocoDataset, images_dir: str | Path, home: str | Path, *, spec: CropSpec, fingerprint: str = "",
         config: PackConfig | None = None, drop_bad: bool = False, progress: Progress | None = None) -> None:
    """Cut every labelled person out of its picture into the store ``home``, on all cores.

    Raises :class:`DatasetError` when a picture cannot be read or does not fit its labels (with ``drop_bad`` its people
    are left out and counted), or when nobody is left. Killed at any moment, the same call goes on with what is done.
    """
    home = Path(home)
    if not dataset.to_learn_from().any():
        raise DatasetError(f"{dataset.path}: no person with a labelled keypoint; nothing to train on")
    if home.exists() and not (home / STORE).is_file():
        raise DatasetError(f"{home}: is there, but is no crop store: it has no {STORE}; delete it and pack again")
    work = Work(dataset, Path(images_dir), spec, config or PackConfig())
    working = home.with_name(home.name + PARTIAL)
    try:
        lock = lock_of(working, home / STORE)
    except OSError as error:
        raise _cannot_write(home, error, 0) from error
    if lock is None:  # another process has made the store meanwhile
        return
    with lock:
        _mention_leftovers(working)
        try:
            if not (working / STORE).is_file():  # it is where a packing was killed just before the folder got its name
                _pack_here(working, work, fingerprint, drop_bad, progress)
            _tidy(working)
            working.rename(home)
        except BaseException as error:
            if not (working / STORE).is_file() and not any(working.glob("crops-*.json")):  # nothing worth keeping
                shutil.rmtree(working, ignore_errors=True)
            if isinstance(error, OSError):
                raise _cannot_write(home, error, _megabytes_left(working, work)) from error
            raise


@dataclass(frozen=True)
class _Record:
    """What a finished shard holds; ``sizes`` of its people where they differ."""

    shard: Shard
    sizes: list[int]
    faults: list[Fault]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> _Record:
        return cls(Shard(**data["shard"]), data["sizes"], [Fault(**fault) for fault in data["faults"]])


def _pack_here(working: Path, work: Work, fingerprint: str, drop_bad: bool, progress: Progress | None) -> None:
    plan = _plan(working, work, fingerprint)
    records = [_done(working, number, work) for number in range(len(plan))]
    for unfinished in working.glob("crops-*.tmp"):
        unfinished.unlink()
    _refuse_full_disk(working, work)
    pictures = [len(np.unique(work.image_ids[people.start : people.stop])) for people in plan]
    seen = sum(count for count, record in zip(pictures, records, strict=True) if record)
    total = sum(pictures)

    def step() -> None:
        nonlocal seen
        seen += 1
        if progress and (seen % REPORT_EVERY == 0 or seen == total):
            progress(seen, total)

    with ThreadPoolExecutor(work.config.threads) as pool:
        done = [record or _pack_shard(working, number, plan[number], work, pool, step)
                for number, record in enumerate(records)]
    _refuse_faults(work, done, drop_bad, working)
    _seal(working, work, done, fingerprint)


def _pack_shard(working: Path, number: int, people: range, work: Work, pool: ThreadPoolExecutor,
                step: Callable[[], None]) -> _Record:
    """One shard written, then its record beside it, by which a resume knows that it is whole."""
    writer = ShardWriter(working / shard_name(number, work.config.form))
    faults: list[Fault] = []
    try:
        for picture in in_order(pool, work.cut, work.by_picture(people), AHEAD * work.config.threads):
            for data in picture.crops:
                writer.append(data)
            if picture.fault:
                faults.append(picture.fault)
            step()
        shard = writer.finish()
    except BaseException:
        writer.discard()
        raise
    record = _Record(shard, writer.sizes if work.config.form == "jpeg" else [], faults)
    files.write_json(working / f"crops-{number:05d}.json", asdict(record))
    return record


# --- the folder


def _mention_leftovers(working: Path) -> None:
    """Unfinished stores of the same set, whose labels, pictures or sizes were others."""
    mine = UNFINISHED.fullmatch(working.name)
    others = [other for other in sorted(working.parent.glob(f"*{PARTIAL}"))
              if mine and (found := UNFINISHED.fullmatch(other.name)) and found["set"] == mine["set"]
              and other != working]
    mention_leftovers(others, "an unfinished store of the same set with other labels, pictures or sizes")


def _plan(working: Path, work: Work, fingerprint: str) -> list[range]:
    """Who goes into which shard. A packing that goes on keeps the size of shards that it began with."""
    path = working / PLAN
    content = {"fingerprint": fingerprint, "form": work.config.form, "canvas": list(work.spec.canvas),
               "people": len(work.rows)}
    size = max(1, int(work.config.shard_mb / work.megabytes(1)), -(-len(work.rows) // MOST_SHARDS))
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        begun = {}
    if not isinstance(begun, dict) or begun != {**content, "people_a_shard": begun.get("people_a_shard")}:
        for leftover in working.glob("crops-*"):  # without their plan they mean nothing
            leftover.unlink()
        begun = {**content, "people_a_shard": size}
        files.write_json(path, begun)
    size = int(begun["people_a_shard"])
    return [range(start, min(start + size, len(work.rows))) for start in range(0, len(work.rows), size)]


def _done(working: Path, number: int, work: Work) -> _Record | None:
    """The record of a shard that needs no packing any more."""
    try:
        record = _Record.from_json(json.loads((working / f"crops-{number:05d}.json").read_text(encoding="utf-8")))
        whole = (working / shard_name(number, work.config.form)).stat().st_size == record.shard.bytes
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def _refuse_faults(work: Work, records: Sequence[_Record], drop_bad: bool, working: Path) -> None:
    faults = [fault for record in records for fault in record.faults]
    if sum(len(fault.places) for fault in faults) == len(work.rows):
        shutil.rmtree(working, ignore_errors=True)
        raise DatasetError(f"{work.dataset.path}: none of its images can be used, such as {faults[0].error}; check the "
                           "images folder")
    if faults and not drop_bad:
        errors = {fault.error for fault in faults}
        raise DatasetError(f"{work.dataset.path}: {len(errors)} pictures cannot be used, such as {faults[0].error}; "
                           "mend them, or leave them out with --drop-bad, which finishes what is packed so far in "
                           f"{working}")


def _seal(working: Path, work: Work, records: Sequence[_Record], fingerprint: str) -> None:
    """The labels of those who were cut out, then ``store.json``."""
    faults = [fault for record in records for fault in record.faults]
    kept = np.setdiff1d(np.arange(len(work.rows)), [place for fault in faults for place in fault.places])
    sizes = np.full(len(kept), work.spec.row_bytes)
    if work.config.form == "jpeg":
        sizes = np.concatenate([np.array(record.sizes, dtype=np.int64) for record in records])
    dataset = work.dataset
    left_out = {CROWD: int(dataset.crowd.sum()),
                UNLABELLED: int((~dataset.crowd & ~dataset.to_learn_from()).sum()),
                **{reason: sum(len(fault.places) for fault in faults if fault.reason == reason)
                   for reason in (UNREADABLE, MISFIT)}}
    for record in records:
        if not record.shard.people:  # an empty file cannot be mapped
            (working / record.shard.name).unlink()
    write_labels(working, dataset, work.rows[kept], work.affines[kept], sizes)
    write_description(working, spec=work.spec, skeleton=dataset.skeleton, fingerprint=fingerprint,
                      form=work.config.form, left_out=left_out,
                      shards=[record.shard for record in records if record.shard.people])


def _tidy(working: Path) -> None:
    """What only packing needed goes."""
    for leftover in [working / PLAN, *working.glob("crops-*.json"), *working.glob("*.tmp"), *working.glob(".*.tmp")]:
        leftover.unlink(missing_ok=True)


def _packed(folder: Path, fingerprint: str, configs: Sequence[PackConfig]) -> Path | None:
    """The whole store of these people in the first form that there is, whatever its set's folder was called."""
    homes = sorted(store.parent for store in folder.glob(f"*-{fingerprint[:12]}*/{STORE}"))
    return next((home for config in configs for home in homes
                 if home.name.endswith(f"-{fingerprint[:12]}{config.suffix}")), None)


def _store_name(path: Path, fingerprint: str) -> str:
    """The same from whichever folder ``path`` is named."""
    return f"{Path(os.path.abspath(path)).parent.name}-{path.stem}-{fingerprint[:12]}"  # noqa: PTH100 - links stay


def _pictures(folder: Path, below: str = "", above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[
        tuple[str, os.stat_result]]:
    """The pictures in a folder and in those within, by the names that annotations have for them.

    Links are followed, but not in a circle: ``above`` are the folders on the way to ``below``.
    """
    for entry in os.scandir(folder):
        if entry.is_symlink() and not Path(entry).exists():  # whoever wants the picture that it named is told
            continue
        found = entry.stat()
        place = found.st_dev, found.st_ino
        if entry.is_dir() and place not in above:
            yield from _pictures(Path(entry), f"{below}{entry.name}/", above | {place})
        elif entry.is_file() and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
            yield below + entry.name, found


# --- disks


def _megabytes_left(working: Path, work: Work) -> float:
    """What is still to be written, estimated for JPEGs."""
    finished = [record.with_suffix(SUFFIXES[work.config.form]) for record in working.glob("crops-*.json")]
    return max(0.0, work.megabytes(len(work.rows)) - sum(f.stat().st_size for f in finished if f.is_file()) / 1e6)


def _refuse_full_disk(working: Path, work: Work) -> None:
    """Raw pixels have a size that is known before the first is written; JPEGs have not."""
    needed, free = _megabytes_left(working, work), shutil.disk_usage(working).free / 1e6
    if work.config.form == "raw" and needed > free:
        raise _disk_full(working, needed, f"{free:,.0f} MB are free; ")


def _disk_full(folder: Path, needed: float, free: str = "") -> StagePoseError:
    return StagePoseError(f"{folder}: disk full, {needed:,.1f} MB needed; {free}make room, or choose another folder or "
                          "'stagepose pack --form jpeg', which takes a thirteenth; finished parts are kept")


def _cannot_write(home: Path, error: OSError, needed: float) -> StagePoseError:
    if error.errno in files.FULL:
        return _disk_full(home, needed)
    return StagePoseError(f"{home}: cannot write: {error.strerror}; {files.remedy(error)}")
