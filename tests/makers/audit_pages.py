"""What the report's page is made of and read with: summaries, pictures, and the page as elements."""

from __future__ import annotations

import hashlib
import io
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aosa_fast.audit.findings.types import AuditSummary, ClassSummary, ClusterSummary, Finding
from aosa_fast.audit.report.page import write_page
from aosa_fast.audit.report.pictures import Caption
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.audit.store.run_folder import open_run
from aosa_fast.demo.network import PREPROCESSING

BLOCKS = {"dt", "dd", "li", "td", "th", "p", "div", "summary", "figcaption", "option"}
VOID = {"meta", "link", "input", "br", "img"}
PWNED = "document.title='pwned'"
HOSTILE = (
    f"<script>{PWNED}</script>",
    f"</script><script>{PWNED}</script>",
    f'</style></title></textarea><img src=x onerror="{PWNED}">',
    f"\"'><svg onload={PWNED}>",
    f"' autofocus onfocus='{PWNED}",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;&amp;<!-- ]]>",
    f"javascript:{PWNED}",
    "\u05d0\u05d1\u05d2 \u0627\u0644\u0639",
)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    content: list[Element | str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Element]:
        yield self
        for child in self.content:
            if isinstance(child, Element):
                yield from child

    @property
    def text(self) -> str:
        content = "".join(child if isinstance(child, str) else child.text for child in self.content)
        return f" {content} " if self.tag in BLOCKS else content

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Those of a tag whose attributes have these values; a class is one of several."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [e for e in self if tag in ("", e.tag) and all(e.has(*pair) for pair in wanted.items())]

    def has(self, name: str, value: str) -> bool:
        own = self.attributes.get(name)
        return own is not None and (value in own.split() if name == "class" else own == value)

    def one(self, tag: str = "", **attributes: str) -> Element:
        (found,) = self.all(tag, **attributes)
        return found


