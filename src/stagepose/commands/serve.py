"""``stagepose serve``: people in pictures, over HTTP."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, arg

from stagepose.commands.arguments import UNSAID, Flip, MaxPixels, OptionalCount, OptionalNumber
from stagepose.commands.console import counted, note, wrong_usage
from stagepose.commands.finding import Models
from stagepose.cores import available_cores
from stagepose.images import MAX_PIXELS
from stagepose.lines import printable
from stagepose.serving.server import Settings
from stagepose.serving.server import serve as run_server

MAX_BYTES = 20_000_000  # a photo of 50 megapixels as a camera writes it
HIGHEST_PORT = 65_535
NO_NAME = frozenset("/:*[] ")  # of an address of the web, and of a pattern


@dataclass(frozen=True, kw_only=True)
class ServedOptions(Models):
    """How people are found.

    Attributes:
        threads: CPU threads of each process; by default they share all cores.
        threshold: Minimum person score; by default the pose model's own.
    """

    threads: OptionalCount = None
    threshold: OptionalNumber = None
    flip: Flip = False
    max_pixels: MaxPixels = MAX_PIXELS


BY_DEFAULT = ServedOptions()


def serve(
    *,
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1",
    port: int = 8000,
    allow_host: Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint=UNSAID)] = (),
    finding: OmitArgPrefixes[ServedOptions] = BY_DEFAULT,
    workers: int = 1,
    queue: int = 16,
    timeout: float = 30.0,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Serve an HTTP API that finds the people in pictures, and a web page to try it on.

    Try curl --data-binary @photo.jpg http://127.0.0.1:8000/v1/predict, or open http://127.0.0.1:8000 in a browser.

    Pictures are processed by separate worker processes; one that dies is replaced. SIGTERM and Ctrl-C let requests in
    progress finish. There is no password and no encryption: to serve more than this machine, put a proxy in front of it
    (docs/serve.md).

    Args:
        host: Address to listen on; 0.0.0.0 for all of this machine.
        port: Port to listen on; 0 for any free one.
        allow_host: Host names, without http:// and port, under which browsers may reach this server, besides its
            addresses, --host and localhost.
        finding: How people are found, unless a request says otherwise.
        workers: Worker processes, each with its own models.
        queue: Requests that may wait for a process. Further ones get 503 with Retry-After: 1.
        timeout: Seconds allowed for a picture to arrive, to wait, and to be processed, each.
        max_bytes: Refuse requests with a larger body.
    """
    _check(port, workers, queue, timeout, max_bytes)
    for name in allow_host:
        if not name or NO_NAME & set(name):
            wrong_usage(f"--allow-host is {name!r}; give a name alone, without http:// and port, such as "
                        "pose.example.org (addresses such as 10.1.2.3 need none)")
    if finding.threads is None:
        finding = replace(finding, threads=max(1, available_cores() // workers))
    settings = Settings(host=host, port=port, hosts=allow_host, workers=workers, queue=queue, timeout=timeout,
                        max_bytes=max_bytes)
    run_server(finding.arguments(), settings, lambda address, model: _tell(address, model, workers))


def _tell(address: str, model: dict[str, Any], workers: int) -> None:
    names = " and ".join(printable(model[kind]) for kind in ("pose", "detector"))
    note(f"serving {names} at {address} with {counted(workers, 'process', 'processes')}; Ctrl-C ends it")


def _check(port: int, workers: int, queue: int, timeout: float, max_bytes: int) -> None:
    if not 0 <= port <= HIGHEST_PORT:
        wrong_usage(f"--port is {port}; use 1 to {HIGHEST_PORT}, or 0 for any that is free")
    for name, value in (("--workers", workers), ("--queue", queue), ("--max-bytes", max_bytes)):
        if value < 1:
            wrong_usage(f"{name} is {value}; use a whole number from 1 on")
    if not 0 < timeout < math.inf:
        wrong_usage(f"--timeout is {timeout:g}; use a number of seconds above 0")
