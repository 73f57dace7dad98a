"""XML: nodes with their lines, and none of the ways in which XML is dangerous."""

from __future__ import annotations

from pathlib import Path

import pytest

from stagepose.errors import DatasetError
from stagepose.formats.xmlfile import read_xml

BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotations>&c;</annotations>"""
OUTSIDE = """<?xml version="1.0"?>
<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/hostname">]>
<annotations>&secret;</annotations>"""


def test_nodes(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<a>\n <b x="1 &amp; 2">one</b>\n <b><b>deep</b></b></a>')
    root = read_xml(path, "some XML")
    assert root.tag == "a" and [node.line for node in root.all("b")] == [2, 3]
    assert root.all("b")[0].attributes == {"x": "1 & 2"} and root.word("b") == "one"
    assert [node.text for node in root.below("b")] == ["one", "", "deep"]


@pytest.mark.parametrize(("content", "message"), [
    (BOMB.encode(), "line 2: has a DOCTYPE ('lolz')"), (OUTSIDE.encode(), "line 2: has a DOCTYPE"),
    (BOMB.replace("?>", ' encoding="utf-16"?>', 1).encode("utf-16"), "has a DOCTYPE"),
    (b"<a>&nothing;</a>", "line 1: not valid XML: undefined entity"), (b"<a>\n<b></a>", "line 2: not valid XML"),
    (b"", "line 1: not valid XML: no element found"), (b"<a>" * 100_000, "line 1: nested too deeply"),
    (b'<?xml version="1.0" encoding="nonsense"?><a/>', "not valid XML"), (b"\xff\xfe\x00", "not valid XML"),
])  # fmt: skip
def test_what_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_xml(path, "some XML")
    assert message in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file; give some XML"):
        read_xml(tmp_path / "a.xml", "some XML")
    with pytest.raises(DatasetError, match="not a regular file"):
        read_xml(tmp_path, "some XML")
