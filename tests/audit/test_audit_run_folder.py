from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aosa_fast.audit.store import run_folder
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.audit.store.run_folder import open_run, read_run, read_shards
from aosa_fast.errors import InputError
from audit_disk import failing, files, short_files
from audit_rows import fake_row

IDENTITY = {"model": "net.pt", "weights": None, "settings": {"config": {"stride": 8, "box": [16, 16]}, "seed": 0}}
FACTS = {"command": ["aosa-fast", "audit"], "machine": "here"}
ONE = (1, 1)


def changed(**config: Any) -> dict[str, Any]:
    settings = {**IDENTITY["settings"], "config": {**IDENTITY["settings"]["config"], **config}}  # type: ignore[dict-item]
    return {**IDENTITY, "settings": settings}


def message(folder: Path, identity: dict[str, Any], shard: tuple[int, int] = ONE) -> str:
    with pytest.raises(InputError) as caught:
        open_run(folder, identity, {}, shard)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# One run in a folder


def test_the_first_run_writes_what_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "audit"
    with open_run(folder, IDENTITY, FACTS, (2, 4)) as run:
        assert (run.folder, run.shard, run.earlier) == (folder, (2, 4), None)
    expected = {"format": 1, "identity": {**IDENTITY, "shards": 4}, "facts": FACTS}
    assert json.loads((folder / "run.json").read_text()) == expected
    assert read_run(folder) == expected
    assert files(folder) == ["run.json", "shards/2of4.lock"]


def test_an_audit_from_before_there_was_a_choice_of_resizing_goes_on(tmp_path: Path) -> None:
    open_run(tmp_path, {**IDENTITY, "preprocessing": {"size": 64}}, FACTS, ONE).close()
    open_run(tmp_path, {**IDENTITY, "preprocessing": {"size": 64, "resize": "short"}}, FACTS, ONE).close()
    other = {**IDENTITY, "preprocessing": {"size": 64, "resize": "exact"}}
    assert "identity.preprocessing.resize; it holds short, and now is exact" in message(tmp_path, other)


def test_the_same_run_goes_on_and_the_first_ones_facts_stay(tmp_path: Path) -> None:
    open_run(tmp_path, IDENTITY, FACTS, ONE).close()
    content = (tmp_path / "run.json").read_bytes()
    open_run(tmp_path, changed(box=(16, 16)), {"machine": "there"}, ONE).close()  # a tuple is as good as a list
    assert (tmp_path / "run.json").read_bytes() == content


@pytest.mark.parametrize(
    ("identity", "shard", "difference"),
    [
        (changed(stride=4), ONE, "identity.settings.config.stride; it holds 8, and now is 4"),
        (changed(box=[16, 8]), ONE, "identity.settings.config.box.1; it holds 16, and now is 8"),
        (changed(box=16), ONE, "identity.settings.config.box; it holds [16, 16], and now is 16"),
        (changed(new="a\nb"), ONE, "identity.settings.config.new; it holds nothing, and now is a b"),
        ({**IDENTITY, "weights": 99 * "f"}, ONE, f"identity.weights; it holds null, and now is {77 * 'f'}..."),
        ({"model": "net.pt"}, ONE, "identity.weights; it holds null, and now is nothing"),
        (IDENTITY, (1, 2), "identity.shards; it holds 1, and now is 2"),
    ],
)
def test_another_run_is_refused_with_the_first_field_that_differs(
    tmp_path: Path, identity: dict[str, Any], shard: tuple[int, int], difference: str
) -> None:
    open_run(tmp_path, IDENTITY, FACTS, ONE).close()
    before = files(tmp_path), (tmp_path / "run.json").read_bytes()
    assert message(tmp_path, identity, shard) == f"{tmp_path}: must hold the same {difference}"
    assert (files(tmp_path), (tmp_path / "run.json").read_bytes()) == before


@pytest.mark.parametrize("shard", [(0, 4), (5, 4), (1, 0), (-1, 2)])
def test_a_shard_that_there_is_not_is_refused_before_anything_is_written(
    tmp_path: Path, shard: tuple[int, int]
) -> None:
    assert message(tmp_path, IDENTITY, shard) == f"shard must be i/n with i within 1..n; got {shard[0]}/{shard[1]}"
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "must be JSON; got Expecting value: line 1 column 1 (char 0)"),
        (
            '{"format": 1,',
            "must be JSON; got Expecting property name enclosed in double quotes: line 1 column 14 (char 13)",
        ),
        ("[1]", "must be of format 1; got [1]"),
        ('{"identity": {}}', "must be of format 1; got null"),
        ('{"format": 2}', "must be of format 1; got 2"),
        ('{"format": 1, "identity": []}', "must hold the identity and the facts of an audit; it does not"),
        ('{"format": 1, "identity": {}, "facts": {}}', "must say how many shards there are; got null"),
        ('{"format": 1, "identity": {"shards": 0}, "facts": {}}', "must say how many shards there are; got 0"),
    ],
)
def test_a_run_json_that_is_none_is_one_line(tmp_path: Path, content: str, rule: str) -> None:
    (tmp_path / "run.json").write_text(content)
    expected = f"{tmp_path / 'run.json'}: {rule}"
    assert message(tmp_path, IDENTITY) == expected
    for read in (read_run, read_shards):
        with pytest.raises(InputError) as caught:
            read(tmp_path)
        assert str(caught.value) == expected
    assert (tmp_path / "run.json").read_text() == content


