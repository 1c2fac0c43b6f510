from __future__ import annotations

import base64
import hashlib
import io
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aosa_fast.audit.findings.types import ClusterSummary
from aosa_fast.audit.report import mean_maps, text
from aosa_fast.audit.report.page import PageSize, write_page
from aosa_fast.audit.report.pictures import Caption, ClipPictures
from aosa_fast.audit.report.strips import choose_strips, draw_strip
from aosa_fast.audit.report.words import measures_of, quartiles, written
from aosa_fast.audit.store.compact import pack_map
from aosa_fast.audit.store.strip import pack_strip
from aosa_fast.config import Config
from aosa_fast.data import open_dataset
from aosa_fast.demo.network import PREPROCESSING
from aosa_fast.errors import InputError
from aosa_fast.video import write_video
from aosa_fast.video.colormap import COLORS
from audit_pages import (
    HOSTILE,
    Element,
    FakePictures,
    audit,
    finding,
    folder_of,
    full,
    hostile_audit,
    hostile_pictures,
    one_class,
    page_of,
    read_page,
    shares,
    words,
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Element:
    return page_of(tmp_path_factory.mktemp("page"), full())


def decoded(picture: bytes | None, mode: str = "RGB") -> np.ndarray:
    assert picture is not None
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert(mode)).astype(int)


def titles(element: Element) -> list[str]:
    return [words(figure.one("figcaption")) for figure in element.all("figure", class_="map")]


def test_the_page_shows_every_finding_in_its_order(page: Element) -> None:
    cards = page.all("article")
    kinds = ["shortcut", "shortcut", "outlier", "label", "unexplained"]
    assert [card.attributes["data-kind"] for card in cards] == kinds
    assert [card.attributes["data-class"] for card in cards] == ["4", "0", "9", "4", ""]
    first = words(cards[0])
    for part in ("1 shortcut place run", "Maps of run gather.", "effect 0.42", "p = 0.004 corrected", "31 clips"):
        assert part in first
    assert "share above other classes" in first
    assert "share of clips 0.125" in first
    assert "p < 0.0001" in words(cards[1])
    assert "no test 1 clip" in words(cards[2])
    assert "whole data set" in words(cards[4])
    # Seven clips, four of them with filmstrips; all of them are listed, and one has the command under the list.
    listed = [item.one(class_="id").text for item in cards[0].all("ol")[-1].all("li")]
    assert listed == [f"run/shortcut-{i}" for i in range(7)]
    assert len(cards[0].all("figure", class_="strip")) == 4
    assert cards[0].all("code")[-1].text == "aosa-fast audit-clip DIR run/shortcut-0"
    assert "The clearest 7 of 31 clips" in first
    assert cards[0].all("a", href="#class-4")
    # The mean map of the class is beside that of all classes.
    assert titles(cards[0]) == ["run", "All classes"]
    assert titles(cards[4]) == ["All classes"]


def test_a_finding_marks_its_cells_and_its_frames(page: Element, tmp_path: Path) -> None:
    place, time = page.all("article")[:2]
    marks = [mark.attributes["d"] for mark in place.all("path", class_="mark")]
    assert len(marks) == 2  # on both maps
    # Around two cells side by side there are six edges, and none between them.
    assert set(re.findall("M[^M]+", marks[0])) == {"M6 0h1", "M7 0h1", "M6 1h1", "M7 1h1", "M6 0v1", "M8 0v1"}
    assert not place.all("rect")
    both = page_of(tmp_path, audit((one_class(),), (finding(boxes=((7, 0),), frames=(2, 7)),))).one("article")
    whole, parts = (mark.attributes["d"] for mark in both.all("path", class_="mark")[:2])
    assert whole == "M0 7h1M0 8h1M0 7v1M1 7v1"
    assert parts == "M18 7h1M18 8h1M18 7v1M19 7v1" + "M63 7h1M63 8h1M63 7v1M64 7v1"
    assert {float(mark.attributes["x"]) for mark in time.all("rect", class_="time")} == {5 * 9 - 0.3}
    figures = [words(item) for item in time.all("li", class_="on")]
    assert figures == ["12%", "12%"]


