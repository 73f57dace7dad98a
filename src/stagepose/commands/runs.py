"""``stagepose runs``: what several trainings have come to, a line a run, and in which settings they differ.

All of it is JSON, read without torch.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from stagepose.commands.arguments import AT_LEAST_ONE, OptionalFile
from stagepose.commands.console import counted, note, say, table
from stagepose.commands.spreadsheet import csv_line
from stagepose.errors import StagePoseError
from stagepose.files import require_place, write_chunks
from stagepose.lines import printable
from stagepose.runfiles import (
    BEST,
    BUDGET,
    CONFIG,
    STAGES,
    finished_stages,
    patience_is_out,
    read_object,
    read_optional,
    saved_steps,
)

DEEPEST = 4  # folders below a given one in which runs are looked for: an experiment's OUT/runs/ARM/seed-N is one
DIGEST, SHOWN_DIGEST = 64, 8  # letters of a sha256, and those of it that are shown
LONGEST = 24  # letters of a value in the table; --json and --csv have all
NOT_THERE = "-"  # what a run does not say: an older version wrote it
HEADINGS = ("run", "step", "samples", "AP", "AP50", "state")

Dirs = Positional[Annotated[list[Path], arg(metavar="DIR ...", help_behavior_hint=AT_LEAST_ONE)]]


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """One run folder: how far it is, how good its best validation was, and its settings by dotted name."""

    folder: Path
    step: int | None  # the newest checkpoint's
    samples: int | None  # shown until then
    ap: float | None
    ap50: float | None
    state: str
    finished: bool
    settings: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> RunLine:
        """:class:`StagePoseError` where a file of it is damaged."""
        config = read_object(folder / CONFIG)
        try:
            train = config["train"]
            steps, done = saved_steps(folder), finished_stages(folder)
            best = read_optional(folder / (f"{STAGES}/{done[-1]}.json" if done else BEST))
            step = int(steps[-1].name) if steps else None
            shown = _shown(steps[-1], train) if steps else None
            finished, state = _state(folder, config, done, shown)
            if not finished and not done and _has_lost_patience(train, best, step):
                finished, state = True, "stopped early"
            return cls(folder=folder, step=step, samples=shown, ap=_number(best, "ap"), ap50=_number(best, "ap50"),
                       state=state, finished=finished, settings=dict(_flat(config)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StagePoseError(f"{printable(folder)}: not a run that this version knows "
                                 f"({type(error).__name__}: {error})") from error

    def cells(self, settings: Iterable[str]) -> list[str]:
        """Of the table."""
        numbers = ["" if one is None else f"{one:.3f}" for one in (self.ap, self.ap50)]
        counts = ["" if one is None else f"{one:,}" for one in (self.step, self.samples)]
        return [printable(self.folder), *counts, *numbers, self.state,
                *(_text(self.settings.get(name, NOT_THERE)) for name in settings)]

    def to_json(self, settings: Iterable[str]) -> dict[str, Any]:
        """All of it, but only these of the settings."""
        return {"run": str(self.folder), "step": self.step, "samples": self.samples, "ap": self.ap, "ap50": self.ap50,
                "state": self.state, "finished": self.finished,
                "settings": {name: self.settings.get(name) for name in settings}}


def runs(dirs: Dirs, *, json: bool = False, csv: OptionalFile = None) -> None:
    """Show progress and accuracy of several training runs, one line each, and the settings in which they differ.

    AP is that of the best validation, or, for a stage-by-stage run, that of the last finished stage. A folder that is
    not a run is searched for runs. Damaged ones, and folders without any, are named and counted.

    Args:
        dirs: Run folders, or folders that contain some.
        json: Print JSON instead of a table.
        csv: Also write the table here, with every value in full.
    """
    if csv is not None:
        require_place(csv)
    lines, unread = read_runs(dirs)
    for why in unread:
        note(why)
    if unread:
        note(f"left out: {counted(len(unread), 'folder', 'folders')} without a run that can be read")
    if not lines:
        raise StagePoseError(f"no run in {', '.join(printable(path) for path in dirs)}; give folders that "
                             "'stagepose train --out' made")
    settings = differing([line.settings for line in lines])
    if csv is not None:
        write_chunks(csv, _csv(lines, settings))
    if json:
        say(json_module.dumps({"runs": [line.to_json(settings) for line in lines], "unread": unread}, indent=1))
        return
    table([*HEADINGS, *_headings(settings)], [line.cells(settings) for line in lines])
    if len(lines) > 1 and not settings:
        note("all settings are the same")


def read_runs(dirs: Sequence[Path]) -> tuple[list[RunLine], list[str]]:
    """The runs in these folders, each once; and why others could not be read."""
    lines: dict[Path, RunLine] = {}
    unread = []
    for given in dirs:
        found = list(_run_folders(given, DEEPEST))
        if not found:
            what = f"no run in it (no {CONFIG})" if given.is_dir() else "no such folder"
            unread.append(f"{printable(given)}: {what}")
        for folder in found:
            try:
                lines.setdefault(folder.resolve(), RunLine.read(folder))
            except StagePoseError as error:
                unread.append(str(error))
    return list(lines.values()), list(dict.fromkeys(unread))


def _run_folders(folder: Path, deepest: int) -> Iterator[Path]:
    """Itself, or those below it; what lies in a run, such as the runs of stages, is a part of it."""
    if (folder / CONFIG).is_file():
        yield folder
    elif deepest and folder.is_dir():
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _run_folders(inner, deepest - 1)


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names whose values are not the same in all, in the order in which they first come."""
    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if any(one.get(name, NOT_THERE) != settings[0].get(name, NOT_THERE)
                                          for one in settings[1:])]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; a skeleton is its name and, for those who call another so, a few letters of its own."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key == "skeleton" and isinstance(value, Mapping):
            yield name, f"{value['name']} ({len(value['names'])})"
            yield f"{name}.names", ",".join(value["names"])
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value, 1):
                yield from _flat(one, f"{name}.{number}.")
        else:
            yield name, value


