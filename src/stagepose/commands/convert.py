"""``stagepose convert``: labels of other tools to a COCO keypoint file, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from stagepose import formats
from stagepose.coco import resolve_skeleton, summarise
from stagepose.commands.arguments import OptionalFolder, OptionalName, OptionalText
from stagepose.commands.console import counted, note, say, wrong_usage
from stagepose.draw import JOINT_THRESHOLD
from stagepose.errors import DatasetError
from stagepose.files import keep_inputs, require_place
from stagepose.lines import printable

Source = Positional[Annotated[Path, arg(metavar="IN")]]
Place = Annotated[Path, arg(metavar="FILE|DIR")]


def convert(
    source: Source,
    *,
    out: Place,
    to: formats.Written = "coco",
    format: Literal["auto"] | formats.Read = "auto",
    images: OptionalFolder = None,
    skeleton: OptionalName = None,
    category: OptionalText = None,
    split: OptionalText = None,
    joint_threshold: float = JOINT_THRESHOLD,
    estimate_areas: bool = False,
    drop_bad: bool = False,
    link: bool = True,
) -> None:
    """Turn labels of other tools into a COCO keypoint file, which check and train take, or the other way round.

    IN is YOLO pose (its data.yaml or folder), Labelme (a folder), CVAT for images 1.1 (XML), CVAT's COCO keypoints,
    Label Studio's JSON, DeepLabCut's CollectedData_*.csv (or its project), what stagepose predict wrote (to be
    corrected), or COCO. Keypoints are matched by name, never by their order. What a format cannot hold is counted and
    reported. docs/formats.md has the details.

    Args:
        source: File or folder with the labels.
        out: The file to write, or the folder of a YOLO or Labelme set.
        to: Format to write.
        format: Format of IN; by default recognized by its content.
        images: Folder of the pictures; by default where the labels say, or images/ beside them.
        skeleton: Keypoints of the set: a published skeleton's name, a skeleton file or an annotation file. For YOLO
            without keypoint names, those of the file, in its order.
        category: Label of the people's boxes or skeletons; by default person, or the only one there is.
        split: YOLO split (train, val or test): read only this one, or write this one (by default train).
        joint_threshold: Keypoints that predict scored at least this become visible; lower ones, unlabelled.
        estimate_areas: Fill in missing areas from the boxes, and mark them as estimated (COCO only).
        drop_bad: Leave out pictures with faulty labels instead of refusing the whole set.
        link: Make images/ beside the result a link to the pictures, if nothing is there yet.
    """
    if not 0 <= joint_threshold <= 1:
        wrong_usage(f"--joint-threshold is {joint_threshold}; it is a score, between 0 and 1")
    if to == "coco" and out.suffix.lower() != ".json":
        wrong_usage(f"--out {printable(out)}: a COCO file is known by its suffix .json")
    kind, place = formats.detect(source, None if format == "auto" else format)
    _refuse_idle(kind, to, images=images is not None, category=category is not None, split=split is not None,
                 joint_threshold=joint_threshold != JOINT_THRESHOLD, estimate_areas=estimate_areas, drop_bad=drop_bad,
                 no_link=not link)
    if images and not images.is_dir():
        raise DatasetError(f"{printable(images)}: no such folder; --images names the one that holds the pictures")
    opened = formats.open_source(kind, place, images=images, category=category, threshold=joint_threshold,
                                 skeleton=resolve_skeleton(skeleton) if skeleton else None)
    chosen = [split] if split else opened.splits
    for line in () if split else opened.notes:
        note(printable(line))
    targets = {one: _target(out, to, one if len(chosen) > 1 else "") for one in chosen}
    for target in targets.values():
        keep_inputs(target, formats.inputs(kind, place))
        if to not in formats.FOLDERS:
            require_place(target)
    read = {}
    for one in chosen:
        labels = opened.read(one)
        _tell(f"{kind} {one}" if kind == "yolo" else kind, place, labels)
        read[one] = _without_mistakes(labels, drop_bad)
    for one, target in targets.items():
        for line in formats.write(to, read[one], target, split=one, links=link, estimate_areas=estimate_areas):
            note(printable(line))
        say(f"written: {printable(target)}")


def _target(out: Path, to: str, split: str) -> Path:
    """Where a split goes, "" for the only one; a YOLO set takes all in one folder."""
    if not split or to == "yolo":
        return out
    return out / split if to == "labelme" else out.with_name(f"{out.stem}-{split}{out.suffix}")


def _refuse_idle(kind: formats.Read, to: formats.Written, *, images: bool, category: bool, split: bool,
                 joint_threshold: bool, estimate_areas: bool, drop_bad: bool, no_link: bool) -> None:
    """Of the options that were given, those that would change nothing."""
    for is_idle, why in (
        (drop_bad and kind == "coco",
         "--drop-bad is not for COCO files, which 'stagepose check FILE --write-clean OUT' mends"),
        (images and kind == "yolo", "--images is not for YOLO, whose data.yaml says where the pictures are"),
        (category and kind not in formats.LABELLED,
         f"--category chooses among the labels of {', '.join(formats.LABELLED)}; IN is {kind}: leave "
         "it out"),
        (joint_threshold and kind != "predict",
         f"--joint-threshold is for what 'stagepose predict' wrote; IN is {kind}, which has no scores: leave it out"),
        (split and "yolo" not in (kind, to),
         "--split is for YOLO sets; 'stagepose split' makes two COCO files of one"),
        (estimate_areas and to != "coco", "--estimate-areas is for COCO files; no other format has areas"),
        (no_link and to not in formats.LINKED,
         f"--no-link is for {' and '.join(formats.LINKED)}; with --to {to} no link is made: leave it out"),
    ):
        if is_idle:
            wrong_usage(why)


def _tell(kind: str, place: Path, labels: formats.Labels) -> None:
    """What was found, a line each: counts, keypoints by name, what the format did not say."""
    people, images = labels.dataset, labels.dataset.images
    empty = sum(not len(rows) for rows in people.rows_by_image.values())
    without = f" ({empty} without people)" if empty else ""
    say(f"{printable(place)}: {kind}, {counted(len(images), 'picture', 'pictures')}{without}, "
        f"{counted(len(people), 'person', 'people')}")
    listed = ", ".join(f"{name} {count}" for name, count in formats.labelled(labels).items())
    say(f"keypoints of skeleton {people.skeleton.name}, by name: {printable(listed)}")
    for line in labels.notes:
        note(printable(line))


def _without_mistakes(labels: formats.Labels, drop: bool) -> formats.Labels:
    """The set where there are none, or they are to be left out; else an error, and lines that list them."""
    problems = labels.problems
    if not problems:
        return labels
    kinds = summarise(problems)
    if drop:
        listed = ", ".join(f"{kind.count} x {kind.kind}" for kind in kinds)
        note(f"pictures with mistakes are left out ({listed}); the first: {printable(problems[0])}")
        return replace(labels, problems=[])
    if len(problems) == 1:
        raise DatasetError(f"{problems[0]}; {problems[0].remedy}")
    for kind in kinds:
        note(f"{kind.count} x {kind.kind}: {kind.remedy}")
        for example in kind.examples:
            note(f"    {printable(example)}")
    raise DatasetError(f"{len(problems)} mistakes, see above; mend them, or leave their pictures out with --drop-bad")
