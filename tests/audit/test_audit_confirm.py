"""Findings held against the model: what hiding them does to it, and what the pictures say without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import pyarrow.parquet
import torch

from aosa_fast.audit.again import Audited
from aosa_fast.audit.clip.appearance import look
from aosa_fast.audit.clip.measures import border_ring
from aosa_fast.audit.confirm.confirm import confirm_findings
from aosa_fast.audit.confirm.judge import judge
from aosa_fast.audit.confirm.regions import Seen, hide
from aosa_fast.audit.findings.pictures import examine_pictures
from aosa_fast.audit.findings.places import ring
from aosa_fast.audit.findings.static import find_static
from aosa_fast.audit.findings.types import Confirmation, Finding
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.audit.store.run_folder import open_run, read_run
from aosa_fast.audit.tasks import describe_sample
from aosa_fast.data import open_dataset
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.demo.network import DemoNet
from aosa_fast.demo.planted import PREPROCESSING, load_planted, make_plan
from aosa_fast.evaluation.identity import weights_hash
from audit_clips import lit, make_clips
from audit_pages import audit, finding
from audit_rows import fake_row
from cli_runs import Run

PLAN = make_plan(0)
KINDS = {cue.kind if cue else "none": label for label, cue in enumerate(PLAN.cues)}
LOGO = ((6, 6), (6, 7), (7, 6), (7, 7))  # bottom right
FLASH = PLAN.cues[KINDS["flash"]].frame // 2
RIGHT = tuple((row, column) for row in (3, 4, 5) for column in (6, 7, 8))


def planted(folder: Path, count: int = 72, model: str = "demo-planted:0", **columns: Any) -> Path:
    """The folder of an audit of planted clips, whose maps are made up: those of "up" lie on its logo."""
    dataset, rng = open_dataset("planted:0:wrong=0").select(limit=count), np.random.default_rng(0)
    rows = []
    for sample in dataset.samples:
        grid = rng.dirichlet(np.full(512, 4.0)).reshape(8, 8, 8)
        if sample.label == KINDS["logo"]:
            grid = lit(grid, (slice(None), slice(6, 8), slice(6, 8)), 0.5)
        names = {"label_name": CLASS_NAMES[sample.label], "prediction_name": CLASS_NAMES[sample.label]}
        facts = {"frames": 16, "height": 64, "width": 64, "first_frame": 0, "path": None, "grid": grid.ravel().tolist()}
        answer = dict.fromkeys(("label", "prediction", "target"), sample.label)
        seen = look(dataset.read(sample, PREPROCESSING).frames)
        rows.append(fake_row(**{**describe_sample(sample), **names, **facts, **answer, **seen, **columns}))
    settings = AuditSettings()
    identity = {
        "data": "planted:0", "model": model, "weights": weights_hash(load_planted(0)),
        "preprocessing": PREPROCESSING.as_dict(), "settings": settings.identity(settings.config),
    }  # fmt: skip
    facts = {"data": "planted:0", "annotations": None, "split": None, "class_names": list(CLASS_NAMES)}
    open_run(folder, identity, facts, (1, 1)).close()
    with PartWriter(folder, (1, 1)) as writer:
        writer.add(rows)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted(tmp_path_factory.mktemp("planted"))


def shortcut(label: int, **where: Any) -> Finding:
    return finding("shortcut", label, CLASS_NAMES[label], **where)


def asked(folder: Path, *findings: Finding, **options: Any) -> list[Confirmation | None]:
    summary = confirm_findings(folder, audit(findings=findings, run=read_run(folder)), device="cpu", **options)
    return [one.confirmed for one in summary.findings]


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("logo", {"where": "place", "boxes": LOGO}),
        ("border", {"where": "border"}),
        ("flash", {"where": "time", "frames": (FLASH,)}),
        ("object", {"where": "beside the motion", "offsets": RIGHT}),
    ],
)
def test_a_network_that_follows_a_cue_fails_without_it_and_not_without_as_much_elsewhere(
    folder: Path, kind: str, where: dict[str, Any]
) -> None:
    (found,) = asked(folder, shortcut(KINDS[kind], **where))
    assert found.verdict == "confirmed"
    assert found.labelled
    assert found.clips == 12
    assert found.accuracy_hidden < 0.6 < 0.9 < min(found.accuracy, found.accuracy_elsewhere)
    assert found.accuracy_low <= found.accuracy_hidden < found.accuracy_high < 0.9
    assert found.probability_hidden < found.probability - 0.4 < found.probability_elsewhere
    said = f"Hidden, accuracy of 12 of its clips falls from {100 * found.accuracy:.0f} to "
    assert found.text.startswith(f"{said}{100 * found.accuracy_hidden:.0f} % (95 % interval ")
    assert "hiding as much elsewhere: " in found.text


def test_a_finding_that_changes_nothing_is_said_to_be_a_correlation_of_maps_only(folder: Path) -> None:
    clean = CLASS_NAMES.index("left")
    assert PLAN.cues[clean] is None
    findings = shortcut(clean, where="place", boxes=LOGO), shortcut(KINDS["logo"], where="time", frames=(1,))
    for found in asked(folder, *findings):
        assert found.verdict == "correlation of maps only"
        assert found.text.startswith("A correlation of maps only: hidden, accuracy of 12 of its clips ")


def test_a_single_frame_at_different_times_is_hidden_where_each_clip_has_it(tmp_path: Path) -> None:
    grid = lit(np.full((8, 8, 8), 1 / 512), (FLASH,), 0.6).ravel().tolist()
    (found,) = asked(planted(tmp_path, 42, grid=grid), shortcut(KINDS["flash"], where="time"))
    assert found.verdict == "confirmed"


def test_copies_count_once_and_clips_are_those_of_the_finding_where_it_is_about_some(
    folder: Path, tmp_path: Path
) -> None:
    same = planted(tmp_path, 42, group="one video")
    logo = shortcut(KINDS["logo"], where="place", boxes=LOGO)
    summary = confirm_findings(same, audit(findings=(logo,), run=read_run(same)), device="cpu")
    assert summary.findings[0].confirmed is None
    assert "fewer than 6 of its clips" in summary.unconfirmed
    some = tuple(sample.id for sample in open_dataset("planted:0").select(limit=72).samples[KINDS["logo"] :: 6])[:7]
    (found,) = asked(folder, replace(logo, clips=some, detail={"share_of_clips": 0.5}))
    assert (found.verdict, found.clips) == ("confirmed", 7)
    assert asked(same, replace(logo, clips=some, detail={"share_of_clips": 0.5})) == [None]


def test_a_second_report_does_not_ask_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logo = shortcut(KINDS["logo"], where="place", boxes=LOGO)
    first = asked(folder, logo)
    monkeypatch.setattr(Audited, "load", lambda *_, **__: pytest.fail("asked again"))
    assert asked(folder, logo) == first
    with pytest.raises(pytest.fail.Exception):
        asked(folder, replace(logo, boxes=LOGO[:1]))


def test_what_cannot_be_asked_is_said_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logo = shortcut(KINDS["logo"], where="place", boxes=LOGO)
    code = planted(tmp_path, 42, "python:nowhere:make")
    summary = confirm_findings(code, audit(findings=(logo,), run=read_run(code)), device="cpu")
    assert summary.findings[0].confirmed is None
    assert "must be named by --model, or trusted by --trust: loading it runs code" in summary.unconfirmed
    assert "nowhere" in confirm_findings(code, summary, device="cpu", trust=True).unconfirmed
    with monkeypatch.context() as patch:
        patch.setattr(DemoNet, "forward", lambda *_: torch.full((1, 6), torch.nan))
        assert "finite logits" in confirm_findings(code, summary, device="cpu", model="demo-planted:0").unconfirmed
    assert "must have the weights" in confirm_findings(code, summary, device="cpu", model="demo-planted:1").unconfirmed
    assert (
        confirm_findings(code, summary, device="cpu", model="demo-planted:0").findings[0].confirmed.verdict
        == "confirmed"
    )


def test_a_report_says_it_on_the_page_in_the_table_and_on_the_terminal(aosa: Run, folder: Path, tmp_path: Path) -> None:
    arguments = ("audit-report", folder, "--pictures", 0, "--out", tmp_path / "page.html", "--device", "cpu")
    done = aosa(*arguments)
    assert done.returncode == 0, done.stderr
    (row,) = pyarrow.parquet.read_table(tmp_path / "findings.parquet").to_pylist()[:1]
    assert (row["class_name"], row["confirmed_verdict"]) == ("up", "confirmed")
    assert row["confirmed_accuracy"] > 0.9 > row["confirmed_accuracy_high"]
    for text in (done.stdout, (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert "Hidden, accuracy of 12 of its clips falls from " in text
        assert "The pictures themselves differ there (p = 0.001)" in text
    without = aosa(*arguments, "--no-confirm")
    assert "Hidden" not in without.stdout
    assert "The pictures themselves differ there" in without.stdout


@pytest.mark.parametrize(
    ("whole", "hidden", "elsewhere", "verdict"),
    [
        (0.9, 0.1, 0.9, "confirmed"),
        (0.9, 0.1, 0.1, "undecided"),
        (0.9, 0.9, 0.9, "correlation of maps only"),
        (0.9, 0.82, 0.9, "correlation of maps only"),
        (0.9, 0.7, 0.75, "undecided"),
        (0.9, 0.7, 0.9, "confirmed"),  # no answer changes
    ],
)
def test_hiding_must_do_more_than_hiding_elsewhere(whole: float, hidden: float, elsewhere: float, verdict: str) -> None:
    noise = np.random.default_rng(0).uniform(-0.02, 0.02, (20, 3))
    of_class = np.array([whole, hidden, elsewhere]) + noise
    found = judge(np.stack([1 - of_class, of_class], axis=2), 1, True, 0)
    assert found.verdict == verdict
    assert ("shows nothing" in found.text) == (verdict == "undecided")


class TestRegions:
    SEEN = Seen((16, 40, 64), np.zeros((8, 8, 8)))

    def test_a_part_of_the_frame_and_its_images_take_turns(self) -> None:
        corner = shortcut(0, where="place", boxes=((0, 0), (0, 1)))
        places = set()
        for turn in range(12):
            hidden, elsewhere = hide(corner, self.SEEN, turn)
            assert hidden.shape == self.SEEN.shape
            assert hidden[:, :5, :16].all()
            assert hidden.sum() == elsewhere.sum() == 16 * 5 * 16
            assert not (hidden & elsewhere).any()
            places.add(tuple(np.argwhere(elsewhere[0])[0]))
        assert {(0, 48), (35, 0), (35, 48)} <= places

    def test_the_middle_has_what_is_as_far_from_the_middle(self) -> None:
        boxes = tuple((row, column) for row in (3, 4) for column in (3, 4))
        hidden, elsewhere = hide(shortcut(0, where="place", boxes=boxes), self.SEEN, 0)
        assert hidden.sum() == elsewhere.sum()
        assert not (hidden & elsewhere).any()
        assert elsewhere[0, 10:30, 16:48].sum() == elsewhere[0].sum()

    def test_a_border_has_the_ring_inside(self) -> None:
        hidden, elsewhere = hide(shortcut(0, where="border"), self.SEEN, 0)
        assert np.array_equal(hidden[3], border_ring(40, 64))
        assert elsewhere.sum() == pytest.approx(hidden.sum(), rel=0.2)
        assert not (hidden & elsewhere).any()

    @pytest.mark.parametrize("frames", [3, 8, 16, 20])
    def test_times_have_other_times(self, frames: int) -> None:
        hidden, elsewhere = hide(shortcut(0, where="time", frames=(7,)), Seen((frames, 8, 8), np.zeros((8, 8, 8))), 2)
        assert hidden[-1].all()
        assert hidden.all(axis=(1, 2)).sum() == -(-frames // 8)
        assert not (hidden & elsewhere).any()
        assert elsewhere.any()

    def test_what_is_beside_the_motion_goes_with_it_and_spares_it(self) -> None:
        moving = np.zeros((16, 64, 64), bool)
        moving[:, 20:28, 12:20] = True
        beside = shortcut(0, where="beside the motion", offsets=RIGHT)
        hidden, elsewhere = hide(beside, Seen(moving.shape, np.zeros((8, 8, 8)), moving), 0)
        # The middle is at (16, 24); cells are 8 pixels.
        assert hidden[0, 12:36, 28:52].all()
        assert hidden[0].sum() == 24 * 24
        assert not (hidden & (elsewhere | moving)).any()
        assert elsewhere.any()
        hidden, _ = hide(replace(beside, offsets=((4, 5),)), Seen(moving.shape, np.zeros((8, 8, 8)), moving), 0)
        assert hidden[0, 20:28, 24:28].sum() == hidden[0].sum() == 32  # half of the cell is the rim of what moves


class TestPictures:
    def test_where_the_pictures_carry_no_cue_it_is_said(self, folder: Path) -> None:
        findings = [
            shortcut(KINDS["logo"], where="place", boxes=LOGO),
            shortcut(KINDS["logo"], where="place", boxes=((0, 0), (0, 1))),
            shortcut(KINDS["border"], where="border"),
            shortcut(KINDS["flash"], where="time", frames=(FLASH,)),
            shortcut(KINDS["flash"], where="time", frames=((FLASH + 3) % 8,)),
            shortcut(KINDS["object"], where="beside the motion", offsets=RIGHT),
            finding("outlier", 0),
        ]
        texts = [one.pictures for one in examine_pictures(folder, findings, 6, permutations=199)]
        assert ["differ there (p = 0.005)" in text for text in texts] == [True, False, True, True, False, False, False]
        assert all(texts[i].startswith("The pictures themselves do not differ there (p = ") for i in (1, 4))
        assert texts[5:] == ["", ""]  # what moves has no cells of its own

    def test_a_class_is_no_source_of_evidence_twice(self, tmp_path: Path) -> None:
        same = planted(tmp_path, 42, group="one video")
        (one,) = examine_pictures(same, [shortcut(KINDS["logo"], where="border")], 6)
        assert one.pictures == ""

    def test_the_ring_is_along_the_sides(self) -> None:
        assert ring().sum() == 28


class TestStatic:
    @staticmethod
    def clips(same: float) -> Any:
        rng = np.random.default_rng(0)

        def answered(_: Any, row: dict[str, Any]) -> None:
            row["static_prediction"] = row["target"] if rng.uniform() < same else rng.integers(5)
            row["static_probability"] = rng.uniform(0.5, 1)

        return make_clips(5, 24, change=dict.fromkeys(range(5), answered))

    def test_answers_that_need_no_motion_are_a_finding_of_the_whole_data(self) -> None:
        clips = self.clips(0.9)
        (found,) = find_static(clips)
        assert (found.kind, found.class_index, found.where) == ("shortcut", None, "one frame")
        same = (clips["static_prediction"] == clips.target).sum()
        assert found.count == same
        assert found.text.startswith(f"On {100 * same / 120:.0f} % of 120 clips (95 % interval ")
        assert 0.8 < found.effect < 0.95

    def test_half_of_them_is_none_nor_is_a_model_that_always_says_the_same(self) -> None:
        assert find_static(self.clips(0.4)) == []
        clips = make_clips(1, 60)
        clips.columns["static_prediction"] = np.zeros(60)
        assert find_static(clips) == []
        assert find_static(make_clips()) == []  # nothing was asked

    def test_copies_count_once(self) -> None:
        clips = self.clips(0.9)
        clips.columns["source"] = np.arange(120.0) % 3  # three in each of the five classes
        assert find_static(clips) == []
