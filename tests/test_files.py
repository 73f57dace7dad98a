"""Files are written whole or not at all, whatever their name."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from stagepose import files
from stagepose.errors import StagePoseError


@pytest.mark.parametrize("name", ["a.json", "写真" * 41 + ".png", "é" * 123 + ".png", "y" * 250, "new\nline"])
def test_i7_every_name_the_disk_takes_can_be_written(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) <= 255
    for text in ("first", "second"):
        files.write_text(tmp_path / name, text)
        assert (tmp_path / name).read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_i7_a_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9" * 50)
    files.write_bytes(path, b"data")
    assert path.read_bytes() == b"data" and len(list(tmp_path.iterdir())) == 1


def test_i7_names_are_cut_between_characters_whatever_the_systems_encoding(tmp_path: Path) -> None:
    assert [files.cut("aé写🏃", most) for most in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 99)] == [
        "", "a", "a", "aé", "aé", "aé", "aé写", "aé写", "aé写", "aé写🏃", "aé写🏃"]
    assert files.cut("y" * 9, 4) == "yyyy"
    code = "import sys; from stagepose.files import write_text\nfor name in sys.argv[1:]: write_text(name, 'x')"
    names = ["ü ñ.jpg", "写真" * 41 + ".png"]
    subprocess.run([sys.executable, "-c", code, *names], cwd=tmp_path, check=True,
                   env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_a_name_too_long_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StagePoseError, match="cannot write: File name too long"):
        files.write_text(tmp_path / ("y" * 300), "text")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "people.json"
    files.write_json(path, [1])
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StagePoseError, match="disk full, 1 KB needed"):
        files.write_json(path, [2])
    with pytest.raises(StagePoseError, match=r"disk full, 2\.0 MB needed"):
        files.write_bytes(path, bytes(2_000_000))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("number", "says"), [
    (errno.ENOSPC, "free some space"), (errno.EDQUOT, "free some space"), (errno.EFBIG, r"raise the limit.*ulimit -f"),
    (errno.EROFS, "a folder you may write to"), (errno.EISDIR, "another name or folder")])
def test_every_refusal_has_its_own_remedy(number: int, says: str) -> None:
    with pytest.raises(StagePoseError, match=f"^clip.mp4: cannot be written: {os.strerror(number)}; .*{says}"), \
            files.writing("clip.mp4", ValueError):
        raise OSError(number, os.strerror(number))


def test_what_an_encoder_refuses_is_no_matter_of_the_disk() -> None:
    with pytest.raises(StagePoseError, match=r"^clip.mp4: cannot be written: no such colour$"), \
            files.writing("clip.mp4", ValueError):
        raise ValueError("no such colour")


def test_a_file_too_large_is_no_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StagePoseError, match=r"x: cannot write: File too large; raise the limit"):
            files.write_bytes(tmp_path / "x", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StagePoseError, match=r"x\.json: cannot write"):
        files.write_json(tmp_path / "file" / "x.json", 1)


def test_a_file_where_the_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for name in ("out/x.json", "out/deeper/x.json"):
        with pytest.raises(StagePoseError, match=r"x\.json: cannot write: \S*out is a file, not a folder"):
            files.write_bytes(tmp_path / name, b"1")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_place_is_required_before_the_work(tmp_path: Path) -> None:
    files.require_place(tmp_path / "new" / "x.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("mine")
    files.require_place(tmp_path / "file")  # would be replaced
    for wrong, says in ((tmp_path / "file" / "x.json", r"file is a file"), (tmp_path / "new", "a folder of that name")):
        with pytest.raises(StagePoseError, match=says):
            files.require_place(wrong)
    assert (tmp_path / "file").read_text() == "mine"


def test_ctrl_c_amid_a_write_leaves_nothing_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_bytes(tmp_path / "labels.json", b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_device_or_a_pipe_is_written_into_and_stays_what_it_is(tmp_path: Path) -> None:
    nowhere, pipe = tmp_path / "nowhere", tmp_path / "pipe"
    nowhere.symlink_to(os.devnull)
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (nowhere, pipe):
        files.require_place(path)
        files.write_text(path, "text")
    assert os.read(reading, 10) == b"text"
    os.close(reading)
    assert nowhere.is_symlink() and nowhere.is_char_device() and pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [nowhere, pipe]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system has no /proc")
def test_an_open_file_is_not_replaced_by_its_number(tmp_path: Path) -> None:
    link = tmp_path / "stdout"
    with (tmp_path / "log").open("w") as file:
        link.symlink_to(f"/proc/self/fd/{file.fileno()}")
        for path in (link, link.readlink()):
            for act in (files.require_place, lambda path: files.write_text(path, "text")):
                with pytest.raises(StagePoseError, match="is an open file; name the file itself"):
                    act(path)
    assert link.is_symlink() and (tmp_path / "log").read_text() == ""
