"""The protocol of the server and its worker processes, over pipes: a small JSON object, then bytes.

No pickle: a worker that a hostile picture has taken over could only send another answer.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

Message: TypeAlias = tuple[dict[str, Any], bytes]

LENGTHS = struct.Struct(">IQ")  # bytes of the JSON, bytes of the body


def pack(head: Mapping[str, Any], body_length: int) -> bytes:
    """All of a message but its body, which follows."""
    text = json.dumps(head).encode()
    return LENGTHS.pack(len(text), body_length) + text


def send(file: IO[bytes], head: Mapping[str, Any], body: bytes = b"") -> None:
    file.write(pack(head, len(body)))
    file.write(body)
    file.flush()


def receive(file: IO[bytes]) -> Message | None:
    """The next message; None where the other side has gone."""
    start = file.read(LENGTHS.size)
    if len(start) < LENGTHS.size:
        return None
    text, body = LENGTHS.unpack(start)
    return json.loads(file.read(text)), file.read(body)


async def send_to(writer: asyncio.StreamWriter, head: Mapping[str, Any], body: bytes | bytearray = b"") -> None:
    """:class:`ConnectionError` where the other side has gone."""
    writer.write(pack(head, len(body)))
    writer.write(body)
    await writer.drain()


async def receive_from(reader: asyncio.StreamReader) -> Message:
    """:class:`asyncio.IncompleteReadError` where the other side has gone."""
    text, body = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    return json.loads(await reader.readexactly(text)), await reader.readexactly(body)
