"""YOLO pose: a text file a picture beside it in labels/, and a data.yaml that says how many keypoints there are.

A line a person: class, box centre and size, then x, y or x, y, visibility of every keypoint, all as fractions of the
upright picture. Keypoints have no names there but for ``kpt_names``, which newer files have; ``flip_idx`` says which
trade places in a mirror. Source: docs.ultralytics.com/datasets/pose.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from stagepose.coco.category import plain_name
from stagepose.coco.dataset import CocoDataset
from stagepose.coco.jsonfile import read_text
from stagepose.coco.problems import show
from stagepose.errors import DatasetError, ImageError, SkeletonError
from stagepose.files import write_text
from stagepose.formats.collect import Box, Collector, Labels, Point, choose_category, left_out, number
from stagepose.formats.layout import Target, all_or_none
from stagepose.formats.plainyaml import read_plain_yaml
from stagepose.imagefiles import IMAGE_SUFFIXES, find_images
from stagepose.lines import printable
from stagepose.skeleton import HIDDEN, SKELETONS, UNLABELLED, VISIBLE, Skeleton, by_names

WHAT = "the data.yaml of a YOLO pose set"
SPLITS = ("train", "val", "test")
KEYS = ("path", *SPLITS, "kpt_shape", "flip_idx", "names", "kpt_names")
SLACK = 0.01  # by which a fraction may leave 0 to 1: rounding, and a box drawn to the edge
FIGURES = 8  # decimals of a fraction that we write: a hundred-thousandth of a pixel


@dataclass(frozen=True)
class _Config:
    """What a data.yaml says."""

    path: Path
    folders: dict[str, list[str]]  # split -> folders or lists of pictures
    root: str
    keypoints: int
    numbers: int  # of a keypoint: 2 or 3
    flips: tuple[int, ...] | None
    classes: dict[int, str]
    person: int  # the class of the people
    names: tuple[str, ...] | None  # of the keypoints, plain


# --- reading


@dataclass(frozen=True)
class YoloSet:
    """What a data.yaml says, and the pictures of its splits, looked up once for all of them."""

    config: _Config
    pictures: dict[str, list[Path]]  # of the splits that have some: many an export names a test it lacks
    missing: dict[str, str]  # why the others have none

    @property
    def splits(self) -> list[str]:
        """Those that are there, and train, without which a set is of no use; all where there are none of these."""
        folders = self.config.folders
        return [split for split in folders if split in self.pictures or split == SPLITS[0]] or list(folders)

    @property
    def notes(self) -> list[str]:
        """A line for each split that is named and not among these."""
        return [f"{split} left out: {why}" for split, why in self.missing.items() if split not in self.splits]


def open_set(path: Path, category: str | None = None) -> YoloSet:
    """A data.yaml and its folders; ``category`` is the class of the people."""
    config = _read_config(path, category)
    there: dict[str, list[Path]] = {}
    missing: dict[str, str] = {}
    for split in config.folders:
        try:
            there[split] = list(_pictures(config, split))
        except DatasetError as error:  # its folder is missing, or empty: who asks for it is told so
            missing[split] = str(error)
    return YoloSet(config, there, missing)


def read(opened: YoloSet, *, split: str, skeleton: Skeleton | None = None) -> Labels:
    """The people of one split. Names come from the file's ``kpt_names``, else from ``skeleton``, in its order."""
    config, path = opened.config, opened.config.path
    if split not in config.folders:
        raise DatasetError(f"{printable(path)}: has no {split}; its splits are {', '.join(config.folders) or 'none'}")
    own, note = _own_skeleton(config, skeleton)
    there = split in opened.pictures
    pictures = opened.pictures[split] if there else list(_pictures(config, split))  # which says what is not there
    to = Collector(None, skeleton)
    to.notes += [note] if note else []
    to.notes.append("visibility is as in the file" if config.numbers == 3 else
                    "visibility is not told (2 numbers a keypoint): 2 for all but those at 0, 0, which are unlabelled")
    unlabelled = 0
    for picture in pictures:
        label = label_of(picture)
        image = to.picture(picture.name, [picture], printable(picture), None)
        if not label.is_file():
            unlabelled += 1
        elif image is not None:
            _read_labels(label, image, config, own, to)
    if pictures and unlabelled == len(pictures):
        raise DatasetError(f"{printable(path)}: none of the {unlabelled} pictures of {split} has a label file; that "
                           f"of the first would be {printable(label_of(pictures[0]))}")
    if unlabelled:
        to.notes.append(f"pictures without a label file: {unlabelled}, taken as pictures without people")
    _lost_labels(pictures, to)
    before = takewhile(lambda name: name != split, opened.pictures)  # splits number their pictures on from one another
    return to.finish(own, _common([each for found in opened.pictures.values() for each in found]),
                     sum(len(opened.pictures[name]) for name in before))


