"""A headless Chromium over its debugging pipe: the DevTools protocol as JSON between NUL bytes, no package needed."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LONGEST = 30  # seconds until a test says that something hangs
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--no-proxy-server",
         "--disable-background-networking", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
         *(["--no-sandbox"] if os.geteuid() == 0 else []))  # root has no sandbox
LEAST_PIPE = 10  # above 3 and 4, which Chromium hears and speaks on
HAND_OVER = "import os, sys; r, w, *command = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); " \
            "os.execv(command[0], command)"


def executable() -> str:
    """Of the browser; skips the test where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium found: apt-get install chromium, or set CHROMIUM to its path")
    return found


class Page:
    """The only page of a browser; ``events`` are what the browser has told on its own."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self.process, self.events, self.session = process, list[dict[str, Any]](), ""
        self._commands, self._answers, self._read, self._number = commands, answers, b"", 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self.events.append(message)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._answers], [], [], LONGEST)[0], "the browser does not answer"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        deadline = time.monotonic() + LONGEST
        while not (value := self.run(script)):
            assert time.monotonic() < deadline, f"never comes: {script}; the page says {self.status()!r}"
            time.sleep(0.02)
        return value

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def choose(self, *files: Path) -> None:
        """As with the file dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def status(self) -> str:
        return self.run("document.getElementById('status').textContent")

    def says(self, start: str) -> str:
        """The whole line, as soon as it begins so."""
        return self.until(f"(text => text.startsWith({json.dumps(start)}) && text)"
                          "(document.getElementById('status').textContent)")

    def seen(self) -> set[str]:
        """Ids of what can be seen."""
        return set(self.run("[...document.querySelectorAll('[id]')].filter(each => each.checkVisibility())"
                            ".map(each => each.id)"))


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    command, (hears, commands), (answers, speaks) = executable(), os.pipe(), os.pipe()
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, LEAST_PIPE) for end in (hears, speaks)]
    process = subprocess.Popen([sys.executable, "-c", HAND_OVER, *map(str, theirs), command, *FLAGS,
                                f"--user-data-dir={profile}"], pass_fds=theirs, stderr=subprocess.DEVNULL)
    for end in (hears, speaks, *theirs):
        os.close(end)
    try:
        yield Page(process, commands, answers)
    finally:
        os.close(commands)  # at which it ends by itself
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answers)
