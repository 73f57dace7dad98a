"""People drawn over their picture, legible on any background: coloured limbs and joints, all with a dark outline.

Left and right are the person's own. N people, K keypoints, H W picture size; points as everywhere (see
docs/coordinates.md), which is also how OpenCV places them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from numbers import Real
from typing import Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from stagepose.errors import ConfigError
from stagepose.images import Picture
from stagepose.skeleton import Skeleton
from stagepose.structures import SURE_JOINT, Person, is_within, require_people

Colour: TypeAlias = tuple[int, int, int]  # RGB
Colours: TypeAlias = Literal["side", "person"] | Sequence[Colour]
Labels: TypeAlias = Literal["number", "score", "none"]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # xyxy

# Okabe and Ito's palette, told apart by colour-blind readers too, brightened for photographs
LEFT: Colour = (64, 196, 255)  # sky blue
RIGHT: Colour = (255, 159, 28)  # orange
CENTRE: Colour = (255, 236, 110)  # pale yellow
OUTLINE: Colour = (22, 26, 38)  # almost black
FRAME: Colour = (245, 247, 250)  # the box
SIDES = LEFT, RIGHT, CENTRE
PEOPLE: tuple[Colour, ...] = (  # one after the other: neighbours in this list differ in hue and in lightness
    LEFT, RIGHT, (120, 224, 130), (255, 130, 180), CENTRE, (178, 150, 255), (90, 235, 225), (255, 110, 90),
)  # fmt: skip

LIMB = 1 / 62  # thickness of a limb, as a share of the person's size
THINNEST, THICKEST = 1 / 320, 1 / 80  # and as a share of the picture's, whatever the person's
STOUTEST = 1.5  # times its own share that a small person's limb is thickened at most: beyond, a figure is a blot
JOINT_THRESHOLD = SURE_JOINT  # joints that score less are not drawn
JOINT = 0.95  # radius of a joint, in limb thicknesses
SMALLEST_JOINT = 0.45  # of the largest: an eye beside a hip
LONE_JOINT = 0.6  # of its own size, where no limb leads to it: else it looks like a stray dot
BRACKET = 0.2  # a box is four corners, each arm this share of its shorter side: whole frames bury a crowd
RING, HOLE = 1.2, 0.6  # radius of a hollow joint, in those of a full one, and of it that of its hole
SMALLEST_HOLE = 1.5  # pixels
DASH = 6.0  # of a crowd's frame, and the gap after it, in widths of its line
BITS = 4  # OpenCV takes points in 1/16 pixel
CIRCLE = np.stack([np.cos(np.arange(32) * np.pi / 16), np.sin(np.arange(32) * np.pi / 16)], axis=1)
FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT, LEAST_TEXT = 1 / 8, 0.4  # OpenCV's scale of a label, in limb thicknesses; it has capitals of 22 pixels at 1
TEXT_GAP = 7  # pixels at scale 1, from the edge of the box
OF_A_LABEL = 5  # joints that a label hides rather than another label
BLEED = 1.3  # pixels by which its anti-aliased shapes are wider than asked for (measured, OpenCV 4.8 and 5.0)


def draw_people(
    pixels_HW3: NDArray[np.uint8] | Picture,
    people: Sequence[Person],
    *,
    threshold: float = JOINT_THRESHOLD,
    boxes: bool = True,
    colours: Colours = "side",
    thickness: float = 1.0,
    labels: Labels = "number",
    hollow: float = 0.0,
) -> NDArray[np.uint8]:
    """A new picture with ``people`` drawn onto it, the best in front, the last of equals.

    Joints that score below ``threshold``, and limbs that end in one, are left out; a joint whose limbs are all left out
    is drawn smaller. Joints that score below ``hollow`` are drawn as rings, through which the picture is seen.
    ``labels`` at the boxes: the ``"number"`` of each person, counted from 1, if there are several, or the ``track_id``
    of a tracked one; that and the person's ``"score"``; or ``"none"``. ``colours``: by ``"side"``, the person's own
    left and right; one per ``"person"``, kept by ``track_id``; or RGB triples of your own: one for everything, or left,
    right and centre. ``thickness`` is a factor on limbs, joints and box. :class:`ConfigError` for anything else.
    """
    if isinstance(pixels_HW3, Picture):
        pixels_HW3 = pixels_HW3.pixels
    _check(pixels_HW3, people, thickness, labels)
    for name, least in (("threshold", threshold), ("hollow", hollow)):
        if not isinstance(least, Real):
            raise ConfigError(f"{name} is {least!r}; it is a minimum joint score, between 0 and 1")
    _palette(colours, 0)  # also where nobody is drawn
    canvas = np.array(pixels_HW3, order="C")
    palettes = [_palette(colours, n if person.track_id is None else person.track_id - 1)
                for n, person in enumerate(people)]
    ordered = sorted(zip(people, palettes, strict=True), key=lambda pair: pair[0].score)
    if boxes:
        for person, _ in ordered:
            _draw_box(canvas, person, thickness)
    for person, palette in ordered:
        _draw_person(canvas, person, threshold, palette, thickness)
        _draw_rings(canvas, pixels_HW3, person, (threshold, hollow), palette, thickness)
    if boxes and labels != "none":
        _write_labels(canvas, people, labels, threshold)
    return canvas


def draw_crowds(pixels_HW3: NDArray[np.uint8], boxes_N4: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A new picture with a dashed frame around each box (xyxy edges): crowds, not labelled person by person."""
    canvas = np.array(pixels_HW3, order="C")
    height, width = canvas.shape[:2]
    thin = max(1.0, float(np.hypot(width, height)) * THINNEST / 2)
    for x1, y1, x2, y2 in np.clip(boxes_N4, 0, [width, height, width, height]) - 0.5:  # edges -> points
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        for colour, wide in ((OUTLINE, thin + max(2.0, thin)), (FRAME, thin)):
            for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
                _dashed(canvas, np.array(start), np.array(end), colour, wide, DASH * thin)
    return canvas


