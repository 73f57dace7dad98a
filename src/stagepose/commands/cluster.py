"""``stagepose cluster``: people in as many pictures as there are, on a Ray cluster."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import Positional, arg

from stagepose.cluster import find_in
from stagepose.commands.arguments import (
    AT_LEAST_ONE,
    Folder,
    ModelName,
    OptionalCount,
    OptionalNumber,
    OptionalText,
    OptionalTiles,
)
from stagepose.commands.console import counted, counter_or_lines, note, say, wrong_usage
from stagepose.commands.stopping import ending_in_order
from stagepose.images import MAX_PIXELS
from stagepose.lines import printable
from stagepose.predictor import DEFAULT_DETECTOR, DEFAULT_POSE
from stagepose.structures import KeepBy


def cluster(
    photos: Positional[Annotated[list[str], arg(metavar="PHOTO|URI ...", help_behavior_hint=AT_LEAST_ONE)]],
    *,
    out: Folder,
    address: OptionalText = None,
    pose: ModelName = DEFAULT_POSE,
    detector: ModelName = DEFAULT_DETECTOR,
    threshold: OptionalNumber = None,
    max_people: int = 100,
    keep: OptionalCount = None,
    keep_by: KeepBy = "score",
    tiles: OptionalTiles = None,
    flip: bool = False,
    batch: int = 8,
    workers: OptionalCount = None,
    threads: int = 1,
    provider: str = "cpu",
    gpus: OptionalNumber = None,
    part: int = 256,
    again: bool = False,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> int:
    """Find the people in millions of photos, on all machines of a Ray cluster, or all cores of this one.

    Writes OUT/parts/*.parquet: a row for every photo with image (absolute path or URI), width, height, people (score,
    box, keypoints of each), notices, and error, which says why a photo could not be used.

    Stop or kill it, or any process of it, at any time: the same command goes on from there, and every photo has one row
    in the end.

    Args:
        photos: Files, folders (with all below), glob patterns, and URIs of pictures or folders in storage, such as
            s3://bucket/folder. All machines must see paths as this one does.
        out: Folder for the results, where all machines see it.
        address: Of the Ray cluster that this machine belongs to; auto finds it. Without it this machine's cores are
            used.
        pose: Pose model: a shipped name or an .onnx file.
        detector: Person detector: a shipped name or an .onnx file.
        threshold: Least score of a person. By default the pose model's own.
        max_people: Most boxes of one photo that are looked into, best first; --keep counts people.
        keep: Most people of one photo, of all that are found; by default everyone.
        keep_by: Whom to keep: those who score most, or those of the largest boxes.
        tiles: Let the detector look at overlapping tiles of large photos too: of so many pixels a side, or auto.
        flip: Also look at every person mirrored: more precise, twice the time.
        batch: People in one run of the network.
        workers: Processes that look at photos; by default as many as the machines have cores or GPUs for.
        threads: CPU threads of each process.
        provider: ONNX Runtime's execution provider, such as cuda.
        gpus: GPUs that each process reserves, such as 0.5 for two processes on one; one by default with another
            provider than cpu.
        part: Photos of one file of the results: what a killed process does again.
        again: Look once more at photos that have an error.
        strict: A photo that cannot be used makes the exit code 1.
        max_pixels: Refuse photos with more pixels than this.
    """
    if not photos:
        wrong_usage("name at least one photo, folder, glob pattern or URI")
    with ending_in_order(), counter_or_lines("cluster", "looked at") as step:
        found = find_in(photos, out, pose=pose, detector=detector, address=address, workers=workers, threads=threads,
                        provider=provider, gpus=gpus, part=part, again=again, progress=step, threshold=threshold,
                        max_people=max_people, keep=keep, keep_by=keep_by, tiles=tiles, flip=flip, batch=batch,
                        max_pixels=max_pixels)
    for error in found.errors:
        note(error)
    if found.failed > len(found.errors):
        note(f"and {found.failed - len(found.errors):,} more; the column error has all")
    if found.earlier:
        unused = f"; {found.earlier_failed:,} of them could not be used: --again tries them once more"
        note(f"{counted(found.earlier, 'photo was', 'photos were')} looked at before"
             + unused * bool(found.earlier_failed))
    used, rows = found.pictures - found.failed, f"{printable(out)}/parts"
    if found.pictures:
        say(f"{counted(found.people, 'person', 'people')} in {used:,} of {counted(found.pictures, 'photo', 'photos')}; "
            f"their rows are in {rows}")
    else:
        say(f"nothing to do: {rows} has a row of every photo")
    nothing = not used and not found.earlier - found.earlier_failed
    return 1 if nothing or (strict and found.failed + found.earlier_failed) else 0
