"""``stagepose openpose``: what predict has found, in OpenPose's files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from tyro.conf import Positional, arg

from stagepose.coco.jsonfile import load_json
from stagepose.coco.openpose import document, rearranged
from stagepose.coco.problems import show
from stagepose.coco.results import IMAGES, PEOPLE
from stagepose.commands.arguments import Folder
from stagepose.commands.console import counted, note, say, wrong_usage
from stagepose.commands.overlays import LONGEST_STEM
from stagepose.draw import JOINT_THRESHOLD
from stagepose.errors import DatasetError
from stagepose.files import cut, require_place, write_text
from stagepose.lines import printable

Found = Positional[Annotated[Path, arg(metavar="FOUND")]]
Record = Mapping[str, Any]
OURS = "what 'stagepose predict' writes"
SUFFIX, FRAME = "_keypoints.json", "{}_{:012d}"  # as OpenPose calls them


def openpose(
    found: Found,
    *,
    out: Folder = Path("openpose"),
    layout: Literal["body25", "coco18"] = "body25",
    joint_threshold: float = JOINT_THRESHOLD,
) -> None:
    """Write the results of stagepose predict in OpenPose's format, for tools that read its files.

    One file per photo, NAME_keypoints.json, and per frame of a video, NAME_000000000000_keypoints.json, even if nobody
    was found. Neck and mid-hip are placed between the shoulders and the hips; feet, hands and faces are empty. A
    person_id is the track_id in a video, -1 in a photo.

    Args:
        found: The folder that predict wrote to.
        out: Folder for the files.
        layout: OpenPose's 25 keypoints, or its 18 COCO ones.
        joint_threshold: Joints that score lower are written as 0, 0, 0, which is OpenPose's "not found".
    """
    if not 0 <= joint_threshold <= 1:
        wrong_usage(f"--joint-threshold is {joint_threshold}; it is a score, between 0 and 1")
    about = load_json(found / IMAGES, what=OURS)
    require_place(out / f"x{SUFFIX}")
    try:
        names = about["keypoints"]
        if not about["complete"]:
            note(f"{printable(found)}: that run was stopped; what it had found is written")
        for name, people in _pictures(found, about):
            made = [(rearranged(np.reshape(person["keypoints"], (-1, 3)), names, layout, least=joint_threshold),
                     person.get("track_id")) for person in people]
            write_text(out / f"{name}{SUFFIX}", json.dumps(document(made)) + "\n")
        photos, frames = len(about.get("images", [])), sum(
            video["frames"] for video in about.get("videos", []) if "results" in video)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DatasetError(f"{printable(found)}: not {OURS} ({type(error).__name__}: {error})") from error
    told = [counted(count, one, many) for count, one, many in ((photos, "photo", "photos"), (frames, "frame", "frames"))
            if count]
    say(f"{printable(out)}: {' and '.join(told) or 'nothing'} in OpenPose's {layout}")


def _pictures(found: Path, about: Record) -> Iterator[tuple[str, list[Record]]]:
    """Every photo and every frame: the start of its file's name, and its people."""
    taken = _Names()
    photos = about.get("images", [])
    of_photo = _people_by("image_id", found / PEOPLE, {photo["id"] for photo in photos}) if photos else {}
    for photo in photos:
        yield taken.free(Path(photo["file_name"]).stem), of_photo.get(photo["id"], [])
    for video in about.get("videos", []):
        if "results" not in video:
            note(f"{printable(video['file_name'])}: its results were never finished; left out")
            continue
        name = taken.free(Path(video["file_name"]).stem, video["frames"])
        of_frame = _people_by("frame", found / video["results"], range(video["frames"]))
        for frame in range(video["frames"]):
            yield FRAME.format(name, frame), of_frame.get(frame, [])


def _people_by(key: str, file: Path, known: Container[Any]) -> dict[Any, list[Record]]:
    """A file's people by photo or frame, in their order; :class:`DatasetError` for those of none that is ``known``."""
    people: dict[Any, list[Record]] = {}
    for person in load_json(file, what=OURS):
        people.setdefault(person[key], []).append(person)
    if lost := [value for value in people if value not in known]:
        whose = counted(sum(len(people[value]) for value in lost), "person", "people")
        which = f"{key} {show(lost[0])}{' and others' if lost[1:] else ''}"
        raise DatasetError(f"{printable(file)}: {whose} of {which}, which {IMAGES} does not have; name a folder "
                           "that predict wrote as a whole")
    return people


class _Names:
    """What the files are called: a photo's or video's own name, numbered on where another of that name came before."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def free(self, stem: str, frames: int = 0) -> str:
        """Of a video also the names of all its ``frames`` are free, and from now on taken."""
        stem = cut(stem, LONGEST_STEM)
        for number in itertools.count(self._numbers.get(stem.casefold(), 1)):
            name = stem if number == 1 else f"{stem}-{number}"
            like = name.casefold()  # some file systems do not tell A from a
            names = {like, *(FRAME.format(like, frame) for frame in range(frames))}
            if not names & self._taken:
                break
        self._taken |= names
        self._numbers[stem.casefold()] = number
        return name
