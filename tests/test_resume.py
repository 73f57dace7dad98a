"""``stagepose predict --resume``: whatever ended a run, it goes on and leaves what an undisturbed run leaves."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desks import MODELS, predict, put_models, read, stop_at
from PIL import Image
from tiny import contents
from toy_models import ONE, TWO, dots, pose_bytes
from waiting import until

from stagepose import cli, files
from stagepose.commands.arguments import spelled
from stagepose.commands.outcome import Outcome
from stagepose.commands.predict import FREE
from stagepose.commands.spreadsheet import TableOptions
from stagepose.commands.unfinished import NAME, ResumeFile
from stagepose.errors import ConfigError, StagePoseError
from stagepose.predictor import Predictor

SLOW = """import sys, time
from stagepose import cli
from stagepose.predictor import Predictor
people = Predictor.people
Predictor.people = lambda *args: (time.sleep(.1), people(*args))[1]
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of twelve photos, two of a name, one broken and one of nobody."""
    monkeypatch.chdir(tmp_path)
    put_models()
    Path("photos/more").mkdir(parents=True)
    for number in range(9):
        Image.fromarray(dots(TWO if number % 2 else ONE + number)).save(f"photos/{number}.png")
    Image.fromarray(dots(TWO)).save("photos/more/3.png")
    Image.fromarray(dots([])).save("photos/nobody.png")
    Path("photos/bad.png").write_bytes(Path("photos/0.png").read_bytes()[:500])


def out(folder: str = "out") -> dict[str, bytes]:
    return contents(Path(folder))


def undisturbed(*options: str, photos: str = "photos") -> dict[str, bytes]:
    """What a run from the start leaves, of the photos as they are now."""
    assert cli.main(["predict", photos, *options, *MODELS, "--out", "undisturbed"]) == 0
    found = out("undisturbed")
    shutil.rmtree("undisturbed")
    return found


def stop(*options: str, at: str = "5.png", photos: str = "photos") -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        stop_at(at, KeyboardInterrupt(), monkeypatch)
        assert predict(photos, *options) == 130


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    people = Predictor.people

    def counting(self: Predictor, picture: Any, boxes: Any = None) -> Any:
        names.append(picture.name.removeprefix("photos/"))
        return people(self, picture, boxes)

    monkeypatch.setattr(Predictor, "people", counting)
    return names


def killed(*options: str, after: int = 4) -> None:
    """A run that is killed outright once so many photos are done."""
    with subprocess.Popen([sys.executable, "-c", SLOW, "predict", "photos", *options, *MODELS],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        journal, before = Path("out") / NAME, lines()
        until(lambda: lines() >= before + after, process)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and journal.exists()


def lines() -> int:
    journal = Path("out") / NAME
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("options", [[], ["--json-only", "--csv"], ["--csv", "--colours", "person"]])
def test_a_run_that_was_killed_twice_ends_as_one_that_was_not(options: list[str], looked_at: list[str]) -> None:
    killed(*options)
    assert not Path("out/people.json").exists()
    killed("--resume", *options, after=3)
    assert predict("photos", "--resume", *options) == 0
    assert 0 < len(looked_at) <= 7  # of 11 that can be read
    assert out() == undisturbed(*options)


def test_a_line_cut_off_and_a_file_half_written_leave_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    stop()
    journal = Path("out") / NAME
    *whole, last = journal.read_bytes().splitlines(keepends=True)
    process = json.loads(whole[0])["process"]
    journal.write_bytes(b"".join(whole) + last[:len(last) // 2])
    Path(f"out/.people.json.{process}.tmp").write_bytes(b"[")
    assert predict("photos", "--resume") == 0
    assert "continuing in out: 4 of 12 files done before\n" in capsys.readouterr().err
    assert out() == undisturbed()


def test_lines_that_the_disk_has_lost_are_done_again() -> None:
    stop()
    journal = Path("out") / NAME
    content = journal.read_bytes()
    journal.write_bytes(content[:len(content) // 2] + bytes(len(content) - len(content) // 2))
    assert predict("photos", "--resume") == 0 and out() == undisturbed()


def test_ctrl_c_is_gone_on_from(capsys: pytest.CaptureFixture[str], looked_at: list[str]) -> None:
    stop("--csv")
    images = read("out/images.json")
    assert images["complete"] is False and [image["id"] for image in images["images"]] == [9, 1, 2, 10, 4]
    looked_at.clear()
    capsys.readouterr()
    assert predict("photos", "--csv", "--resume") == 0
    assert looked_at == ["5.png", "6.png", "7.png", "8.png", "nobody.png", "more/3.png"]
    printed = capsys.readouterr()
    assert "photos/0.png" not in printed.out and "photos/8.png: person 1" in printed.out
    assert printed.err.endswith("11 photos, 15 people, 1 photo without people; written to out\n"
                                "1 photo could not be used, see above\n")
    assert out() == undisturbed("--csv")


def test_photos_that_changed_came_and_went_are_as_they_are_now(looked_at: list[str],
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    stop(at="7.png")
    Image.fromarray(dots(TWO[1:])).save("photos/2.png")
    Path("photos/4.png").unlink()
    Image.fromarray(dots(TWO)).save("photos/00.png")
    Image.fromarray(dots(ONE)).save("photos/bad.png")  # mended
    looked_at.clear()
    assert predict("photos", "--resume") == 0
    assert looked_at == ["00.png", "2.png", "7.png", "8.png", "bad.png", "nobody.png", "more/3.png"]
    assert "continuing in out: 6 of 12 files done before; 1 others" in capsys.readouterr().err
    Path("out/4.pose.png").unlink()  # of the photo that is gone: overlays of earlier runs stay, as ever
    assert out() == undisturbed()


def test_overlays_that_are_called_otherwise_now_are_drawn_anew(looked_at: list[str]) -> None:
    Path("photos/zoo").mkdir()
    Image.fromarray(dots(TWO[1:])).save("photos/zoo/3.png")
    stop(at="8.png")  # 3.pose.png is that of photos/3.png
    shutil.copy("photos/8.png", "photos/zoo/8.png")
    Path("photos/a").mkdir()
    stop("--resume", at="nobody.png")
    Path("photos/3.png").rename("photos/a/3.png")  # now the numbered names move on, and every overlay is another's
    assert predict("photos", "--resume") == 0
    found = out()
    assert found == undisturbed() and {"3.pose.png", "3-2.pose.png", "3-3.pose.png"} <= set(found)


def test_an_overlay_that_is_gone_is_drawn_anew(looked_at: list[str]) -> None:
    stop()
    Path("out/1.pose.png").unlink()
    looked_at.clear()
    assert predict("photos", "--resume") == 0
    assert looked_at[0] == "1.png" and len(looked_at) == 7 and out() == undisturbed()


@pytest.mark.parametrize(("options", "message"), [
    (["--threshold", "0.4"], "--threshold 0.5, now 0.4"), (["--flip"], "--flip off, now on"),
    (["--json-only", "--max-people", "3"], "--max-people 100, now 3; --json-only off, now on"),
    (["--keep", "1", "--keep-by", "size"], "--keep none, now 1; --keep-by score, now size"),
    (["--labels", "score"], "--labels number, now score"),
    (["--boxes", "boxes.json"], "now none; --boxes none, now boxes.json ("),
])  # fmt: skip
def test_other_settings_are_refused_in_one_line(options: list[str], message: str,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    stop()
    Path("boxes.json").write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 1}]))
    before = out()
    capsys.readouterr()
    assert predict("photos", "--resume", *options) == 1
    *_, err = capsys.readouterr().err.splitlines()
    assert err.startswith("error: out: its unfinished run was started with ") and message in err
    assert err.endswith(". Give the same to continue it; leave --resume out to start over")
    assert out() == before
    assert predict("photos", "--resume", "--batch", "1", "--csv", "--strict") == 1  # 1 for the broken photo


def test_every_option_of_predict_is_compared_or_named_free(capsys: pytest.CaptureFixture[str]) -> None:
    stop()
    capsys.readouterr()
    assert cli.main(["predict", "--help"]) == 0
    shown = {name for name in re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)
             if not name.startswith("--no-")} - {"--help"}
    begun = json.loads((Path("out") / NAME).read_bytes().splitlines()[0])["settings"]
    compared, free = set(begun) - {"StagePose"}, {spelled(name) for name in FREE}
    assert compared | free == shown and not compared & free


def test_another_model_of_the_same_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    stop()
    Path("pose.onnx").write_bytes(pose_bytes(box_padding=1.5))
    assert predict("photos", "--resume") == 1
    assert "started with --pose toy-pose (" in capsys.readouterr().err


def test_without_the_flag_a_run_begins_anew_and_says_so(capsys: pytest.CaptureFixture[str],
                                                        looked_at: list[str]) -> None:
    stop()
    looked_at.clear()
    assert predict("photos") == 0
    assert "out has an unfinished run, which is started over; --resume would continue it\n" in capsys.readouterr().err
    assert len(looked_at) == 11 and out() == undisturbed()


def test_with_nothing_to_go_on_from_it_begins_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time, the first run is complete
        assert predict("photos", "--resume") == 0
        assert "no unfinished run in out: started with the first photo\n" in capsys.readouterr().err
    assert out() == undisturbed()


@pytest.mark.parametrize("options", [["--resume"], []])
def test_a_run_at_work_is_neither_gone_on_with_nor_begun_anew(options: list[str],
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    first = ResumeFile.begin(Path("out"), {})
    first.add("a.png", None, {"image": {}, "people": []})
    before = out()
    assert predict("photos", *options) == 1
    err = capsys.readouterr().err
    assert "unfinished.jsonl: its run is still in progress; wait for its end" in err and "started over" not in err
    assert out() == before
    first.finish()
    assert out() == {}


def test_a_run_begun_anew_removes_what_one_that_was_killed_left_half_written() -> None:
    stop()
    journal = Path("out") / NAME
    process = json.loads(journal.read_bytes().splitlines()[0])["process"]
    with journal.open("a") as file:  # as somebody who went on with it, and was killed as well
        file.write('{"process":999999999}\n{"process":"*"}\n')
    for whose in (process, 999999999, 12345):
        Path(f"out/.clip.pose.mp4.{whose}.tmp").write_bytes(b"much")
    assert predict("photos") == 0
    assert [name for name in out() if name.endswith(".tmp")] == [".clip.pose.mp4.12345.tmp"]


def test_a_file_of_that_name_that_is_another_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    for content in ("", "mine\n", '{"format": 1}\n', "[1]\n"):
        Path("out", NAME).write_text(content)
        assert predict("photos", "--resume") == 1
        assert "unfinished.jsonl: is not from this version of StagePose" in capsys.readouterr().err
        assert Path("out", NAME).read_text() == content


def test_a_photo_from_standard_input_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        def __init__(self, photo: str) -> None:
            self.buffer = io.BytesIO(Path(photo).read_bytes())

    monkeypatch.setattr(sys, "stdin", Pipe("photos/1.png"))
    with pytest.MonkeyPatch.context() as stopping:
        stop_at("2.png", KeyboardInterrupt(), stopping)
        assert predict("-", "photos/0.png", "photos/2.png") == 130
    monkeypatch.setattr(sys, "stdin", Pipe("photos/4.png"))
    assert predict("-", "photos/0.png", "photos/2.png", "--resume") == 0
    assert [person["file_name"] for person in read("out/people.json")] == ["<stdin>", "photos/0.png", "photos/2.png"]


def test_results_that_could_not_be_written_are_without_looking_again(looked_at: list[str],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StagePoseError("out/images.json: disk full, 1.0 MB needed; free some space")

    with pytest.MonkeyPatch.context() as disk:
        disk.setattr("stagepose.commands.outcome.write_json_object", full)
        assert predict("photos") == 1
    looked_at.clear()
    assert predict("photos", "--resume") == 0 and looked_at == [] and out() == undisturbed()


def test_videos_that_are_done_are_kept_and_the_one_in_hand_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    from test_videos import Stops, clip, walking

    from stagepose.commands.clips import Clip

    clip("photos/a.mp4", walking(4))
    clip("photos/b.mp4", walking(5, TWO))
    expected = undisturbed("--csv")
    done: list[str] = []
    add: Callable[..., None] = Clip.add
    with monkeypatch.context() as stopping:
        stop = Stops(6, KeyboardInterrupt())
        stopping.setattr(Clip, "add", lambda self, frame: (stop(), add(self, frame)))
        assert predict("photos", "--csv") == 130
    assert read("out/images.json")["videos"][1]["frames"] == 2
    monkeypatch.setattr(Clip, "add", lambda self, frame: (done.append(self.stem), add(self, frame)))
    assert predict("photos", "--csv", "--resume") == 0
    assert done == ["b"] * 5
    found = out()
    assert found.keys() == expected.keys()
    for name in found:  # a container may tell when it was written
        assert found[name] == expected[name] or name.endswith(".mp4"), name


def test_memory_does_not_grow_with_the_people() -> None:
    """A file of people is written in less memory than half of it takes."""
    Path("out").mkdir()
    person = {"category_id": 1, "keypoints": np.arange(51.0).tolist(), "score": 0.5, "file_name": "x", "box": [0.5] * 4}
    journal = ResumeFile.begin(Path("out"), {})
    names: list[str | None] = [f"{number}.jpg" for number in range(60)]
    outcome = Outcome(journal, [(name, n) for n, name in enumerate(names, 1)], [f"k{n}" for n in range(17)],
                      TableOptions(csv=True), [])
    tracemalloc.start()
    for name in names:
        record = {"image": {"file_name": name, "width": 9, "height": 9, "people": 20}, "people": [person] * 20}
        journal.add(name, None, record)
        outcome.count(record)
    outcome.write(Path("out"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.people == len(read("out/people.json")) == 1200 and len(read("out/images.json")["images"]) == 60
    assert peak < Path("out/people.json").stat().st_size / 2
    journal.close()


def test_an_object_is_written_as_json_writes_it(tmp_path: Path) -> None:
    for images in ([], [{}], [{"id": 1, "name": "a\nb", "list": [1, [2]]}, {"x": "ü"}]):
        fields: dict[str, Any] = {"complete": True, "images": images, "none": [], "videos": {"a": [{}]}}
        files.write_json("whole.json", fields)
        files.write_json_object("parts.json", {**fields, "images": iter(images)})
        assert Path("parts.json").read_bytes() == Path("whole.json").read_bytes()


def test_journals_of_the_future_are_not_read() -> None:
    Path("out").mkdir()
    journal = ResumeFile.begin(Path("out"), {"a": 1})
    journal.close()
    text = (Path("out") / NAME).read_text().replace('"format":1', '"format":2')
    (Path("out") / NAME).write_text(text)
    with pytest.raises(ConfigError, match="not from this version"):
        ResumeFile.go_on(Path("out"), {"a": 1})
