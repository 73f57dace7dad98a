"""The folder of long work that is gone on with: whose it is, and what it was begun with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stagepose.errors import DatasetError
from stagepose.files import write_json
from stagepose.lines import printable


def claim(out: Path, note: str, identity: Mapping[str, Any], verb: str) -> None:
    """Take an empty folder, or one that ``verb`` began with the same settings; the file ``note`` in it says which.

    :class:`DatasetError` names the first setting that was another. ``format`` among them is no user's: it says which
    pictures the same settings give.
    """
    file, shown = out / note, printable(out)
    if not file.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DatasetError(f"{shown}: is not an empty folder, and none that was begun by {verb}; choose another")
        write_json(file, identity)
        return
    begun = read_json(file)
    if not isinstance(begun, dict):
        raise DatasetError(f"{printable(file)}: cannot be read; choose another folder")
    wanted = json.loads(json.dumps(identity))  # as the file gives it back
    if begun.get("format") != wanted.get("format"):
        raise DatasetError(f"{shown}: was begun by another version of {verb}, which makes other pictures of the same "
                           "seed; choose another folder")
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise DatasetError(f"{shown}: was begun with {name} {begun.get(name)!r}, now it is {value!r}; give the "
                               "same settings to go on with it, or choose another folder")


def contents_digest(files: Sequence[Path]) -> str:
    """Of what is in files, in their order, whatever their names: how a set's settings say which they were."""
    total = hashlib.sha256()
    for file in files:
        try:
            total.update(hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise DatasetError(f"{printable(file)}: cannot be read: {error.strerror}") from error
    return total.hexdigest()[:16] if files else ""


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
