"""Types of arguments that several verbs take, with the names that help shows for them.

Where None is the default, the help text says what that means, and help says nothing of None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro.conf import Positional, arg

AT_LEAST_ONE = "(at least one)"
UNSAID = ""  # in place of "(default: None)"

Photos: TypeAlias = Positional[Annotated[list[str], arg(metavar="PHOTO ...", help_behavior_hint=AT_LEAST_ONE)]]
JsonFile: TypeAlias = Positional[Annotated[Path, arg(metavar="FILE.json")]]
JsonFiles: TypeAlias = Positional[Annotated[list[Path], arg(metavar="FILE.json ...", help_behavior_hint=AT_LEAST_ONE)]]
Preset: TypeAlias = Positional[Annotated[str, arg(metavar="PRESET")]]
Run: TypeAlias = Positional[Annotated[Path, arg(metavar="RUN")]]
File: TypeAlias = Annotated[Path, arg(metavar="FILE")]
Folder: TypeAlias = Annotated[Path, arg(metavar="DIR")]
Sets: TypeAlias = Annotated[list[str], arg(metavar="FILE.json ...")]
ModelName: TypeAlias = Annotated[str, arg(metavar="NAME|FILE")]
PoseModels: TypeAlias = Annotated[tuple[str, ...], arg(metavar="NAME|FILE ...")]
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
