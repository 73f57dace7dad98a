"""Words of the command line to a function's arguments; what does not fit is said in one line, as every error here.

tyro draws a box of several lines. It tells what went wrong to a hook as well, which it does not promise to keep: where
the hook or what it tells is another than we know, the box's own text is printed, on one line.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from functools import partial, wraps
from importlib import import_module
from itertools import takewhile
from typing import Any

import tyro

from stagepose.commands.console import wrong_usage
from stagepose.lines import printable
from stagepose.names import meant

Function = Callable[..., int | None]
IN_WORDS = {"INT": "a whole number", "FLOAT": "a number", "INT INT": "two whole numbers", "INT ...": "whole numbers",
            "FLOAT ...": "numbers", "FLOAT|none": "a number or none", "INT|auto": "a whole number or auto",
            "INT|all": "a whole number or all"}  # what help calls values: what it wants
OF_PHOTOS = {"--source", "--input", "--image", "--images", "--photo", "--photos"}  # what other tools have before them

NARROW = "80"  # columns


class _UsageError(Exception):
    """A line about what does not fit; never seen outside of this file."""


def parse(function: Function, prog: str, words: Sequence[str]) -> Callable[[], int | None]:
    """The function with its arguments, to be called; ``SystemExit`` after --help and, with a line, wrong usage."""

    @wraps(function)
    def bound(*args: Any, **kwargs: Any) -> Callable[[], int | None]:
        return partial(function, *args, **kwargs)

    box = io.StringIO()
    try:
        with _plain_help(), redirect_stderr(box), _hooked(partial(_tell, function, prog, words)):
            call = tyro.cli(bound, prog=prog, args=words, description=_about(function))
    except _UsageError as error:
        wrong_usage(str(error))
    except SystemExit as exit_:
        if exit_.code and (text := _flat(box.getvalue())):
            wrong_usage(text)
        raise
    sys.stderr.write(box.getvalue())  # tyro's warnings, if it has any
    return call


@contextmanager
def _plain_help() -> Iterator[None]:
    """Where NO_COLOR is set, which tyro does not look at: help as a pipe gets it, without styles."""
    if not os.environ.get("NO_COLOR"):
        yield
        return
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        sys.stdout.write(text.getvalue())


def _about(function: Function) -> str:
    """What help begins with: the docstring up to its arguments, as wide as the terminal, which tyro does not look at.

    It joins lines again, but for those that begin with no letter: so all but a paragraph's first begin with blanks.
    """
    paragraphs = (inspect.getdoc(function) or "").partition("\nArgs:\n")[0].strip().split("\n\n")
    width = shutil.get_terminal_size().columns
    return "\n\n".join(textwrap.fill(paragraph, width, subsequent_indent="  ", break_on_hyphens=False)
                       for paragraph in paragraphs)


def _hooked(hook: Callable[[Any], None]) -> AbstractContextManager[None]:
    """tyro calls ``hook`` with what does not fit, if this tyro has such a thing (1.0.17 has)."""
    try:
        registered: AbstractContextManager[None] = import_module("tyro._errors").on_parse_error(hook)
    except (ImportError, AttributeError):
        return nullcontext()
    return registered


def _tell(function: Function, prog: str, words: Sequence[str], event: Any) -> None:
    """Raise the line for an event of tyro's; return, so that tyro draws its box, where it is not one that we know."""
    try:
        line = _line(function, prog, words, event)
    except (AttributeError, TypeError, ValueError, LookupError):
        return
    if line:
        raise _UsageError(line)


