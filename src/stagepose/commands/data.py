"""``stagepose check``, ``stats`` and ``split``: annotation files, without any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stagepose import coco
from stagepose.commands.arguments import (
    Folder,
    JsonFile,
    JsonFiles,
    OptionalCount,
    OptionalFile,
    OptionalFolder,
    OptionalNumber,
)
from stagepose.commands.console import counted, note, say, table, wrong_usage
from stagepose.errors import DatasetError
from stagepose.files import keep_inputs
from stagepose.lines import printable


def check(
    file: JsonFile,
    *,
    images: OptionalFolder = None,
    write_clean: OptionalFile = None,
    against: OptionalFile = None,
    estimate_areas: bool = False,
) -> int:
    """Look for mistakes in a COCO annotation file.

    Prints each kind of mistake with its count and first examples. The exit code is 1 if there are errors, which
    training and evaluation would refuse; warnings alone, and errors that --write-clean has removed, leave it 0.

    Args:
        file: COCO annotation file.
        images: Folder of the pictures, which are checked too; by default images/ beside the file, if it is there.
        write_clean: Write a copy without the mistakes: rows are dropped or repaired, and counted.
        against: Other half of a split; pictures in both are reported as errors.
        estimate_areas: With --write-clean, fill in missing areas from the boxes, and mark them as estimated.
    """
    if not file.is_file():
        what = "not a file" if file.exists() else "no such file"
        raise DatasetError(f"{printable(file)}: {what}; give a COCO annotation file")
    folder = _pictures_of(file, images)
    problems = coco.check_dataset(file, images_dir=folder, other=against)
    for kind in coco.summarise(problems):
        say(f"{kind.severity}: {kind.count} x {kind.kind}: {kind.remedy}")
        for example in kind.examples:
            say(f"    {printable(example)}")
    wrong = sum(problem.severity == "error" for problem in problems)
    note(f"{printable(file)}: {counted(wrong, 'error', 'errors')}, "
         f"{counted(len(problems) - wrong, 'warning', 'warnings')}")
    if write_clean is None:
        return 1 if wrong else 0
    keep_inputs(write_clean, [file, *([against] if against else [])])
    changes = coco.write_clean(file, write_clean, images_dir=folder, other=against, estimate_areas=estimate_areas)
    for line in changes.lines():
        say(line)
    note(f"clean copy written to {printable(write_clean)}")
    return 0


def stats(files: JsonFiles) -> None:
    """Count images, people and keypoints of COCO annotation files.

    A person counts if it has at least one labelled keypoint and is not a crowd.

    Args:
        files: COCO annotation files.
    """
    if not files:
        wrong_usage("name at least one annotation file")
    counted = [(printable(file), coco.statistics(coco.read_dataset(file))) for file in files]
    table(coco.STATISTICS_HEADER, coco.statistics_rows(counted))


def split(
    files: JsonFiles,
    *,
    out: Folder,
    minival: OptionalFile = None,
    count: OptionalCount = None,
    fraction: OptionalNumber = None,
    seed: int = 0,
    all_images: bool = False,
) -> None:
    """Split annotation files into train-val.json and mini-val.json, which share no picture.

    As in the source report with COCO 2014: train-val is all files together, without the pictures of mini-val. Mini-val
    is given as a file (--minival) or drawn at random (--count or --fraction). Pictures stay where they are.

    Args:
        files: COCO annotation files to merge.
        out: Folder for the two files; whoever reads them looks for the pictures in images/ there, which may be a link.
        minival: Annotation file whose pictures are mini-val.
        count: Draw this many pictures.
        fraction: Draw this share of the pictures.
        seed: Random seed of the draw.
        all_images: Let mini-val also have pictures without labelled people, which reveal false detections.
    """
    if not files or (minival is None) + (count is None) + (fraction is None) != 2:
        wrong_usage("name at least one annotation file, and one of --minival, --count and --fraction")
    targets = {"train-val": out / "train-val.json", "mini-val": out / "mini-val.json"}
    for target in targets.values():
        keep_inputs(target, [*files, *([minival] if minival else [])])
    halves = coco.split(
        [coco.read_dataset(file) for file in files],
        minival=coco.read_dataset(minival) if minival else None,
        count=count, fraction=fraction, seed=seed, keypoints_only=not all_images,
    )  # fmt: skip
    about: dict[str, Any] = halves[0]["info"]["split"]
    for target, half in zip(targets.values(), halves, strict=True):
        coco.write_json_compact(target, half)
    rows = coco.statistics_rows((name, coco.Statistics(**counts)) for name, counts in about["counts"].items())
    table(coco.STATISTICS_HEADER, rows)
    for line in about["notes"]:
        note(printable(line))
    note(f"written: {', '.join(printable(target) for target in targets.values())}")


def _pictures_of(file: Path, given: Path | None) -> Path | None:
    """The folder of a file's pictures; None, and said so, where there is none to look into."""
    folder = coco.images_folder(file, given)
    if folder.is_dir():
        return folder
    if given is not None:
        raise DatasetError(f"{printable(given)}: no such folder; --images names the one that holds the pictures")
    note(f"pictures not looked at: there is no folder {printable(folder)}; --images names it")
    return None
