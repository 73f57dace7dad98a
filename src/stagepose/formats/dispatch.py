"""Which format something is in, by its content, and the reader and the writer of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stagepose.coco import jsonfile
from stagepose.coco.clean import clean
from stagepose.coco.dataset import CocoDataset, read_dataset, to_json
from stagepose.coco.pictures import images_folder
from stagepose.coco.readiness import refuse_bad_pictures
from stagepose.coco.results import IMAGES, PEOPLE
from stagepose.errors import DatasetError
from stagepose.files import write_json
from stagepose.formats import cvat, deeplabcut, labelme, labelstudio, predicted, yolo
from stagepose.formats.collect import Labels, left_out
from stagepose.formats.layout import Target
from stagepose.lines import printable
from stagepose.skeleton import Skeleton, by_names

Written = Literal["coco", "yolo", "labelme", "cvat", "labelstudio"]
Read = Literal[Written, "deeplabcut", "predict"]
YAML = (".yaml", ".yml")
LOOKED_AT = 20  # files of a folder, to find one of Labelme's among others
FOLDERS: tuple[str, ...] = ("yolo", "labelme")  # what is written as one; the others are a file

LABELLED: tuple[str, ...] = ("yolo", "labelme", "cvat", "labelstudio")  # boxes and shapes, of which people are one kind
LINKED: tuple[str, ...] = ("coco", "yolo")  # what is written with a link to the pictures


def detect(path: Path, given: Read | None = None) -> tuple[Read, Path]:
    """The format, and the file or folder that its reader takes; ``given`` is what the user says it is."""
    if not path.exists():
        raise DatasetError(f"{printable(path)}: no such file or folder")
    if given is not None and path.is_file():
        return given, path.parent if given == "predict" else path
    found = [one for one in (_detect_folder(path) if path.is_dir() else [_detect_file(path)]) if one]
    if given is not None:
        found = [one for one in found if one[0] == given] or [(given, path)]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{name} ({printable(place)})" for name, place in found)
        raise DatasetError(f"{printable(path)}: could be {listed}; name one of these, or its format with --format")
    what = "an archive; unpack it first" if path.suffix.lower() == ".zip" else (
        f"in no format that is known here; --format names one of {', '.join(get_args(Read))}")
    raise DatasetError(f"{printable(path)}: is {what}")


def _detect_file(path: Path) -> tuple[Read, Path] | None:
    suffix = path.suffix.lower()
    if suffix in YAML:
        return "yolo", path
    if suffix == ".xml":
        return "cvat", path
    if suffix == ".csv" and deeplabcut.is_deeplabcut(path):
        return "deeplabcut", path
    if suffix != ".json":
        return None
    raw = jsonfile.load_json_leniently(path, what="a file of labels")
    if labelme.is_labelme(raw):
        return "labelme", path
    if labelstudio.is_label_studio(raw):
        return "labelstudio", path
    if labelstudio.is_json_min(raw):
        raise DatasetError(f"{printable(path)}: is Label Studio's JSON-MIN export, which does not tell whose a "
                           "keypoint is; export it as JSON")
    if isinstance(raw, list) and raw and isinstance(raw[0], dict) and "keypoints" in raw[0]:
        if not (path.parent / IMAGES).is_file():
            raise DatasetError(f"{printable(path)}: holds results, but {IMAGES}, which names their pictures, is "
                               f"not beside it; give {predicted.WHAT}")
        return "predict", path.parent
    return ("coco", path) if isinstance(raw, dict) and "images" in raw else None


def _detect_folder(path: Path) -> list[tuple[Read, Path]]:
    """What a folder may be; a file of another format in it counts only where nothing else does."""
    if (path / IMAGES).is_file() and (path / PEOPLE).is_file():
        return [("predict", path)]
    if deeplabcut.files_in(path):  # before YOLO: a project has a config.yaml
        return [("deeplabcut", path)]
    files = sorted(each for each in path.iterdir() if each.is_file())
    found: list[tuple[Read, Path]] = [("yolo", each) for each in files if each.suffix.lower() in YAML]
    found += [("cvat", each) for each in files if each.name == "annotations.xml"]
    found += [("coco", each) for each in sorted(path.glob("annotations/*.json"))]  # CVAT's COCO keypoints
    if found:
        return found
    if any(map(_holds_labelme, islice(sorted(path.rglob("*.json")), LOOKED_AT))):
        return [("labelme", path)]
    return [one for each in files if each.suffix == ".json" and (one := _detect_file(each))]


def _holds_labelme(path: Path) -> bool:
    """Whether a file is one of Labelme's; one that cannot be read is judged by its reader."""
    try:
        return labelme.is_labelme(jsonfile.load_json_leniently(path))
    except DatasetError:
        return False


@dataclass(frozen=True)
class Source:
    """Labels that are there to be read: the ``splits`` in them, and ``read``, which takes one of these.

    The people are as they are read; what is wrong with them is in the answer. ``notes`` are lines about splits that
    should be there and are not. :class:`DatasetError` and :class:`SkeletonError` where there is nothing to read from.
    """

    splits: list[str]
    read: Callable[[str], Labels]
    notes: Sequence[str] = ()