def _line(function: Function, prog: str, words: Sequence[str], event: Any) -> str | None:
    kind = type(event).__name__
    if kind == "UnrecognizedArgs":
        return _unknown(function, prog, event.tokens)
    if kind == "MissingArgs":
        if any(token.startswith("-") for token in event.unrecognized_tokens):  # a slip: --dat instead of --data
            return _unknown(function, prog, event.unrecognized_tokens)
        missing = [_name(each.arg, with_value=True) for each in event.missing_arguments]
        return f"{_listed(missing, 'and')} {'is' if len(missing) == 1 else 'are'} missing; see {prog} --help"
    argument = getattr(event, "argument", None)
    if argument is None or kind not in ("BadValue", "InvalidChoice", "InstantiationFailure"):
        return None
    given, wanted = _given(argument, words), _wanted(argument)
    if given and kind == "InstantiationFailure" and wanted not in IN_WORDS.values():
        return f"{_name(argument)} {printable(' '.join(given))}: {_plain(event.message)}; see {prog} --help"
    if given:
        return f"{_name(argument)} {printable(' '.join(given))}: expected {wanted}"
    if kind == "InstantiationFailure":
        return f"{_name(argument)}: {_plain(event.message)}; see {prog} --help"
    value, flag = getattr(event, "value", None), argument.lowered.name_or_flags[0]
    if not value and not flag.startswith("-"):
        named = any(word.partition("=")[0] == f"--{flag}" for word in words)
        remedy = f"it stands without --{flag}: {prog} {wanted}" if named else f"see {prog} --help"
        return f"{wanted} is missing; {remedy}"
    return f"{_name(argument)}: expected {wanted}, got {printable(value or 'nothing')}"


def _name(argument: Any, with_value: bool = False) -> str:
    """As the command line spells an argument: ``--out``, with its value ``--out DIR``; a positional's ``PRESET``."""
    flag, value = argument.lowered.name_or_flags[0], str(argument.lowered.metavar)
    if not flag.startswith("-"):
        return value
    return f"{flag} {value}" if with_value else str(flag)


def _wanted(argument: Any) -> str:
    if argument.lowered.choices:
        return _listed(sorted(set(argument.lowered.choices) - {"None"}), "or")
    shown = re.sub(r"^\[?(\w+) \[\1 \.\.\.\]\]?$", r"\1 ...", str(argument.lowered.metavar))  # [INT [INT ...]]
    return IN_WORDS.get(shown, shown)


def _given(argument: Any, words: Sequence[str]) -> list[str]:
    """The values that the last of an option's names in ``words`` is followed by."""
    flags = set(argument.lowered.name_or_flags)
    for place in reversed(range(len(words))):
        word, is_joined, value = words[place].partition("=")
        if word.startswith("-") and word.replace("_", "-") in flags:
            values = takewhile(lambda each: not each.startswith("--"), words[place + 1:])
            count = argument.lowered.nargs
            return [value] if is_joined else list(values)[:count if isinstance(count, int) else None]
    return []


def _unknown(function: Function, prog: str, tokens: Sequence[str]) -> str:
    """For words that are no option's, nor a value of one: the options that are called nearly so."""
    option = next((token for token in tokens if token.startswith("-")), None)
    if option is None:
        return f"{printable(tokens[0])!r} is one word too many; see {prog} --help"
    option = option.partition("=")[0]
    if option in OF_PHOTOS and "photos" in inspect.signature(function).parameters:
        return f"no option {option}; the photos are named without one: {prog} PHOTO ..."
    near = meant(option.replace("_", "-"), _options(function, prog), count=2)
    advice = f"did you mean {' or '.join(near)}?" if near else f"see {prog} --help"
    return f"no option {printable(option)}; {advice}"


def _options(function: Function, prog: str) -> list[str]:
    """Names of all options, as help lists them at the left."""
    text = io.StringIO()
    try:
        with redirect_stdout(text), _narrow():
            tyro.cli(function, prog=prog, args=["--help"])
    except SystemExit:
        pass
    entries = [line.strip("│ ").partition("  ")[0] for line in text.getvalue().splitlines()]
    names = [name for entry in entries if entry.startswith("-") for name in re.findall(r"--[a-z][a-z0-9-]*", entry)]
    return [name for name in names if name != "--help"]


@contextmanager
def _narrow() -> Iterator[None]:
    """Help as in a narrow terminal: in a wide one, tyro puts groups of options beside each other."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = NARROW
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _listed(names: Sequence[str], word: str) -> str:
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def _plain(message: str) -> str:
    """What int() and float() complain of, in other words."""
    value = message.rpartition(": ")[2]
    if message.startswith("invalid literal for int()"):
        return f"{value} is no whole number"
    return f"{value} is no number" if message.startswith("could not convert string to float") else _flat(message)


def _flat(text: str) -> str:
    """A box's text, without the box."""
    return " ".join(re.sub(r"[╭╮╰╯│─]+|\[/?bold\]", " ", text).split())
