"""The split of the source report: train-val = all given sets without mini-val; mini-val = the images to judge by.

With COCO: train2014 + val2014 minus the images of val2017, whose images with keypoints are mini-val
(39,935 + 19,010 - 2,346 = 56,599 images with keypoints).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence, Set
from itertools import count as count_up
from typing import Any

from stagepose.coco.dataset import CocoDataset, category_json, to_json
from stagepose.coco.parsedfile import ImageInfo
from stagepose.coco.readiness import refuse_generated
from stagepose.coco.samepicture import find_twins, image_key, sources_of
from stagepose.errors import ConfigError, DatasetError

Json = dict[str, Any]


def split(
    datasets: Sequence[CocoDataset],
    *,
    minival: CocoDataset | None = None,
    count: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    keypoints_only: bool = True,
    same_ids: bool = False,
) -> tuple[Json, Json]:
    """(train-val, mini-val) as two COCO JSONs of people, without a common image; both pass the check.

    ``minival``: its images are taken out of the rest, those with keypoints are mini-val (all of them with
    ``keypoints_only=False``, which also shows false positives in images without people). Otherwise ``count`` images
    or a ``fraction`` of them are drawn by a hash of image id and seed: the same ones whatever else is in the files.
    A picture is known by its file name, see :mod:`~stagepose.coco.samepicture`; ``same_ids`` also takes out images
    with the id and size of one of mini-val, where the files of one set were renamed. Pictures that were made of
    mini-val's go too, and mini-val itself has photographs only: nothing is judged by generated pictures.
    ``info.split`` of both says what was merged, renumbered, taken out and counted.
    """
    merged, merger = _merge(datasets)
    notes, originals = merger.notes, merger.originals
    photos = {row["id"]: originals[row["id"]] for row in merged["images"] if row.get("generated") is not True}
    if minival is None:
        pool = photos.keys() & _images_with_keypoints(merged["annotations"]) if keypoints_only else photos.keys()
        drawn = drawn_by_lot(pool, _wanted(pool, merged, count, fraction), seed)
        mini = _only(merged, drawn)
        held_out = drawn | _listed_again(photos, drawn, notes)
        judged: Sequence[ImageInfo] = [photos[number] for number in drawn]
    else:
        if count is not None or fraction is not None:
            raise ConfigError("a mini-val file and a count or fraction were given; choose one of them")
        _same_skeleton(minival, datasets[0])
        refuse_generated(minival)
        held_out = _same_images(photos, minival, same_ids, notes)
        judged = minival.images
        mini = to_json(minival)
        if keypoints_only:
            mini = _only(mini, _images_with_keypoints(mini["annotations"]))
    held_out |= _made_of(judged, [row for row in merged["images"] if row["id"] not in held_out], notes)
    train = _only(merged, {i["id"] for i in merged["images"]} - held_out)
    _describe(train, mini, notes)
    return train, mini


def _wanted(pool: Set[int], merged: Json, count: int | None, fraction: float | None) -> int:
    """How many images of the ``pool`` mini-val gets; :class:`ConfigError` where that makes no two halves."""
    if (count is None) == (fraction is None):
        raise ConfigError("to split, give one of: a mini-val file, a count of images, a fraction of the images")
    if not pool and merged["images"]:
        raise ConfigError(f"none of {len(merged['images'])} images can be in mini-val, which takes photographs with "
                          "labelled people, none that are marked as generated; give a set of photographs too")
    if fraction is not None:
        if not 0 < fraction < 1:
            raise ConfigError(f"fraction is {fraction}, expected a share between 0 and 1")
        count = round(len(pool) * fraction)
    assert count is not None
    if not 0 < count < len(pool):
        raise ConfigError(f"{count} of {len(pool)} images for mini-val; expected at least 1 and fewer than all")
    return count


def drawn_by_lot(image_ids: Iterable[int], count: int | None, seed: int) -> set[int]:
    """The ``count`` images of the lowest hash, None for all; adding or removing other images changes no hash."""
    return set(sorted(image_ids, key=lambda image: (_hash(image, seed), image))[:count])


def _hash(image_id: int, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{image_id}".encode()).digest()


def _images_with_keypoints(annotations: Sequence[Json]) -> set[int]:
    return {a["image_id"] for a in annotations if a["num_keypoints"] > 0 and not a["iscrowd"]}


def _only(data: Json, image_ids: Set[int]) -> Json:
    return {
        **data,
        "images": [i for i in data["images"] if i["id"] in image_ids],
        "annotations": [a for a in data["annotations"] if a["image_id"] in image_ids],
    }


def _same_images(
    originals: dict[int, ImageInfo], minival: CocoDataset, same_ids: bool, notes: list[str]
) -> set[int]:
    """Ids of the images that are in mini-val, compared as they were in their own files."""
    ids, images = list(originals), list(originals.values())
    twins = find_twins(images, minival.images)
    found = set(twins.same)
    if same_ids:
        found |= {at for at, twin in twins.only_id.items() if _size(twin) == _size(images[at])}
        notes.append(f"{len(found) - len(twins.same)} images taken for mini-val's by id and size, not by file name")
    kept = len(twins.only_id.keys() - found)
    if kept:
        notes.append(f"{kept} images share their id with one of mini-val, but not the file name: kept")
    notes.append(f"{len(found)} images taken out, of {len(minival.images)} images of the mini-val file")
    return {ids[at] for at in found}


def _made_of(judged: Sequence[ImageInfo], rows: Sequence[Json], notes: list[str]) -> set[int]:
    """Ids of the images that were made of pictures of mini-val, as pasted people are."""
    keys = {image_key(image.file_name) for image in judged}
    made = {row["id"] for row in rows if any(image_key(source) in keys for source in sources_of(row))}
    if made:
        notes.append(f"{len(made)} images taken out, being made of pictures of mini-val")
    return made


def _size(image: ImageInfo) -> tuple[int, int]:
    return image.width, image.height


def _listed_again(originals: dict[int, ImageInfo], drawn: Set[int], notes: list[str]) -> set[int]:
    """Ids of the images that were not drawn, but are another listing of a picture that was."""
    rest = [number for number in originals if number not in drawn]
    twins = find_twins([originals[number] for number in rest], [originals[number] for number in drawn])
    if twins.same:
        notes.append(f"{len(twins.same)} images taken out, being pictures of mini-val that are listed twice")
    return {rest[place] for place in twins.same}


def _merge(datasets: Sequence[CocoDataset]) -> tuple[Json, _Merger]:
    """All sets as one: a picture listed in two is kept once, colliding ids are made unique; notes say how many."""
    if not datasets:
        raise ConfigError("nothing to split; give at least one annotation file")
    merger = _Merger(datasets)
    for dataset in datasets:
        _same_skeleton(dataset, datasets[0])
        merger.add(dataset)
    return {
        "info": {"description": "StagePose split of " + ", ".join(_name(d) for d in datasets)},
        "licenses": [{**about, "id": number} for number, about in merger.licences.items() if about is not None],
        "images": list(merger.images.values()),
        "annotations": list(merger.annotations.values()),
        "categories": [category_json(datasets[0].skeleton)],
    }, merger


class _Merger:
    """What was merged so far, by id."""

    def __init__(self, datasets: Sequence[CocoDataset]) -> None:
        self.images: dict[int, Json] = {}
        self.originals: dict[int, ImageInfo] = {}  # by the id given here, with the id of its own file
        self.annotations: dict[int, Json] = {}
        self.licences: dict[int, Json | None] = {}  # what they say but for the id; None where their file does not
        self.seen: list[ImageInfo] = []  # of the files so far
        self.notes: list[str] = []
        self.fresh_images = count_up(1 + max((i.id for d in datasets for i in d.images), default=0))
        self.fresh_annotations = count_up(1 + max((int(d.ids.max(initial=0)) for d in datasets), default=0))
        self.fresh_licences = count_up(1 + max((number for d in datasets for number in _licences(d)), default=0))

    def add(self, dataset: CocoDataset) -> None:
        """Add a set; a note for each thing that did not go in as it was."""
        data = to_json(dataset)
        licences = self._add_licences(_licences(dataset))
        mark = {"generated": True}  # on each image: the file's info, where it may stand, is not the whole's
        rows = [{**_relicensed(row, licences), **(mark if row["id"] in dataset.generated else {})}
                for row in data["images"]]
        new_id = self._add_images(dataset.images, rows)
        renumbered = self._add_annotations([a for a in data["annotations"] if a["image_id"] in new_id], new_id)
        for number, what in (
            (len(dataset.images) - len(new_id), "images were in an earlier file already and left out"),
            (sum(old != new for old, new in new_id.items()), "images renumbered, their ids being taken"),
            (renumbered, "annotations renumbered, their ids being taken or 0"),
            (sum(old != new for old, new in licences.items()), "licences renumbered, their ids being taken"),
            (dataset.strangers, "annotations of other categories left out"),
        ):
            if number:
                self.notes.append(f"{_name(dataset)}: {number} {what}")

    def _add_images(self, images: Sequence[ImageInfo], rows: Sequence[Json]) -> dict[int, int]:
        """The new id of each image that went in."""
        known = find_twins(images, self.seen).same
        self.seen += images
        new_id = {}
        for place, (image, row) in enumerate(zip(images, rows, strict=True)):
            if place in known:
                continue
            number = image.id if image.id not in self.images else next(self.fresh_images)
            new_id[image.id] = number
            self.images[number] = {**row, "id": number}
            self.originals[number] = image
        return new_id

    def _add_licences(self, licences: dict[int, Json | None]) -> dict[int, int]:
        """The new id of each licence of a set; two sets' that say the same are one."""
        new_id = {}
        for number, about in licences.items():
            if number not in self.licences or self.licences[number] == about:
                new_id[number] = number
            else:
                same = [known for known, other in self.licences.items() if about is not None and other == about]
                new_id[number] = same[0] if same else next(self.fresh_licences)
            self.licences[new_id[number]] = about
        return new_id

    def _add_annotations(self, annotations: Sequence[Json], new_id: dict[int, int]) -> int:
        """How many had to be renumbered."""
        renumbered = 0
        for annotation in annotations:
            number = annotation["id"]
            if number <= 0 or number in self.annotations:
                number, renumbered = next(self.fresh_annotations), renumbered + 1
            self.annotations[number] = {**annotation, "id": number, "image_id": new_id[annotation["image_id"]]}
        return renumbered