def test_rows_of_a_run_that_nobody_knows_are_not_taken_over(tmp_path: Path) -> None:
    with PartWriter(tmp_path, ONE) as writer:
        writer.add([fake_row("a")])
    assert (
        message(tmp_path, IDENTITY) == f"{tmp_path}: must hold run.json beside its clips, or neither; it has clips only"
    )


@pytest.mark.parametrize("folder", ["missing", ".", "file"])
def test_a_folder_without_an_audit_is_one_line_for_readers(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        read_run(tmp_path / folder)
    assert str(caught.value) == f"{tmp_path / folder}: must be the folder of an audit; it has no run.json"


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert (
        message(tmp_path / "file", IDENTITY)
        == f"{tmp_path / 'file'}: must be a folder that can be written; Not a directory"
    )


def test_what_a_run_left_that_was_killed_while_it_wrote_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".run-1of2.tmp").write_text('{"for')
    (tmp_path / ".run-2of2.tmp").write_text('{"for')
    open_run(tmp_path, IDENTITY, FACTS, (1, 2)).close()
    assert files(tmp_path) == [".run-2of2.tmp", "run.json", "shards/1of2.lock"]  # the other one may be at work
    open_run(tmp_path, IDENTITY, FACTS, (2, 2)).close()
    assert files(tmp_path) == ["run.json", "shards/1of2.lock", "shards/2of2.lock"]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(PermissionError(errno.EPERM, "Operation not permitted")))
    open_run(tmp_path, IDENTITY, FACTS, ONE).close()
    open_run(tmp_path, IDENTITY, {}, ONE).close()
    assert read_run(tmp_path)["facts"] == FACTS
    assert "config.stride" in message(tmp_path, changed(stride=2))


def test_run_json_is_on_the_disk_before_the_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    done = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    open_run(tmp_path / "audit", IDENTITY, FACTS, ONE).close()
    audit = str(tmp_path / "audit")
    assert done == [str(tmp_path), audit, f"{audit}/.run-1of1.tmp", audit]


# Shards at work


HOLD = """
import subprocess, sys, time
from pathlib import Path
from aosa_fast.audit.store.run_folder import open_run

run = open_run(Path(sys.argv[1]), {}, {}, (1, 2))
code = "import time; print(flush=True); time.sleep(100)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, close_fds=False)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(100)
"""


def test_a_shard_belongs_to_one_process_until_that_ends_or_is_killed(tmp_path: Path) -> None:
    expected = f"{tmp_path}: must not be in use; another run works on its shard 1/2"
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        assert message(tmp_path, {}, (1, 2)) == expected
        open_run(tmp_path, {}, {}, (2, 2)).close()
        holder.send_signal(signal.SIGKILL)
    try:
        run = open_run(tmp_path, {}, {}, (1, 2))  # whether or not a child of the killed one lives on
    finally:
        os.kill(child, signal.SIGKILL)
    assert message(tmp_path, {}, (1, 2)) == expected
    run.close()
    with open_run(tmp_path, {}, {}, (1, 2)):
        run.close()  # a second time: not the lock of the other
        assert message(tmp_path, {}, (1, 2)) == expected
    open_run(tmp_path, {}, {}, (1, 2)).close()


RACE = """
import json, os, sys
from pathlib import Path
from aosa_fast.audit.store.run_folder import open_run, read_run
from aosa_fast.errors import InputError

COUNT = 8

def begin(folder, number, kind):
    identity = {"kind": "all" if kind != "different" else number, "long": list(range(1000))}
    shard = (1 if kind == "one shard" else number + 1, COUNT)
    try:
        run = open_run(folder, identity, {"number": number}, shard)
        first = read_run(folder)["facts"]["number"]
        return f"open {first}", run
    except InputError as error:
        return str(error), None

def race(folder, kind):
    go, wait, tell, answer = *reversed(os.pipe()), *reversed(os.pipe())
    stay, leave = os.pipe()
    children = []
    for number in range(COUNT):
        child = os.fork()
        if child == 0:
            try:
                os.close(go)
                os.close(leave)
                os.read(wait, 1)  # all at once, when the parent closes its end
                said, run = begin(folder, number, kind)
                os.write(tell, (json.dumps([number, said]) + "\\n").encode())
                os.read(stay, 1)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    for end in (wait, tell, stay):
        os.close(end)
    os.close(go)
    with os.fdopen(answer) as file:
        said = [json.loads(file.readline()) for _ in children]
        os.close(leave)  # nobody ends, which frees a lock, before all have said how it went
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    return said

print(json.dumps([race(Path(sys.argv[1]) / str(i), sys.argv[2]) for i in range(12)]))
"""


