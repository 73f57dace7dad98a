"""Where written labels go: nothing that is there already is replaced, and pictures stay where they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.lines import printable


@contextmanager
def all_or_none(files: Iterable[Path]) -> Iterator[None]:
    """New files that are written together: who has made room on a full disk can give the same command again."""
    try:
        yield
    except BaseException:  # Ctrl-C too
        for file in files:
            with suppress(OSError):
                file.unlink()
        raise


@dataclass(frozen=True)
class Target:
    """``out`` is a folder or a file; ``pictures`` the folder that file names are relative to, None if not known."""

    out: Path
    pictures: Path | None
    links: bool = True

    def files(self, images: Iterable[ImageInfo], folder: str, suffix: str) -> dict[int, Path]:
        """A file a picture, of the picture's name, below a folder of ``out``; by image id.

        :class:`DatasetError` where a name leads out of the folder, two pictures differ by their suffix alone, or a file
        is there already.
        """
        out: dict[int, Path] = {}
        taken: dict[Path, str] = {}
        for image in images:
            name = Path(os.path.normpath(image.file_name))
            if name.is_absolute() or name.parts[:1] == ("..",):
                raise DatasetError(f"picture {show(image.file_name)} lies outside of the pictures' folder; move it "
                                   "there and mend its file_name")
            file = out[image.id] = (self.out / folder / name).with_suffix(suffix)
            if file in taken:
                raise DatasetError(f"pictures {show(taken[file])} and {show(image.file_name)} would both have their "
                                   f"labels in {printable(file)}; rename one")
            taken[file] = image.file_name
        self.refuse_existing(list(out.values()))
        return out

    def refuse_existing(self, files: Sequence[Path]) -> None:
        """:class:`DatasetError` where any is there: it may hold somebody's corrections."""
        there = [file for file in files if file.exists()]
        if there:
            raise DatasetError(f"{printable(there[0])}: is there already ({len(there)} of {len(files)} files are); "
                               "choose another place, or remove them first")

    def link(self, place: Path) -> str:
        """A link at ``place`` to the pictures, unless something is there; a line that says what is."""
        shown = printable(place)
        if self.pictures is None:
            return f"put the pictures into {shown}"
        home = printable(self.pictures)
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
