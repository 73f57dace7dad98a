"""All that is wrong with an annotation file, in one list: collect, then report.

:func:`examine` looks at the JSON alone; :func:`check_dataset` also at the pictures on disk and at another set.
N annotations, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.aliases import Bool
from stagepose.coco import jsonfile
from stagepose.coco.parsedfile import MOST_PIXELS, NO_ID, ParsedFile, parse
from stagepose.coco.pictures import check_pictures
from stagepose.coco.problems import Problem, problem, show
from stagepose.coco.samepicture import check_overlap
from stagepose.coco.segments import segment_fault
from stagepose.errors import DatasetError
from stagepose.lines import printable
from stagepose.skeleton import Skeleton

STICKS_OUT = 2.0  # pixels by which a box may pass the picture's edge unnoticed; COCO's own do by rounding
FAR_OUTSIDE = 0.1  # of the picture's longer side: a labelled keypoint further out hints at a wrong picture size
APART = 0.5  # of a box, on each side: all keypoints further out are another's; so are 3 of COCO train2017's 149,813
FEW_JOINTS = 3  # labelled ones, below which their place tells nothing about all
LEAST_BOX = 2.0  # pixels of a box's longer side; the smallest of COCO's labelled people is many times as large
LARGEST_SHARE = 1.001  # of a picture's side, with rounding: above it numbers are pixels
LEAST_AREA, MOST_AREA = 0.02, 1.02  # of the box: a segment's; COCO's labelled people have .1 to .95
S_ROUNDED = 1.0  # pixels by which ``s`` may miss the area's root

Rule = tuple[str, Bool, Callable[[int], str]]  # kind, rows it holds for, what to say of a row


def check_dataset(
    path: str | Path, *, images_dir: str | Path | None = None, other: str | Path | None = None
) -> list[Problem]:
    """Every problem of a file; never raises for what is in it.

    ``images_dir``: also compare with the headers of the pictures there; ``other``: the other half of a split, whose
    pictures must not be in this one.
    """
    try:
        raw, constant = jsonfile.load_json_and_fault(path)
    except DatasetError as error:
        return [problem("unreadable", "", str(error).removeprefix(f"{printable(path)}: ").rstrip("."))]
    table, problems = examine(raw)
    problems += segment_problems(table)
    if constant:
        problems.insert(0, problem("not-a-number", "", constant))
    if images_dir is not None:
        problems += pictures_on_disk(table, images_dir)
    if other is not None:
        problems += pictures_of_both(table, other)
    return problems


def examine(raw: Any, skeleton: Skeleton | None = None) -> tuple[ParsedFile, list[Problem]]:
    """Columns of a parsed file, and all that is wrong with the JSON itself."""
    table, problems = parse(raw, skeleton)
    for rules in (_id_rules, _box_rules, _keypoint_rules, _area_rules, _agreement_rules):
        for kind, rows_N, detail in rules(table):
            for row in np.flatnonzero(rows_N).tolist():
                index = int(table.index[row])
                problems.append(problem(kind, table.where(row), detail(row), "annotations", index))
    problems += _other_ids(table)
    problems += _whole(table)
    return table, problems


def _id_rules(t: ParsedFile) -> Iterator[Rule]:
    known_N = np.isin(t.image_ids, t.known_images) | (t.image_ids == NO_ID)
    yield "unknown-image", ~known_N, lambda row: f"image_id {t.image_ids[row]} is not in 'images'"
    yield "annotation-id-zero", (t.ids <= 0) & (t.ids != NO_ID), lambda row: f"id is {t.ids[row]}, expected 1 or more"


def _other_ids(t: ParsedFile) -> Iterator[Problem]:
    """Ids used twice, among all categories; the first use of an id is not at fault."""
    seen: set[int] = set()
    for index, annotation in enumerate(t.raw["annotations"]):
        value = annotation.get("id") if isinstance(annotation, dict) else None
        if type(value) is not int:
            continue
        if value in seen:
            where = f"annotation {show(value)}"
            detail = f"the id is used again at annotations[{index}]"
            yield problem("annotation-id-duplicate", where, detail, "annotations", index)
        seen.add(value)


def _box_rules(t: ParsedFile) -> Iterator[Rule]:
    def boxed(wish: str) -> Callable[[int], str]:
        return lambda row: f"bbox is {_numbers(t.boxes_xywh[row])}, {wish}"

    finite_N = _finite(t.boxes_xywh)
    box, sound_N = _sound_boxes(t)
    empty_N = sound_N & (box[:, 2:] == 0).any(1)
    yield "box-not-finite", t.has_box & ~finite_N, boxed("expected 4 finite numbers")
    yield "box-negative", t.has_box & finite_N & ~sound_N, boxed("expected width and height above 0")
    labelled_N = (t.keypoints[:, :, 2] > 0).any(1)
    yield "box-empty", empty_N & labelled_N, boxed("expected width and height above 0")
    yield "box-empty-unlabelled", empty_N & ~labelled_N, boxed("expected width and height above 0")
    size_N2 = _sizes(t)
    with np.errstate(over="ignore"):
        low, high = box[:, :2], box[:, :2] + box[:, 2:]
    outside_N = sound_N & ~empty_N & ((low >= size_N2) | (high <= 0)).any(1)
    sticks_N = sound_N & ~outside_N & ((low < -STICKS_OUT) | (high > size_N2 + STICKS_OUT)).any(1)

    def placed(what: str) -> Callable[[int], str]:
        return lambda row: f"bbox is {_numbers(t.boxes_xywh[row])}, {what} its picture of {_size(size_N2[row])}"

    yield "box-outside", outside_N, placed("wholly outside of")
    yield "box-sticks-out", sticks_N, placed("partly outside of")


def _sound_boxes(t: ParsedFile) -> tuple[NDArray[np.float64], Bool]:
    """(N, 4) xywh, 0 where they are not finite, and (N,) which are finite and not negative."""
    finite_N = _finite(t.boxes_xywh)
    box = np.where(finite_N[:, None], t.boxes_xywh, 0.0)
    return box, t.has_box & finite_N & (box[:, 2:] >= 0).all(1)


def _keypoint_rules(t: ParsedFile) -> Iterator[Rule]:
    xy, v = t.keypoints[..., :2], t.keypoints[..., 2]
    finite_NK = _finite(t.keypoints)
    level_NK = finite_NK & np.isin(v, (0, 1, 2))
    labelled_NK = level_NK & (v > 0)
    size_N12 = _sizes(t)[:, None]
    margin = FAR_OUTSIDE * size_N12.max(-1, keepdims=True)

    def rule(kind: str, at_NK: Bool, what: Callable[[int, int], str]) -> Rule:
        return kind, np.asarray(at_NK.any(-1), dtype=bool), lambda row: _first_joint(t, row, at_NK[row], what)

    def triple(row: int, k: int) -> str:
        return f"is {_numbers(t.keypoints[row, k])}"

    yield rule("keypoint-not-finite", ~finite_NK, lambda r, k: f"{triple(r, k)}, expected numbers")
    yield rule("keypoint-visibility", finite_NK & ~level_NK,
               lambda r, k: f"has visibility {_number(v[r, k])}, expected 0, 1 or 2")  # fmt: skip
    yield rule("keypoint-origin", labelled_NK & (xy == 0).all(2),
               lambda r, k: f"{triple(r, k)}: labelled, yet at the picture's corner")  # fmt: skip
    yield rule("keypoint-outside", labelled_NK & ((xy < -margin) | (xy > size_N12 + margin)).any(2),
               lambda r, k: f"{triple(r, k)}, far outside of its picture of {_size(size_N12[r, 0])}")  # fmt: skip
    count_N = (v > 0).sum(1)
    wrong_N = (t.stated >= 0) & (t.stated != count_N) & level_NK.all(1) & ~t.unreadable
    yield "num-keypoints", wrong_N, (
        lambda row: f"num_keypoints is {t.stated[row]}, but {count_N[row]} keypoints have v > 0")  # fmt: skip
    absent_N = np.array(["num_keypoints" not in t.raw["annotations"][i] for i in t.index], dtype=bool)
    yield "num-keypoints-missing", absent_N & t.has_keypoints, lambda row: "num_keypoints is missing"


def _first_joint(t: ParsedFile, row: int, at_K: Bool, what: Callable[[int, int], str]) -> str:
    """What is wrong with the first of an annotation's keypoints at fault, and how many more there are."""
    first, *others = np.flatnonzero(at_K).tolist()
    return f"{t.skeleton.names[first]} {what(row, first)}{f' (and {len(others)} more)' if others else ''}"


