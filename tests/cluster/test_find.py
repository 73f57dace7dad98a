"""What one process does with a table of pictures; no cluster is started here."""


from inspect import signature

import numpy as np
import pyarrow as pa
import pytest
from toy_models import detector_bytes, png, pose_bytes

from stagepose import PredictorConfig, cli
from stagepose.cluster import find, find_in
from stagepose.cluster.find import COLUMNS, MANY, READERS, FindPeople
from stagepose.cluster.run import Found
from stagepose.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def finder():
    return FindPeople(pose_bytes(), detector_bytes(), threshold=0.1)


@pytest.fixture
def pixels():
    picture = np.zeros((120, 200, 3), np.uint8)
    picture[20:100, 20:80] = (255, 0, 0)
    return picture


def rows(finder, values, kind=None, **more):
    table = finder(pa.table({"image": pa.array(values, kind), **more}))
    assert len(table) == len(values)
    return table


def test_a_picture_that_cannot_be_read_costs_its_own_row_alone(finder, pixels, tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    good.write_bytes(png(pixels))
    bad.write_bytes(good.read_bytes()[:100])
    table = rows(finder, [str(bad), str(good), str(tmp_path / "none.png")])
    assert [name in table.column_names for name in COLUMNS.names] == [True] * len(COLUMNS)
    bad_row, good_row, missing_row = table.to_pylist()
    assert "bad.jpg" in bad_row["error"]
    assert bad_row["people"] is bad_row["width"] is None
    assert "none.png: no such file" in missing_row["error"]
    assert good_row["error"] is None
    assert (good_row["width"], good_row["height"]) == (200, 120)
    direct = finder.predictor(good)[0]
    assert len(good_row["people"]) == len(direct) > 0
    for told, person in zip(good_row["people"], direct, strict=True):
        assert np.allclose(told["box"], person.box, atol=0.01)
        assert np.allclose(told["keypoints"], np.column_stack([person.keypoints, person.scores]).ravel(), atol=0.01)
        assert told["score"] == pytest.approx(person.score, abs=1e-5)


def test_addresses_bytes_and_arrays_are_the_same_people_and_other_columns_stay(finder, pixels, tmp_path):
    data = png(pixels)
    file = tmp_path / "a b%20c.png"
    file.write_bytes(data)
    path = rows(finder, [str(file)], split=["x"])
    uri = rows(finder, [f"file://{tmp_path}/a%20b%2520c.png"], split=["x"])
    content = rows(finder, [data], pa.binary(), split=["x"])
    several = pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack([pixels, 0 * pixels]))
    array, dark = (finder(pa.table({"image": several, "split": ["x", "y"]}).slice(i, 1)) for i in range(2))
    assert dark.column("people").to_pylist() == [[]]
    assert path.column("people").to_pylist() == uri.column("people").to_pylist() == content.column("people").to_pylist()
    assert array.column("people").to_pylist() == path.column("people").to_pylist()
    assert path.column_names[:2] == ["image", "split"]
    assert "image" not in content.column_names + array.column_names
    assert content.column("split").to_pylist() == array.column("split").to_pylist() == ["x"]


def test_a_second_look_replaces_the_columns_of_the_first(finder, pixels, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(png(pixels))
    once = rows(finder, [str(file)])
    assert finder(once).equals(once)


def test_columns_that_hold_no_pictures_are_named(finder):
    with pytest.raises(ConfigError, match=r"column is 'image', and the data has .'path'"):
        finder(pa.table({"path": ["x.png"]}))
    with pytest.raises(ConfigError, match="column 'image' has values of type int64; pictures are"):
        finder(pa.table({"image": [1]}))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()])
def test_addresses_as_pandas_and_polars_hold_them(finder, pixels, tmp_path, kind):
    file = tmp_path / "a.png"
    file.write_bytes(png(pixels))
    (row,) = rows(finder, [str(file)], kind).to_pylist()
    assert row["image"] == str(file)
    assert len(row["people"]) == 1


def test_pictures_that_the_models_fail_at_have_an_error_until_it_is_all_of_many(pixels):
    broken = FindPeople(pose_bytes(), detector_bytes(), threshold=0.1)
    broken.predictor.network = lambda crops: np.full((len(crops), 3, 32, 24), np.nan, np.float32)
    few = broken(pa.table({"image": pa.array([png(pixels)] * (MANY - 1), pa.binary())}))
    assert ["NaN" in error for error in few.column("error").to_pylist()] == [True] * (MANY - 1)
    dark = png(0 * pixels)  # nobody is there, so no network is asked
    one_good = broken(pa.table({"image": pa.array([*[png(pixels)] * MANY, dark], pa.binary())}))
    assert one_good.column("error").null_count == 1
    with pytest.raises(ModelError, match="NaN"):
        broken(pa.table({"image": pa.array([*[png(pixels)] * MANY, b"no picture"], pa.binary())}))


def test_no_more_files_than_a_few_are_in_memory(finder, monkeypatch):
    asked = []
    monkeypatch.setattr(find, "_fetched", lambda picture: asked.append(picture) or (picture, None, None))
    stream = finder.fetched([str(number) for number in range(50)])
    given = [next(stream)[0] for _ in range(10)]
    assert given == [str(number) for number in range(10)]
    assert len(asked) <= 10 + READERS


def test_whatever_a_library_says_to_a_strange_file_is_an_error_of_its_row(finder, pixels, monkeypatch):
    monkeypatch.setattr(finder, "predictor", None)  # an AttributeError, which nobody foresaw
    (row,) = rows(finder, [png(pixels)], pa.binary()).to_pylist()
    assert row["error"].startswith("AttributeError: ")


def test_the_command_passes_on_all_that_it_is_told(monkeypatch, tmp_path):
    told = {}

    def find_nobody(*args, **options):
        bound = signature(find_in).bind(*args, **options).arguments
        PredictorConfig(**bound["config"])
        told.update(bound, **bound["config"])
        return Found()

    monkeypatch.setattr("stagepose.commands.cluster.find_in", find_nobody)
    words = ["--keep", "2", "--keep-by", "size", "--threads", "3", "--provider", "cuda", "--part", "9"]
    assert cli.main(["cluster", "a.jpg", "--out", str(tmp_path), *words]) == 1  # nothing was found
    wanted = {"keep": 2, "keep_by": "size", "threads": 3, "provider": "cuda", "part": 9}
    assert wanted.items() <= told.items()
