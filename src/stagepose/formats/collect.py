"""What all readers of foreign labels do alike: people whose keypoints have names, on pictures of known size.

A reader tells a :class:`Collector` what it finds and what is wrong; :meth:`Collector.finish` makes the set. Nothing is
matched by position: a person's keypoints are a dict by name until then. N people, K keypoints.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stagepose.coco.category import plain_name
from stagepose.coco.dataset import CocoDataset, dataset_from_arrays
from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.problems import Problem, problem, show
from stagepose.coco.validate import FAR_OUTSIDE
from stagepose.errors import DatasetError, ImageError
from stagepose.images import read_header
from stagepose.lines import printable
from stagepose.names import suggestion
from stagepose.skeleton import SKELETONS, UNLABELLED, Skeleton, by_names

Point = tuple[float, float, int]  # x, y in pixels, and COCO's v
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels

NOT_LABELLED: Point = (0.0, 0.0, UNLABELLED)
DECIMALS = 2  # of pixels that are read: finer than anybody clicks, coarser than the noise of fractions and per cent
# of the longer side of the keypoints' extent: the mean of the four sides' medians in COCO train2017, where people with
# 14 keypoints or more have .06 to the left, .07 to the right, .11 above and .09 below
BOX_MARGIN = 0.09
MOST_SIDE = 2**31  # pixels
PERSON = "person"


@dataclass(frozen=True, eq=False)
class Labels:
    """What has been read: the people, the folder that file names are relative to (None where no picture was found),

    what is wrong, and lines about what the format did not tell or the set cannot hold.
    """

    dataset: CocoDataset
    pictures: Path | None
    problems: list[Problem]
    notes: list[str]


@dataclass(frozen=True)
class _Picture:
    name: str
    path: Path | None  # None: not found
    width: int
    height: int
    where: str


class Collector:
    """Pictures, people, problems and counts, in the order in which a reader meets them."""

    def __init__(self, images: Path | None, skeleton: Skeleton | None, *, strict: bool = True) -> None:
        """``images`` is the folder that the user has named; without a picture in it there is something wrong.

        ``skeleton`` is the one that the user has named; a label that it lacks is a mistake where that is ``strict``.
        """
        self.images = images
        self.skeleton = skeleton
        self._strict = strict
        self._known = plain_names(skeleton) if skeleton else []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.found: Counter[str] = Counter()  # keypoints with a label, by name
        self._left_out: Counter[str] = Counter()
        self._pictures: list[_Picture] = []
        self._of_file: dict[str, str] = {}  # path or name -> where it was met first
        self._people: list[tuple[int, Box, Mapping[str, Point]]] = []
        self._at: int | None = None  # the picture at hand
        self._bad: set[int] = set()  # pictures with a mistake in them
        self._made_boxes = 0
        self._at_corner = 0

    def turn_to(self, image: int | None) -> None:
        """What is wrong from now on is wrong with this picture, or with none."""
        self._at = image

    def wrong(self, kind: str, where: str, detail: str) -> None:
        """One more mistake; the picture at hand is no part of the set, since half its people may be missing."""
        self.problems.append(problem(kind, where, detail, "labels"))
        if self._at is not None:
            self._bad.add(self._at)

    def keypoint(self, label: str, where: str) -> str | None:
        """The keypoint that a label names, plain; None with a problem where the user's skeleton has no such."""
        name = plain_name(label)
        if self.skeleton is None or not self._strict or name in self._known:
            return name
        self.wrong("label-unknown", where, f"{show(label)} is no keypoint of skeleton {self.skeleton.name}"
                                           f"{suggestion(name, self._known)}")
        return None

    def leave_out(self, what: str, count: int = 1) -> None:
        """Something that the set has no place for; ``what`` is a plural."""
        self._left_out[what] += count

    def picture(self, name: str, places: Sequence[Path], where: str, stated: tuple[int, int] | None) -> int | None:
        """A picture that is at the first of ``places`` where a file is; its place in the list, None with a problem.

        ``stated`` is the size that the labels tell: another one than the file's is a problem, and without a file it
        is all there is. Sets :meth:`turn_to`.
        """
        self.turn_to(None)
        path = next((each for each in places if each.is_file()), None)
        key = os.path.abspath(path) if path else name  # noqa: PTH100 - resolve() would merge links to one file
        if key in self._of_file:
            self.wrong("label-picture", where, f"{show(name)} is the picture of {self._of_file[key]} too")
            return None
        size = stated if path is None else self._size(path, where, stated)
        if size is None:
            if path is None:
                self.wrong("label-picture", where, f"its picture {show(name)} is not there, and no size is told")
            return None
        self._of_file[key] = where
        self._pictures.append(_Picture(name, path, *size, where))
        self.turn_to(len(self._pictures) - 1)
        return self._at

    def _size(self, path: Path, where: str, stated: tuple[int, int] | None) -> tuple[int, int] | None:
        """Of the upright picture, as annotators see it; None with a problem."""
        try:
            header = read_header(path)
        except ImageError as error:
            self.wrong("label-picture", where, str(error))
            return None
        size = (header.width, header.height)
        if stated not in (None, size):
            turn = " once upright, by its EXIF orientation" if header.turned else ""
            told = f"{stated[0]}x{stated[1]}" if stated else ""
            self.wrong("label-size", where, f"its picture is {size[0]}x{size[1]}{turn}; the labels say {told}")
            return None
        return size

    def size(self, image: int) -> tuple[int, int]:
        """Width and height of a picture."""
        return self._pictures[image].width, self._pictures[image].height

    def person(self, image: int, box: Box | None, points: Mapping[str, Point], where: str) -> None:
        """Someone with the keypoints that are labelled, by name; without a box it is made from them."""
        self.turn_to(image)
        labelled = {plain_name(name): (round(x, DECIMALS), round(y, DECIMALS), v)
                    for name, (x, y, v) in points.items() if v}
        if not self._inside(image, box, labelled, where):
            return
        corner = [name for name, point in labelled.items() if point[:2] == (0, 0)]
        for name in corner:  # what many tools write for unlabelled, whatever its visibility; our check refuses it
            del labelled[name]
        self._at_corner += len(corner)
        if box is None and image in self._bad:  # perhaps for want of a point that could not be read
            return
        if box is None and not labelled:
            self.leave_out("people without a box and a keypoint")
            return
        if box is None:
            box = self._around(labelled, image)
            self._made_boxes += 1
        left, top, right, bottom = (round(edge, DECIMALS) for edge in box)
        width, height = self.size(image)
        if not (left < right and top < bottom and left < width and top < height and right > 0 and bottom > 0):
            self.wrong("label-box", where, f"its box is {left:g}, {top:g}, {right:g}, {bottom:g}; expected one of some "
                                           f"width and height on its picture of {width}x{height}")
            return
        box = left, top, right, bottom
        self.found.update(labelled.keys())
        self._people.append((image, box, labelled))

    def _inside(self, image: int, box: Box | None, points: Mapping[str, Point], where: str) -> bool:
        """Whether all is finite and on the picture, or nearly so: the rule of ``stagepose check``."""
        width, height = self.size(image)
        far = FAR_OUTSIDE * max(width, height)
        placed = [(name, point[:2]) for name, point in points.items()]
        placed += [("its box", box[:2]), ("its box", box[2:])] if box else []
        for name, (x, y) in placed:
            if not (-far <= x <= width + far and -far <= y <= height + far):  # False for NaN
                self.wrong("label-value", where,
                           f"{name} is at {x:.6g}, {y:.6g}, outside of its picture of {width}x{height}")
                return False
        return True

    def _around(self, points: Mapping[str, Point], image: int) -> Box:
        """The extent of the keypoints and a margin, as far as the picture goes; empty without an extent."""
        width, height = self.size(image)
        xy = np.array([point[:2] for point in points.values()])
        low, high = xy.min(0) + 0.5, xy.max(0) + 0.5  # from points to edges
        margin = BOX_MARGIN * float((high - low).max())
        left, top = np.maximum(low - margin, 0).tolist()
        right, bottom = np.minimum(high + margin, (width, height)).tolist()
        return (left, top, right, bottom) if margin else (left, top, left, top)

    # --- the set

    def finish(self, own: Skeleton | None, root: Path | None = None, before: int = 0) -> Labels:
        """The set in the user's keypoints, else in ``own``, the file's, else in those that were found, by name.

        ``root`` is the folder that file names are relative to, if all pictures are below it; else the deepest that is.
        Ids count on from ``before``.
        """
        skeleton = self.skeleton or own or skeleton_of(self.found)
        names = plain_names(skeleton)
        self._tell_counts(skeleton)
        home = self._home(root)
        people = [person for person in self._people if person[0] not in self._bad]
        dataset = dataset_from_arrays(
            [image + 1 + before for image, _, _ in people],
            np.array([box for _, box, _ in people], dtype=np.float64).reshape(-1, 4),
            np.array([[points.get(name, NOT_LABELLED) for name in names] for _, _, points in people],
                     dtype=np.float64).reshape(-1, len(skeleton), 3),
            skeleton=skeleton,
            images=[ImageInfo(at + 1 + before, self._name(each, home), each.width, each.height)
                    for at, each in enumerate(self._pictures) if at not in self._bad],
        )  # fmt: skip
        return Labels(dataset, home, self.problems, self.notes)

    def _tell_counts(self, skeleton: Skeleton) -> None:
        unread = {name: count for name, count in self.found.items() if name not in plain_names(skeleton)}
        if unread:
            listed = ", ".join(f"{name} {count}" for name, count in unread.items())
            self.notes.append(f"keypoints that skeleton {skeleton.name} lacks are left out: {listed}")
        if self._at_corner:
            self.notes.append(f"keypoints at 0, 0, the picture's corner: {self._at_corner}, taken as unlabelled")
        if self._made_boxes:
            self.notes.append(f"people without a box: {self._made_boxes}; theirs is the extent of the keypoints and "
                              f"{BOX_MARGIN:.0%} of its longer side around")
        self.notes += left_out(self._left_out)

    def _home(self, root: Path | None) -> Path | None:
        """The folder of the pictures; a problem for each that is missing, unless all are and nobody named a folder."""
        missing = [at for at, each in enumerate(self._pictures) if each.path is None]
        paths = [os.path.abspath(each.path) for each in self._pictures if each.path]  # noqa: PTH100 - keep links
        if missing and (paths or self.images):
            for at in missing:
                self.turn_to(at)
                picture = self._pictures[at]
                self.wrong("label-picture", picture.where, f"its picture {show(picture.name)} is not there")
        elif missing:
            self.notes.append("no picture was found, so their sizes are those that the labels tell; --images names "
                              "their folder")
        if not paths:
            return None
        if root is not None:
            top = Path(os.path.abspath(root))  # noqa: PTH100
            if all(Path(path).is_relative_to(top) for path in paths):
                return top
        return Path(os.path.commonpath([os.path.dirname(path) for path in paths]))  # noqa: PTH120

    @staticmethod
    def _name(picture: _Picture, home: Path | None) -> str:
        if picture.path is None or home is None:
            return picture.name
        return Path(os.path.relpath(picture.path, home)).as_posix()


