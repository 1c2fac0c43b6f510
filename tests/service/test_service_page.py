from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from open_page import OpenPage, chromium
from PIL import Image
from service_runs import CLIP, VIDEO, HeldNetwork, Served, serving
from waiting import wait_for

from aosa_fast import Explanation
from aosa_fast.demo import CLASS_NAMES, demo_clip_path
from aosa_fast.service.access import Access
from aosa_fast.video import read_clip

TOKEN = "a-token-of-this-test"
HOSTILE = "<img src=x onerror=document.title='pwned'>"
NAMES = tuple(name + HOSTILE for name in CLASS_NAMES)
UNDER_WAY = "aosa_requests_in_flight"
GONE = 'aosa_dropped_total{reason="gone"}'
SENT = VIDEO | {"Authorization": f"Bearer {TOKEN}"}
WATCH = """
sessionStorage.length || sessionStorage.setItem("aosa-fast token", "%s");
window.broken = [];
addEventListener("securitypolicyviolation", event => broken.push(event.violatedDirective + " " + event.blockedURI));
addEventListener("error", event => broken.push(event.message));
addEventListener("unhandledrejection", event => broken.push(String(event.reason)));
"""


@pytest.fixture(scope="module")
def network() -> HeldNetwork:
    return HeldNetwork(held=False)


@pytest.fixture(scope="module")
def served(network: HeldNetwork) -> Iterator[Served]:
    """A service of one place, whose classes have hostile names."""
    chromium()
    with serving(network, access=Access(token=TOKEN), names=NAMES, concurrency=1, megabytes=4.0) as served:
        yield served


@pytest.fixture
def held(network: HeldNetwork) -> Iterator[HeldNetwork]:
    """Whatever is asked waits."""
    network.let.clear()
    yield network
    network.let.set()


class Visit:
    """The page in a browser."""

    def __init__(self, page: OpenPage, served: Served) -> None:
        self.page, self.run, self.address = page, page.run, f"http://127.0.0.1:{served.port}/"
        page.call("Page.enable")
        page.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH % TOKEN)
        page.resize(1280, 900)
        page.go(self.address)

    def until(self, script: str) -> Any:
        """What the script says, once it is something."""
        wait_for(lambda: self.run(script))
        return self.run(script)

    def text(self, id: str) -> str:
        return str(self.run(f"document.getElementById({id!r}).textContent"))

    def press(self, place: str) -> None:
        """As a mouse does, in the middle of it."""
        self.run(f"document.querySelector({place!r}).scrollIntoView({{ block: 'center' }})")
        box = "(({ x, y, width, height }) => ({ x: x + width / 2, y: y + height / 2 }))"
        at: Any = None
        while at != (at := self.run(f"{box}(document.querySelector({place!r}).getBoundingClientRect())")):
            time.sleep(0.1)  # what comes above it may still move it
        for kind in ("mousePressed", "mouseReleased"):
            self.page.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def drop(self, *paths: Path) -> None:
        """As from a file manager, somewhere on the page."""
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.page.call("Input.dispatchDragEvent", type=kind, x=180, y=300, data=data)

    def explained(self) -> None:
        self.until("document.querySelector('#said').textContent.startsWith('Explained in ')")


@pytest.fixture
def visit(served: Served, tmp_path: Path) -> Iterator[Visit]:
    with OpenPage(chromium(), tmp_path, "about:blank") as page:
        visit = Visit(page, served)
        yield visit
        assert visit.run("broken") == []
        assert visit.run("[document.title, document.querySelectorAll('[src=x]').length]") == [
            "aosa-fast: explain a clip",
            0,
        ]


def downloaded(folder: Path, pattern: str) -> Path:
    wait_for(lambda: [*folder.glob(pattern)])
    return next(folder.glob(pattern))


