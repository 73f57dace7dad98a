"""The page as its users have it: people drawn where they are, and what is wrong said where they look."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from servers import Server, serving
from toy_models import TOY, TWO, dots, pose_bytes
from waiting import LONGEST

from e2e.browser import Page, browsing, executable
from stagepose.skeleton import Skeleton

MOST = 500_000  # bytes of a body
LEFT, RIGHT, CENTRE = (0x40, 0xC4, 0xFF), (0xFF, 0x9F, 0x1C), (0xFF, 0xEC, 0x6E)
ASKED = "performance.getEntriesByType('resource').map(each => each.name.split('/').pop())"
STORED = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    executable()
    words = ("--max-bytes", str(MOST), "--queue", "1", "--timeout", str(LONGEST))
    with serving(tmp_path_factory.mktemp("served"), *words) as server:
        yield server


@pytest.fixture
def page(browser: Page, server: Server) -> Iterator[Page]:
    """Of a fresh server's; at the end nothing may have been forbidden by its policy, and no script have failed."""
    browser.open("about:blank")
    browser.events.clear()
    browser.open(server.url + "/")
    yield browser
    bad = [event for event in browser.events if event["method"] == "Runtime.exceptionThrown"
           or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] == "security")]
    assert bad == []


def two(path: Path, orientation: int = 1, size: tuple[int, int] = (320, 240)) -> Path:
    """Two people, stored as a camera held otherwise does."""
    image = Image.fromarray(dots(TWO)).resize(size)
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (image if turn is None else image.transpose(turn)).save(path, exif=exif)
    return path


def colour(page: Page, x: float, y: float) -> list[int]:
    """On the canvas, at a point of the picture."""
    return page.run("(canvas => [...canvas.getContext('2d').getImageData("
                    f"({x} + .5) * canvas.width / found().width, ({y} + .5) * canvas.height / found().height, 1, 1"
                    ").data.slice(0, 3)])(el('canvas'))".replace("found()", "JSON.parse(el('json').textContent)"))


def is_drawn(page: Page, person: dict[str, Any], colours: dict[str, tuple[int, int, int]]) -> None:
    """Every joint in its colour, in the skeleton's order, and both limbs, from the first to the others, in theirs."""
    places = np.reshape(person["keypoints"], (-1, 3))[:, :2]
    for name, place, middle in zip(colours, places, (places[0] + places) / 2, strict=True):
        for x, y in (place, middle):
            assert np.abs(np.subtract(colour(page, x, y), colours[name])).max() < 3, name


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("size", "density"), [((320, 240), 1), ((320, 240), 3), ((3200, 2400), 2)])
def test_people_are_drawn_where_they_are(page: Page, orientation: int, size: tuple[int, int], density: int,
                                         tmp_path: Path) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=375, height=700, deviceScaleFactor=density, mobile=True)
    page.choose(two(tmp_path / "two.png", orientation, size))
    assert page.says("2 people found") == "2 people found"
    found = json.loads(page.run("el('json').textContent"))
    assert (found["width"], found["height"], len(found["people"])) == (*size, 2)
    for person in found["people"]:
        is_drawn(page, person, {"nose": CENTRE, "left_hand": LEFT, "right_hand": RIGHT})
    assert page.seen() >= {"canvas", "legend", "details"} and not page.seen() & {"again", "json"}
    assert page.run("el('canvas').getAttribute('aria-label')") == "The picture with 2 people drawn in"
    assert page.run("document.documentElement.scrollWidth <= innerWidth"), "wider than a phone"
    page.call("Emulation.clearDeviceMetricsOverride")


def test_sides_are_those_of_the_skeleton_whatever_its_names(browser: Page, tmp_path: Path) -> None:
    names = {"nose": "mouth", "left_hand": "right_wing", "right_hand": "left_wing"}
    skeleton = Skeleton(name="bird", names=tuple(names.values()), flip_pairs=(("right_wing", "left_wing"),),
                        limbs=tuple((names[a], names[b]) for a, b in TOY.limbs), sigmas=TOY.sigmas)
    (tmp_path / "bird.onnx").write_bytes(pose_bytes(skeleton=skeleton))
    with serving(tmp_path, "--pose", "bird.onnx", "--detector", "detector.onnx", "--threads", "1") as server:
        browser.open(server.url + "/")
        browser.choose(two(tmp_path / "two.png"))
        browser.says("2 people found")
    for person in json.loads(browser.run("el('json').textContent"))["people"]:
        is_drawn(browser, person, {"mouth": CENTRE, "right_wing": LEFT, "left_wing": RIGHT})


