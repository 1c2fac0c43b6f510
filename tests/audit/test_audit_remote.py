"""Audits whose folder is at an address."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

from aosa_fast.addresses import Address  # noqa: E402
from aosa_fast.audit import driver  # noqa: E402
from aosa_fast.audit.store.parts import read_rows  # noqa: E402
from aosa_fast.audit.store.remote import working_folder  # noqa: E402
from aosa_fast.errors import InputError  # noqa: E402
from audit_runs import make_request, use_fakes  # noqa: E402
from cli_runs import Run  # noqa: E402

HERE = Path(__file__).parents[1] / "makers"
BUCKET = Address("memory://bucket/audit")
NAMES = [f"clip/{i}" for i in range(10)] + ["bad/10"]


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(driver, "choose_clips", driver.choose_clips)  # put back after use_fakes
    monkeypatch.setattr(driver, "_engine", driver._engine)
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    use_fakes(NAMES)
    yield
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def names() -> list[str]:
    found = fsspec.filesystem("memory").find("/bucket/audit")
    return sorted(str(path).removeprefix("/bucket/audit/") for path in found)


def ids(place: Address = BUCKET) -> list[str]:
    with working_folder(place) as (folder, _):
        return sorted(read_rows(folder)["id"].to_pylist())


def test_a_run_puts_its_files_there_and_a_later_one_goes_on(tmp_path: Path) -> None:
    request: Any = make_request(BUCKET)  # type: ignore[arg-type]
    result = driver.audit(request)
    assert (result.folder, result.new, result.counts["ok"]) == (BUCKET, 11, 10)
    assert names() == ["attempts/1of1.jsonl", "clips/part-1of1-000000.parquet", "run.json", "shards/1of1.json"]
    assert ids() == sorted(NAMES)
    assert driver.audit(request).new == 0
    use_fakes([*NAMES, "clip/11", "clip/12"])
    assert driver.audit(request).new == 2
    assert names() == ["attempts/1of1.jsonl", "clips/part-1of1-000000.parquet", "run.json", "shards/1of1.json"]
    assert len(ids()) == 13
    with pytest.raises(InputError, match=r"must hold the same identity\.model"):
        driver.audit(make_request(BUCKET, model="other"))  # type: ignore[arg-type]


def test_a_shard_fetches_its_own_parts_only_and_all_are_read_together() -> None:
    for number in (1, 2):
        driver.audit(make_request(BUCKET, shard=(number, 2)))  # type: ignore[arg-type]
    assert ids() == sorted(NAMES)
    with working_folder(BUCKET, (1, 2)) as (folder, _):
        assert {path.name for path in (folder / "clips").iterdir()} == {"part-1of2-000000.parquet"}


def test_a_shard_that_another_run_works_on_is_refused_until_that_is_dead() -> None:
    lock, memory = "/bucket/audit/shards/1of1.lock", fsspec.filesystem("memory")
    held = {"host": "elsewhere", "process": 1, "time": time.time() - 60, "token": "theirs"}
    memory.pipe_file(lock, json.dumps(held).encode())
    with pytest.raises(InputError, match=r"a run on elsewhere worked on its shard 1/1 6\d s ago; .*1of1\.lock$"):
        driver.audit(make_request(BUCKET))  # type: ignore[arg-type]
    assert names() == ["shards/1of1.lock"]
    memory.pipe_file(lock, json.dumps({**held, "time": time.time() - 3600}).encode())

    def steal(done: int, total: int, what: str = "") -> None:
        if done:
            memory.pipe_file(lock, json.dumps({**held, "time": time.time()}).encode())

    with pytest.raises(InputError, match=r"another run has taken its shard 1/1$"):
        driver.audit(make_request(BUCKET), steal)  # type: ignore[arg-type]
    assert json.loads(memory.cat_file(lock))["token"] == "theirs"


KILLED = """
import os, signal, sys
from aosa_fast.addresses import Address
from aosa_fast.audit import driver
from aosa_fast.audit.store import parts
from audit_runs import make_request, use_fakes

use_fakes([f"clip/{i}" for i in range(int(sys.argv[3]))])
parts.PartWriter.__init__.__kwdefaults__["rows"] = 4

def report(done, total, what=""):
    if done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

driver.audit(make_request(Address(sys.argv[1])), report)
"""


def test_a_run_that_is_killed_is_gone_on_with_and_no_row_is_doubled(tmp_path: Path) -> None:
    place = Address(f"local://{tmp_path}/audit")
    for stop, code in ((10, -signal.SIGKILL), (100, 0)):
        done = subprocess.run([sys.executable, "-c", KILLED, place.text, str(stop), "40"], cwd=HERE, timeout=120)
        assert done.returncode == code
        assert len(ids(place)) == min(stop + 2, 40)  # a part of four rows is there as soon as they are
        (tmp_path / "audit" / "shards" / "1of1.lock").unlink(missing_ok=True)  # as the message says
    assert ids(place) == sorted(f"clip/{i}" for i in range(40))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (
            "nowhere://bucket/audit",
            "nowhere://bucket/audit: must be the address of a folder that can be read and written",
        )
    ],
)
def test_an_address_that_nobody_knows_is_one_line(place: str, says: str) -> None:
    with pytest.raises(InputError, match=f"^{says}; got [^\n]*$"):
        driver.audit(make_request(Address(place)))  # type: ignore[arg-type]


def test_a_report_is_made_of_an_address(aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real engine
    command = ("audit", "rendered", "--limit", 4, "--readers", 1, "--out", BUCKET.text)
    done = aosa(*command)
    assert done.returncode == 0, done.stderr
    assert f"rows             {BUCKET.text}/clips" in done.stdout
    page = aosa("audit-report", BUCKET.text, "--out", tmp_path / "page.html", "--pictures", 0)
    assert page.returncode == 0, page.stderr
    assert "rendered" in (tmp_path / "page.html").read_text(encoding="utf-8")
