"""The parts of a run are all that is known of what is done."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from stagepose.cluster.find import with_columns
from stagepose.cluster.parts import done, remove_leftovers, write_part
from stagepose.errors import DatasetError

GOOD, BAD = {"width": 4, "height": 3, "people": []}, {"error": "no picture"}


@pytest.fixture
def out(tmp_path):
    (tmp_path / "parts").mkdir()
    return tmp_path


def put(out, **pictures):
    write_part(out, with_columns(pa.table({"image": list(pictures)}), list(pictures.values())))


def test_work_done_twice_is_one_part(out):
    for _ in range(2):
        put(out, a=GOOD, b=BAD)
    put(out, c=GOOD)
    assert len(list((out / "parts").iterdir())) == 2
    assert done(out, again=False) == ({"a", "b", "c"}, 1)
    assert sorted(parquet.read_table(out / "parts").column("image").to_pylist()) == ["a", "b", "c"]


def test_those_with_an_error_lose_their_row_to_be_looked_at_again(out):
    put(out, a=GOOD, b=BAD)
    put(out, c=BAD)
    put(out, d=GOOD)
    assert done(out, again=True) == ({"a", "d"}, 0)
    assert sorted(parquet.read_table(out / "parts").column("image").to_pylist()) == ["a", "d"]


def test_a_damaged_part_is_named(out):
    put(out, a=GOOD)
    (path,) = (out / "parts").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=f"{path.name}: is damaged.*remove it"):
        done(out, again=False)


def test_what_a_killed_process_was_writing_goes(out):
    put(out, a=GOOD)
    leftover = out / "parts" / ".people-1.parquet.77.tmp"
    leftover.write_bytes(b"half")
    remove_leftovers(out)
    assert not leftover.exists()
    assert len(list((out / "parts").iterdir())) == 1
