"""Where written labels go: nothing that is there already is replaced, and pictures stay where they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.problems import shown_path
from stagepose.errors import DatasetError


def not_held(dataset: CocoDataset) -> list[str]:
    """A line about what COCO has and no annotation tool's format here does."""
    outlines = sum(bool(row.get("segmentation")) for row in dataset.raw.get("annotations", ()) if isinstance(row, dict))
    counts = {"crowds": int(dataset.crowd.sum()), "areas": int((~np.isnan(dataset.areas)).sum()), "outlines": outlines,
              "licences": len(dataset.licences)}
    listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return [f"left out: {listed}"] if listed else []


@dataclass(frozen=True)
class Target:
    """``out`` is a folder or a file; ``pictures`` the folder that file names are relative to, None if not known."""

    out: Path
    pictures: Path | None
    links: bool = True

    def refuse_existing(self, files: Sequence[Path]) -> None:
        """:class:`DatasetError` where any is there: it may hold somebody's corrections."""
        there = [file for file in files if file.exists()]
        if there:
            raise DatasetError(f"{shown_path(there[0])}: is there already ({len(there)} of {len(files)} files are); "
                               "choose another place, or remove them first")

    def link(self, place: Path) -> str:
        """A link at ``place`` to the pictures, unless something is there; a line that says what is."""
        shown = shown_path(place)
        if self.pictures is None:
            return f"put the pictures into {shown}"
        home = shown_path(self.pictures)
        if place.exists():
            same = place.samefile(self.pictures)
            return f"pictures: {shown}" if same else f"{shown} is there already: it must hold the pictures of {home}"
        if not self.links:
            return f"put the pictures into {shown}, or make it a link to {home}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.realpath(self.pictures), target_is_directory=True)
        except OSError as error:  # a file system or a system without links
            return f"put the pictures of {home} into {shown}: a link cannot be made ({error.strerror})"
        return f"pictures: {shown} is a link to {home}"
