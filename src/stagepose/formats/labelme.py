"""Labelme: a JSON file a picture, with rectangles and points; shapes of one person share a ``group_id``.

A point's label is its keypoint's name. Visibility is not told, but for a flag that the annotator may set: ``occluded``,
``hidden`` or ``invisible`` among a shape's flags, or ``difficult``, which X-AnyLabeling writes. Pixels are those of the
upright picture (wkentaro/labelme, pull request 305). Sources: github.com/wkentaro/labelme (README; issue 925 on what
group_id is for), github.com/CVHub520/X-AnyLabeling (docs).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.jsonfile import load_json
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.files import write_json
from stagepose.formats.assemble import BoxShape, PointShape, Sheet, assemble_people
from stagepose.formats.collect import PERSON, Collector, Labels, number, stated_size
from stagepose.formats.layout import Target, all_or_none
from stagepose.lines import printable
from stagepose.skeleton import HIDDEN, VISIBLE, Skeleton

WHAT = "a Labelme file"
VERSION = "5.5.0"  # of the layout that we write
HIDDEN_FLAGS = ("occluded", "hidden", "invisible")
HIDDEN_FLAG = HIDDEN_FLAGS[0]  # that we write


def is_labelme(raw: object) -> bool:
    """Whether parsed JSON is such a file."""
    return isinstance(raw, dict) and "shapes" in raw and "imagePath" in raw


def read(path: Path, *, images: Path | None = None, skeleton: Skeleton | None = None, category: str | None = None
         ) -> Labels:  # fmt: skip
    """The people of one file, or of all Labelme files below a folder."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    to = Collector(images, skeleton)
    sheets = [sheet for file in files if (sheet := _read_file(file, path.is_dir(), to))]
    tied = assemble_people(sheets, category, path, to)
    to.notes.append(f"visibility: 1 for points with a flag {', '.join(HIDDEN_FLAGS)} or difficult, 2 for all others")
    if tied:
        to.notes.append(f"{tied} shapes without a group_id were given to the only box that they lie in, or around them")
    return to.finish(None, images or (path if path.is_dir() else path.parent))


def _read_file(file: Path, one_of_many: bool, to: Collector) -> Sheet | None:
    shown = printable(file)
    to.turn_to(None)
    try:
        raw = load_json(file, what=WHAT)
    except DatasetError as error:
        to.wrong("label-file", shown, str(error).removeprefix(f"{shown}: ").rstrip("."))
        return None
    if not is_labelme(raw) or not isinstance(raw["shapes"], list) or not isinstance(raw["imagePath"], str):
        if one_of_many and not is_labelme(raw):
            to.leave_out("JSON files of something else")
        else:
            to.wrong("label-file", shown, "has no list of shapes and no imagePath, as a Labelme file has")
        return None
    name = raw["imagePath"].replace("\\", "/")  # as it is written on Windows
    folders = [folder for folder in (file.parent, to.images) if folder]
    places = [folder / each for folder in folders for each in (name, PurePosixPath(name).name)]
    image = to.picture(name, places, shown, stated_size(raw.get("imageWidth"), raw.get("imageHeight")))
    if image is None:
        return None
    sheet = Sheet(image, [], [])
    for at, shape in enumerate(raw["shapes"]):
        _read_shape(shape, f"{shown}: shape {at + 1}", sheet, to)
    return sheet


def _read_shape(shape: Any, where: str, sheet: Sheet, to: Collector) -> None:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        to.wrong("label-file", where, f"is {show(shape)}, expected an object with a label")
        return
    kind, label, key = shape.get("shape_type"), shape["label"], shape.get("group_id")
    if kind not in ("rectangle", "point"):
        to.leave_out(f"shapes of kind {kind}")
        return
    if key is not None and not isinstance(key, (int, str)):
        to.wrong("label-value", where, f"group_id is {show(key)}, expected a number")
        return
    try:
        corners = [(number(x), number(y)) for x, y in shape["points"]]
    except (KeyError, TypeError, ValueError):
        corners = []
    if kind == "point" and len(corners) == 1:
        if (name := to.keypoint(label, where)) is not None:
            sheet.points.append(PointShape(key, name, (*corners[0], HIDDEN if _is_hidden(shape) else VISIBLE), where))
    elif kind == "rectangle" and len(corners) in (2, 4):  # two corners; X-AnyLabeling writes all four
        xs, ys = zip(*corners, strict=True)
        sheet.boxes.append(BoxShape(key, label, (min(xs), min(ys), max(xs), max(ys)), where))
    else:
        wish = "one pair of numbers" if kind == "point" else "two pairs of numbers"
        to.wrong("label-value", where, f"{kind} {show(label)} has points {show(shape.get('points'))}, expected {wish}")


def _is_hidden(shape: Mapping[str, Any]) -> bool:
    flags = shape.get("flags")
    named = isinstance(flags, dict) and any(flags.get(flag) is True for flag in HIDDEN_FLAGS)
    return named or shape.get("difficult") is True


def write(dataset: CocoDataset, to: Target) -> list[str]:
    """A file a picture into a folder, also where nobody is; ``imagePath`` leads from there to the picture."""
    files = to.files(dataset.images, "", ".json")
    with all_or_none(files.values()):
        for image in dataset.images:
            file = files[image.id]
            name = image.file_name
            if to.pictures is not None:
                name = Path(os.path.relpath((to.pictures / name).absolute(), file.parent.absolute())).as_posix()
            shapes = [shape for group, row in enumerate(dataset.rows_by_image[image.id].tolist(), 1)
                      for shape in _shapes(dataset, row, group)]
            write_json(file, {"version": VERSION, "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
                              "imageHeight": image.height, "imageWidth": image.width})
    notes = [f"hidden keypoints have the flag {HIDDEN_FLAG}"]
    if any("/" in i.file_name for i in dataset.images) and to.pictures and not to.out.samefile(to.pictures):
        notes.append("labelme looks for the files of pictures in subfolders only beside these: write to the pictures' "
                     f"folder, --out {printable(to.pictures)}")
    return notes


def _shapes(dataset: CocoDataset, row: int, group: int) -> list[dict[str, Any]]:
    left, top, right, bottom = dataset.boxes_xyxy[row].tolist()
    shapes = [_shape(PERSON, [[left, top], [right, bottom]], group, "rectangle", False)]
    for name, (x, y, v) in zip(dataset.skeleton.names, dataset.keypoints[row].tolist(), strict=True):
        if v:
            shapes.append(_shape(name, [[x, y]], group, "point", v == HIDDEN))
    return shapes


def _shape(label: str, points: list[list[float]], group: int, kind: str, hidden: bool) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": group, "description": "", "shape_type": kind,
            "flags": {HIDDEN_FLAG: True} if hidden else {}}
