"""``people.csv``: a row a person, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stagepose.errors import StagePoseError
from stagepose.files import write_bytes

OF_PERSON = ("file_name", "image_id", "person", "score", "x1", "y1", "x2", "y2")


def write_csv(path: Path, people: Iterable[Mapping[str, Any]], keypoints: Sequence[str]) -> None:
    """The entries of ``people.json`` as UTF-8 text, atomically; ``person`` counts a photo's people from 1, best first.

    Joints are as the entries have them, people's scores to 4 decimals. ``keypoints`` are the names, in the order of
    the entries' triples.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow([*OF_PERSON, *(f"{name}_{what}" for name in keypoints for what in ("x", "y", "score"))])
    seen: dict[int, int] = {}
    for person in people:
        image_id = person["image_id"]
        seen[image_id] = seen.get(image_id, 0) + 1
        rows.writerow([person["file_name"], image_id, seen[image_id], round(person["score"], 4), *person["box"],
                       *person["keypoints"]])
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))  # a name that is no text at all


def remove_csv(path: Path) -> bool:
    """Remove such a table; False where there is none. Another's file of that name stays."""
    try:
        with path.open("rb") as file:
            if not file.readline().startswith(",".join(OF_PERSON).encode()):
                return False
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StagePoseError(f"{path}: of an earlier run, and cannot be removed: {error.strerror}") from error
    return True