def label_of(picture: Path) -> Path:
    """Where a picture's labels are: in labels/ in place of the last images/ of its path, else beside it."""
    parts = list(picture.parts)
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        parts[place] = "labels"
    return Path(*parts).with_suffix(".txt")


def _common(pictures: list[Path]) -> Path | None:
    """The deepest folder that all of them are below."""
    return Path(os.path.commonpath([each.parent.absolute() for each in pictures])) if pictures else None


def _read_config(path: Path, category: str | None) -> _Config:
    raw = read_plain_yaml(path, KEYS, WHAT)

    def wrong(key: str, wish: str) -> DatasetError:
        found = show(raw[key]) if key in raw else "missing"
        return DatasetError(f"{printable(path)}: {key} is {found}; expected {wish}")

    shape = raw.get("kpt_shape")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape) and shape[0] > 0
            and shape[1] in (2, 3)):
        raise wrong("kpt_shape", "the number of keypoints and 2 or 3, such as [17, 3]: is this a set of poses?")
    folders: dict[str, list[str]] = {}
    for split in SPLITS:
        value = raw.get(split)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(each, str) for each in listed):
            raise wrong(split, "a folder, a file of pictures' names, or a list of such")
        if listed and listed not in folders.values():  # val: what train has too is no second split
            folders[split] = listed
    flips = raw.get("flip_idx")
    if flips is not None and not _exchanges_pairs(flips, shape[0]):
        raise wrong("flip_idx", f"the numbers from 0 to {shape[0] - 1}, pairs exchanged")
    classes = raw.get("names")
    classes = dict(enumerate(classes)) if isinstance(classes, list) else classes
    if not isinstance(classes, dict) or not classes or not all(type(key) is int for key in classes):
        raise wrong("names", "the classes, such as [person]")
    classes = {key: str(name) for key, name in classes.items()}
    chosen = choose_category(classes.values(), category, path)
    person = next(key for key, name in classes.items() if plain_name(name) == chosen)
    if not isinstance(raw.get("path", ""), str):
        raise wrong("path", "a folder")
    return _Config(path, folders, raw.get("path") or "", shape[0], shape[1], tuple(flips) if flips else None, classes,
                   person, _keypoint_names(raw.get("kpt_names"), person, shape[0], wrong))


def _exchanges_pairs(flips: Any, count: int) -> bool:
    numbers = list(range(count))
    return (isinstance(flips, list) and all(type(k) is int for k in flips) and sorted(flips) == numbers
            and all(flips[flips[k]] == k for k in numbers))


def _keypoint_names(value: Any, person: int, count: int,
                    wrong: Callable[[str, str], DatasetError]) -> tuple[str, ...] | None:
    """Of ``kpt_names``: a list of names, or one a class, as a list or a map."""
    if value is None:
        return None
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        value = value.get(person)
    if not isinstance(value, list) or len(value) != count:
        raise wrong("kpt_names", f"{count} names for the class of the people")
    names = tuple(plain_name(str(name)) for name in value)
    if len(set(names)) < count:
        raise wrong("kpt_names", f"{count} different names")
    return names


def _own_skeleton(config: _Config, given: Skeleton | None) -> tuple[Skeleton, str]:
    """Names in the file's order, with its mirror pairs; and what to say of it."""
    path = printable(config.path)
    if config.names is None:
        if given is None:
            same = [s.name for s in SKELETONS.values() if config.flips and tuple(s.flip_index) == config.flips]
            hint = f"; its flip_idx is that of {same[0]}" if same else ""
            raise SkeletonError(f"{path}: names none of its {config.keypoints} keypoints{hint}; say which they are, in "
                                "its order, with --skeleton NAME|FILE (coco17, or a file of names), or add kpt_names")
        if len(given) != config.keypoints:
            raise SkeletonError(f"{path}: kpt_shape says {config.keypoints} keypoints, skeleton {given.name!r} has "
                                f"{len(given)}; give the one with this file's keypoints in their order")
    own = given if config.names is None else by_names(config.names)
    assert own is not None
    identity = tuple(range(config.keypoints))
    if config.flips is None or config.flips == tuple(own.flip_index):
        note = ""
    elif config.flips == identity:
        note = "flip_idx exchanges no keypoints, which is taken as not told; the pairs are those of the names"
    elif config.names is not None and not own.flip_pairs:
        pairs = tuple((own.names[a], own.names[b]) for a, b in enumerate(config.flips) if a < b)
        own = Skeleton(name=own.name, names=own.names, flip_pairs=pairs, limbs=own.limbs, sigmas=own.sigmas)
        note = ""
    else:
        at = next(k for k in identity if config.flips[k] != own.flip_index[k])
        raise SkeletonError(f"{path}: flip_idx mirrors keypoint {at} with {config.flips[at]}, but {own.names[at]} "
                            f"mirrors with {own.names[own.flip_index[at]]}, keypoint {own.flip_index[at]}: the names "
                            "are not in the file's order; give those that are, or mend flip_idx")
    source = "kpt_names" if config.names else f"skeleton {own.name}, in its order: the file has none"
    return own, f"keypoint names are those of {source}" + (f"; {note}" if note else "")


