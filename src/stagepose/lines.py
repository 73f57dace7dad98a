"""Text from elsewhere (paths, names in files, errors of libraries) on one line, as messages show it."""

from __future__ import annotations

LONGEST, HEAD, TAIL = 400, 300, 60  # letters of a name; those shown of a longer one's start and end


def one_line(text: str) -> str:
    """``text`` with control characters, line breaks and the like escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable(name: object) -> str:
    """A path, or what else ``str`` makes a name of, as :func:`one_line` has it, the middle of a very long one cut."""
    escaped = one_line(str(name))
    return escaped if len(escaped) <= LONGEST else f"{escaped[:HEAD]}...{escaped[-TAIL:]}"


def in_short(error: Exception) -> str:
    """A library's error, often of several lines, as the end of a line of ours."""
    return " ".join(str(error).split())[:HEAD]
