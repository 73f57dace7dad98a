"""Decoding for detectors that is killed, torn, done twice at once, or meets a full disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import contents, many_pictures
from waiting import LONGEST

from faults.processes import file_system
from stagepose.errors import StagePoseError
from stagepose.images import read_image
from stagepose.training.detector import cache
from stagepose.training.detector.cache import open_or_decode
from stagepose.training.detector.dataset import BoxSet, read_boxes

SIDE = 200
DECODE = """
import sys
from pathlib import Path
from stagepose.training.detector.cache import open_or_decode
from stagepose.training.detector.dataset import read_boxes
path, folder = map(Path, sys.argv[1:])
boxes = read_boxes(path, path.parent / "images")
open_or_decode(boxes, folder, max_side=200, progress=lambda done, total: print(done, total, flush=True))
"""


def boxes_of(path: Path) -> BoxSet:
    return read_boxes(path, path.parent / "images")


def first(count: int, boxes: BoxSet) -> BoxSet:
    return replace(boxes, images=boxes.images[:count])


def decoding(path: Path, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", DECODE, str(path), str(folder)], stdout=subprocess.PIPE, text=True)


def cached(folder: Path) -> dict[str, bytes]:
    """The files of the one cache in it."""
    [home] = folder.iterdir()
    assert home.suffix != ".partial"
    return contents(home)


def killed_after(count: int, path: Path, folder: Path) -> Path:
    """The working folder of a decoding that SIGKILL has hit when so many pictures were in it."""
    process = decoding(path, folder)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line.split()[0]) >= count:
            break
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    [working] = folder.iterdir()
    assert working.suffix == ".partial"
    return working


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_pictures(tmp_path_factory.mktemp("set"), 250, (640, 480), (600, 480), (560, 480))


@pytest.fixture(scope="module")
def home(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that an undisturbed decoding leaves."""
    folder = tmp_path_factory.mktemp("whole")
    open_or_decode(boxes_of(path), folder, max_side=SIDE)
    [home] = folder.iterdir()
    return home


@pytest.fixture(scope="module")
def whole(home: Path) -> dict[str, bytes]:
    return contents(home)