def _pictures(config: _Config, split: str) -> Iterator[Path]:
    """The pictures of a split, in the order of their folders."""
    for value in config.folders[split]:
        place = _place(config, value)
        if place.suffix.lower() == ".txt":
            for line in read_text(place, "a list of pictures").splitlines():
                if line.strip():
                    name = line.strip()
                    yield place.parent / name if name.startswith("./") else _place(config, name, need=False)
        else:
            try:
                yield from find_images([place])
            except ImageError as error:
                raise DatasetError(str(error)) from None


def _place(config: _Config, value: str, need: bool = True) -> Path:
    """A folder or file below ``path``; where that is not this machine's, beside the data.yaml, as exports often lie."""
    home = config.path.parent
    bare = Path(value)
    while bare.parts[:1] == ("..",):
        bare = Path(*bare.parts[1:])
    places = [home / config.root / value, home / value, home / bare]
    found = next((place for place in places if place.exists()), None)
    if found is None and need:
        raise DatasetError(f"{printable(config.path)}: {show(value)} is neither {printable(places[0])} nor "
                           f"{printable(places[1])}; set path: to the folder that holds it")
    return found or places[0]


def _lost_labels(pictures: list[Path], to: Collector) -> None:
    """Label files beside those of the pictures that belong to no picture; where pictures lie, texts may be anything."""
    known = {label_of(picture) for picture in pictures}
    for folder in sorted({label.parent for label in known} - {picture.parent for picture in pictures}):
        for label in sorted(folder.glob("*.txt")):
            if label not in known and not _other_picture(label):
                to.wrong("label-picture", printable(label), "there is no picture of that name")


def _other_picture(label: Path) -> bool:
    """Whether there is one that the split does not list."""
    parts = list(label.parts)
    place = len(parts) - 1 - parts[::-1].index("labels") if "labels" in parts else 0
    folder = Path(*parts[:place], "images", *parts[place + 1:-1])
    return any((folder / (label.stem + suffix)).is_file() for suffix in IMAGE_SUFFIXES)


def _read_labels(label: Path, image: int, config: _Config, own: Skeleton, to: Collector) -> None:
    """The lines of one file."""
    try:
        lines = label.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        to.wrong("label-file", printable(label), f"cannot be read: {error}")
        return
    for at, line in enumerate(lines, 1):
        words, where = line.split(), f"{printable(label)}: line {at}"
        if not words:
            continue
        count = 5 + config.keypoints * config.numbers
        if len(words) != count:
            to.wrong("label-file", where, f"has {len(words)} numbers, expected {count} (class, 4 of the box, "
                                          f"{config.keypoints} x {config.numbers})")
            continue
        try:
            values = [number(word) for word in words]
        except ValueError as error:
            to.wrong("label-value", where, str(error))
            continue
        if values[0] not in config.classes:
            to.wrong("label-unknown", where, f"class {words[0]} is none of names")
        elif values[0] != config.person:
            to.leave_out(f"objects of class {config.classes[int(values[0])]}")
        else:
            _read_person(values, words, image, config, own, where, to)