def _area_rules(t: ParsedFile) -> Iterator[Rule]:
    rows = [t.raw["annotations"][i] for i in t.index]
    missing_N = np.array(["area" not in row and "s" not in row for row in rows], dtype=bool)
    labelled_N = (t.keypoints[:, :, 2] > 0).any(1)
    yield "area-missing", missing_N, lambda row: "area is missing, so it cannot count in an AP"
    yield "area-zero", (t.areas == 0) & labelled_N, lambda row: "area is 0 for a person with labelled keypoints"
    yield "area-estimated", t.estimated, lambda row: f"area {_number(t.areas[row])} is an estimate"
    s_N = np.array([_alias(row) for row in rows], dtype=np.float64)
    yield "area-and-s", np.abs(s_N - np.sqrt(t.areas)) > S_ROUNDED, (
        lambda row: f"s is {_number(s_N[row])}, but the root of area {_number(t.areas[row])} is "
                    f"{np.sqrt(t.areas[row]):.4g}")  # fmt: skip


def _alias(row: dict[str, Any]) -> float:
    """``s`` of an annotation that has an area as well; NaN where there is none, or no number of pixels."""
    s: Any = row.get("s") if "area" in row else None
    return float(s) if type(s) in (int, float) and abs(s) < MOST_PIXELS else np.nan


