"""``stagepose sigmas``: how precisely people place each keypoint, from two labellings of the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from stagepose import coco
from stagepose.commands.arguments import File, OptionalName
from stagepose.commands.console import note, table
from stagepose.evaluation import measure_sigmas
from stagepose.files import keep_inputs, require_place, write_text
from stagepose.lines import printable

First = Positional[Annotated[Path, arg(metavar="FIRST.json")]]
Second = Positional[Annotated[Path, arg(metavar="SECOND.json")]]


def sigmas(first: First, second: Second, *, out: File, skeleton: OptionalName = None) -> None:
    """Measure the OKS sigmas: how far apart two people who label the same pictures place each keypoint.

    As COCO measured its own, but by the median, so that a few swapped left and right joints change little; a joint and
    its mirror image are measured together. OUT can be given as --skeleton everywhere.

    Args:
        first: COCO annotation file of one labeller.
        second: That of the other. Pictures are matched by file name, people by annotation id and box.
        out: Skeleton file (.toml) to write: the first file's keypoints with these sigmas.
        skeleton: Keypoints, pairs and limbs to use instead of the first file's: a published skeleton's name, a skeleton
            file or an annotation file.
    """
    keep_inputs(out, [first, second])
    require_place(out, ".toml")
    one = coco.read_dataset(first, skeleton=coco.resolve_skeleton(skeleton) if skeleton else None)
    measured = measure_sigmas(one, coco.read_dataset(second, skeleton=one.skeleton), out.stem)
    table(("keypoint", "pairs", "with its mirrored", "sigma", "before"), measured.rows())
    for line in measured.notes():
        note(line)
    write_text(out, measured.skeleton.to_toml())
    note(f"written: {printable(out)}")