def test_nobody(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "black.png")
    page.choose(tmp_path / "black.png")
    page.says("no people found")
    assert "canvas" in page.seen() and "legend" not in page.seen()


def test_what_is_refused_leaves_nothing_of_the_picture_before(page: Page, tmp_path: Path) -> None:
    page.choose(two(tmp_path / "two.png"))
    page.says("2 people found")
    (tmp_path / "text.jpg").write_text("no picture at all")
    page.choose(tmp_path / "text.jpg")
    page.says("text.jpg: not a picture in a known format")
    assert not page.seen() & {"canvas", "details", "again"}
    assert page.run("el('status').className") == "error"
    (tmp_path / "large.jpg").write_bytes(bytes(600_000))
    page.choose(tmp_path / "large.jpg")
    assert page.says("large.jpg:") == "large.jpg: has 0.6 MB, the limit is 0.5 MB; choose a smaller one"


def test_a_picture_that_the_server_alone_can_open(page: Page, tmp_path: Path) -> None:
    Image.fromarray(dots(TWO)).save(tmp_path / "two.tif", compression="tiff_deflate")
    page.choose(tmp_path / "two.tif")
    assert "this browser cannot show such a picture" in page.says("2 people found;")
    assert "json" in page.seen() and "canvas" not in page.seen()


def test_the_box_looks_again(page: Page, tmp_path: Path) -> None:
    page.choose(two(tmp_path / "two.png"))
    page.says("2 people found")
    page.run("el('mirror').click()")
    page.until(f"{ASKED}.includes('predict?flip=true')")
    page.says("2 people found")


def set_to(page: Page, what: str, value: str) -> None:
    """As by a hand that leaves the field then."""
    page.run(f"el({what!r}).value = {value!r}; el({what!r}).dispatchEvent(new Event('change'))")


def test_who_counts_is_asked_of_the_server(page: Page, tmp_path: Path) -> None:
    page.run("document.querySelector('.options').parentElement.open = true")
    assert page.run("el('keep_by').disabled") and page.run("el('threshold').placeholder") == "default"
    set_to(page, "threshold", "0.05")
    page.choose(two(tmp_path / "two.png"))
    page.says("2 people found")
    assert page.run("el('threshold').placeholder") == "0.5"
    page.run("el('mirror').click()")
    page.until(f"{ASKED}.includes('predict?flip=true&threshold=0.05')")
    page.says("2 people found")
    best, *_ = json.loads(page.run("el('json').textContent"))["people"]
    set_to(page, "keep", "1")
    assert page.says("1 person found") == "1 person found"
    assert json.loads(page.run("el('json').textContent"))["people"] == [best]
    set_to(page, "keep_by", "size")
    page.until(f"{ASKED}.includes('predict?flip=true&threshold=0.05&keep=1&keep_by=size')")
    page.says("1 person found")
    set_to(page, "threshold", "1")
    page.says("no people found")
    set_to(page, "threshold", "")
    set_to(page, "keep", "")
    assert page.says("2 people found") and page.run("el('keep_by').disabled")


def test_a_number_that_cannot_be_is_said_and_not_sent(page: Page, tmp_path: Path) -> None:
    set_to(page, "threshold", "1.5")
    assert page.says("the minimum person score is a number from 0 to 1")
    assert page.run("el('status').className") == "error"
    set_to(page, "threshold", "0.25")
    assert page.status() == "" and page.run("el('status').className") == ""
    set_to(page, "keep", "0")
    page.choose(two(tmp_path / "two.png"))
    page.says("the number of people is a whole number from 1 on")
    assert not any(each.startswith("predict") for each in page.run(ASKED))
    set_to(page, "keep", "2")
    page.says("2 people found")


def white(page: Page) -> int:
    """Pixels of the canvas that are: of letters, on the toy's pictures."""
    return page.run("""(canvas => {
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        let count = 0;
        for (let i = 0; i < data.length; i += 4) count += data[i] + data[i + 1] + data[i + 2] === 765;
        return count;
    })(el('canvas'))""")


def test_labels_are_drawn_without_another_look(page: Page, tmp_path: Path) -> None:
    page.choose(two(tmp_path / "two.png"))
    page.says("2 people found")
    numbers, asked = white(page), page.run(ASKED)
    set_to(page, "labels", "score")
    scores = white(page)
    set_to(page, "labels", "none")
    assert scores > 2 * numbers > 2 * white(page)
    set_to(page, "labels", "number")
    assert white(page) == numbers and page.run(ASKED) == asked
    set_to(page, "keep", "1")  # one alone is not called by a number
    page.says("1 person found")
    alone = white(page)
    set_to(page, "labels", "score")
    assert white(page) > alone


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_the_options_fit_every_screen(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1, mobile=width < 1000)
    page.run("el('more').click()")
    assert page.seen() >= {"threshold", "keep", "keep_by", "labels"}
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    page.call("Emulation.clearDeviceMetricsOverride")


