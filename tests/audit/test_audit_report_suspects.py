"""What a person does with an audit: lists of suspects, verdicts, and links to clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow.parquet
import pytest

pytest.importorskip("sklearn")

from aosa_fast.audit.findings.types import AuditSummary
from aosa_fast.audit.report.page import write_page
from aosa_fast.audit.report.pictures import ClipPictures
from aosa_fast.audit.report.suspects import Suspect, find_suspects, write_suspects
from aosa_fast.audit.store.parts import read_rows
from aosa_fast.audit.store.strip import unpack_strip
from aosa_fast.audit.verdicts import Verdict, keep_verdicts, leave_out, load_verdicts, read_verdicts
from aosa_fast.data import open_dataset
from aosa_fast.demo.network import PREPROCESSING
from aosa_fast.errors import InputError
from aosa_fast.video.overlay import resize_image
from audit_pages import HOSTILE, FakePictures, audit, finding, folder_of, one_class, page_of, read_page, words
from cli_runs import Run, one_line_error

NAMES = ("a.mp4", "b c#1?.mp4", "=cmd|' /C calc'!A0.mp4", "d.mp4")


def row(name: str, path: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "id": name, "path": path, "status": "ok", "attempts": 1, "label_name": "sit", "data_label": 0, "label": 0,
        "prediction": 4, "prediction_name": "run", "probability": 0.9375, "target": 4,
    } | changes  # fmt: skip


def found(*findings: Any) -> AuditSummary:
    return audit((one_class(),), findings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [row(name, str(tmp_path / "data" / name)) for name in NAMES]
    return folder_of(tmp_path, [*rows, row("rendered", None, label_name=None)])


LABEL = finding("label", clips=NAMES[:2], strengths=(0.75, 0.5), p_value=None, count=2)
SHORTCUT = finding("shortcut", 4, "run", clips=(NAMES[2], NAMES[0], "rendered"), strengths=(1.0, 0.625, 0.25), count=3)


def test_suspects_say_what_why_and_where_the_strongest_first(folder: Path) -> None:
    suspects = find_suspects(found(SHORTCUT, LABEL), folder, folder)
    assert [(one.id, one.strength, one.finding) for one in suspects] == [
        (NAMES[2], 1.0, 1), (NAMES[0], 0.75, 2), (NAMES[0], 0.625, 1), (NAMES[1], 0.5, 2), ("rendered", 0.25, 1),
    ]  # fmt: skip
    hostile, label, _, _, rendered = suspects
    assert (label.label, label.suggestion, label.kind) == ("sit", "run", "label")
    assert label.reason.startswith("It is labelled sit; the model is sure that it is run (p = 0.938)")
    assert (hostile.suggestion, hostile.reason) == ("", "It shows a shortcut of run: maps of run gather.")
    assert label.path == str(folder.parent / "data" / "a.mp4")
    assert label.link == "../data/a.mp4"
    assert (rendered.path, rendered.link, rendered.label) == ("", "", "0")


def test_without_strengths_the_order_in_the_finding_counts(folder: Path) -> None:
    (suspects) = find_suspects(found(replace(LABEL, strengths=()), SHORTCUT), folder, folder)
    assert [one.id for one in suspects if one.finding == 1] == list(NAMES[:2])
    assert all(0 < one.strength <= 0.5 for one in suspects if one.finding == 1)


def test_the_lists_hold_the_very_names_and_no_formula(folder: Path) -> None:
    suspects = find_suspects(found(SHORTCUT, LABEL), folder, folder)
    path = write_suspects(suspects, folder)
    exact = pyarrow.parquet.read_table(path.with_suffix(".parquet")).to_pylist()
    assert exact == list(map(vars, suspects))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == ["path", "label", "suggestion", "reason", "strength", "finding", "link"]
    assert rows[0]["id"] == f"'{NAMES[2]}"
    assert [one["id"] for one in rows[1:]] == [one.id for one in suspects[1:]]
    # A person fills in the column, and gives the file back.
    filled = folder / "filled.csv"
    with filled.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(one | {"verdict": "ignore" if number == 0 else ""} for number, one in enumerate(rows))
    assert read_verdicts(filled) == {NAMES[2]: Verdict("ignore", "sit")}


def save(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"format": 1, "verdicts": entries}))
    return path


def test_of_several_verdicts_about_a_clip_the_last_one_stays(folder: Path) -> None:
    first = {"id": "a.mp4", "verdict": "right", "label": "sit"}
    given = read_verdicts(save(folder / "x.json", first, first | {"verdict": "ignore"}, {**first, "id": "b"}))
    assert keep_verdicts(folder, given) == 2
    (folder / "y.csv").write_text("verdict,id\nshortcut,a.mp4\n,b\n")
    assert keep_verdicts(folder, read_verdicts(folder / "y.csv")) == 2
    assert load_verdicts(folder) == {"a.mp4": Verdict("shortcut"), "b": Verdict("right", "sit")}


def test_decided_clips_are_left_out_and_nothing_else_changes(folder: Path) -> None:
    summary = found(SHORTCUT, LABEL, finding("outlier", clips=("a.mp4",), count=1))
    assert leave_out(summary, folder).findings == summary.findings
    verdicts = {"a.mp4": Verdict("wrong label", "sit"), "d.mp4": Verdict("right"), "elsewhere": Verdict("ignore")}
    keep_verdicts(folder, verdicts)
    left = leave_out(summary, folder)
    assert left.decided == 1  # d.mp4 is in no finding
    assert [one.kind for one in left.findings] == ["shortcut", "label"]
    shortcut, label = left.findings
    assert (shortcut.clips, shortcut.strengths, shortcut.count) == ((NAMES[2], "rendered"), (1.0, 0.25), 2)
    assert (label.clips, label.strengths, label.count) == ((NAMES[1],), (0.5,), 1)
    assert (shortcut.effect, shortcut.p_value, shortcut.text) == (SHORTCUT.effect, SHORTCUT.p_value, SHORTCUT.text)
    assert shortcut.detail == {"decided_and_left_out": 1}
    assert left.classes == summary.classes
    page = page_of(folder, left)
    assert "1 clip was decided by a person and is left out" in words(page.one("header"))


def test_a_clip_with_another_label_than_the_verdict_is_about_is_looked_at_again(folder: Path) -> None:
    keep_verdicts(folder, {"a.mp4": Verdict("wrong label", "stand"), NAMES[1]: Verdict("wrong label", "sit")})
    (label,) = leave_out(found(LABEL), folder).findings
    assert label.clips == ("a.mp4",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "verdicts must be a .json or .csv file"),
        ("a.json", "{", "must be JSON"),
        ("a.json", "[]", "must hold a list of verdicts of format 1"),
        ("a.json", '{"format": 2, "verdicts": []}', "must hold a list of verdicts of format 1"),
        ("a.json", '{"format": 1, "verdicts": [3]}', "verdict 1: id must be that of a clip; got None"),
        ("a.json", '{"format": 1, "verdicts": [{"id": "x", "verdict": "good"}]}', "must be one of right, wrong label"),
        ("a.json", '{"format": 1, "verdicts": [{"id": "x", "verdict": "right", "label": 3}]}', "label must be"),
        ("a.csv", "id,label\nx,y\n", "must have the columns id, verdict"),
        ("a.csv", "id,verdict\nx,right\ny,good\n", "a.csv, line 3: verdict must be one of"),
        ("a.csv", "id,verdict\n,right\n", "a.csv, line 2: id must be that of a clip"),
    ],
)
def test_verdicts_that_cannot_be_are_said_in_one_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as raised:
        read_verdicts(tmp_path / name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def links(page: Any) -> Iterator[str]:
    return (link.attributes["href"] for link in page.all("a", target="_blank"))


@pytest.mark.parametrize("name", [*HOSTILE, "b c#1?.mp4", "%2e%2e", "a:b", "\\x", 'quo"te', "two\nlines", "\u202e"])
def test_a_clip_is_opened_by_its_own_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data" / name.replace("/", "_")
    path.parent.mkdir()
    path.touch()
    folder = folder_of(tmp_path, [row("clip", str(path))])
    summary = audit((one_class(strangest=()),), (finding(clips=("clip",)),), errors=(("why", 1, ("clip",)),))
    page = folder / "report.html"
    write_page(summary, ClipPictures(folder), page, suspects=find_suspects(summary, folder, folder), most=0)
    hrefs = list(links(read_page(page)))
    assert hrefs == hrefs[:1] * 3  # in the finding, among the suspects and the failed clips
    parts = urlsplit(hrefs[0])
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert (folder / unquote(parts.path)).resolve() == path.resolve()


@pytest.mark.parametrize(
    ("path", "link", "opened"),
    [
        (None, "", False),
        ("s3://bucket/a b.mp4", "s3://bucket/a%20b.mp4", False),
        ("https://host/a.mp4?x=1", "https://host/a.mp4?x=1", True),
        ("javascript://%0aalert(1)", "javascript://%0aalert(1)", False),
        ("/data/frames/img_*.jpg", "../../../data/frames", True),
    ],
)
def test_what_a_browser_cannot_open_is_no_link(path: str | None, link: str, opened: bool, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [row("clip", path)])
    page = Path("/one/two/three")
    (suspect,) = find_suspects(found(finding(clips=("clip",))), folder, page)
    assert suspect.link == link
    written = tmp_path / "page.html"
    write_page(found(finding(clips=("clip",))), FakePictures(), written, suspects=[suspect])
    assert list(links(read_page(written))) == [link] * opened


def test_the_page_lists_the_strongest_suspects(tmp_path: Path) -> None:
    some = [Suspect("", "sit", "", "Why.", 1 - i / 2000, 1, "", f"clip {i}", "shortcut") for i in range(1001)]
    path = tmp_path / "page.html"
    write_page(found(finding()), FakePictures(), path, suspects=some)
    section = read_page(path).one("section", id="suspects")
    listed = section.one("tbody").all("tr")
    assert [words(one.all("th")[0]) for one in listed] == [f"clip {i}" for i in range(1000)]
    assert "the first 1,000 of 1,001, all of which are in suspects.csv" in words(section)
    assert json.loads(listed[0].attributes["data-row"]) == list(vars(some[0]).values())
    assert path.stat().st_size < 2e6


# A model whose clips only it can prepare: it sees them upside down.
MODEL = """
from dataclasses import fields
from aosa_fast.demo.network import PREPROCESSING, load_demo_network
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.models import Classifier
from aosa_fast.models.preprocess import Preprocessing

