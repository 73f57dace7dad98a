"""From parsed JSON to columns: every value's type is looked at once, here, and what is wrong is collected.

N annotations of people, K keypoints. A value that cannot be read has a placeholder in its column and a problem in
the list; :mod:`stagepose.coco.validate` judges the values of the columns.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.category import People, find_people
from stagepose.coco.problems import Part, Problem, problem, show
from stagepose.skeleton import COCO_17, Skeleton

NO_ID = np.iinfo(np.int64).min  # placeholder of an id that cannot be read
MOST_PIXELS = 2.0**62  # no area or root of an area comes near it, and its square is still a double
_NUMBERS = {int, float}  # bool and everything else is no number

_Report = Callable[[str, str], None]  # (kind, detail) of a problem of the annotation at hand


@dataclass(frozen=True)
class ImageInfo:
    """An image of a data set; ``file_name`` is relative to the images folder."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """A COCO file as columns; one row per annotation of the person category, in file order."""

    raw: dict[str, Any]
    images: tuple[ImageInfo, ...]  # whose id, name and size can be read
    image_index: NDArray[np.int64]  # of each in the JSON's list
    known_images: NDArray[np.int64]  # all image ids that can be read
    people: People
    index: NDArray[np.int64]  # (N,) of the annotation in the JSON's list
    ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    has_box: NDArray[np.bool_]  # four numbers, whatever they are
    keypoints: NDArray[np.float64]  # (N, K, 3) in the file's order
    has_keypoints: NDArray[np.bool_]  # 3 K numbers, whatever they are
    unreadable: NDArray[np.bool_]  # keypoints that are not 3 K numbers
    stated: NDArray[np.int64]  # num_keypoints in the file, -1 where absent or unreadable
    areas: NDArray[np.float64]  # NaN where absent or unreadable
    crowd: NDArray[np.bool_]
    estimated: NDArray[np.bool_]  # the area is said to be an estimate

    @property
    def skeleton(self) -> Skeleton:
        """Of the file's own order."""
        return self.people.skeleton or COCO_17

    def where(self, row: int) -> str:
        """How a message calls an annotation."""
        return annotation_name(self.raw["annotations"][self.index[row]], int(self.index[row]))


@dataclass
class _Columns:
    """Growing columns of N rows; numbers go to flat C arrays, which 150,000 people fit in comfortably."""

    index: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    image_ids: list[int] = field(default_factory=list)
    boxes: array[float] = field(default_factory=lambda: array("d"))
    has_box: list[bool] = field(default_factory=list)
    keypoints: array[float] = field(default_factory=lambda: array("d"))
    has_keypoints: list[bool] = field(default_factory=list)
    unreadable: list[bool] = field(default_factory=list)
    stated: list[int] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    estimated: list[bool] = field(default_factory=list)


def parse(raw: Any, given: Skeleton | None = None) -> tuple[ParsedFile, list[Problem]]:
    """Columns of a parsed COCO file, and the problems of types and layout."""
    problems: list[Problem] = []
    if not isinstance(raw, dict):
        hint = " (a results file?)" if isinstance(raw, list) else ""
        wish = "expected an object with images, annotations and categories"
        problems.append(problem("layout", "", f"the file holds a {_json_type(raw)}{hint}; {wish}"))
        return _parse_people({"annotations": []}, (), [], People(None, given), problems), problems
    raw = {**raw, "annotations": _annotations(raw, problems)}
    images, image_index = _parse_images(raw.get("images"), problems)
    people = find_people(raw.get("categories"), raw["annotations"], given, problems)
    return _parse_people(raw, images, image_index, people, problems), problems


