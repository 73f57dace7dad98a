"""The photos of ``stagepose predict``: read ahead, looked at one by one, their overlays written behind.

Reading a large photo and writing its overlay take longer than finding its people, and one core each; so threads do both
while the networks look at the photo between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from stagepose.ahead import in_order
from stagepose.coco import person_result
from stagepose.commands.boxes import BoxFile
from stagepose.commands.console import counter, note, say
from stagepose.commands.outcome import Outcome
from stagepose.commands.overlays import Overlays, Photo
from stagepose.commands.unfinished import stamp_of
from stagepose.errors import ConfigError, DatasetError, ImageError
from stagepose.images import Picture
from stagepose.predictor import Predictor
from stagepose.structures import Person

HELD = 2  # photos read and not looked at yet, and photos looked at whose overlay is not written: they fill memory


@dataclass(frozen=True)
class Read:
    """A photo as it was read, or why it could not be; None where its turn must come first."""

    photo: Photo
    picture: Picture | ImageError | None = None
    stamp: list[int] | None = None  # of its file, before it was read


@dataclass
class PhotoRun:
    """Looks at photos in their order, and tells of them in that order too."""

    predictor: Predictor
    given: BoxFile | None
    overlays: Overlays | None
    outcome: Outcome
    joint_threshold: float  # of the joints that are counted in the printed lines
    _untold: deque[tuple[Callable[[], None], Future[None] | None]] = field(default_factory=deque)  # and their overlays

    def look_at_all(self, photos: Sequence[Photo]) -> None:
        """A printed line for every person. What was looked at when somebody stops it is told as well."""
        with counter("predict") as step, ThreadPoolExecutor(HELD) as pool:
            try:
                for done, read in enumerate(in_order(pool, self._read_ahead, photos, HELD), 1):
                    if not self._is_done(read.photo):
                        self._look(read, pool)
                    self._tell_those_written()
                    step(done, len(photos))
            finally:
                while self._untold:
                    self._tell_next()

    def _read_ahead(self, photo: Photo) -> Read:
        """But for what an earlier process may have done, and standard input, which may keep a thread for ever."""
        later = photo.path is None or photo.key in self.outcome.journal.earlier
        return Read(photo) if later else self._read(photo)

    def _read(self, photo: Photo) -> Read:
        stamp = None if photo.path is None else stamp_of(photo.path)
        try:
            return Read(photo, photo.read(self.predictor.config.max_pixels), stamp)
        except ImageError as error:
            return Read(photo, error, stamp)

    def _is_done(self, photo: Photo) -> bool:
        """Whether an earlier process looked at it as it is, and its overlay is there, called as it is now."""
        if photo.key is None or photo.path is None:
            return False
        record = self.outcome.journal.candidate(photo.key, photo.path)
        if record is None:
            return False
        if self.overlays:
            image = record["image"]
            name = self.overlays.name_of(photo, image["width"], image["height"])
            if name != image["overlay"] or not (self.overlays.folder / name).exists():
                return False
            self.overlays.take(name)
        self.outcome.journal.keep(photo.key)
        self.outcome.count(record)
        return True

    def _look(self, read: Read, pool: ThreadPoolExecutor) -> None:
        """Find its people, and have its overlay written."""
        read = read if read.picture else self._read(read.photo)
        try:
            if isinstance(read.picture, ImageError):
                raise read.picture
            assert read.picture is not None
            people = self._people(read.photo.name, read.picture)
        except (ImageError, DatasetError, ConfigError) as error:  # ConfigError: boxes that cannot be the photo's
            self._untold.append((partial(self.outcome.fail, read.photo.name, error), None))
            return
        name, writing = None, None
        if self.overlays:
            name = self.overlays.reserve(read.photo, read.picture.pixels)
            writing = pool.submit(self.overlays.write, name, read.picture.pixels, people)
        self._untold.append((partial(self._tell, read.photo, read.picture, read.stamp, people, name), writing))

    def _people(self, name: str, picture: Picture) -> list[Person]:
        most, least = self.predictor.config.max_people, self.predictor.threshold
        boxes = self.given.of(name).best(most, least) if self.given else None
        return self.predictor.people(picture, boxes)

    def _tell_those_written(self) -> None:
        """In their order; waits for the first where too many are in memory."""
        while self._untold and (len(self._untold) >= HELD or (first := self._untold[0][1]) is None or first.done()):
            self._tell_next()

    def _tell_next(self) -> None:
        tell, writing = self._untold.popleft()
        if writing:
            writing.result()
        tell()

    def _tell(self, photo: Photo, picture: Picture, stamp: list[int] | None, people: Sequence[Person],
              overlay: str | None) -> None:
        """To the journal and on standard output: a photo is done, with its overlay."""
        for notice in picture.notices:
            note(f"{picture.name}: {notice}")
        height, width = picture.pixels.shape[:2]
        image: dict[str, Any] = {"file_name": photo.name, "width": width, "height": height, "people": len(people)}
        if overlay:
            image["overlay"] = overlay
        record = {"image": image, "people": [{**person_result(person), "file_name": photo.name} for person in people]}
        self.outcome.journal.add(photo.key, stamp, record)
        self.outcome.count(record)
        self._print(picture.name, people)

    def _print(self, name: str, people: Sequence[Person]) -> None:
        for number, person in enumerate(people, 1):
            box = " ".join(f"{edge:.0f}" for edge in person.box)
            joints = f"{int((person.scores >= self.joint_threshold).sum())} of {len(person.scores)} joints"
            say(f"{name}: person {number}: score {person.score:.3f}, box {box}, {joints}")
        if not people:
            say(f"{name}: nobody found")
