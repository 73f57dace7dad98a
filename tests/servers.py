"""``stagepose serve`` with the toy models on a free port of loopback, as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy_models import detector_bytes, pose_bytes
from waiting import LONGEST, until

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

TOYS = ("--pose", "pose.onnx", "--detector", "detector.onnx", "--threads", "1")


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=LONGEST, trust_env=False)

    def state(self) -> dict[str, int]:
        with self.client() as client:
            return client.get("/readyz").json()

    def until(self, **state: int) -> None:
        """Until /readyz says so."""
        until(lambda: state.items() <= self.state().items())

    def workers(self) -> list[int]:
        """Ids of its processes that look at pictures."""
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if parent_of(folder) == self.process.pid]

    def signal(self, number: signal.Signals) -> None:
        """To all its workers."""
        for worker in self.workers():
            os.kill(worker, number)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Its workers stand still: models of any slowness."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)


def parent_of(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
    except OSError:  # ended meanwhile
        return 0


def launch(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "stagepose", "serve", "--port", "0", *words], cwd=folder,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[Server]:
    """With the toy models, unless ``words`` name others; killed at the end, and its workers with it."""
    (folder / "pose.onnx").write_bytes(pose_bytes())
    (folder / "detector.onnx").write_bytes(detector_bytes())
    process = launch(folder, *(() if "--pose" in words else TOYS), *words)
    try:
        line = process.stderr.readline()
        address = re.search(r" at (http://\S+:\d+) with ", line)
        assert address, line + process.stderr.read()
        yield Server(process, address[1])
    finally:
        process.kill()
        process.communicate()
