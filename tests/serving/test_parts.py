"""Form data, worker answers and the command's own refusals, without a server."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from toy_models import detector_bytes, pose_bytes
from waiting import LONGEST

import stagepose
from stagepose import cli
from stagepose.errors import ModelError

pytest.importorskip("fastapi")
from stagepose.serving import pool as pool_module
from stagepose.serving import wire, worker
from stagepose.serving.app import make_app
from stagepose.serving.body import Limits
from stagepose.serving.form import FormError, picture_in
from stagepose.serving.pool import Pool
from stagepose.serving.refused import RefusedError

TYPE = "multipart/form-data; boundary=b"
PICTURE = bytes(range(256)) * 9 + b"\r\n--not the boundary\r\n"


def part(name: str = "image", body: bytes = PICTURE, disposition: str = "Content-Disposition") -> bytes:
    return f'--b\r\n{disposition}: form-data; name="{name}"; filename="../../x"\r\n\r\n'.encode() + body + b"\r\n"


def test_the_part_is_the_picture() -> None:
    assert picture_in(part() + b"--b--\r\n", TYPE) == PICTURE
    assert picture_in(part(disposition="content-disposition") + b"--b--", TYPE) == PICTURE
    assert picture_in(part(), "image/jpeg") == part(), "no form data, whatever it looks like"


@pytest.mark.parametrize(("body", "kind", "message"), [
    (part() + part() + b"--b--", TYPE, "more than one part"),
    (part("url", b"http://x/") + b"--b--", TYPE, "named 'url'"),
    (part(), TYPE, "ends before its last boundary"), (b"--b--\r\n", TYPE, "send form data with one part"),
    (b"", TYPE, "no parts"), (b"nothing of that", TYPE, "no form data"),
    (part() + b"--b--", "multipart/form-data", "names no boundary"),
    (part() + b"--b--", "multipart/form-data; boundary=" + "b" * 999, "no form data"),
    (b"--b\r\n\r\nx\r\n--b--", TYPE, "named ''"),
])  # fmt: skip
def test_other_form_data_is_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(FormError, match=message) as caught:
        picture_in(body, kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("error", "status"), [
    (ModelError("/secret/pose.onnx: broke"), 500), (RuntimeError("/secret"), 500), (MemoryError(), 413),
])  # fmt: skip
def test_what_breaks_inside_is_told_to_the_log_alone(error: Exception, status: int, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(worker, "look", broken)
    predictor = stagepose.load(pose_bytes(), detector_bytes(), threads=1)
    head, body = worker.answer(predictor, {"content_type": "", "options": {}}, b"x")
    assert head["status"] == status and b"secret" not in body and b"Traceback" not in body
    assert ("Traceback" in capsys.readouterr().err) == (status == 500)


def test_a_failure_of_the_server_itself_leaves_as_every_answer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx")

    async def broken(*_: Any) -> None:
        raise RuntimeError("/secret")

    async def answer() -> Any:
        pool = Pool({}, workers=1, queue=1, timeout=1)
        monkeypatch.setattr(pool, "ask", broken)
        app = make_app(pool, Limits(most=9, altogether=9, seconds=9), ["localhost"])
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/predict", content=b"x")

    failed = asyncio.run(answer())
    assert failed.status_code == 500
    assert failed.json() == {"error": "the server failed at this request; its log says why"}
    assert failed.headers["x-content-type-options"] == "nosniff" and failed.headers["cache-control"] == "no-store"


WORKER = """
import sys, time
from pathlib import Path
from stagepose.serving import wire
file = Path("starts")
number = int(file.read_text()) + 1 if file.exists() else 1
file.write_text(str(number))
wire.receive(sys.stdin.buffer)
if number == 2:
    time.sleep(1000)
wire.send(sys.stdout.buffer, {"model": {}})
while wire.receive(sys.stdin.buffer) is not None:
    if number == 1:
        time.sleep(1000)
    wire.send(sys.stdout.buffer, {"number": number})