def race(folder: Path, kind: str) -> list[list[tuple[int, str]]]:
    done = subprocess.run([sys.executable, "-c", RACE, folder, kind], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [[(number, said) for number, said in one] for one in json.loads(done.stdout)]


def test_eight_shards_of_one_run_that_start_at_once_all_begin(tmp_path: Path) -> None:
    races = race(tmp_path, "same")
    assert len(races) == 12
    for i, said in enumerate(races):
        first = read_run(tmp_path / str(i))["facts"]["number"]
        assert sorted(said) == [(number, f"open {first}") for number in range(8)]
        expected = ["run.json", *(f"shards/{number}of8.lock" for number in range(1, 9))]
        assert files(tmp_path / str(i)) == expected


def test_of_eight_runs_that_start_at_once_one_begins(tmp_path: Path) -> None:
    for i, said in enumerate(race(tmp_path, "different")):
        folder = tmp_path / str(i)
        winner = read_run(folder)["identity"]["kind"]
        for number, text in said:
            rule = f"must hold the same identity.kind; it holds {winner}, and now is {number}"
            assert text == (f"open {winner}" if number == winner else f"{folder}: {rule}")


def test_of_eight_processes_that_start_on_one_shard_one_begins(tmp_path: Path) -> None:
    for i, said in enumerate(race(tmp_path, "one shard")):
        refused = f"{tmp_path / str(i)}: must not be in use; another run works on its shard 1/8"
        assert sorted(Counter(text.split()[0] for _, text in said).values()) == [1, 7]
        assert sum(text == refused for _, text in said) == 7


# What became of each shard


def test_readers_learn_which_shards_are_missing_unfinished_and_finished(tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY, FACTS, (1, 4)) as run:
        run.finish({"finished": True, "ok": 10, "seconds": 2.5})
    open_run(tmp_path, IDENTITY, FACTS, (2, 4)).close()
    with open_run(tmp_path, IDENTITY, FACTS, (4, 4)) as run:
        run.finish({"finished": False, "ok": 3})
    assert read_shards(tmp_path) == [
        {"shard": 1, "state": "finished", "finished": True, "ok": 10, "seconds": 2.5},
        {"shard": 2, "state": "unfinished"},
        {"shard": 3, "state": "missing"},
        {"shard": 4, "state": "unfinished", "finished": False, "ok": 3},
    ]


def test_a_finished_shard_that_begins_again_is_unfinished_until_it_ends(tmp_path: Path) -> None:
    with open_run(tmp_path, IDENTITY, FACTS, ONE) as run:
        run.finish({"finished": True, "seconds": 2.0})
    with open_run(tmp_path, IDENTITY, FACTS, ONE) as run:
        assert run.earlier == {"finished": True, "seconds": 2.0}
        assert read_shards(tmp_path) == [{"shard": 1, "state": "unfinished", "finished": False, "seconds": 2.0}]
        run.finish({"finished": True, "seconds": 3.0})
    assert read_shards(tmp_path) == [{"shard": 1, "state": "finished", "finished": True, "seconds": 3.0}]
    assert files(tmp_path) == ["run.json", "shards/1of1.json", "shards/1of1.lock"]


def test_a_broken_file_of_a_shard_is_one_line(tmp_path: Path) -> None:
    open_run(tmp_path, IDENTITY, FACTS, ONE).close()
    path = tmp_path / "shards" / "1of1.json"
    for content, rule in (("{", "must be JSON"), ('{"format": 1}', "must hold the facts of a shard; got null")):
        path.write_text(content)
        for use in (lambda: read_shards(tmp_path), lambda: open_run(tmp_path, IDENTITY, FACTS, ONE)):
            with pytest.raises(InputError) as caught:
                use()
            assert str(caught.value).startswith(f"{path}: {rule}")
    path.unlink()
    open_run(tmp_path, IDENTITY, FACTS, ONE).close()  # the lock was given back


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    expected = f"{tmp_path}: must have room on the disk; File too large"
    with short_files(64):
        assert message(tmp_path, IDENTITY) == expected
    assert files(tmp_path) == ["shards/1of1.lock"]
    with open_run(tmp_path, IDENTITY, FACTS, ONE) as run:
        run.finish({"finished": True})
        with short_files(64), pytest.raises(InputError) as caught:
            run.finish({"finished": True, "words": 99 * "long "})
        assert str(caught.value) == expected
        assert run_folder.read_shards(tmp_path) == [{"shard": 1, "state": "finished", "finished": True}]
    assert files(tmp_path) == ["run.json", "shards/1of1.json", "shards/1of1.lock"]
