"""What is to be asked before hours of training, of sets that are read already: their pictures, and two sets' overlap.

The same rules as in :func:`~stagepose.coco.validate.check_dataset`, which begins with the files.
"""

from __future__ import annotations

from pathlib import Path

from stagepose.coco.dataset import CocoDataset
from stagepose.coco.pictures import check_pictures
from stagepose.coco.problems import Problem, errors, summarise
from stagepose.coco.samepicture import check_overlap
from stagepose.errors import DatasetError
from stagepose.lines import printable


def picture_problems(dataset: CocoDataset, images_dir: str | Path) -> list[Problem]:
    """A problem for each picture of a set that is missing, unreadable or of another size than the set says."""
    return check_pictures(dataset.images, range(len(dataset.images)), Path(images_dir))


def refuse_bad_pictures(dataset: CocoDataset, images_dir: str | Path, otherwise: str = "") -> None:
    """:class:`DatasetError` with the kinds and counts of what is wrong with a set's pictures, and what to do.

    ``otherwise`` is a remedy besides mending them: by default a file without them.
    """
    problems = errors(picture_problems(dataset, images_dir))
    if problems:
        kinds = "; ".join(f"{k.count} x {k.kind}, such as {k.examples[0]}" for k in summarise(problems))
        otherwise = otherwise or f"drop them with 'stagepose check {dataset.shown} --write-clean OUT'"
        raise DatasetError(f"{dataset.shown}: its pictures do not fit its labels: {kinds}. Mend them ('stagepose check "
                           f"FILE --images DIR' lists all), or {otherwise}")


def overlap_problems(train: CocoDataset, val: CocoDataset) -> list[Problem]:
    """What pictures of ``train`` are in ``val`` too: :func:`~stagepose.coco.samepicture.check_overlap`."""
    name = val.path.name if val.path else "the other set"
    places = {row["id"]: place for place, row in enumerate(train.raw.get("images", ()))}  # it may be a part of its file
    index = [places.get(image.id, place) for place, image in enumerate(train.images)]
    return check_overlap(train.raw, train.images, index, val.images, name)


def refuse_generated(val: CocoDataset) -> None:
    """:class:`DatasetError` where people would be judged by pictures that nobody took."""
    if val.generated:
        raise DatasetError(f"{printable(val.path)}: {len(val.generated)} of its {len(val.images)} pictures are marked "
                           "generated, and generated people are never judged by; give a set of photographs, and this "
                           "one to learn from with --extra")
