"""Dropping what cannot be kept and mending what can, with a count of everything that was changed.

Passes of :func:`~stagepose.coco.validate.examine` until nothing is left to do: to drop an image makes its annotations
strangers, which the next pass drops. What to do about a kind of problem stands in the table of kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stagepose.coco import jsonfile
from stagepose.coco.parsedfile import ParsedFile, parse
from stagepose.coco.problems import KINDS, Part, Problem, as_error, errors
from stagepose.coco.validate import examine, pictures_of_both, pictures_on_disk
from stagepose.skeleton import HIDDEN, UNLABELLED, VISIBLE, Skeleton

AREA_OF_BOX = 0.536  # segment area / box area, the mean of COCO's people; for estimates that are asked for
MOST_PASSES = 12  # each drops or mends something; two or three do

Row = dict[str, Any]


@dataclass(frozen=True)
class Changes:
    """Counts of all that cleaning changed: by part and kind of problem, and the rows before and after."""

    dropped: Counter[tuple[Part, str]] = field(default_factory=Counter)
    mended: Counter[tuple[Part, str]] = field(default_factory=Counter)
    images: list[int] = field(default_factory=list)  # before, after
    annotations: list[int] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A line for each count, for a terminal."""
        dropped = [f"{n} {_part(part, n)} dropped: {kind}" for (part, kind), n in self.dropped.items()]
        mended = [f"{n} {_part(part, n)} mended: {kind}" for (part, kind), n in self.mended.items()]
        return dropped + mended


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A cleaned file: its JSON, its columns, what was changed, and the errors that no cleaning mends."""

    raw: Any
    table: ParsedFile
    changes: Changes
    left: list[Problem]


def write_clean(
    path: str | Path, out: str | Path, *, images_dir: str | Path | None = None, other: str | Path | None = None,
    estimate_areas: bool = False,
) -> Changes:  # fmt: skip
    """Write a copy of a file that passes the check.

    ``images_dir``: images that are missing there, unreadable or of another size are dropped; ``other``: so are those
    that the other half of a split has. Areas are estimated only when asked, and marked ``area_source: estimated``.
    """
    raw = jsonfile.load_json_leniently(path)
    table, _ = parse(raw)
    more = pictures_on_disk(table, images_dir) if images_dir is not None else []
    more += pictures_of_both(table, other) if other is not None else []
    unusable = [p for p in more if p.index < 0]  # the other set cannot be read
    cleaned = clean(raw, more=more, estimate_areas=estimate_areas)
    if unusable or cleaned.left:
        raise as_error(path, unusable or cleaned.left)
    finite, nulled = jsonfile.without_nan(cleaned.raw)
    if nulled:
        cleaned.changes.mended["file", "not-a-number"] += nulled
    jsonfile.write_json_compact(out, finite)
    return cleaned.changes


def clean(
    raw: Any, *, skeleton: Skeleton | None = None, more: Sequence[Problem] = (), estimate_areas: bool = False
) -> Cleaned:
    """Clean parsed JSON; ``more`` are problems that the JSON alone does not show. The argument is left as it is."""
    changes = Changes()
    _note_sizes(raw, changes)
    for _ in range(MOST_PASSES):
        table, problems = examine(raw, skeleton)
        todo = [p for p in (*problems, *more) if p.index >= 0 and _action(p, estimate_areas) in ("drop", "mend")]
        if not todo:
            break
        raw, more = _apply(raw, table, todo, changes, estimate_areas), ()
    _note_sizes(raw, changes)
    return Cleaned(raw, table, changes, errors(problems))


def _note_sizes(raw: Any, changes: Changes) -> None:
    for part, counts in (("images", changes.images), ("annotations", changes.annotations)):
        rows = raw.get(part) if isinstance(raw, dict) else None
        counts.append(len(rows) if isinstance(rows, list) else 0)


def _action(found: Problem, estimate_areas: bool) -> str:
    return "mend" if estimate_areas and found.kind in ("area-missing", "area-zero") else KINDS[found.kind].action


def _apply(raw: Row, table: ParsedFile, todo: Sequence[Problem], changes: Changes, estimate_areas: bool) -> Row:
    """One pass: every row that is at fault is dropped once, for its first fatal problem, or mended."""
    drop: dict[tuple[Part, int], str] = {}
    mended: dict[tuple[Part, int], Row] = {}
    kinds: dict[tuple[Part, int], set[str]] = {}
    for found in todo:
        if _action(found, estimate_areas) == "drop":
            drop.setdefault((found.part, found.index), found.kind)
    menders = _menders(table, _fresh_ids(raw["annotations"] if isinstance(raw.get("annotations"), list) else []))
    for found in todo:
        at = (found.part, found.index)
        if at in drop or _action(found, estimate_areas) != "mend":
            continue
        row = mended.setdefault(at, dict(raw[found.part][found.index]))
        if menders[found.kind](row):
            kinds.setdefault(at, set()).add(found.kind)
        else:
            drop[at] = found.kind
    for (part, _), kind in drop.items():
        changes.dropped[part, kind] += 1
    for (part, index), which in kinds.items():
        if (part, index) not in drop:
            changes.mended.update((part, kind) for kind in which)
    out = dict(raw)
    for part in {part for part, _ in (*drop, *mended)}:
        rows = enumerate(raw[part])
        out[part] = [mended.get((part, index), row) for index, row in rows if (part, index) not in drop]
    return out


def _fresh_ids(annotations: Sequence[Any]) -> Iterator[int]:
    used = {a["id"] for a in annotations if isinstance(a, dict) and type(a.get("id")) is int}
    top = max(used, default=0)
    return (i for i in count(max(top, 0) + 1 if top < 2**62 else 1) if i not in used)


def _as_id(value: Any) -> int | None:
    """The id that a text or a float can only have meant."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and len(value) <= 18 and value.strip().isdecimal():
        return int(value)
    return None


