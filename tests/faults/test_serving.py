"""S1 to S6: ``stagepose serve`` among hostile clients, floods, dying processes and signals, on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image
from servers import Server, launch, parent_of, serving
from toy_models import TWO, dots, png
from waiting import LONGEST, until

from stagepose.serving.server import MOST_CONNECTIONS

MOST = 100_000  # bytes of a body
PATIENCE = 3  # seconds
FAR_BEYOND = 60_000_000  # bytes
HELD_AT_MOST = 17  # bodies: those of a queue of 16, and of one worker
FLOOD = 200  # requests at once
QUEUE = 4


@pytest.fixture(scope="module")
def picture() -> bytes:
    return png(dots(TWO))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of little patience."""
    with serving(tmp_path_factory.mktemp("strict"), "--max-bytes", str(MOST), "--timeout", str(PATIENCE)) as server:
        yield server


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("patient"), "--queue", str(QUEUE), "--timeout", str(LONGEST)) as server:
        yield server


def head(*lines: str, path: str = "/v1/predict") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def talk(server: Server, data: bytes, more: Callable[[socket.socket], None] = lambda _: None) -> bytes:
    """All that comes back until the server closes the connection or the answer is whole."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=LONGEST) as connection:
        connection.sendall(data)
        more(connection)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
            top, whole, body = answer.partition(b"\r\n\r\n")
            length = [int(line.split(b":")[1]) for line in top.split(b"\r\n") if line.startswith(b"content-length")]
            if whole and length and len(body) >= length[0]:
                break
        return answer


def status(answer: bytes) -> int:
    return int(answer.split()[1])


def error(answer: bytes) -> str:
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert list(told) == ["error"] and "\n" not in told["error"]
    return told["error"]


def peak(server: Server) -> int:
    """Bytes of memory that the server itself has ever held."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def still_works(server: Server, picture: bytes) -> None:
    with server.client() as client:
        answer = client.post("/v1/predict", content=picture)
    assert answer.status_code == 200 and len(answer.json()["people"]) == 2


# --- S1: bodies


def test_a_body_that_says_it_is_too_large_is_not_asked_for(strict: Server) -> None:
    answer = talk(strict, head("Expect: 100-continue", f"Content-Length: {FAR_BEYOND}"))
    assert status(answer) == 413 and f"{FAR_BEYOND:,}" in error(answer) and "--max-bytes" in error(answer)


@pytest.mark.parametrize("last_word", ["keep-alive", "close"])
def test_a_body_too_large_in_chunks_without_length(strict: Server, picture: bytes, last_word: str) -> None:
    """Memory stays flat, and a client that sends all before it listens hears the answer."""
    still_works(strict, picture)
    before = peak(strict)

    def flood(connection: socket.socket) -> None:
        chunk = b"%x\r\n%s\r\n" % (MOST, b"x" * MOST)
        for _ in range(FAR_BEYOND // MOST):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")

    answer = talk(strict, head("Transfer-Encoding: chunked", f"Connection: {last_word}"), flood)
    assert status(answer) == 413 and f"the limit is {MOST:,}" in error(answer)
    assert peak(strict) - before < FAR_BEYOND / 4
    still_works(strict, picture)


def test_slow_clients_are_told_or_cut(strict: Server, picture: bytes) -> None:
    """A body that trickles: 408. A head that never ends, and one that never begins: closed."""
    cases = {"body": head("Content-Length: 1000") + b"x", "head": head()[:-4] + b"\r\nX-More: ", "nothing": b""}
    with ThreadPoolExecutor(len(cases)) as threads:
        going = {name: threads.submit(talk, strict, data) for name, data in cases.items()}
        still_works(strict, picture)
        answers = {name: future.result() for name, future in going.items()}
    assert status(answers["body"]) == 408 and "1 bytes of the body have arrived" in error(answers["body"])
    assert b"\r\nconnection: close\r\n" in answers["body"]
    assert answers["head"] == answers["nothing"] == b""


def test_bodies_that_are_held_together(strict: Server, picture: bytes) -> None:
    """Many that are nearly whole: beyond what all may hold, the next is told to come again."""
    begun = head(f"Content-Length: {MOST}") + b"x" * (MOST - 1)
    with ThreadPoolExecutor(HELD_AT_MOST + 2) as threads:
        answers = [future.result() for future in [threads.submit(talk, strict, begun) for _ in range(HELD_AT_MOST + 2)]]
    assert sorted(map(status, answers)) == [408] * HELD_AT_MOST + [503] * 2
    assert all("bytes of other requests" in error(answer) for answer in answers if status(answer) == 503)
    still_works(strict, picture)


def test_a_thousand_parts(strict: Server, picture: bytes) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n'
    body = part * 1000 + b"--b--\r\n"
    answer = talk(strict, head("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(body)}") + body)
    assert status(answer) == 400 and "more than one part" in error(answer)
    still_works(strict, picture)


def test_a_request_of_two_lengths_is_the_last_of_its_connection(strict: Server) -> None:
    """What one of them hides from a proxy is not answered."""
    hidden = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    chunked = "Transfer-Encoding: chunked"
    for lengths in (("Content-Length: 5", chunked), (chunked, "Content-Length: 99")):
        with socket.create_connection(("127.0.0.1", strict.port), timeout=LONGEST) as connection:
            connection.sendall(head(*lengths) + b"0\r\n\r\n" + hidden)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))  # until the server closes
        assert status(answer) == 400 and "both Content-Length and Transfer-Encoding" in error(answer)
        assert b"\r\nconnection: close\r\n" in answer and answer.count(b"HTTP/1.1 ") == 1


