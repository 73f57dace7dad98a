"""What ``stagepose runs`` says of several run folders beside each other."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stagepose import cli

TRAIN = {"samples": 80, "batch": 4, "lr": 0.002, "seed": 0, "betas": [0.9, 0.999]}
SKELETON = {"name": "toy", "names": ["a", "b"]}


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def a_run(folder: str, step: int | None = None, ap: float | None = None, **train: Any) -> Path:
    """A run folder in what is read of it."""
    path = Path(folder)
    config = {"kind": "pose", "train": TRAIN | train, "skeleton": SKELETON, "init": "a" * 64,
              "data": [{"people": 9, "fingerprint": "f"}]}
    write(path / "config.json", config)
    if step is not None:
        write(path / f"steps/{step:09d}/MANIFEST.json", {})
        write(path / f"steps/{step:09d}/state.json", {"bad": 0, "samples": step * config["train"]["batch"]})
    if ap is not None:
        write(path / "best.json", {"step": step, "ap": ap, "ap50": ap + 0.2})
    return path


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def runs(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    assert cli.main(["runs", *words]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_line_a_run_and_only_the_settings_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    a_run("runs/a", 20, 0.5)
    a_run("runs/b", 10, 0.41234, lr=0.004, betas=[0.9, 0.99])
    a_run("runs/c", None, seed=1)
    out, err = runs(capsys, "runs/a", "runs/b", "runs/c", "--csv", "all.csv")
    assert err == ""
    rows = [line.replace(", ", ",").split() for line in out.splitlines()]
    assert rows[0] == ["run", "step", "samples", "AP", "AP50", "state", "lr", "seed", "betas"]
    assert rows[1] == ["runs/a", "20", "80", "0.500", "0.700", "finished", "0.002", "0", "[0.9,0.999]"]
    assert rows[2] == ["runs/b", "10", "40", "0.412", "0.612", "50%", "done", "0.004", "0", "[0.9,0.99]"]
    assert rows[3] == ["runs/c", "no", "checkpoint", "yet", "0.002", "1", "[0.9,0.999]"]
    with Path("all.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table[1]["AP"] == "0.41234" and table[1]["train.lr"] == "0.004" and table[2]["AP"] == ""
    told = json.loads(runs(capsys, "runs", "--json")[0])
    assert told["runs"][0]["finished"] and told["runs"][1]["settings"] == {
        "train.lr": 0.004, "train.seed": 0, "train.betas": [0.9, 0.99]}
    assert len(runs(capsys, "runs/a", "runs/b/../a")[0].splitlines()) == 2, "each once"


def test_settings_that_one_run_does_not_say_differ(capsys: pytest.CaptureFixture[str]) -> None:
    a_run("a", 20, 0.5)
    b = a_run("b", 20, 0.5, patience=3)
    write(b / "config.json", json.loads((b / "config.json").read_text()) | {"init": "b" * 64})
    out, _ = runs(capsys, "a", "b")
    assert [line.split()[-2:] for line in out.splitlines()] == [["init", "patience"], ["aaaaaaaa", "-"],
                                                                ["bbbbbbbb", "3"]]


def test_equal_settings_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    a_run("a", 20, 0.5)
    a_run("b", 20, 0.6)
    assert runs(capsys, "a", "b")[1] == "all settings are the same\n"


def test_what_cannot_be_read_is_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    a_run("runs/arm/seed-0", 20, 0.5)
    a_run("runs/arm/seed-1", 20)
    Path("runs/arm/seed-1/best.json").write_text("{")
    Path("photos").mkdir()
    write(Path("other/config.json"), {"kind": "pose"})
    out, err = runs(capsys, "runs", "photos", "other", "none")
    assert len(out.splitlines()) == 2
    assert "runs/arm/seed-1/best.json: not readable as a JSON object" in err
    assert "photos: no run in it (no config.json)\n" in err and "none: no such folder\n" in err
    assert "other: not a run that this version knows (KeyError: 'train')" in err
    assert "left out: 4 folders without a run that can be read" in err
    assert "error: no run in photos; give folders that" in runs(capsys, "photos", code=1)[1]


def test_minutes_and_stages_are_known_to_be_finished(capsys: pytest.CaptureFixture[str]) -> None:
    timed = a_run("timed", 20, samples=0, minutes=5.0)
    write(timed / "budget.json", {"samples": 160})
    staged = Path("staged")
    write(staged / "config.json", {"kind": "stages", "row": 2, "train": TRAIN, "skeleton": SKELETON})
    for stage, ap in ((1, 0.4), (2, 0.6)):
        (staged / "stages").mkdir(exist_ok=True)
        (staged / f"stages/{stage}.safetensors").touch()
        write(staged / f"stages/{stage}.json", {"ap": ap, "people": 9})
        a_run(f"staged/stages/{stage}", 20)
        told = [(one["state"], one["ap"]) for one in json.loads(runs(capsys, "timed", "staged", "--json")[0])["runs"]]
        assert told == [("50% done", None), ("stage 1 of 2 done" if stage == 1 else "finished", ap)]


def test_a_run_that_stopped_early_is_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    for folder, step in (("waits", 14), ("stopped", 15)):
        a_run(folder, step, patience=2, evaluate_every=5)
        write(Path(folder, "best.json"), {"step": 5, "ap": 0.5})
    lines = json.loads(runs(capsys, "waits", "stopped", "--json")[0])["runs"]
    told = [(one["state"], one["finished"]) for one in lines]
    assert told == [("70% done", False), ("stopped early", True)]


def test_it_needs_no_torch() -> None:
    a_run("a", 20, 0.5)
    code = ("import sys; from stagepose import cli; code = cli.main(['runs', 'a']); "
            "assert not {'torch', 'onnx', 'faster_coco_eval'} & set(sys.modules); sys.exit(code)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