class Reader(HTMLParser):
    """Reads a page into elements, and refuses one whose tags do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("", {}, None)
        self.feed(page)
        self.close()
        assert self.here is self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        element = Element(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.content.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.tag, f"</{tag}> ends <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.content.append(data)


@dataclass
class FakePictures:
    """Every clip has another picture, but those whose id has "lost" in it."""

    captions: dict[str, Caption] = field(default_factory=dict)
    pixels: int = 0  # of noise in a picture; 0: a small plain one
    drawn: list[str] = field(default_factory=list)
    prepared: tuple[list[str], list[str]] = ([], [])

    def prepare(self, ids: Collection[str], filmstrips: Collection[str]) -> None:
        self.prepared = (list(ids), list(filmstrips))

    def filmstrip(self, id: str) -> tuple[bytes | None, str]:
        self.drawn.append(id)
        if "lost" in id:
            return None, f"{id} is gone"
        seed = int.from_bytes(hashlib.sha256(id.encode(errors="replace")).digest()[:4])
        file = io.BytesIO()
        if self.pixels:
            noise = np.random.default_rng(seed).integers(0, 256, (self.pixels // 100, 100), np.uint8)
            Image.fromarray(noise).save(file, "PNG", compress_level=0)
        else:
            color = (seed % 256, seed // 256 % 256, seed // 65536 % 256)
            Image.new("RGB", (24, 8), color).save(file, "WEBP", lossless=True)
        return file.getvalue(), ""

    def moving(self, id: str) -> bytes | None:
        return None

    def caption(self, id: str) -> Caption:
        return self.captions.get(id, Caption(label="sit", prediction="run", probability=0.75, status="ok"))

    def command(self, id: str) -> str:
        return f"aosa-fast audit-clip DIR {shlex.quote(id)}"


def shares(*shape: int, at: tuple[int, ...] | None = None) -> np.ndarray:
    """A flat map, or one that is all in one cell."""
    grid = np.full(shape, 0.0 if at else 1 / np.prod(shape), np.float32)
    if at:
        grid[at] = 1
    return grid


def one_class(index: int = 0, name: str = "sit", **changes: Any) -> ClassSummary:
    whole = ClassSummary(
        index=index,
        name=name,
        clips=40,
        correct=30,
        mean_probability=0.875,
        mean_map=shares(8, 8, 8),
        mean_moving=shares(8, 8, 8, at=(3, 4, 5)),
        mean_around=shares(9, 9),
        measures={
            "share_border": (0.1, 0.25, 0.5),
            "area_border": (0.2, 0.5, 0.5),
            "best_frame_share": (0.1, 0.2, 0.3),
        },
        typical=(f"{name}/typical-1", f"{name}/typical-2"),
        strangest=(f"{name}/strange-1",),
    )
    return replace(whole, **changes)


def finding(kind: str = "shortcut", index: int | None = 0, name: str = "sit", **changes: Any) -> Finding:
    clips = tuple(f"{name or 'any'}/{kind}-{i}" for i in range(7))
    text = f"Maps of {name} gather."
    whole = Finding(kind, index, name, text, 0.42, "share above other classes", 31, clips, p_value=0.004)
    return replace(whole, **changes)


def audit(classes: tuple[ClassSummary, ...] = (), findings: tuple[Finding, ...] = (), **changes: Any) -> AuditSummary:
    run = {
        "format": 1,
        "identity": {
            "data": "UCF-101", "model": "r3d_18", "weights": "0123456789abcdef",
            "settings": {"target": "pred", "config": {"method": "aosa-approx", "fill": "conditional", "score": "prob"}},
        },
        "facts": {
            "data": "ucf101:/data", "split": "test-1", "command": "aosa-fast audit ucf101:/data --out DIR",
            "started": "2031-02-03T04:05:06+00:00", "versions": {"torch": "2.9"}, "of the future": [{"a": None}, 1.5],
        },
    }  # fmt: skip
    whole = AuditSummary(run, {"ok": 40, "error": 0, "quarantined": 0}, findings, classes, (), 0.75, shares(8, 8, 8))
    return replace(whole, **changes)


def page_of(tmp_path: Path, summary: AuditSummary, pictures: FakePictures | None = None) -> Element:
    path = tmp_path / "page.html"
    write_page(summary, pictures or FakePictures(), path)
    return read_page(path)


def read_page(path: Path) -> Element:
    return Reader(path.read_text(encoding="utf-8")).root


def words(element: Element) -> str:
    return " ".join(element.text.split())


def full() -> AuditSummary:
    """Three classes, findings of every kind, a group, errors."""
    group = ClusterSummary(("run/group-1", "run/group-2"), shares(8, 8, 8, at=(0, 0, 7)), 0.6, "motion")
    classes = (
        one_class(0, "sit"),
        one_class(4, "run", mean_map=shares(8, 8, 8, at=(5, 0, 7)), correct=36, groups=(group,)),
        one_class(9, "jump", correct=None, measures={}, clips=1234),
    )
    findings = (
        finding("shortcut", 4, "run", where="place", boxes=((0, 6), (0, 7)), detail={"share_of_clips": 0.125}),
        finding("shortcut", 0, "sit", where="time", frames=(5,), p_value=0.00001),
        finding("outlier", 9, "jump", p_value=None, count=1),
        finding("label", 4, "run", p_value=None),
        finding("unexplained", None, "", p_value=None),
    )
    errors = (
        ("must be a video; got text", 12, ("bad/1", "bad/2", "bad/3", "bad/4")),
        ("died twice", 1, ("bad/killer",)),
    )
    return audit(classes, findings, errors=errors, counts={"ok": 1314, "error": 12, "quarantined": 1})


def hostile_audit(hostile: str) -> AuditSummary:
    """An audit whose every text is this one."""
    group = ClusterSummary((hostile,), shares(8, 8, 8), 0.5, hostile)
    one = one_class(
        3,
        hostile,
        typical=(hostile,),
        strangest=(f"{hostile} lost",),
        groups=(group,),
        measures={hostile: (1.0, 2.0, 3.0)},
    )
    found = finding(
        hostile, 3, hostile, where=hostile, text=hostile, effect_name=hostile, clips=(hostile,), detail={hostile: 1.0}
    )
    run = {part: {hostile: hostile} for part in ("identity", "facts")}
    run["facts"] |= {name: hostile for name in ("data", "model", "command", "method", "started", "seconds")}
    return audit(
        (one,), (found, replace(found, kind="label")), run=run, errors=((hostile, 1, (hostile,)),),
        counts={"ok": 1, hostile: 2},
    )  # fmt: skip


def hostile_pictures(hostile: str) -> FakePictures:
    caption = Caption(hostile, hostile, 0.5, hostile, hostile, 1, hostile)
    return FakePictures({hostile: caption, f"{hostile} lost": caption})


def folder_of(
    tmp_path: Path, rows: list[dict[str, Any]], preprocessing: dict[str, Any] | None = None, **facts: Any
) -> Path:
    """An audit with these rows, in parts of two."""
    preprocessing = preprocessing or {  # of an audit from before there was "resize"
        "frames": 16, "stride": 1, "size": 64, "crop": [64, 64],
        "mean": list(PREPROCESSING.mean), "std": list(PREPROCESSING.std),
    }  # fmt: skip
    folder = tmp_path / "audit"
    known = {"data": "rendered", "annotations": None, "split": None, **facts}
    open_run(folder, {"preprocessing": preprocessing}, known, (1, 1)).close()
    with PartWriter(folder, (1, 1), rows=2) as writer:
        for row in rows:
            writer.add([row])
    return folder