def _shown(step: Path, train: Mapping[str, Any]) -> int:
    """Samples until a checkpoint; older ones do not say how many."""
    return int(read_optional(step / "state.json").get("samples", int(step.name) * int(train["batch"])))


def _state(folder: Path, config: Mapping[str, Any], stages: Sequence[int], shown: int | None) -> tuple[bool, str]:
    """Whether a run is at the end of its schedule, and that in words."""
    if config["kind"] == "stages":
        last, row = stages[-1] if stages else 0, int(config["row"])
        return last >= row, "finished" if last >= row else f"stage {last} of {row} done"
    if shown is None:
        return False, "no checkpoint yet"
    total = int(config["train"].get("samples") or read_optional(folder / BUDGET).get("samples", 0))
    if total and shown >= total:
        return True, "finished"
    return False, f"{shown / total:.0%} done" if total else "begun"


def _has_lost_patience(train: Mapping[str, Any], best: Mapping[str, Any], step: int | None) -> bool:
    """Whether so many validations in a row have not raised the AP as end a training."""
    patience, every = int(train.get("patience", 0)), int(train.get("evaluate_every", 0))
    return step is not None and "step" in best and patience_is_out(patience, every, step=step, best=int(best["step"]))


def _number(values: Mapping[str, Any], name: str) -> float | None:
    return float(values[name]) if values.get(name) is not None else None


def _headings(settings: Sequence[str]) -> list[str]:
    """Without the parts that the last word of a name can do without."""
    last = [name.rpartition(".")[2] for name in settings]
    return [short if last.count(short) == 1 else name for name, short in zip(settings, last, strict=True)]


def _text(value: Any) -> str:
    """A value in the table: one that is long is cut, and so is a digest."""
    if isinstance(value, str) and len(value) == DIGEST and value.isalnum():
        return value[:SHOWN_DIGEST]
    text = f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json_module.dumps(value)
    return printable(text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}...")


def _csv(lines: Iterable[RunLine], settings: Sequence[str]) -> Iterator[bytes]:
    yield csv_line([*HEADINGS, *settings])
    for line in lines:
        values = [line.settings.get(name) for name in settings]
        yield csv_line([str(line.folder), line.step, line.samples, line.ap, line.ap50, line.state,
                        *(one if isinstance(one, (str, int, float)) or one is None else json_module.dumps(one)
                          for one in values)])
