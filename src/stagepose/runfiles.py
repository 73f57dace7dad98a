"""What lies in the folder of a training, and what its JSON says, for whoever looks at it, with torch or without.

Who writes it while a network learns, training/runfolder.py tells; of its checkpoints, training/checkpoint.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stagepose.errors import CheckpointError, StagePoseError
from stagepose.lines import printable

CONFIG = "config.json"  # all settings, and what was learnt from
BEST = "best.json"  # the step of the best validation, and its numbers
JUDGED = "judged.json"  # the same of the newest
BUDGET = "budget.json"  # minutes as samples
STAGES = "stages"  # of a stage-by-stage run: N/ the run of a stage, N.safetensors its weights when it is done
STEP = 9 * "[0-9]"  # the name of a step's folder in steps/


def finished_stages(run: Path) -> list[int]:
    """The stages of a stage-by-stage run that are done, in order; none where ``run`` is no such run."""
    return sorted(int(path.stem) for path in run.glob(f"{STAGES}/*.safetensors") if path.stem.isdecimal())


def saved_steps(run: Path) -> list[Path]:
    """The folders of the steps that were saved to the end, in order; whether they are whole still is not looked at."""
    return sorted(path.parent for path in run.glob(f"steps/{STEP}/MANIFEST.json"))


def patience_is_out(patience: int, evaluate_every: int, *, step: int, best: int) -> bool:
    """Whether so many validations in a row, one every ``evaluate_every`` steps, have passed since the ``best`` step."""
    return patience > 0 and step - best >= patience * evaluate_every


def read_object(path: Path, kind: type[StagePoseError] = CheckpointError) -> dict[str, Any]:
    """A JSON object that StagePose wrote; an error of ``kind`` where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise kind(f"{printable(path)}: cannot read: {error.strerror}") from error
    except RecursionError as error:
        raise kind(f"{printable(path)}: the JSON in it is nested too deeply; StagePose writes none such") from error
    except ValueError as error:
        raise kind(f"{printable(path)}: not readable as a JSON object ({error})") from error
    if not isinstance(found, dict):
        raise kind(f"{printable(path)}: not readable as a JSON object (it is a {type(found).__name__})")
    return found


def read_optional(path: Path) -> dict[str, Any]:
    """The same, empty where there is no such file."""
    return read_object(path) if path.is_file() else {}
