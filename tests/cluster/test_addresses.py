"""Which pictures files, folders, globs and URIs stand for."""

import os

import pytest
from pyarrow import fs

from stagepose.cluster import addresses
from stagepose.cluster.addresses import fetch, find_addresses
from stagepose.errors import ImageError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a b%20.PNG", "deep/c.webp", "notes.txt", ".hidden.jpg"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
    return tmp_path


def test_paths_are_absolute_and_each_is_there_once(folder, monkeypatch):
    monkeypatch.chdir(folder)
    expected = {str(folder / name) for name in ("b.jpg", "a b%20.PNG", "deep/c.webp")}
    found = find_addresses([".", "b.jpg", str(folder / "*.jpg")])
    assert set(found) == expected
    assert len(found) == len(expected)


def test_a_folder_of_storage_gives_addresses_that_fetch_what_lies_there(folder):
    uri = f"file://{folder}"
    found = find_addresses([uri, f"{uri}/b.jpg", f"{uri}/"])
    assert found == [f"{uri}/a%20b%2520.PNG", f"{uri}/b.jpg", f"{uri}/deep/c.webp"]
    assert [fetch(address) for address in found] == [b"a b%20.PNG", b"b.jpg", b"deep/c.webp"]


def test_what_follows_a_question_mark_goes_with_every_picture(monkeypatch):
    """As Arrow has it: ``s3://bucket/folder?region=x``; a storage in memory stands for S3."""
    storage, opened = fs._MockFileSystem(), []
    for name in ("deep/a b.jpg", "c.png"):
        storage.create_dir("bucket/photos/deep", recursive=True)
        with storage.open_output_stream(f"bucket/photos/{name}") as file:
            file.write(name.encode())
    monkeypatch.setattr(addresses, "_opened", lambda uri: opened.append(uri) or (storage, "bucket"))
    found = find_addresses(["s3://bucket/photos/?region=x&allow=/y"])
    assert found == ["s3://bucket/photos/c.png?region=x&allow=/y", "s3://bucket/photos/deep/a%20b.jpg?region=x&allow=/y"]
    assert [fetch(address) for address in found] == [b"c.png", b"deep/a b.jpg"]
    assert find_addresses(["s3://bucket/d.jpg?region=x"]) == ["s3://bucket/d.jpg?region=x"]
    assert set(opened) == {"s3://bucket?region=x&allow=/y"}


def test_a_name_that_is_no_text_is_said_before_the_work(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    with pytest.raises(ImageError, match=r"caf\\udce9\.jpg: its name is not UTF-8.*rename it"):
        find_addresses([str(tmp_path)])


@pytest.mark.parametrize(("uri", "message"), [
    ("file://{}/none", "no such folder"),
    ("nix://bucket/folder", "cannot be listed: Unrecognized filesystem type"),
    ("file://{}/texts", "no pictures in this folder .1 other files"),
])
def test_what_gives_no_picture_is_named(folder, uri, message):
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").touch()
    with pytest.raises(ImageError, match=message):
        find_addresses([uri.format(folder)])


def test_what_cannot_be_fetched_says_why(folder, monkeypatch):
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        fetch(f"file://{folder}/none.jpg")
    monkeypatch.setattr(addresses, "LARGEST", 3)
    with pytest.raises(ImageError, match="0 MB are allowed"):
        fetch(f"file://{folder}/b.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        fetch("nix://bucket/a.jpg")
    if os.geteuid():
        (folder / "b.jpg").chmod(0)
        with pytest.raises(ImageError, match="cannot be read"):
            fetch(f"file://{folder}/b.jpg")
