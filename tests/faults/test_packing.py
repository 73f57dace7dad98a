"""Packing that is killed, meets a full disk, or leaves a store that somebody damages later."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import contents, many_pictures, tiny_coco, write_json
from waiting import until

from faults.processes import file_system
from stagepose.cli import main
from stagepose.errors import DatasetError
from stagepose.skeleton import COCO_17
from stagepose.training.crops import CropSpec, CropStore, PackConfig, open_or_pack, open_store, pack_file
from stagepose.training.shards import ShardWriter

SPEC = CropSpec(input_size=(96, 128))  # 12 people in a shard of 1 MB
LARGE = (800, 600)


def killed_after_its_first_shard(command: list[str], out: Path) -> Path:
    """The working folder of a packing that SIGKILL has hit."""
    process = subprocess.Popen([sys.executable, "-m", "stagepose.cli", *command], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    until(lambda: list(out.glob("*.partial/crops-*.json")), process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    [working] = out.iterdir()
    return working


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_killed_packing_goes_on_to_the_same_bytes(tmp_path: Path, form: str) -> None:
    size = ["96", "128"] if form == "raw" else ["192", "256"]  # 12 and 40 people in a planned megabyte
    path = many_pictures(tmp_path / "set", 150, LARGE)
    command = ["pack", str(path), "--input-size", *size, "--shard-mb", "1", "--jobs", "1", "--form", form, "--out"]
    working = killed_after_its_first_shard([*command, str(tmp_path / "killed")], tmp_path / "killed")
    assert working.suffix == ".partial" and not (working / "store.json").exists()
    finished = {file.name: file.stat().st_mtime_ns for file in working.glob("crops-00000*") if file.suffix != ".json"}
    assert len(finished) == 1
    assert main([*command, str(tmp_path / "killed")]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    [resumed], [whole] = (tmp_path / "killed").iterdir(), (tmp_path / "whole").iterdir()
    assert resumed.name == whole.name
    assert {name: (resumed / name).stat().st_mtime_ns for name in finished} == finished  # kept, not packed again
    assert contents(resumed) == contents(whole)
    assert len(open_store(whole)) == 150 and len(open_store(whole).shards) > 2


def test_killed_just_before_the_last_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_coco(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)  # all that only packing needs is gone already
        open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    [working] = (tmp_path / "crops").iterdir()
    assert (working / "store.json").is_file() and working.suffix == ".partial"
    monkeypatch.setattr("stagepose.training.cutting.read_image", killed)  # nothing is left to be decoded
    store = open_or_pack(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17)
    assert len(store) == 8 and store.home.suffix != ".partial"
    assert {file.name for file in store.home.iterdir()} == {"crops-00000.raw", "people.npz", "store.json", "lock"}


def test_a_finished_part_that_lost_its_end_is_packed_again(tmp_path: Path) -> None:
    path = many_pictures(tmp_path / "set", 60, LARGE)
    command = ["pack", str(path), "--input-size", "96", "128", "--shard-mb", "1", "--jobs", "1", "--out"]
    working = killed_after_its_first_shard([*command, str(tmp_path / "killed")], tmp_path / "killed")
    os.truncate(working / "crops-00000.raw", 1000)
    assert main([*command, str(tmp_path / "killed")]) == 0
    assert main([*command, str(tmp_path / "whole")]) == 0
    [resumed], [whole] = (tmp_path / "killed").iterdir(), (tmp_path / "whole").iterdir()
    assert contents(resumed) == contents(whole)


# --- disks


def test_a_disk_that_will_be_full_is_told_before_anything_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_coco(tmp_path, images=30)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3_000_000))
    monkeypatch.setattr("stagepose.training.cutting.read_image", lambda _: pytest.fail("a picture was decoded"))
    assert main(["pack", str(path), "--input-size", "96", "128", "--out", str(tmp_path / "crops")]) == 1
    error = capsys.readouterr().err
    assert "disk full, 5.0 MB needed; 3 MB are free" in error and error.count("\n") == 1
    assert not list((tmp_path / "crops").iterdir())


def test_a_disk_that_fills_up_leaves_finished_parts_and_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_coco(tmp_path, images=30)
    append, written = ShardWriter.append, []

    def full(self: ShardWriter, data: bytes) -> None:
        written.append(data)
        if len(written) > 20:  # of 60, 12 in a shard
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, data)

    command = ["pack", str(path), "--input-size", "96", "128", "--shard-mb", "1", "--out", str(tmp_path / "crops")]
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "append", full)
        assert main(command) == 1
    error = capsys.readouterr().err
    assert "disk full, 4.0 MB needed" in error and error.splitlines()[-1].startswith("error: ")
    [working] = (tmp_path / "crops").iterdir()
    assert {f.name for f in working.iterdir()} == {"crops-00000.raw", "crops-00000.json", "plan.json", "lock"}
    command[command.index("--shard-mb") + 1] = "3"
    assert main(command) == 0
    assert "people cut out of 30 of 30 pictures" in capsys.readouterr().err  # those of the kept part are counted
    [home] = (tmp_path / "crops").iterdir()
    assert [shard.people for shard in open_store(home).shards] == [12] * 5  # as it began


def test_jpegs_that_fill_a_disk_go_on_when_there_is_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a disk of 8 MB; nobody knows how long JPEGs are before they are made."""
    path = many_pictures(tmp_path / "set", 150, LARGE)
    with file_system(tmp_path / "disk") as disk:
        command = ["pack", str(path), "--form", "jpeg", "--shard-mb", "1", "--jobs", "1", "--out", str(disk)]
        assert main(command) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and "disk full" in error and "finished parts are kept" in error
        [working] = disk.iterdir()
        kept = {file.name for file in working.glob("crops-*.json")}
        assert working.suffix == ".partial" and kept and not list(working.glob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert main(command) == 0
        [home] = disk.iterdir()
        assert len(open_store(home)) == 150


def test_unfinished_stores_of_other_labels_are_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They would lie there for ever: what goes on is the store of the labels as they are now."""
    path = many_pictures(tmp_path / "set", 60, LARGE)
    command = ["pack", str(path), "--input-size", "96", "128", "--shard-mb", "1", "--jobs", "1", "--out"]
    working = killed_after_its_first_shard([*command, str(tmp_path / "crops")], tmp_path / "crops")
    (tmp_path / "crops/other-people-0123456789ab.partial").mkdir()  # of another set
    data = json.loads(path.read_text())
    write_json(path.parent, {**data, "annotations": data["annotations"][1:]}, path.name)
    assert main([*command, str(tmp_path / "crops")]) == 0
    mentioned = [record.getMessage() for record in caplog.records if "unfinished" in record.getMessage()]
    assert len(mentioned) == 1 and str(working) in mentioned[0] and "delete it" in mentioned[0]
    assert working.is_dir()


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_coco(tmp_path)
    (tmp_path / "crops").write_text("a file")
    assert main(["pack", str(path), "--out", str(tmp_path / "crops")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "crops") in error and "cannot write" in error and error.count("\n") == 1


# --- stores that were damaged


@pytest.fixture
def store(tmp_path: Path) -> CropStore:
    path = tiny_coco(tmp_path, images=15)
    return pack_file(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17,
                     config=PackConfig(shard_mb=1))


def refusal(store: CropStore) -> str:
    with pytest.raises(DatasetError) as caught:
        open_store(store.home)
    return str(caught.value)


def test_a_shard_cut_short_is_named(store: CropStore) -> None:
    os.truncate(store.home / "crops-00001.raw", 1000)
    message = refusal(store)
    assert "crops-00001.raw: has 1,000 bytes, expected 995,328" in message and "pack again" in message


def test_a_shard_that_is_missing_is_named(store: CropStore) -> None:
    (store.home / "crops-00002.raw").unlink()
    message = refusal(store)
    assert "crops-00002.raw: this part of the crop store is missing" in message and "copy it again" in message


def test_labels_damaged_by_one_bit_are_named(store: CropStore) -> None:
    data = bytearray((store.home / "people.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (store.home / "people.npz").write_bytes(data)
    assert "people.npz: damaged" in refusal(store)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04"])
def test_labels_that_are_none_are_named(store: CropStore, data: bytes) -> None:
    (store.home / "people.npz").write_bytes(data)
    assert "people.npz: damaged" in refusal(store)


def test_labels_of_another_store_are_named(store: CropStore, tmp_path: Path) -> None:
    path = tiny_coco(tmp_path / "other", images=14)
    other = open_or_pack(path, tmp_path / "other/images", tmp_path / "other/crops", spec=SPEC, skeleton=COCO_17)
    shutil.copy(other.home / "people.npz", store.home)
    assert "people.npz: damaged" in refusal(store)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', '{"format": 2, "spec": 3}'])
def test_a_description_that_is_none_is_named(store: CropStore, text: str) -> None:
    (store.home / "store.json").write_text(text)
    assert "store.json: damaged" in refusal(store)


@pytest.mark.parametrize("field", ["form", "spec", "skeleton", "shards", "left_out", "people", "fingerprint"])
def test_a_description_with_a_wrong_field_is_named(store: CropStore, field: str) -> None:
    info = json.loads((store.home / "store.json").read_text())
    (store.home / "store.json").write_text(json.dumps({**info, field: {"a": None}}))
    if field == "fingerprint":  # a text for comparisons only: any will do
        assert open_store(store.home).fingerprint != store.fingerprint
    else:
        assert "store.json: damaged" in refusal(store)


def test_a_store_of_the_first_format_says_pack_again(store: CropStore) -> None:
    info = json.loads((store.home / "store.json").read_text())
    (store.home / "store.json").write_text(json.dumps({**info, "format": 1}))
    assert "of format 1, expected 2; delete the folder and pack again" in refusal(store)


def test_a_store_without_its_description_is_not_packed_over(store: CropStore, tmp_path: Path) -> None:
    (store.home / "store.json").unlink()
    assert "it has no store.json" in refusal(store)
    with pytest.raises(DatasetError, match="delete it and pack again"):
        open_or_pack(tmp_path / "person_keypoints.json", tmp_path / "images", tmp_path / "crops", spec=SPEC,
                     skeleton=COCO_17)


def test_a_damaged_jpeg_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tiny_coco(tmp_path)
    store = pack_file(path, tmp_path / "images", tmp_path / "crops", spec=SPEC, skeleton=COCO_17,
                      config=PackConfig(form="jpeg"))
    shard = store.home / "crops-00000.jpg.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(DatasetError, match=r"crops-00000.jpg.bin: person 3 of the store is damaged"):
        open_store(store.home).read([3])
