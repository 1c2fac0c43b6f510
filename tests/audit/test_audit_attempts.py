from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aosa_fast.audit.store.schema import SCHEMA
from aosa_fast.audit.workers.attempts import QUARANTINE, Attempts
from aosa_fast.data import Sample
from aosa_fast.errors import InputError
from audit_disk import short_files

ONE = (1, 1)


def sample(id: str) -> Sample:
    return Sample(id, f"/data/{id}.mp4", 3)


def journal(folder: Path) -> Path:
    return folder / "attempts" / "1of1.jsonl"


def test_deaths_are_counted_by_clip_and_survive_a_restart(tmp_path: Path) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        assert attempts.deaths("a") == 0
        assert attempts.suspects() == set()
        attempts.record(["a", "b"], "explain", "signal 9")
        attempts.record(["a"], "read", "exit code 70")
        assert [attempts.deaths(id) for id in "abc"] == [2, 1, 0]
    with Attempts(tmp_path, ONE) as attempts:
        assert [attempts.deaths(id) for id in "abc"] == [2, 1, 0]
        assert attempts.suspects() == {"a", "b"}
        attempts.record(["b"], "read", "signal 11")
        assert attempts.deaths("b") == QUARANTINE == 2


def test_a_death_counts_once_for_a_clip_that_is_named_twice(tmp_path: Path) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record(["a", "a"], "read", "signal 9")
        assert attempts.deaths("a") == 1
    with Attempts(tmp_path, ONE) as attempts:
        assert attempts.deaths("a") == 1


def test_shards_have_records_of_their_own(tmp_path: Path) -> None:
    with Attempts(tmp_path, (1, 12)) as first, Attempts(tmp_path, (12, 12)) as last:
        first.record(["a"], "read", "signal 9")
        assert last.deaths("a") == 0
    assert sorted(os.listdir(tmp_path / "attempts")) == ["01of12.jsonl", "12of12.jsonl"]


def test_the_innocent_are_forgiven_for_good(tmp_path: Path) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record(["culprit", "innocent"], "explain", "signal 9")
        attempts.forgive("innocent")
        assert attempts.deaths("innocent") == 0
        assert attempts.suspects() == {"culprit"}
    with Attempts(tmp_path, ONE) as attempts:
        assert attempts.suspects() == {"culprit"}
        attempts.record(["innocent"], "explain", "signal 9")
        assert attempts.deaths("innocent") == 1


def test_good_clips_leave_no_trace(tmp_path: Path) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record(["a"], "read", "signal 9")
        attempts.forgive("a")
        before = journal(tmp_path).stat().st_size
        for i in range(1000):
            attempts.forgive(str(i))
            assert attempts.deaths(str(i)) == 0
        assert journal(tmp_path).stat().st_size == before
        assert attempts._records == {}


def test_the_row_of_a_quarantined_clip_names_its_last_death(tmp_path: Path) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record(["a", "b"], "explain", "signal 9")
        attempts.record(["a"], "read", "time limit of 120 s\n  last words:\tü")
    with Attempts(tmp_path, ONE) as attempts:
        row = attempts.quarantine_row(sample("a"))
        with pytest.raises(KeyError):
            attempts.quarantine_row(sample("c"))
    assert {name: row[name] for name in ("id", "path", "data_label", "status", "stage", "error", "attempts")} == {
        "id": "a",
        "path": "/data/a.mp4",
        "data_label": 3,
        "status": "quarantined",
        "stage": "read",
        "error": "time limit of 120 s last words: ü",
        "attempts": 2,
    }
    assert set(row) <= set(SCHEMA.names)


@pytest.mark.parametrize("id", ["two\nlines", "\udc80 is no UTF-8", "", '"}', "ü/走る.mp4"])
def test_ids_may_be_any_text(tmp_path: Path, id: str) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record([id, "other"], "read", "\udcff")
        attempts.forgive("other")
    with Attempts(tmp_path, ONE) as attempts:
        assert attempts.suspects() == {id}


