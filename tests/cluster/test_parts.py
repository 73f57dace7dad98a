"""The parts of a run are all that is known of what is done."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from stagepose.cluster.find import with_columns
from stagepose.cluster.parts import WORD, done, taken, write_part
from stagepose.errors import ConfigError, DatasetError

GOOD, BAD = {"width": 4, "height": 3, "people": []}, {"error": "no picture"}
IDENTITY = {"pose": "x"}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def put(out, word, **pictures):
    write_part(out, with_columns(pa.table({"image": list(pictures)}), list(pictures.values())), word)


def images(out):
    return sorted(parquet.read_table(out / "parts").column("image").to_pylist())


def test_work_done_twice_is_one_part(out):
    with taken(out, IDENTITY) as word:
        for _ in range(2):
            put(out, word, a=GOOD, b=BAD)
        put(out, word, c=GOOD)
        assert len(list((out / "parts").iterdir())) == 2
        assert done(out, {"a", "b", "d"}, again=False) == {"a": True, "b": False}
    assert images(out) == ["a", "b", "c"]


def test_of_the_pictures_asked_for_those_with_an_error_lose_their_row_to_be_looked_at_again(out):
    with taken(out, IDENTITY) as word:
        put(out, word, a=GOOD, b=BAD, e=BAD)
        put(out, word, c=BAD)
        put(out, word, d=GOOD)
        assert done(out, {"a", "b", "c", "d"}, again=True) == {"a": True, "d": True}
    assert images(out) == ["a", "d", "e"]


def test_a_damaged_part_is_named(out):
    with taken(out, IDENTITY) as word:
        put(out, word, a=GOOD)
        (path,) = (out / "parts").iterdir()
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DatasetError, match=f"{path.name}: is damaged.*remove it"):
            done(out, {"a"}, again=False)


def test_the_folder_is_one_runs_at_a_time_and_of_one_kind(out):
    with taken(out, IDENTITY), pytest.raises(ConfigError, match="another run is at work there"), taken(out, IDENTITY):
        pass
    with pytest.raises(DatasetError, match="was begun with pose 'x', now it is 'y'"), taken(out, {"pose": "y"}):
        pass


def test_a_process_of_a_run_before_cannot_write_any_more(out):
    with taken(out, IDENTITY) as before:
        put(out, before, a=GOOD)
    leftover = out / "parts" / ".people-1.parquet.77.tmp"
    leftover.write_bytes(b"half")
    with taken(out, IDENTITY) as word:
        assert not leftover.exists()
        assert done(out, {"a", "b", "c"}, again=False) == {"a": True}
        with pytest.raises(ConfigError, match="another run has taken the folder; this one ends"):
            put(out, before, b=GOOD, c=GOOD)
        put(out, word, b=GOOD)
    assert images(out) == ["a", "b"]


def test_a_folder_taken_while_a_process_of_a_run_before_names_its_part_has_no_picture_twice(out, monkeypatch):
    with taken(out, IDENTITY) as before:
        put(out, before, a=GOOD)
    read, looked = Path.read_text, []

    def read_and_taken(path, **how):
        text = read(path, **how)
        if path.name == WORD and not looked:
            with taken(out, IDENTITY):
                looked.append(done(out, {"a", "b"}, again=False))
        return text

    monkeypatch.setattr(Path, "read_text", read_and_taken)
    with pytest.raises(ConfigError, match="another run has taken the folder; this one ends"):
        put(out, before, b=GOOD)
    assert looked == [{"a": True}]
    assert images(out) == ["a"]
    assert len(list((out / "parts").iterdir())) == 1
