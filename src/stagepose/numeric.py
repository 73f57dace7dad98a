"""What counts as a number where one is expected: True and False, which Python takes for 1 and 0, do not."""

from __future__ import annotations

from numbers import Real
from typing import TypeGuard


def is_real(value: object) -> TypeGuard[float]:
    """A real number of any type, NaN and infinity among them."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """A whole number, of Python's own."""
    return isinstance(value, int) and not isinstance(value, bool)
