"""A run on a Ray cluster of this machine: bad pictures, killed processes, a killed driver (row C1)."""

import os
import platform
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import ray
import ray.data
from PIL import Image
from pyarrow import parquet
from test_docs import snippets
from toy_models import detector_bytes, pose_bytes
from waiting import LONGEST, until

import stagepose
from stagepose.cli import main
from stagepose.cluster import FindPeople, find_in, run
from stagepose.errors import ConfigError, DatasetError, ModelError, StagePoseError

SIZE = (160, 120)

pytestmark = pytest.mark.filterwarnings("default")  # Ray's and pandas' own


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "pose.onnx").write_bytes(pose_bytes())
    (folder / "detector.onnx").write_bytes(detector_bytes())
    return {"pose": str(folder / "pose.onnx"), "detector": str(folder / "detector.onnx"), "threshold": 0.1}


@pytest.fixture
def pictures(tmp_path):
    """Ten, of which one is none."""
    folder = tmp_path / "pictures"
    add_pictures(folder, 9)
    (folder / "bad.jpg").write_text("no picture")
    return folder


def add_pictures(folder, count):
    folder.mkdir(exist_ok=True)
    pixels = np.zeros((*SIZE[::-1], 3), np.uint8)
    pixels[20:100, 20:70] = (255, 0, 0)
    for number in range(count):
        Image.fromarray(pixels).save(folder / f"{number:04}.png")


def rows_of(out):
    return parquet.read_table(out / "parts").to_pylist()


def refuse_other_than_once(out, pictures):
    seen = Counter(row["image"] for row in rows_of(out))
    assert seen == Counter(str(path) for path in pictures.iterdir())


def test_a_bad_picture_is_in_the_error_column_and_every_picture_there_once(cluster, models, pictures, tmp_path):
    out, told = tmp_path / "out", []
    found = find_in(str(pictures), out, **models, part=3, progress=lambda done, total: told.append((done, total)))
    refuse_other_than_once(out, pictures)
    assert (found.pictures, found.people, found.failed) == (10, 9, 1)
    (error,) = found.errors
    for row in rows_of(out):
        bad = row["image"].endswith("bad.jpg")
        assert (row["error"] == error) == bad
        assert len(row["people"] or ()) == (not bad)
        assert (row["width"], row["height"]) == ((None, None) if bad else SIZE)
    assert told[-1] == (10, 10)
    assert sorted(told) == told

    (pictures / "bad.jpg").write_bytes((pictures / "0000.png").read_bytes())
    add_pictures(pictures, 11)  # nine are there already, as they were
    found = find_in(str(pictures / "001*.png"), out, **models, again=True)
    assert (found.pictures, found.failed, found.earlier, found.earlier_failed) == (1, 0, 0, 0)
    found = find_in(str(pictures), out, **models)
    assert (found.pictures, found.earlier, found.earlier_failed) == (1, 11, 1)
    found = find_in(str(pictures), out, **models, again=True)
    assert (found.pictures, found.people, found.failed, found.earlier_failed) == (1, 1, 0, 0)
    refuse_other_than_once(out, pictures)


def _dying(deadly, deaths):
    """The worker, whose process dies at one picture so many times; made here, it travels to the cluster by value."""

    class Dying(run._Worker):
        def _row(self, address, fetched, first):
            marks = self.order.out / "deaths"
            if address == deadly and (not marks.exists() or len(marks.read_bytes()) < deaths):
                with marks.open("ab") as file:
                    file.write(b"x")
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._row(address, fetched, first)

    return Dying


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_killed_process_costs_no_picture_and_none_is_there_twice(cluster, models, pictures, tmp_path, monkeypatch,
                                                                   deaths):
    out = tmp_path / "out"
    monkeypatch.setattr(run, "_Worker", _dying(str(pictures / "0004.png"), deaths))
    found = find_in(str(pictures), out, **models, workers=1, part=4)
    assert len((out / "deaths").read_bytes()) == deaths
    assert (found.pictures, found.people, found.failed) == (10, 9, 1)
    refuse_other_than_once(out, pictures)


def test_a_picture_that_kills_whoever_looks_at_it_is_given_up(cluster, models, pictures, tmp_path, monkeypatch):
    out, deadly = tmp_path / "out", str(pictures / "0004.png")

    class Deadly(run._Worker):
        def __init__(self, *args):
            super().__init__(*args)
            look = self.finder.look

            def looked(picture, *more):
                if picture == deadly:
                    with (self.order.out / "deaths").open("ab") as file:
                        file.write(b"x")
                    os.kill(os.getpid(), signal.SIGKILL)
                return look(picture, *more)

            self.finder.look = looked

    monkeypatch.setattr(run, "_Worker", Deadly)
    found = find_in(str(pictures), out, **models)
    assert len((out / "deaths").read_bytes()) == 3
    refuse_other_than_once(out, pictures)
    assert (found.pictures, found.people, found.failed) == (10, 8, 2)
    (row,) = [row for row in rows_of(out) if row["image"] == deadly]
    assert row["error"] == (f"{deadly}: the process that looked at it died, 3 times; look at it alone: stagepose "
                            "predict")


