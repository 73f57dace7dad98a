"""What a run of ``stagepose predict`` found, and the files that tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stagepose.coco import write_results
from stagepose.coco.results import IMAGES, PEOPLE
from stagepose.commands.console import counted, note
from stagepose.commands.spreadsheet import TableOptions, remove_csv, write_csv
from stagepose.commands.unfinished import ResumeFile
from stagepose.errors import StagePoseError
from stagepose.files import write_json_object
from stagepose.lines import printable

TABLE = "people.csv"


@dataclass
class Outcome:
    """What a run has found so far; ``complete`` once it has been through all photos. The people are in the journal."""

    journal: ResumeFile
    numbered: Sequence[tuple[str | None, int]]  # the photos as the journal calls them, and their ids
    keypoints: Sequence[str]  # names, in the order of the people's
    table: TableOptions
    failed: list[dict[str, str]]
    photos: int = 0
    nobody: int = 0  # photos without people
    people: int = 0
    videos: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False

    def count(self, record: dict[str, Any]) -> None:
        """A photo is done, and its record in the journal."""
        found = len(record["people"])
        self.photos, self.people, self.nobody = self.photos + 1, self.people + found, self.nobody + (found == 0)

    def fail(self, name: str, error: StagePoseError) -> None:
        """Report a photo or video that cannot be used, and go on."""
        fail(self.failed, name, error)

    def write(self, out: Path) -> None:
        """The results of all that is done, in the order of the photos, whichever process did it."""
        write_results(out / PEOPLE, self._people())
        if self.table.csv and self.numbered:  # a table of no photos at all would say that nobody was found
            write_csv(out / TABLE, self._people(), self.keypoints, self.table.csv_threshold)
        elif remove_csv(out / TABLE):
            why = "this run has no photos" if self.table.csv else "--csv writes one of this run"
            note(f"{printable(out / TABLE)}, of an earlier run, removed; {why}")
        videos = {"videos": self.videos} if self.videos else {}
        write_json_object(out / IMAGES, {"complete": self.complete, "keypoints": list(self.keypoints),
                                                "images": self._images(), **videos, "failed": self.failed})

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for name, image_id in self.numbered:
            if (record := self.journal[name]) is not None:
                yield image_id, record

    def _people(self) -> Iterator[dict[str, Any]]:
        for image_id, record in self._records():
            yield from ({"image_id": image_id, **person} for person in record["people"])

    def _images(self) -> Iterator[dict[str, Any]]:
        for image_id, record in self._records():
            yield {"id": image_id, **record["image"]}


def fail(failed: list[dict[str, str]], name: str, error: StagePoseError) -> None:
    """One more that cannot be used, and a line that says so."""
    failed.append({"file_name": name, "error": str(error)})
    note(f"skipped: {error}")


def finish(out: Path, outcome: Outcome, strict: bool, clips: int) -> int:
    """Write the results, tell the counts, choose the exit code; ``clips`` videos were given."""
    try:
        outcome.write(out)
        outcome.journal.finish()
    finally:  # where they cannot be written, it stays
        outcome.journal.close()
    counts = []
    if outcome.photos or not clips:
        counts.append(f"{photos(outcome.photos)}, {counted(outcome.people, 'person', 'people')}"
                      + (f", {photos(outcome.nobody)} without people" if outcome.nobody else ""))
    if clips:
        frames, people = (sum(video[what] for video in outcome.videos) for what in ("frames", "people"))
        counts.append(f"{counted(len(outcome.videos), 'video', 'videos')}, {counted(frames, 'frame', 'frames')}, "
                      f"{counted(people, 'person', 'people')}")
    note(f"{'; '.join(counts)}; written to {printable(out)}")
    if outcome.failed:
        note(f"{counted(len(outcome.failed), 'file', 'files') if clips else photos(len(outcome.failed))} "
             "could not be used, see above")
    return 1 if outcome.failed and (strict or not (outcome.photos or outcome.videos)) else 0


def rescue(out: Path, outcome: Outcome, stills: int, clips: int) -> None:
    """Write what a run that is ending early has found; that this fails too must not hide why it ends."""
    try:
        outcome.write(out)
    except StagePoseError as error:
        note(f"stopped early, and what was found cannot be written: {error}")
        return
    finally:
        outcome.journal.close()
    done = f"{outcome.photos:,} of {photos(stills)}" if stills or not clips else ""
    done += f"{', ' if done else ''}{len(outcome.videos):,} of {counted(clips, 'video', 'videos')}" if clips else ""
    note(f"stopped after {done}; what was found in them is written to {printable(out)}, marked \"complete\": "
         "false; --resume continues from there")


def photos(number: int) -> str:
    """``1 photo``, ``2 photos``."""
    return counted(number, "photo", "photos")
