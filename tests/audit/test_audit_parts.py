from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from aosa_fast.audit.findings.sums import sum_rows
from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store import merging, parts, walk
from aosa_fast.audit.store.parts import PartWriter, done_ids, drop_failed, iter_rows, read_rows
from aosa_fast.audit.store.schema import SCHEMA
from aosa_fast.errors import InputError
from audit_disk import failing, files, short_files
from audit_processes import until
from audit_rows import fake_failure, fake_row

ONE = (1, 1)


def write(folder: Path, rows: list[dict[str, Any]], shard: tuple[int, int] = ONE, part_rows: int = 1024) -> None:
    with PartWriter(folder, shard, rows=part_rows) as writer:
        for row in rows:
            writer.add([row])


def part_names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "clips"))


def plain_ids(folder: Path) -> list[str]:
    """As somebody without this package reads them."""
    return pyarrow.dataset.dataset(folder / "clips", format="parquet").to_table(["id"])["id"].to_pylist()


# What is written


def test_a_row_reads_back_as_it_was_and_what_is_missing_is_null(tmp_path: Path) -> None:
    row = fake_row("a", path=None, error="two\nlines, ü", damaged=3)
    write(tmp_path, [row, {"id": "b", "status": "ok"}])
    first, second = read_rows(tmp_path).to_pylist()
    assert {name: first[name] for name in row} == row
    assert second == {**dict.fromkeys(SCHEMA.names), "id": "b", "status": "ok"}


def test_values_of_numpy_are_taken_as_plain_ones(tmp_path: Path) -> None:
    grid = np.arange(512, dtype=np.float32)
    row = fake_row("a", frames=np.int64(7), score=np.float32(0.5), saturated=np.bool_(True), grid=grid, top5=(4, 2))
    write(tmp_path, [row])
    (back,) = read_rows(tmp_path, ["frames", "score", "saturated", "grid", "top5"]).to_pylist()
    assert back == {"frames": 7, "score": 0.5, "saturated": True, "grid": list(range(512)), "top5": [4, 2]}


def test_a_part_has_a_plain_name_zstd_and_the_format_in_its_metadata(tmp_path: Path) -> None:
    write(tmp_path, [fake_row(str(i)) for i in range(5)], (3, 12), part_rows=2)
    assert part_names(tmp_path) == [f"part-03of12-00000{i}.parquet" for i in range(3)]
    file = pq.ParquetFile(tmp_path / "clips" / "part-03of12-000001.parquet")
    assert file.metadata.metadata[b"aosa_fast_audit"] == b"1"
    group = file.metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}
    assert file.metadata.num_rows == 2


@pytest.mark.parametrize("reader", ["pandas", "polars", "duckdb", "pyarrow"])
def test_others_read_the_folder_also_while_a_part_is_half_written(tmp_path: Path, reader: str) -> None:
    module = pytest.importorskip(reader)
    write(tmp_path, [fake_row(f"clip {i}", score=float(i)) for i in range(7)], part_rows=3)
    half = (tmp_path / "clips" / part_names(tmp_path)[0]).read_bytes()[:999]
    merging.temporary_path(tmp_path, "part-1of1-000003").write_bytes(half)
    clips = str(tmp_path / "clips")
    if reader == "pandas":
        table = module.read_parquet(clips).to_dict("list")
    elif reader == "polars":
        table = module.read_parquet(clips).to_dict(as_series=False)
    elif reader == "duckdb":
        table = module.sql(f"select * from '{clips}/*.parquet' order by id").to_arrow_table().to_pydict()
    else:
        table = pyarrow.dataset.dataset(clips, format="parquet").to_table().to_pydict()
    assert table["id"] == [f"clip {i}" for i in range(7)]
    assert table["score"] == [float(i) for i in range(7)]
    assert list(table) == SCHEMA.names
    for i in range(7):
        assert bytes(table["map_scores"][i]) == fake_row(f"clip {i}")["map_scores"]
        assert np.allclose(table["grid"][i], fake_row(f"clip {i}")["grid"])


