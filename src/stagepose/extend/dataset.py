"""An extended set: pictures made by number, judged, counted, and gathered into an ordinary COCO file.

    OUT/images/paste-000001.jpg ...    OUT/person_keypoints.json    OUT/sheet.jpg    OUT/report.json
    OUT/extend.json                    what all of it was made with
    OUT/notes/000000.json ...          a picture each: its people, and how well the judge found them

A picture's note is written after the picture, so what an interruption leaves is whole or made again, to the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stagepose.aliases import Progress
from stagepose.claims import read_json
from stagepose.coco.dataset import person_json
from stagepose.errors import DatasetError
from stagepose.extend.judge import Judge
from stagepose.extend.made import Recipe
from stagepose.extend.worker import Order, Workshop, note_of
from stagepose.files import write_json
from stagepose.lines import printable
from stagepose.making import MadeSet, check_wish, in_processes
from stagepose.making.madeset import Row

FORMAT = 3  # of what is made: raised when the same seed would no longer give the same pictures and labels
BATCH = 8  # pictures: what a stop loses of each process
BINS = 10  # of the histogram of OKS


@dataclass(frozen=True, kw_only=True)
class Extended:
    """A finished set: its file, and what became of the pictures asked for and of their new people.

    ``refused`` counts pictures that could not be made, by reason; ``dropped`` new people whom the judge did not find,
    ``unjudged`` those of whom it knows no labelled keypoint: they are kept.
    ``histogram`` (BINS,) counts the judged people by OKS, from 0 to 1; nobody where there was no judge.
    """

    file: str
    asked: int
    pictures: int
    people: int
    dropped: int
    unjudged: int
    refused: dict[str, int]
    histogram: list[int]

    @property
    def acceptance(self) -> float:
        """Share of the new people who were kept."""
        return self.people / max(1, self.people + self.dropped)


def extend_set(recipe: Recipe, count: int, out: Path, *, judge: Judge | None, jobs: int,
               progress: Progress) -> Extended:
    """Make pictures number 0 to ``count`` - 1 in ``out``, or those of them that are still missing.

    With one job they are made in this process, with more in as many others. Nobody is made anew for one who was
    dropped: the set is smaller then, and the report says by how much.
    """
    check_wish(count, jobs, recipe.seed)
    if judge is not None:
        judge.check(recipe)
    recipe.check()
    identity = {"format": FORMAT, "by": recipe.by, "seed": recipe.seed, **recipe.identity(),
                "judge": judge.digest[:16] if judge else None}
    made = MadeSet(out=out, verb="extend", seed=recipe.seed, identity=identity)
    made.begin(count, _reached)
    least = _least(judge)
    rows: dict[int, Row] = {}
    for number in range(count):
        if (row := _done(out, number, least)) is not None:
            rows[number] = row
    missing = [number for number in range(count) if number not in rows]
    progress(len(rows), count)
    for numbers in _made(missing, Order(recipe, judge, out), jobs):
        rows |= {number: read_json(note_of(out, number)) for number in numbers}
        progress(len(rows), count)
    return _gathered([rows[number] for number in range(count)], recipe, judge, made)


def _made(missing: Sequence[int], order: Order, jobs: int) -> Iterator[Sequence[int]]:
    """Numbers as they are done."""
    batches = [missing[first : first + BATCH] for first in range(0, len(missing), BATCH)]
    if jobs > 1:
        yield from in_processes(Workshop, order, batches, processes=jobs)
    elif batches:
        workshop = Workshop(order)
        for numbers in batches:
            workshop(numbers)
            yield numbers


def _done(out: Path, number: int, least: float) -> Row | None:
    """The note of a picture that needs no making: its file is there, or was removed with its last person."""
    row = read_json(note_of(out, number))
    if not isinstance(row, dict) or row.get("number") != number:
        return None
    if "refused" in row:
        return row
    name = row.get("file_name")
    there = isinstance(name, str) and (not _kept(row, least) or (out / "images" / name).is_file())
    return row if there else None


def _least(judge: Judge | None) -> float:
    """The OKS from which a new person is kept: without a judge, everybody."""
    return judge.least if judge else 0.0


def _kept(row: Row, least: float) -> list[Row]:
    """The new people of a picture whom the judge finds."""
    return [person for person in row.get("people", ()) if person["new"] and person.get("oks", 1.0) >= least]


def _reached(out: Path) -> int:
    """How many pictures the last one that was made reaches."""
    return max((int(note.stem) + 1 for note in (out / "notes").glob("[0-9]*.json")), default=0)


def _gathered(rows: Sequence[Row], recipe: Recipe, judge: Judge | None, made: MadeSet) -> Extended:
    """The report, the COCO file and the contact sheet; only then is what the file no longer lists taken away."""
    least = _least(judge)
    done = _counted(rows, judge, made.file)
    said = {"judge": judge.model if judge else None, "least_oks": least if judge else None,
            "acceptance": round(done.acceptance, 4), **asdict(done)}
    write_json(made.out / "report.json", said | {"file": made.file.name})
    if not done.people:
        raise DatasetError(f"{printable(made.out)}: nobody to keep of {len(rows)} pictures asked for: {_why(done)}; "
                           "ask for more, or look at report.json there")
    shown = [row for row in rows if _kept(row, least)]
    made.finish(f"People made of others, by stagepose gan extend --by {recipe.by}", recipe.skeleton,
                [_image(row) for row in shown],
                [_person(person, row, least) for row in shown for person in row["people"]], recipe.licences)
    for row in rows:  # pictures of whom nobody was kept would lie about without labels
        if "file_name" in row and not _kept(row, least):
            (made.out / "images" / row["file_name"]).unlink(missing_ok=True)
    return done


def _counted(rows: Sequence[Row], judge: Judge | None, file: Path) -> Extended:
    """What became of the pictures and of their new people."""
    least = _least(judge)
    new = [person for row in rows for person in row.get("people", ()) if person["new"]]
    kept = [len(_kept(row, least)) for row in rows]
    judged = [person["oks"] for person in new if "oks" in person]
    histogram, _ = np.histogram(judged, bins=BINS, range=(0, 1))
    return Extended(file=str(file), asked=len(rows), pictures=sum(map(bool, kept)),
                    people=sum(kept), dropped=len(new) - sum(kept),
                    unjudged=len(new) - len(judged) if judge else 0,
                    refused=dict(Counter(row["refused"] for row in rows if "refused" in row)),
                    histogram=histogram.tolist())


def _why(done: Extended) -> str:
    """What became of all who were asked for."""
    reasons = [f"{reason} ({count})" for reason, count in sorted(done.refused.items())]
    return ", ".join([*reasons, *([f"not found by the judge ({done.dropped})"] if done.dropped else [])])


def _image(row: Row) -> Row:
    shown = {name: row[name] for name in ("file_name", "width", "height", "sources")}
    return {**row["image"], "id": row["number"] + 1, **shown, "generated": True}


def _person(person: Row, row: Row, least: float) -> dict[str, Any]:
    """An annotation; of bystanders, and of those who were dropped, the box alone."""
    known = person["new"] and person.get("oks", 1.0) >= least
    keypoints = person["keypoints"] if known else [0] * len(person["keypoints"])
    rest = {name: value for name, value in person.items() if name not in ("new", "keypoints", "bbox", "iscrowd")}
    return person_json(row["number"] + 1, person["bbox"], keypoints, crowd=bool(person.get("iscrowd")),
                       more=rest | {"generated": person["new"]})