def test_a_shortcut_beside_the_motion_is_shown_round_what_moves(tmp_path: Path) -> None:
    classes = tuple(one_class(i, mean_around=shares(9, 9, at=at)) for i, at in enumerate(((4, 6), (4, 4))))
    findings = tuple(finding(where=where) for where in ("beside the motion", "place"))
    card, other = page_of(tmp_path, audit(classes, findings)).all("article")
    own, mean = [figure.one("svg").attributes["aria-label"] for figure in card.all("figure", class_="around")]
    assert own.endswith("strongest 2 to the right of the object, in eighths of the frame, 81.0 times a flat map")
    assert mean.endswith("strongest on the object, 40.5 times a flat map")
    assert not other.all("figure", class_="around")


def test_the_page_shows_every_class(page: Element) -> None:
    table = page.one("table", data_table="classes")
    rows = [[words(cell) for cell in row.content if isinstance(cell, Element)] for row in table.one("tbody").all("tr")]
    heads = [words(cell) for cell in table.one("thead").all("th")]
    measures = ["border \N{MULTIPLICATION SIGN}", "best frame"]
    assert heads == ["class", "findings", "clips", "correct", "accuracy", "mean p", *measures]
    # 0.25 of the map on half of the frame is half of what a flat map has there.
    assert rows[0] == ["sit", "1", "40", "30", "75.0%", "0.875", "0.50", "20%"]
    assert rows[1] == ["run", "2", "40", "36", "90.0%", "0.875", "0.50", "20%"]
    dash = "\N{EN DASH}"
    assert rows[2] == ["jump", "1", "1,234", dash, dash, "0.875", dash, dash]
    for index, name in ((0, "sit"), (4, "run"), (9, "jump")):
        section = page.one("details", id=f"class-{index}")
        assert [words(figure.one(class_="id")) for figure in section.all("figure", class_="strip")][:3] == [
            f"{name}/typical-1", f"{name}/typical-2", f"{name}/strange-1",
        ]  # fmt: skip
    run = page.one("details", id="class-4")
    assert "60% of the clips" in words(run)
    assert "Compared round the moving object" in words(run)
    assert "run/group-2" in words(run)
    # All of it is in one cell of 512: part 6, top right.
    where = "strongest at the top right in part 6 of 8, 512.0 times a flat map"
    assert where in run.all("svg")[1].attributes["aria-label"]


def test_the_head_says_what_ran(page: Element) -> None:
    head = page.one("header")
    counts = {words(e.one("dt")): words(e.one("dd")) for e in head.one("dl", class_="numbers").all("div")}
    assert counts == {
        "clips explained": "1,314", "failed": "12", "quarantined": "1", "accuracy": "75.0%", "classes": "3",
        "findings": "5",
    }  # fmt: skip
    assert words(head.one("dl", class_="facts")) == (
        "data ucf101:/data split test-1 model r3d_18 weights 0123456789abcdef method aosa-approx fill conditional "
        "score prob explained class pred date 2031-02-03 04:05 UTC versions torch 2.9"
    )
    assert words(head.all(class_="command")[0]) == "aosa-fast audit ucf101:/data --out DIR"
    recorded = {words(e.one("dt")): words(e.one("dd")) for e in head.one("dl", class_="everything").all("div")}
    assert recorded["identity.settings.config.method"] == "aosa-approx"
    assert recorded["facts.of the future"] == '[{"a": null}, 1.5]'
    assert page.one("title").text == "Audit of ucf101:/data"


def test_failed_clips_are_listed_with_what_is_known_of_them(tmp_path: Path) -> None:
    known = Caption(status="quarantined", stage="read", attempts=2, error="the process died (signal 11)")
    section = page_of(tmp_path, full(), FakePictures({"bad/killer": known})).one("section", id="failures")
    errors, clips = section.all("table")
    assert [words(row) for row in errors.one("tbody").all("tr")] == [
        "must be a video; got text 12 bad/1, bad/2, bad/3 …", "died twice 1 bad/killer",
    ]  # fmt: skip
    assert words(clips.one("tbody").all("tr")[-1]) == "bad/killer quarantined read 2 the process died (signal 11)"
    assert [words(row.all("th")[0]) for row in clips.one("tbody").all("tr")] == [
        "bad/1", "bad/2", "bad/3", "bad/4", "bad/killer",
    ]  # fmt: skip