def _read_person(values: list[float], words: list[str], image: int, config: _Config, own: Skeleton, where: str,
                 to: Collector) -> None:
    width, height = to.size(image)
    points: dict[str, Point] = {}
    for k, name in enumerate(own.names):
        x, y, *told = values[5 + config.numbers * k:][:config.numbers]
        v = told[0] if told else VISIBLE * ((x, y) != (0, 0) and min(x, y) >= 0)
        if v not in (UNLABELLED, HIDDEN, VISIBLE):
            to.wrong("label-value", where, f"the visibility of {name} is {v:g}, expected 0, 1 or 2")
            return
        if v and not _is_fraction(x, y):
            to.wrong("label-value", where, f"{name} is at {x:g}, {y:g}; expected fractions of the picture, from 0 to 1")
            return
        points[name] = (x * width, y * height, int(v))
    x, y, w, h = values[1:5]
    if not _is_fraction(x, y, w, h):
        to.wrong("label-value", where, f"its box is {' '.join(words[1:5])}; expected fractions of the picture, from 0 "
                                       "to 1")
        return
    box: Box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    to.person(image, box, points, where)


def _is_fraction(*values: float) -> bool:
    return all(-SLACK <= value <= 1 + SLACK for value in values)


# --- writing


def write(dataset: CocoDataset, to: Target, *, split: str) -> list[str]:
    """A split of a set: labels/SPLIT, images/SPLIT as a link, SPLIT.txt that lists the pictures, and data.yaml.

    Where the folder has other splits already, data.yaml names them too; its keypoints must be these.
    """
    if split not in SPLITS:
        raise DatasetError(f"a YOLO set has no split {split!r}; use one of {', '.join(SPLITS)}")
    odd = next((image.file_name for image in dataset.images if image.file_name.splitlines() != [image.file_name]), None)
    if odd is not None:
        raise DatasetError(f"picture {show(odd)}: a YOLO set lists a name a line; rename it")
    config = to.out / "data.yaml"
    if config.exists() and _about(dataset.skeleton) not in read_text(config, WHAT):
        raise DatasetError(f"{printable(config)}: is there already, with other keypoints; choose another "
                           "folder")
    files = to.files(dataset.images, f"labels/{split}", ".txt")
    lines: dict[int, list[str]] = {image.id: [] for image in dataset.images}
    outside = clipped = 0
    for row in range(len(dataset)):
        image = dataset.image_of(row)
        text, left, cut = _line(dataset, row, image.width, image.height)
        lines[image.id].append(text)
        outside, clipped = outside + left, clipped + cut
    listed = to.out / f"{split}.txt"
    with all_or_none([*files.values(), *([] if listed.exists() else [listed])]):
        for image_id, file in files.items():
            write_text(file, "".join(f"{line}\n" for line in lines[image_id]))
        write_text(listed, "".join(f"./images/{split}/{image.file_name}\n" for image in dataset.images))
        notes = [to.link(to.out / "images" / split)]
        there = [name for name in SPLITS if (to.out / f"{name}.txt").is_file()]
        write_text(config, _yaml(dataset.skeleton, there))
    if "val" not in there or "train" not in there:
        notes.append(f"{config.name} names {there[0]}.txt for train and val: write the other with --split")
    notes += [f"boxes cut at their picture's edge: {clipped}"] if clipped else []
    return notes + left_out({"keypoints outside of their picture": outside})


def _line(dataset: CocoDataset, row: int, width: int, height: int) -> tuple[str, int, bool]:
    """A person's line, how many keypoints were outside of the picture, and whether the box went beyond it."""
    size = np.array([width, height], dtype=np.float64)
    points = dataset.keypoints[row].copy()
    out_K = (points[:, 2] > 0) & ((points[:, :2] < 0) | (points[:, :2] > size)).any(1)
    points[out_K] = 0
    points[:, :2] /= size
    box = dataset.boxes_xyxy[row].reshape(2, 2)
    inside = np.clip(box, 0, size)
    values = [*(inside.mean(0) / size), *((inside[1] - inside[0]) / size)]
    for x, y, v in points:
        values += [x, y, v]
    words = [f"{round(float(value), FIGURES) + 0.0:.{FIGURES}f}".rstrip("0").rstrip(".") for value in values]
    return " ".join(["0", *words]), int(out_K.sum()), bool((inside != box).any())


def _yaml(skeleton: Skeleton, there: list[str]) -> str:
    lists = {"train": there[0], "val": there[0]} | {name: name for name in there}
    return "".join(f"{key}: {name}.txt\n" for key, name in lists.items()) + _about(skeleton)


def _about(skeleton: Skeleton) -> str:
    names = json.dumps(list(skeleton.names), ensure_ascii=False)
    return (f"kpt_shape: [{len(skeleton)}, 3]\nflip_idx: {skeleton.flip_index.tolist()}\nnames:\n  0: person\n"
            f"kpt_names:\n  0: {names}\n")