def test_a_killed_driver_run_again_leaves_every_picture_once(models, tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    add_pictures(pictures, 30)
    (pictures / "bad.jpg").write_text("no picture")
    words = [sys.executable, "-m", "stagepose", "cluster", str(pictures), "--out", str(out), "--part", "1",
             *(str(word) for name, value in models.items() for word in (f"--{name}", value))]
    said = tmp_path / "log"  # Ray's processes would hold a pipe open
    with said.open("wb") as log:
        driver = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    until(lambda: len(list(out.glob("parts/*.parquet"))) >= 3, driver, said)
    driver.kill()
    driver.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("parts/*.parquet")}
    assert 3 <= len(before) < 31, said.read_text()

    again = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST)
    assert again.returncode == 0, again.stderr
    assert "processed before" in again.stderr
    refuse_other_than_once(out, pictures)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def _refusal(models, pictures, out, **more):
    with pytest.raises(StagePoseError) as caught:
        find_in(str(pictures), out, **models, **more)
    return type(caught.value), str(caught.value)


def test_a_model_that_fails_at_every_picture_ends_the_run_with_its_own_line(cluster, models, pictures, tmp_path,
                                                                            monkeypatch):
    class Broken(run._Worker):
        def __init__(self, *args):
            super().__init__(*args)
            self.finder.predictor.network = lambda crops: np.full((len(crops), 3, 32, 24), np.nan, np.float32)

    monkeypatch.setattr(run, "_Worker", Broken)
    add_pictures(pictures, 40)
    assert _refusal(models, pictures, tmp_path / "out", workers=1) == (
        ModelError, "the network gave NaN or infinite heatmaps; its weights are broken")


def test_a_machine_unlike_the_others_is_said_with_its_name(cluster, models, pictures, tmp_path, monkeypatch):
    order = run._Order

    def elsewhere(out, word, photos, how):
        return order(out, word, photos / "elsewhere", how)

    monkeypatch.setattr(run, "_Order", elsewhere)
    assert _refusal(models, pictures, tmp_path / "out") == (StagePoseError, (
        f"{pictures}/elsewhere: is not there on the machine {platform.node()}; choose a folder that all machines see "
        "under one path"))
    monkeypatch.setattr(run, "_Order", lambda *args: order(*args, version="0.0.0"))
    assert _refusal(models, pictures, tmp_path / "out") == (StagePoseError, (
        f"StagePose is {stagepose.__version__} on the machine {platform.node()}, and 0.0.0 where the run was begun; "
        "install the same on all"))


def test_other_settings_a_second_run_and_too_much_asked_for_are_refused(cluster, models, pictures, tmp_path):
    out = tmp_path / "out"
    find_in(str(pictures / "0000.png"), out, **models)
    with pytest.raises(DatasetError, match="was begun with flip False, now it is True"):
        find_in(str(pictures), out, **models, flip=True)
    with pytest.raises(ConfigError, match="wants 3 CPUs and 0 GPUs, and none of the cluster's 1 machines has so many"):
        find_in(str(pictures), out, **models, threads=3)
    with pytest.raises(ConfigError, match="wants 1 CPUs and 1 GPUs, and none"):
        find_in(str(pictures), out, **models, gpus=1)
    assert run._Hands(7, 3, 0, may_grow=True).most() == 7
    with pytest.raises(ConfigError, match=r"has so many; ask for fewer$"):  # where it would wait for ever
        run._Hands(7, 3, 0, may_grow=False).most()
    assert (run._Hands(7, 1, 0, may_grow=False).most(), run._Hands(None, 2, 0, may_grow=False).most()) == (2, 1)
    with pytest.raises(ConfigError, match=r"gpus is 1.5; use a whole number"):
        find_in(str(pictures), out, **models, gpus=1.5)
    with pytest.raises(ConfigError, match=r"address is ray://head:10001: .*--address auto, or .* 'ray job submit'"):
        find_in(str(pictures), out, **models, address="ray://head:10001")
    with pytest.raises(ConfigError, match="part is 0"):
        find_in(str(pictures), out, **models, part=0)
    with pytest.raises(ConfigError, match="gpus is -1"):
        find_in(str(pictures), out, **models, gpus=-1)
    assert len(rows_of(out)) == 1


def test_the_command_tells_what_it_found_and_where(cluster, models, pictures, tmp_path, capsys, monkeypatch):
    out = tmp_path / "found"
    words = ["cluster", str(pictures), "--out", str(out), "--pose", models["pose"], "--detector",
             models["detector"], "--threshold", "0.1"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == f"9 people in 9 of 10 photos; their rows are in {out}/parts\n"
    assert "bad.jpg: not a picture" in said.err
    assert main([*words, "--strict"]) == 1
    said = capsys.readouterr()
    assert said.out == f"nothing to do: {out}/parts has a row of every photo\n"
    assert "10 photos were processed before; 1 of them could not be used: --again retries them" in said.err
    monkeypatch.chdir(tmp_path)
    exec(snippets("docs/cluster.md")[0])
    assert capsys.readouterr().out == "10 pictures, 9 people, 1 unusable\n"


def test_in_a_pipeline_of_ones_own(cluster, models, pictures):
    (pictures / "bad.jpg").unlink()
    found = ray.data.read_images(str(pictures), include_paths=True, override_num_blocks=2).map_batches(
        FindPeople, fn_constructor_kwargs=models, batch_format="pyarrow", batch_size=4, concurrency=1)
    rows = found.take_all()
    assert Counter(row["path"] for row in rows) == Counter(str(path) for path in pictures.iterdir())
    assert [len(row["people"]) for row in rows] == [1] * 9
