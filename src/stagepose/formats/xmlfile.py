"""An XML file as nodes that know their line, by the parser of the standard library.

A DOCTYPE is refused where it begins: without one there are no entities, so none that grow and none from elsewhere
(docs.python.org, "XML security"). Nesting is limited.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from stagepose.coco.jsonfile import read_file
from stagepose.coco.problems import show
from stagepose.errors import DatasetError
from stagepose.lines import printable

DEEPEST = 50  # levels of nesting


@dataclass(eq=False)
class Node:
    """An element; ``text`` is what stands directly in it."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> list[Node]:
        """The children of that tag."""
        return [child for child in self.children if child.tag == tag]

    def below(self, tag: str) -> list[Node]:
        """All elements of that tag, at any depth."""
        return [found for child in self.children for found in ([child] if child.tag == tag else []) + child.below(tag)]

    def word(self, tag: str) -> str:
        """The text of the first child of that tag, "" without one."""
        return next((child.text.strip() for child in self.all(tag)), "")


def read_xml(path: Path, what: str) -> Node:
    """The root of a file; :class:`DatasetError` names file and line."""
    return parse_xml(read_file(path, what), printable(path), what)


def parse_xml(data: bytes, name: str, what: str) -> Node:
    """The same of bytes; ``name`` is what messages call them."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    top = Node("", {}, 0)
    stack = [top]

    def refuse(detail: str) -> DatasetError:
        return DatasetError(f"{name}: line {parser.CurrentLineNumber}: {detail}; give {what}.")

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(stack) > DEEPEST:
            raise refuse("nested too deeply")
        node = Node(tag, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(_tag: str) -> None:
        stack.pop()

    def text(part: str) -> None:
        stack[-1].text += part

    def doctype(doctype_name: str, *_rest: object) -> None:
        raise refuse(f"has a DOCTYPE ({show(doctype_name)}), which may hide entities and is never read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        detail = expat.errors.messages.get(error.code, "not valid")
        raise DatasetError(f"{name}: line {error.lineno}: not valid XML: {detail}; give {what}.") from None
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        raise DatasetError(f"{name}: not valid XML: {error}; give {what}.") from None
    return top.children[0]
