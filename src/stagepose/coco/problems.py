"""What can be wrong with an annotation or result file: one table of kinds, and how a list of problems reads.

A validator collects all problems and raises nothing; a reader raises one error made from the list.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagepose.errors import DatasetError
from stagepose.lines import printable

Severity = Literal["error", "warning"]
Action = Literal["drop", "mend", "keep", "stop"]  # what --write-clean does: "stop" cannot be cleaned by machine
Part = Literal["file", "images", "annotations", "categories", "results", "labels"]

EXAMPLES = 3  # of each kind in a summary


@dataclass(frozen=True)
class Kind:
    """What holds for all problems of one kind."""

    severity: Severity
    action: Action
    remedy: str


_CLEAN_DROPS = "mend it, or drop such rows with --write-clean OUT"
_CLEAN_MENDS = "mend it, or let --write-clean OUT do it"
_EXPORT = "export the annotations again, or mend the file by hand"

KINDS: dict[str, Kind] = {
    # the file
    "unreadable": Kind("error", "stop", _EXPORT),
    "not-a-number": Kind("error", "mend", "leave the value out, or let --write-clean OUT do it"),
    "layout": Kind("error", "stop", _EXPORT),
    "annotations-missing": Kind("warning", "keep", "fine for predicting; nothing can be trained or judged"),
    "category": Kind("error", "drop", _CLEAN_DROPS),
    "no-person-category": Kind("error", "stop", "add a category named 'person' that lists its keypoints"),
    "several-person-categories": Kind("error", "stop", "give all people one category_id, and drop the other category"),
    "several-keypoint-categories": Kind("warning", "keep", "give all people one category, with the name 'person'"),
    "keypoint-names": Kind("error", "stop", "list the keypoints' names, in the order of the numbers, in the category"),
    "keypoint-names-missing": Kind("error", "stop", "list the keypoints' names, in the order of the numbers, in the "
                                   "category, or name them with --skeleton NAME|FILE"),
    "limbs": Kind("warning", "keep", "pairs in 'skeleton' count keypoints from 1; they are used for drawing only"),
    # images
    "image-type": Kind("error", "drop", _CLEAN_DROPS),
    "image-id": Kind("error", "mend", _CLEAN_MENDS),
    "image-id-duplicate": Kind("error", "drop", _CLEAN_DROPS),
    "image-id-conflict": Kind("error", "drop", "give each image an id of its own, or drop them with --write-clean OUT"),
    "image-name": Kind("error", "drop", _CLEAN_DROPS),
    "image-name-duplicate": Kind("warning", "keep", "list each image once"),
    "image-size": Kind("error", "drop", _CLEAN_DROPS),
    "image-missing": Kind("error", "drop", "name the right folder with --images, or drop with --write-clean OUT"),
    "image-unreadable": Kind("error", "drop", "fetch the picture again, or drop it with --write-clean OUT"),
    "image-size-differs": Kind("error", "drop", "annotate this picture, or drop it with --write-clean OUT"),
    "overlap": Kind("error", "drop", "a picture must be in one of the two sets: drop it here with --write-clean OUT"),
    "overlap-id": Kind("warning", "keep", "other file name, so probably another picture; look once"),
    # annotations
    "annotation-type": Kind("error", "drop", _CLEAN_DROPS),
    "annotation-id": Kind("error", "mend", "number the annotations, or let --write-clean OUT do it"),
    "annotation-id-duplicate": Kind("error", "mend", "number the annotations, or let --write-clean OUT do it"),
    "annotation-id-zero": Kind("warning", "mend", "evaluators read id 0 as 'no match'; --write-clean OUT renumbers it"),
    "annotation-image": Kind("error", "mend", _CLEAN_MENDS),
    "unknown-image": Kind("error", "drop", _CLEAN_DROPS),
    "unknown-category": Kind("error", "drop", _CLEAN_DROPS),
    "crowd-flag": Kind("error", "drop", _CLEAN_DROPS),
    "box-missing": Kind("error", "drop", _CLEAN_DROPS),
    "box-type": Kind("error", "drop", _CLEAN_DROPS),
    "box-not-finite": Kind("error", "drop", _CLEAN_DROPS),
    "box-negative": Kind("error", "drop", "write x, y, width, height, or drop such rows with --write-clean OUT"),
    "box-empty": Kind("error", "drop", _CLEAN_DROPS),
    "box-empty-unlabelled": Kind("warning", "drop", "of no use; --write-clean OUT drops it"),
    "box-outside": Kind("error", "drop", "does the picture's size fit the annotation? Or drop with --write-clean OUT"),
    "box-sticks-out": Kind("warning", "keep", "fine if the person is cut by the picture's edge"),
    "keypoints-type": Kind("error", "drop", _CLEAN_DROPS),
    "keypoints-count": Kind("error", "drop", "fix the file, or drop such annotations with --write-clean OUT"),
    "keypoint-not-finite": Kind("error", "mend", "mend it, or let --write-clean OUT mark the keypoint as unlabelled"),
    "keypoint-visibility": Kind("error", "mend", "mend it, or let --write-clean OUT mark the keypoint as unlabelled"),
    "keypoint-origin": Kind("error", "mend", "an unlabelled keypoint has v = 0; --write-clean OUT marks it so"),
    "keypoint-outside": Kind("warning", "keep", "does the picture's size fit the annotation?"),
    "num-keypoints": Kind("warning", "mend", "we count ourselves, others may not; --write-clean OUT corrects it"),
    "num-keypoints-missing": Kind("warning", "mend", "other evaluators need it; --write-clean OUT adds it"),
    "area": Kind("error", "mend", "mend it, or let --write-clean OUT remove it"),
    "area-missing": Kind("warning", "keep", "AP needs the segment's area: add it, or ask for an estimate"),
    "area-zero": Kind("warning", "keep", "AP needs the segment's area: add it, or ask for an estimate"),
    "area-estimated": Kind("warning", "keep", "fine for training; an AP with estimated areas compares with no other"),
    "segmentation": Kind("warning", "keep", "nothing is cut out by it; draw or export it again, or leave it out"),
    # what is possible each alone, but is not one person's together; which number is wrong, no machine knows
    "area-and-s": Kind("warning", "keep", "s is the root of the area, which is what we read: remove the wrong one"),
    "normalised": Kind("warning", "keep", "write pixels: x and width times the picture's width, y and height times its "
                       "height, area times both"),
    "box-tiny": Kind("warning", "keep", "write x, y, width, height in pixels of the picture, not in shares of it"),
    "keypoints-elsewhere": Kind("warning", "keep", "another person's? Or counted from the box's corner: add it, since "
                                "they are pixels of the picture"),
    "area-above-box": Kind("warning", "keep", "AP needs the segment's area, in pixels: mend it or the box, or remove "
                           "it and ask for an estimate"),
    "area-tiny": Kind("warning", "keep", "AP needs the segment's area, in pixels, neither its root nor a share of the "
                      "picture's: mend it, or remove it and ask for an estimate"),
    # the set as a whole
    "no-images": Kind("warning", "keep", "is this the right file?"),
    "no-people": Kind("warning", "keep", "is this the right file?"),
    "only-crowd": Kind("warning", "keep", "an evaluator finds no ground truth here, and AP is undefined"),
    "no-keypoints": Kind("warning", "keep", "fit for detectors only"),
    # labels in other tools' formats; no --write-clean mends them, convert's --drop-bad leaves their pictures out
    "label-file": Kind("error", "stop", "mend it, or export the labels again"),
    "label-value": Kind("error", "stop", "mend it where it was labelled"),
    "label-unknown": Kind("error", "stop", "rename it, or name a skeleton that has it"),
    "label-twice": Kind("error", "stop", "delete one, or give it to another person"),
    "label-tie": Kind("error", "stop", "give the point and its box the same group"),
    "label-box": Kind("error", "stop", "draw a box around the person"),
    "label-picture": Kind("error", "stop", "put the picture there, or name its folder with --images"),
    "label-size": Kind("error", "stop", "use the picture that was labelled"),
    # results
    "results-type": Kind("error", "stop", "COCO results are one list of objects"),
    "result-type": Kind("error", "stop", "write the results again"),
    "result-image": Kind("error", "stop", "write the results for the images of this ground truth"),
    "result-category": Kind("error", "stop", "people have category_id 1"),
    "result-keypoints": Kind("error", "stop", "write x, y, score of every keypoint of the ground truth's skeleton"),
    "result-box": Kind("error", "stop", "boxes are x, y, width, height"),
    "result-score": Kind("error", "stop", "every result needs a finite score, by which it is ranked"),
    "result-has-bbox": Kind("warning", "keep", "leave bbox out: evaluators would take its area for the person's size"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: ``where`` in the file, ``detail`` with the value found and the wish, ``remedy``.

    ``part`` and ``index`` name the row of the JSON list it belongs to, -1 where it belongs to none.
    """

    kind: str
    where: str
    detail: str
    remedy: str
    severity: Severity
    part: Part = "file"
    index: int = -1

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}" if self.where else self.detail