def _agreement_rules(t: ParsedFile) -> Iterator[Rule]:
    """Numbers that are possible each alone, but are not one person's together, such as shares in place of pixels.

    Of people with labelled keypoints whose box lies in its picture. Where box or keypoints are shares, or the box is
    nothing, it is not held against the rest as well.
    """
    box, sound_N = _sound_boxes(t)
    low, size, xy = box[:, :2], box[:, 2:], t.keypoints[..., :2]
    labelled_NK = _finite(t.keypoints) & np.isin(t.keypoints[..., 2], (1, 2))
    count_N = labelled_NK.sum(1)
    with np.errstate(over="ignore", invalid="ignore"):
        high, box_area_N = low + size, size.prod(1)
        here_N = sound_N & (count_N > 0) & ((size > 0) & (low < _sizes(t)) & (high > 0)).all(1)
        out_NK = ((xy < (low - APART * size)[:, None]) | (xy > (high + APART * size)[:, None])).any(2)
        above_N, below_N = t.areas > MOST_AREA * box_area_N, t.areas < LEAST_AREA * box_area_N
    share_NK = ((xy >= 0) & (xy <= LARGEST_SHARE)).all(2) & (xy > 0).any(2)
    several_N = here_N & (count_N >= FEW_JOINTS)
    joints_N = several_N & (share_NK | ~labelled_NK).all(1)
    box_N = here_N & (low >= 0).all(1) & (high <= LARGEST_SHARE).all(1)
    tiny_N = here_N & (size < LEAST_BOX).all(1)
    apart_N = several_N & ~joints_N & ~tiny_N & (out_NK | ~labelled_NK).all(1)

    def shares(row: int) -> str:
        boxed = f"bbox {_numbers(t.boxes_xywh[row])}"
        what = " and ".join([boxed] * bool(box_N[row]) + [_all_joints(t, row, labelled_NK[row])] * bool(joints_N[row]))
        return f"{what}: within 0 to 1, like shares of the picture's size"

    def area(row: int) -> str:
        return f"area is {_number(t.areas[row])}, that of its box is {_number(box_area_N[row])}"

    yield "normalised", joints_N | box_N, shares
    yield "box-tiny", tiny_N & ~box_N, (
        lambda row: f"bbox is {_numbers(t.boxes_xywh[row])}, less than {LEAST_BOX:g} pixels, for "
                    f"{count_N[row]} labelled keypoint{'s' if count_N[row] > 1 else ''}")  # fmt: skip
    yield "keypoints-elsewhere", apart_N, (
        lambda row: f"{_all_joints(t, row, labelled_NK[row])} lie far outside of bbox {_numbers(t.boxes_xywh[row])}")
    yield "area-above-box", here_N & ~tiny_N & above_N, area
    yield "area-tiny", here_N & ~tiny_N & below_N & (t.areas > 0), area


