"""``people.csv``: a row a person, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from stagepose.errors import StagePoseError
from stagepose.files import write_chunks

OF_PERSON = ("file_name", "image_id", "person", "score", "x1", "y1", "x2", "y2")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Tables for spreadsheets and data frames.

    Attributes:
        csv: Also write people.csv for the photos, if there are any: a row per person, with x, y and score of every
            keypoint by name. Without it, an earlier run's table, which would describe other people, is removed.
        csv_threshold: Minimum score of the joints whose x and y are in the tables; those of others are left empty.
    """

    csv: bool = False
    csv_threshold: float = 0.0


def write_csv(path: Path, people: Iterable[Mapping[str, Any]], keypoints: Sequence[str], least: float = 0.0) -> None:
    """The entries of ``people.json`` as UTF-8 text, atomically; ``person`` counts a photo's people from 1, best first.

    A photo's people follow each other. Joints are as the entries have them, those that score below ``least`` without x
    and y; people's scores to 4 decimals. ``keypoints`` are the names, in the order of the entries' triples.
    """
    heading = [*OF_PERSON, *(f"{name}_{what}" for name in keypoints for what in ("x", "y", "score"))]
    rows = ([person["file_name"], person["image_id"], number, round(person["score"], 4), *person["box"],
             *joint_cells(person["keypoints"], least)]
            for _, of_photo in groupby(people, key=itemgetter("image_id"))
            for number, person in enumerate(of_photo, 1))
    write_chunks(path, (csv_line(row) for row in chain([heading], rows)))


def joint_cells(keypoints: Sequence[float], least: float) -> list[float | None]:
    """x, y, score of each keypoint; of one that scores below ``least`` x and y are None, which is an empty cell."""
    triples = (keypoints[at : at + 3] for at in range(0, len(keypoints), 3))
    return [cell for x, y, score in triples for cell in ((x, y, score) if score >= least else (None, None, score))]


def csv_line(row: Sequence[Any]) -> bytes:
    """One row of such a file, with its end."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(row)
    return text.getvalue().encode("utf-8", "backslashreplace")  # a name that is no text at all


def remove_csv(path: Path, heading: Sequence[str] = OF_PERSON) -> bool:
    """Remove such a table, whose columns begin so; False where there is none. Another's file of that name stays."""
    try:
        with path.open("rb") as file:
            if not file.readline().startswith(",".join(heading).encode()):
                return False
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StagePoseError(f"{path}: of an earlier run, and cannot be removed: {error.strerror}") from error
    return True