class UpsideDown(Preprocessing):
    def crop_frames(self, frames):
        return super().crop_frames(frames)[:, ::-1].copy()

def make():
    own = UpsideDown(**{field.name: getattr(PREPROCESSING, field.name) for field in fields(Preprocessing)})
    return Classifier(load_demo_network().eval(), own, CLASS_NAMES)
"""


def test_from_audit_to_report_and_back(aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "upside.py").write_text(MODEL)
    few = ("--stride", 32, "--box", 4)  # tubes, which cover so little that no map is to be trusted
    run = ("audit", "rendered", "--model", "python:upside:make", "--limit", 12, "--out", "out", *few)
    wrong = save(tmp_path / "wrong.json", {"id": "x", "verdict": "good"})
    assert "wrong.json, verdict 1" in one_line_error(aosa(*run, "--verdicts", wrong))
    assert not (tmp_path / "out").exists()
    done = aosa(*run)
    assert done.returncode == 0, done.stderr
    rows = {row["id"]: row for row in read_rows(tmp_path / "out").to_pylist()}
    dataset = open_dataset("rendered").select(limit=12)
    for sample in dataset.samples:
        packed = rows[sample.id]["strip"]
        assert len(packed) < 12_000
        seen = dataset.read(sample, PREPROCESSING).frames[[0, 3, 6, 9, 12, 15], ::-1]
        small = np.stack([resize_image(np.ascontiguousarray(frame), 96, 96) for frame in seen]).astype(int)
        assert np.abs(unpack_strip(packed, 16) - small).mean() < 12  # WebP loses some; the right way up it is 40
    done = aosa("audit-report", "out")
    assert done.returncode == 0, done.stderr
    page = read_page(tmp_path / "out" / "report.html")
    strips = page.all("figure", class_="strip")
    assert strips
    assert all(strip.all("svg") for strip in strips)
    with (tmp_path / "out" / "suspects.csv").open(newline="") as file:
        suspects = list(csv.DictReader(file))
    assert suspects, done.stdout
    decided = save(tmp_path / "decided.json", {"id": suspects[0]["id"], "verdict": "ignore"})
    again = aosa("audit-report", "out", "--verdicts", decided, "--pictures", 0)
    assert "1 clip was decided by a person and is left out" in again.stdout
    assert suspects[0]["id"] not in (tmp_path / "out" / "suspects.csv").read_text()
    decided = save(tmp_path / "decided.json", {"id": suspects[0]["id"], "verdict": "right"})
    assert "verdicts         1 are kept" in aosa(*run, "--verdicts", decided).stdout
    assert load_verdicts(tmp_path / "out") == {suspects[0]["id"]: Verdict("right")}