def _all_joints(t: ParsedFile, row: int, labelled_K: Bool) -> str:
    """How a message calls all of an annotation's labelled keypoints."""
    first = int(np.flatnonzero(labelled_K)[0])
    place = _numbers(t.keypoints[row, first, :2])
    return f"all {labelled_K.sum()} labelled keypoints (such as {t.skeleton.names[first]} at {place})"


def _whole(t: ParsedFile) -> Iterator[Problem]:
    """What holds for the set as a whole."""
    if isinstance(t.raw.get("images"), list) and not t.raw["images"]:
        yield problem("no-images", "images", "the list is empty")
    if t.people.category_id is None or not t.raw["annotations"]:
        if isinstance(t.raw.get("annotations"), list) and t.people.category_id is not None:
            yield problem("no-people", "annotations", "the list is empty")
        return
    if not len(t.index):
        detail = f"none of {len(t.raw['annotations'])} is of category {t.people.category_id}, the people's"
        yield problem("no-people", "annotations", detail)
    elif t.crowd.all():
        yield problem("only-crowd", "annotations", f"all {len(t.index)} people are crowds (iscrowd 1)")
    elif not (t.keypoints[:, :, 2] > 0).any() and not t.unreadable.any():
        yield problem("no-keypoints", "annotations", f"none of {len(t.index)} people has a labelled keypoint")


def _sizes(t: ParsedFile) -> NDArray[np.float64]:
    """(N, 2) width and height of each annotation's picture, infinite where it has none."""
    by_id = {image.id: (image.width, image.height) for image in t.images}
    nowhere = (np.inf, np.inf)
    return np.array([by_id.get(i, nowhere) for i in t.image_ids.tolist()], dtype=np.float64).reshape(-1, 2)


def segment_problems(t: ParsedFile) -> Iterator[Problem]:
    """Segments that nothing can be cut out by; apart from the rules, for which every reader waits."""
    sizes = {image.id: (image.height, image.width) for image in t.images}
    for row, index in enumerate(t.index.tolist()):
        fault = segment_fault(t.raw["annotations"][index].get("segmentation"), sizes.get(int(t.image_ids[row])))
        if fault:
            yield problem("segmentation", t.where(row), fault, "annotations", index)


def pictures_on_disk(table: ParsedFile, images_dir: str | Path) -> list[Problem]:
    """What is wrong with the pictures of a file."""
    return check_pictures(table.images, table.image_index.tolist(), Path(images_dir))


def pictures_of_both(table: ParsedFile, other: str | Path) -> list[Problem]:
    """Pictures of a file that the file ``other`` has too."""
    try:
        theirs, _ = parse(jsonfile.load_json_leniently(other))
    except DatasetError as error:
        return [problem("unreadable", "the other set", str(error).rstrip("."))]
    return check_overlap(table.raw, table.images, table.image_index.tolist(), theirs.images, Path(other).name)


def _finite(values: NDArray[np.float64]) -> Bool:
    """Whether all numbers along the last axis are finite."""
    return np.asarray(np.isfinite(values).all(-1), dtype=bool)


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e5 else repr(float(value))


def _numbers(values: NDArray[np.float64]) -> str:
    return "[" + ", ".join(_number(v) for v in values.tolist()) + "]"


def _size(wh: NDArray[np.float64]) -> str:
    return f"{wh[0]:.0f}x{wh[1]:.0f}" if np.isfinite(wh).all() else "unknown size"