def open_source(
    kind: Read, path: Path, *, images: Path | None = None, skeleton: Skeleton | None = None,
    category: str | None = None, threshold: float = 0.3,
) -> Source:  # fmt: skip
    """What :func:`detect` has told. Only YOLO sets have several splits, and are opened here for all of them.

    ``threshold`` is the score from which a keypoint that predict found counts as visible.
    """
    if kind == "yolo":
        opened = yolo.open_set(path, category)
        return Source(opened.splits, lambda split: yolo.read(opened, split=split, skeleton=skeleton), opened.notes)
    if kind == "predict":
        return _whole(lambda: predicted.read(path, threshold=threshold, images=images, skeleton=skeleton))
    if kind == "coco":
        return _whole(lambda: _read_coco(path, images, skeleton))
    if kind == "deeplabcut":
        return _whole(lambda: deeplabcut.read(path, images=images, skeleton=skeleton))
    reader = {"labelme": labelme.read, "cvat": cvat.read, "labelstudio": labelstudio.read}[kind]
    return _whole(lambda: reader(path, images=images, skeleton=skeleton, category=category))


def _whole(read: Callable[[], Labels]) -> Source:
    """Labels without splits: all of them are everybody's."""
    return Source(["train"], lambda _split: read())


def _read_coco(path: Path, images: Path | None, skeleton: Skeleton | None) -> Labels:
    """By the rules of all commands; a line says where the file's order is another than that of the set."""
    dataset = read_dataset(path, skeleton=skeleton)
    about = dataset.raw.get("info")
    if isinstance(about, dict) and about.get("contributor") == labelstudio.CONTRIBUTOR:
        raise DatasetError(f"{printable(path)}: is Label Studio's COCO export, in which all keypoints of a picture "
                           "are one person's; export it as JSON")
    subset = path.stem.removeprefix("person_keypoints_")
    exported = path.parent.parent / "images"  # as CVAT's exports and COCO's own annotations lie
    places = [images_folder(path, images)] + ([] if images else [exported / subset, exported])
    folder = next((place for place in places if place.is_dir()), None)
    if folder:
        refuse_bad_pictures(dataset, folder)
    notes = [] if folder else ["pictures not looked at: no folder of them was found; --images names it"]
    names = [name for name in dataset.own.names if name in dataset.skeleton.names] if dataset.own else []
    if names != [name for name in dataset.skeleton.names if name in names]:
        notes.append("the file has its keypoints in another order: they are matched by their names")
    if dataset.unread:
        notes.append(f"keypoints that skeleton {dataset.skeleton.name} lacks are left out: {', '.join(dataset.unread)}")
    notes += left_out({"annotations of other categories": dataset.strangers})
    return Labels(dataset, folder, [], notes)


def labelled(labels: Labels) -> Counter[str]:
    """How many people have each keypoint, in the skeleton's order."""
    counts = (labels.dataset.keypoints[..., 2] > 0).sum(0).tolist()
    return Counter(dict(zip(labels.dataset.skeleton.names, counts, strict=True)))


def write(kind: Written, labels: Labels, out: Path, *, split: str = "train", links: bool = True,
          estimate_areas: bool = False) -> list[str]:
    """Write a set; lines about what was written and what the format cannot hold."""
    to = Target(out, labels.pictures, links)
    if kind == "coco":
        return _write_coco(labels, to, estimate_areas)
    dataset, lost = _for_tools(labels.dataset)
    if kind == "yolo":
        return yolo.write(dataset, to, split=split) + lost
    return {"labelme": labelme.write, "cvat": cvat.write, "labelstudio": labelstudio.write}[kind](dataset, to) + lost


def _for_tools(dataset: CocoDataset) -> tuple[CocoDataset, list[str]]:
    """The people that a tool can show, and a line about what COCO has and no other format here does."""
    sized_N = (dataset.boxes_xyxy[:, 2:] > dataset.boxes_xyxy[:, :2]).all(1)
    keep_N = sized_N & ~dataset.crowd
    outlines = sum(bool(row.get("segmentation")) for row in dataset.raw.get("annotations", ()) if isinstance(row, dict))
    columns = ("ids", "image_ids", "boxes_xyxy", "keypoints", "areas", "crowd", "num_keypoints")
    kept = replace(dataset, **{name: getattr(dataset, name)[keep_N] for name in columns})
    return kept, left_out({
        "crowds": int(dataset.crowd.sum()), "boxes without area": int((~sized_N & ~dataset.crowd).sum()),
        "areas": int((~np.isnan(dataset.areas)).sum()), "outlines": outlines, "licences": len(dataset.licences)})


def inputs(kind: Read, place: Path) -> list[Path]:
    """The files that are read there, but for pictures and YOLO's texts: what a result must not replace."""
    if kind == "predict":
        return [place / IMAGES, place / PEOPLE]
    if kind == "deeplabcut" and place.is_dir():
        return deeplabcut.files_in(place)
    return sorted(place.rglob("*.json")) if place.is_dir() else [place]


def _write_coco(labels: Labels, to: Target, estimate_areas: bool) -> list[str]:
    """A file, a link to the pictures beside it, and a skeleton file where the names alone do not tell what mirrors."""
    dataset, notes = labels.dataset, []
    raw = to_json(dataset)
    if estimate_areas:
        cleaned = clean(raw, estimate_areas=True)
        raw = cleaned.raw
        notes += cleaned.changes.lines()
    elif np.isnan(dataset.areas).any():
        notes.append("areas are not told, which an AP needs; --estimate-areas fills them in from the boxes")
    jsonfile.write_json_compact(to.out, raw)
    notes.append(to.link(to.out.parent / "images"))
    told = by_names(dataset.skeleton.names)
    if _pairs(told) != _pairs(dataset.skeleton):
        beside = to.out.with_name(f"{to.out.stem}.skeleton.json")
        write_json(beside, dataset.skeleton.to_json())
        notes.append(f"what mirrors what cannot be told by the names: train with --skeleton {printable(beside)}")
    return notes


def _pairs(skeleton: Skeleton) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in skeleton.flip_pairs}