def test_no_http_at_all_and_endless_heads(strict: Server, picture: bytes) -> None:
    assert status(talk(strict, b"\x16\x03\x01 TLS to a plain port\r\n\r\n")) == 400
    assert status(talk(strict, head()[:-4] + b"\r\nX-Long: " + b"x" * 20_000)) == 400
    still_works(strict, picture)


def test_a_picture_that_unfolds_beyond_the_limit(strict: Server, picture: bytes, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with strict.client() as client:
        answer = client.post("/v1/predict", content=(tmp_path / "bomb.png").read_bytes())
    assert answer.status_code == 422 and "400 megapixels" in answer.json()["error"]
    still_works(strict, picture)


# --- S2: floods


def test_more_requests_than_it_takes(patient: Server, picture: bytes) -> None:
    async def flood() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=FLOOD)
        async with httpx.AsyncClient(base_url=patient.url, timeout=LONGEST, limits=limits, trust_env=False) as client:
            asked = [asyncio.create_task(client.post("/v1/predict", content=picture)) for _ in range(FLOOD)]
            while sum(task.done() for task in asked) < FLOOD - QUEUE - 1:
                await asyncio.sleep(0.02)
            patient.signal(signal.SIGCONT)
            return await asyncio.gather(*asked)

    patient.until(busy=0, waiting=0)
    with patient.stopped():
        answers = asyncio.run(flood())
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == FLOOD - QUEUE - 1, "one is looked at, and the queue is full"
    assert all(answer.headers["retry-after"] == "1" and "busy" in answer.json()["error"] for answer in refused)
    served = [answer for answer in answers if answer.status_code == 200]
    assert len(served) == QUEUE + 1 and all(len(answer.json()["people"]) == 2 for answer in served)
    still_works(patient, picture)


def test_more_connections_than_it_holds(patient: Server, picture: bytes) -> None:
    """Of clients who say nothing: the next ones are closed, and there is room once those have gone."""
    with ExitStack() as all_of_them:
        held = [all_of_them.enter_context(socket.create_connection(("127.0.0.1", patient.port)))
                for _ in range(MOST_CONNECTIONS)]
        for _ in range(3):
            with suppress(ConnectionResetError):
                assert talk(patient, b"") == b""
        assert select.select(held, [], [], 0)[0] == [], "none of those before was closed for it"
    until(lambda: has_room(patient))
    still_works(patient, picture)


def has_room(server: Server) -> bool:
    try:
        return bool(server.state()["ready"])
    except httpx.TransportError:
        return False


def test_who_hangs_up_gives_up_their_place(patient: Server, picture: bytes) -> None:
    request = head(f"Content-Length: {len(picture)}") + picture
    with patient.stopped():
        connections = [socket.create_connection(("127.0.0.1", patient.port)) for _ in range(QUEUE + 1)]
        for connection in connections:
            connection.sendall(request)
        patient.until(busy=1, waiting=QUEUE)
        for connection in connections:
            connection.close()
        patient.until(busy=1, waiting=0)
    patient.until(busy=0)
    still_works(patient, picture)


