"""Small parts become large ones, and every row is there exactly once at any moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset
import pytest

from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store import merging
from aosa_fast.audit.store.merging import merge_parts
from aosa_fast.audit.store.parts import PartWriter, count_rows, done_ids, drop_failed, iter_rows, read_rows
from aosa_fast.errors import InputError
from audit_disk import failing, files
from audit_rows import fake_failure, fake_row

ONE = (1, 1)
ALL = [str(i) for i in range(12)]


def small_parts(folder: Path) -> None:
    """Six parts of two rows; those of 3, 7 and 11 failed."""
    with PartWriter(folder, ONE, rows=2) as writer:
        for i in range(0, 12, 2):
            writer.add([fake_row(str(i)), fake_failure("7") if i == 6 else fake_row(str(i + 1))])


def ids(rows: Iterator[pyarrow.RecordBatch]) -> list[str]:
    return [id for batch in rows for id in batch["id"].to_pylist()]


def test_merged_parts_hold_the_same_rows_and_a_run_goes_on_behind_them(tmp_path: Path) -> None:
    small_parts(tmp_path)
    before = read_rows(tmp_path)
    merge_parts(tmp_path, ONE, rows=4)
    assert files(tmp_path) == [f"clips/part-1of1-00000{i}.parquet" for i in (0, 2, 4)]
    assert read_rows(tmp_path).equals(before)
    merge_parts(tmp_path, ONE)
    assert files(tmp_path) == ["clips/part-1of1-000000.parquet"]
    assert read_rows(tmp_path).equals(before)
    assert pyarrow.dataset.dataset(tmp_path / "clips").to_table(["id"])["id"].to_pylist() == ALL
    assert count_rows(tmp_path, ONE) == len(done_ids(tmp_path)) == 12
    with PartWriter(tmp_path, ONE) as writer:
        writer.add([fake_row("5"), fake_row("new")])
    assert files(tmp_path) == ["clips/part-1of1-000000.parquet", "clips/part-1of1-000006.parquet"]
    assert read_rows(tmp_path, ["id"])["id"].to_pylist() == [*ALL, "new"]
    assert drop_failed(tmp_path, ONE) == 1
    assert read_rows(tmp_path, ["id"])["id"].to_pylist() == [id for id in [*ALL, "new"] if id != "7"]


@pytest.mark.parametrize("seen", range(1, 6))
def test_whoever_reads_meanwhile_sees_each_row_once(tmp_path: Path, seen: int) -> None:
    small_parts(tmp_path)
    early = iter_rows(tmp_path, ["id"])
    found = ids(next(early) for _ in range(seen))
    merge_parts(tmp_path, ONE, rows=4)
    later = iter_rows(tmp_path, ["id"])
    found_later = ids(next(later) for _ in range(min(seen, 3)))
    merge_parts(tmp_path, ONE)
    assert found + ids(early) == ALL
    assert found_later + ids(later) == ALL


def test_whoever_reads_while_failed_rows_are_dropped_sees_the_others_once(tmp_path: Path) -> None:
    small_parts(tmp_path)
    early = iter_rows(tmp_path, ["id"])
    found = ids(next(early) for _ in range(2))
    merge_parts(tmp_path, ONE)
    drop_failed(tmp_path, ONE)
    assert found + ids(early) == [id for id in ALL if id != "7"]


def test_a_full_disk_leaves_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(tmp_path)
    monkeypatch.setattr(merging, "write_groups", failing(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="must have room on the disk"):
        merge_parts(tmp_path, ONE)
    assert len(files(tmp_path)) == 6
    assert read_rows(tmp_path, ["id"])["id"].to_pylist() == ALL


KILLED = """
import json, os, signal, sys
from pathlib import Path
from aosa_fast.audit.store.merging import merge_parts
from test_audit_merging import ONE, check, small_parts

STEPS = ("open", "os.rename", "os.remove")

def killed(folder, kill_at):
    child = os.fork()
    if child == 0:
        left = kill_at
        def hook(event, arguments):
            nonlocal left
            if event in STEPS and str(arguments[0]).startswith(str(folder)):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
        try:
            sys.addaudithook(hook)
            merge_parts(folder, ONE, rows=8)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0

warm = Path(sys.argv[1]) / "warm"  # what pyarrow does once, before the forks
small_parts(warm)
check(warm)
kill_at, between = 0, 0
while True:
    folder = Path(sys.argv[1]) / str(kill_at)
    small_parts(folder)
    if not killed(folder, kill_at):
        break
    between += check(folder)
    kill_at += 1
print(json.dumps([kill_at, between]))
"""


def check(folder: Path) -> bool:
    """Every row is there once, also after the next run has begun; returns whether files had some twice."""
    assert read_rows(folder, ["id"])["id"].to_pylist() == ALL
    assert ids(iter_rows(folder, ["id"])) == ALL
    assert sorted(row["id"] for row in find_rows(folder, ALL, ["id"])) == sorted(ALL)
    assert count_rows(folder, ONE) == len(done_ids(folder)) == 12
    raw = pyarrow.dataset.dataset(folder / "clips").to_table(["id"]).num_rows
    with PartWriter(folder, ONE) as writer:
        writer.add([fake_row(id) for id in [*ALL, "new"]])
    assert pyarrow.dataset.dataset(folder / "clips").to_table(["id"])["id"].to_pylist() == [*ALL, "new"]
    assert not list(folder.glob(".*"))
    return raw > 12


def test_killed_at_any_step_each_row_is_read_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    steps, between = json.loads(done.stdout.splitlines()[-1])
    assert steps > 20
    assert between >= 4  # after a rename, and before the last removal
