"""JSON files in and out: whatever is wrong with one is a :class:`DatasetError` naming the file and the line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.files import write_chunks, write_text
from stagepose.jsonkeys import KeyTwiceError, object_of
from stagepose.lines import printable

DEEPEST = 500  # levels of nesting that are still believed when looking for the line that goes too deep

_STRING = r'"(?:[^"\\]|\\.)*+"'
_CONSTANT = re.compile(rf"{_STRING}|(-?Infinity|NaN)")
_BRACKET = re.compile(rf"{_STRING}|([\[{{])|([\]}}])")
_KEY_OR_BRACKET = re.compile(rf"({_STRING})\s*:|{_STRING}|([\[{{])|[\]}}]")
_LONG_NUMBER = re.compile(rf"{_STRING}|(\d{{4301,}})")


def load_json(path: str | Path, *, what: str = "a COCO annotation file") -> Any:
    """Parse a file strictly: NaN and Infinity, which are no JSON, are refused with their line."""
    value, constant = load_json_and_fault(path, what=what)
    if constant:
        remedy = "Leave the value out, or use 'stagepose check FILE --write-clean OUT'"
        raise DatasetError(f"{printable(path)}: {constant}. {remedy}.")
    return value


def load_json_leniently(path: str | Path, *, what: str = "a COCO annotation file") -> Any:
    """Parse a file in which NaN and Infinity may stand."""
    return load_json_and_fault(path, what=what)[0]


def load_json_and_fault(path: str | Path, *, what: str = "a COCO annotation file") -> tuple[Any, str]:
    """As :func:`load_json_leniently`; second, the place of the first NaN or Infinity (or "").

    A key that an object has twice, with two values, is refused with its line: which of them is meant nobody knows.
    """
    text, name = read_text(Path(path), what), printable(path)
    constants: list[str] = []

    def constant(literal: str) -> float:
        constants.append(literal)
        return float(literal)

    try:
        value = json.loads(text, parse_constant=constant, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        cut = " (the file seems cut off)" if error.pos >= len(text.rstrip()) - 1 else ""
        again = "Export or fetch the file again"
        raise DatasetError(f"{name}: {place}: not valid JSON: {error.msg}{cut}. {again}.") from None
    except KeyTwiceError as error:
        line = _line_of_second(error.key, text)
        raise DatasetError(f"{name}: line {line}: {show(error.key)} stands twice in one object, with two values, of "
                           "which one would be lost. Leave one of them out, or put both into one.") from None
    except RecursionError:
        raise DatasetError(f"{name}: line {_deep_line(text)}: nested too deeply; this is not {what}.") from None
    except ValueError:
        line = _line_of_first(_LONG_NUMBER, text)
        raise DatasetError(f"{name}: line {line}: a number of more than 4300 digits; this is not {what}.") from None
    return value, f"line {_line_of_first(_CONSTANT, text)}: {constants[0]} is not valid JSON" if constants else ""


def write_json_compact(path: str | Path, value: Any) -> None:
    """JSON on one line, atomically; NaN is refused."""
    write_text(path, _compact(path, value) + "\n")


def write_list_compact(path: str | Path, values: Iterable[Any]) -> None:
    """A list of these as :func:`write_json_compact` writes it, never in memory as a whole."""

    def chunks() -> Iterator[bytes]:
        separator = "["
        for value in values:
            yield (separator + _compact(path, value)).encode("utf-8")
            separator = ","
        yield b"[]\n" if separator == "[" else b"]\n"

    write_chunks(path, chunks())


def _compact(path: str | Path, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise DatasetError(f"{printable(path)}: not written: a value is NaN or infinite. Remove it first.") from None
    except RecursionError:
        raise DatasetError(f"{printable(path)}: not written: a value is nested too deeply.") from None


def without_nan(value: Any) -> tuple[Any, int]:
    """The same value with null for every NaN and infinity, and how many there were."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, 1
    if isinstance(value, dict):
        pairs = {key: without_nan(inner) for key, inner in value.items()}
        return {key: inner for key, (inner, _) in pairs.items()}, sum(n for _, n in pairs.values())
    if isinstance(value, list):
        items = [without_nan(inner) for inner in value]
        return [inner for inner, _ in items], sum(n for _, n in items)
    return value, 0


def read_text(path: Path, what: str) -> str:
    """A file's UTF-8 text; :class:`DatasetError` where it is empty, as well as for what :func:`read_file` refuses."""
    name = printable(path)
    try:
        text = read_file(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name}: byte {error.start}: not UTF-8 text; give {what}.") from None
    if not text.strip():
        raise DatasetError(f"{name}: line 1: the file is empty; give {what}.")
    return text


def read_file(path: Path, what: str) -> bytes:
    """A regular file's bytes; :class:`DatasetError` names it, and ``what`` to give instead."""
    name = printable(path)
    try:
        if path.exists() and not path.is_file():
            raise DatasetError(f"{name}: not a regular file; give {what}.")
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{name}: no such file; give {what}.") from None
    except OSError as error:
        raise DatasetError(f"{name}: cannot read: {error.strerror}.") from error
    except ValueError as error:  # a NUL in the path
        raise DatasetError(f"{name}: cannot read: {error}.") from None


def _line_of_second(key: str, text: str) -> int:
    """The line where a key stands for the second time in one object; 1 where it does not."""
    met: list[bool] = []  # for each open bracket, whether the key was there
    for match in _KEY_OR_BRACKET.finditer(text):
        written, opened = match.groups()
        if opened:
            met.append(False)
        elif not written:
            met.pop()
        elif written[1:-1] == key or ("\\" in written and json.loads(written) == key):
            if met[-1]:
                return text.count("\n", 0, match.start()) + 1
            met[-1] = True
    return 1


def _line_of_first(pattern: re.Pattern[str], text: str) -> int:
    """The line of the first match of the pattern's group, outside of strings."""
    for match in pattern.finditer(text):
        if match.group(1):
            return text.count("\n", 0, match.start()) + 1
    return 1


def _deep_line(text: str) -> int:
    depth = 0
    for match in _BRACKET.finditer(text):
        depth += bool(match.group(1)) - bool(match.group(2))
        if depth > DEEPEST:
            return text.count("\n", 0, match.start()) + 1
    return 1