def skeleton_of(names: Iterable[str]) -> Skeleton:
    """A published one that has all names, else these in their order."""
    names = tuple(names)
    return next((known for known in SKELETONS.values() if set(names) <= set(known.names)), None) or by_names(names)


def plain_names(skeleton: Skeleton) -> list[str]:
    """Its keypoints by the names that people's have here."""
    return [plain_name(name) for name in skeleton.names]


def picture_folders(path: Path, images: Path | None) -> list[Path]:
    """Where the pictures of a file of labels may be, the likeliest first."""
    return [images] if images else [place for place in (path.parent / "images", path.parent) if place.is_dir()]


def left_out(counts: Mapping[str, int]) -> list[str]:
    """A line that tells all counts above 0; none where there are none."""
    listed = ", ".join(f"{what}: {count}" for what, count in counts.items() if count)
    return [f"left out: {listed}"] if listed else []


def choose_category(labels: Iterable[str], given: str | None, path: Path) -> str:
    """The label of the people's boxes: the one given, else 'person', else the only one; 'person' without any.

    :class:`DatasetError` names the labels that there are, where it cannot be told.
    """
    plain = {plain_name(label): label for label in labels}
    listed = ", ".join(plain.values()) or "none"
    if given is not None and plain_name(given) not in plain:
        raise DatasetError(f"{printable(path)}: nothing is labelled {show(given)}; the labels are {listed}")
    if given is not None:
        return plain_name(given)
    if PERSON in plain or not plain:
        return PERSON
    if len(plain) > 1:
        raise DatasetError(f"{printable(path)}: which are the people: {listed}? --category says it")
    return next(iter(plain))


def stated_size(width: object, height: object) -> tuple[int, int] | None:
    """A picture's size of two values; None unless both are whole, above 0 and within what a COCO file may say."""
    if type(width) is int and type(height) is int and min(width, height) > 0 and max(width, height) < MOST_SIDE:
        return width, height
    return None


def number(text: object) -> float:
    """A finite number of a text or a JSON value; ``ValueError`` for everything else."""
    try:
        value = float(text) if isinstance(text, (int, float, str)) and not isinstance(text, bool) else math.nan
    except (ValueError, OverflowError):  # not a number, and an integer beyond the largest double
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{show(text)} is no number")
    return value