# --- S3: a worker dies


def in_flight(server: Server, picture: bytes, threads: ThreadPoolExecutor) -> Future[httpx.Response]:
    """A request that a worker, which stands still, looks at."""
    asked = threads.submit(lambda: httpx.post(f"{server.url}/v1/predict", content=picture, timeout=LONGEST,
                                              trust_env=False))
    server.until(busy=1)
    return asked


def test_a_worker_that_dies_costs_one_request(patient: Server, picture: bytes) -> None:
    patient.until(ready=True, busy=0)
    before = patient.workers()
    with ThreadPoolExecutor(2) as threads:
        with patient.stopped():
            first = in_flight(patient, picture, threads)
            second = threads.submit(still_works, patient, picture)
            patient.until(waiting=1)
            patient.signal(signal.SIGKILL)
        answer = first.result()
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1" and "died" in answer.json()["error"]
        second.result()
    assert set(before).isdisjoint(patient.workers()) and len(patient.workers()) == 1


def test_a_worker_that_dies_idle_costs_nothing(patient: Server, picture: bytes) -> None:
    before = patient.workers()
    patient.signal(signal.SIGKILL)
    until(lambda: patient.state()["ready"] and set(before).isdisjoint(patient.workers()))
    still_works(patient, picture)


def test_a_worker_that_finds_no_end_is_replaced(strict: Server, picture: bytes) -> None:
    before = strict.workers()
    with strict.stopped(), strict.client() as client:
        answer = client.post("/v1/predict", content=picture)
    assert answer.status_code == 504 and f"{PATIENCE} seconds" in answer.json()["error"]
    until(lambda: strict.state()["ready"] and set(before).isdisjoint(strict.workers()))
    still_works(strict, picture)


# --- S4: names, addresses, other sites


def test_names_of_files_and_addresses_mean_nothing(strict: Server, picture: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, strict.client() as client:
        elsewhere.setblocking(False)
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        named = client.post("/v1/predict", files={"image": ("../../x", picture)})
        assert named.status_code == 200 and len(named.json()["people"]) == 2
        for place in (address, f"file://{secret}", str(secret)):
            assert client.post("/v1/predict", content=place.encode()).status_code == 422
            assert client.post("/v1/predict", data={"image": place}).status_code == 422
            assert client.post("/v1/predict", files={"image": (place, place.encode())}).status_code == 422
            assert client.post("/v1/predict", files={"url": (None, place)}).status_code == 400
            assert client.post("/v1/predict", json={"url": place}).status_code == 415
            assert client.post("/v1/predict", params={"url": place}, content=picture).status_code == 422
        with pytest.raises(BlockingIOError):  # nobody has called
            elsewhere.accept()
    folder = Path(f"/proc/{strict.process.pid}/cwd").readlink()
    assert {path.name for path in folder.iterdir()} == {"pose.onnx", "detector.onnx"}
    assert not (folder.parents[1] / "x").exists()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"])
def test_pages_of_other_origins_may_not_send(strict: Server, picture: bytes, origin: str) -> None:
    with strict.client() as client:
        for path in ("/v1/predict", "/v1/overlay"):
            answer = client.post(path, content=picture, headers={"origin": origin})
            assert answer.status_code == 403 and repr(origin) in answer.json()["error"]
            assert "access-control-allow-origin" not in answer.headers
        assert client.post("/v1/predict", content=picture, headers={"origin": strict.url}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "", "[evil"])
def test_a_name_that_somebody_points_at_us(strict: Server, host: str) -> None:
    with strict.client() as client:
        for path in ("/", "/v1/model", "/healthz"):
            answer = client.get(path, headers={"host": host, "origin": f"http://{host}"})
            assert answer.status_code == 421 and "--allow-host" in answer.json()["error"]


# --- S5: what an error tells


