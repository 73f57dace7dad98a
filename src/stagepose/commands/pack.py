"""``stagepose pack``: people cut out of labelled pictures once, so that every training starts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from stagepose import coco
from stagepose.coco import resolve_skeleton
from stagepose.commands.arguments import Folder, JsonFiles, ModelName, OptionalCount, OptionalFolder
from stagepose.commands.console import counted, counter_or_lines, say, wrong_usage
from stagepose.geometry import BOX_PADDING
from stagepose.lines import printable
from stagepose.training.crops import CropSpec, CropStore, PackConfig, pack_file


def pack(
    files: JsonFiles,
    *,
    out: Folder,
    images: OptionalFolder = None,
    input_size: tuple[int, int] = (192, 256),
    box_padding: float = BOX_PADDING,
    form: Literal["raw", "jpeg"] = "raw",
    quality: int = 90,
    shard_mb: int = 512,
    skeleton: ModelName = "coco17",
    negatives: bool = False,
    drop_bad: bool = False,
    jobs: OptionalCount = None,
) -> None:
    """Cut the people out of labelled pictures, for 'stagepose train ... --crops OUT'.

    Makes a folder for each file. It may be stopped at any time: the same command continues. What is already packed is
    not packed again, unless its labels or pictures have changed.

    Args:
        files: COCO annotation files.
        out: Folder for the packed people, which train takes as --crops.
        images: Folder of the pictures; by default images/ beside each file.
        input_size: Width and height of the network's input.
        box_padding: Region that the network will see of a person, as a multiple of the box, as for train; stores of
            1.25 and less are the same.
        form: raw is fastest to read and takes 332 KB per person at 192x256; jpeg takes about 25 KB.
        quality: JPEG quality, 1 to 100.
        shard_mb: Approximate size of each file in MB; a packing that is continued keeps what it began with.
        skeleton: Keypoints to learn, as for train: a published skeleton's name, a skeleton file or an annotation file.
        negatives: Cut out the boxes of other categories than people instead, for 'stagepose train --negatives'.
        drop_bad: Leave out pictures that are missing, unreadable or of another size instead of refusing the set.
        jobs: Threads that decode pictures; one per core by default.
    """
    if not files:
        wrong_usage("name at least one annotation file")
    spec = CropSpec.for_view(input_size, box_padding)
    config = PackConfig(form=form, quality=quality, shard_mb=shard_mb, jobs=jobs)
    joints = resolve_skeleton(skeleton)
    for file in files:
        folder = coco.require_images_folder(file, images) if file.is_file() else coco.images_folder(file, images)
        shown = printable(file)
        with counter_or_lines(shown, f"{shown}: {'boxes' if negatives else 'people'} cut out of") as progress:
            store = pack_file(file, folder, out, spec=spec, skeleton=joints, config=config, drop_bad=drop_bad,
                              progress=progress, negative=negatives)
        _tell(file, store)


def _tell(file: Path, store: CropStore) -> None:
    held = ("box without a person", "boxes without a person") if store.negative else ("person", "people")
    say(f"{printable(store.home)}: {counted(len(store), *held)} of {printable(file)}, "
        f"{store.megabytes:,.1f} MB")
    for reason, count in store.left_out.items():
        if count:
            say(f"    left out: {count:,} x {reason}")
