"""The pictures of a data set on disk: are they there, can they be read, are they as large as the file says?

Read as :func:`~stagepose.images.read_header` does, so what passes here is not refused later; only damage amid the
pixels of a JPEG, PNG, GIF or WebP stays unseen. COCO's width and height are those of the upright picture, as
users and annotators see it, whichever way EXIF says it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.problems import Problem, problem, show
from stagepose.errors import DatasetError, ImageError
from stagepose.images import read_header
from stagepose.lines import printable


def images_folder(path: str | Path, given: str | Path | None = None) -> Path:
    """Where a JSON's pictures are: the folder given, else ``images`` beside it."""
    return Path(given) if given is not None else Path(path).parent / "images"


def require_images_folder(path: str | Path, given: str | Path | None = None) -> Path:
    """The same; :class:`DatasetError` where there is no such folder."""
    folder = images_folder(path, given)
    if not folder.is_dir():
        raise DatasetError(f"{printable(folder)}: no such folder; --images names the one that holds the pictures "
                           f"of {printable(path)}")
    return folder


def check_pictures(images: Sequence[ImageInfo], index: Sequence[int], folder: Path) -> list[Problem]:
    """A problem for each picture that is missing, unreadable or of another size than the file says.

    ``index`` is the place of each in the JSON's list.
    """
    found = []
    for at, image in zip(index, images, strict=True):
        fault = _picture_fault(folder, image)
        if fault:
            found.append(problem(fault[0], f"image {image.id}", fault[1], "images", at))
    return found


def _picture_fault(folder: Path, image: ImageInfo) -> tuple[str, str] | None:
    name = show(image.file_name)
    try:
        header = read_header(folder / image.file_name, name=name)
    except ImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return "image-missing", f"{name} is not in {folder}"
        return "image-unreadable", str(error)
    if (header.width, header.height) == (image.width, image.height):
        return None
    turn = " once upright, by its EXIF orientation" if header.turned else ""
    wish = f"the annotation file says {image.width}x{image.height}"
    return "image-size-differs", f"{name} is {header.width}x{header.height}{turn}; {wish}"
