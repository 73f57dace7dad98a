"""The command line: its surface, its exit codes, and what each verb leaves behind. Models are those of toy_models."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desks import MODELS, predict, put_models, read, stop_at
from PIL import Image
from tiny import tiny_coco, tiny_dict
from toy_models import ONE, TOY, TWO, coco_bytes, dots

import stagepose
from stagepose import cli
from stagepose.commands import console
from stagepose.commands.boxes import BoxFile, image_ids, number_in
from stagepose.commands.contestants import titles
from stagepose.errors import ModelError, StagePoseError
from stagepose.evaluation.kept import KeypointResults
from stagepose.evaluation.keypoints import NUMBERS
from stagepose.skeleton import COCO_17, resolve

BOXES_XYWH = [[42, 52, 77, 107], [200, 72, 71, 127]]  # of TWO
SHARED = {"--help", "--pose", "--detector", "--boxes", "--threshold", "--max-people", "--flip", "--no-flip", "--batch",
          "--out", "--threads", "--provider"}  # fmt: skip
JUDGING = {"--images", "--rescoring", "--oks-nms", "--soft-nms", "--no-soft-nms", "--scales"}
SURFACE = {
    "predict": SHARED | {"--json-only", "--no-json-only", "--csv", "--no-csv", "--csv-threshold", "--strict",
                         "--no-strict", "--max-pixels", "--detect-every", "--start", "--end", "--every", "--smooth",
                         "--no-smooth", "--cuts", "--no-cuts", "--colours", "--joint-threshold", "--resume",
                         "--no-resume", "--tiles", "--keep", "--keep-by", "--labels"},
    "eval": SHARED | JUDGING | {"--results", "--skeleton", "--bootstrap", "--seed", "--json", "--pck", "--no-pck"},
    "compare": (SHARED | JUDGING | {"--truth", "--skeleton", "--bootstrap", "--seed", "--json", "--pck", "--no-pck",
                                    "--against"}) - {"--pose", "--out"},
    "analyze": SHARED | JUDGING | {"--results", "--skeleton", "--bootstrap", "--seed", "--gallery"},
    "sigmas": {"--help", "--out", "--skeleton"},
    "eval-detector": {"--help", "--images", "--detector", "--boxes", "--negatives", "--pose", "--flip", "--no-flip",
                      "--out", "--threads", "--provider"},
    "mine-negatives": {"--help", "--out", "--images", "--negatives", "--detector", "--least-score", "--most-score",
                       "--overlap", "--each", "--threads", "--provider"},
    "check": {"--help", "--images", "--write-clean", "--against", "--estimate-areas", "--no-estimate-areas"},
    "convert": {"--help", "--out", "--to", "--format", "--images", "--skeleton", "--category", "--split",
                "--joint-threshold", "--estimate-areas", "--no-estimate-areas", "--drop-bad", "--no-drop-bad", "--link",
                "--no-link"},
    "show": {"--help", "--out", "--images", "--count", "--seed", "--skeleton", "--all-images", "--no-all-images",
             "--augmented", "--augment", "--input-size", "--box-padding", "--mirror", "--no-mirror"},
    "stats": {"--help"},
    "info": {"--help", "--json", "--no-json"},
    "runs": {"--help", "--json", "--no-json", "--csv"},
    "serve": {"--help", "--host", "--port", "--allow-host", "--pose", "--detector", "--threshold", "--flip",
              "--no-flip", "--workers", "--threads", "--queue", "--timeout", "--max-bytes", "--max-pixels",
              "--provider"},
    "render": {"--help", "--out", "--size", "--people", "--seed", "--skeleton", "--backgrounds", "--poses", "--jobs"},
    "gan extend": {"--help", "--pictures", "--out", "--by", "--people", "--over", "--empty", "--negatives", "--seed",
                   "--judge", "--least-oks", "--jobs", "--with", "--hard", "--device"},
    "split": {"--help", "--out", "--minival", "--count", "--fraction", "--seed", "--all-images", "--no-all-images"},
}


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with models and photos of known people."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    put_models()
    Path("coco.onnx").write_bytes(coco_bytes())
    Image.fromarray(dots(TWO)).save("two.png")
    Image.fromarray(dots(ONE)).save("one.jpg", quality=95)
    return tmp_path


def options_of(help_text: str) -> set[str]:
    """What a help lists at the left, whether boxes are drawn around it or not."""
    entries = [line.strip("│ ").partition("  ")[0] for line in help_text.splitlines() if re.match(r"[│ ] ? ?-", line)]
    return {option for entry in entries for option in re.findall(r"--[a-z][a-z-]*", entry)}


def require_extra(verb: str) -> None:
    """Skip where the packages of a verb's extra are not installed."""
    if extra := cli.COMMANDS[verb].extra:
        pytest.importorskip("fastapi" if extra == "serve" else "torch")


def files_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# --- the surface


def test_verbs_are_pinned(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(SURFACE) <= set(cli.COMMANDS)
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert cli.main(words) == 0
        text = capsys.readouterr().out
        assert all(re.search(rf"^  {verb} +\S", text, re.M) for verb in cli.COMMANDS)
    assert all("\n" not in c.help and len(c.help) < 80 for c in cli.COMMANDS.values())


@pytest.mark.parametrize("verb", sorted(SURFACE))
def test_options_are_pinned(verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")  # in a wide terminal, groups of options are beside each other
    if verb == "serve":
        require_extra(verb)
    assert cli.main([verb, "--help"]) == 0
    assert options_of(capsys.readouterr().out) == SURFACE[verb]


@pytest.mark.parametrize("verb", sorted(cli.COMMANDS))
def test_help_speaks_of_files_and_numbers_not_of_types(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    require_extra(verb)
    assert cli.main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("None", "PATH", "(default: )"):
        assert word not in text, f"{verb}: {word}"


@pytest.mark.parametrize("verb", ["", *sorted(cli.COMMANDS)])
def test_help_fits_a_terminal_of_80_columns(verb: str, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    if verb:
        require_extra(verb)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*verb.split(), "--help"]) == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage.startswith("usage: ") and max(map(len, lines)) <= 80


def test_help_of_a_verb_is_the_verbs_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", "gan", "extend"], ["gan", "extend", "--help"]):
        assert cli.main(words) == 0
        assert "usage: stagepose gan extend" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"stagepose {stagepose.__version__}\n"


@pytest.mark.parametrize(("words", "message"), [
    (["predcit"], "did you mean 'predict'?"), (["gan"], "there are 'gan train' and 'gan extend'"),
    (["gan", "trian"], "did you mean 'gan train'?"),
    (["help", "predcit"], "did you mean 'predict'?"), (["--frobnicate"], "see stagepose --help"),
    (["infer"], "did you mean 'predict'?"), (["run"], "did you mean 'predict'?"), (["val"], "did you mean 'eval'?"),
    (["evaluate"], "did you mean 'eval'?"), (["nonsense"], "no command 'nonsense'; see stagepose --help"),
    (["predict", "two.png", "--json-only", "--labels", "none"],
     "--json-only writes no overlays, which --labels would change; leave one out"),
    (["predict", "two.png", "--json-only", "--labels", "score", "--colours", "person"], "which --colours and --labels"),
    (["predict", "two.png", "--csv-threshold", "0.3"], "--csv-threshold is for the tables of --csv; give both"),
    (["predict", "two.png", "--csv", "--csv-threshold", "30"], "--csv-threshold is 30.0; it is a score"),
    (["predict"], "at least one photo"), (["stats"], "at least one annotation file"),
    (["split", "a.json", "--out", "o"], "one of --minival, --count and --fraction"),
    (["split", "a.json", "--out", "o", "--count", "1", "--fraction", "0.1"], "one of --minival"),
    (["predict", "two.png", "--batch", "many"], "batch"), (["predict", "two.png", "--nonsense"], "nonsense"),
])  # fmt: skip
def test_wrong_usage_is_exit_code_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and out == ""


def test_errors_are_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["predict", "two.png", "--pose", "none.onnx"], ["predict", "two.png", "--pose", "two.png"],
                  ["predict", "two.png", *MODELS, "--threshold", "7"], ["stats", "none.json"],
                  ["check", "none.json"], ["check", "."], ["predict", "two.png", *MODELS, "--out", "two.png"],
                  ["predict", "two.png", "--pose", "pose.onnx", "--boxes", "none.json"],
                  ["predict", "two.png", *MODELS, "--provider", "abacus"]):  # fmt: skip
        assert cli.main(words) == 1
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and words[-1] in err


def test_an_error_is_one_line_whatever_the_paths(capsys: pytest.CaptureFixture[str]) -> None:
    Path("new\nline").write_text("in the way")
    tiny_coco(Path("set"))
    Path("none.json").write_text("[]")
    words = ["eval", "set/person_keypoints.json", "--results", "none.json", "--json", "new\nline/x.json"]
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: new\\nline/x.json: cannot write: ") and err.count("\n") == 1


@pytest.mark.parametrize("words", [
    "eval set/person_keypoints.json --results none.json --json -", "eval set/person_keypoints.json --out -",
    "eval-detector set/person_keypoints.json --out -", "check set/person_keypoints.json --write-clean -",
    "export nowhere --out -", "import-detector nothing --out -",
])  # fmt: skip
def test_a_dash_is_no_file(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words.split()[0] in ("export", "import-detector"):
        pytest.importorskip("torchvision")
    tiny_coco(Path("set"))
    Path("none.json").write_text("[]")
    assert cli.main(words.split()) == 1
    assert capsys.readouterr().err.endswith("error: -: is no name of a file; use /dev/stdout to write into a pipe\n")
    assert not Path("-").exists()


@pytest.mark.parametrize("words", [
    "eval set/person_keypoints.json --results r.json --json r.json --bootstrap 0",
    "eval set/person_keypoints.json --results r.json --json set/person_keypoints.json --bootstrap 0",
    "eval set/person_keypoints.json --pose coco.onnx --out set/person_keypoints.json",
    "eval-detector set/person_keypoints.json --boxes r.json --out r.json",
])  # fmt: skip
def test_a_result_never_takes_the_place_of_what_it_is_made_from(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    boxes_file("r.json", [{"image_id": number, "bbox": [1, 1, 9, 9], "keypoints": [1] * 51} for number in (1, 99)])
    before = {path: path.read_bytes() for path in (Path("r.json"), Path("set/person_keypoints.json"))}
    assert cli.main(words.split()) == 1
    assert "is one of the files read; write to another place" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    words = "eval set/person_keypoints.json --pose coco.onnx --out x.json --json ./x.json"
    assert cli.main(words.split()) == 2 and "name two files" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["people.json", "images.json", "people.csv"])
def test_results_never_replace_the_file_of_boxes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    boxes_file(f"out/{name}", [{"image_id": 1, "file_name": "one.png", "bbox": [1, 1, 9, 9]}])
    before = Path("out", name).read_bytes()
    assert predict("one.png", "--boxes", f"out/{name}", "--csv") == 1
    assert f"out/{name}: is one of the files read; write to another place" in capsys.readouterr().err
    assert Path("out", name).read_bytes() == before
    Path("out", name).unlink()
    Path("out", name).mkdir()
    assert predict("one.png", "--csv") == 1 and f"out/{name}: cannot write: a folder of" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "says"), [("--negatives nowhere", "nowhere"), ("--pose nothing", "nothing")])
