"""DeepLabCut: a CSV for the pictures of a video, ``CollectedData_SCORER.csv``; a row a picture, two columns a keypoint.

Header rows name the columns: scorer, bodyparts, coords, and in projects of several animals individuals before the
bodyparts. The first cell of a row is the picture's path below the project, or the first three are its parts. An empty
cell is a keypoint that is not labelled; visibility and boxes are not told. Source: DeepLabCut's documentation
(convert_maDLC.md on unique bodyparts, which are of no animal and stand under ``single``). Lightning Pose writes the
same.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stagepose.coco.category import plain_name
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.formats.collect import Collector, Labels, Point, number, skeleton_of
from stagepose.lines import printable
from stagepose.skeleton import VISIBLE, Skeleton

WHAT = "a file of labels, CollectedData_SCORER.csv"
PLACES = ("", "*/", "labeled-data/*/")  # of a video's folder, of all videos', of a project
OLD = "singleanimal.csv"  # DeepLabCut's copy of before a project had several animals
HEADERS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
NOBODYS = "single"
AXES = ("x", "y")

Row = list[str]


def files_in(folder: Path) -> list[Path]:
    """The files of labels of a video's folder or a project, sorted."""
    found = {path for place in PLACES for path in folder.glob(f"{place}CollectedData*.csv")}
    return sorted(path for path in found if not path.name.endswith(OLD))


def is_deeplabcut(path: Path) -> bool:
    """Whether a CSV has such a header; one that cannot be read has none."""
    try:
        return _header(_rows(path)) is not None
    except DatasetError:
        return False


def read(path: Path, *, images: Path | None = None, skeleton: Skeleton | None = None) -> Labels:
    """The people of one file, or of all of a folder; :class:`DatasetError` where there is none, or none of its kind."""
    files = files_in(path) if path.is_dir() else [path]
    if not files:
        raise DatasetError(f"{printable(path)}: holds no CollectedData_*.csv; name a video's folder of labeled-data, "
                           "or the project's")
    to = Collector(images, skeleton)
    sheets = [_read_header(file, to) for file in files]
    for sheet in sheets:
        for line, row in sheet.rows:
            _read_row(row, f"{printable(sheet.path)}: line {line}", sheet, to)
    to.notes.append("visibility: 2 for all keypoints that are labelled; the format tells no other")
    own = skeleton_of(dict.fromkeys(name for sheet in sheets for people in sheet.columns.values() for name in people))
    return to.finish(own, images or (path if path.is_dir() else path.parent))


@dataclass(frozen=True)
class _Sheet:
    """A file: the column of each x, and that of its y, by individual and keypoint; its rows with their line numbers."""

    path: Path
    width: int  # cells of a row
    names: int  # of them, the path's
    columns: dict[str, dict[str, tuple[int, int]]]
    rows: list[tuple[int, Row]]


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise DatasetError(f"{printable(path)}: cannot be read as {WHAT}: {why}") from error


def _header(rows: Sequence[Row]) -> list[Row] | None:
    """The rows that name the columns."""
    for names in HEADERS:
        if [row[0].strip() if row else "" for row in rows[: len(names)]] == names:
            return [[cell.strip() for cell in row] for row in rows[: len(names)]]
    return None


def _read_header(path: Path, to: Collector) -> _Sheet:
    rows, shown = _rows(path), printable(path)
    header = _header(rows)
    if header is None:
        raise DatasetError(f"{shown}: is not {WHAT}, whose first lines begin with scorer, bodyparts, coords (or "
                           "scorer, individuals, bodyparts, coords)")
    parts, axes, width = header[-2], header[-1], len(header[-1])
    people = header[1] if len(header) == 4 else [""] * width
    if "likelihood" in axes:
        raise DatasetError(f"{shown}: has likelihoods, so DeepLabCut has found what is in it, and nobody labelled it; "
                           "name a CollectedData_*.csv")
    if len({len(row) for row in (*header, people)}) > 1:
        raise DatasetError(f"{shown}: its header lines have different numbers of cells; export it again")
    names = next((at for at in range(1, width) if axes[at]), width)
    sheet = _Sheet(path, width, names, {}, [(at, row) for at, row in enumerate(rows[len(header):], len(header) + 1)
                                            if any(cell.strip() for cell in row)])
    for at in range(names, width, 2):
        pair = list(zip(people[at:at + 2], parts[at:at + 2], axes[at:at + 2], strict=True))
        if [axis for *_, axis in pair] != list(AXES) or pair[0][:2] != pair[1][:2] or not parts[at]:
            raise DatasetError(f"{shown}: column {at + 1} is {show(' '.join(pair[0]).strip())}, expected x and y of a "
                               "bodypart side by side")
        if people[at] == NOBODYS:
            to.leave_out("bodyparts of no individual (single)")
            continue
        columns, name = sheet.columns.setdefault(people[at], {}), plain_name(parts[at])
        if name in columns:
            raise DatasetError(f"{shown}: column {at + 1} is {show(parts[at])}, which column {columns[name][0] + 1} is "
                               "too; rename one")
        columns[name] = at, at + 1
    return sheet


def _read_row(row: Row, where: str, sheet: _Sheet, to: Collector) -> None:
    """A picture and its people; without any label it is one that nobody has come to yet."""
    to.turn_to(None)
    if len(row) != sheet.width:
        to.wrong("label-file", where, f"has {len(row)} cells, expected {sheet.width}")
        return
    if not any(cell.strip() for cell in row[sheet.names:]):
        to.leave_out("pictures without a label")
        return
    name = "/".join(cell.strip() for cell in row[: sheet.names]).replace("\\", "/")
    image = to.picture(name, _places(name, sheet.path.parent, to.images), where, None)
    if image is None:
        return
    for person, columns in sheet.columns.items():
        points = {known: point for part, xy in columns.items()
                  if (point := _point(part, [row[at].strip() for at in xy], where, to))
                  and (known := to.keypoint(part, where)) is not None}
        if points:
            to.person(image, None, points, f"{where}: {person}" if person else where)


def _places(name: str, folder: Path, images: Path | None) -> list[Path]:
    """Beside the file, below the project, whose labeled-data has the file's folder, or where the user says."""
    tails = [PurePosixPath(*PurePosixPath(name).parts[-count:]) for count in (3, 2, 1)]
    return [images / tail for tail in tails] if images else [folder / tails[-1], folder.parent.parent / name]


def _point(part: str, cells: Sequence[str], where: str, to: Collector) -> Point | None:
    """None where nothing is labelled, or with a problem."""
    if all(cell in ("", "nan", "NaN") for cell in cells):
        return None
    try:
        x, y = map(number, cells)
    except ValueError:
        to.wrong("label-value", where, f"{part} is at {', '.join(map(show, cells))}, expected two numbers or two empty "
                                       "cells")
        return None
    return x, y, VISIBLE
