"""Before any path: which requests are let in, and the headers of every answer.

A page of another site can make its visitor's browser send pictures here, and by pointing its own name at this machine
(DNS rebinding) even read the answers. The first has a foreign Origin, the second a foreign Host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stagepose.serving.refused import RefusedError

LINGER = 5.0  # seconds in which a refused client may finish sending: before that, many cannot read the answer
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
ON_EVERYTHING = {"x-content-type-options": "nosniff", "cache-control": "no-store", "referrer-policy": "no-referrer"}


class Guard:
    """An ASGI app around another. ``hosts`` are names of this server, besides IP addresses and localhost."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, begun = _Body(scope, receive), False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                if message["status"] != 408:
                    await body.discard_rest()
                MutableHeaders(scope=message).update(ON_EVERYTHING)
            await send(message)

        try:
            self.check(Headers(scope=scope), scope["method"])
        except RefusedError as refused:
            await refused.response()(scope, body.receive, answer)
            return
        try:
            await self.app(scope, body.receive, answer)
        except asyncio.CancelledError:  # the server ends before this request does; uvicorn would log a trace
            if not begun:
                body.abandon()
                await _ending().response()(scope, body.receive, answer)

    def check(self, headers: Headers, method: str) -> None:
        """:class:`RefusedError` for a body of two lengths, a foreign Host, and a page of another origin that sends."""
        if "content-length" in headers and "transfer-encoding" in headers:  # RFC 9112, 6.1: perhaps request smuggling
            raise RefusedError(400, "the request has both Content-Length and Transfer-Encoding, of which a proxy may "
                                    "believe the other; send one of them", close=True)
        host = headers.get("host", "")
        name = _name(host)
        if not _is_address(name) and name not in self.hosts:
            raise RefusedError(421, f"Host is {host[:80]!r}, no name of this server; start it with --allow-host NAME, "
                                    "the name without a port")
        origin = headers.get("origin")
        if origin is not None and method not in SAFE_METHODS and origin.partition("://")[2].lower() != host.lower():
            raise RefusedError(403, f"Origin is {origin[:80]!r}; pages of other origins than {host[:80]!r} may not "
                                    "send pictures here. Serve both behind one address")


class _Body:
    """A request's body as the app reads it; knows whether anything is left."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._receive = receive
        self._has_more = "content-length" in headers or "transfer-encoding" in headers
        self._waits_for_us = "100-continue" in headers.get("expect", "").lower()  # and sends nothing before

    async def receive(self) -> Message:
        message = await self._receive()
        self._has_more = message["type"] == "http.request" and message.get("more_body", False)
        self._waits_for_us = False
        return message

    def abandon(self) -> None:
        """No time is left for the rest."""
        self._has_more = False

    async def discard_rest(self) -> None:
        """Read on for a while: a client that is still sending would lose an answer if the connection closed."""
        if self._waits_for_us:
            return
        try:
            async with asyncio.timeout(LINGER):
                while self._has_more:
                    await self.receive()
        except TimeoutError:
            pass


def _ending() -> RefusedError:
    return RefusedError(503, "the server is ending, and has no time left for this request; send it again, once it is "
                             "back or to another", retry=True, close=True)


def _name(host: str) -> str:
    """Without its port; of an IPv6 address without its brackets."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _is_address(name: str) -> bool:
    """Whether it is an IP address, for which no name server was asked that could answer falsely."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
