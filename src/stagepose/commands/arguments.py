"""Types of arguments that several verbs take, with the names that help shows for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro.conf import Positional, arg

AT_LEAST_ONE = "(at least one)"

Photos: TypeAlias = Positional[Annotated[list[str], arg(metavar="PHOTO ...", help_behavior_hint=AT_LEAST_ONE)]]
JsonFile: TypeAlias = Positional[Annotated[Path, arg(metavar="FILE.json")]]
JsonFiles: TypeAlias = Positional[Annotated[list[Path], arg(metavar="FILE.json ...", help_behavior_hint=AT_LEAST_ONE)]]
OptionalFile: TypeAlias = Annotated[Path | None, arg(metavar="FILE")]
OptionalFolder: TypeAlias = Annotated[Path | None, arg(metavar="DIR")]
OptionalCount: TypeAlias = Annotated[int | None, arg(metavar="INT")]
OptionalShare: TypeAlias = Annotated[float | None, arg(metavar="FLOAT")]
OptionalName: TypeAlias = Annotated[str | None, arg(metavar="NAME|FILE")]
PoseModels: TypeAlias = Annotated[tuple[str, ...], arg(metavar="NAME|FILE ...")]
OksNms: TypeAlias = Annotated[float | Literal["none", "auto"], arg(metavar="FLOAT|none")]
