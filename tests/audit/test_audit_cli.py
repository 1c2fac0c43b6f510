"""The commands that audit data sets, as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import pyarrow.parquet

import aosa_fast
from aosa_fast.audit.demo import Score, is_placed, run_demo, score, table
from aosa_fast.audit.findings.shortcuts import find_shortcuts
from aosa_fast.audit.findings.summary import summarize
from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.audit.store.parts import read_rows
from aosa_fast.data import open_dataset
from aosa_fast.data.planted import true_label
from aosa_fast.demo import demo_clip_path
from aosa_fast.demo.planted import SEEDS, load_planted, make_plan, render_planted
from aosa_fast.errors import InputError
from aosa_fast.video import write_video
from audit_clips import make_clips
from cli_runs import Run, one_line_error

# A model that a white clip kills, and that a black one keeps waiting.
MODEL = """
import os, time, torch
from aosa_fast.demo.network import PREPROCESSING, load_demo_network
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.models import Classifier

class Fragile(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = load_demo_network()
        self.norm = torch.nn.BatchNorm3d(3, track_running_stats=False)  # which makes its clips go one by one
    def forward(self, video):
        for clip in video.detach():
            if clip.min() > 2:
                os.abort()
            if clip.max() < -2:
                time.sleep(1000)
        return self.network(video)

def make():
    return Classifier(Fragile().eval(), PREPROCESSING, CLASS_NAMES)
"""


def rows_of(folder: Path) -> dict[str, dict]:
    return {row["id"]: row for row in read_rows(folder).to_pylist()}


@pytest.mark.filterwarnings("ignore:1 clip has a label that the model does not know", "default:the model's answer")
def test_a_folder_with_everything_that_can_go_wrong(aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where python: looks for modules
    data = tmp_path / "data"
    for name in ("left", "right"):
        (data / name).mkdir(parents=True)
        for i in range(3):
            shutil.copy(demo_clip_path(), data / name / f"{i}.mp4")
    (data / "upward").mkdir()  # the model's class is "up"
    shutil.copy(demo_clip_path(), data / "upward" / "0.mp4")
    (data / "left" / "empty.mp4").touch()
    (data / "left" / "link.mp4").symlink_to("nowhere.mp4")
    (data / "right" / "text.mp4").write_text("no video\n" * 100)
    write_video(data / "right" / "white.mp4", np.full((20, 64, 64, 3), 255, np.uint8), 8)
    write_video(data / "right" / "black.mp4", np.zeros((20, 64, 64, 3), np.uint8), 8)
    (tmp_path / "fragile.py").write_text(MODEL)
    own = ("--model", "python:fragile:make", "--out", tmp_path / "out", "--batch", 4, "--clip-seconds", 4)
    done = aosa("audit", data, *own)
    assert done.returncode == 0, done.stderr
    assert "12: 7 ok, 3 error, 2 quarantined" in done.stdout
    rows = rows_of(tmp_path / "out")
    good = {f"{name}/{i}.mp4" for name in ("left", "right") for i in range(3)} | {"upward/0.mp4"}
    assert {name for name, row in rows.items() if row["status"] == "ok"} == good
    assert {name: row["stage"] for name, row in rows.items() if row["status"] == "error"} == dict.fromkeys(
        ("left/empty.mp4", "left/link.mp4", "right/text.mp4"), "read"
    )
    white, black = rows["right/white.mp4"], rows["right/black.mp4"]
    assert (white["status"], white["stage"], white["attempts"]) == ("quarantined", "explain", 2)
    assert "SIGABRT" in white["error"]
    assert (black["status"], black["attempts"]) == ("quarantined", 2)
    assert "4 s" in black["error"]
    assert all(row["label_name"] == name.split("/")[0] for name, row in rows.items())
    named = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert {line.split(": ")[1] for line in named} == set(rows) - good  # each in one line, as it came
    again = aosa("audit", data, *own)
    assert "0 of them now" in again.stdout
    assert "clips/s" not in again.stdout
    assert re.search(r"^failed .* try them again: aosa-fast audit .* --retry$", again.stdout, re.MULTILINE)
    page = aosa("audit-report", tmp_path / "out")
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "right/white.mp4" in text
    assert (rows["upward/0.mp4"]["label"], rows["left/0.mp4"]["label"]) == (None, 0)
    said = "1 clip has a label that the model does not know, and no accuracy counts it: upward (1, like up)"
    assert said in page.stdout
    assert said in text
    coupled = "answer depends on its batch (layer norm has no running statistics): it gets its clips one by one"
    assert done.stderr.count(coupled) == page.stdout.count(coupled) == 1
    assert coupled in text
    assert "SIGABRT" in text
    clip = ("audit-clip", tmp_path / "out", "left/1.mp4", "--out", tmp_path / "one")
    assert "python:fragile:make" in one_line_error(aosa(*clip))
    assert "fragile" not in sys.modules  # a folder's word is not enough to run code
    assert not (tmp_path / "one").exists()
    for allowed in (("--trust",), ("--model", "python:fragile:make")):
        one = aosa(*clip, *allowed)
        assert one.returncode == 0, one.stderr
    with np.load(tmp_path / "one" / "explanation.npz") as saved:
        drawn = aosa_fast.load_map(rows["left/1.mp4"])
        np.testing.assert_allclose(saved["saliency"][0], drawn, atol=1e-6 * np.abs(drawn).max())
    for name in ("right/white.mp4", "nothing"):
        refused = aosa("audit-clip", tmp_path / "out", name, "--trust")
        assert name in one_line_error(refused)


def test_shards_make_one_audit(aosa: Run, tmp_path: Path):
    for shard in ("2/2", "1/2"):
        done = aosa(
            "audit", "planted:1", "--model", "demo-planted:1", "--limit", 18, "--shard", shard, "--target", "both",
            "--maps", "summary", "--out", tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path)
    assert set(rows) == {sample.id for sample in open_dataset("planted:1").select(limit=18).samples}
    assert all(row["map_scores"] is None for row in rows.values())
    assert all((row["agreement"] == 1) == (row["label"] == row["prediction"]) for row in rows.values())
    done = aosa("audit-report", tmp_path, "--pictures", 2)
    assert done.returncode == 0, done.stderr
    assert pyarrow.parquet.read_table(tmp_path / "classes.parquet")["clips"].to_pylist() == [
        sum(row["target"] == label for row in rows.values()) for label in sorted({r["target"] for r in rows.values()})
    ]
    run = tmp_path / "run.json"
    run.write_text(run.read_text().replace('"size": 64', '"size": 0'))
    refused = aosa("audit-report", tmp_path, "--out", tmp_path / "page" / "a.html")
    assert "run.json: identity.frames" in one_line_error(refused)
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("audit", "DATA"),
        ("audit rendered --demo", "DATA"),
        ("audit rendered --shard 3/2", "shard"),
        ("audit rendered --method grad-cam", "method"),
        ("audit rendered --target best", "target"),
        ("audit rendered --box 8x", "box"),
        ("audit rendered --engine slurm", "engine"),
        ("audit planted:x", "planted"),
        ("audit nowhere.csv", "nowhere.csv"),
        ("audit-report .", "run.json"),
        ("audit-clip . clip", "run.json"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
):
    monkeypatch.chdir(tmp_path)
    assert words in one_line_error(aosa(*arguments.split()))


def test_options_become_what_is_asked_for_and_have_its_defaults(aosa: Run, monkeypatch: pytest.MonkeyPatch):
    asked: list[AuditRequest] = []
    monkeypatch.setattr("aosa_fast.cli.run_audit.run_audit", lambda request, *_: asked.append(request))
    options = "--model demo-planted:1 --shard 2/3 --box 8x12 --fill black --partners 1 --seed 5 --target both --retry"
    for given in ("", f"{options} --maps summary --out there --readers 2 --device cpu --limit 9"):
        done = aosa("audit", "rendered", *given.split())
        assert done.returncode == 0, done.stderr
    configs = [request.settings.config for request in asked]
    usual = AuditSettings().config.as_dict()
    assert [config.as_dict() for config in configs] == [usual, usual | {"fill": "black", "partners": 1, "seed": 5}]
    settings = AuditSettings(config=configs[1], box=(8, 12), seed=5, target="both", maps="summary")
    changes = {"limit": 9, "device": "cpu", "readers": 2, "shard": (2, 3), "retry": True}
    assert asked == [
        AuditRequest("rendered", "demo", Path("out/audit"), AuditSettings(config=configs[0])),
        AuditRequest("rendered", "demo-planted:1", Path("there"), settings, **changes),
    ]


def test_planted_shortcuts_are_found_and_nothing_else(tmp_path: Path):
    with_cues, attention, without = run_demo(tmp_path, 90, seeds=(0,))
    assert (attention.model, attention.found, attention.clean_named) == ("demo-planted:attention", 4, 0)
    assert with_cues.right >= with_cues.wrong / 2
    text = table([with_cues, without])
    assert "| planted:0 | demo-planted:0 | 4 of 4 | 4 of 4 | 0 of 2 | 1.00" in text
    assert "| planted:0 | demo-planted:none | 0 of 0 | 0 of 0 | 0 of 6 | 1.00" in text
    # The score must be able to fail: of another plan, nothing is right but by chance.
    other = score(summarize(tmp_path / "0-shortcuts"), 1, "demo-planted:0", 90, follows=True)
    assert other.placed < 3
    assert other.missed


def test_a_finding_must_say_where():
    def corner(rng, row):
        row["grid"][:, :2, :2] += 0.02
        row["grid"] /= row["grid"].sum()

    (finding,) = find_shortcuts(make_clips(change={2: corner}), permutations=99)
    cues = [cue for seed in range(20) for cue in make_plan(seed).cues if cue is not None]
    assert {is_placed(finding, cue) for cue in cues if cue.kind == "logo" and cue.corner == 0} == {True}
    assert {is_placed(finding, cue) for cue in cues if cue.kind != "logo" or cue.corner != 0} == {False}


class TestPlanted:
    def test_a_plan_has_each_cue_once_and_two_classes_without(self):
        for seed in range(30):
            kinds = [cue.kind if cue else "" for cue in make_plan(seed).cues]
            assert sorted(kinds) == ["", "", "border", "flash", "logo", "object"]
        assert len({make_plan(seed).cues for seed in range(30)}) == 30

    def test_a_cue_changes_what_it_says_and_nothing_else(self):
        plan = make_plan(0)
        for label, cue in enumerate(plan.cues):
            plain, marked = (render_planted(plan, 12, label=label, cue=c) for c in (None, "class"))
            changed = (plain.frames != marked.frames).any(-1)
            kind = cue.kind if cue else ""
            if kind == "flash":
                assert changed.any((1, 2)).nonzero()[0].tolist() == [cue.frame]
            elif kind == "border":
                assert not changed[:, 3:-3, 3:-3].any()
                assert changed[:, 0].mean() > 0.9
            elif kind in ("logo", "object"):
                rows, columns = changed.any(0).any(1).nonzero()[0], changed.any(0).any(0).nonzero()[0]
                assert np.ptp(rows) < 11
                assert np.ptp(columns) < 11
                assert (marked.frames[:, rows[0] + 5, columns[0] + 5].std(0) == 0).all()
            else:
                assert not changed.any()

    def test_some_labels_are_wrong_and_the_clips_are_not(self):
        dataset = open_dataset("planted:0:wrong=0.25").select(limit=200)
        wrong = [sample for sample in dataset.samples if sample.label != true_label(sample.seed)]
        assert 30 <= len(wrong) <= 70
        plan = make_plan(0)
        from aosa_fast.demo.planted import PREPROCESSING

        clip = dataset.read(wrong[0], PREPROCESSING)
        shown = render_planted(plan, wrong[0].seed, label=true_label(wrong[0].seed))
        assert np.array_equal(clip.frames, shown.frames)
        assert np.array_equal(clip.boxes[:, 0], shown.boxes)

    @pytest.mark.parametrize("rest", ["x", "0:wrong=2", "0:wrong=", "0:size=3", "-1"])
    def test_other_sets_are_refused(self, rest: str):
        with pytest.raises(InputError, match="data must be planted"):
            open_dataset(f"planted:{rest}")

    def test_networks_are_shipped_for_the_seeds_and_for_no_other(self):
        for seed in SEEDS:
            assert not load_planted(seed).training
        with pytest.raises(InputError, match="seed must be one of 0, 1, 2, 6, 7, 8"):
            load_planted(3)

    def test_the_networks_follow_their_cues(self):
        from aosa_fast.demo.train_planted import report

        with_cues = report(load_planted(0), 0, 36)
        assert with_cues["accuracy"] > 0.95
        assert all(value >= 0.75 for name, value in with_cues.items() if name.startswith("follows"))
        without = report(load_planted(0, shortcuts=False), 0, 36)
        assert all(value <= 0.1 for name, value in without.items() if name.startswith("follows"))
        assert all(value >= 0.8 for name, value in without.items() if name.startswith("accuracy"))


def test_a_score_without_labels_has_no_share():
    own = Score(0, "m", 0, 0, 0, 0, wrong=0, suspected=0, right=0, missed=())
    assert "| - | - |" in table([own])


@pytest.mark.parametrize("settings", [None, [], {"config": {"method": []}}, {"config": {"unknown": 1}}])
def test_a_foreign_folder_that_does_not_say_how_is_one_line(aosa: Run, tmp_path: Path, settings: object):
    identity = {"shards": 1, "model": "demo", "weights": "", "settings": settings}
    facts = {"data": "rendered", "annotations": None, "split": None}
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "identity": identity, "facts": facts}))
    assert "run.json" in one_line_error(aosa("audit-clip", tmp_path, "x"))