def _check(pixels_HW3: object, people: object, thickness: object, labels: object) -> None:
    if not isinstance(pixels_HW3, np.ndarray):
        raise ConfigError(f"draw_people needs (H, W, 3) uint8 RGB, got a {type(pixels_HW3).__name__}; "
                          "read_image(...) gives such")
    if pixels_HW3.dtype != np.uint8 or pixels_HW3.ndim != 3 or pixels_HW3.shape[2] != 3:
        raise ConfigError(f"draw_people needs (H, W, 3) uint8 RGB, got {pixels_HW3.shape} {pixels_HW3.dtype}")
    require_people("draw_people", people)
    if not is_within(thickness, 0.1, 10):
        raise ConfigError(f"thickness is {thickness!r}; it is a factor from 0.1 to 10, 1 for the usual")
    if labels not in ("number", "score", "none"):
        raise ConfigError(f"labels is {labels!r}; use 'number', 'score' or 'none'")


def _palette(colours: Colours, number: int) -> tuple[Colour, ...]:
    """(left, right, centre) of the person of this number, counted from 0."""
    if isinstance(colours, str) and colours in ("side", "person"):
        return SIDES if colours == "side" else (PEOPLE[number % len(PEOPLE)],) * 3
    with suppress(ValueError):  # triples of several lengths
        rgb = np.array(colours)
        if rgb.shape in ((1, 3), (3, 3)) and rgb.dtype.kind in "iu" and rgb.min() >= 0 and rgb.max() <= 255:
            triples = [(int(r), int(g), int(b)) for r, g, b in rgb]
            return tuple(triples * (3 // len(triples)))
    raise ConfigError(f"colours is {colours!r}; use 'side', 'person', or RGB triples from 0 to 255: one for "
                      "everything, or left, right and centre")


def _write_labels(canvas: NDArray[np.uint8], people: Sequence[Person], labels: Labels, threshold: float) -> None:
    """On top of all else; in a photo where each hides the fewest joints, in a video in one place, to stay still."""
    joints_N2 = np.concatenate([np.zeros((0, 2)), *(person.keypoints[person.scores >= threshold] for person in people)])
    written: list[Box] = []
    for number, person in enumerate(people, 1):
        text = _label(person, number if len(people) > 1 else None, labels)
        scale = max(LEAST_TEXT, _thickness(canvas, person) * TEXT)
        places = _places(canvas, person.box, cv2.getTextSize(text, FONT, scale, 1)[0], TEXT_GAP * scale)
        if person.track_id is None:  # of equals the first, which min gives
            places = [min(places, key=lambda place: _hidden(place, joints_N2, written))]
        _write(canvas, text, places[0], scale)
        written.append(places[0])


def _label(person: Person, number: int | None, labels: Labels) -> str:
    shown = number if person.track_id is None else person.track_id
    score = f"{person.score:.2f}" if labels == "score" else None
    return ": ".join(str(part) for part in (shown, score) if part is not None)


def _places(canvas: NDArray[np.uint8], box: NDArray[np.float64], size: Sequence[int], gap: float) -> list[Box]:
    """Where a text of ``size`` (width, height) may go: in the corners of ``box``, above it, below it; all in view."""
    (height, width), (wide, high), (x1, y1, x2, y2) = canvas.shape[:2], size, box
    tops = y1 + gap, y1 - gap - high, y2 - gap - high, y2 + gap
    corners = [(np.clip(x, 0, max(0, width - wide)), np.clip(y, 0, max(0, height - high)))
               for y in tops for x in (x1 + gap, x2 - gap - wide)]
    return [(x, y, x + wide, y + high) for x, y in corners]


def _hidden(place: Box, joints_N2: NDArray[np.float64], written: Sequence[Box]) -> int:
    """How many joints a label there hides; another label counts as several."""
    x1, y1, x2, y2 = place
    around = (y2 - y1) / 2  # a face is more than its joints
    inside_N2 = (joints_N2 > [x1 - around, y1 - around]) & (joints_N2 < [x2 + around, y2 + around])
    labels = sum(x1 < right and left < x2 and y1 < bottom and top < y2 for left, top, right, bottom in written)
    return int(inside_N2.all(axis=1).sum()) + OF_A_LABEL * labels


def _write(canvas: NDArray[np.uint8], text: str, place: Box, scale: float) -> None:
    """Outlined by copies beside it: OpenCV 5 draws thicker letters bolder, which is no outline all round."""
    x, y, wide = round(place[0]), round(place[3]), max(1, round(2 * scale))
    for dx, dy in product((-wide, 0, wide), repeat=2):
        cv2.putText(canvas, text, (x + dx, y + dy), FONT, scale, OUTLINE, wide, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), FONT, scale, FRAME, wide, cv2.LINE_AA)


def _draw_person(canvas: NDArray[np.uint8], person: Person, threshold: float, palette: Sequence[Colour],
                 factor: float) -> None:
    skeleton, thickness = person.skeleton, _thickness(canvas, person) * factor
    outline = max(1.0, thickness / 3)
    sides, sizes = _sides(skeleton, palette), _sizes(skeleton)
    shown = person.scores >= threshold
    points = [(float(x), float(y)) for x, y in person.keypoints]
    limbs = [(a, b, thickness * (sizes[a] + sizes[b]) / 2) for a, b in skeleton.limb_index if shown[a] and shown[b]]
    lone = {k for limb in skeleton.limb_index for k in limb} - {k for a, b, _ in limbs for k in (a, b)}
    joints = [(k, thickness * JOINT * sizes[k] * (LONE_JOINT if k in lone else 1)) for k in np.flatnonzero(shown)]
    for a, b, width in limbs:
        _line(canvas, points[a], points[b], OUTLINE, width + 2 * outline)
    for a, b, width in limbs:
        _line(canvas, points[a], points[b], _between(sides[a], sides[b], palette[2]), width)
    for k, radius in joints:
        _disc(canvas, points[k], OUTLINE, radius + outline)
        _disc(canvas, points[k], sides[k], radius)


def _draw_rings(canvas: NDArray[np.uint8], ground_HW3: NDArray[np.uint8], person: Person, scores: tuple[float, float],
                palette: Sequence[Colour], factor: float) -> None:
    """Over the joints that score from the first to below the second of ``scores``; ``ground`` shows within."""
    hollow = np.flatnonzero((person.scores >= scores[0]) & (person.scores < scores[1]))
    if not len(hollow):  # of all people that are found, and video frames are many
        return
    thickness = _thickness(canvas, person) * factor
    outline = max(1.0, thickness / 3)
    sides, sizes = _sides(person.skeleton, palette), _sizes(person.skeleton)
    for k in hollow:
        centre = float(person.keypoints[k, 0]), float(person.keypoints[k, 1])
        radius = max(SMALLEST_HOLE / HOLE, RING * thickness * JOINT * sizes[k])
        _disc(canvas, centre, OUTLINE, radius + outline)
        _disc(canvas, centre, sides[k], radius)
        _hole(canvas, ground_HW3, centre, radius * HOLE)


def _hole(canvas: NDArray[np.uint8], ground_HW3: NDArray[np.uint8], centre: Point, radius: float) -> None:
    """What was there before anything was drawn shows again within a circle."""
    (x, y), reach = (round(centre[0]), round(centre[1])), int(radius) + 2
    if not (-reach < x < canvas.shape[1] + reach and -reach < y < canvas.shape[0] + reach):
        return
    left, top = max(0, x - reach), max(0, y - reach)
    here = np.s_[top : y + reach + 1, left : x + reach + 1]
    mask = np.zeros_like(canvas[here])
    _disc(mask, (centre[0] - left, centre[1] - top), (255, 255, 255), radius)
    share = mask / 255
    canvas[here] = np.rint(ground_HW3[here] * share + canvas[here] * (1 - share))


def _draw_box(canvas: NDArray[np.uint8], person: Person, factor: float) -> None:
    height, width = canvas.shape[:2]
    limit = np.array([width, height, width, height]) - 0.5
    x1, y1, x2, y2 = (float(v) for v in np.clip(person.box - 0.5, -0.5, limit))  # edges -> points
    thin = max(1.0, _thickness(canvas, person) * factor / 4)
    arm = BRACKET * min(x2 - x1, y2 - y1)
    for colour, wide in ((OUTLINE, thin + max(2.0, thin)), (FRAME, thin)):
        for x, inward in ((x1, arm), (x2, -arm)):
            for y, down in ((y1, arm), (y2, -arm)):
                _line(canvas, (x, y), (x + inward, y), colour, wide)
                _line(canvas, (x, y), (x, y + down), colour, wide)
                _disc(canvas, (x, y), colour, wide / 2)


def _thickness(canvas: NDArray[np.uint8], person: Person) -> float:
    """Of a limb between large joints, in pixels: in proportion to the person, within what suits the picture."""
    x1, y1, x2, y2 = person.box
    picture = float(np.hypot(*canvas.shape[:2]))
    own = float(np.hypot(x2 - x1, y2 - y1)) * LIMB
    return max(1.0, min(max(own, min(picture * THINNEST, own * STOUTEST)), picture * THICKEST))


def _sizes(skeleton: Skeleton) -> list[float]:
    """How large each joint is drawn, 1 the largest: an eye smaller than a hip, as their sigmas are."""
    sigmas = np.array(skeleton.sigmas)
    return [float(size) for size in np.clip(sigmas / sigmas.max(), SMALLEST_JOINT, 1)]


def _sides(skeleton: Skeleton, palette: Sequence[Colour]) -> list[Colour]:
    """(K,) colours: the first of a flip pair is the left one."""
    sides = dict.fromkeys(skeleton.names, palette[2])
    for left, right in skeleton.flip_pairs:
        sides[left], sides[right] = palette[0], palette[1]
    return list(sides.values())


def _between(a: Colour, b: Colour, centre: Colour) -> Colour:
    """A limb has the side of its ends; from the middle to a side that side; across the body none."""
    if a == b or b == centre:
        return a
    return b if a == centre else centre


def _line(canvas: NDArray[np.uint8], start: Point, end: Point, colour: Colour, width: float) -> None:
    """Of any width, while ``cv2.line`` knows only 1, 3, 5, ... A joint or corner drawn later rounds its ends."""
    visible = _clip(canvas, start, end)
    if visible is None:
        return
    (x1, y1), (x2, y2) = visible
    if width <= BLEED or visible[0] == visible[1]:
        cv2.line(canvas, _fixed((x1, y1)), _fixed((x2, y2)), colour, 1, cv2.LINE_AA, BITS)
        return
    half = (width - BLEED) / 2 / float(np.hypot(x2 - x1, y2 - y1))
    dx, dy = (y2 - y1) * half, (x1 - x2) * half  # across the line
    corners = [(x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy)]
    _polygon(canvas, np.array(corners), colour)


def _dashed(canvas: NDArray[np.uint8], start: NDArray[np.float64], end: NDArray[np.float64], colour: Colour,
            width: float, dash: float) -> None:
    """A line that begins and ends with a dash of about the given length, in pixels."""
    pieces = 2 * max(1, round(float(np.hypot(*(end - start))) / dash / 2)) + 1
    for piece in range(0, pieces, 2):
        (xa, ya), (xb, yb) = (start + (end - start) * at / pieces for at in (piece, piece + 1))
        _line(canvas, (float(xa), float(ya)), (float(xb), float(yb)), colour, width)


def _disc(canvas: NDArray[np.uint8], centre: Point, colour: Colour, radius: float) -> None:
    """Small ones too are round, which those of ``cv2.circle`` are not."""
    if _clip(canvas, centre, centre) is not None:
        _polygon(canvas, np.array(centre) + CIRCLE * max(0.1, radius - BLEED / 2), colour)


def _polygon(canvas: NDArray[np.uint8], corners_N2: NDArray[np.float64], colour: Colour) -> None:
    fixed = np.rint(corners_N2 * 2**BITS).astype(np.int32)
    cv2.fillConvexPoly(canvas, fixed, colour, cv2.LINE_AA, BITS)


def _fixed(point: Point) -> tuple[int, int]:
    return round(point[0] * 2**BITS), round(point[1] * 2**BITS)


def _clip(canvas: NDArray[np.uint8], start: Point, end: Point) -> tuple[Point, Point] | None:
    """The part of a line in and around the picture (Liang and Barsky), since OpenCV's integers end; None if far off."""
    around = max(canvas.shape[:2])
    enter, leave = 0.0, 1.0
    for a, b, size in zip(start, end, (canvas.shape[1], canvas.shape[0]), strict=True):
        low, high = -around, size + around
        if a == b:
            if not low <= a <= high:
                return None
            continue
        first, second = sorted(((low - a) / (b - a), (high - a) / (b - a)))
        enter, leave = max(enter, first), min(leave, second)
    if enter > leave:
        return None

    def at(share: float) -> Point:
        return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])

    return at(enter), at(leave)