def test_eval_detector_refuses_before_it_looks(words: str, says: str, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    def look(*_: object, **__: object) -> None:
        raise AssertionError("looked at pictures")

    monkeypatch.setattr("stagepose.commands.detector.detect_dataset", look)
    tiny_coco(Path("set"))
    ours = ["eval-detector", "set/person_keypoints.json", "--detector", "detector.onnx"]
    assert cli.main([*ours, *words.split()]) == 1 and says in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert cli.main(ours) == 1 and "judging boxes needs faster-coco-eval: pip install" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_a_file_name_that_is_no_text_ends_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(tiny_coco(Path("set")).read_text())
    truth, picture = Path(os.fsdecode(b"caf\xe9.json")), Path("set/images") / data["images"][0]["file_name"]
    odd = os.fsdecode(b"caf\xe9.png")
    picture.rename(picture.with_name(odd))
    data["images"][0]["file_name"] = odd
    truth.write_text(json.dumps(data))
    boxes_file("r.json", [{"image_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [1] * 51}])
    assert cli.main(["analyze", str(truth), "--results", "r.json", "--images", "set/images", "--out", "page"]) == 0
    assert "caf\\udce9" in Path("page/report.html").read_text()
    capsys.readouterr()
    for to, out in (("cvat", "x.xml"), ("yolo", "y")):
        assert cli.main(["convert", str(truth), "--images", "set/images", "--to", to, "--out", out]) == 1
        assert "would hold a name that is not UTF-8: " in capsys.readouterr().err


def test_stats_has_a_row_for_every_file_named(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tiny_coco(Path("set")))
    assert cli.main(["stats", path, path]) == 0
    assert capsys.readouterr().out.count("person_keypoints.json") == 2


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupt)
    assert cli.main(["predict"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_missing_extra_is_its_pip_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "needs_much.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(cli.COMMANDS, "gan train", cli.Command("needs_much:train", "dream", "train"))
    assert cli.main(["gan", "train", "--help"]) == 1
    assert 'run: pip install "stagepose[train]"' in capsys.readouterr().err


def test_where_folders_cannot_be_held_training_says_so() -> None:
    """As on Windows, which has no such module: no package brings it."""
    pytest.importorskip("torch")
    done = run_python("import sys; sys.modules['fcntl'] = None\n"
                      "from stagepose import cli\nsys.exit(cli.main(sys.argv[1:]))", "train", "--help")
    assert done.returncode == 1
    assert done.stderr == "error: training locks its folders with fcntl, which Windows lacks; run it in WSL\n"


def test_two_words_may_be_a_verb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dreams.py").write_text("def train(*, steps: int = 1) -> None:\n    print('dreamt', steps)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(cli.COMMANDS, "gan train", cli.Command("dreams:train", "dream"))
    assert cli.main(["gan", "train", "--steps", "3"]) == 0
    assert capsys.readouterr().out == "dreamt 3\n"
    assert cli.main(["gan"]) == 2


def run_python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    source = str(Path(stagepose.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONWARNINGS": "error"}
    return subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True,
                          timeout=120, **options)


def test_predict_imports_neither_torch_nor_evaluation() -> None:
    done = run_python(
        "import sys; from stagepose import cli\n"
        "assert not {'numpy', 'cv2', 'onnxruntime', 'tyro'} & set(sys.modules), 'for --help'\n"
        "code = cli.main(sys.argv[1:])\n"
        "assert not {'torch', 'faster_coco_eval', 'scipy', 'matplotlib', 'onnx'} & set(sys.modules)\n"
        "sys.exit(code)", "predict", "two.png", *MODELS)
    assert done.returncode == 0, done.stderr


def test_rendering_starts_without_a_runtime_for_models() -> None:
    done = run_python("import stagepose.commands.render, sys; assert not {'torch', 'onnxruntime'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr


def test_the_runtime_for_models_tells_nobody() -> None:
    """ONNX Runtime's telemetry begins with a file in the user's cache."""
    Path("home").mkdir()
    done = run_python("import os, sys\n"
                      "for name in ('ORT_DISABLE_TELEMETRY', 'CI', 'XDG_CACHE_HOME'): os.environ.pop(name, None)\n"
                      "os.environ['HOME'] = os.path.abspath(sys.argv[1])\n"
                      "import stagepose; stagepose.load(threads=1)", "home")
    assert (done.returncode, list(Path("home").iterdir())) == (0, []), done.stderr


def test_the_package_is_the_command_line_too() -> None:
    done = run_python("import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('stagepose', run_name='__main__')",
                      "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"stagepose {stagepose.__version__}\n", "")


def test_nobody_reading_on_is_no_traceback() -> None:
    done = run_python("import sys, os; from stagepose import cli\n"
                      "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
                      "sys.exit(cli.main(['--help']))")
    assert done.stderr == "" and done.returncode == 1


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_traceback(closed: tuple[int, ...]) -> None:
    code = (f"import os, sys\nfor number in {closed}: os.close(number)\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'stagepose.cli', *sys.argv[1:]])")
    done = run_python(code, "predict", "two.png", "-", *MODELS, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    images = read("out/images.json")
    assert [image["file_name"] for image in images["images"]] == ["two.png"] and images["complete"]
    assert len(images["failed"]) == 1 and (0 not in closed or "input is closed" in images["failed"][0]["error"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["predict", "two.png", *MODELS]])
def test_a_full_disk_behind_stdout_is_one_error(words: list[str]) -> None:
    done = run_python("import os, sys; from stagepose import cli\n"
                      "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
                      "sys.exit(cli.main(sys.argv[1:]))", *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "error: standard output: No space left on device"


@pytest.mark.parametrize("words", [["check", "y" * 300], ["info", "y" * 300], ["stats", "y" * 300],
                                   ["predict", "two.png", "--pose", "y" * 300]])
def test_what_the_system_refuses_is_one_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and "File name too long" in err


def test_a_folder_that_takes_no_file_is_refused_before_the_work(monkeypatch: pytest.MonkeyPatch,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr("stagepose.commands.finding.load", pytest.fail)
    assert predict("two.png", "--json-only") == 1
    assert capsys.readouterr().err.startswith("error: out/people.json: cannot write: Permission denied")


# --- predict


def test_predict_leaves_people_images_and_overlays(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("two.png", "one.jpg") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"two\.png: person 1: score 0\.\d{3}, box 42 52 119 159, 3 of 3 joints\n"
        r"two\.png: person 2: score 0\.\d{3}, box 200 72 271 199, 3 of 3 joints\n"
        r"one\.jpg: person 1: score 0\.\d{3}, box \d+ \d+ \d+ \d+, 3 of 3 joints\n", out)
    assert err == "2 photos, 3 people; written to out\n"
    assert files_in("out") == ["images.json", "one.pose.jpg", "people.json", "two.pose.png"]
    people, images = read("out/people.json"), read("out/images.json")
    assert [p["image_id"] for p in people] == [1, 1, 2] and {p["category_id"] for p in people} == {1}
    assert [p["file_name"] for p in people] == ["two.png", "two.png", "one.jpg"] and "bbox" not in people[0]
    np.testing.assert_allclose(np.reshape(people[0]["keypoints"], (3, 3))[:, :2], TWO[0], atol=2)
    assert people[0]["box"] == [42, 52, 119, 159]
    assert images["complete"] is True and images["failed"] == [] and images["images"][0] == {
        "id": 1, "file_name": "two.png", "width": 320, "height": 240, "people": 2, "overlay": "two.pose.png"}
    assert images["keypoints"] == list(TOY.names)
    overlay = np.asarray(Image.open("out/two.pose.png"))
    assert overlay.shape == (240, 320, 3) and (overlay != dots(TWO)).any()


def test_predict_writes_a_table_of_the_same_people() -> None:
    Path("two.png").rename("zwei, größer\n.png")
    Image.fromarray(dots([])).save("nobody.png")
    assert predict("zwei, größer\n.png", "one.jpg", "nobody.png", "--csv", "--json-only") == 0
    assert files_in("out") == ["images.json", "people.csv", "people.json"]
    with Path("out/people.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    people = read("out/people.json")
    assert [(row["file_name"], row["person"]) for row in rows] == [
        ("zwei, größer\n.png", "1"), ("zwei, größer\n.png", "2"), ("one.jpg", "1")]
    for row, person in zip(rows, people, strict=True):
        assert int(row["image_id"]) == person["image_id"] and float(row["score"]) == round(person["score"], 4)
        assert [float(row[edge]) for edge in ("x1", "y1", "x2", "y2")] == person["box"]
        triples = [[float(row[f"{name}_{what}"]) for what in ("x", "y", "score")] for name in TOY.names]
        np.testing.assert_allclose(triples, np.reshape(person["keypoints"], (3, 3)), atol=0.006)


def test_unsure_joints_are_empty_cells() -> None:
    assert predict("two.png", "--csv", "--json-only") == 0
    with Path("out/people.csv").open(newline="") as file:
        all_rows = list(csv.DictReader(file))
    scores = sorted(float(row[f"{name}_score"]) for row in all_rows for name in TOY.names)
    least = str(scores[len(scores) // 2])
    assert scores[0] < float(least) and predict("two.png", "--csv", "--json-only", "--csv-threshold", least) == 0
    with Path("out/people.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, whole in zip(rows, all_rows, strict=True):
        unsure = {f"{name}_{what}" for name in TOY.names for what in ("x", "y") if whole[f"{name}_score"] < least}
        assert row == {column: "" if column in unsure else cell for column, cell in whole.items()}


def test_a_table_of_an_earlier_run_does_not_stay_beside_newer_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("two.png", "--csv", "--json-only") == 0
    assert predict("one.jpg", "--json-only") == 0
    assert files_in("out") == ["images.json", "people.json"]
    assert "out/people.csv, of an earlier run, removed; --csv writes one of this run\n" in capsys.readouterr().err
    Path("out/people.csv").write_text("name,age\nAda,36\n")  # somebody's own
    assert predict("one.jpg", "--json-only") == 0
    assert Path("out/people.csv").read_text() == "name,age\nAda,36\n" and "removed" not in capsys.readouterr().err


def test_a_box_billions_of_pixels_away_is_named_and_its_photo_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image_id": 1, "category_id": 1, "file_name": "one.jpg", "bbox": [5e9, 0, 50, 90], "score": 1},
            {"image_id": 2, "category_id": 1, "file_name": "two.png", "bbox": BOXES_XYWH[0], "score": 1}]
    Path("boxes.json").write_text(json.dumps(rows))
    assert predict("one.jpg", "two.png", "--boxes", "boxes.json") == 0
    assert "skipped: one.jpg: box [5e+09, 0, 5e+09, 90] reaches more" in capsys.readouterr().err
    assert [person["file_name"] for person in read("out/people.json")] == ["two.png"]


@pytest.mark.parametrize("words", [["eval", "set/person_keypoints.json", "--results", "none.json"],
                                   ["analyze", "set/person_keypoints.json", "--results", "none.json"],
                                   ["compare", "none.json", "none.json", "--truth", "set/person_keypoints.json"]])
def test_an_empty_list_of_results_is_judged_with_a_warning(words: list[str],
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    Path("none.json").write_text("[]")
    assert cli.main(words) == 0
    assert "warning: none.json is an empty list of results: nobody is found" in capsys.readouterr().err


def test_bad_photos_are_named_counted_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.jpg").write_bytes(Path("one.jpg").read_bytes()[:1500])
    Path("line\nbreak.png").write_text("no picture")
    assert predict("bad.jpg", "two.png", "none.png", "line\nbreak.png") == 0
    err = capsys.readouterr().err
    skipped = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 3 and err.count("\n") == 5 and "3 photos could not be used" in err
    assert any("bad.jpg" in line for line in skipped) and any("line\\nbreak.png" in line for line in skipped)
    assert {f["file_name"] for f in read("out/images.json")["failed"]} == {"bad.jpg", "none.png", "line\nbreak.png"}
    assert len(read("out/people.json")) == 2
    assert predict("bad.jpg", "two.png", "--strict") == 1
    assert len(read("out/people.json")) == 2  # the others are done all the same
    assert predict("bad.jpg") == 1 and read("out/people.json") == []


def test_a_mistyped_name_leaves_earlier_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("two.png") == 0
    before = {name: Path("out", name).read_bytes() for name in files_in("out")}
    capsys.readouterr()
    assert predict("tow.png", "*.jpeg") == 1
    *skipped, last = capsys.readouterr().err.splitlines()
    assert len(skipped) == 2 and last == "nothing to process; out is left as it was"
    assert {name: Path("out", name).read_bytes() for name in files_in("out")} == before
    assert cli.main(["predict", "tow.png", *MODELS[:-1], "new/er"]) == 1 and not Path("new").exists()


def test_folders_and_globs_and_names_that_clash(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b/deep"):
        Path(folder).mkdir(parents=True)
        Image.fromarray(dots(ONE)).save(f"{folder}/same.png")
    Image.fromarray(dots(TWO)).save("a/Same.PNG")
    Image.fromarray(dots(TWO)).save("a/same.jpeg")
    Image.fromarray(dots(TWO)).save("a/same.jpg")
    assert predict("a", "b", "a/s*.png", "t*.png") == 0
    images = read("out/images.json")["images"]
    assert [i["file_name"] for i in images] == [
        "a/Same.PNG", "a/same.jpeg", "a/same.jpg", "a/same.png", "b/deep/same.png", "two.png"]
    overlays = [i["overlay"] for i in images]
    assert len({o.lower() for o in overlays}) == 6 and all(Path("out", o).is_file() for o in overlays)
    assert [i["people"] for i in images] == [2, 2, 2, 1, 1, 2]


def test_no_photo_is_ever_written_over() -> None:
    Image.fromarray(dots(ONE)).save("two.pose.png")
    before = Path("two.pose.png").read_bytes()
    assert cli.main(["predict", "two.png", "two.pose.png", *MODELS, "--out", "."]) == 0
    assert Path("two.pose.png").read_bytes() == before
    assert [i["overlay"] for i in read("images.json")["images"]] == ["two-2.pose.png", "two.pose.pose.png"]


def test_the_overlay_of_a_photo_too_long_for_jpeg_is_a_png(capfd: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (66_000, 1)).save("strip.bmp")
    assert predict("strip.bmp") == 0
    assert "strip.bmp: nobody found" in capfd.readouterr().out
    assert read("out/images.json")["images"][0]["overlay"] == "strip.pose.png"
    assert stagepose.read_image("out/strip.pose.png").pixels.shape == (1, 66_000, 3)


def test_overlays_of_an_earlier_run_are_no_photos(capsys: pytest.CaptureFixture[str]) -> None:
    for out in (".", "results"):
        for _ in range(2):
            assert cli.main(["predict", ".", *MODELS, "--out", out]) == 0
            assert [i["file_name"] for i in read(f"{out}/images.json")["images"]][:2] == ["one.jpg", "two.png"]
        assert "2 overlays of an earlier run" in capsys.readouterr().err
        for overlay in Path(out).glob("*.pose.*"):
            overlay.unlink()
    assert cli.main(["predict", "two.png", *MODELS, "--out", "."]) == 0
    assert cli.main(["predict", "two.pose.png", *MODELS, "--out", "."]) == 0  # named outright
    assert [i["file_name"] for i in read("images.json")["images"]] == ["two.pose.png"]


def test_names_of_any_kind(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["ein Foto ü.png", "写真.png", "new\nline.png", "y" * 250 + ".png", "é" * 120 + ".png", "-dash.png"]
    for name in names:
        Image.fromarray(dots(ONE)).save(f"./{name}")
    assert predict(*[f"./{name}" for name in names]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == len(names) and "new\\nline.png: person 1" in out
    images = read("out/images.json")["images"]
    assert [Path(i["file_name"]).name for i in images] == names
    assert all(Path("out", i["overlay"]).is_file() for i in images)


def test_a_name_that_is_no_text_and_a_terminal_that_is_ascii() -> None:
    raw = b"caf\xe9.png"
    with open(raw, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.write(Path("two.png").read_bytes())
    code = "import sys; from stagepose import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = run_python(code, "predict", ".", *MODELS, cwd=os.getcwd())  # noqa: PTH109
    assert done.returncode == 0, done.stderr
    os.environ["PYTHONIOENCODING"] = "ascii"
    try:
        done = run_python(code, "predict", ".", *MODELS)
    finally:
        del os.environ["PYTHONIOENCODING"]
    assert done.returncode == 0 and "caf" in done.stdout, done.stderr


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("two.png").read_bytes())))
    assert predict("-", "one.jpg") == 0
    assert "<stdin>: person 2" in capsys.readouterr().out
    assert files_in("out") == ["images.json", "one.pose.jpg", "people.json", "stdin.pose.jpg"]


def test_standard_input_that_cannot_be_read_costs_no_other_photo(monkeypatch: pytest.MonkeyPatch,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    with Path("only_written").open("w") as stream, os.fdopen(os.dup(stream.fileno()), closefd=True) as closed:
        monkeypatch.setattr(sys, "stdin", closed)
        assert predict("-", "one.jpg") == 0
    assert "skipped: <stdin>: cannot be read: " in capsys.readouterr().err
    assert len(read("out/people.json")) == 1


def test_json_only() -> None:
    assert predict("two.png", "--json-only") == 0
    assert files_in("out") == ["images.json", "people.json"]
    assert "overlay" not in read("out/images.json")["images"][0]


def test_how_people_are_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("two.png") == 0
    plain, said = stagepose.read_image("out/two.pose.png").pixels, capsys.readouterr().out
    assert predict("two.png", "--colours", "person") == 0
    assert (stagepose.read_image("out/two.pose.png").pixels != plain).any()
    assert capsys.readouterr().out == said
    assert predict("two.png", "--labels", "none") == 0
    unnamed = stagepose.read_image("out/two.pose.png").pixels
    assert predict("two.png", "--labels", "score") == 0
    assert 0 < (unnamed != plain).sum() < (stagepose.read_image("out/two.pose.png").pixels != unnamed).sum()
    capsys.readouterr()
    assert predict("two.png", "--joint-threshold", "1") == 0
    assert "0 of 3 joints" in capsys.readouterr().out
    bare = stagepose.read_image("out/two.pose.png").pixels
    photo = stagepose.read_image("two.png").pixels
    assert (bare != photo).any(axis=2).sum() < (plain != photo).any(axis=2).sum()
    assert predict("two.png", "--joint-threshold", "-0.1") == cli.USAGE


def test_nobody_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(dots([])).save("empty.png")
    assert predict("empty.png") == 0
    out, err = capsys.readouterr()
    assert out == "empty.png: nobody found\n" and "1 photo without people" in err
    assert read("out/people.json") == [] and read("out/images.json")["images"][0]["people"] == 0


def test_settings_reach_the_predictor(capsys: pytest.CaptureFixture[str]) -> None:
    for options, people in ((["--threshold", "0.85"], 1), (["--max-people", "1"], 1), (["--keep", "1"], 1),
                            (["--flip", "--batch", "1"], 2)):
        assert predict("two.png", *options) == 0
        assert len(read("out/people.json")) == people
    assert predict("two.png", "--max-pixels", "100") == 1
    assert "raise max_pixels" in capsys.readouterr().err
    assert predict("two.png", "--keep", "1", "--keep-by", "size", "--json-only") == 0
    assert read("out/people.json")[0]["box"] == [200, 72, 271, 199]
    assert predict("two.png", "--keep-by", "size") == 1
    assert "keep_by is 'size', which says whom to keep; give keep a number" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code", "last"), [
    (KeyboardInterrupt(), 130, "interrupted"), (ModelError("it broke"), 1, "error: it broke"),
    (StagePoseError("disk full"), 1, "error: disk full"),
])  # fmt: skip
def test_a_run_that_is_stopped_leaves_what_it_found(error: BaseException, code: int, last: str,
                                                    monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(dots(ONE)).save("last.png")
    stop_at("last.png", error, monkeypatch)
    assert predict("two.png", "one.jpg", "none.png", "last.png") == code
    images = read("out/images.json")
    assert images["complete"] is False and len(images["images"]) == 2 and len(images["failed"]) == 1
    assert len(read("out/people.json")) == 3
    stopped, said = capsys.readouterr().err.splitlines()[-2:]
    assert stopped == ('stopped after 2 of 3 photos; what was found in them is written to out, marked "complete": '
                       "false; --resume continues from there")
    assert said == last


def test_a_stopped_run_that_cannot_write_says_why_it_stopped(monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> None:
        raise StagePoseError("out/people.json: disk full")

    stop_at("one.jpg", KeyboardInterrupt(), monkeypatch)
    monkeypatch.setattr("stagepose.commands.outcome.write_results", full)
    assert predict("two.png", "one.jpg") == 130
    err = capsys.readouterr().err
    assert "what was found cannot be written: out/people.json: disk full" in err and err.endswith("interrupted\n")


def test_models_are_opened_before_any_photo(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "none.jpg", "none.png", "--pose", "missing.onnx"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: model 'missing.onnx'") and err.count("\n") == 1


def test_an_unusable_output_folder_is_said_first(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("in the way")
    assert cli.main(["predict", "two.png", "--pose", "none.onnx", "--out", "file/out"]) == 1
    assert capsys.readouterr().err.startswith("error: file/out: cannot make this folder")


# --- image ids and --boxes


def test_image_ids_are_the_names_numbers_where_they_differ() -> None:
    assert [number_in(n) for n in ("a/000000000139.jpg", "COCO_val2014_000000000042.jpg", "img.jpg", "0.jpg", "7up.jpg",
                                   "9" * 30 + ".jpg", "٣.jpg")] == [139, 42, None, None, None, None, None]
    assert image_ids(["9.jpg", "x7.jpg"]) == [9, 7]
    assert image_ids(["x.jpg", "y.jpg"]) == [1, 2]
    assert image_ids([]) == []


def test_a_photo_without_an_id_leaves_the_others_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert image_ids(["9.jpg", "x.jpg", "7.jpg", "y.jpg"]) == [9, 10, 7, 11]
    assert capsys.readouterr().err == "2 photos without an image id of their own: numbered from 10 on\n"
    assert image_ids(["a/9.jpg", "b/9.jpg", "8.jpg"]) == [10, 11, 8]  # nobody knows which of them is 9
    Image.fromarray(dots(ONE)).save("stranger.png")
    file = boxes_file("boxes.json", [{"image_id": 31, "file_name": "two.png", "bbox": BOXES_XYWH[0]},
                                     {"image_id": 40, "file_name": "elsewhere.png", "bbox": BOXES_XYWH[0]}])
    assert image_ids(["stranger.png", "two.png"], BoxFile.read(Path(file))) == [41, 31]
    capsys.readouterr()
    assert predict("stranger.png", "two.png", "--boxes", file) == 0
    assert [i["id"] for i in read("out/images.json")["images"]] == [31]
    assert "1 photo without an image id" in capsys.readouterr().err


def boxes_file(path: str, rows: list[dict[str, Any]]) -> str:
    Path(path).write_text(json.dumps([{"category_id": 1, "score": 0.9, **row} for row in rows]))
    return path


def test_boxes_and_a_detector_are_not_both_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "two.png", *MODELS, "--boxes", boxes_file("boxes.json", [])]) == 2
    assert "leave out --detector" in capsys.readouterr().err and not Path("out").exists()


def test_boxes_by_the_number_in_the_name() -> None:
    os.rename("two.png", "img_07.png")  # noqa: PTH104
    file = boxes_file("boxes.json", [{"image_id": 7, "bbox": BOXES_XYWH[1]},
                                     {"image_id": 7, "bbox": BOXES_XYWH[0], "score": 0.1}])
    assert predict("img_07.png", "--boxes", file) == 0
    [person] = read("out/people.json")
    assert person["image_id"] == 7 and person["box"] == [200, 72, 271, 199]
    np.testing.assert_allclose(np.reshape(person["keypoints"], (3, 3))[:, :2], TWO[1], atol=2)


def test_boxes_left_out_by_their_score_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image_id": number, "category_id": 1, "bbox": [33, 44, 64, 124], "score": score}
            for number, score in ((7, 0.9), (7, 0.3), (7, 0.1), (8, 0.2))]
    Path("boxes.json").write_text(json.dumps(rows))
    Image.fromarray(dots(ONE)).save("img_07.png")
    assert predict("img_07.png", "--boxes", "boxes.json") == 0
    said = "2 boxes of boxes.json left out, with a score below 0.5; --threshold 0 looks into all\n"
    assert said in capsys.readouterr().err
    assert predict("img_07.png", "--boxes", "boxes.json", "--threshold", "0.2") == 0
    assert "1 box of boxes.json left out, with a score below 0.2" in capsys.readouterr().err
    assert predict("img_07.png", "--boxes", "boxes.json", "--threshold", "0") == 0
    assert "left out" not in capsys.readouterr().err


def test_boxes_by_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    file = boxes_file("boxes.json", [{"image_id": 31, "file_name": "elsewhere/two.png", "bbox": BOXES_XYWH[0]}])
    assert predict("two.png", "--boxes", file) == 0
    assert [p["image_id"] for p in read("out/people.json")] == [31]
    assert predict("two.png", "one.jpg", "--boxes", file) == 0  # the one without an id is reported
    assert "one.jpg: boxes.json has no entry with this file_name" in capsys.readouterr().err
    Image.fromarray(dots(ONE)).save("8.png")
    assert predict("two.png", "8.png", "--boxes", file) == 0  # has an id, but no boxes: nobody
    assert "8.png: nobody found" in capsys.readouterr().out


def test_boxes_of_the_picture_of_that_path_or_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Two cameras count their pictures from 1."""
    for folder in ("data/cam1", "data/cam2", "data/new"):
        Path(folder).mkdir(parents=True)
        shutil.copy("two.png", f"{folder}/000001.png")
    file = boxes_file("boxes.json", [{"image_id": 1, "file_name": "cam1/000001.png", "bbox": BOXES_XYWH[0]},
                                     {"image_id": 1001, "file_name": "cam2/000001.png", "bbox": BOXES_XYWH[1]}])
    assert predict("data/cam2", "--boxes", file) == 0
    [person] = read("out/people.json")
    assert (person["image_id"], person["box"]) == (1001, [200, 72, 271, 199])
    assert predict("data", "--boxes", file) == 0  # the new camera's, which could be either's, are nobody's
    assert [p["image_id"] for p in read("out/people.json")] == [1, 1001]
    said = "data/new/000001.png: boxes.json has several pictures called 000001.png; name the photo by as much of its"
    assert said in capsys.readouterr().err
    file = boxes_file("boxes.json", [{"image_id": 1, "bbox": BOXES_XYWH[0]}])
    assert predict("data/cam1", "data/cam2", "--boxes", file) == 1
    said = "its boxes of image 1 could be those of data/cam1/000001.png and of data/cam2/000001.png; give its entries a"
    assert said in capsys.readouterr().err
    assert predict("data/cam1", "--boxes", file) == 0


def test_boxes_that_could_be_of_two_pictures_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(file: str, said: str) -> None:
        assert predict("one.jpg", "two.png", "--boxes", file) == 1
        assert capsys.readouterr().err == (f"error: {file}: {said}; give every picture one image_id and one file_name, "
                                           "which no other has\n")

    row = {"image_id": 1, "file_name": "two.png", "bbox": BOXES_XYWH[0]}
    refused(boxes_file("boxes.json", [{**row, "file_name": "one.jpg"}, row]), "image 1 is one.jpg and two.png")
    refused(boxes_file("boxes.json", [row, {**row, "image_id": 2}]), "two.png is image 1 and image 2")
    data = tiny_dict(images=2)
    for image in data["images"]:
        image["file_name"] = "two.png"
    Path("truth.json").write_text(json.dumps(data))
    one, other = (image["id"] for image in data["images"])
    refused("truth.json", f"two.png is image {one} and image {other}")


def test_pictures_of_a_folder_that_are_not_read_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    Path("phone").mkdir()
    shutil.copy("two.png", "phone/two.png")
    Path("phone/one.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    assert predict("phone") == 0
    assert "phone/one.HEIC: is HEIC, not a picture this reads; convert it to JPEG" in capsys.readouterr().err
    assert predict("phone", "--strict") == 1


def test_boxes_of_annotations() -> None:
    data = tiny_dict(images=1)
    data["images"][0]["file_name"] = "two.png"
    for annotation, box in zip(data["annotations"], BOXES_XYWH, strict=True):
        annotation["bbox"] = box
    data["images"][0] |= {"width": 320, "height": 240}
    Path("truth.json").write_text(json.dumps(data))
    assert predict("two.png", "--boxes", "truth.json") == 0
    assert len(read("out/people.json")) == 2


def test_boxes_of_other_photos_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    file = boxes_file("boxes.json", [{"image_id": 7, "bbox": BOXES_XYWH[0]}])
    Image.fromarray(dots(ONE)).save("8.png")
    assert predict("8.png", "--boxes", file) == 1
    assert "has boxes for none of the photos: its image ids begin [7], the photos' ids [8]" in capsys.readouterr().err
    Path("boxes.json").write_text("[1, 2]")
    assert predict("8.png", "--boxes", file) == 1
    assert predict("8.png", "--boxes", "none.json") == 1


# --- check, stats, split, eval


def test_check_of_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    assert cli.main(["check", "set/person_keypoints.json"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err == "set/person_keypoints.json: 0 errors, 0 warnings\n"


def test_check_of_a_bad_file_and_its_clean_copy(capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny_dict()
    data["annotations"][0]["keypoints"] = data["annotations"][0]["keypoints"][:48]
    data["annotations"][1]["bbox"] = [1, 2, -3, 4]
    Path("bad.json").write_text(json.dumps(data))
    assert cli.main(["check", "bad.json"]) == 1
    out, err = capsys.readouterr()
    assert "error: 1 x keypoints-count" in out and "48 numbers" in out
    assert "pictures not looked at" in err and "bad.json: 2 errors, 0 warnings" in err
    assert cli.main(["check", "bad.json", "--write-clean", "clean.json"]) == 0
    assert "dropped" in capsys.readouterr().out
    assert cli.main(["check", "clean.json"]) == 0
    assert cli.main(["check", "bad.json", "--write-clean", "bad.json"]) == 1
    assert "is one of the files read" in capsys.readouterr().err
    assert len(read("bad.json")["annotations"]) == 8


def test_check_looks_at_pictures_and_the_other_half(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    Path("set/images/000000000001.png").unlink()
    assert cli.main(["check", "set/person_keypoints.json"]) == 1
    assert "1 x image-missing" in capsys.readouterr().out
    assert cli.main(["check", "set/person_keypoints.json", "--images", "nowhere"]) == 1
    assert "error: nowhere: no such folder" in capsys.readouterr().err
    Path("half.json").write_text(json.dumps(tiny_dict(images=1)))
    assert cli.main(["check", "half.json", "--against", "set/person_keypoints.json"]) == 1
    assert "1 x overlap" in capsys.readouterr().out


def test_stats_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.json").write_text(json.dumps(tiny_dict(images=3)))
    Path("b.json").write_text(json.dumps(tiny_dict(images=1, people=1)))
    assert cli.main(["stats", "a.json", "b.json"]) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["set", "images", "with", "keypoints", "people", "keypoints"]
    assert first.split()[:4] == ["a.json", "3", "3", "6"] and second.split()[:4] == ["b.json", "1", "1", "1"]


def test_split_makes_two_halves(capsys: pytest.CaptureFixture[str]) -> None:
    Path("all.json").write_text(json.dumps(tiny_dict(images=5)))
    assert cli.main(["split", "all.json", "--count", "2", "--out", "halves"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["train-val", "3"], ["mini-val", "2"]]
    train, mini = read("halves/train-val.json"), read("halves/mini-val.json")
    assert not {i["id"] for i in train["images"]} & {i["id"] for i in mini["images"]}
    assert cli.main(["split", "all.json", "--minival", "halves/mini-val.json", "--out", "again"]) == 0
    assert read("again/train-val.json")["images"] == train["images"]
    assert cli.main(["split", "halves/train-val.json", "--count", "1", "--out", "halves"]) == 1
    assert read("halves/train-val.json") == train


ONLY_NUMBERS = ("--bootstrap", "0")
EVAL = ("eval", "set/person_keypoints.json", "--pose", "coco.onnx", "--threads", "1", *ONLY_NUMBERS)


def test_eval_prints_ten_numbers_and_those_of_parts(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    assert cli.main([*EVAL, "--out", "results.json"]) == 0
    out, err = capsys.readouterr()
    numbers, parts = out.split("\n\n")
    assert len(numbers.splitlines()) == 11 and numbers.splitlines()[1].startswith("keypoints  AP .50:.95")
    assert [line.split()[:2] for line in parts.splitlines()[1:3]] == [["keypoint", "nose"], ["keypoint", "left_eye"]]
    assert {line.split()[0] for line in parts.splitlines()[1:]} == {"keypoint", "size", "overlap", "labelled"}
    assert "8 results for 8 people in 4 images" in err
    assert len(read("results.json")) == 8
    ready = ["eval", "set/person_keypoints.json", "--results", "results.json"]
    assert cli.main([*ready, *ONLY_NUMBERS]) == 0
    assert capsys.readouterr().out == out
    assert cli.main([*ready, "--bootstrap", "100", "--json", "numbers.json"]) == 0
    assert re.search(r"AR .75 +0\.\d{3}  0\.\d{3} to 0\.\d{3}", capsys.readouterr().out)
    assert read("numbers.json")["keypoints"]["people"] == 8
    assert set(read("numbers.json")["by"]) == {"keypoint", "size", "overlap", "labelled"}
    assert read("numbers.json")["pck"]["all"]["labelled"] > 100


@pytest.mark.parametrize(("words", "printed"), [
    (EVAL, "keypoints  AP .50:.95"), (("eval-detector", EVAL[1], "--detector", "detector.onnx"), "person boxes  AP"),
    (("analyze", *EVAL[1:]), "inversion"),
])  # fmt: skip
def test_a_full_disk_costs_no_numbers_that_long_work_has_found(words: tuple[str, ...], printed: str,
                                                               monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    tiny_coco(Path("set"))
    monkeypatch.setattr(os, "fsync", full)
    assert cli.main([*words, "--out", "there"]) == 1
    out, err = capsys.readouterr()
    assert printed in out and err.splitlines()[-1].startswith("error: there") and "disk full" in err


def test_eval_says_how_far_joints_are_off_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    perfect = [{"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
               for a in tiny_dict()["annotations"][:-1]]
    Path("perfect.json").write_text(json.dumps(perfect))
    ready = ["eval", "set/person_keypoints.json", "--results", "perfect.json", *ONLY_NUMBERS]
    assert cli.main(ready) == 0
    plain = capsys.readouterr().out
    assert cli.main([*ready, "--pck"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(plain + "\n") and "1 of 8 people have no result" in err
    heading, everybody, nose, *_ = out.removeprefix(plain + "\n").splitlines()
    assert " ".join(heading.split()) == "keypoint labelled missed median px median % PCK .05 PCK .1 PCK .2"
    assert everybody.split()[0] == "all" and nose.split() == ["nose", "8", "1", "0.0", "0.0", *["0.875"] * 3]


def test_eval_with_a_detector_judges_its_boxes_too(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    told = ["--boxes", "detector", "--detector", "detector.onnx", "--flip", "--json", "numbers.json"]
    assert cli.main([*EVAL, *told]) == 0
    assert read("numbers.json")["person boxes"]["people"] == 8
    out = capsys.readouterr().out
    assert "person boxes  AP .50:.95" in out and "person boxes  recall .50" in out


def test_eval_without_the_library_for_boxes_still_judges_keypoints(monkeypatch: pytest.MonkeyPatch,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert cli.main([*EVAL, "--boxes", "detector", "--detector", "detector.onnx"]) == 0
    out, err = capsys.readouterr()
    assert "keypoints  AP .50:.95" in out and "person boxes not judged: judging boxes needs faster-coco-eval" in err


def test_eval_with_a_box_file(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    rows = [{"image_id": a["image_id"], "bbox": a["bbox"]} for a in tiny_dict()["annotations"][:3]]
    assert cli.main([*EVAL, "--boxes", boxes_file("boxes.json", rows)]) == 0
    assert "3 results for 8 people" in capsys.readouterr().err
    assert cli.main([*EVAL, "--boxes", boxes_file("more.json", [*rows, {"image_id": 99, "bbox": [1, 1, 9, 9]}])]) == 0
    err = capsys.readouterr().err
    assert "1 images of more.json are not in this set: left out" in err and "3 results for 8 people" in err
    assert cli.main([*EVAL, "--boxes", "grond-truth"]) == 1
    assert "neither a file nor one of ('ground-truth', 'detector')" in capsys.readouterr().err


def test_boxes_of_other_categories_are_counted_and_alone_refused(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(tiny_coco(Path("set")).read_text())
    rows = [{"image_id": a["image_id"], "bbox": a["bbox"]} for a in data["annotations"][:3]]
    data["categories"] = [{"id": 1, "name": "ball"}, {**data["categories"][0], "id": 3}]
    data["annotations"] = [{**row, "category_id": 3} for row in data["annotations"]]
    Path("set/person_keypoints.json").write_text(json.dumps(data))
    balls = [{**row, "category_id": category} for row, category in zip(rows, (1, 1, 7), strict=True)]
    for listed, passed in (([*({**row, "category_id": 3} for row in rows), *balls], True), (rows, False)):
        assert cli.main([*EVAL, "--boxes", boxes_file("boxes.json", listed)]) == 0  # our own are all of category 1
        err = capsys.readouterr().err
        assert "3 results for 8 people" in err
        assert ("3 boxes of boxes.json passed over, of other categories than the people's" in err) is passed
    others = boxes_file("others.json", balls[2:])
    for words in (EVAL, ["predict", "two.png", "--pose", "pose.onnx"]):
        assert cli.main([*words, "--boxes", others]) == 1
        said = "error: others.json: none of its 1 boxes is a person's: their category ids are [7], expected "
        assert said in capsys.readouterr().err


def test_eval_detector_prints_boxes_recall_and_keypoints(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    Path("empty").mkdir()
    Image.new("RGB", (40, 30)).save("empty/nobody.png")
    ours = ("eval-detector", "set/person_keypoints.json", "--detector", "detector.onnx", "--threads", "1")
    assert cli.main([*ours, "--negatives", "empty", "--pose", "coco.onnx", "--out", "boxes.json"]) == 0
    out, err = capsys.readouterr()
    assert "person boxes  AP .50:.95" in out and "in a picture of nobody" in out and "share of it" in out
    assert "everybody" in out and "100 boxes kept, with keypoints" in out and "in 5 images" in err
    assert cli.main([*ours[:2], "--boxes", "boxes.json"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "kept" in line] == [
        line for line in out.splitlines() if "kept" in line]


def test_eval_detector_refuses_boxes_of_other_pictures_and_idle_options(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    ready = ("eval-detector", "set/person_keypoints.json", "--boxes")
    rows = [{"image_id": number, "bbox": [1, 1, 9, 9]} for number in (1, 99)]
    assert cli.main([*ready, boxes_file("some.json", rows)]) == 0
    assert "1 images of some.json are not in this set: left out" in capsys.readouterr().err
    assert cli.main([*ready, boxes_file("none.json", rows[1:])]) == 1
    assert "has boxes for none of the 4 images" in capsys.readouterr().err
    assert cli.main([*ready, "some.json", "--negatives", "empty"]) == 2
    assert "leave out --detector and --negatives" in capsys.readouterr().err
    assert cli.main([*ready, "some.json", "--flip"]) == 2
    assert "--flip is of a pose model; name one with --pose" in capsys.readouterr().err
    for words in (["--threads", "1"], ["--provider", "cuda"], ["--images", "set/images"]):
        assert cli.main([*ready, "some.json", *words]) == 2
        assert (f"--boxes without --pose looks at no picture and runs no model; leave out {words[0]}\n"
                in capsys.readouterr().err)
    assert cli.main([*ready, "some.json", "--pose", "coco.onnx", "--threads", "1"]) == 0


def test_eval_reads_what_predict_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    assert cli.main(["predict", "set/images", *MODELS, "--pose", "coco.onnx", "--threshold", "0"]) == 0
    assert cli.main(["eval", "set/person_keypoints.json", "--results", "out/people.json", *ONLY_NUMBERS]) == 0
    err = capsys.readouterr().err
    assert "8 results for 8 people in 4 images" in err and "bbox" not in err


def test_eval_of_another_skeleton_says_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    words = [w if w != "coco.onnx" else "pose.onnx" for w in EVAL]
    assert cli.main(words) == 0
    assert "'toy3' has 3 keypoints, the file 17: judged on the 1 that both have" in capsys.readouterr().err


def test_a_truth_that_names_no_keypoints_has_those_of_the_skeleton(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(tiny_coco(Path("set")).read_text())
    del data["categories"][0]["keypoints"], data["categories"][0]["skeleton"]
    for row in data["annotations"]:
        row |= {"keypoints": row["keypoints"][:9], "num_keypoints": sum(v > 0 for v in row["keypoints"][2:9:3])}
    Path("set/person_keypoints.json").write_text(json.dumps(data))
    perfect = [{"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
               for a in data["annotations"]]
    Path("perfect.json").write_text(json.dumps(perfect))
    Path("toy.json").write_text(json.dumps(TOY.to_json()))
    ready = ["eval", "set/person_keypoints.json", *ONLY_NUMBERS, "--results", "perfect.json", "--json", "numbers.json"]
    assert cli.main(ready) == 1
    err = capsys.readouterr().err
    assert "annotations have 9 numbers; only 51 need no names" in err and "or name them with --skeleton" in err
    assert cli.main([*ready, "--skeleton", "toy.json"]) == 0
    assert read("numbers.json")["keypoints"]["ap"] == pytest.approx(1)
    said = "set/person_keypoints.json names no keypoints: they are taken to be those of toy3, in its order\n"
    assert said in capsys.readouterr().err
    by = ["--truth", "set/person_keypoints.json", "--bootstrap", "100"]
    assert cli.main(["compare", "pose.onnx", "perfect.json", *by, "--threads", "1"]) == 0
    assert cli.main([w if w != "coco.onnx" else "pose.onnx" for w in EVAL]) == 0
    assert said in capsys.readouterr().err


def test_eval_says_by_which_sigmas_it_judges_keypoints_that_nobody_measured(capsys: pytest.CaptureFixture[str]) -> None:
    truth = tiny_coco(Path("set"))
    content = json.loads(truth.read_text())
    content["categories"][0]["keypoints"][0] = "snout"
    truth.write_text(json.dumps(content))
    Path("nobody.json").write_text("[]")
    assert cli.main(["eval", str(truth), "--results", "nobody.json", *ONLY_NUMBERS]) == 0
    assert "judged by a sigma of 0.05 for snout, whose own are not known" in capsys.readouterr().err


def test_eval_judges_by_the_models_own_sigmas(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    mine = replace(COCO_17, name="mine", sigmas=(0.9,) * 17)
    Path("mine.onnx").write_bytes(coco_bytes(skeleton=mine))
    Path("mine.json").write_text(json.dumps(mine.to_json()))
    assert cli.main([w if w != "coco.onnx" else "mine.onnx" for w in (*EVAL, "--out", "results.json")]) == 0
    of_model, err = capsys.readouterr()
    assert "judged by the sigmas of skeleton 'mine'" in err
    ready = ["eval", "set/person_keypoints.json", "--results", "results.json", *ONLY_NUMBERS]
    assert cli.main([*ready, "--skeleton", "mine.json"]) == 0
    assert capsys.readouterr().out == of_model
    assert cli.main(ready) == 0
    assert capsys.readouterr().out != of_model
    assert cli.main([*EVAL, "--skeleton", "mine.json"]) == 2
    assert "--skeleton goes with --results" in capsys.readouterr().err


def test_results_are_in_the_order_of_the_truths_file(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(tiny_coco(Path("set")).read_text())
    order = np.random.default_rng(0).permutation(17)
    perfect = [{"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
               for a in data["annotations"]]
    Path("ours.json").write_text(json.dumps(perfect))
    data["categories"][0] |= {"keypoints": [COCO_17.names[k] for k in order], "skeleton": []}
    for row in (*data["annotations"], *perfect):
        row["keypoints"] = np.reshape(row["keypoints"], (17, 3))[order].ravel().tolist()
    Path("set/person_keypoints.json").write_text(json.dumps(data))
    Path("theirs.json").write_text(json.dumps(perfect))
    ready = ["eval", "set/person_keypoints.json", *ONLY_NUMBERS, "--results"]
    for results, ap, told in ((["theirs.json"], 1, True), (["ours.json"], 0, True),
                              (["ours.json", "--skeleton", "coco17"], 1, False)):
        assert cli.main([*ready, *results, "--json", "numbers.json"]) == 0
        assert read("numbers.json")["keypoints"]["ap"] == pytest.approx(ap)
        assert (f"in the order of the truth's file, {COCO_17.names[order[0]]}, " in capsys.readouterr().err) is told
    assert cli.main(["analyze", *ready[1:], "theirs.json", "--out", "why"]) == 0
    assert read("why/analysis.json")["metrics"]["ap"] == pytest.approx(1)
    assert cli.main([*EVAL, "--out", "found.json"]) == 0
    assert "written to found.json, in the keypoint order of set/person_keypoints.json" in capsys.readouterr().err
    by = ["--truth", "set/person_keypoints.json", "--bootstrap", "100"]
    assert cli.main(["compare", "coco.onnx", "found.json", *by, "--threads", "1"]) == 0
    assert "coco.onnx and found.json are equal on every draw" in capsys.readouterr().out
    perfect[0]["keypoints"][0] = float("nan")
    Path("bad.json").write_text(json.dumps(perfect))
    assert cli.main([*ready, "bad.json"]) == 1
    assert f"{COCO_17.names[order[0]]} x is nan" in capsys.readouterr().err


@pytest.mark.parametrize("idle", [["--out", "o.json"], ["--boxes", "detector"], ["--flip"], ["--pose", "coco.onnx"],
                                  ["--images", "set"], ["--oks-nms", "none"], ["--max-people", "3"]])
def test_eval_of_results_refuses_what_it_would_ignore(idle: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["eval", "set.json", "--results", "results.json", *idle]) == 2
    err = capsys.readouterr().err
    assert err == f"error: --results judges what is there already, without a model; leave out {idle[0]}\n"


@pytest.mark.parametrize(("options", "named"), [
    (["--threshold", "0.2"], "--threshold"),
    (["--max-people", "3", "--detector", "d.onnx"], "--detector, --max-people"),
])
def test_eval_refuses_options_that_annotated_boxes_leave_no_sense(options: list[str], named: str,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*EVAL, *options]) == 2
    assert capsys.readouterr().err == ("error: the boxes of --boxes ground-truth are all looked at; leave out "
                                       f"{named}\n")


def test_eval_refuses_a_detector_beside_a_file_of_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*EVAL, "--boxes", "boxes.json", "--detector", "d.onnx", "--threshold", "0.2"]) == 2
    assert "the boxes of --boxes boxes.json come from no detector; leave out --detector\n" in capsys.readouterr().err


def test_eval_averages_several_models(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    assert cli.main([*EVAL, "--out", "one.json"]) == 0
    assert cli.main([*EVAL, "--pose", "coco.onnx", "coco.onnx", "--out", "twice.json"]) == 0
    assert read("twice.json") == read("one.json")
    capsys.readouterr()
    assert cli.main([*EVAL, "--pose", "coco.onnx", "pose.onnx"]) == 1
    assert "error: pose.onnx: its keypoints is ['nose', 'left_hand'" in capsys.readouterr().err


def test_eval_with_every_test_time_option_at_once() -> None:
    tiny_coco(Path("set"))
    options = ["--flip", "--scales", "0.9", "1", "1.2", "--soft-nms", "--rescoring", "mean-all", "--out", "r.json"]
    assert cli.main([*EVAL, *options]) == 0
    assert len(read("r.json")) == 8


def test_compare_tells_better_from_luckier(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    assert cli.main([*EVAL, "--out", "found.json"]) == 0
    perfect = [{"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
               for a in tiny_dict()["annotations"]]
    Path("perfect.json").write_text(json.dumps(perfect))
    capsys.readouterr()
    by = ["--truth", "set/person_keypoints.json", "--bootstrap", "100"]
    assert cli.main(["compare", "found.json", "perfect.json", *by]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 13 and "4 pictures are few" in err
    assert "perfect.json is better than found.json by" in out
    assert cli.main(["compare", "found.json", "perfect.json", *by, "--pck", "--json", "told.json"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines[12:16]] == [
        ["keypoint", "measure", "A"], ["all", "PCK", ".05"], ["all", "PCK", ".1"], ["all", "PCK", ".2"]]
    assert [line[0] for line in lines[16:33]] == list(COCO_17.names) and {line[2] for line in lines[16:33]} == {".1"}
    told = json.loads(Path("told.json").read_text())
    assert list(told["keypoints"]) == list(NUMBERS) and list(told["pck"]) == ["all", *COCO_17.names]
    assert [one["share"] for one in told["pck"]["nose"]] == [0.05, 0.1, 0.2]
    assert lines[13][3:6] == [f"{told['pck']['all'][0]['a']:.3f}", "1.000", f"{1 - told['pck']['all'][0]['a']:+.3f}"]
    assert lines[13][6:] == ["{:+.3f}".format(told["pck"]["all"][0]["interval"][0]), "to",
                             "{:+.3f}".format(told["pck"]["all"][0]["interval"][1])]
    assert told["keypoints"]["ap"]["b"] == 1 and told["b_ahead"] == 1
    assert cli.main(["compare", "found.json", "perfect.json", *by, "--json", "found.json"]) == 1
    assert "found.json: is one of the files read" in capsys.readouterr().err
    assert cli.main(["compare", "coco.onnx", "found.json", *by, "--threads", "1"]) == 0
    assert "coco.onnx and found.json are equal on every draw of these 4 pictures" in capsys.readouterr().out
    assert cli.main(["compare", "found.json", "perfect.json", *by, "--flip"]) == 2
    assert "two files of results need no model; leave out --flip" in capsys.readouterr().err
    assert cli.main(["compare", "coco.onnx", "pose.onnx", *by]) == 1
    assert "find different keypoints" in capsys.readouterr().err


def a_run(folder: str, seed: int, off: float) -> None:
    """A run folder as a training leaves it, in what comparing reads: everybody is found, off by so many pixels."""
    truth = tiny_dict()
    found = [{"image_id": a["image_id"], "category_id": 1, "score": 1.0,
              "keypoints": [x + off * (n % 3 == 0) for n, x in enumerate(a["keypoints"])]}
             for a in truth["annotations"]]
    Path(folder).mkdir(parents=True)
    Path(folder, "config.json").write_text(json.dumps(
        {"kind": "pose", "train": {"seed": seed}, "skeleton": COCO_17.to_json(), "val": "of other labels"}))
    KeypointResults(found, [image["id"] for image in truth["images"]]).write(Path(folder, "best_results.json"), 3)


def test_runs_are_compared_over_their_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    for seed, (off_a, off_b) in enumerate(((4, 1), (5, 2))):
        a_run(f"runs/old-{seed}", seed, off_a)
        a_run(f"runs/new-{seed}", seed, off_b)
    by = ["--truth", "set/person_keypoints.json", "--bootstrap", "100"]
    both = ["compare", "runs/old-1", "runs/old-0", "--against", "runs/new-0", "runs/new-1", *by]
    assert cli.main([*both, "--json", "told.json"]) == 0
    told = read("told.json")
    assert told["paired"] and told["a"] == ["runs/old-0", "runs/old-1"] and set(told["keypoints"]) == set(NUMBERS)
    assert told["keypoints"]["ap"]["over_pictures"] != told["keypoints"]["ap"]["interval"]
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 13 and "over pictures alone" in out.splitlines()[0]
    assert "(95 % interval for new - old over these 4 pictures and 2 seeds: " in out.splitlines()[-1]
    assert "runs of one seed are compared with each other" in err and "--val had other labels" in err
    assert cli.main([*both, "--pck"]) == 2
    assert "--pck compares one with another" in capsys.readouterr().err
    assert cli.main([*both, "--flip"]) == 2
    assert "results and runs need no model; leave out --flip" in capsys.readouterr().err
    assert cli.main(["compare", "runs/old-0", "runs/new-1", *by]) == 0
    out, err = capsys.readouterr()
    assert "new-1 is better than old-0 by" in out and "a better seed is better, too" in err
    shown = ["eval", "set/person_keypoints.json", "--results", "runs/old-0", *ONLY_NUMBERS, "--json", "e.json"]
    assert cli.main(shown) == 0
    assert 0 < read("e.json")["keypoints"]["ap"] < 1
    Path("found.json").write_text(json.dumps(read("runs/old-0/best_results.json")["results"]))
    capsys.readouterr()
    assert cli.main(["compare", "found.json", "--against", "runs/new-0", "runs/new-1", *by]) == 0
    assert "1 and 2 seeds" in capsys.readouterr().out


@pytest.mark.parametrize(("a", "b", "expected"), [
    (["runs/a-0", "runs/a-1"], ["runs/b-0", "runs/b-1"], ("a", "b")),
    (["runs/one stage/seed-0", "runs/one stage/seed-1"], ["runs/two/seed-0", "runs/two/seed-1"], ("one stage", "two")),
    (["x/found.json"], ["y/found.json"], ("x/found.json", "y/found.json")),
    (["r-0", "r-1"], ["r-2"], ("r", "r-2")),
    (["a", "b"], ["c", "d"], ("A", "B")),
    (["r/0", "r/1"], ["r/2", "r/3"], ("A", "B")),
])
def test_sides_have_the_names_that_tell_them_apart(a: list[str], b: list[str], expected: tuple[str, str]) -> None:
    assert titles(a, b) == expected


def test_runs_that_cannot_be_compared_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    tiny_coco(Path("other"), images=3)
    a_run("run", 0, 1)
    a_run("unjudged", 0, 1)
    Path("unjudged/best_results.json").unlink()
    Path("empty").mkdir()
    by = ["--truth", "set/person_keypoints.json"]
    for words, code, said in (
        (["run", "run", "--truth", "other/person_keypoints.json"], 1,
         "run: was judged on another validation set than other/person_keypoints.json: 3 of its 4 image ids are among "
         "the 3 there"),
        (["run", "unjudged", *by], 1, "unjudged: keeps no results of a validation (no best_results.json)"),
        (["empty", "run", *by], 1, "empty: a folder that is no run (no config.json)"),
        (["run", *by], 2, "1 given, expected A and B; several a side are A ... --against B ..."),
        (["run", "run", "--against", "run", *by], 2, "run is on one side twice"),
        (["run", "run", *by, "--skeleton", "coco17"], 2, "--skeleton goes with files of results; a model or a"),
    ):
        assert cli.main(["compare", *words]) == code
        err = capsys.readouterr().err
        assert f"error: {said}" in err and err.count("\n") == 1


def test_analyze_writes_a_page_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    assert cli.main([*EVAL, "--out", "found.json"]) == 0
    ready = ["analyze", "set/person_keypoints.json", "--results", "found.json", *ONLY_NUMBERS]
    capsys.readouterr()
    assert cli.main([*ready, "--gallery", "3", "--out", "why"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["joints", "count", "share"] and "Most is lost by" in out
    assert "written to why/report.html and analysis.json beside it" in err and "grey" not in err
    assert files_in("why") == ["analysis.json", "report.html"]
    assert len(read("why/analysis.json")["worst"]) == 3
    assert cli.main([*ready, "--images", "nowhere", "--out", "blind"]) == 0
    assert "16 pictures of the gallery left grey: not readable in nowhere" in capsys.readouterr().err
    assert cli.main([*ready, "--flip"]) == 2
    assert cli.main([*ready, "--gallery", "-1"]) == 1
    assert cli.main(["analyze", *EVAL[1:], "--flip", "--out", "live"]) == 0
    assert read("live/analysis.json")["of"] == "coco.onnx on person_keypoints.json"


def test_sigmas_of_two_labellings_are_those_that_eval_judges_by(capsys: pytest.CaptureFixture[str]) -> None:
    """Two labels 3, 4 pixels apart everywhere: sigma = 5 / sqrt(area 2 ln 2), of area 10,000 .0425."""
    data = tiny_dict(images=20)
    for annotation in data["annotations"]:
        annotation["area"] = 10_000.0
    Path("anna.json").write_text(json.dumps(data))
    for annotation in data["annotations"]:
        for k in range(17):
            if annotation["keypoints"][3 * k + 2]:
                annotation["keypoints"][3 * k] += 3
                annotation["keypoints"][3 * k + 1] += 4
    Path("ben.json").write_text(json.dumps(data))
    assert cli.main(["sigmas", "anna.json", "ben.json", "--out", "mine.toml"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == ["nose", "40", "40", "0.0425", "0.026"]
    assert err.startswith("40 people are labelled in both files, 40 of them with the same annotation id; 0 only in")
    assert err.endswith("written: mine.toml\n") and "warning" not in err
    mine = resolve("mine.toml")
    assert mine == replace(COCO_17, name="mine", sigmas=(0.0425,) * 17)
    Path("nobody.json").write_text("[]")
    judge = ["eval", "anna.json", "--results", "nobody.json", *ONLY_NUMBERS, "--skeleton", "mine.toml"]
    assert cli.main(judge) == 0
    assert "judged by the sigmas of skeleton 'mine'" in capsys.readouterr().err
    for out_file, told in (("mine.json", "known by its suffix .toml"), ("ben.json", "is one of the files read")):
        assert cli.main(["sigmas", "anna.json", "ben.json", "--out", out_file]) == 1
        assert told in capsys.readouterr().err
    assert cli.main(["sigmas", "anna.json", "anna.json", "--out", "same.toml"]) == 1
    assert "as if one was copied from the other. Give two people's labels" in capsys.readouterr().err
    assert not Path("same.toml").exists()


@pytest.mark.parametrize("verb", ["eval", "analyze"])
@pytest.mark.parametrize("images", [0, 2], ids=["no images", "nobody"])
def test_sets_without_anybody_are_judged_in_words(verb: str, images: int, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.json").write_text(json.dumps({**tiny_dict(images=images), "annotations": []}))
    Path("results.json").write_text("[]")
    assert cli.main([verb, "empty.json", "--results", "results.json"]) == 0
    out, err = capsys.readouterr()
    assert "no ground truth" in out and "0 results for 0 people" in err
    assert cli.main(["compare", "results.json", "results.json", "--truth", "empty.json"]) == 0
    assert "There is no ground truth to compare by." in capsys.readouterr().out


@pytest.mark.parametrize("words", [["eval", "none.json"], ["analyze", "none.json"],
                                   ["compare", "a.json", "b.json", "--truth", "none.json"]])
def test_draws_are_looked_at_before_any_file(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--bootstrap", "20"]) == 1
    assert capsys.readouterr().err.startswith("error: 20 resamples are too few")
    assert cli.main([*words, "--seed", "-1"]) == 1
    assert capsys.readouterr().err == "error: seed is -1, expected 0 or more\n"


def test_a_comparison_without_draws_is_not_told_to_draw_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a.json", "b.json", "--truth", "none.json", "--bootstrap", "0"]) == 1
    assert capsys.readouterr().err == "error: 0 resamples are too few for a 95 % interval; use 100 or more\n"


@pytest.mark.parametrize("words", [["eval", "--results"], ["analyze", "--results"], ["compare", "good.json"]])
def test_broken_results_are_refused_by_every_verb(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    tiny_coco(Path("set"))
    good = {"image_id": 1, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}
    bad = [{**good, "keypoints": [float("nan")] * 51}, {**good, "image_id": 9}, {**good, "score": "high"}]
    Path("good.json").write_text(json.dumps([good]))
    Path("bad.json").write_text(json.dumps(bad))
    verb, *options = words
    truth = ["--truth", "set/person_keypoints.json"] if verb == "compare" else ["set/person_keypoints.json"]
    assert cli.main([verb, *options, "bad.json", *truth]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: bad.json: 3 problems") and len(err.splitlines()) == 1
    assert "nose x is nan" in err and "image_id 9" in err and "score is 'high'" in err


@pytest.mark.parametrize(("options", "people"), [
    ([], 1), (["--rescoring", "mean-all"], 1), (["--rescoring", "megvii"], 2), (["--oks-nms", "none"], 2),
    (["--rescoring", "megvii", "--oks-nms", "0.9"], 1), (["--oks-nms", "1"], 2),
])  # fmt: skip
def test_eval_drops_nobody_where_the_rule_does_not(options: list[str], people: int) -> None:
    tiny_coco(Path("set"), images=1, people=1)
    box = tiny_dict(1, 1)["annotations"][0]["bbox"]
    nearly = [box[0] + 0.5, *box[1:]]
    file = boxes_file("boxes.json", [{"image_id": 1, "bbox": box}, {"image_id": 1, "bbox": nearly, "score": 0.5}])
    assert cli.main([*EVAL, "--boxes", file, "--out", "results.json", *options]) == 0
    assert len(read("results.json")) == people


# --- the console


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("what", "n"), [("a", "1"), ("longer", "1,000")])
    assert capsys.readouterr().out == "what        n\na           1\nlonger  1,000\n"


def test_the_counter_draws_only_on_terminals(monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    with console.counter("work") as step:
        step(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.counter("work") as step:
        step(1, 2)
        console.say("a line")
    assert "a line\n" in capsys.readouterr().out


def test_a_disk_that_is_full_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> None:
        raise StagePoseError("out/images.json: disk full, 1.0 MB needed; free some space")

    monkeypatch.setattr("stagepose.commands.outcome.write_json_object", full)
    assert predict("two.png") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_boxes_of_nobody_are_no_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("boxes.json").write_text("[]")
    assert predict("two.png", "--boxes", "boxes.json") == 1
    assert capsys.readouterr().err == ("error: boxes.json: holds no box of a person; leave --boxes out to have them "
                                       "found\n")
    box = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}
    Path("boxes.json").write_text(json.dumps([box]))
    assert predict("two.png", "--boxes", "boxes.json") == 1
    assert "its image ids begin [7], no photo's name ends in a number" in capsys.readouterr().err


def test_annotations_are_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    truth = tiny_coco(Path("set"))
    assert cli.main(["eval", str(truth), "--results", str(truth)]) == 1
    err = capsys.readouterr().err
    assert "an object with annotations, as a file of the truth is, expected a list of results" in err and len(err) < 250


@pytest.mark.parametrize("words", [["eval", "--json", "file/x.json"], ["eval", "--out", "set"],
                                   ["analyze", "--out", "file"], ["eval-detector", "--out", "file/boxes.json"]])
def test_where_results_cannot_go_is_said_before_anybody_looks(words: list[str], monkeypatch: pytest.MonkeyPatch,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] == "eval-detector":
        pytest.importorskip("faster_coco_eval")
    truth = tiny_coco(Path("set"))
    Path("file").write_text("mine")

    def looked(*_: Any) -> None:
        pytest.fail("somebody looked at a picture")

    for model in ("PoseModel", "DetectorModel"):
        monkeypatch.setattr(f"stagepose.runtime.{model}.__call__", looked)
    assert cli.main([words[0], str(truth), *words[1:]]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "cannot write" in err and Path("file").read_text() == "mine"


def test_what_predict_has_found_is_where_another_model_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("two.png", "one.jpg", "--json-only") == 0
    first = read("out/people.json")
    Path("out/people.json").rename("found.json")
    assert cli.main(["predict", "two.png", "one.jpg", "--pose", "pose.onnx", "--boxes", "found.json", "--json-only",
                     "--out", "again"]) == 0
    again = read("again/people.json")
    assert len(first) == 3 and [row["box"] for row in again] == [row["box"] for row in first]
    for mine, theirs in zip(again, first, strict=True):
        np.testing.assert_allclose(mine["keypoints"], theirs["keypoints"], atol=0.05)
    first[0]["box"] = [1, 2, 3]
    Path("bad.json").write_text(json.dumps(first))
    assert cli.main(["predict", "two.png", "--pose", "pose.onnx", "--boxes", "bad.json"]) == 1
    assert "result 0: bbox is" in capsys.readouterr().err
