"""Commands that a later run goes on from, interrupted."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("pyarrow")

import aosa_fast.cli.run_audit as run_audit
import aosa_fast.cli.run_evaluate as run_evaluation
import aosa_fast.progress as progress
from aosa_fast.audit.store.parts import done_ids
from aosa_fast.errors import InputError
from cli_runs import Run


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    # A job in the background ignores Ctrl-C, and Ray leaves a handler of its own for SIGTERM.
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    for number, handler in before.items():
        signal.signal(number, handler)


def signalled(work: Callable[..., Any], number: int, at: int) -> Callable[..., Any]:
    """`work`, and a signal when it reports so many steps as done."""

    def run(*arguments: Any, **options: Any) -> Any:
        def report(done: int, total: int, what: str = "") -> None:
            if done == at:
                os.kill(os.getpid(), number)

        if "progress" in options:
            return work(*arguments, **{**options, "progress": report})
        return work(arguments[0], report, *arguments[2:])

    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_audit_says_what_is_kept_and_goes_on(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    command = ("audit", "rendered", "--limit", 4, "--batch", 1, "--readers", 1, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(run_audit, "audit", signalled(run_audit.audit, number, 2))
        done = aosa(*command)
    assert done.returncode == code
    kept = len(done_ids(tmp_path / "out"))
    assert 2 <= kept < 4
    said = [line for line in done.stderr.splitlines() if line]
    assert said == [
        f"interrupted: {kept} clips have a row in {tmp_path / 'out'}",
        "to go on: " + " ".join(["aosa-fast", *map(str, command)]),
    ]
    again = aosa(*command)
    assert f"4: 4 ok; {4 - kept} of them now" in again.stdout.replace(", 0 error", "")


def test_an_evaluation_says_what_is_kept_and_goes_on(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    command = ("evaluate", "rendered", "--limit", 2, "--block", 1, "--methods", "random,centre", "--out", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(run_evaluation, "evaluate", signalled(run_evaluation.evaluate, signal.SIGINT, 3))
        done = aosa(*command)
    assert done.returncode == 130
    assert f"interrupted: 3 blocks of clips are kept in {tmp_path}\nto go on: aosa-fast evaluate" in done.stderr
    assert aosa(*command).returncode == 0
    assert (tmp_path / "results.parquet").is_file()


def test_before_the_first_clip_there_is_nothing_to_keep(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_audit, "audit", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    done = aosa("audit", "rendered", "--out", tmp_path / "out")
    assert done.returncode == 130
    assert done.stderr.startswith("interrupted: no clip has a row yet\n")


def test_clips_that_fail_are_named_without_a_flood_and_an_error_says_how_to_go_on(
    aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(request: Any, report: Callable[..., None], failed: Callable[[Any], None]) -> None:
        report(0, 30)
        for i in range(25):
            failed({"id": f"clip {i}", "path": f"/x/clip {i}", "error": f"/x/clip {i}: must be a video; it is not"})
        raise InputError("out: must have room on the disk")

    monkeypatch.setattr(run_audit, "audit", work)
    done = aosa("audit", "rendered", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line] == [
        *(f"failed: clip {i}: must be a video; it is not" for i in range(20)),
        "failed: 5 more, whose rows say why",
        "stopped: no clip has a row yet",
        f"to go on: aosa-fast audit rendered --out {tmp_path / 'out'}",
        "error: out: must have room on the disk",
    ]


def test_the_rate_is_that_of_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    said = io.StringIO()
    with progress.show_progress(True, "clips", Console(file=said)) as show:
        show(5000, 5100)
        show(5020, 5100, "2 failed")
    last = said.getvalue().splitlines()[-1]
    found = re.fullmatch(r"5020/5100 clips: 2 failed, (\S+)/s, (\S+) left", last)
    assert found, last
    assert 0.1 < float(found[1]) < 1  # of 20 clips, not of 5020