@dataclass(frozen=True)
class ProblemKind:
    """All problems of one kind: how many, the first few, and the remedy."""

    kind: str
    severity: Severity
    count: int
    examples: tuple[Problem, ...]
    remedy: str


def problem(kind: str, where: str, detail: str, part: Part = "file", index: int = -1) -> Problem:
    """A :class:`Problem` with the severity and remedy of its kind."""
    about = KINDS[kind]
    return Problem(kind, where, detail, about.remedy, about.severity, part, index)


def summarise(problems: Iterable[Problem]) -> list[ProblemKind]:
    """Counts per kind, errors first, otherwise in order of appearance."""
    groups: dict[str, list[Problem]] = {}
    for one in problems:
        groups.setdefault(one.kind, []).append(one)
    kinds = [
        ProblemKind(kind, group[0].severity, len(group), tuple(group[:EXAMPLES]), group[0].remedy)
        for kind, group in groups.items()
    ]
    return sorted(kinds, key=lambda k: k.severity != "error")


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that a reader refuses."""
    return [p for p in problems if p.severity == "error"]


def as_error(path: Path | str, problems: Sequence[Problem]) -> DatasetError:
    """ONE error for a list of problems: a single one in full, several as counts with the first example of each."""
    name = printable(path)
    if len(problems) == 1:
        remedy = problems[0].remedy.replace("--write-clean OUT", f"'stagepose check {name} --write-clean OUT'")
        return DatasetError(f"{name}: {problems[0]}. {remedy[0].upper()}{remedy[1:]}.")
    parts = [f"{k.count} x {k.kind} (first: {k.examples[0]})" for k in summarise(problems)]
    whole = f"{name}: {len(problems)} problems: {'; '.join(parts)}."
    if problems[0].part == "results":
        return DatasetError(whole)
    return DatasetError(f"{whole} 'stagepose check {name}' lists all, with --write-clean OUT it drops or mends them.")


LONGEST_SHOWN = 200  # characters of a value


def show(value: object) -> str:
    """A value from the file, short enough for one line."""
    try:
        text = _SHORT.repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 3
