"""A request's body, within limits whatever it declares: bytes, seconds to arrive, and bytes of all bodies together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from stagepose.serving.refused import RefusedError, busy

# Of a form without a file name and of "curl --data-binary"; whether it is a picture, its content says
RAW = ("image/", "application/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data")


@dataclass(kw_only=True)
class Limits:
    """At most ``most`` bytes per body, ``altogether`` of all that are held, and ``seconds`` for one to arrive."""

    most: int
    altogether: int
    seconds: float
    held: int = field(default=0, init=False)


def require_picture(request: Request) -> str:
    """The content type, which may be left out; :class:`RefusedError` if it is not a picture's."""
    kind = request.headers.get("content-type", "")
    if kind and not kind.lower().startswith(RAW):
        raise RefusedError(415, f"Content-Type is {kind[:80]!r}; send the bytes of a picture as image/* or "
                           "application/octet-stream, or as multipart/form-data. Addresses are never fetched")
    return kind


@asynccontextmanager
async def received(request: Request, limits: Limits) -> AsyncIterator[bytearray]:
    """The whole body, which counts as held until the end of the ``with``."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.most:
        raise _too_large(f"{int(declared):,}", limits)
    body = bytearray()
    try:
        await _fill(body, request, limits)
        yield body
    finally:
        limits.held -= len(body)


async def _fill(body: bytearray, request: Request, limits: Limits) -> None:
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                if len(body) + len(chunk) > limits.most:
                    raise _too_large("more", limits)
                if limits.held + len(chunk) > limits.altogether:
                    raise busy(f"it holds {limits.held:,} bytes of other requests")
                body += chunk
                limits.held += len(chunk)
    except TimeoutError as error:
        raise RefusedError(408, f"{len(body):,} bytes of the body have arrived within {limits.seconds:g} seconds, and "
                                "not its end; send a smaller picture, or start the server with a longer --timeout",
                           close=True) from error
    except ClientDisconnect as error:  # nobody hears the answer
        raise RefusedError(400, "the body ended early", close=True) from error


def _too_large(found: str, limits: Limits) -> RefusedError:
    return RefusedError(413, f"the body has {found} bytes, the limit is {limits.most:,}; send a smaller picture, or "
                             "start the server with a larger --max-bytes")
