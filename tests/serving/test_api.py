"""The API of ``stagepose serve``: it gives what the predictor finds, and says in one line what is wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from servers import Server, serving
from toy_models import ONE, TOY, TWO, detector_bytes, dots, png, pose_bytes

import stagepose
from stagepose.coco import person_result

PHOTO = Path(__file__).parents[2] / "examples/two_people.jpg"
PICTURE = png(dots(TWO))


def found(file: bytes, **settings: Any) -> list[dict[str, Any]]:
    predictor = stagepose.load(pose_bytes(), detector_bytes(), threads=1, **settings)
    return [person_result(person) for person in predictor(file)[0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served"), "--allow-host", "pose.example.org", "--workers", "2") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", None])
def test_a_raw_body_of_any_such_type(client: httpx.Client, kind: str | None) -> None:
    answer = client.post("/v1/predict", content=PICTURE, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == {"width": 320, "height": 240, "people": found(PICTURE), "notices": []}
    assert len(answer.json()["people"]) == 2


def test_form_data_and_chunks_are_the_same(client: httpx.Client) -> None:
    raw = client.post("/v1/predict", content=PICTURE).json()
    assert client.post("/v1/predict", files={"image": ("x.png", PICTURE)}).json() == raw
    assert client.post("/v1/predict", content=iter([PICTURE[:50], PICTURE[50:]])).json() == raw


def test_nobody_and_what_a_reader_should_know(client: httpx.Client) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(np.full((40, 50, 3), value, np.uint8)) for value in (0, 9)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    answer = client.post("/v1/predict", content=file.getvalue()).json()
    assert answer["people"] == [] and answer["notices"] == ["animated: first of 2 frames used"]


def test_options_of_one_request(client: httpx.Client) -> None:
    def people(**options: Any) -> list[dict[str, Any]]:
        return client.post("/v1/predict", params=options, content=PICTURE).json()["people"]

    assert people(threshold=0.999) == [] and people(threshold=0.1) == found(PICTURE, threshold=0.1)
    assert people(max_people=1) == found(PICTURE, max_people=1) and len(people(max_people=1)) == 1
    assert people(keep=1, keep_by="size") == found(PICTURE, keep=1, keep_by="size") == people()[1:]
    assert people(flip=True) == found(PICTURE, flip=True)
    assert people() == found(PICTURE), "the next request is as the server was started"


@pytest.mark.parametrize(("query", "message"), [
    ("threshold=7", "threshold is '7'"), ("threshold=nan", "threshold is 'nan'"), ("max_people=0", "max_people is '0'"),
    ("flip=maybe", "flip is 'maybe'"), ("url=http://x/y.jpg", "no option 'url'; there are threshold, flip, max_people"),
    ("keep=0", "keep is '0'"), ("keep=1&keep_by=age", "keep_by is 'age'"), ("keep_by=size", "give keep a number"),
    ("format=png", "no option 'format'"), ("threshold=7&flip=x", "flip is 'x'"),
])  # fmt: skip
def test_options_that_do_not_fit(client: httpx.Client, query: str, message: str) -> None:
    answer = client.post(f"/v1/predict?{query}", content=PICTURE)
    assert answer.status_code == 422 and list(answer.json()) == ["error"]
    assert message in answer.json()["error"] and answer.text.count("\n") == 0


@pytest.mark.parametrize(("body", "message"), [
    (b"", "image: the file is empty"), (b"<html>", "image: is a web page"), (PICTURE[:200], "image: "),
])  # fmt: skip
def test_no_picture(client: httpx.Client, body: bytes, message: str) -> None:
    answer = client.post("/v1/predict", content=body)
    assert answer.status_code == 422 and answer.json()["error"].startswith(message)


@pytest.mark.parametrize("kind", ["application/json", "text/html", "video/mp4"])
def test_other_types_are_refused(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/predict", content=PICTURE, headers={"content-type": kind})
    assert answer.status_code == 415 and repr(kind) in answer.json()["error"]


@pytest.mark.parametrize(("kind", "media"), [("jpeg", "JPEG"), ("png", "PNG")])
def test_the_overlay(client: httpx.Client, kind: str, media: str) -> None:
    options = {"format": kind, "colours": "person", "labels": "score"}
    answer = client.post("/v1/overlay", params=options, content=PICTURE)
    image = Image.open(io.BytesIO(answer.content))
    assert (answer.headers["content-type"], image.format, image.size) == (f"image/{kind}", media, (320, 240))
    people = stagepose.load(pose_bytes(), detector_bytes(), threads=1)(PICTURE)[0]
    drawn = stagepose.draw_people(dots(TWO), people, colours="person", labels="score").astype(int)
    assert np.abs(np.asarray(image.convert("RGB")) - drawn).mean() < (3 if kind == "jpeg" else 1e-9)


def test_the_overlays_errors_are_json(client: httpx.Client) -> None:
    for query, body in (("format=gif", PICTURE), ("", b"x")):
        answer = client.post(f"/v1/overlay?{query}", content=body)
        assert answer.status_code == 422 and list(answer.json()) == ["error"]


def test_the_model_names_keypoints_and_limbs(client: httpx.Client) -> None:
    model = client.get("/v1/model").json()
    assert model["keypoints"] == list(TOY.names) and model["limbs"] == [list(limb) for limb in TOY.limbs]
    assert model["flip_pairs"] == [list(pair) for pair in TOY.flip_pairs]
    assert (model["pose"], model["detector"], model["threshold"]) == ("toy-pose", "toy-detector", 0.5)


def test_it_says_that_it_lives_and_is_ready(server: Server, client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"alive": True}
    server.until(ready=True, processes=2, busy=0, waiting=0)


def test_paths_that_are_not_there(client: httpx.Client) -> None:
    for path in ("/docs", "/redoc", "/v1/predict/", "/..%2f..%2fetc/passwd"):
        answer = client.get(path)
        assert answer.status_code in (404, 307) or answer.is_redirect
        assert answer.is_redirect or "/openapi.json lists what there is" in answer.json()["error"]
    assert client.get("/v1/predict").status_code == 405


def test_the_api_describes_itself(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    paths = described["paths"]
    assert {"/v1/predict", "/v1/overlay", "/v1/model", "/healthz", "/readyz"} == set(paths)
    assert {each["name"] for each in paths["/v1/predict"]["post"]["parameters"]} == {
        "threshold", "flip", "max_people", "keep", "keep_by"}
    assert described["components"]["schemas"]["Error"]["required"] == ["error"]
    anywhere, of_a_picture = {"421", "500"}, {"400", "403", "408", "413", "415", "422", "503", "504"}
    for path, statuses in {"/v1/predict": anywhere | of_a_picture, "/v1/overlay": anywhere | of_a_picture,
                           "/v1/model": anywhere, "/healthz": anywhere, "/readyz": {*anywhere, "503"}}.items():
        [operation] = paths[path].values()
        assert set(operation["responses"]) == {"200", *statuses}
        for status in statuses - ({"503"} if path == "/readyz" else set()):  # which tells the same as with 200
            [(kind, told)] = operation["responses"][status]["content"].items()
            assert (kind, told["schema"]) == ("application/json", {"$ref": "#/components/schemas/Error"})
    assert set(paths["/v1/overlay"]["post"]["responses"]["200"]["content"]) == {"image/jpeg", "image/png"}


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for tag in ("script", "style"):
        [inside] = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() in policy
    assert not re.search(r"https?://|\ssrc=|@import|url\(|\son\w+=", answer.text)


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nothing"])
def test_every_answer_is_not_to_be_guessed_at_nor_kept(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_names_that_it_was_given(client: httpx.Client) -> None:
    for host in ("pose.example.org", "POSE.example.org:443", "localhost:1", "10.1.2.3", "[::1]:8000"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200, host
    own = {"host": "pose.example.org", "origin": "https://pose.example.org"}  # behind a proxy that speaks TLS
    assert client.post("/v1/predict", content=png(dots(ONE)), headers=own).status_code == 200


def test_the_shipped_models(tmp_path: Path) -> None:
    with serving(tmp_path, "--pose", "pose-small", "--threads", "1") as server, server.client() as client:
        answer = client.post("/v1/predict", files={"image": PHOTO.read_bytes()}).json()
    ours = stagepose.load(threads=1)(PHOTO)[0]
    assert json.dumps(answer["people"]) == json.dumps([person_result(person) for person in ours])
    assert len(ours) == 2