def test_every_picture_is_drawn_once_is_in_the_page_once_and_can_be_decoded(tmp_path: Path) -> None:
    summary = full()
    twice = replace(summary.findings[0], clips=summary.classes[1].typical)
    pictures = FakePictures()
    page = page_of(tmp_path, replace(summary, findings=(twice, *summary.findings[1:])), pictures)
    images = [image for image in page.all("image") if "id" in image.attributes]
    assert len({image.attributes["href"] for image in images}) == len(images)
    sizes, content = {}, {}
    for image in images:
        kind, data = re.fullmatch("data:image/(png|webp);base64,(.*)", image.attributes["href"]).groups()
        content[image.attributes["id"]] = base64.b64decode(data, validate=True)
        with Image.open(io.BytesIO(content[image.attributes["id"]])) as opened:
            opened.load()
            assert opened.format == kind.upper()
            assert opened.size == (int(image.attributes["width"]), int(image.attributes["height"]))
            sizes[image.attributes["id"]] = opened.size
    shown = [use.attributes["href"] for use in page.all("use")]
    assert {key.removeprefix("#") for key in shown} == {*sizes, "scale"}
    # 8 cells a side; eight of them with gaps of one; 9 round the object; and 24 x 8 for the fake clips.
    assert set(sizes.values()) == {(8, 8), (71, 8), (9, 9), (24, 8)}
    thumb = page.one("details", id="class-0").one("svg", class_="thumb").one("use").attributes["href"]
    assert content[thumb.removeprefix("#")] == mean_maps.frame_picture(np.ones((8, 8)), 8)
    strips = [f.one("use") for f in page.all("figure", class_="strip") if words(f.one(class_="id")) == "run/typical-1"]
    assert len({use.attributes["href"] for use in strips}) == 1
    assert len(strips) == 2  # finding and class
    named, drawn = pictures.prepared
    assert {"sit/shortcut-6", "bad/killer", "run/group-2", "jump/strange-1"} <= set(named)
    assert len(named) == len(set(named))
    assert sorted(drawn) == sorted(pictures.drawn)


