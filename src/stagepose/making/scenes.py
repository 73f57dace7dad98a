"""Pictures without people, before which people are put."""

from __future__ import annotations

from pathlib import Path

from stagepose.errors import DatasetError
from stagepose.images import find_images, read_header
from stagepose.lines import printable


def scenes_in(folder: Path, option: str) -> tuple[Path, ...]:
    """The pictures in a folder that ``option`` names, each looked at: one that cannot be read is refused before work.

    In the order of their names.
    """
    if not folder.is_dir():
        raise DatasetError(f"{printable(folder)}: no such folder; {option} names one of pictures without people")
    files = tuple(sorted(find_images([folder])))
    for file in files:
        read_header(file)
    return files