def test_errors_tell_no_paths_traces_or_versions(strict: Server, picture: bytes) -> None:
    requests: list[tuple[str, str, bytes, dict[str, str]]] = [
        ("GET", "/nothing", b"", {}), ("PUT", "/v1/predict", picture, {}), ("POST", "/v1/predict?x=1", picture, {}),
        ("POST", "/v1/predict", picture[:-30], {}), ("POST", "/v1/predict", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, {}),
        ("POST", "/v1/predict", b"II*\0" + b"\xff" * 99, {}), ("POST", "/v1/predict", picture, {"host": "x"}),
        ("POST", "/v1/predict", picture, {"content-type": "multipart/form-data"}),
        ("POST", "/v1/predict", picture, {"content-type": 'multipart/form-data; boundary="'}),
    ]  # fmt: skip
    with strict.client() as client:
        for method, path, body, headers in requests:
            answer = client.request(method, path, content=body, headers=headers)
            assert 400 <= answer.status_code < 500 and list(answer.json()) == ["error"], answer.text
            told = answer.text + str(answer.headers)
            for word in ("traceback", 'file "', ".py", "site-packages", "stagepose/", "/tmp", "uvicorn", ".onnx"):
                assert word not in told.lower(), f"{word} in {told}"
            assert "server" not in answer.headers


# --- S6: the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_waits_for_requests_under_way(number: signal.Signals, picture: bytes, tmp_path: Path) -> None:
    with serving(tmp_path, "--timeout", str(LONGEST)) as server, ThreadPoolExecutor(1) as threads:
        workers = server.workers()
        with server.stopped():
            asked = in_flight(server, picture, threads)
            os.killpg(server.process.pid, number)  # as terminals and service managers do: the workers are told too
            until(lambda: refuses(server))
        answer = asked.result()
        assert answer.status_code == 200 and len(answer.json()["people"]) == 2
        assert server.process.wait(LONGEST) == 0
        assert server.process.stderr.read() == ""
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_the_end_waits_for_all_the_time_that_a_request_may_take(picture: bytes, tmp_path: Path) -> None:
    """One that arrives for most of a timeout, and then is looked at for most of another."""
    timeout = 5
    with serving(tmp_path, "--timeout", str(timeout)) as server, ThreadPoolExecutor(1) as threads:
        server.until(ready=True)

        def late(connection: socket.socket) -> None:
            time.sleep(0.65 * timeout)
            connection.sendall(picture[9:])
            time.sleep(0.65 * timeout)
            server.signal(signal.SIGCONT)

        with server.stopped():
            begun = head("Connection: close", f"Content-Length: {len(picture)}") + picture[:9]
            asked = threads.submit(talk, server, begun, late)
            time.sleep(0.1 * timeout)  # until the server has read its head
            server.process.send_signal(signal.SIGTERM)
            answer = asked.result()
        assert status(answer) == 200, answer
        assert server.process.wait(LONGEST) == 0 and server.process.stderr.read() == ""


def test_a_second_ctrl_c_tells_those_who_wait(picture: bytes, tmp_path: Path) -> None:
    with serving(tmp_path, "--timeout", str(LONGEST)) as server, ThreadPoolExecutor(2) as threads:
        with server.stopped():
            asked = [in_flight(server, picture, threads)]
            asked.append(threads.submit(httpx.post, f"{server.url}/v1/predict", content=picture, timeout=LONGEST,
                                        trust_env=False))
            server.until(busy=1, waiting=1)
            server.process.send_signal(signal.SIGINT)
            until(lambda: refuses(server))
            server.process.send_signal(signal.SIGINT)
            for answer in [future.result() for future in asked]:
                assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
                assert "the server is ending" in answer.json()["error"]
                assert answer.headers["cache-control"] == "no-store" and answer.headers["connection"] == "close"
        assert server.process.wait(LONGEST) == 0 and server.process.stderr.read() == ""


def refuses(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_workers_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        [worker] = server.workers()
        server.process.kill()
        until(lambda: not Path(f"/proc/{worker}").exists() or state_of(worker) == "Z")


def state_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[0]


def test_told_to_end_before_it_serves(tmp_path: Path) -> None:
    process = launch(tmp_path)
    until(lambda: any(parent_of(folder) == process.pid for folder in Path("/proc").glob("[0-9]*")))
    process.send_signal(signal.SIGINT)
    assert process.wait(LONGEST) == 130
    assert process.communicate()[1] == "interrupted\n"


def test_a_port_that_a_server_has(strict: Server, tmp_path: Path) -> None:
    other = launch(tmp_path, "--port", str(strict.port))
    assert other.wait(LONGEST) == 1
    assert "cannot listen there" in other.communicate()[1]