def test_only_its_own_script_and_style_may_run(page: Element) -> None:
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(page.one(tag).text.encode()).digest()).decode()}'"
        for tag in ("style", "script")
    ]
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": hashes[0], "script-src": hashes[1],
        "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    # Before anything that it is about.
    order = [element.tag for element in page]
    assert order.index("meta") + 1 == [i for i, tag in enumerate(order) if tag == "meta"][1]
    for element in page:
        assert not any(name.startswith("on") or name in ("style", "srcdoc", "action") for name in element.attributes)
        for name in ("href", "src"):
            target = element.attributes.get(name, "#")
            assert target.startswith(("#", "data:")), target
    assert not re.search(r"url\(|@import|https?:", page.one("style").text)
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(|innerHTML|eval\(", page.one("script").text)


def test_without_scripts_all_is_readable(page: Element) -> None:
    hidden = [element for element in page if "hidden" in element.attributes]
    assert [element.attributes["id"] for element in hidden] == ["filters", "tools"]
    assert not page.one("table", data_table="classes").all("button")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_is_shown_as_text(tmp_path: Path, hostile: str) -> None:
    plain = page_of(tmp_path, hostile_audit("harmless"), hostile_pictures("harmless"))
    page = page_of(tmp_path, hostile_audit(hostile), hostile_pictures(hostile))
    assert [element.tag for element in page] == [element.tag for element in plain]
    assert [sorted(element.attributes) for element in page] == [sorted(element.attributes) for element in plain]
    assert page.one("script").text == plain.one("script").text
    # Everywhere where the harmless text is, or its beginning, where there is little room.
    seen = words(plain).count("harmless")
    assert seen > 40
    assert words(page).count(" ".join(hostile.split())[:20]) == seen


def test_what_cannot_be_seen_or_written_is_replaced(tmp_path: Path) -> None:
    name = "a\udcffb\x00c\nd\u202ee\u2066f\x85"
    page = page_of(tmp_path, hostile_audit(name), hostile_pictures(name))
    assert "a\ufffdb\u2400c\u240ad\\u202ee\\u2066f\ufffd" in page.text
    raw = (tmp_path / "page.html").read_bytes().decode("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", raw)


def test_long_texts_are_cut_and_commands_are_not(tmp_path: Path) -> None:
    long = "begin" + "x" * 10_000 + "end"
    page = page_of(tmp_path, hostile_audit(long), hostile_pictures(long))
    cut = ("bdi", "option", "dt", "td", "th", "summary")
    assert max(len(element.text) for element in page if element.tag in cut) <= 2100
    assert [card.attributes["data-kind"] for card in page.all("article")] == ["other", "label"]
    name = page.one("details", id="class-3").one("b").text
    assert name.startswith("beginxxx")
    assert "…" in name
    assert name.endswith("xxxend")
    assert page.all("code")[-1].text == f"aosa-fast audit-clip DIR {long}"
    assert (tmp_path / "page.html").stat().st_size < 400_000


def test_nothing_found_and_nothing_explained(tmp_path: Path) -> None:
    page = page_of(tmp_path, audit((one_class(),)))
    assert "Nothing was found. That a test finds nothing" in words(page)
    assert len(page.all("details", class_="class")) == 1
    everything_failed = audit(
        counts={"error": 3}, errors=(("broken", 3, ("a", "b", "c")),), accuracy=None, mean_map=shares(8, 8, 8) * 0
    )
    page = page_of(tmp_path, everything_failed)
    assert "Nothing was found. No clip could be explained." in words(page)
    assert "No clip was explained, so there is no class to show." in words(page)
    assert "accuracy \N{EN DASH}" in words(page.one("header"))
    assert len(page.one("table", data_table="failed").one("tbody").all("tr")) == 3
    page = page_of(tmp_path, audit(run={}))
    assert page.one("title").text == "Audit of a data set"


def test_maps_without_anything_positive_are_empty_and_not_an_error(tmp_path: Path) -> None:
    nothing = shares(8, 8, 8) * 0
    lost = np.full((9, 9), np.nan, np.float32)
    page = page_of(tmp_path, audit((one_class(mean_map=nothing, mean_moving=nothing, mean_around=lost),)))
    labels = [svg.attributes["aria-label"] for svg in page.one("details", id="class-0").all("svg", role="img")]
    assert sum(label.endswith(": empty") for label in labels) == 5


def test_the_old_page_stays_when_the_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def fail(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(InputError, match="No space left"):
        write_page(full(), FakePictures(), path)
    monkeypatch.undo()
    assert path.read_text() == "old"
    write_page(full(), FakePictures(), path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_filmstrips_are_limited_and_shared_out(tmp_path: Path) -> None:
    summary = full()
    # One of each finding, of each class' two lists, and of the group; then the second of each.
    first = ["run/shortcut-0", "sit/shortcut-0", "jump/outlier-0", "run/label-0", "any/unexplained-0", "sit/typical-1"]
    assert choose_strips(summary, 6) == (first, 24)
    everything, left_out = choose_strips(summary, 1000)
    assert (len(everything), left_out) == (30, 0)
    assert {"run/group-1", "jump/strange-1", "run/shortcut-3"} <= set(everything)
    assert not {"run/group-2", "run/shortcut-4"} & set(everything)
    pictures, steps = FakePictures(), []
    size = write_page(summary, pictures, tmp_path / "page.html", most=3, progress=lambda *step: steps.append(step))
    assert size == PageSize((tmp_path / "page.html").stat().st_size, 3, 27)
    assert pictures.drawn == ["run/shortcut-0", "sit/shortcut-0", "jump/outlier-0"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    page = read_page(tmp_path / "page.html")
    assert len(page.all("figure", class_="strip")) == 3
    assert "27 more left out" in words(page.one("footer"))
    assert "sit/typical-1" in words(page.one("details", id="class-0"))


def test_fifty_classes_stay_under_ten_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def grid(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.full(np.prod(shape), 0.3)).reshape(shape).astype(np.float32)

    classes = []
    for name in map(str, range(50)):
        ids = tuple(f"class {name}/clip {j}" for j in range(12))
        groups = tuple(ClusterSummary(ids[j : j + 3], grid(8, 8, 8), 0.3, "frame") for j in range(4))
        maps = {"mean_map": grid(8, 8, 8), "mean_moving": grid(8, 8, 8), "mean_around": grid(9, 9)}
        classes.append(one_class(int(name), name, typical=ids[:6], strangest=ids[6:], groups=groups, **maps))
    ids = tuple(f"UCF-101/v_ApplyEyeMakeup_g08_c{i:02}.avi" for i in range(50))
    findings = tuple(finding(index=i % 50, clips=ids) for i in range(60))
    size = write_page(audit(tuple(classes), findings), FakePictures(pixels=22_000), tmp_path / "page.html")
    assert size.strips == 200
    assert 200 * 22_000 * 4 / 3 < size.bytes < 10e6


def test_one_scale_for_all_maps_that_few_cells_exceed() -> None:
    flat, eighth, cell = (np.ones((8, 8, 8)) for _ in range(3))
    eighth[0], cell[0, 0, 0] = 10, 1000
    assert [mean_maps.scale_limit(maps) for maps in ([], [flat], [flat, eighth], [cell])] == [8, 8, 16, 8]
    assert mean_maps.scale_limit([100 * eighth]) == 32


def test_colours_are_those_of_overlays_brighter_for_more() -> None:
    pixels = decoded(mean_maps.frame_picture(np.array([[0.0, 1.0, 2.0], [4.0, 8.0, 99.0]]), 8))
    assert np.abs(pixels[0, 0] - COLORS[256]).max() <= 1
    assert np.abs(pixels[1, 1] - COLORS[-1]).max() <= 1
    assert (pixels[1, 2] == pixels[1, 1]).all()
    light = (pixels @ [0.299, 0.587, 0.114]).ravel()[:5]
    assert (np.diff(light) > 0).all()
    scale = decoded(mean_maps.scale_picture(8))[0]
    for place, said in mean_maps.scale_ticks(8):
        color = decoded(mean_maps.frame_picture(np.array([[float(said.removeprefix("≥ "))]]), 8))[0, 0]
        assert np.abs(scale[round(place * (len(scale) - 1))] - color).max() <= 6
    assert [said for _, said in mean_maps.scale_ticks(32)] == ["0", "1", "4", "8", "16", "≥ 32"]
    assert [said for _, said in mean_maps.scale_ticks(8)] == ["0", "1", "2", "4", "≥ 8"]


def test_parts_lie_side_by_side_with_gaps() -> None:
    lift = np.zeros((8, 8, 8))
    lift[3, 2, 1] = 4
    pixels = decoded(mean_maps.parts_picture(lift, 4), "RGBA")
    assert pixels.shape == (8, 71, 4)
    gaps = np.arange(71) % 9 == 8
    assert (pixels[:, gaps, 3] == 0).all()
    assert (pixels[:, ~gaps, 3] == 255).all()
    rows, columns = np.nonzero((pixels[..., :3].sum(-1) > 500) & (pixels[..., 3] > 0))
    assert (rows.tolist(), columns.tolist()) == ([2], [3 * 9 + 1])


def test_a_map_of_all_levels_and_gaps_has_a_palette_that_fits() -> None:
    lift = np.linspace(0, 1, 512).reshape(8, 8, 8) ** 3 * 8
    pixels = decoded(mean_maps.parts_picture(lift, 8))
    light = np.concatenate([pixels[:, i * 9 : i * 9 + 8].reshape(-1, 3) for i in range(8)]) @ [0.299, 0.587, 0.114]
    assert (np.diff(light) >= -0.5).all()
    assert light[-1] > light[0] + 150


def test_places_in_words() -> None:
    def says(at: tuple[int, ...]) -> str:
        return mean_maps.in_words(mean_maps.lifts(shares(8, 8, 8, at=at)))

    assert says((0, 0, 0)).startswith("strongest at the top left in part 1 of 8")
    assert says((7, 7, 7)).startswith("strongest at the bottom right in part 8 of 8")
    assert says((3, 4, 3)).startswith("strongest at the middle in part 4 of 8")
    assert says((3, 1, 2)).startswith("strongest at the top middle")
    beside = mean_maps.around_in_words(mean_maps.lifts(shares(9, 9, at=(2, 7))))
    assert beside.startswith("strongest 2 above and 3 to the right of the object, in eighths of the frame")


def test_measures_with_an_area_are_shown_as_lifts() -> None:
    measures = {
        "share_moving": (0.2, 0.3, 0.6), "area_moving": (0.05, 0.1, 0.2), "new": (1.0, 2.0, 3.0),
        "share_letterbox": (0.0, 0.0, 0.0), "area_letterbox": (0.0, 0.0, 0.0), "centroid_x": (0.1, 0.2, 0.3),
    }  # fmt: skip
    one = one_class(measures=measures)
    known = {measure.name: measure for measure in measures_of((one,))}
    assert list(known) == ["share_letterbox", "share_moving", "centroid_x", "new"]
    assert quartiles(known["share_moving"], one) == pytest.approx((2, 3, 6))
    assert quartiles(known["share_letterbox"], one) is None
    assert quartiles(known["new"], one) == (1.0, 2.0, 3.0)
    assert [measure.name for measure in measures_of((one,), table=True)] == ["share_moving"]
    assert written(known["share_moving"], 3.0) == "3.00"


@pytest.mark.parametrize(
    ("written_text", "expected"),
    [
        (text.number(1234567), "1,234,567"),
        (text.number(0.000012345), "1.23e-05"),
        (text.number(None), "\N{EN DASH}"),
        (text.number(float("nan")), "\N{EN DASH}"),
        (text.percent(0.834, 1), "83.4%"),
        (text.percent(0.0123), "1.2%"),
        (text.percent(0.5), "50%"),
        (text.probability(0.9999), "> 0.999"),
        (text.probability(1.0), "1.000"),
        (text.p_value(0.0123), "p = 0.012"),
        (text.shorten("abcdefghij", 6), "abc…ij"),
        (text.shorten("abcdef", 6), "abcdef"),
    ],
)
def test_numbers_as_people_read_them(written_text: str, expected: str) -> None:
    assert written_text == expected


@pytest.mark.parametrize(
    "word", [*HOSTILE, "plain/v_01.avi", "", "two\nlines", "-rf", "tab\tand \\ and 'quote'", "\u202e$(id)`id`"]
)
def test_a_command_gives_a_shell_the_very_words(word: str) -> None:
    quoted = text.shell_word(word)
    assert quoted.isprintable()
    given = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {quoted}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert given.stdout.decode() == f"{word}\0"


# From here on: pictures of a real audit's folder.


def rendered_row(seed: int, **changes: Any) -> dict[str, Any]:
    """A clip whose map is 1 in the upper left quarter of its frames, and 0 elsewhere."""
    tracks = np.full((1, 16, 2), 16, np.float32)
    packed = pack_map(
        tracks, np.ones((1, 16), bool), np.zeros((1, 1), np.int32), np.ones(1, np.float32), Config(box=(32, 32)), 64, 64
    )
    row = {
        "id": f"rendered/{seed:07}", "path": None, "seed": seed, "status": "ok", "attempts": 1, "frames": 16,
        "height": 64, "width": 64, "first_frame": 0, "content_hash": "0" * 32, "data_label": seed % 6,
        "label_name": "left", "prediction": 4, "prediction_name": "up", "probability": 0.625, "label": 0, "target": 4,
        "score": 0.625, **packed,
    }  # fmt: skip
    return row | changes


def test_a_filmstrip_is_the_clip_under_its_map_and_as_it_is(tmp_path: Path) -> None:
    pictures = ClipPictures(folder_of(tmp_path, [rendered_row(seed) for seed in range(5)]))
    wanted = "rendered/0000003"
    pictures.prepare([wanted, "rendered/0000001", "no such"], [wanted, "no such"])
    data, note = pictures.filmstrip(wanted)
    assert note == ""
    assert 3_000 < len(data or b"") < 30_000
    strip = decoded(data)
    assert strip.shape == (194, 586, 3)  # two rows and six columns of 96 x 96 pixels, 2 apart
    dataset = open_dataset("rendered")
    frames = dataset.read(dataset.samples[3], PREPROCESSING).frames
    for i, t in enumerate((0, 3, 6, 9, 12, 15)):
        plain = np.asarray(Image.fromarray(frames[t]).resize((96, 96), Image.Resampling.LANCZOS)).astype(int)
        over, under = (strip[y : y + 96, i * 98 : i * 98 + 96] for y in (0, 98))
        assert np.abs(under - plain).mean() < 8  # WebP loses some
        difference = np.abs(over - under).mean(-1)
        assert difference[52:, :].mean() < 12
        assert difference[:, 52:].mean() < 12
        assert difference[:44, :44].mean() > 40
    with Image.open(io.BytesIO(pictures.moving(wanted))) as moving:  # as it is rendered, and no browser can open it
        assert (moving.n_frames, moving.size) == (16, (96, 96))
    assert pictures.caption(wanted) == Caption("left", "up", 0.625, "ok", None, 1, None)
    assert pictures.caption("rendered/0000001").label == "left"
    assert pictures.caption("no such") == Caption()
    assert pictures.filmstrip("no such") == (None, "the audit has no row of it")


def test_of_a_clip_that_only_the_model_can_prepare_its_row_has_the_frames(tmp_path: Path) -> None:
    own = {**PREPROCESSING.as_dict(), "class": "mine.Flip"}
    frames = np.repeat(np.arange(16, dtype=np.uint8) * 16, 64 * 64 * 3).reshape(16, 64, 64, 3)
    rows = [rendered_row(0), rendered_row(1, strip=pack_strip(frames)), rendered_row(2, strip=b"RIFF")]
    pictures = ClipPictures(folder_of(tmp_path, rows, preprocessing=own))
    names = [row["id"] for row in rows]
    pictures.prepare(names, names)
    why = "the model prepares clips by code of its own, mine.Flip, which only it can run again"
    assert pictures.filmstrip(names[0]) == (None, why)
    data, note = pictures.filmstrip(names[1])
    assert note == ""
    strip = decoded(data)
    assert strip.shape == (194, 586, 3)
    grey = [strip[98 + 70, i * 98 + 70].mean() for i in range(6)]
    assert grey == pytest.approx([0, 48, 96, 144, 192, 240], abs=6)  # frames 0, 3, 6, 9, 12 and 15
    assert np.ptp(strip[20, 20]) > 60  # under the map, which is in the upper left quarter
    picture, note = pictures.filmstrip(names[2])
    assert picture is None
    assert note.startswith("strip: must be a picture")


def test_a_clip_is_shown_plainly_where_no_map_was_kept(tmp_path: Path) -> None:
    without = {name: None for name in rendered_row(0) if name.startswith("map_")}
    row = rendered_row(2, label_name=None, **without)
    pictures = ClipPictures(folder_of(tmp_path, [row]))
    pictures.prepare([row["id"]], [row["id"]])
    data, note = pictures.filmstrip(row["id"])
    assert decoded(data).shape == (96, 586, 3)
    assert "kept no maps" in note
    assert pictures.caption(row["id"]).label == "2"


def test_a_source_that_is_gone_or_another_one_has_no_picture(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    rows = []
    for name in ("same", "changed", "gone", "damaged map"):
        path = clips / f"{name}.mp4"
        write_video(path, frames)
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        rows.append(rendered_row(0, id=name, path=str(path), first_frame=2, content_hash=content) | {"seed": None})
    rows[3]["map_scores"] = b"123"
    rows.append({"id": "failed", "path": "x", "status": "error", "stage": "read", "error": "why", "attempts": 1})
    pictures = ClipPictures(folder_of(tmp_path, rows, data=str(clips)))
    names = [row["id"] for row in rows]
    pictures.prepare(names, names)
    assert decoded(pictures.filmstrip("same")[0]).shape == (194, 586, 3)
    assert pictures.moving("same") is None
    write_video(clips / "changed.mp4", frames[::-1])
    (clips / "gone.mp4").unlink()
    notes = {name: pictures.filmstrip(name) for name in names[1:]}
    assert notes["changed"] == (None, "its source has changed since the audit")
    assert notes["gone"][0] is None
    assert "gone.mp4" in notes["gone"][1]
    assert notes["damaged map"][0] is None
    assert "map_scores" in notes["damaged map"][1]
    assert notes["failed"] == (None, "it could not be explained")
    assert pictures.caption("failed").error == "why"


def test_data_that_run_code_are_opened_by_the_users_word_only(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [rendered_row(0)], data="python:nowhere:make")
    notes = []
    for trust in (False, True):
        pictures = ClipPictures(folder, trust=trust)
        pictures.prepare(["rendered/0000000"], ["rendered/0000000"])
        notes.append(pictures.filmstrip("rendered/0000000")[1])
    assert "must be trusted by --trust: opening it runs code" in notes[0]
    assert "No module named 'nowhere'" in notes[1]


def test_a_data_set_that_is_gone_is_no_end_of_the_page(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [rendered_row(0)], data=str(tmp_path / "nowhere"))
    one = one_class(typical=("rendered/0000000",), strangest=())
    path = folder / "report.html"
    write_page(audit((one,)), ClipPictures(folder), path)
    strip = read_page(path).one("figure", class_="strip")
    assert not strip.all("svg")
    assert "the data set cannot be opened" in words(strip)
    assert "nowhere" in words(strip)


def test_a_folder_that_is_no_audit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be the folder of an audit"):
        ClipPictures(tmp_path)
    folder = folder_of(tmp_path, [rendered_row(0)])
    (next((folder / "clips").iterdir())).write_bytes(b"PAR1")
    with pytest.raises(InputError, match="must be Parquet in one piece"):
        ClipPictures(folder).prepare(["a"], [])


def test_commands_of_clips(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [rendered_row(0)])
    pictures = ClipPictures(folder)
    assert shlex.split(pictures.command("a b's")) == ["aosa-fast", "audit-clip", str(folder), "a b's"]
    assert shlex.split(pictures.command("-x")) == ["aosa-fast", "audit-clip", "--", str(folder), "-x"]


def test_each_frame_of_a_strip_is_under_its_own_map() -> None:
    saliency = np.zeros((31, 8, 8), np.float32)
    saliency[24, :, :4] = 1
    strip = decoded(draw_strip(np.full((31, 64, 64, 3), 128, np.uint8), saliency))
    painted = [np.abs(strip[20:76, x + 10 : x + 38] - 128).mean() > 30 for x in range(0, 6 * 98, 98)]
    assert painted == [False, False, False, False, True, False]  # frames 0, 6, 12, 18, 24, 30


def test_above_the_map_is_the_field_and_the_frame_of_its_strongest_part() -> None:
    field = np.zeros((8, 8, 8), np.float32)
    field[5, :, :4] = 1  # frames 10 and 11 of 16, between the evenly spread 9 and 12
    frames = np.full((16, 64, 64, 3), 128, np.uint8)
    frames[11] = 160
    strip = decoded(draw_strip(frames, np.zeros((16, 8, 8), np.float32), field))
    assert strip.shape == (3 * 98 - 2, 586, 3)
    painted = [np.abs(strip[20:76, x + 10 : x + 38] - strip[216, x + 20]).mean() > 30 for x in range(0, 6 * 98, 98)]
    assert painted == [False, False, False, False, True, False]
    assert abs(strip[216, 4 * 98 + 48].mean() - 160) < 6
    assert np.abs(strip[118:174] - strip[216]).max() < 12  # the map has nothing


def test_strips_of_few_wide_frames() -> None:
    frames = np.zeros((2, 60, 100, 3), np.uint8)
    assert decoded(draw_strip(frames, None)).shape == (96, 2 * 160 + 2, 3)
    assert decoded(draw_strip(frames[:1], np.ones((1, 60, 100), np.float32))).shape == (194, 160, 3)
    assert decoded(draw_strip(np.zeros((6, 10, 1000, 3), np.uint8), None)).shape == (96, 6 * 178 - 2, 3)
