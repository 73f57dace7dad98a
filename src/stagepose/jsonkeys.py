"""JSON objects that have a key twice, of whose values Python's parser would keep the last."""

from __future__ import annotations

from typing import Any


class KeyTwiceError(ValueError):
    """An object has a ``key`` twice, with two values: which of them is meant nobody knows."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key!r} stands twice in one object, with two values, of which one would be lost")
        self.key = key


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """``object_pairs_hook`` of a parser: the object, or :class:`KeyTwiceError`.

    The same twice loses nothing, and is let pass.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        for key, value in pairs:
            if made[key] is not value and made[key] != value:
                raise KeyTwiceError(key)
    return made
