"""Which pictures a detector learns from, and what is in each. P people or other things in one picture, Q crowds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stagepose.coco.dataset import rows_by_id
from stagepose.coco.instances import PERSON_LABEL, Instances, read_instances
from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.pictures import check_pictures
from stagepose.coco.problems import Problem, problem, summarise
from stagepose.errors import DatasetError, ImageError
from stagepose.geometry import Size
from stagepose.images import find_images, read_header

BAD = "picture missing, damaged or of another size"  # the reason that is counted

Boxes = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxImage:
    """One picture, in pixels of its file: ``boxes`` (P, 4), ``labels`` (P,) from 1 (people), ``ignore`` (Q, 4).

    In an ``ignore`` region nothing is learned as background: a crowd, or a whole picture in which not all are boxed.
    ``size`` is (width, height). ``photos`` are the names of the photographs in it, see
    :class:`~stagepose.coco.instances.Instances`.
    """

    file: Path
    size: Size
    photos: tuple[str, ...]
    boxes: Boxes
    labels: NDArray[np.int64]
    ignore: Boxes


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxSet:
    """Pictures fit for a detector, and how many were left out for which reason."""

    images: tuple[BoxImage, ...]
    categories: tuple[str, ...]  # by label - 1
    left_out: dict[str, int]

    @property
    def sha256(self) -> str:
        """Of the pictures' names and all boxes, by which a run knows them again wherever they lie."""
        found = hashlib.sha256()
        for image in self.images:
            counts = np.array([len(image.boxes), len(image.ignore)])
            found.update(image.file.name.encode("utf-8", "surrogateescape") + b"\0")
            for column in (counts, image.boxes, image.labels, image.ignore):
                found.update(column.tobytes())
        return found.hexdigest()

    def keep(self, good_N: NDArray[np.bool_]) -> BoxSet:
        """Without the pictures that are none after all; these are counted with the other bad ones."""
        images = tuple(image for image, good in zip(self.images, good_N.tolist(), strict=True) if good)
        bad = len(self.images) - len(images)
        return replace(self, images=images, left_out={**self.left_out, BAD: self.left_out.get(BAD, 0) + bad})


def read_boxes(path: str | Path, images_dir: str | Path, *, negatives_dir: str | Path | None = None,
               partly_boxed: bool = False, drop_bad: bool = False) -> BoxSet:
    """The pictures of a COCO instances or keypoint file, all its categories, and those without people.

    ``negatives_dir`` holds pictures that no file lists, without people. Pictures marked ``all_person_boxes: false``
    would teach that their unboxed people are background: they are left out, or, with ``partly_boxed``, nothing in them
    is learned as background. Pictures that are missing, unreadable or of another size than the file says are refused
    with their count (:class:`DatasetError`), or left out and counted with ``drop_bad``; so is a file of which none is
    left. Damage amid their pixels is seen when they are decoded.
    """
    found = read_instances(path)
    whole = [image for image in found.images if partly_boxed or image.id not in found.partly_boxed]
    problems = check_pictures(whole, range(len(whole)), Path(images_dir))
    bad = {each.index for each in problems}
    negatives, unread = _negatives(Path(negatives_dir)) if negatives_dir is not None else ([], [])
    problems += unread
    if problems and not drop_bad:
        kinds = "; ".join(f"{k.count} x {k.kind}, such as {k.examples[0]}" for k in summarise(problems))
        raise DatasetError(f"{path}: its pictures do not fit its labels: {kinds}. Mend them, or leave them out with "
                           "--drop-bad")
    rows_by_image = rows_by_id(found.image_ids)
    images = [_box_image(found, image, rows_by_image.get(image.id, np.zeros(0, dtype=np.int64)), Path(images_dir))
              for index, image in enumerate(whole) if index not in bad] + negatives
    left_out = {"picture not fully boxed": len(found.images) - len(whole), "box without area": found.left_out,
                BAD: len(problems)}
    if not images:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in left_out.items() if count) or "it names none"
        raise DatasetError(f"{path}: no picture is left for a detector ({reasons}); those in which not everybody is "
                           "boxed are used with --partly-boxed")
    return BoxSet(images=tuple(images), categories=found.categories, left_out=left_out)


def _negatives(folder: Path) -> tuple[list[BoxImage], list[Problem]]:
    """A folder's pictures, with nobody in them, and a problem for each that cannot be read."""
    nothing, nobody = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
    images, problems = [], []
    for file in find_images([folder]):
        try:
            header = read_header(file)
        except ImageError as error:
            problems.append(problem("image-unreadable", "", str(error)))
            continue
        images.append(BoxImage(file=file, size=(header.width, header.height), photos=(file.name,), boxes=nothing,
                               labels=nobody, ignore=nothing))
    return images, problems


def _box_image(found: Instances, image: ImageInfo, rows: NDArray[np.int64], folder: Path) -> BoxImage:
    boxes, crowd = found.boxes_xyxy[rows].astype(np.float32), found.crowd[rows]
    ignore = boxes[crowd]
    if image.id in found.partly_boxed:
        ignore = np.array([[0, 0, image.width, image.height]], dtype=np.float32)
    return BoxImage(file=folder / image.file_name, size=(image.width, image.height), photos=found.photos[image.id],
                    boxes=boxes[~crowd], labels=found.labels[rows][~crowd], ignore=ignore)


def are_people(labels_P: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of a picture's boxes hold people."""
    return np.asarray(labels_P == PERSON_LABEL, dtype=bool)