def test_killed_decoding_goes_on_to_the_same_bytes(tmp_path: Path, path: Path, whole: dict[str, bytes],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    working = killed_after(100, path, tmp_path / "crops")
    kept = len((working / "pictures.jsonl").read_bytes().splitlines())
    assert 100 <= kept < 250
    decoded, told = [], []
    monkeypatch.setattr(cache, "read_image", lambda file: decoded.append(file) or read_image(file))
    _, found = open_or_decode(boxes_of(path), tmp_path / "crops", max_side=SIDE,
                           progress=lambda *numbers: told.append(numbers))
    assert len(decoded) == 250 - kept and told[-1] == (250, 250)
    assert cached(tmp_path / "crops") == whole
    assert set(whole) == {"pixels.bin", "pictures.jsonl", "lock"}
    assert found.image(249).shape == (150, 200, 3) and found.image(248).shape == (171, 200, 3)


@pytest.mark.parametrize("torn", ["line", "zeros", "pixels", "more pixels", "record lost"])
def test_what_was_torn_is_decoded_again(tmp_path: Path, path: Path, home: Path, whole: dict[str, bytes],
                                        torn: str) -> None:
    """As a kill, or a machine that lost its power, may leave both files."""
    working = tmp_path / "crops" / (home.name + ".partial")
    shutil.copytree(home, working)
    record, pixels = working / "pictures.jsonl", working / "pixels.bin"
    if torn == "line":
        os.truncate(record, record.stat().st_size // 2)
    elif torn == "zeros":
        record.write_bytes(record.read_bytes()[:-100] + bytes(100) + b"\n")
    elif torn == "pixels":
        os.truncate(pixels, pixels.stat().st_size // 2)
    elif torn == "more pixels":
        os.truncate(record, 2000)
        with pixels.open("ab") as file:
            file.write(bytes(1000))
    else:
        record.unlink()
    open_or_decode(boxes_of(path), tmp_path / "crops", max_side=SIDE)
    assert cached(tmp_path / "crops") == whole


def test_killed_just_before_the_last_rename(tmp_path: Path, path: Path, whole: dict[str, bytes],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        open_or_decode(boxes_of(path), tmp_path / "crops", max_side=SIDE)
    monkeypatch.setattr(cache, "read_image", killed)  # nothing is left to be decoded
    open_or_decode(boxes_of(path), tmp_path / "crops", max_side=SIDE)
    assert cached(tmp_path / "crops") == whole


def test_processes_that_start_together_decode_every_picture_once(tmp_path: Path, path: Path,
                                                                 whole: dict[str, bytes]) -> None:
    """As the ranks of one training do."""
    told = []
    for process in [decoding(path, tmp_path / "crops") for _ in range(3)]:
        lines, _ = process.communicate(timeout=LONGEST)
        assert process.returncode == 0
        told += lines.splitlines()
    assert told == ["100 250", "200 250", "250 250"]
    assert cached(tmp_path / "crops") == whole


def test_one_that_waits_for_a_killed_process_goes_on(tmp_path: Path, path: Path, whole: dict[str, bytes]) -> None:
    first = decoding(path, tmp_path / "crops")
    assert first.stdout is not None and first.stdout.readline() == "100 250\n"
    second = decoding(path, tmp_path / "crops")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    lines, _ = second.communicate(timeout=LONGEST)
    assert second.returncode == 0 and lines.splitlines()[-1] == "250 250" and "100 250" not in lines.splitlines()
    assert cached(tmp_path / "crops") == whole


def test_few_pictures_wait_for_a_slow_disk(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, written, waiting, dumps = [], [], [], json.dumps

    def noted(file: Path) -> object:
        begun.append(file)
        return read_image(file)

    def slow(value: object) -> str:
        if isinstance(value, cache._Row):  # just written
            time.sleep(0.03)
            written.append(value)
            waiting.append(len(begun) - len(written))
        return dumps(value)

    monkeypatch.setattr(cache, "read_image", noted)
    monkeypatch.setattr(cache, "available_cores", lambda: 2)
    monkeypatch.setattr(json, "dumps", slow)
    open_or_decode(first(40, boxes_of(path)), tmp_path / "crops", max_side=SIDE)
    assert len(written) == 40 and max(waiting) <= 2 * cache.AHEAD


def test_a_disk_that_will_be_full_is_told_before_anything_is_decoded(tmp_path: Path, path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    monkeypatch.setattr(cache, "read_image", lambda _: pytest.fail("a picture was decoded"))
    with pytest.raises(StagePoseError, match=r"disk full, 24\.0 MB needed for decoded pictures; 3 MB are free"):
        open_or_decode(boxes_of(path), tmp_path / "crops", max_side=SIDE)
    assert not list((tmp_path / "crops").iterdir())


def test_pictures_that_fill_a_disk_go_on_when_there_is_room(tmp_path: Path, path: Path, whole: dict[str, bytes],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk of 20 MB, which something else fills meanwhile."""
    with file_system(tmp_path / "disk", "size=20m") as disk:
        with monkeypatch.context() as patch:
            patch.setattr(cache, "_refuse_full_disk", lambda *_: None)
            with pytest.raises(StagePoseError, match=r"No space left on device; free some space.*--crops"):
                open_or_decode(boxes_of(path), disk, max_side=SIDE)
        [working] = disk.iterdir()
        assert working.suffix == ".partial" and len((working / "pictures.jsonl").read_bytes().splitlines()) == 200
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        open_or_decode(boxes_of(path), disk, max_side=SIDE)
        assert cached(disk) == whole


def test_unfinished_pictures_that_nobody_decodes_are_mentioned(tmp_path: Path, path: Path,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    """They would lie there for ever: pictures that have changed meanwhile have another cache."""
    working = killed_after(100, path, tmp_path / "crops")
    open_or_decode(first(10, boxes_of(path)), tmp_path / "crops", max_side=SIDE)
    [mentioned] = [record.getMessage() for record in caplog.records if "unfinished" in record.getMessage()]
    assert str(working) in mentioned and "10 MB; delete it" in mentioned
