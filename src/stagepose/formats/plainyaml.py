"""The few keys of a YAML file that we need, without a YAML library: what is not plain is refused, with its line.

Understood are scalars, quoted or not, lists and maps in brackets or as indented blocks, comments. Anchors, tags, block
texts (| and >) and more are refused where they stand in a wanted key, and passed over elsewhere. A plain word is text,
also yes and no. Format: yaml.org, version 1.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from stagepose.coco.jsonfile import read_text
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.lines import printable

DEEPEST = 8  # levels of nesting
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s\[\]{},&*!|>%@`"'#-][^:#\[\]{},]*|-?\d+)\s*:(?=\s|$)""")
_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[\[\]{},]|:(?=[\s,\]}]|$)|(?:[^\s\[\]{},:]|:(?=\S))"""
                    r"""(?:[^\[\]{},:]|:(?=[^\s,\]}]))*)""")
_REFUSED = tuple("&*!|>%@`?")  # a scalar that begins so is no plain one


@dataclass
class _Line:
    number: int
    indent: int
    text: str


@dataclass
class _Entry:
    line: int
    value: str  # on the key's own line
    body: list[_Line] = field(default_factory=list)


def read_plain_yaml(path: Path, keys: Iterable[str], what: str) -> dict[str, Any]:
    """The values of those ``keys`` that stand at the top of the file; :class:`DatasetError` names file and line."""
    text = read_text(path, what)
    try:
        entries = _entries(text)
        return {key: _value(entries[key]) for key in keys if key in entries}
    except _NotPlainError as error:
        raise DatasetError(f"{printable(path)}: line {error.line}: {error}; write it as key: value, or as a list in "
                           "brackets") from None


class _NotPlainError(Exception):
    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.line = line


def _refuse(line: int, text: str) -> NoReturn:
    raise _NotPlainError(line, f"cannot read {show(text)}")


def _entries(text: str) -> dict[str, _Entry]:
    """What stands at the top, by key, each with the lines below it."""
    entries: dict[str, _Entry] = {}
    current: _Entry | None = None
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw).rstrip()
        if not line or (line == "---" and not entries):
            continue
        stripped = line.lstrip(" ")
        if line[0] not in " \t" and (match := _KEY.match(line)):
            key = str(_scalar(match[1], number))
            if key == "<<":
                _refuse(number, line)
            current = _Entry(number, line[match.end():].strip())
            _put(entries, key, current, number)
        elif current is not None and line[0] in " \t-]}":
            current.body.append(_Line(number, len(line) - len(stripped), stripped))
        else:
            _refuse(number, line)
    return entries


def _put(pairs: dict[Any, Any], key: Any, value: Any, number: int) -> None:
    if key in pairs:
        raise _NotPlainError(number, f"{key} stands there twice")
    pairs[key] = value


def _without_comment(line: str) -> str:
    """Up to a # that begins a word outside of quotes."""
    quote = ""
    for place, sign in enumerate(line):
        before = line[place - 1] if place else " "
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and before in " \t[{,:":
            quote = sign
        elif sign == "#" and before in " \t":
            return line[:place]
    return line


def _value(entry: _Entry) -> Any:
    if not entry.value and not entry.body:
        return None
    value, end = _inline(entry.value, entry.body, 0, entry.line) if entry.value else _block(entry.body, 0, 1)
    if end < len(entry.body):
        _refuse(entry.body[end].number, entry.body[end].text)
    return value


def _inline(text: str, lines: list[_Line], at: int, number: int) -> tuple[Any, int]:
    """A scalar, or brackets that may go on over lines from ``at``; the value and the line after it."""
    if text[0] not in "[{":
        return _scalar(text, number), at
    tokens = _TOKEN.findall(text)
    while tokens.count("[") + tokens.count("{") > tokens.count("]") + tokens.count("}"):
        if at == len(lines):
            raise _NotPlainError(number, "a bracket is not closed")
        tokens += _TOKEN.findall(lines[at].text)
        at += 1
    value, end = _flow(tokens, 0, number, 1)
    if end < len(tokens):
        _refuse(number, tokens[end])
    return value, at


def _flow(tokens: list[str], at: int, number: int, depth: int) -> tuple[Any, int]:
    """What begins at a token, and the place after it."""
    if depth > DEEPEST:
        raise _NotPlainError(number, "nested too deeply")
    if tokens[at] not in ("[", "{"):
        return (None, at) if tokens[at] in ("]", "}", ",", ":") else (_scalar(tokens[at], number), at + 1)
    close, is_map = ("]", False) if tokens[at] == "[" else ("}", True)
    items: list[Any] = []
    pairs: dict[Any, Any] = {}
    at += 1
    while at < len(tokens) and tokens[at] != close:
        item, after = _flow(tokens, at, number, depth + 1)
        if after == at:
            _refuse(number, tokens[at])
        at = after
        if is_map:
            if at >= len(tokens) or tokens[at] != ":" or isinstance(item, (list, dict)):
                _refuse(number, " ".join(map(str, tokens)))
            value, at = _flow(tokens, at + 1, number, depth + 1)
            _put(pairs, item, value, number)
        else:
            items.append(item)
        if at < len(tokens) and tokens[at] == ",":
            at += 1
        elif at >= len(tokens) or tokens[at] != close:
            _refuse(number, tokens[min(at, len(tokens) - 1)])
    return (pairs if is_map else items), at + 1


def _block(lines: list[_Line], at: int, depth: int) -> tuple[Any, int]:
    """The list or map that begins at a line, and the line after it."""
    first = lines[at]
    if depth > DEEPEST:
        raise _NotPlainError(first.number, "nested too deeply")
    items: list[Any] = []
    pairs: dict[Any, Any] = {}
    is_list = first.text == "-" or first.text.startswith("- ")
    while at < len(lines) and lines[at].indent == first.indent:
        line = lines[at]
        match = None if is_list else _KEY.match(line.text)
        if is_list and (line.text == "-" or line.text.startswith("- ")):
            rest = line.text[1:].strip()
            if _KEY.match(rest):
                _refuse(line.number, line.text)
            if rest.startswith("- "):  # a list that begins on its item's line
                lines[at] = _Line(line.number, line.indent + len(line.text) - len(rest), rest)
                value, at = _block(lines, at, depth + 1)
                items.append(value)
                continue
        elif match:
            rest = line.text[match.end():].strip()
        else:
            break
        at += 1
        if rest:
            value, at = _inline(rest, lines, at, line.number)
        elif at < len(lines) and (lines[at].indent > first.indent or (match and lines[at].indent == first.indent
                                                                     and lines[at].text.startswith("-"))):
            value, at = _block(lines, at, depth + 1)
        else:
            value = None
        if match:
            _put(pairs, _scalar(match[1], line.number), value, line.number)
        else:
            items.append(value)
    if at < len(lines) and (lines[at].indent > first.indent or not (items or pairs)):
        _refuse(lines[at].number, lines[at].text)
    return (items if is_list else pairs), at


def _scalar(text: str, number: int) -> Any:
    text = text.strip()
    if text.startswith('"'):
        try:
            return json.loads(text)
        except ValueError:
            _refuse(number, text)
    if text.startswith("'"):
        if len(text) < 2 or not text.endswith("'") or "'" in text[1:-1].replace("''", ""):
            _refuse(number, text)
        return text[1:-1].replace("''", "'")
    if text.startswith(_REFUSED) or ": " in text:
        _refuse(number, text)
    if text in ("", "~", "null"):
        return None
    if re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[-+]?\d{1,18}\.\d{0,18}", text) else text
