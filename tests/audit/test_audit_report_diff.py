"""What changed between two audits."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

pytest.importorskip("sklearn")

from aosa_fast.audit.diff import Change, compare, write_changes
from aosa_fast.audit.findings.tables import write_tables
from aosa_fast.audit.findings.types import Finding
from audit_pages import audit, finding, folder_of, one_class
from cli_runs import Run, one_line_error

CLASSES = ("sit", "run")


def row(name: str, label: int | None, prediction: int | None, **changes: Any) -> dict[str, Any]:
    known = {
        "id": name, "path": f"/{name}", "status": "ok", "attempts": 1, "content_hash": f"hash of {name}",
        "data_label": label, "label": label, "label_name": None if label is None else CLASSES[label],
        "prediction": prediction, "prediction_name": None if prediction is None else CLASSES[prediction],
    }  # fmt: skip
    return known | changes


def audit_of(folder: Path, rows: list[dict[str, Any]], *findings: Finding, **facts: Any) -> Path:
    made = folder_of(folder, rows, **facts)
    write_tables(audit((one_class(),), findings), made)
    return made


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    place = {"where": "place", "boxes": ((0, 0), (0, 1))}
    time = finding("shortcut", 0, "sit", where="time", frames=(5,), text="In time.")
    empty, saturated = (
        finding("unexplained", None, "", text=f"{count} of 9 maps are not to be trusted: {why}.")
        for count, why in ((1, "empty"), (2, "saturated"))
    )
    before = audit_of(
        tmp_path / "before",
        [
            row("same", 0, 0), row("other answer", 0, 0), row("other label", 0, 1), row("old name", 1, 1),
            row("twice 1", 1, 1, content_hash="twice"), row("twice 2", 1, 1, content_hash="twice"), row("gone", 1, 1),
            row("failed", 0, None, status="error", content_hash=None), row("no label", None, 1),
        ],
        finding("shortcut", 0, "sit", text="At the top.", **place), time, empty,
    )  # fmt: skip
    after = audit_of(
        tmp_path / "after",
        [
            row("same", 0, 0), row("other answer", 0, 1), row("other label", 1, 1),
            row("new name", 1, 1, content_hash="hash of old name"), row("twice 3", 1, 0, content_hash="twice"),
            row("failed", 0, 0), row("no label", None, 1),
        ],
        finding("shortcut", 0, "sit", text="At the top too.", **{**place, "where": "static overlay"}),
        replace(time, frames=(6, 7)), saturated, replace(empty, text="3 of 9 maps are not to be trusted: empty."),
    )  # fmt: skip
    return before, after


def test_what_changed(both: tuple[Path, Path]) -> None:
    found = compare(*both)
    assert found.clips == 6  # of another name, too; what is there twice is matched by its name only
    assert found.settings == ()
    changes = [change for change in found.changes if "finding" not in change.what]
    assert changes == [
        # Of all clips with a label and an answer, and of those that have both in both.
        Change("accuracy", "all clips of each", "85.7 % of 7", "66.7 % of 6"),
        Change("accuracy", "clips in both", "75.0 % of 4", "75.0 % of 4"),
        Change("accuracy", "sit", "66.7 % of 3", "50.0 % of 2"),
        Change("accuracy", "run", "100.0 % of 1", "100.0 % of 2"),
        Change("prediction", "other answer", "sit", "run"),
        Change("prediction", "failed", "none", "sit"),
        Change("label", "other label", "sit", "run"),
        Change("status", "failed", "error", "ok"),
        Change("only before", "twice 1", "run", ""),
        Change("only before", "twice 2", "run", ""),
        Change("only before", "gone", "run", ""),
        Change("only after", "twice 3", "", "run"),
    ]


def test_findings_are_the_same_by_class_kind_and_place(both: tuple[Path, Path]) -> None:
    findings = [change for change in compare(*both).changes if "finding" in change.what]
    saturated, empty, more = ("2 of 9", "saturated"), ("1 of 9", "empty"), ("3 of 9", "empty")
    texts = [f"{count} maps are not to be trusted: {why}." for count, why in (saturated, empty, more)]
    assert findings == [
        Change("finding gone", "sit", "In time.", ""),
        Change("finding new", "sit", "", "In time."),
        Change("finding new", "", "", texts[0]),
        Change("finding kept", "sit", "At the top.", "At the top too."),
        Change("finding kept", "", texts[1], texts[2]),
    ]


def test_an_audit_does_not_differ_from_itself(both: tuple[Path, Path]) -> None:
    found = compare(both[0], both[0])
    assert {change.what for change in found.changes if change.before != change.after} == set()
    assert found.clips == 9


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_changes_are_written_as_a_table(both: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    found, path = compare(*both), tmp_path / f"changes.{suffix}"
    write_changes(found, path)
    if suffix == "csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        is_json = suffix == "json"
        rows = json.loads(path.read_text())["changes"] if is_json else pyarrow.parquet.read_table(path).to_pylist()
    assert rows == [vars(change) for change in found.changes]


def test_the_command_says_it_without_torch(both: tuple[Path, Path], tmp_path: Path) -> None:
    code = """if True:
        import sys
        from aosa_fast.cli.main import main
        try:
            main()
        finally:
            print("torch" in sys.modules)
    """
    command = [sys.executable, "-P", "-c", code, "audit-diff", *both, "--out", tmp_path / "changes.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    said = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["clips", "6 in both"] in said
    assert "other answer: sit -> run" in done.stdout
    assert (tmp_path / "changes.csv").exists()


def test_what_cannot_be_is_said_in_one_line(both: tuple[Path, Path], aosa: Run, tmp_path: Path) -> None:
    assert "run.json" in one_line_error(aosa("audit-diff", both[0], tmp_path))
    assert "out must end in" in one_line_error(aosa("audit-diff", *both, "--out", tmp_path / "changes.txt"))