def _mend_image_id(row: Row, known: NDArray[np.int64]) -> bool:
    meant = _as_id(row.get("id"))
    if meant is None or meant in known:
        return False
    row["id"] = meant
    return True


def _mend_image_of(row: Row) -> bool:
    meant = _as_id(row.get("image_id"))
    row["image_id"] = meant
    return meant is not None


def _mend_id(row: Row, fresh: Iterator[int]) -> bool:
    row["id"] = next(fresh)
    return True


def _mend_keypoints(row: Row) -> bool:
    """A keypoint without a sound place or visibility becomes an unlabelled one."""
    triples = np.array(row["keypoints"], dtype=np.float64).reshape(-1, 3)
    strange = ~np.isin(triples[:, 2], (UNLABELLED, HIDDEN, VISIBLE))
    bad = ~np.isfinite(triples).all(1) | strange | (triples[:, :2] == 0).all(1)
    for k in np.flatnonzero(bad).tolist():
        row["keypoints"] = [*row["keypoints"][: 3 * k], 0, 0, 0, *row["keypoints"][3 * k + 3 :]]
    return "num_keypoints" not in row or _mend_count(row)


def _mend_count(row: Row) -> bool:
    values = row.get("keypoints")
    row["num_keypoints"] = sum(v in (HIDDEN, VISIBLE) for v in values[2::3]) if isinstance(values, list) else 0
    return True


def _remove_area(row: Row) -> bool:
    row.pop("area" if "area" in row else "s")
    return True


def _estimate_area(row: Row) -> bool:
    _, _, width, height = row["bbox"]
    row["area"], row["area_source"] = round(AREA_OF_BOX * width * height, 2), "estimated"
    return True


def _menders(table: ParsedFile, fresh: Iterator[int]) -> dict[str, Callable[[Row], bool]]:
    """By kind of problem what mends a row in place; False where it cannot be, and is to be dropped."""
    mend_id = partial(_mend_id, fresh=fresh)
    return {
        "image-id": partial(_mend_image_id, known=table.known_images),
        "annotation-image": _mend_image_of,
        "annotation-id": mend_id,
        "annotation-id-duplicate": mend_id,
        "annotation-id-zero": mend_id,
        "keypoint-not-finite": _mend_keypoints,
        "keypoint-visibility": _mend_keypoints,
        "keypoint-origin": _mend_keypoints,
        "num-keypoints": _mend_count,
        "num-keypoints-missing": _mend_count,
        "area": _remove_area,
        "area-missing": _estimate_area,
        "area-zero": _estimate_area,
    }


def _part(part: Part, n: int) -> str:
    one, many = {"categories": ("category", "categories"), "file": ("value", "values")}.get(part, (part[:-1], part))
    return one if n == 1 else many
