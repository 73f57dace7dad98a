"""The photos of ``stagepose predict`` and ``show``, and what their overlays are called."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stagepose.commands.clips import OVERLAY, Draw
from stagepose.draw import JOINT_THRESHOLD, Labels, draw_people
from stagepose.errors import ImageError
from stagepose.files import cut
from stagepose.images import LONGEST_SIDE, Picture, read_image, write_image
from stagepose.structures import Person

POSE, LABELS = ".pose", ".labels"  # what follows the photo's name
OVERLAY_SUFFIXES = f"{POSE}.jpg", f"{POSE}.png", OVERLAY
LONGEST_STEM = 180  # bytes of an overlay's name; file systems take 255 in all


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """How people are drawn.

    Attributes:
        json_only: Write no overlays.
        colours: Colours of the drawn people: left blue and right orange, or a different colour for each person, which
            suits crowds.
        labels: Text beside each person: number (as in the printed lines, if a photo has several people; in a video, the
            track_id), number and score, or none.
        joint_threshold: Minimum score of the joints that are drawn, and counted in the printed lines; the files have
            all.
    """

    json_only: bool = False
    colours: Literal["side", "person"] = "side"
    labels: Labels = "number"
    joint_threshold: float = JOINT_THRESHOLD

    @property
    def draw(self) -> Draw:
        """People onto a picture."""
        return partial(draw_people, threshold=self.joint_threshold, colours=self.colours, labels=self.labels)


@dataclass(frozen=True)
class Photo:
    """One photo to look at: its file (None: standard input), what it is called, and its number in the results."""

    path: Path | None
    name: str
    image_id: int

    @property
    def key(self) -> str | None:
        """What the journal calls it; None for standard input, which no other process can look at again."""
        return None if self.path is None else self.name

    def read(self, max_pixels: int) -> Picture:
        if self.path is None:
            if sys.stdin is None:
                raise ImageError("<stdin>: standard input is closed; name a file, or send the photo through a pipe")
            return read_image(sys.stdin.buffer, max_pixels=max_pixels, name="<stdin>")
        return read_image(self.path, max_pixels=max_pixels)


class Overlays:
    """The pictures written: none of a name twice in a run, and never of that of a photo read in it."""

    def __init__(self, folder: Path, photos: Sequence[Path], draw: Draw = draw_people, ending: str = POSE) -> None:
        self.folder, self.draw, self.ending = folder, draw, ending
        self.photos = {os.path.realpath(photo) for photo in photos}
        self.used: set[str] = set()
        self._numbers: dict[tuple[str, ...], int] = {}  # of the names last given, so that thousands of one are no wait

    def reserve(self, photo: Photo, pixels: NDArray[np.uint8]) -> str:
        """The name of the overlay of a photo, within the folder; no other gets it."""
        height, width = pixels.shape[:2]
        name = self.name_of(photo, width, height)
        self.take(name)
        return name

    def write(self, name: str, pixels: NDArray[np.uint8], people: Sequence[Person]) -> None:
        """Write a photo with its people. Any thread may, one name each."""
        write_image(self.folder / name, self.draw(pixels, people))

    def save(self, photo: Photo, drawn: NDArray[np.uint8]) -> str:
        """Write a photo that is drawn on already, under a name of its own, which is returned."""
        name = self.reserve(photo, drawn)
        write_image(self.folder / name, drawn)
        return name

    def name_of(self, photo: Photo, width: int, height: int) -> str:
        """What a photo's overlay is called, unless its name is taken meanwhile."""
        path = photo.path or Path("stdin")
        is_too_long = max(width, height) > LONGEST_SIDE["JPEG"]
        suffix = self.ending + (".png" if is_too_long or path.suffix.lower() == ".png" else ".jpg")
        return self.free_stem(path, suffix) + suffix

    def take(self, *names: str) -> None:
        self.used.update(name.casefold() for name in names)  # some file systems do not tell A from a

    def free_stem(self, path: Path, *suffixes: str) -> str:
        """What the names of a photo's or video's files begin with: that of ``path``, numbered if it is taken."""
        stem = cut(path.stem, LONGEST_STEM)
        key = (stem.casefold(), *suffixes)
        for count in itertools.chain([1], itertools.count(self._numbers.get(key, 2))):
            found = stem + (f"-{count}" if count > 1 else "")
            names = [found + suffix for suffix in suffixes]
            if all(name.casefold() not in self.used and os.path.realpath(self.folder / name) not in self.photos
                   for name in names):
                break
        self._numbers[key] = max(count, 2)
        return found


def is_overlay(path: Path, out: Path) -> bool:
    """Whether an earlier run wrote it: a folder of photos may hold the results too."""
    return path.name.endswith(OVERLAY_SUFFIXES) and path.parent.resolve() == out.resolve()
