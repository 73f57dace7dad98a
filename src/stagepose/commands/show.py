"""``stagepose show``: a set's labels drawn over its pictures, or what a training makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from stagepose import coco
from stagepose.commands.arguments import (
    CountOrAll,
    Folder,
    JsonFile,
    OptionalFolder,
    OptionalName,
    OptionalNumber,
    OptionalPreset,
    OptionalSize,
    OptionalTexts,
)
from stagepose.commands.console import counted, counter, note, say, wrong_usage
from stagepose.commands.overlays import LABELS, Overlays, Photo
from stagepose.errors import ConfigError, DatasetError, ImageError, needing
from stagepose.files import require_place
from stagepose.images import MAX_PIXELS
from stagepose.labelled import draw_labels
from stagepose.lines import printable

SHEET = "sheet.jpg"
LEAST_SIDE = 1000  # pixels of an overlay's longer side: smaller pictures are enlarged, or a small person is a blot


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of 'stagepose train' that change how people are shown.

    Attributes:
        augment: Augmentation settings that replace the preset's, each NAME=VALUE, as for train.
        input_size: Width and height of the network's input, instead of the preset's.
        box_padding: Region that the network sees of a person, as a multiple of the box.
        mirror: Also show people mirrored.
    """

    augment: OptionalTexts = None
    input_size: OptionalSize = None
    box_padding: OptionalNumber = None
    mirror: bool = True


AS_THE_PRESET = SampleOptions()


def show(
    file: JsonFile,
    *,
    out: Folder,
    images: OptionalFolder = None,
    count: CountOrAll = 50,
    seed: int = 0,
    skeleton: OptionalName = None,
    all_images: bool = False,
    augmented: OptionalPreset = None,
    training: OmitArgPrefixes[SampleOptions] = AS_THE_PRESET,
) -> int:
    """Look at a set's labels: are they right, and what does training see?

    Writes NAME.labels.jpg (.png for a PNG) for some pictures: people with their joints, the left ones blue, the right
    ones orange; a joint that is labelled as hidden (v = 1) is a ring. Crowds have dashed frames. Pictures that cannot
    be read are reported, counted and skipped; the exit code is 1 if none could be used.

    With --augmented: the first samples that 'stagepose train PRESET --data FILE.json' would show to its network, on one
    sheet, OUT/sheet.jpg, with the keypoints that it is taught (pip install "stagepose[train]").

    Args:
        file: COCO annotation file.
        out: Folder for the pictures.
        images: Folder of the set's pictures; by default images/ beside the file.
        count: Number of pictures, or of samples on the sheet; all for every picture.
        seed: Random seed of the draw; with --augmented, that of the training.
        skeleton: Keypoints to show: a published skeleton's name, a skeleton file or an annotation file; by default the
            file's own, with --augmented coco17, as for train.
        all_images: Also draw from the pictures without labelled people.
        augmented: Show the training samples of this preset of a pose network, as for train.
        training: Options of 'stagepose train'; with --augmented.
    """
    if isinstance(count, int) and count < 1:
        wrong_usage(f"--count is {count}; use at least 1, or all")
    if augmented is None:
        if training != AS_THE_PRESET:
            wrong_usage("--augment, --input-size, --box-padding and --no-mirror say what a training shows; name its "
                        "preset with --augmented")
        return _show_labels(file, out, images, None if count == "all" else int(count), seed, skeleton, all_images)
    if count == "all" or all_images:
        wrong_usage("--augmented shows samples of labelled people on one sheet; leave out --all-images, and give "
                    "--count a number")
    _show_samples(file, out / SHEET, images, int(count), seed, skeleton or "coco17", augmented, training)
    return 0


def _show_labels(file: Path, out: Path, images: Path | None, count: int | None, seed: int, skeleton: str | None,
                 all_images: bool) -> int:
    dataset = coco.read_dataset(file, skeleton=coco.resolve_skeleton(skeleton) if skeleton else None)
    folder = coco.require_images_folder(file, images)
    labelled = set(dataset.image_ids[dataset.with_keypoints()].tolist())
    pool = dataset.image_by_id.keys() if all_images else labelled
    if not pool:
        raise DatasetError(f"{printable(file)}: no picture has people with labelled keypoints, of "
                           f"{counted(len(dataset.images), 'picture', 'pictures')}; --all-images draws them all the "
                           "same")
    drawn = coco.drawn_by_lot(pool, count, seed)
    require_place(out / SHEET)
    chosen = [image for image in dataset.images if image.id in drawn]
    overlays = Overlays(out, [folder / image.file_name for image in chosen], ending=LABELS)
    failed = 0
    with counter("show") as step:
        for done, image in enumerate(chosen, 1):
            try:
                _one(dataset, image, folder, overlays)
            except ImageError as error:
                note(f"skipped: {error}")
                failed += 1
            step(done, len(chosen))
    note(f"{len(chosen) - failed:,} of {counted(len(pool), 'picture', 'pictures')}; written to {printable(out)}")
    if failed:
        note(f"{counted(failed, 'picture', 'pictures')} could not be used, see above")
    return 1 if failed == len(chosen) else 0


def _one(dataset: coco.CocoDataset, image: coco.ImageInfo, folder: Path, overlays: Overlays) -> None:
    """One picture from its file to its overlay, and a line that says what is in it."""
    photo = Photo(folder / image.file_name, image.file_name, image.id)
    picture = photo.read(MAX_PIXELS)
    name, rows = printable(image.file_name), dataset.rows_by_image[image.id]
    height, width = picture.pixels.shape[:2]
    if (width, height) != (image.width, image.height):
        note(f"{name}: is {width}x{height}, but its labels are for {image.width}x{image.height}; drawn all the same")
    enlarged = -(-LEAST_SIDE // max(height, width))
    written = overlays.save(photo, draw_labels(picture.pixels, dataset, image.id, enlarged))
    crowds, v = int(dataset.crowd[rows].sum()), dataset.keypoints[rows, :, 2]
    said = [counted(len(rows) - crowds, "person", "people"), *([counted(crowds, "crowd", "crowds")] if crowds else []),
            f"{counted(int((v > 0).sum()), 'joint', 'joints')}, {int((v == 1).sum()):,} of them hidden"]
    say(f"{name}: {', '.join(said)}: {written}")


def _show_samples(file: Path, sheet: Path, images: Path | None, count: int, seed: int, skeleton: str, preset: str,
                  told: SampleOptions) -> None:
    """With the recipe, the people and the random numbers of that training; needs the extra 'train'."""
    with needing("train"):
        from stagepose.commands.recipe_options import Options
        from stagepose.training.detector.presets import DETECTOR_PRESETS
        from stagepose.training.posebuild import task_to_look_at
        from stagepose.training.presets import pose_preset
        from stagepose.training.samples import write_samples
    if preset in DETECTOR_PRESETS:
        raise ConfigError(f"{preset} is a detector; --augmented shows what a pose network learns from")
    recipe = Options(data=[str(file)], out=sheet.parent, **vars(told)).changed(pose_preset(preset))
    dataset = coco.read_dataset(file, skeleton=coco.resolve_skeleton(skeleton))
    task = task_to_look_at(recipe, dataset, coco.require_images_folder(file, images), seed)
    write_samples(task, count, sheet)
    say(f"{printable(sheet)}: the first {counted(count, 'sample', 'samples')} of {len(task.reader):,} people, "
        "as the network is shown them")