"""


def test_a_worker_that_hangs_while_it_starts_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         caplog: pytest.LogCaptureFixture) -> None:
    """The first is killed at a request, the second never says that it is ready."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool_module, "COMMAND", (sys.executable, "-c", WORKER))
    monkeypatch.setattr(pool_module, "START_AT_LEAST", 1.0)
    monkeypatch.setattr(pool_module, "START_SLOWER", 3.0)

    async def story() -> None:
        async with Pool({}, workers=1, queue=1, timeout=LONGEST) as pool:
            asked = asyncio.ensure_future(pool.ask({}, b""))
            while not pool.busy:
                await asyncio.sleep(0.01)
            [first] = pool._alive
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(RefusedError, match="its worker process died"):
                await asked
            assert (await pool.ask({}, b""))[0]["number"] > 2

    with caplog.at_level("WARNING"):
        asyncio.run(story())
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "a worker process ended with -9; another one is started"
    assert said[1].startswith("a worker process cannot start: it has not opened its models within ")


def test_an_overlay_too_long_for_a_jpeg_is_a_png() -> None:
    predictor = stagepose.load(pose_bytes(), detector_bytes(), threads=1)
    for width, kind in ((65_500, "jpeg"), (65_501, "png")):
        file = io.BytesIO()
        Image.new("RGB", (width, 8)).save(file, "PNG")
        overlay = {"format": "jpeg", "colours": "side", "labels": "number"}
        order = {"content_type": "", "options": {}, "overlay": overlay}
        head, body = worker.answer(predictor, order, file.getvalue())
        assert head == {"status": 200, "type": f"image/{kind}"}
        assert Image.open(io.BytesIO(body)).size == (width, 8)


def test_messages_come_as_they_went() -> None:
    file = io.BytesIO()
    wire.send(file, {"a": 1}, b"body")
    wire.send(file, {})
    file.seek(0)
    assert [wire.receive(file) for _ in range(3)] == [({"a": 1}, b"body"), ({}, b""), None]


@pytest.mark.parametrize("words", [["--port", "70000"], ["--workers", "0"], ["--queue", "0"], ["--timeout", "0"],
                                   ["--timeout", "inf"], ["--max-bytes", "0"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {words[0]} is {words[1]}") and err.count("\n") == 1


@pytest.mark.parametrize("name", ["a.example:8443", "https://a.example", "[::1]", "*.example", ""])
def test_names_that_no_host_ever_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--allow-host", "good.example", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --allow-host is {name!r}; give a name alone") and err.count("\n") == 1


@pytest.mark.parametrize(("words", "message"), [
    (["--pose", "none.onnx"], "none.onnx"), (["--pose", "person-small"], "detector"),
    (["--threshold", "7"], "threshold is 7"), (["--provider", "abacus"], "abacus"),
    (["--threads", "0"], "threads is 0"), (["--host", "nowhere.invalid"], "nowhere.invalid"),
    (["--host", "my..host"], "my..host:0: cannot listen there: no name of a host; choose another --host"),
    (["--host", "a" * 64], "no name of a host"), (["--host", "\udcff"], "\\udcff:0: cannot listen there"),
])  # fmt: skip
def test_what_cannot_be_served_is_one_line(words: list[str], message: str, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", "--port", "0", *words]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_a_models_name_writes_no_line_of_its_own(monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    model = {"pose": "a\x1b[31m\nlicence CC0", "detector": "d"}
    monkeypatch.setattr("stagepose.commands.serve.run_server", lambda order, settings, told: told("http://x", model))
    assert cli.main(["serve"]) == 0
    assert capsys.readouterr().err.startswith("serving a\\x1b[31m\\nlicence CC0 and d at http://x with 1 process;")


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 1
    err = capsys.readouterr().err
    assert f"127.0.0.1:{port}: cannot listen there" in err and "--port" in err and err.count("\n") == 1


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "python_multipart"])
def test_without_its_extra(package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith(("stagepose.serving", "stagepose.commands.serve"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["serve"]) == 1
    err = capsys.readouterr().err
    assert f'{package} is not installed; run: pip install "stagepose[serve]"' in err and err.count("\n") == 1
