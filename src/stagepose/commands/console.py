"""Lines for people: results on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

LINES = 10  # of progress, where no terminal shows a bar


def say(text: str) -> None:
    """A line of what was asked for."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line about the work: errors, notices, counts."""
    sys.stdout.flush()  # so that both streams, sent to one place, keep their order
    sys.stderr.write(text + "\n")


def counted(number: int, one: str, many: str) -> str:
    """``1 photo``, ``2 photos``."""
    return f"{number:,} {one if number == 1 else many}"


def wrong_usage(text: str) -> NoReturn:
    """End with exit code 2, as tyro does for arguments that it can judge itself."""
    note(f"error: {text}")
    raise SystemExit(2)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> None:
    """Columns: the first ``words`` to the left, the others, numbers, to the right."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        cells = [f"{cell:{'<' if i < words else '>'}{widths[i]}}" for i, cell in enumerate(line)]
        say("  ".join(cells).rstrip())


@contextmanager
def counter(what: str) -> Iterator[Callable[[int, int], None]]:
    """Call with (done, all): a bar on stderr while there is a terminal to show it and more than one to wait for."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=total > 1)


@contextmanager
def counter_or_lines(what: str, did: str) -> Iterator[Callable[[int, int], None]]:
    """As :func:`counter`; where no terminal shows a bar, a line for every tenth: ``did`` so many of all pictures."""
    told = 0

    def line(done: int, total: int) -> None:
        nonlocal told
        if done * LINES // total > told:
            told = done * LINES // total
            note(f"{did} {done:,} of {total:,} pictures")

    with counter(what) as bar:
        yield bar if sys.stderr.isatty() else line