def _licences(dataset: CocoDataset) -> dict[int, Json | None]:
    """What a set's licences say but for their id, by it; None for an id that its images name and its list does not."""
    named = [part.get("license") for row in dataset.raw_images.values() for part in (row, *_sources(row))
             if isinstance(part, dict)]
    listed = {one["id"]: {key: value for key, value in one.items() if key != "id"}
              for one in dataset.licences if isinstance(one, dict) and type(one.get("id")) is int}
    return {**listed, **{number: None for number in named if type(number) is int and number not in listed}}


def _relicensed(row: Json, new_id: dict[int, int]) -> Json:
    """An image, and the pictures that it was made of, with their licences' new ids."""
    def told(part: Json) -> Json:
        number = part.get("license")
        return {**part, "license": new_id[number]} if type(number) is int else part

    sources = [told(part) if isinstance(part, dict) else part for part in _sources(row)]
    return {**told(row), "sources": sources} if sources else told(row)


def _sources(row: Json) -> list[Any]:
    return row["sources"] if isinstance(row.get("sources"), list) else []


def _describe(train: Json, mini: Json, notes: list[str]) -> None:
    """Counts of both halves and what was done, into ``info`` of both."""
    counts = {}
    for name, data in (("train-val", train), ("mini-val", mini)):
        with_keypoints = [a for a in data["annotations"] if a["num_keypoints"] > 0 and not a["iscrowd"]]
        counts[name] = {
            "images": len(data["images"]),
            "images_with_keypoints": len({a["image_id"] for a in with_keypoints}),
            "people": len(with_keypoints),
            "keypoints": sum(a["num_keypoints"] for a in with_keypoints),
        }
    for name, data in (("train-val", train), ("mini-val", mini)):
        info = data.get("info")
        about = {"part": name, "counts": counts, "notes": notes}
        data["info"] = {**(info if isinstance(info, dict) else {}), "split": about}


def _name(dataset: CocoDataset) -> str:
    return dataset.path.name if dataset.path else "a set"


def _same_skeleton(dataset: CocoDataset, first: CocoDataset) -> None:
    if dataset.skeleton.names != first.skeleton.names:
        raise DatasetError(
            f"{_name(dataset)} has skeleton {dataset.skeleton.name!r}, {_name(first)} has {first.skeleton.name!r}: "
            "sets of two skeletons cannot be merged; read both with the same skeleton="
        )
