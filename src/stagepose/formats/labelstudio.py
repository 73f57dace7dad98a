"""Label Studio's JSON export: a list of tasks, in them regions in per cent of the picture.

Keypoints are KeyPointLabels, boxes RectangleLabels. A keypoint belongs to the rectangle that its ``parentID`` names, or
that a relation joins it with. Visibility is not told, but where a choice ``occluded``, ``hidden`` or ``invisible`` is
made of the region. Pictures are shown upright by the browser. Sources: labelstud.io/guide/task_format and
labelstud.io/tags (keypointlabels, rectanglelabels, choices with perRegion), HumanSignal/label-studio issues 6502
(parentID) and 5438 (the 8 digits before an uploaded picture's name).
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from stagepose.coco.category import plain_name
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.jsonfile import load_json, write_json_compact
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.files import write_text
from stagepose.formats.assemble import BoxShape, PointShape, Sheet, assemble_people
from stagepose.formats.collect import PERSON, Collector, Labels, number, picture_folders, stated_size
from stagepose.formats.layout import Target
from stagepose.imagefiles import IMAGE_SUFFIXES, path_ends
from stagepose.lines import printable
from stagepose.skeleton import HIDDEN, VISIBLE, Skeleton

WHAT = "Label Studio's JSON export"
CONTRIBUTOR = "Label Studio"  # who a COCO file that it exported says it is by
HIDDEN_CHOICE = "occluded"  # that we write
HIDDEN_CHOICES = frozenset({HIDDEN_CHOICE, "hidden", "invisible"})
IMAGE, BOX, KEYPOINT, VISIBILITY = "image", "box", "keypoint", "visibility"  # controls of the interface that we write
LOCAL = "/data/local-files/?d="  # a file of a local storage, whose folder must lie in LOCAL_FILES_DOCUMENT_ROOT
FOLDER = "images"  # what we call the pictures' folder where it is not known
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def is_label_studio(raw: object) -> bool:
    """Whether parsed JSON is such an export."""
    return isinstance(raw, list) and bool(raw) and isinstance(raw[0], dict) and "data" in raw[0] and (
        "annotations" in raw[0] or "predictions" in raw[0])


def is_json_min(raw: object) -> bool:
    """Whether it is the short export, without ids and parents of regions."""
    first = raw[0] if isinstance(raw, list) and raw else None
    return isinstance(first, dict) and "annotator" in first and "annotation_id" in first


def read(path: Path, *, images: Path | None = None, skeleton: Skeleton | None = None, category: str | None = None
         ) -> Labels:  # fmt: skip
    """The people of an export. Of a task with several annotations the first counts; tasks without are left out.

    Those with predictions alone too: what a model has found is no truth before somebody has accepted it.
    """
    tasks = load_json(path, what=WHAT)
    if not isinstance(tasks, list):
        raise DatasetError(f"{printable(path)}: is {show(tasks)}, expected a list of tasks; give {WHAT}")
    to = Collector(images, skeleton)
    folders = picture_folders(path, images)
    sheets = [sheet for at, task in enumerate(tasks)
              if (sheet := _read_task(task, f"{printable(path)}: task {at + 1}", folders, to))]
    tied = assemble_people(sheets, category, path, to)
    to.notes.append(f"visibility: 1 for points with a choice {', '.join(sorted(HIDDEN_CHOICES))}, 2 for all others")
    if tied:
        to.notes.append(f"{tied} points without a parent were given to the only box around them")
    return to.finish(None, folders[0])


def _read_task(task: Any, where: str, folders: list[Path], to: Collector) -> Sheet | None:
    to.turn_to(None)
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        to.wrong("label-file", where, f"is {show(task)}, expected an object with data")
        return None
    regions = _regions(task, to)
    if regions is None:
        to.leave_out("tasks with predictions alone" if task.get("predictions") else "tasks without an annotation")
        return None
    address = task["data"].get("image") or _address(task["data"])
    if not isinstance(address, str) or not address:
        to.wrong("label-file", where, f"data is {show(task['data'])}, expected the address of an image")
        return None
    sized = next((r for r in regions if isinstance(r, dict) and "original_width" in r), {})
    stated = stated_size(sized.get("original_width"), sized.get("original_height"))
    names = names_of(address)
    if not names:
        to.wrong("label-file", where, f"its image is {show(address)}, expected an address that ends in a file's name")
        return None
    image = to.picture(names[0], [folder / name for name in names for folder in folders], where, stated)
    return None if image is None else Sheet(image, *_read_regions(regions, where, image, to))


def _address(data: dict[str, Any]) -> str | None:
    """The first text that names a picture by its suffix, else the first: beside it may stand a title, say."""
    texts = [value for value in data.values() if isinstance(value, str)]
    pictures = [text for text in texts if any(PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
                                              for name in names_of(text))]
    return next(iter(pictures + texts), None)


def _regions(task: dict[str, Any], to: Collector) -> list[Any] | None:
    """Of the first annotation that nobody has cancelled."""
    rows = task.get("annotations")
    good = [row["result"] for row in rows if isinstance(row, dict) and not row.get("was_cancelled")
            and isinstance(row.get("result"), list)] if isinstance(rows, list) else []
    if len(good) > 1:
        to.leave_out("further annotations of the same picture", len(good) - 1)
    return good[0] if good else None


def names_of(address: str) -> list[str]:
    """Names that a picture may have in a folder, by how Label Studio addresses it; the likeliest first.

    Of a local storage's file it is not told where the storage begins: all ends of its path are names. No name where
    the address has no path.
    """
    try:
        parts = urlsplit(address)
    except ValueError:  # http://[a/x.jpg
        return []
    local = parse_qs(parts.query).get("d")
    ends = path_ends(local[0] if local else unquote(parts.path))
    return list(dict.fromkeys([*(ends if local else ends[-1:]), *(_UPLOADED.sub("", end) for end in ends[-1:])]))


def _read_regions(regions: list[Any], where: str, image: int, to: Collector
                  ) -> tuple[list[BoxShape], list[PointShape]]:  # fmt: skip
    hidden = {str(r.get("id")) for r in regions if isinstance(r, dict) and "id" in r
              and _choices(r) & HIDDEN_CHOICES}
    boxes: list[BoxShape] = []
    points: list[PointShape] = []
    parents = _parents(regions)
    for at, region in enumerate(regions):
        place = f"{where}, region {at + 1}"
        kind = region.get("type") if isinstance(region, dict) else None
        if kind not in ("keypointlabels", "rectanglelabels"):
            if kind not in ("relation", "choices", "labels"):
                to.leave_out(f"regions of type {kind}")
            continue
        read_ = _read_region(region, kind, place, to.size(image), to)
        if read_ is None:
            continue
        label, values = read_
        if kind == "rectanglelabels":
            x, y, width, height = values
            boxes.append(BoxShape(str(region.get("id", place)), label, (x, y, x + width, y + height), place))
        elif (name := to.keypoint(label, place)) is not None:
            point = (values[0], values[1], HIDDEN if str(region.get("id")) in hidden else VISIBLE)
            points.append(PointShape(parents.get(str(region.get("id"))), name, point, place))
    return boxes, points


def _parents(regions: list[Any]) -> dict[str, str]:
    """Region -> the rectangle that its parentID names, or that a relation joins it with, in whichever direction."""
    mine = [region for region in regions if isinstance(region, dict)]
    boxes = {str(region["id"]) for region in mine if region.get("type") == "rectanglelabels" and "id" in region}
    pairs = [(region.get("from_id"), region.get("to_id")) for region in mine if region.get("type") == "relation"]
    pairs += [(b, a) for a, b in pairs] + [(region.get("id"), region.get("parentID")) for region in mine]
    return {str(child): str(parent) for child, parent in pairs if str(parent) in boxes}


def _choices(region: dict[str, Any]) -> set[str]:
    value = region.get("value")
    chosen = value.get("choices") if region.get("type") == "choices" and isinstance(value, dict) else None
    return {plain_name(choice) for choice in chosen if isinstance(choice, str)} if isinstance(chosen, list) else set()


def _read_region(region: dict[str, Any], kind: str, where: str, size: tuple[int, int], to: Collector
                 ) -> tuple[str, list[float]] | None:  # fmt: skip
    """The label, and x, y (and width, height) in pixels; None with a problem."""
    value = region.get("value")
    value = value if isinstance(value, dict) else {}
    labels = value.get(kind)
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        to.wrong("label-file", where, f"{kind} is {show(labels)}, expected one label")
        return None
    for turn in (region.get("image_rotation"), value.get("rotation")):
        if turn:
            to.wrong("label-value", where, f"{show(labels[0])} is rotated by {show(turn)}; boxes and pictures must be "
                                           "upright")
            return None
    keys = ("x", "y") if kind == "keypointlabels" else ("x", "y", "width", "height")
    try:
        per_cent = [number(value[key]) for key in keys]
    except (KeyError, ValueError):
        found = {key: value.get(key) for key in keys}
        to.wrong("label-value", where, f"{show(labels[0])} is at {show(found)}, expected numbers of per cent")
        return None
    return labels[0], [share / 100 * size[place % 2] for place, share in enumerate(per_cent)]


def write(dataset: CocoDataset, to: Target) -> list[str]:
    """Tasks with an annotation each, to be imported, and beside them the labelling interface that the project needs.

    Pictures are addressed in a local storage of Label Studio, which cannot be the root of all: their folder's name is
    in the addresses.
    """
    folder = (Path(os.path.abspath(to.pictures)).name if to.pictures else "") or FOLDER  # noqa: PTH100 - links stay
    interface = to.out.with_name(f"{to.out.stem}.interface.xml")
    to.refuse_existing([to.out, interface])
    tasks = []
    for image in dataset.images:
        result = [region for row in dataset.rows_by_image[image.id].tolist()
                  for region in _write_person(dataset, row, image.width, image.height)]
        address = LOCAL + quote(f"{folder}/{image.file_name}")
        tasks.append({"data": {"image": address}, "annotations": [{"result": result}]})
    write_text(interface, _interface(dataset.skeleton))
    write_json_compact(to.out, tasks)
    return [f"the project needs the labelling interface of {printable(interface)}",
            f"pictures are addressed as {LOCAL}{folder}/NAME: files of a local storage for that folder, with "
            "LOCAL_FILES_SERVING_ENABLED=true and LOCAL_FILES_DOCUMENT_ROOT the one above it"]


def _interface(skeleton: Skeleton) -> str:
    # by model_index, the order of keypoints, it exports its own COCO and YOLO
    labels = "".join(f'<Label value={quoteattr(name)} model_index="{k}"/>' for k, name in enumerate(skeleton.names))
    return (f'<View>\n<Image name="{IMAGE}" value="$image"/>\n'
            f'<RectangleLabels name="{BOX}" toName="{IMAGE}"><Label value="{PERSON}"/></RectangleLabels>\n'
            f'<KeyPointLabels name="{KEYPOINT}" toName="{IMAGE}">{labels}</KeyPointLabels>\n'
            f'<Choices name="{VISIBILITY}" toName="{IMAGE}" perRegion="true">'
            f'<Choice value="{HIDDEN_CHOICE}"/></Choices>\n'
            "</View>\n")


def _write_person(dataset: CocoDataset, row: int, width: int, height: int) -> list[dict[str, Any]]:
    parent = f"person{row + 1}"
    common = {"to_name": IMAGE, "original_width": width, "original_height": height, "image_rotation": 0}
    left, top, right, bottom = dataset.boxes_xyxy[row].tolist()
    box = {"x": 100 * left / width, "y": 100 * top / height, "width": 100 * (right - left) / width,
           "height": 100 * (bottom - top) / height, "rotation": 0, "rectanglelabels": [PERSON]}
    regions: list[dict[str, Any]] = [{"id": parent, "from_name": BOX, "type": "rectanglelabels", **common,
                                      "value": box}]
    for name, (x, y, v) in zip(dataset.skeleton.names, dataset.keypoints[row].tolist(), strict=True):
        if not v:
            continue
        value = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.5}
        regions.append({"id": f"{parent}-{name}", "parentID": parent, "from_name": KEYPOINT, "type": "keypointlabels",
                        **common, "value": {**value, "keypointlabels": [name]}})
        if v == HIDDEN:
            regions.append({"id": f"{parent}-{name}", "from_name": VISIBILITY, "type": "choices", **common,
                            "value": {**value, "choices": [HIDDEN_CHOICE]}})
    return regions