def _json_type(value: Any) -> str:
    names = {list: "list", str: "text", bool: "truth value", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _annotations(raw: dict[str, Any], problems: list[Problem]) -> list[Any]:
    if "annotations" not in raw:
        problems.append(problem("annotations-missing", "annotations", "the file has none"))
        return []
    if not isinstance(raw["annotations"], list):
        detail = f"is {show(raw['annotations'])}, expected a list"
        problems.append(problem("layout", "annotations", detail))
        return []
    return raw["annotations"]


def _parse_images(images: Any, problems: list[Problem]) -> tuple[tuple[ImageInfo, ...], list[int]]:
    if not isinstance(images, list):
        problems.append(problem("layout", "images", f"is {show(images)}, expected a list"))
        return (), []
    read = [_parse_image(image, index, problems) for index, image in enumerate(images)]
    names: dict[int, set[str]] = {}
    for info in read:
        if info:
            names.setdefault(info.id, set()).add(info.file_name)
    kept: list[ImageInfo] = []
    index_kept: list[int] = []
    seen: set[int] = set()
    for index, info in enumerate(read):
        if info is None:
            continue
        if len(names[info.id]) > 1:
            detail = f"id stands for {len(names[info.id])} files, such as {show(sorted(names[info.id])[:2])}"
            problems.append(problem("image-id-conflict", f"image {info.id}", detail, "images", index))
        elif info.id in seen:
            detail = f"{show(info.file_name)} is listed again at images[{index}]"
            problems.append(problem("image-id-duplicate", f"image {info.id}", detail, "images", index))
        if info.id not in seen:
            kept.append(info)
            index_kept.append(index)
        seen.add(info.id)
    _same_names(kept, index_kept, problems)
    return tuple(kept), index_kept


def _image_ids(raw: dict[str, Any]) -> list[int]:
    """All that can be read: an image of unknown size is no unknown image."""
    images = raw.get("images")
    rows = [i for i in images if isinstance(i, dict)] if isinstance(images, list) else []
    return [i["id"] for i in rows if type(i.get("id")) is int and -(2**63) < i["id"] < 2**63]


def _same_names(images: Sequence[ImageInfo], index: Sequence[int], problems: list[Problem]) -> None:
    counts = Counter(info.file_name for info in images)
    for info, at in zip(images, index, strict=True):
        if counts[info.file_name] > 1:
            detail = f"file_name {show(info.file_name)} belongs to {counts[info.file_name]} image ids"
            problems.append(problem("image-name-duplicate", f"image {info.id}", detail, "images", at))


def _parse_image(image: Any, index: int, problems: list[Problem]) -> ImageInfo | None:
    where = f"images[{index}]"
    if not isinstance(image, dict):
        problems.append(problem("image-type", where, f"is {show(image)}, expected an object", "images", index))
        return None
    good = id_problem(image, "id", "image-id", where, "images", index, problems)
    name = image.get("file_name")
    if not isinstance(name, str) or not name.strip() or not _may_be_called(name):
        detail = f"file_name is {show(name)}, expected the name of a picture"
        problems.append(problem("image-name", where, detail, "images", index))
        good = False
    for side in ("width", "height"):
        value: Any = image.get(side)
        if type(value) not in _NUMBERS or not 1 <= value < 2**31 or value != int(value):
            detail = f"{side} is {show(value)}, expected a whole number of pixels"
            problems.append(problem("image-size", where, detail, "images", index))
            good = False
    return ImageInfo(image["id"], image["file_name"], int(image["width"]), int(image["height"])) if good else None


def _may_be_called(name: str) -> bool:
    """Whether a file can have this name: none has a zero byte in it, nor half of a surrogate pair.

    Those that stand for bytes that are no text, as Python spells such names of Linux, are fine.
    """
    try:
        return b"\0" not in name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def id_problem(
    row: dict[str, Any], key: str, kind: str, where: str, part: Part, index: int, problems: list[Problem]
) -> bool:
    """Whether ``row[key]`` is an id: a whole number of 64 bits, neither text nor float."""
    value = row.get(key)
    if type(value) is int and -(2**63) < value < 2**63:
        return True
    found = f"is {show(value)}, expected a whole number" if key in row else "is missing"
    problems.append(problem(kind, where, f"{key} {found}", part, index))
    return False


def annotation_name(annotation: Any, index: int) -> str:
    """``annotation 183`` by its id, ``annotations[7]`` by its place where the id is no number."""
    named = isinstance(annotation, dict) and type(annotation.get("id")) is int
    return f"annotation {show(annotation['id'])}" if named else f"annotations[{index}]"


def _parse_people(
    raw: dict[str, Any], images: tuple[ImageInfo, ...], image_index: Sequence[int], people: People,
    problems: list[Problem],
) -> ParsedFile:  # fmt: skip
    columns = _Columns()
    numbers = 3 * len(people.skeleton) if people.skeleton else 0
    for index, annotation in enumerate(raw["annotations"]):
        where = annotation_name(annotation, index)
        if not isinstance(annotation, dict):
            detail = f"is {show(annotation)}, expected an object"
            problems.append(problem("annotation-type", where, detail, "annotations", index))
        elif _category(annotation, where, index, people, problems) == people.category_id is not None:
            _parse_person(annotation, index, where, numbers, columns, problems)
        else:  # another category: its ids must be right all the same
            id_problem(annotation, "id", "annotation-id", where, "annotations", index, problems)
            id_problem(annotation, "image_id", "annotation-image", where, "annotations", index, problems)
    return _parsed(raw, images, image_index, people, columns)


def _category(
    annotation: dict[str, Any], where: str, index: int, people: People, problems: list[Problem]
) -> int | None:
    value = annotation.get("category_id")
    if type(value) is int and value in people.known_ids:
        return value
    found = f"{show(value)} is not in 'categories'" if "category_id" in annotation else "is missing"
    problems.append(problem("unknown-category", where, f"category_id {found}", "annotations", index))
    return None


def _parse_person(
    annotation: dict[str, Any], index: int, where: str, numbers: int, columns: _Columns, problems: list[Problem]
) -> None:
    def wrong(kind: str, detail: str) -> None:
        problems.append(problem(kind, where, detail, "annotations", index))

    columns.index.append(index)
    good = id_problem(annotation, "id", "annotation-id", where, "annotations", index, problems)
    columns.ids.append(annotation["id"] if good else NO_ID)
    good = id_problem(annotation, "image_id", "annotation-image", where, "annotations", index, problems)
    columns.image_ids.append(annotation["image_id"] if good else NO_ID)
    _add_box(annotation, columns, wrong)
    _add_keypoints(annotation, numbers, columns, wrong)
    _add_area(annotation, columns, wrong)
    crowd = annotation.get("iscrowd", 0)
    if crowd not in (0, 1):  # True and 1.0 are fine
        wrong("crowd-flag", f"iscrowd is {show(crowd)}, expected 0 or 1")
    columns.crowd.append(crowd == 1)
    columns.estimated.append(annotation.get("area_source") == "estimated")


def _add_box(annotation: dict[str, Any], columns: _Columns, wrong: _Report) -> None:
    box = annotation.get("bbox")
    values = _numbers(box, 4)
    if values is None:
        if "bbox" in annotation:
            wrong("box-type", f"bbox is {show(box)}, expected 4 numbers (x, y, width, height)")
        else:
            wrong("box-missing", "bbox is missing, expected 4 numbers (x, y, width, height)")
    columns.has_box.append(values is not None)
    columns.boxes.extend(values if values is not None else array("d", bytes(32)))


def _add_keypoints(annotation: dict[str, Any], numbers: int, columns: _Columns, wrong: _Report) -> None:
    """Absent keypoints are unlabelled ones: box files have none."""
    values = _numbers(annotation["keypoints"], numbers) if "keypoints" in annotation and numbers else None
    if values is None and "keypoints" in annotation and numbers:
        wrong(*_keypoints_fault(annotation["keypoints"], numbers))
    columns.has_keypoints.append(values is not None)
    columns.unreadable.append(values is None and "keypoints" in annotation)
    columns.keypoints.extend(values if values is not None else array("d", bytes(8 * numbers)))
    stated = annotation.get("num_keypoints", 0)
    if type(stated) is not int or not 0 <= stated < 2**31:
        wrong("num-keypoints", f"num_keypoints is {show(stated)}, expected a count")
        stated = -1
    elif "num_keypoints" not in annotation:
        stated = -1
    columns.stated.append(stated)


def _keypoints_fault(value: Any, numbers: int) -> tuple[str, str]:
    wish = f"expected {numbers} ({numbers // 3} x (x, y, v))"
    if not isinstance(value, list):
        return "keypoints-type", f"keypoints is {show(value)}, {wish}"
    if len(value) != numbers:
        return "keypoints-count", f"keypoints has {len(value)} numbers, {wish}"
    first = next((n for n, v in enumerate(value) if _numbers([v], 1) is None), 0)
    return "keypoints-type", f"keypoints[{first}] is {show(value[first])}, expected a number"


def _add_area(annotation: dict[str, Any], columns: _Columns, wrong: _Report) -> None:
    """``area``, or the report's ``s``, which is the square root of the segment's area."""
    key = "s" if "area" not in annotation and "s" in annotation else "area"
    values = _numbers([annotation.get(key)], 1)
    area = np.nan
    if key in annotation and values is None:
        wrong("area", f"{key} is {show(annotation[key])}, expected a number of pixels")
    elif values is not None and not 0 <= values[0] < MOST_PIXELS:
        wrong("area", f"{key} is {show(annotation[key])}, expected a number of pixels from 0")
    elif values is not None:
        area = values[0] ** 2 if key == "s" else values[0]
    columns.areas.append(area)


def _numbers(value: Any, count: int) -> array[float] | None:
    """A list of ``count`` plain numbers as C doubles, else None."""
    if not isinstance(value, list) or len(value) != count or not _NUMBERS.issuperset(map(type, value)):
        return None
    try:
        return array("d", value)
    except OverflowError:  # an integer beyond the largest double
        return None


def _parsed(
    raw: dict[str, Any], images: tuple[ImageInfo, ...], image_index: Sequence[int], people: People, columns: _Columns
) -> ParsedFile:
    count, joints = len(columns.index), len(people.skeleton) if people.skeleton else len(COCO_17)
    keypoints = np.array(columns.keypoints, dtype=np.float64)
    return ParsedFile(
        raw=raw,
        images=images,
        image_index=np.array(image_index, dtype=np.int64),
        known_images=np.array(_image_ids(raw), dtype=np.int64),
        people=people,
        index=np.array(columns.index, dtype=np.int64),
        ids=np.array(columns.ids, dtype=np.int64),
        image_ids=np.array(columns.image_ids, dtype=np.int64),
        boxes_xywh=np.array(columns.boxes, dtype=np.float64).reshape(count, 4),
        has_box=np.array(columns.has_box, dtype=bool),
        keypoints=keypoints.reshape(count, joints, 3) if len(keypoints) else np.zeros((count, joints, 3)),
        has_keypoints=np.array(columns.has_keypoints, dtype=bool),
        unreadable=np.array(columns.unreadable, dtype=bool),
        stated=np.array(columns.stated, dtype=np.int64),
        areas=np.array(columns.areas, dtype=np.float64),
        crowd=np.array(columns.crowd, dtype=bool),
        estimated=np.array(columns.estimated, dtype=bool),
    )
