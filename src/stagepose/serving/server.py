"""uvicorn around the app: what it listens on, how long it waits for clients, how it shuts down."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import python_multipart  # noqa: F401 - of the worker processes; whether it is missing is told before they start
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stagepose.errors import ConfigError
from stagepose.lines import printable
from stagepose.serving.app import make_app
from stagepose.serving.body import Limits
from stagepose.serving.guard import LINGER
from stagepose.serving.pool import Pool

MOST_CONNECTIONS = 500  # below the 1,024 files that a process may usually open
BACKLOG = 128
STEPS = 3  # of a request, each with a timeout of its own: its body arrives, it waits for a process, it is processed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to serve; ``hosts`` are names besides ``host``, ``timeout`` is in seconds, ``max_bytes`` per body."""

    host: str
    port: int
    hosts: Sequence[str]
    workers: int
    queue: int
    timeout: float
    max_bytes: int


def serve(order: Mapping[str, Any], settings: Settings, told: Callable[[str, dict[str, Any]], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; ``told(address, model)`` is called once requests are accepted.

    ``order`` are the arguments of :func:`stagepose.load`. :class:`ConfigError` for an address that cannot be listened
    on; errors of the models come before anything is served.
    """
    with _listening(settings.host, settings.port) as listener:
        asyncio.run(_serve(order, settings, listener, told))


async def _serve(order: Mapping[str, Any], settings: Settings, listener: socket.socket,
                 told: Callable[[str, dict[str, Any]], None]) -> None:
    limits = Limits(most=settings.max_bytes, seconds=settings.timeout,
                    altogether=settings.max_bytes * (settings.queue + settings.workers))
    async with Pool(order, workers=settings.workers, queue=settings.queue, timeout=settings.timeout) as pool:
        app = make_app(pool, limits, [settings.host, *settings.hosts])
        server = _Server(uvicorn.Config(
            app, http=_connection(settings.timeout), ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(STEPS * settings.timeout + LINGER),
        ))  # fmt: skip
        _end_well(server)
        told(_address(listener), pool.model)
        await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """A second Ctrl-C ends requests too: from Python 3.12 on asyncio's own server would go on waiting for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:
            for task in list(self.server_state.tasks):
                task.get_loop().call_soon_threadsafe(task.cancel)


def _end_well(server: uvicorn.Server) -> None:
    """uvicorn catches both signals, drains, and then sends itself the same again, for whoever caught it before.

    So somebody must, or the process would end with the signal instead of 0; and one may come before uvicorn is there.
    """
    def end(number: int, frame: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter of what no name server is asked for, such as my..host
        why = "no name of a host" if isinstance(error, UnicodeError) else error.strerror or error
        raise ConfigError(f"{printable(host)}:{port}: cannot listen there: {why}; choose another --host or --port (0 "
                          "for any that is free)") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _connection(seconds: float) -> type[H11Protocol]:
    """uvicorn's HTTP, with limits on waiting and on connections.

    Its own clock stops at the first byte of a request's head, and its own limit counts nobody before the end of one.
    """

    class Connection(H11Protocol):
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > MOST_CONNECTIONS:
                transport.abort()
            else:
                self._expect_request()

        def on_response_complete(self) -> None:
            self._expect_request()  # first: the next request may be there already
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._patience:
                self._patience.cancel()
            super().connection_lost(exc)

        def _expect_request(self) -> None:
            if self._patience:
                self._patience.cancel()
            self._patience = self.loop.call_later(seconds, self._give_up, self.cycle)

        def _give_up(self, last: object) -> None:
            if self.cycle is last:  # no head of a request came since, or a refused body does not end
                self.transport.abort()

    return Connection
