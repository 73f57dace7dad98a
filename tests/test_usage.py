"""Command lines that do not fit: one line each, whichever version of tyro found it out."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import tyro
from tyro import _errors
from tyro.conf import Positional

from stagepose import cli
from stagepose.commands import usage
from stagepose.commands.arguments import Folder, OksNms, OptionalCount, OptionalSize, OptionalSwitch


def walk(
    steps: Positional[Annotated[int, tyro.conf.arg(metavar="STEPS")]],
    *,
    out: Folder,
    speed: float = 1.0,
    size: OptionalSize = None,
    oks_nms: OksNms = "auto",
    gait: Literal["walk", "run"] = "walk",
    legs: OptionalCount = None,
    count: Annotated[int, tyro.conf.arg(name="n", metavar="N")] = 1,
    pauses: tuple[float, ...] = (1.0,),
    loud: OptionalSwitch = None,
    far_away: bool = False,
) -> int:
    """Walk somewhere.

    Args:
        out: Where to.
        speed: How fast.
        size: Of the shoes.
        oks_nms: Of the walker.
        gait: How.
        legs: How many.
        loud: Whether heard.
        count: How often.
        pauses: Between them.
        far_away: Not near.
    """
    return steps


ENOUGH = ["3", "--out", "there"]
WRONG = [
    (["--speed", "fast"], "--speed fast: expected a number"),
    (["--speed=fast"], "--speed fast: expected a number"),
    (["--speed", "2", "--speed", "fast"], "--speed fast: expected a number"),
    (["--speed"], "--speed: expected a number, got nothing"),
    (["--legs", "2.5"], "--legs 2.5: expected a whole number"),
    (["--n", "few"], "--n few: 'few' is no whole number; see walk --help"),
    (["--pauses", "1", "few"], "--pauses 1 few: expected numbers"),
    (["--size", "3"], "--size 3: expected two whole numbers"),
    (["--size", "3", "b"], "--size 3 b: expected two whole numbers"),
    (["--oks_nms", "never"], "--oks-nms never: expected a number or none"),
    (["--gait", "hop"], "--gait hop: expected run or walk"),
    (["--loud", "maybe"], "--loud maybe: expected False or True"),
    (["--sped", "2"], "no option --sped; did you mean --speed or --size?"),
    (["--far_awya"], "no option --far_awya; did you mean --far-away or --no-far-away?"),
    (["--xyzzy"], "no option --xyzzy; see walk --help"),
    (["--speed", "1", "2"], "'2' is one word too many; see walk --help"),
    (["--legs", "\x1b[31m"], r"--legs \x1b[31m: expected a whole number"),
]


@pytest.mark.parametrize(("words", "line"), WRONG)
def test_what_does_not_fit_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        usage.parse(walk, "walk", [*ENOUGH, *words])
    assert exit_.value.code == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")


@pytest.mark.parametrize(("words", "line"), [
    ([], "STEPS and --out DIR are missing; see walk --help"), (["3"], "--out DIR is missing; see walk --help"),
    (["3", "--oot", "there"], "no option --oot; did you mean --out?"),
    (["--out", "there", "--steps", "3"], "STEPS is missing; it stands without --steps: walk STEPS"),
    (["--steps=3", "--out", "there"], "STEPS is missing; it stands without --steps: walk STEPS"),
    (["--out", "there", "--sped", "3"], "STEPS is missing; see walk --help"),
    (["three", "--out", "there"], "STEPS: 'three' is no whole number; see walk --help"),
])  # fmt: skip
def test_what_is_missing_is_one_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        usage.parse(walk, "walk", words)
    assert capsys.readouterr() == ("", f"error: {line}\n")


def told_otherwise(register: Any, hook: Callable[[Any], None]) -> Any:
    """The hook of a tyro whose events are called the same and hold nothing that we know."""
    return register(lambda event: hook(type(type(event).__name__, (), {"argument": "legs"})()))


@pytest.mark.parametrize("words", [words for words, _ in WRONG])
@pytest.mark.parametrize("gone", ["hook", "what it tells"])
def test_another_tyro_still_says_it_in_one_line(words: list[str], gone: str, capsys: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    if gone == "hook":
        monkeypatch.delattr("tyro._errors.on_parse_error")
    else:
        monkeypatch.setattr("tyro._errors.on_parse_error", partial(told_otherwise, _errors.on_parse_error))
    with pytest.raises(SystemExit) as exit_:
        usage.parse(walk, "walk", [*ENOUGH, *words])
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and not set(err) & set("│╭╯─")
    assert words[0].partition("=")[0].replace("_", "-") in err.replace("_", "-") or words[-1] in err


def test_what_fits_is_called_with_it_and_its_own_errors_stay_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    call = usage.parse(walk, "walk", ENOUGH)
    assert call() == 3

    def stumble(*, out: Path = Path("x")) -> int:
        """Fall."""
        raise ValueError("a stone")

    with pytest.raises(ValueError, match="a stone"):
        usage.parse(stumble, "stumble", [])()
    assert capsys.readouterr() == ("", "")


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        usage.parse(walk, "walk", ["--help"])
    out, err = capsys.readouterr()
    assert not exit_.value.code and "usage: walk" in out and err == ""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_help_in_a_terminal_has_styles_unless_no_color_is_set(no_color: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "stagepose", "stats", "--help"]
    with subprocess.Popen(command, stdout=theirs, env={**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}) as process:
        os.close(theirs)
        text = b""
        with suppress(OSError):  # how Linux tells that the other end is closed
            while part := os.read(ours, 4096):
                text += part
    os.close(ours)
    assert process.returncode == 0 and b"stats" in text and (b"\x1b[" in text) == (not no_color)


@pytest.mark.parametrize(("words", "line"), [
    (["predict", "a.jpg", "--thresold", "0.4"], "no option --thresold; did you mean --threshold or --csv-threshold?"),
    (["predict", "a.jpg", "--conf", "0.3"], "no option --conf; did you mean --threshold?"),
    (["predict", "a.jpg", "--device=0"], "no option --device; did you mean --provider?"),
    (["predict", "a.jpg", "--imgsz", "640"], "no option --imgsz; did you mean --tiles?"),
    (["predict", "--source", "a.jpg"],
     "no option --source; the photos are named without one: stagepose predict PHOTO ..."),
    (["stats", "a.json", "--input", "b.json"], "no option --input; see stagepose stats --help"),
    (["predict", "a.jpg", "--lables", "none"], "no option --lables; did you mean --labels or --tiles?"),
])  # fmt: skip
@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_command_line_says_it_so(words: list[str], line: str, columns: str, capsys: pytest.CaptureFixture[str],
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"error: {line}\n"