def test_mistakes_of_the_program_are_no_user_errors_and_take_no_other_rows_with_them(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, ONE)
    writer.add([fake_row("good")])
    with pytest.raises(KeyError, match=r"columns of the schema only; got colour, taste"):
        writer.add([fake_row("a", taste=1, colour=2)])
    with pytest.raises(KeyError):
        writer.add([{"status": "ok"}])
    with pytest.raises(KeyError):
        writer.add([{"id": "a"}])
    with pytest.raises(ValueError, match=r"status must be one of ok, error, quarantined; got fine"):
        writer.add([fake_row("a", status="fine")])
    with pytest.raises((pa.ArrowException, TypeError)):
        writer.add([fake_row("a", frames="many")])
    writer.add([fake_row("a")])  # what was refused counts as not done
    writer.close()
    assert plain_ids(tmp_path) == ["good", "a"]


# When it is committed


def test_a_part_is_committed_when_it_is_full(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, ONE, rows=3)
    writer.add([fake_row("a"), fake_row("b")])
    assert part_names(tmp_path) == []
    writer.add([fake_row("c"), fake_row("d")])
    assert plain_ids(tmp_path) == ["a", "b", "c", "d"]
    writer.add([fake_row("e")])
    assert len(plain_ids(tmp_path)) == 4
    writer.flush()
    writer.flush()
    assert plain_ids(tmp_path) == ["a", "b", "c", "d", "e"]
    assert len(part_names(tmp_path)) == 2


def test_a_part_is_committed_when_its_first_row_is_old(tmp_path: Path) -> None:
    now = [1000.0]
    writer = PartWriter(tmp_path, ONE, seconds=60, clock=lambda: now[0])
    now[0] = 2000.0
    writer.add([fake_row("a")])
    now[0] = 2059.0
    writer.add([fake_row("b")])
    writer.poll()
    assert part_names(tmp_path) == []
    now[0] = 2060.0
    writer.poll()
    assert plain_ids(tmp_path) == ["a", "b"]
    now[0] = 2100.0
    writer.add([fake_row("c")])  # a part of its own, as old as this row
    now[0] = 2150.0
    writer.poll()
    assert len(part_names(tmp_path)) == 1
    now[0] = 2161.0
    writer.add([])
    assert plain_ids(tmp_path) == ["a", "b", "c"]
    now[0] = 9000.0
    writer.poll()
    assert len(part_names(tmp_path)) == 2


