"""Types of arguments that several verbs take, with the names that help shows for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

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
OksNms: TypeAlias = Annotated[float | Literal["none", "auto"], arg(metavar="FLOAT|none")]


def changed_options(verb: Callable[..., Any], values: Mapping[str, Any]) -> list[str]:
    """Those of a verb's options whose values are not its defaults, spelled as on the command line."""
    options = inspect.signature(verb).parameters.values()
    return [f"--{option.name.replace('_', '-')}" for option in options
            if option.default is not option.empty and values[option.name] != option.default]
