"""A command that is told to end, by a scheduler or a closed terminal, ends as after Ctrl-C: in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise :class:`SystemExit` with 128 + their number, once; more of them are too late.

    One that is ignored, as under ``nohup``, or handled by somebody else, stays so.
    """
    mine = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]

    def end(number: int, _frame: object) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)