def hand_over(page: Page, event: str, names: list[str], file: Path) -> None:
    data = base64.b64encode(file.read_bytes()).decode()
    made = "DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: given})" if event == "drop" else \
        "ClipboardEvent('paste', {bubbles: true, clipboardData: given})"
    page.run(f"""(() => {{
        const bytes = Uint8Array.from(atob("{data}"), each => each.charCodeAt(0)), given = new DataTransfer();
        for (const name of {json.dumps(names)}) given.items.add(new File([bytes], name, {{type: "image/png"}}));
        if (!given.items.length) given.setData("text/plain", "hello");
        document.body.dispatchEvent(new {made});
    }})()""")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_dropped_and_pasted(page: Page, event: str, tmp_path: Path) -> None:
    file = two(tmp_path / "two.png")
    hand_over(page, event, ["a.png"], file)
    assert page.says("2 people") == "2 people found"
    hand_over(page, event, ["a.png", "b.png"], file)
    page.says("2 people found; the first of 2 files")
    hand_over(page, event, [], file)
    page.says("that contains no picture file")


def test_the_keyboard_alone(page: Page) -> None:
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    visited = []
    for _ in range(4):
        page.press("Tab", 9)
        visited.append(page.run("document.activeElement.id"))
    assert visited == ["file", "camera", "mirror", "more"]
    outline = "getComputedStyle({}).outlineStyle"
    assert page.run(outline.format("el('more')")) == "solid"
    page.run("el('file').focus()")
    assert page.run(outline.format("document.querySelector('.button')")) == "solid"
    page.press("Enter", 13, "\r")
    page.until("1")
    assert any(event["method"] == "Page.fileChooserOpened" for event in page.events)
    page.call("Page.setInterceptFileChooserDialog", enabled=False)


def test_a_busy_server_can_be_asked_again(page: Page, server: Server, tmp_path: Path) -> None:
    file = two(tmp_path / "two.png")
    with ThreadPoolExecutor(2) as others, server.client() as client:
        with server.stopped():
            sent = [others.submit(client.post, "/v1/predict", content=file.read_bytes()) for _ in range(2)]
            server.until(busy=1, waiting=1)
            page.choose(file)
            page.says("the server is busy: its queue is full (1 waiting, the most it takes)")
            assert page.seen() >= {"again", "canvas"} and "details" not in page.seen()
        assert [each.result().status_code for each in sent] == [200, 200]
    page.run("el('again').click()")
    page.says("2 people found")
    assert "again" not in page.seen()


def test_a_server_that_has_gone(browser: Page, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        browser.open(server.url + "/")
    browser.choose(two(tmp_path / "two.png"))
    browser.says("the server does not answer")
    assert "again" in browser.seen()


def test_the_camera(page: Page) -> None:
    page.run("el('camera').click()")
    page.until("el('json').textContent")
    assert page.run("el('camera').textContent") == "Stop the camera" and "canvas" in page.seen()
    page.run("el('camera').click()")
    assert page.run("el('camera').textContent") == "Camera"


def test_a_camera_that_is_allowed_too_late_is_let_go(page: Page, tmp_path: Path) -> None:
    """The button was pressed twice, and then a picture was chosen, while the browser was still asking."""
    page.run("""window.allowed = []; window.tracks = [];
        const get = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = wanted => new Promise(done => allowed.push(async () => {
          const stream = await get(wanted);
          tracks.push(...stream.getTracks());
          done(stream);
        }));
        el('camera').click(); el('camera').click()""")
    page.choose(two(tmp_path / "two.png"))
    page.says("2 people found")
    page.run("allowed.forEach(allow => allow())")
    page.until("tracks.length === 2 && tracks.every(track => track.readyState === 'ended')")
    assert page.run("el('camera').textContent") == "Camera"
    page.says("2 people found")


def test_the_picture_chosen_last_is_the_one_that_is_shown(page: Page, server: Server, tmp_path: Path) -> None:
    """However long the server looks at the first."""
    Image.new("RGB", (40, 30)).save(tmp_path / "black.png")
    with server.stopped():
        page.choose(two(tmp_path / "two.png"))
        server.until(busy=1)
        page.choose(tmp_path / "black.png")
        server.until(waiting=1)
    page.says("no people found")
    assert json.loads(page.run("el('json').textContent"))["width"] == 40
