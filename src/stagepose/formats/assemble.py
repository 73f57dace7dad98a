"""Which box and which points are one person's, where a format has them as shapes of their own.

A key that the annotator gave (Labelme's group_id, Label Studio's parentID, CVAT's skeleton) comes first; without one,
the only box around a point has it. Nothing is guessed beyond that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stagepose.coco.category import plain_name
from stagepose.coco.problems import show
from stagepose.formats.collect import DECIMALS, Box, Collector, Point, choose_category

BY_PLACE = "by place"  # the key of a person whose points had none


@dataclass(frozen=True)
class BoxShape:
    """A box with its label as it stands there."""

    key: Hashable | None
    label: str
    box: Box
    where: str


@dataclass(frozen=True)
class PointShape:
    """A point with its keypoint's plain name."""

    key: Hashable | None
    name: str
    point: Point
    where: str


@dataclass(frozen=True)
class Sheet:
    """The shapes of one picture."""

    image: int
    boxes: list[BoxShape]
    points: list[PointShape]


def assemble_people(sheets: Sequence[Sheet], category: str | None, path: Path, to: Collector) -> int:
    """Give the people of all pictures to the collector; how many shapes were tied by their place alone.

    Which label the people's boxes have is told by all sheets together.
    """
    person = choose_category([box.label for sheet in sheets for box in sheet.boxes], category, path)
    return sum(assemble(sheet.image, *_of_people(sheet, person, to), to) for sheet in sheets)


def _of_people(sheet: Sheet, person: str, to: Collector) -> tuple[list[BoxShape], list[PointShape]]:
    """The boxes of that label, and the points but for those whose key only a box of another label has."""
    mine = [box for box in sheet.boxes if plain_name(box.label) == person]
    others = [box for box in sheet.boxes if plain_name(box.label) != person]
    for box in others:
        to.leave_out(f"boxes of {box.label}")
    theirs = {box.key for box in others if box.key is not None} - {box.key for box in mine}
    points = [point for point in sheet.points if point.key not in theirs]
    if len(points) < len(sheet.points):
        to.leave_out("points of other boxes", len(sheet.points) - len(points))
    return mine, points


@dataclass
class _Person:
    where: str
    box: BoxShape | None = None
    points: dict[str, PointShape] = field(default_factory=dict)


def assemble(image: int, boxes: Sequence[BoxShape], points: Sequence[PointShape], to: Collector) -> int:
    """Give the people of a picture to the collector; how many shapes were tied by their place alone."""
    to.turn_to(image)
    people: dict[Hashable, _Person] = {}
    free: list[_Person] = []
    for box in boxes:
        if box.key is None:
            free.append(_Person(box.where, box))
        elif (person := people.setdefault(box.key, _Person(box.where))).box is not None:
            to.wrong("label-twice", box.where, f"group {show(box.key)} has a second box {show(box.label)}")
        else:
            person.box = box
    for point in points:
        if point.key is not None:
            _put(people.setdefault(point.key, _Person(point.where)), point, to)
    tied = _tie_people(people, free)
    people |= {(BY_PLACE, place): person for place, person in enumerate(free)}
    tied += _tie_points([point for point in points if point.key is None], people, to)
    for person in people.values():
        to.person(image, person.box.box if person.box else None,
                  {name: shape.point for name, shape in person.points.items()}, person.where)
    return tied


def _put(person: _Person, point: PointShape, to: Collector) -> None:
    if point.name in person.points:
        to.wrong("label-twice", point.where, f"{point.name} of this person stands at {person.points[point.name].where} "
                                             "too")
    else:
        person.points[point.name] = point


def _tie_people(people: dict[Hashable, _Person], free: list[_Person]) -> int:
    """Boxes without a key to groups of points without a box, where exactly one box is around all of exactly one."""
    around = {key: [box for box in free if all(_holds(box, shape) for shape in person.points.values())]
              for key, person in people.items() if person.box is None}
    wanted = Counter(id(boxes[0]) for boxes in around.values() if len(boxes) == 1)
    tied = 0
    for key, boxes in around.items():
        if len(boxes) == 1 and wanted[id(boxes[0])] == 1:
            people[key].box = boxes[0].box
            free.remove(boxes[0])
            tied += 1
    return tied


def _tie_points(points: Sequence[PointShape], people: dict[Hashable, _Person], to: Collector) -> int:
    """Points without a key: to the only box around them; without any box in the picture they are one person's."""
    if points and not people:
        people[BY_PLACE] = _Person(points[0].where)
        for point in points:
            _put(people[BY_PLACE], point, to)
        return 0
    tied = 0
    for point in points:
        around = [person for person in people.values() if person.box and _holds(person, point)]
        if len(around) == 1:
            _put(around[0], point, to)
            tied += 1
        else:
            count = f"{len(around)} boxes are around it" if around else "no box is around it"
            to.wrong("label-tie", point.where, f"{point.name} belongs to no group, and {count}")
    return tied


def _holds(person: _Person, point: PointShape) -> bool:
    """Whether a point is in the box or on its edge, in the tool's coordinates, in which both were drawn."""
    assert person.box is not None
    x, y, visibility = point.point
    left, top, right, bottom, x, y = (round(value, DECIMALS) for value in (*person.box.box, x, y))
    return not visibility or (left <= x <= right and top <= y <= bottom)
