from __future__ import annotations

import functools
import http.server
import io
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from open_page import ARGUMENTS, OpenPage, chromium
from PIL import Image

from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.report.page import write_page
from aosa_fast.audit.report.suspects import Suspect, write_suspects
from aosa_fast.audit.verdicts import Verdict, read_verdicts
from audit_pages import (
    HOSTILE,
    PWNED,
    Element,
    FakePictures,
    Reader,
    audit,
    finding,
    full,
    hostile_audit,
    hostile_pictures,
    one_class,
    shares,
    words,
)

ONCE = ("--virtual-time-budget=1000", "--enable-logging=stderr")


@dataclass
class Browser:
    program: str
    folder: Path

    def run(self, *arguments: str) -> tuple[str, str]:
        """Standard output and the messages of the console."""
        profile = self.folder / "profile"
        done = subprocess.run(
            [self.program, *ARGUMENTS, *ONCE, f"--user-data-dir={profile}", *arguments],
            capture_output=True, text=True, encoding="utf-8", timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    def read(self, address: Path | str, fragment: str = "") -> Element:
        """The page after its script has run, without a complaint."""
        page, console = self.visit(address, fragment)
        assert console == ""
        return page

    def visit(self, address: Path | str, fragment: str = "") -> tuple[Element, str]:
        where = address.as_uri() if isinstance(address, Path) else address
        out, console = self.run("--dump-dom", f"{where}#{fragment}" if fragment else where)
        return Reader(out).root, console

    def picture(self, page: Path, width: int, height: int, *arguments: str) -> np.ndarray:
        """(height, width, 3) of int."""
        file = self.folder / "screen.png"
        self.run(f"--window-size={width},{height}", f"--screenshot={file}", *arguments, page.as_uri())
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(chromium(), tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(full(), FakePictures(), path)
    return path


def order(page: Element, table: str) -> list[str]:
    return [words(row.all("th")[0]) for row in page.one("table", data_table=table).one("tbody").all("tr")]


def visible(page: Element, what: str) -> list[str]:
    return [e.attributes["id"] for e in page.all(data_filter=what) if "hidden" not in e.attributes]


def hostile_page(path: Path) -> Path:
    """Everything that a text can do, in every place."""
    text = "".join(HOSTILE)
    write_page(hostile_audit(text), hostile_pictures(text), path)
    return path


def test_hostile_text_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    path = hostile_page(tmp_path / "page.html")
    fragment = f'kind=<img src=x onerror={PWNED}>&q="><script>{PWNED}</script>&class=3&sort=classes:constructor'
    page = browser.read(path, fragment)
    assert page.one("title").text.startswith("Audit of <script>")
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not page.all(autofocus="")


def test_even_a_script_in_the_page_would_not_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    inside = f'<script>{PWNED}</script><img src="x.png" onerror="{PWNED}"><p style="color: red">'
    whole = page.read_text(encoding="utf-8").replace("<main>", f"<main>{inside}</p>")
    path = tmp_path / "page.html"
    path.write_text(whole, encoding="utf-8")
    read, console = browser.visit(path)
    assert read.one("title").text == "Audit of ucf101:/data"
    assert console.count("Content Security Policy") >= 3
    # It would without the policy, so this test can see it.
    path.write_text(re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", whole), encoding="utf-8")
    read, console = browser.visit(path)
    assert read.one("title").text == "pwned"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder at an address, and what was asked of it."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_the_page_asks_for_nothing(browser: Browser, tmp_path: Path, served: tuple[str, list[str]]) -> None:
    address, asked = served
    hostile_page(tmp_path / "page.html")
    browser.read(f"{address}/page.html")
    assert asked == ["/page.html"]


def test_tables_are_sorted_as_the_address_says(browser: Browser, page: Path) -> None:
    # 0.75 and 0.9; of the third nothing is known, which is last either way.
    down = browser.read(page, "sort=classes:-accuracy&sort=failed:-id")
    assert order(down, "classes") == ["run", "sit", "jump"]
    assert order(down, "failed") == ["bad/killer", "bad/4", "bad/3", "bad/2", "bad/1"]
    heads = {
        head.attributes["data-key"]: head for head in down.one("table", data_table="classes").all("th", scope="col")
    }
    assert {key for key, head in heads.items() if "aria-sort" in head.attributes} == {"accuracy"}
    assert heads["accuracy"].attributes["aria-sort"] == "descending"
    assert all(head.all("button") for head in heads.values())
    up = browser.read(page, "sort=classes:name&sort=failed:attempts&sort=nothing:x&sort=classes:nothing&sort=")
    assert order(up, "classes") == ["jump", "run", "sit"]
    assert order(up, "failed") == ["bad/1", "bad/2", "bad/3", "bad/4", "bad/killer"]


def test_findings_and_classes_are_filtered_as_the_address_says(browser: Browser, page: Path) -> None:
    both = browser.read(page, "kind=shortcut&class=4&sort=classes:accuracy")
    assert visible(both, "finding") == ["finding-1"]
    assert visible(both, "class") == ["class-4"]
    assert order(both, "classes") == ["sit", "run", "jump"]
    assert [
        row.attributes["data-class"] for row in both.all("tr", data_filter="row") if "hidden" not in row.attributes
    ] == ["4"]
    text = browser.read(page, "q=GATHER%20sit")
    assert visible(text, "finding") == ["finding-2"]
    assert words(text.one("output", id="shown")) == "1 of 5 findings, 0 of 0 suspects, 0 of 3 classes"
    assert visible(browser.read(page, "q=label-6"), "finding") == ["finding-4"]  # a clip
    nonsense = browser.read(page, "kind=nonsense&class=77&=&q")
    assert words(nonsense.one("output", id="shown")) == "5 of 5 findings, 0 of 0 suspects, 3 of 3 classes"
    assert "hidden" not in nonsense.one("form").attributes


def test_a_link_to_a_class_opens_it(browser: Browser, page: Path) -> None:
    read = browser.read(page, "class-4")
    assert [e.attributes["id"] for e in read.all("details", class_="class") if "open" in e.attributes] == ["class-4"]
    assert words(read.one("output", id="shown")) == "5 of 5 findings, 0 of 0 suspects, 3 of 3 classes"


@pytest.mark.parametrize(("width", "height"), [(1280, 1600), (500, 2600)])
def test_pictures_are_painted(browser: Browser, tmp_path: Path, width: int, height: int) -> None:
    """The mean map has one bright cell, at the lower left; the filmstrip is of one colour."""
    one = one_class(mean_map=shares(8, 8, 8, at=(0, 7, 0)))
    path = tmp_path / "page.html"
    write_page(audit((one,), (finding(clips=("a",)),)), FakePictures(), path)
    screen = browser.picture(path, width, height)
    assert screen.shape == (height, width, 3)
    assert screen.mean() > 200
    bright = np.abs(screen - (252, 248, 148)).max(-1) < 3
    assert bright.sum() > 100  # a cell of the whole map is 12 pixels a side
    with Image.open(io.BytesIO(FakePictures().filmstrip("a")[0])) as image:
        color = np.asarray(image.convert("RGB"))[0, 0].astype(int)
    rows, columns = np.nonzero(np.abs(screen - color).max(-1) < 3)
    assert len(rows) > 100 * 300 * 0.8
    # It is 24 x 8 pixels, and stays three times as wide as it is high.
    assert np.ptp(columns) == pytest.approx(3 * np.ptp(rows), rel=0.1)


def test_a_dark_screen_gets_a_dark_page(browser: Browser, page: Path) -> None:
    assert browser.picture(page, 800, 900, "--blink-settings=preferredColorScheme=0").mean() < 80


@pytest.fixture
def acted(browser: Browser, tmp_path: Path) -> Iterator[tuple[OpenPage, Path]]:
    """A page with suspects of two findings, of which the first is also in the other one."""
    path = tmp_path / "audit" / "page.html"
    rows = (("run/shortcut-0", "=1+1", 1), ("sit/shortcut-1", 'a "b",\nc', 2), ("run/shortcut-0", "", 2))
    suspects = [
        Suspect("", label, "", "Why.", 0.8 - i / 4, rank, "", id, "shortcut")
        for i, (id, label, rank) in enumerate(rows)
    ]
    write_page(full(), FakePictures(), path, suspects=suspects)
    write_suspects(suspects, path.parent)
    with OpenPage(browser.program, tmp_path, path.as_uri()) as page:
        yield page, path


def click(page: OpenPage, place: str, verdict: str) -> None:
    page.run(f"[...document.querySelectorAll('{place} button')].find(one => one.textContent === '{verdict}').click()")


PRESSED = "[...document.querySelectorAll('{} [aria-pressed=true]')].map(one => one.textContent)"
SHOWN = "[...document.querySelectorAll('[data-filter=suspect]:not([hidden]) th')].map(one => one.textContent)"


def downloaded(folder: Path, name: str) -> str:
    for _ in range(100):
        if (folder / name).exists():
            return (folder / name).read_bytes().decode()
        time.sleep(0.05)
    raise AssertionError(f"{name} was not downloaded")


def test_verdicts_are_kept_shown_everywhere_and_saved(acted: tuple[OpenPage, Path], tmp_path: Path) -> None:
    page, path = acted
    assert page.run("document.querySelector('#decided').textContent") == "0 clips decided"
    click(page, "tr[data-filter=suspect]", "right")
    click(page, "tr[data-filter=suspect]", "wrong label")  # in place of the first
    # Two rows, a filmstrip and an entry in the list of its finding.
    assert page.run(PRESSED.format(".verdict")) == ["wrong label"] * 4
    page.run("document.querySelector('[name=undecided]').click()")
    assert page.run(SHOWN) == ["sit/shortcut-1"]
    page.go(path.as_uri())
    assert page.run(PRESSED.format(".verdict")) == ["wrong label"] * 4
    click(page, "tr[data-filter=suspect]:nth-child(2)", "ignore")
    page.run("document.querySelector('#save').click()")
    given = tmp_path / "given.json"
    given.write_text(downloaded(tmp_path, "verdicts.json"))
    assert read_verdicts(given) == {
        "run/shortcut-0": Verdict("wrong label", "=1+1"), "sit/shortcut-1": Verdict("ignore", 'a "b",\nc'),
    }  # fmt: skip
    click(page, "tr[data-filter=suspect]:nth-child(2)", "ignore")  # taken back
    assert page.run("document.querySelector('#decided').textContent") == "1 clip decided"
    # Another audit's page of the same place has verdicts of its own.
    summary = full()
    write_page(replace(summary, run={**summary.run, "facts": {}}), FakePictures(), path)
    page.go(path.as_uri())
    assert page.run(PRESSED.format(".verdict")) == []
    text = json.dumps(given.read_text())
    page.run(
        f"(() => {{ const files = new DataTransfer(); files.items.add(new File([{text}], 'x.json')); "
        "const load = document.querySelector('#load'); load.files = files.files; "
        "load.dispatchEvent(new Event('change')); return new Promise(done => setTimeout(done, 100)); })()"
    )
    assert page.run("document.querySelector('#decided').textContent") == "2 clips decided"


def test_the_list_that_is_shown_is_downloaded_as_the_report_writes_it(
    acted: tuple[OpenPage, Path], tmp_path: Path
) -> None:
    page, path = acted
    page.run("document.querySelector('#download').click()")
    assert downloaded(tmp_path, "suspects.csv") == (path.parent / "suspects.csv").read_bytes().decode()
    (tmp_path / "suspects.csv").unlink()
    page.go(f"{path.as_uri()}#class=0")
    click(page, "tr[data-filter=suspect]:nth-child(2)", "shortcut")
    page.run("document.querySelector('#download').click()")
    (tmp_path / "again.csv").write_bytes(downloaded(tmp_path, "suspects.csv").encode())
    assert read_verdicts(tmp_path / "again.csv") == {"sit/shortcut-1": Verdict("shortcut", 'a "b",\nc')}


@pytest.mark.parametrize("width", [1280, 1181, 900, 390])
def test_nothing_is_wider_than_the_page(acted: tuple[OpenPage, Path], width: int) -> None:
    page, path = acted
    measures = dict.fromkeys(MEASURES, (0.0, 0.4321, 1.0))
    classes = [one_class(i, name, measures=measures) for i, name in enumerate(("clockwise", "counter-clockwise"))]
    write_page(audit(tuple(classes), (finding(),)), FakePictures(), path)
    page.go(path.as_uri())
    page.resize(width, 800)
    page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    wide = "[document.documentElement, ...document.querySelectorAll('.scroll')].map(x => x.scrollWidth - x.clientWidth)"
    assert set(page.run(wide)) == {0}
