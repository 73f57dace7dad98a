"""``stagepose predict``'s photos: one is read and another's overlay written while the networks look."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from desks import predict, put_models, read, stop_at
from PIL import Image
from toy_models import ONE, TWO, dots

from stagepose.commands import outcome, photos
from stagepose.commands.overlays import Overlays, Photo
from stagepose.predictor import Predictor

PATIENCE = 30  # seconds; only where the code is wrong does anybody wait so long


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of three photos."""
    monkeypatch.chdir(tmp_path)
    put_models()
    Path("photos").mkdir()
    for name, people in (("a", ONE), ("b", TWO), ("c", [])):
        Image.fromarray(dots(people)).save(f"photos/{name}.png")


@pytest.fixture
def when(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[str], None]], None]:
    """``when("read" | "look" | "write", call)``: from now on ``call`` is told of every photo before that is done."""

    def tell(what: str, call: Callable[[str], None]) -> None:
        owner, name = {"read": (Photo, "read"), "look": (Predictor, "people"), "write": (Overlays, "write")}[what]
        function: Any = getattr(owner, name)

        def told(self: Any, first: Any, *rest: Any) -> Any:
            of = self.name if what == "read" else first.name if what == "look" else first
            call(Path(of).name[0])
            return function(self, first, *rest)

        monkeypatch.setattr(owner, name, told)

    return tell


def test_a_photo_is_read_while_the_one_before_is_looked_at(when: Any) -> None:
    is_read = Event()
    when("read", lambda name: is_read.set() if name == "b" else None)
    when("look", lambda name: _expect(is_read) if name == "a" else None)
    assert predict("photos") == 0


def test_an_overlay_is_written_while_the_next_photo_is_looked_at(when: Any) -> None:
    is_seen = Event()
    when("look", lambda name: is_seen.set() if name == "b" else None)
    when("write", lambda name: _expect(is_seen) if name == "a" else None)
    assert predict("photos") == 0
    assert sorted(path.name for path in Path("out").glob("*.pose.png")) == ["a.pose.png", "b.pose.png", "c.pose.png"]


def test_no_more_than_two_overlays_wait_in_memory(when: Any) -> None:
    """However slow the disk is."""
    for number in range(4):
        Image.fromarray(dots([])).save(f"photos/{'defg'[number]}.png")
    seen: list[str] = []
    written: list[str] = []
    waiting: list[int] = []
    when("look", lambda name: (seen.append(name), waiting.append(len(seen) - 1 - len(written))))
    when("write", lambda name: (time.sleep(0.05), written.append(name)))  # looking at the next takes less
    assert predict("photos") == 0
    assert max(waiting) < photos.HELD


def test_people_and_faults_are_told_in_the_order_of_the_photos(when: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("photos/b.png").write_bytes(b"no picture")
    told: list[str] = []
    is_told = Event()

    def tell(line: str) -> None:
        told.append(line.removeprefix("skipped: ")[:12])
        is_told.set()

    monkeypatch.setattr(photos, "say", tell)
    monkeypatch.setattr(outcome, "note", tell)
    when("write", lambda _: is_told.wait(0.3))  # long enough for the fault to be told first, if it were
    assert predict("photos") == 0
    assert told[:3] == ["photos/a.png", "photos/b.png", "photos/c.png"]


def test_what_was_looked_at_before_a_stop_is_told(when: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    is_stopped = Event()
    when("write", lambda _: _expect(is_stopped))
    stop_at("b.png", KeyboardInterrupt(), monkeypatch)
    when("look", lambda name: is_stopped.set() if name == "b" else None)
    assert predict("photos") == 130
    assert [image["file_name"] for image in read("out/images.json")["images"]] == ["photos/a.png"]
    assert len(read("out/people.json")) == 1 and Path("out/a.pose.png").exists()


def test_a_full_disk_ends_it_with_what_was_written(when: Any, capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    write = Overlays.write

    def full(self: Overlays, name: str, pixels: Any, people: Sequence[Any]) -> None:
        if name.startswith("b"):
            raise photos.DatasetError("disk full")
        write(self, name, pixels, people)

    monkeypatch.setattr(Overlays, "write", full)
    assert predict("photos") == 1
    assert "disk full" in capsys.readouterr().err
    found = read("out/images.json")
    assert not found["complete"] and [image["file_name"] for image in found["images"]] == ["photos/a.png"]


def _expect(event: Event) -> None:
    assert event.wait(PATIENCE), "it never came to that"
