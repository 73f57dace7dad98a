"""Types of options that several commands take: what help calls their values, and of the commonest what it says of them.

Where None is the default, the help text says what that means, and help says nothing of None.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

AT_LEAST_ONE = "(at least one)"
UNSAID = ""  # in place of "(default: None)"
A_MODEL = "a shipped name or an .onnx file"

Photos: TypeAlias = Positional[Annotated[list[str], arg(metavar="PHOTO ...", help_behavior_hint=AT_LEAST_ONE)]]
JsonFile: TypeAlias = Positional[Annotated[Path, arg(metavar="FILE.json")]]
JsonFiles: TypeAlias = Positional[Annotated[list[Path], arg(metavar="FILE.json ...", help_behavior_hint=AT_LEAST_ONE)]]
Preset: TypeAlias = Positional[Annotated[str, arg(metavar="PRESET")]]
Run: TypeAlias = Positional[Annotated[Path, arg(metavar="RUN")]]
File: TypeAlias = Annotated[Path, arg(metavar="FILE")]
Folder: TypeAlias = Annotated[Path, arg(metavar="DIR")]
Sets: TypeAlias = Annotated[list[str], arg(metavar="FILE.json ...")]
ModelName: TypeAlias = Annotated[str, arg(metavar="NAME|FILE")]
OksNms: TypeAlias = Annotated[float | Literal["none", "auto"], arg(metavar="FLOAT|none")]
Numbers: TypeAlias = Annotated[tuple[float, ...], arg(metavar="FLOAT ...", help_behavior_hint=UNSAID)]
Counts: TypeAlias = Annotated[tuple[int, ...], arg(metavar="INT ...", help_behavior_hint=UNSAID)]
OptionalFile: TypeAlias = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint=UNSAID)]
OptionalResults: TypeAlias = Annotated[Path | None, arg(metavar="FILE|RUN", help_behavior_hint=UNSAID)]
OptionalFolder: TypeAlias = Annotated[Path | None, arg(metavar="DIR", help_behavior_hint=UNSAID)]
OptionalRun: TypeAlias = Annotated[Path | None, arg(metavar="RUN", help_behavior_hint=UNSAID)]
OptionalTiles: TypeAlias = Annotated[int | Literal["auto"] | None, arg(metavar="INT|auto", help_behavior_hint=UNSAID)]
CountOrAll: TypeAlias = Annotated[int | Literal["all"], arg(metavar="INT|all")]
OptionalPreset: TypeAlias = Annotated[str | None, arg(metavar="PRESET", help_behavior_hint=UNSAID)]
OptionalCount: TypeAlias = Annotated[int | None, arg(metavar="INT", help_behavior_hint=UNSAID)]
OptionalNumber: TypeAlias = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint=UNSAID)]
OptionalName: TypeAlias = Annotated[str | None, arg(metavar="NAME|FILE", help_behavior_hint=UNSAID)]
OptionalText: TypeAlias = Annotated[str | None, arg(metavar="TEXT", help_behavior_hint=UNSAID)]
OptionalSwitch: TypeAlias = Annotated[bool | None, arg(metavar="{True,False}", help_behavior_hint=UNSAID)]
OptionalSize: TypeAlias = Annotated[tuple[int, int] | None, arg(metavar="INT INT", help_behavior_hint=UNSAID)]
OptionalCounts: TypeAlias = Annotated[list[int] | None, arg(metavar="INT ...", help_behavior_hint=UNSAID)]
OptionalNumbers: TypeAlias = Annotated[list[float] | None, arg(metavar="FLOAT ...", help_behavior_hint=UNSAID)]
OptionalSets: TypeAlias = Annotated[list[str] | None, arg(metavar="FILE.json ...", help_behavior_hint=UNSAID)]
OptionalTexts: TypeAlias = Annotated[list[str] | None, arg(metavar="TEXT ...", help_behavior_hint=UNSAID)]

# What finds people, wherever it is chosen
PoseName: TypeAlias = Annotated[str, arg(metavar="NAME|FILE", help=f"Pose model: {A_MODEL}.")]
DetectorName: TypeAlias = Annotated[str, arg(metavar="NAME|FILE", help=f"Person detector: {A_MODEL}.")]
Flip: TypeAlias = Annotated[bool, arg(
    help="Flip test: average with the mirrored crop (more accurate, twice the time).")]
Batch: TypeAlias = Annotated[int, arg(help="Batch size: people per forward pass.")]
MaxPixels: TypeAlias = Annotated[int, arg(help="Refuse photos with more pixels than this.")]
Threads: TypeAlias = Annotated[int | None, arg(metavar="INT", help_behavior_hint=UNSAID,
                                               help="CPU threads; all cores by default.")]
Provider: TypeAlias = Annotated[str, arg(help="ONNX Runtime's execution provider, such as cuda.")]


def spelled(name: str) -> str:
    """A field's or parameter's name as an option of the command line: ``--max-people``."""
    return f"--{name.replace('_', '-')}"


def changed(options: DataclassInstance) -> list[str]:
    """Those that are not as they are by default, spelled as on the command line."""
    return [spelled(field.name) for field in fields(options) if getattr(options, field.name) != field.default]
