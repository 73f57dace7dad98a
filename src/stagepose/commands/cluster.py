"""``stagepose cluster``: people in as many pictures as there are, on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from stagepose.cluster import find_in
from stagepose.commands.arguments import AT_LEAST_ONE, Folder, OptionalCount, OptionalNumber, OptionalText
from stagepose.commands.console import counted, counter_or_lines, note, say, wrong_usage
from stagepose.commands.finding import FinderOptions
from stagepose.commands.stopping import ending_in_order
from stagepose.lines import printable


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(FinderOptions):
    """How people are found, in each process.

    Attributes:
        threads: CPU threads of each process.
        threshold: Minimum person score; by default the pose model's own.
        keep: Keep at most this many people per photo; all by default.
    """

    threads: int = 1


BY_DEFAULT = WorkerOptions()


def cluster(
    photos: Positional[Annotated[list[str], arg(metavar="PHOTO|URI ...", help_behavior_hint=AT_LEAST_ONE)]],
    *,
    out: Folder,
    address: OptionalText = None,
    finding: OmitArgPrefixes[WorkerOptions] = BY_DEFAULT,
    workers: OptionalCount = None,
    gpus: OptionalNumber = None,
    part: int = 256,
    again: bool = False,
    strict: bool = False,
) -> int:
    """Find the people in millions of photos, on all machines of a Ray cluster, or all cores of this one.

    Writes OUT/parts/*.parquet: a row per photo with image (absolute path or URI), width, height, people (score, box,
    keypoints of each), notices, and error, which says why a photo could not be used.

    The run, or any process of it, may be stopped or killed at any time: the same command continues it, and in the end
    each photo has one row.

    Args:
        photos: Files, folders (with all subfolders), glob patterns, and URIs of pictures or folders in storage, such as
            s3://bucket/folder. All machines must see paths as this one does.
        out: Folder for the results, accessible from all machines.
        address: Address of the Ray cluster that this machine belongs to; auto finds it. Without it, this machine's
            cores are used.
        finding: How people are found, in each process.
        workers: Worker processes; by default as many as the machines have cores or GPUs for.
        gpus: GPUs reserved by each process, such as 0.5 for two processes on one; one by default with a provider other
            than cpu.
        part: Photos per results file, i.e. what is redone if a process dies.
        again: Try photos that have an error once more.
        strict: Exit with code 1 if any photo cannot be used.
    """
    if not photos:
        wrong_usage("name at least one photo, folder, glob pattern or URI")
    with ending_in_order(), counter_or_lines("cluster", "looked at") as step:
        found = find_in(photos, out, address=address, workers=workers, gpus=gpus, part=part, again=again, progress=step,
                        **vars(finding))
    for error in found.errors:
        note(error)
    if found.failed > len(found.errors):
        note(f"and {found.failed - len(found.errors):,} more; the column error has all")
    if found.earlier:
        unused = f"; {found.earlier_failed:,} of them could not be used: --again retries them"
        note(f"{counted(found.earlier, 'photo was', 'photos were')} processed before"
             + unused * bool(found.earlier_failed))
    used, rows = found.pictures - found.failed, f"{printable(out)}/parts"
    if found.pictures:
        say(f"{counted(found.people, 'person', 'people')} in {used:,} of {counted(found.pictures, 'photo', 'photos')}; "
            f"their rows are in {rows}")
    else:
        say(f"nothing to do: {rows} has a row of every photo")
    nothing = not used and not found.earlier - found.earlier_failed
    return 1 if nothing or (strict and found.failed + found.earlier_failed) else 0