@pytest.mark.parametrize("lost", [1, 7, 30])
def test_a_line_that_a_killed_run_did_not_finish_is_cut_off(tmp_path: Path, lost: int) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record(["a"], "read", "signal 9")
        whole = journal(tmp_path).read_bytes()
        attempts.record(["a"], "read", "signal 11")
    os.truncate(journal(tmp_path), journal(tmp_path).stat().st_size - lost)
    with Attempts(tmp_path, ONE) as attempts:
        assert attempts.deaths("a") == 1
        assert journal(tmp_path).read_bytes() == whole
        attempts.record(["b"], "read", "signal 11")
    with Attempts(tmp_path, ONE) as attempts:
        assert (attempts.deaths("a"), attempts.deaths("b")) == (1, 1)


@pytest.mark.parametrize(
    "line", [b"what?\n", b"[]\n", b"5\n", b'{"died": ["a"]}\n', b"\xff\n", b"\0\0\n", b"[" * 100_000 + b"\n"]
)
def test_a_file_that_is_no_record_is_one_line_that_names_its_line(tmp_path: Path, line: bytes) -> None:
    with Attempts(tmp_path, ONE) as attempts:
        attempts.record(["a"], "read", "signal 9")
    content = journal(tmp_path).read_bytes()
    journal(tmp_path).write_bytes(content + line + content)
    with pytest.raises(InputError) as caught:
        Attempts(tmp_path, ONE)
    assert str(caught.value).startswith(f"{journal(tmp_path)}, line 2: must be a record of attempts; got ")


def test_a_death_is_on_the_disk_before_record_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    with Attempts(tmp_path, ONE) as attempts:
        monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
        attempts.record(["a"], "read", "signal 9")
        assert sizes == [journal(tmp_path).stat().st_size]


LOOP = """
import sys
from pathlib import Path
from aosa_fast.audit.workers.attempts import Attempts

with Attempts(Path(sys.argv[1]), (1, 1)) as attempts:
    while True:
        attempts.record([f"{sys.argv[2]} {attempts.deaths('all')}", "all"], "read", "signal 9" * 99)
        print(attempts.deaths("all"), flush=True)
"""


def test_killed_at_any_time_no_death_is_lost(tmp_path: Path) -> None:
    said = 0
    for run in range(3):
        process = subprocess.Popen([sys.executable, "-c", LOOP, tmp_path, str(run)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        with process:
            for _ in range(5 + run):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            said = int((process.stdout.read().splitlines() or [said])[-1])
    with Attempts(tmp_path, ONE) as attempts:
        assert said <= attempts.deaths("all") <= said + 1
        assert len(attempts.suspects()) == attempts.deaths("all") + 1
    lines = [json.loads(line) for line in journal(tmp_path).read_text().splitlines()]
    assert [int(line["died"][0].split()[1]) for line in lines] == list(range(len(lines)))


def test_a_full_disk_is_one_line_and_records_nothing(tmp_path: Path) -> None:
    with short_files(500):
        with Attempts(tmp_path, ONE) as attempts:
            attempts.record(["a", "b"], "read", "signal 9" + 300 * ".")
            content = journal(tmp_path).read_bytes()
            with pytest.raises(InputError) as caught:
                attempts.record(["a"], "read", "signal 9" + 300 * ".")
            assert str(caught.value) == f"{tmp_path}: must have room on the disk; File too large"
            assert journal(tmp_path).read_bytes() == content
            assert attempts.deaths("a") == 1
            attempts.forgive("a")  # a short line still fits
            assert attempts.suspects() == {"b"}
        with Attempts(tmp_path, ONE) as attempts:
            assert attempts.suspects() == {"b"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("")
    with pytest.raises(InputError) as caught:
        Attempts(tmp_path, ONE)
    assert str(caught.value) == f"{tmp_path}: must be a folder that can be written; File exists"


def test_a_closed_record_takes_nothing(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path, ONE)
    attempts.close()
    attempts.close()
    with pytest.raises(ValueError, match="closed"):
        attempts.record(["a"], "read", "signal 9")