@contextmanager
def place_taken(served: Served) -> Iterator[None]:
    """By a client that goes away in the end."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", "/explain", CLIP, SENT)
    wait_for(lambda: served.metric(UNDER_WAY, SENT) == 1)
    yield
    connection.close()
    wait_for(lambda: served.metric(UNDER_WAY, SENT) == 0)


def test_a_clip_that_is_dropped_is_explained(visit: Visit, tmp_path: Path) -> None:
    clip = tmp_path / f"{HOSTILE}.mp4"
    clip.write_bytes(CLIP)
    visit.drop(clip)
    visit.explained()
    assert visit.text("why") == f"Why right{HOSTILE}?"
    assert visit.text("prediction") == f"The model says right{HOSTILE}, p = 0.960."
    assert visit.run("document.querySelector('#preview bdi').textContent") == clip.name
    # The map plays; its picture is the clip's, so that what is seen is more than the model's few pixels.
    assert visit.until("document.querySelector('#map').currentTime > 0.1 && document.querySelector('#map').videoWidth")
    facts = "(({ videoWidth, videoHeight, muted, loop, paused }) => [videoWidth, videoHeight, muted, loop, paused])"
    assert visit.run(f"{facts}(document.querySelector('#map'))") == [256, 256, True, True, False]
    assert visit.until("document.querySelector('#filmstrip img').naturalWidth") > 1000
    rows = visit.run("[...document.querySelectorAll('#top li')].map(one => one.innerText.split('\\n'))")
    assert rows[0] == [f"right{HOSTILE}", "0.960"]
    assert [float(value) for _, value in rows] == sorted((float(value) for _, value in rows), reverse=True)
    assert len(rows) == 5
    assert {"body", "decode", "model", "in all"} <= set(visit.run(
        "[...document.querySelectorAll('#seconds dt')].map(one => one.textContent)"
    ))  # fmt: skip
    for link, (name, head) in enumerate(
        {"map.mp4": b"ftyp", "filmstrip.png": b"\x89PNG", "explanation.npz": b"PK"}.items(), 1
    ):
        visit.press(f"#downloads a:nth-child({link})")
        file = downloaded(tmp_path, f"*-{name}")
        assert head in file.read_bytes()[:8]
    assert Explanation.load(file).metadata["prediction"] == [f"right{HOSTILE}"]


def test_another_class_of_the_same_clip_is_asked_for(visit: Visit, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", read_clip(demo_clip_path(), 16).frames)
    visit.press("#soon")
    visit.page.call("DOM.enable")
    root = visit.page.call("DOM.getDocument")["root"]["nodeId"]
    field = visit.page.call("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    visit.page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "clip.npy")])
    visit.until("!document.querySelector('#go').disabled && document.querySelector('#target').options.length > 1")
    assert visit.run("document.querySelector('#answer').hidden")
    options = visit.run("[...document.querySelector('#target').options].map(one => one.textContent)")
    assert options[1:] == list(NAMES)
    visit.run("document.querySelector('#target').value = '0'")
    visit.press("#go")
    visit.explained()
    assert visit.text("why") == f"Why left{HOSTILE}?"
    assert visit.text("prediction").startswith(f"The model says right{HOSTILE}, p = 0.960. Of left{HOSTILE}, p = 0.0")
    visit.press("#top button")
    visit.until("document.querySelector('#why').textContent.startsWith('Why right')")
    assert visit.run("document.querySelector('#target').value") == "1"
    assert visit.run("document.querySelectorAll('#top [aria-pressed=true]').length") == 1


def test_pictures_are_frames_in_the_order_of_their_names(visit: Visit, tmp_path: Path) -> None:
    for number in range(16):
        picture = np.full((80, 96, 3), 10 * number, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"frame{number}.png")
    visit.drop(*sorted(tmp_path.glob("*.png")))  # 0, 1, 10, 11 ...
    visit.explained()
    visit.press("#downloads a:last-child")
    frames = Explanation.load(downloaded(tmp_path, "*.npz")).frames[0]
    assert [round(value, -1) for value in frames.mean((1, 2, 3)).tolist()] == list(range(0, 160, 10))
    # What it shows of them, besides the filmstrip, are the first.
    assert visit.run("document.querySelectorAll('#preview img').length") == 8


@pytest.mark.parametrize("name", ["damaged.mp4", "notes.txt"])
def test_what_the_service_says_of_a_clip_is_shown(visit: Visit, served: Served, tmp_path: Path, name: str) -> None:
    clip = tmp_path / name
    clip.write_bytes(b"This is no clip.")
    visit.drop(clip)
    error = visit.until("document.querySelector('#error').textContent")
    if name == "notes.txt":
        assert error.startswith("Content-Type must be video/")
    else:
        assert error == served.explain("", clip.read_bytes(), SENT).error
    assert visit.run("document.querySelector('#running').hidden")


def test_a_clip_that_is_too_large_is_not_sent(visit: Visit, tmp_path: Path) -> None:
    clip = tmp_path / "long.mp4"
    clip.write_bytes(bytes(4_200_000))
    visit.until("document.querySelector('#target').options.length > 1")
    visit.drop(clip)
    assert (
        visit.until("document.querySelector('#error').textContent") == "The clip must have at most 4 MB; it has 4.2 MB"
    )
    assert visit.run("performance.getEntriesByType('resource').some(one => one.name.includes('/explain'))") is False


def test_cancel_frees_the_place(visit: Visit, served: Served, held: HeldNetwork) -> None:
    before = served.metric(GONE, SENT)
    visit.drop(demo_clip_path())
    wait_for(lambda: served.metric(UNDER_WAY, SENT) == 1)
    assert visit.until("parseFloat(document.querySelector('#clock').textContent)") > 0
    visit.press("#cancel")
    visit.until("document.querySelector('#running').hidden")
    assert visit.text("said") == "Cancelled."
    wait_for(lambda: served.metric(UNDER_WAY, SENT) == 0)
    assert served.metric(GONE, SENT) == before + 1
    held.let.set()
    visit.press("#go")  # the clip is still there
    visit.explained()


def test_a_busy_service_is_asked_again_once(visit: Visit, served: Served, held: HeldNetwork) -> None:
    # What the page waits for comes when the test says so.
    visit.run("const real = setTimeout; window.setTimeout = (f, ms) => ms < 1000 ? real(f, ms) : (window.again = f)")
    asked = "document.querySelector('#said').textContent"
    busy = "1 requests are under way"
    with place_taken(served):
        visit.drop(demo_clip_path())
        assert busy in visit.until(f"window.again && {asked}")
        assert visit.text("said").endswith("It is asked again in 1 s.")
        visit.run("again()")
        assert busy in visit.until("document.querySelector('#error').textContent")
        visit.run("window.again = null")
        visit.press("#go")
        visit.until("Boolean(window.again)")
    held.let.set()
    visit.run("again()")
    visit.explained()


def test_a_token_is_asked_for_and_kept_in_this_tab_alone(visit: Visit, served: Served) -> None:
    visit.run("sessionStorage.setItem('aosa-fast token', 'the-one-of-yesterday')")
    visit.page.go("about:blank")
    visit.page.go(visit.address)
    visit.until("!document.querySelector('#access').hidden")
    assert visit.text("error").startswith("Authorization must be")
    assert visit.run("document.activeElement.id") == "token"
    visit.drop(demo_clip_path())  # is explained as soon as there is a token
    wait_for(lambda: any("POST /explain 401" in line for line in served.lines))
    visit.until("document.querySelector('#running').hidden && document.activeElement.id === 'token'")
    visit.page.call("Input.insertText", text=TOKEN)
    visit.page.call("Input.dispatchKeyEvent", type="char", text="\r")
    visit.explained()
    assert visit.run("document.querySelector('#access').hidden")
    assert visit.run("document.querySelector('#target').options.length") == 7
    assert visit.run("[...Object.values(sessionStorage)]") == [TOKEN]
    assert visit.run("[localStorage.length, document.cookie, location.href]") == [0, "", visit.address]
    assert not visit.run(f"performance.getEntries().some(one => one.name.includes('{TOKEN}'))")


def test_whatever_can_be_pressed_has_a_name(visit: Visit) -> None:
    visit.drop(demo_clip_path())
    visit.explained()
    visit.run("document.querySelectorAll('[hidden]').forEach(one => one.hidden = false)")
    nodes = visit.page.call("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node["name"]["value"].strip()) for node in nodes if "name" in node]
    roles = {"button", "textbox", "combobox", "checkbox", "link", "image", "progressbar", "region"}
    assert {role for role, name in named if name} >= roles
    assert [role for role, name in named if role in roles and not name] == []
    assert ("button", "Drop a clip here or choose one") in named
    assert {"status", "alert"} <= {role for role, _ in named}


def test_it_fits_a_narrow_screen_in_the_colours_of_the_system(visit: Visit) -> None:
    visit.page.resize(360, 700)
    wide = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert visit.run(wide) == [360, 360]
    visit.drop(demo_clip_path())
    visit.explained()
    visit.run("document.querySelectorAll('[hidden]').forEach(one => one.hidden = false)")
    assert visit.run(wide) == [360, 360]
    colours = []
    for scheme in ("light", "dark"):
        visit.page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        ask = "['backgroundColor', 'color'].map(one => getComputedStyle(document.body)[one].match(/\\d+/g).map(Number))"
        colours.append(np.mean(visit.run(ask), 1))
    (light, ink), (dark, chalk) = colours
    assert min(light, chalk) > 200
    assert max(dark, ink) < 50