def test_a_part_and_its_name_are_on_the_disk_before_flush_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PartWriter(tmp_path, ONE)
    writer.add([fake_row("a")])
    done = []

    def fsync(descriptor: int) -> None:
        done.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))

    def replace(source: Any, target: Any) -> None:
        done.append(("replace", str(target)))
        os.rename(source, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    writer.flush()
    clips = tmp_path / "clips"
    assert done == [
        ("fsync", str(tmp_path / ".part-1of1-000000.tmp")),
        ("replace", str(clips / "part-1of1-000000.parquet")),
        ("fsync", str(clips)),
    ]


# Exactly once


def test_a_clip_that_has_a_row_gets_no_second_one(tmp_path: Path) -> None:
    write(tmp_path, [fake_row("a"), fake_failure("b")], (1, 2))
    writer = PartWriter(tmp_path, (2, 2), rows=2)
    writer.add([fake_row("c"), fake_row("a"), fake_row("c", score=1.0)])
    assert writer.done == {"a": "ok", "b": "error", "c": "ok"}
    writer.add([fake_row("b"), fake_row("c")])
    writer.close()
    again = PartWriter(tmp_path, (1, 2))
    again.add([fake_row(id) for id in "abcd"])
    again.close()
    assert sorted(plain_ids(tmp_path)) == ["a", "b", "c", "d"]
    assert done_ids(tmp_path) == {"a": "ok", "b": "error", "c": "ok", "d": "ok"}
    assert done_ids(tmp_path, (2, 2)) == {"c": "ok"}


def test_the_caller_may_say_what_is_done(tmp_path: Path) -> None:
    done = {"a": "ok"}
    with PartWriter(tmp_path, ONE, done=done) as writer:
        writer.add([fake_row("a"), fake_failure("b", "quarantined")])
    assert plain_ids(tmp_path) == ["b"]
    assert done == {"a": "ok", "b": "quarantined"}


def test_only_leftovers_of_the_same_shard_are_removed(tmp_path: Path) -> None:
    write(tmp_path, [fake_row("a")], (1, 12))
    for name in ("part-01of12-000007", "part-11of12-000001", "part-1of1-000001"):
        merging.temporary_path(tmp_path, name).write_bytes(b"PAR1")
    write(tmp_path, [fake_row("b")], (1, 12))
    assert files(tmp_path) == [
        ".part-11of12-000001.tmp",
        ".part-1of1-000001.tmp",
        "clips/part-01of12-000000.parquet",
        "clips/part-01of12-000001.parquet",
    ]


KILLED_AT_RANDOM = """
import json, os, random, signal, sys, time
from pathlib import Path
from audit_rows import fake_row
from aosa_fast.audit.store.parts import PartWriter, read_rows

folder, ids = Path(sys.argv[1]) / "audit", [f"clip {i}" for i in range(900)]
row = fake_row("clip")

def work(rows):
    writer = PartWriter(folder, (1, 1), rows=rows)
    for id in ids:
        if id not in writer.done:
            writer.add([{**row, "id": id}])
    writer.close()

def start(rows):
    child = os.fork()
    if child == 0:
        try:
            work(rows)
            os._exit(0)
        finally:
            os._exit(1)
    return child

def count():
    return len(os.listdir(folder / "clips")) if (folder / "clips").is_dir() else 0

with PartWriter(folder.parent / "warm", (1, 1)) as writer:  # what pyarrow does once, before the forks
    writer.add([row])
read_rows(folder.parent / "warm")
killed, parts = 0, [0]
for _ in range(10):
    child = start(2)
    while count() == parts[-1]:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    killed += os.waitpid(child, 0)[1] == signal.SIGKILL
    parts.append(count())
last = os.waitpid(start(64), 0)[1]
print(json.dumps({"killed": killed, "last": last, "parts": parts}))
"""


def run_script(script: str, *arguments: object) -> Any:
    """What it prints, as JSON. It forks, which is safe in a process that has no threads yet."""
    places = filter(None, sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_ten_times_at_random_every_clip_has_exactly_one_row(tmp_path: Path) -> None:
    said = run_script(KILLED_AT_RANDOM, tmp_path)
    folder = tmp_path / "audit"
    assert said["killed"] == 10
    assert said["last"] == 0
    assert said["parts"] == sorted(set(said["parts"]))  # each went on where the last one stopped
    assert sorted(plain_ids(folder)) == sorted(f"clip {i}" for i in range(900))
    assert all(name.startswith("clips/part-1of1-") for name in files(folder))
    assert read_rows(folder).num_rows == 900


KILLED_AT_EVERY_STEP = """
import io, json, os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from aosa_fast import files
from aosa_fast.audit.store.parts import PartWriter, drop_failed

GOOD = {"a", "c", "d"}
ALL = GOOD | {"b", "e", "f"}
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.truncate", "os.link")

def row(id, good=True):
    return {"id": id, "status": "ok" if good else "error"}

def first():
    with PartWriter(folder, (1, 1), rows=2) as writer:  # b fails, and e and f, which have a part to themselves
        writer.add([row("a"), row("b", False)])
        writer.add([row("c"), row("d")])
        writer.add([row("e", False), row("f", False)])

def again():
    drop_failed(folder, (1, 1))
    with PartWriter(folder, (1, 1), rows=2) as writer:
        writer.add([row(id) for id in "abcd"])
        writer.add([row(id) for id in "ef"])

def in_child(work, kill_at=None):
    child = os.fork()
    if child == 0:
        left = kill_at
        def step():
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        def hook(event, arguments):
            if event in STEPS and str(arguments[0]).startswith(str(folder)):
                step()
        class Halves(io.FileIO):
            def write(self, content):
                step()
                return super().write(content[: len(content) // 2 if self.tell() == 0 else None])
        try:
            if kill_at is not None:
                sys.addaudithook(hook)
                files.open = lambda path, mode, buffering=-1, **options: (
                    Halves(path, mode[0]) if mode == "xb" else open(path, mode, buffering, **options)
                )
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), (work, kill_at, code)
    return code == 0

def found():
    paths = sorted((folder / "clips").glob("*.parquet")) if (folder / "clips").is_dir() else []
    return [row for path in paths for row in pq.read_table(path).select(["id", "status"]).to_pylist()]

def check(ids_at_least):
    ids = [row["id"] for row in found()]
    assert len(ids) == len(set(ids)), (folder, ids)
    assert ids_at_least <= set(ids), (folder, ids)

folder = Path(sys.argv[1]) / "warm"  # what pyarrow does once, before the forks
first()
again()
killed, kill_at, ended = [0, 0], 0, False
while not ended:
    folder = Path(sys.argv[1]) / str(kill_at)
    ends = []
    for number, work in enumerate((first, again)):
        ends.append(in_child(work, kill_at))
        killed[number] += not ends[-1]
        check(GOOD if work is again else set())
        assert in_child(work)
        check(ALL)
    assert all(row["status"] == "ok" for row in found()), found()
    assert not list(folder.glob(".*")), folder
    ended = all(ends)
    kill_at += 1
print(json.dumps(killed))
"""


def test_killed_at_any_step_every_clip_has_at_most_one_row_and_in_the_end_exactly_one(tmp_path: Path) -> None:
    first, again = run_script(KILLED_AT_EVERY_STEP, tmp_path)
    assert first >= 2 + 3 * 5  # folders; and for each part: open, write twice, rename, flush of the folder
    assert again >= 3 + 5 + 2 + 2 * 5  # three read, one replaced, one removed, two written


def test_an_interrupt_between_a_rename_and_its_record_writes_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PartWriter(tmp_path, ONE)
    writer.add([fake_row("a")])
    rename = os.replace

    def interrupted(source: Any, target: Any) -> None:
        rename(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.flush()
    monkeypatch.undo()
    assert plain_ids(tmp_path) == ["a"]
    writer.add([fake_row("b")])
    writer.close()
    assert plain_ids(tmp_path) == ["a", "b"]


def test_a_folder_that_cannot_be_flushed_is_an_error_but_writes_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = PartWriter(tmp_path, ONE)
    writer.add([fake_row("a")])
    monkeypatch.setattr(parts, "sync_folder", failing(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(InputError, match=r"must be a folder that can be written; Input/output error$"):
        writer.flush()
    monkeypatch.undo()
    writer.add([fake_row("b")])
    writer.close()
    assert plain_ids(tmp_path) == ["a", "b"]


def test_a_clips_folder_that_cannot_be_listed_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [fake_row("a")])
    monkeypatch.setattr(os, "listdir", failing(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(InputError, match=r"clips: must be a folder that can be read; got Permission denied$"):
        PartWriter(tmp_path, ONE)
    with pytest.raises(InputError, match="must be a folder that can be read"):
        read_rows(tmp_path)


def test_an_error_in_the_body_keeps_the_rows_and_stays_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(writer: PartWriter, id: str) -> None:
        with writer:
            writer.add([fake_row(id)])
            raise InputError("the pool broke")

    with pytest.raises(InputError, match="the pool broke"):
        fail(PartWriter(tmp_path, ONE), "a")
    assert plain_ids(tmp_path) == ["a"]
    writer = PartWriter(tmp_path, ONE)
    monkeypatch.setattr(parts, "write_file", failing(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(InputError, match="the pool broke"):
        fail(writer, "b")


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    yield place
    until(lambda: subprocess.run(["umount", place]).returncode == 0)  # pyarrow lets go of files a moment later


def test_a_full_disk_is_one_line_and_the_rows_wait_until_there_is_room(small_disk: Path) -> None:
    folder = small_disk / "audit"
    noise = np.random.default_rng(0).bytes(12_000)
    writer = PartWriter(folder, ONE, rows=8)
    rows = [fake_row(str(i), map_tracks=noise[i:] + noise[:i]) for i in range(64)]
    with pytest.raises(InputError) as caught:
        any(writer.add([row]) for row in rows)
    assert str(caught.value) == f"{folder}: must have room on the disk; No space left on device"
    assert not list(folder.glob(".*"))
    before = plain_ids(folder)
    assert before == [str(k) for k in range(len(before))]
    assert 0 < len(before) < 64
    with pytest.raises(InputError, match="must have room on the disk"):
        writer.flush()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    for i in range(64):
        writer.add([fake_row(str(i))])
    writer.close()
    assert sorted(plain_ids(folder), key=int) == [str(i) for i in range(64)]
    assert read_rows(folder, ["id"]).num_rows == 64


def test_a_full_disk_while_failed_rows_are_dropped_leaves_the_parts_as_they_were(small_disk: Path) -> None:
    folder = small_disk / "audit"
    noise = np.random.default_rng(0).bytes(200_000)
    write(folder, [fake_row("a", map_tracks=noise), fake_failure("b")])
    with pytest.raises(InputError) as caught:
        drop_failed(folder, ONE)
    assert str(caught.value) == f"{folder}: must have room on the disk; No space left on device"
    assert files(folder) == ["clips/part-1of1-000000.parquet"]
    assert plain_ids(folder) == ["a", "b"]


def test_a_limit_on_the_length_of_files_is_a_full_disk(tmp_path: Path) -> None:
    writer = PartWriter(tmp_path, ONE)
    writer.add([fake_row("a", map_tracks=np.random.default_rng(0).bytes(9000))])
    with short_files(4096), pytest.raises(InputError) as caught:
        writer.close()
    assert str(caught.value) == f"{tmp_path}: must have room on the disk; File too large"
    assert files(tmp_path) == []
    writer.close()
    assert plain_ids(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        PartWriter(tmp_path / "file", ONE)
    assert str(caught.value) == f"{tmp_path / 'file'}: must be a folder that can be written; File exists"


# Failed clips, once more


def test_failed_rows_are_dropped_from_the_shard_and_the_rest_stays(tmp_path: Path) -> None:
    rows = [fake_row("a"), fake_failure("b"), fake_failure("c"), fake_failure("d", "quarantined"), fake_row("e")]
    write(tmp_path, rows, (1, 2), part_rows=2)
    write(tmp_path, [fake_failure("other")], (2, 2))
    kept = {row["id"]: row for row in read_rows(tmp_path).to_pylist()}
    assert drop_failed(tmp_path, (1, 2)) == 3
    assert part_names(tmp_path) == [
        "part-1of2-000000.parquet",
        "part-1of2-000002.parquet",
        "part-2of2-000000.parquet",
    ]
    assert read_rows(tmp_path).to_pylist() == [kept["a"], kept["e"], kept["other"]]
    assert drop_failed(tmp_path, (1, 2)) == 0
    write(tmp_path, [fake_row(id) for id in "abcde"], (1, 2))
    assert done_ids(tmp_path) == {**dict.fromkeys("abcde", "ok"), "other": "error"}
    assert read_rows(tmp_path).num_rows == 6


def test_a_part_that_goes_while_it_is_read_has_no_rows_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [fake_failure("a"), fake_row("b")], (1, 2), part_rows=1)
    names = part_names(tmp_path)
    drop_failed(tmp_path, (1, 2))
    monkeypatch.setattr(walk, "list_folder", lambda *arguments: names)  # as it was before
    assert done_ids(tmp_path) == {"b": "ok"}
    assert read_rows(tmp_path, ["id"])["id"].to_pylist() == ["b"]
    PartWriter(tmp_path, (2, 2))


# Reading


def test_rows_of_all_shards_come_by_the_names_of_the_parts(tmp_path: Path) -> None:
    for shard in (10, 2, 1):
        write(tmp_path, [fake_row(f"{shard}-{i}") for i in range(3)], (shard, 10), part_rows=2)
    expected = [f"{shard}-{i}" for shard in (1, 2, 10) for i in range(3)]
    assert read_rows(tmp_path)["id"].to_pylist() == expected
    assert read_rows(tmp_path).schema.equals(SCHEMA, check_metadata=True)
    batches = list(iter_rows(tmp_path, ["score", "id"], batch_rows=1))
    assert [batch.num_rows for batch in batches] == [1] * 9
    assert [batch["id"][0].as_py() for batch in batches] == expected
    assert [batch.num_rows for batch in iter_rows(tmp_path)] == [2, 1] * 3
    assert next(iter_rows(tmp_path)).schema.names == SCHEMA.names


def test_hidden_files_are_no_parts(tmp_path: Path) -> None:
    write(tmp_path, [fake_row("a")])
    (tmp_path / "clips" / "._part-1of1-000000.parquet").write_bytes(b"of the file manager")
    (tmp_path / "clips" / "notes.txt").write_text("mine")
    assert read_rows(tmp_path, ["id"])["id"].to_pylist() == ["a"]


def test_columns_come_in_the_order_asked_for_and_unknown_ones_are_no_user_error(tmp_path: Path) -> None:
    write(tmp_path, [fake_row("a", score=2.5)])
    assert read_rows(tmp_path, ["score", "status"]).to_pydict() == {"score": [2.5], "status": ["ok"]}
    assert read_rows(tmp_path, ["status", "id"]).schema.names == ["status", "id"]
    for read in (lambda: read_rows(tmp_path, ["scores"]), lambda: list(iter_rows(tmp_path, ["scores"]))):
        with pytest.raises(KeyError, match="scores"):
            read()


def test_an_audit_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    assert read_rows(tmp_path).schema.equals(SCHEMA)
    assert read_rows(tmp_path, ["id"]).num_rows == 0
    assert list(iter_rows(tmp_path)) == []
    assert done_ids(tmp_path) == {}
    assert drop_failed(tmp_path, ONE) == 0


NO_TEXT = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))
# What is made of a part's table, and what the message must say of it.
TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "another table": (
        lambda table: pa.table({"id": ["a"], "status": ["ok"]}),
        "must be a part of an audit of format 1; got none",
    ),
    "another format": (
        lambda table: table.replace_schema_metadata({"aosa_fast_audit": "2"}),
        "must be a part of an audit of format 1; got 2",
    ),
    "another type": (
        lambda table: table.set_column(table.column_names.index("score"), "score", table["score"].cast(pa.string())),
        "must have double in its column score; got string",
    ),
    "no column id": (lambda table: table.drop_columns(["id"]), "must have a column id; it has none"),
    "no id": (
        lambda table: table.set_column(0, "id", pa.nulls(len(table), pa.string())),
        "must have id in each row; one is missing",
    ),
    "text that is none": (
        lambda table: table.set_column(0, table.schema.field("id"), NO_TEXT),
        "must be Parquet in one piece; got ",
    ),
}


def spoil(path: Path, how: str) -> str:
    """Makes another file of a part; returns what the message must say of it."""
    content = path.read_bytes()
    table = pq.read_table(path)
    if how in TABLES:
        change, message = TABLES[how]
        pq.write_table(change(table), path)
        return message
    path.unlink()
    if how == "folder":
        path.mkdir()
        return "must be readable; got Is a directory"
    if how == "link to nothing":
        path.symlink_to("nothing")
        return "must be readable; got a link to a file that is missing"
    if how == "another name":
        path.with_name("copy.parquet").write_bytes(content)
        return "must be a part of an audit, part-<i>of<n>-<number>.parquet; remove it"
    at = content.index(table["map_scores"][0].as_py())
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    path.write_bytes(changed if how == "one byte" else b"id,status\na,ok\n")
    return "must be Parquet in one piece; got "


FILES = ["text", "folder", "link to nothing", "one byte", "another name"]


@pytest.mark.parametrize("how", [*FILES, *TABLES])
def test_a_file_that_is_no_part_is_one_line_that_names_it(tmp_path: Path, how: str) -> None:
    noise = np.random.default_rng(0).bytes(900)  # zstd stores it as it is
    write(tmp_path, [fake_row("a")])
    write(tmp_path, [fake_row("b", map_scores=noise)])
    path = tmp_path / "clips" / "part-1of1-000001.parquet"
    rule = spoil(path, how)
    name = path.with_name("copy.parquet") if how == "another name" else path
    readers = [lambda: read_rows(tmp_path), lambda: list(iter_rows(tmp_path))]
    if how not in ("one byte", "another type"):  # which the others do not look at
        readers += [lambda: done_ids(tmp_path), lambda: PartWriter(tmp_path, ONE), lambda: read_rows(tmp_path, ["id"])]
    for read in readers:
        with pytest.raises(InputError) as caught:
            read()
        assert str(caught.value).startswith(f"{name}: {rule}")
        assert "\n" not in str(caught.value)


def test_parts_of_another_version_are_read_with_the_columns_that_they_have(tmp_path: Path) -> None:
    write(tmp_path, [fake_row("a"), fake_row("b", status="error", error="bad")])
    path = tmp_path / "clips" / "part-1of1-000000.parquet"
    table = pq.read_table(path).drop_columns(["spread", "agreement", "grid_around"])
    pq.write_table(table.append_column("later", pa.array([1, 2])), path)
    write(tmp_path, [fake_row("c")])
    assert [value is None for value in read_rows(tmp_path)["spread"].to_pylist()] == [True, True, False]
    assert read_rows(tmp_path, ["agreement"]).num_rows == 3
    assert [row["spread"] for row in find_rows(tmp_path, ["a"], ["id", "spread"])] == [None]
    assert drop_failed(tmp_path, ONE) == 1
    assert pq.read_table(path)["later"].to_pylist() == [1]
    assert sum_rows(tmp_path).clips.has_map.tolist() == [True, True]


def test_a_clip_with_two_rows_is_refused_with_its_id_and_both_files(tmp_path: Path) -> None:
    write(tmp_path / "one", [fake_row("a"), fake_row("b\n")], (1, 2))
    write(tmp_path / "two", [fake_row("b\n"), fake_row("c")], (2, 2))
    copied = tmp_path / "one" / "clips" / "part-2of2-000000.parquet"
    (tmp_path / "two" / "clips" / copied.name).rename(copied)
    first = copied.with_name("part-1of2-000000.parquet")
    with pytest.raises(InputError) as caught:
        read_rows(tmp_path / "one", ["score"])
    expected = f"{copied}: must not hold a clip that another part holds; 'b\\n' is in {first} too"
    assert str(caught.value) == expected


# Memory


def test_what_is_done_takes_16_bytes_a_clip(tmp_path: Path) -> None:
    count = 70_000
    ids = [f"class name/clip_{i:08}.mp4" for i in range(count)]
    with PartWriter(tmp_path, ONE, rows=count) as writer:
        writer.add([{"id": id, "status": ("ok", "error", "quarantined")[i % 3]} for i, id in enumerate(ids)])
    tracemalloc.start()
    done = done_ids(tmp_path)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 16 * count + (1 << 20)
    assert len(done) == len(writer.done) == count
    assert [done.get(id) for id in ids[:3]] == ["ok", "error", "quarantined"]
    assert all(id in done for id in ids)
    assert not any(f"{id}4" in done for id in ids)
    assert done == {id: ("ok", "error", "quarantined")[i % 3] for i, id in enumerate(ids)}
    assert files(tmp_path) == ["clips/part-1of1-000000.parquet"]


def test_memory_is_that_of_one_part_however_many_there_are(tmp_path: Path) -> None:
    row = fake_row("a", map_tracks=np.random.default_rng(0).bytes(100_000))
    with PartWriter(tmp_path, ONE, rows=8) as writer:
        writer.add([row])
        before = pa.total_allocated_bytes()
        held = []
        for i in range(64):
            writer.add([{**row, "id": str(i)}])
            held.append(pa.total_allocated_bytes() - before)
    assert max(held) < 1_200_000
    del writer
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in iter_rows(tmp_path)]
    assert len(held) == 9
    assert max(held) < 2_500_000
