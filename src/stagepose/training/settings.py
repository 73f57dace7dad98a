"""Fields of a frozen settings class changed by text, as the command line gives them: ``shift=0.1``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from stagepose.errors import ConfigError
from stagepose.names import suggestion

Settings = TypeVar("Settings")


def changed(settings: Settings, texts: Sequence[str], option: str) -> Settings:
    """``NAME=VALUE`` each, a pair of numbers as ``NAME=LOW,HIGH``; :class:`ConfigError` begins with ``option``.

    What values a field takes its class says: it is asked once, with all changes.
    """
    now = {field.name: getattr(settings, field.name) for field in fields(settings)}  # type: ignore[arg-type]
    wanted: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{option} {text}: expected NAME=VALUE, such as {next(iter(now))}="
                              f"{_shown(next(iter(now.values())))}")
        if name not in now:
            raise ConfigError(f"{option} {text}: no setting {name!r}"
                              + (suggestion(name, now) or f"; there are {', '.join(now)}"))
        if name in wanted:
            raise ConfigError(f"{option} {text}: {name} is given twice; give it once")
        wanted[name] = _as(now[name], value, f"{option} {text}")
    try:
        return replace(settings, **wanted)  # type: ignore[type-var]
    except ConfigError as error:
        raise ConfigError(f"{option} {' '.join(texts)}: {error}") from error


def _as(example: Any, text: str, said: str) -> Any:
    """``text`` as a value of the kind that ``example`` is."""
    if isinstance(example, tuple):
        parts = text.split(",")
        if len(parts) != len(example):
            raise ConfigError(f"{said}: expected {len(example)} numbers with commas between them, such as "
                              f"{_shown(example)}")
        return tuple(_as(one, part, said) for one, part in zip(example, parts, strict=True))
    try:
        value = type(example)(text)
    except ValueError as error:
        kind = "a whole number" if isinstance(example, int) else "a number"
        raise ConfigError(f"{said}: expected {kind}, such as {example}") from error
    if not math.isfinite(value):
        raise ConfigError(f"{said}: expected a finite number, such as {example}")
    return value


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
