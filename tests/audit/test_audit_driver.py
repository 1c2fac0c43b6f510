import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pq = pytest.importorskip("pyarrow.parquet")

import audit_runs  # noqa: E402
from aosa_fast.audit import driver  # noqa: E402
from aosa_fast.audit.settings import AuditSettings  # noqa: E402
from aosa_fast.audit.store.parts import read_rows  # noqa: E402
from aosa_fast.config import Config  # noqa: E402
from aosa_fast.errors import InputError  # noqa: E402
from audit_runs import make_request, use_fakes  # noqa: E402

HERE = Path(__file__).parents[1] / "makers"


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(driver, "choose_clips", driver.choose_clips)  # put back after use_fakes
    monkeypatch.setattr(driver, "_engine", driver._engine)
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    use_fakes([f"clip/{i}" for i in range(10)] + ["bad/10"])


def rows_of(folder):
    return {row["id"]: row for row in read_rows(folder).to_pylist()}


class TestRun:
    def test_every_clip_has_one_row_and_the_bad_one_its_error(self, tmp_path):
        said = []
        result = driver.audit(make_request(tmp_path), lambda *facts: said.append(facts))
        assert (result.clips, result.new, result.counts) == (11, 11, {"ok": 10, "error": 1, "quarantined": 0})
        rows = rows_of(tmp_path)
        assert len(rows) == 11
        bad = rows["bad/10"]
        assert (bad["status"], bad["stage"], bad["label_name"]) == ("error", "read", "a")
        assert bad["error"] == "bad/10: must be a video; it is not"
        assert said[-1][:2] == (11, 11)
        assert "1 failed" in said[-1][2]

    def test_progress_is_shown_where_it_is_asked_for(self, tmp_path, monkeypatch):
        seen, told = io.StringIO(), []
        seen.isatty = lambda: True
        with monkeypatch.context() as patched:
            patched.setenv("TERM", "xterm")
            patched.setattr(sys, "stderr", seen)
            driver.audit(make_request(tmp_path), progress=True)
            driver.audit(make_request(tmp_path), progress=lambda done, total: told.append((done, total)))
        assert re.search(r"fakes: 1 failed .*11/11", seen.getvalue())
        assert told == [(11, 11)]

    def test_run_json_says_how_to_do_it_again(self, tmp_path):
        driver.audit(make_request(tmp_path, command="aosa-fast audit x"))
        run = json.loads((tmp_path / "run.json").read_text())
        assert run["identity"]["weights"] == "weights of fake"
        assert run["identity"]["settings"]["config"]["method"] == "aosa-approx"
        assert run["identity"]["preprocessing"]["crop"] == [32, 32]
        assert run["facts"]["command"] == "aosa-fast audit x"
        shard = json.loads((tmp_path / "shards" / "1of1.json").read_text())
        assert shard["facts"]["counts"] == {"ok": 10, "error": 1, "quarantined": 0}

    def test_a_later_run_does_what_is_new_and_what_failed_when_asked(self, tmp_path):
        driver.audit(make_request(tmp_path))
        before = rows_of(tmp_path)
        result = driver.audit(make_request(tmp_path))
        assert (result.new, result.counts["ok"]) == (0, 10)
        assert rows_of(tmp_path) == before
        assert driver.audit(make_request(tmp_path, retry=True)).new == 1
        use_fakes([f"clip/{i}" for i in range(15)])
        assert driver.audit(make_request(tmp_path)).new == 5
        assert len(list(tmp_path.glob("clips/*.parquet"))) == 1  # small parts are merged
        assert len(rows_of(tmp_path)) == 16

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"model": "other"}, "identity.model"),
            ({"settings": AuditSettings(batch=4, config=Config(stride=4))}, "identity.settings.config"),
            ({"settings": AuditSettings(batch=3)}, "identity.settings.batch"),
            ({"shard": (1, 2)}, "identity.shards"),
        ],
    )
    def test_a_folder_of_another_run_is_refused_and_left_as_it_is(self, tmp_path, changes, name):
        driver.audit(make_request(tmp_path))
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(InputError, match=f"must hold the same {name}"):
            driver.audit(make_request(tmp_path, **changes))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(self, tmp_path):
        with pytest.raises(InputError, match=r"^model must be one of"):
            driver.audit(make_request(tmp_path / "new", model="none"))
        assert not (tmp_path / "new").exists()

    def test_shards_share_the_clips(self, tmp_path):
        whole = {f"clip/{i}" for i in range(10)} | {"bad/10"}
        seen = []
        for number in (1, 2, 3):
            driver.audit(make_request(tmp_path, shard=(number, 3)))
            own = {
                row["id"] for p in tmp_path.glob(f"clips/part-{number}of3-*") for row in pq.read_table(p).to_pylist()
            }
            seen.append(own)
            assert 0 < len(own) < 11
        assert set().union(*seen) == whole
        assert sum(map(len, seen)) == 11

    def test_names_that_are_no_utf8_have_rows_too(self, tmp_path):
        use_fakes(["clip/\udcff", "clip/b"])
        driver.audit(make_request(tmp_path))
        assert set(rows_of(tmp_path)) == {"clip/\\udcff", "clip/b"}
        assert driver.audit(make_request(tmp_path)).new == 0

    def test_ctrl_c_keeps_what_is_done(self, tmp_path):
        use_fakes([f"clip/{i:03d}" for i in range(200)], "slow fakes")

        def stop(done, total, text):
            if done >= 8:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            driver.audit(make_request(tmp_path), stop)
        kept = len(rows_of(tmp_path))
        assert 8 <= kept < 200
        assert driver.audit(make_request(tmp_path)).new == 200 - kept

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"engine": "slurm"}, "engine must be one of local, ray; got slurm"),
            ({"shard": (3, 2)}, "shard must be i/n"),
            ({"readers": -1}, "readers must be at least 0"),
            ({"actors": 2}, "must be left out unless engine is ray"),
        ],
    )
    def test_what_cannot_be_is_refused(self, tmp_path, changes, message):
        with pytest.raises(InputError, match=message):
            make_request(tmp_path, **changes)


def test_ten_kills_of_the_whole_run_lose_no_clip_and_double_none(tmp_path):
    rng = random.Random(5)
    count = 240
    command = [sys.executable, "-m", "audit_runs", str(tmp_path), str(count)]
    kills = 0
    for _ in range(40):
        run = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert run.stdout.readline() == b"working\n", run.stderr.read()
            if kills < 10:
                time.sleep(rng.uniform(0.2, 1.5))
                if run.poll() is None:
                    run.send_signal(signal.SIGKILL)
            error = run.communicate(timeout=120)[1]
        finally:
            run.kill()
            run.wait()
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, error.decode()
        kills += 1
    assert run.returncode == 0
    assert kills >= 3  # the run was done before the tenth, at the earliest after these
    rows = read_rows(tmp_path).to_pylist()
    assert Counter(row["id"] for row in rows) == {
        f"{'bad' if i % 10 == 3 else 'clip'}/{i:04d}": 1 for i in range(count)
    }
    assert Counter(row["status"] for row in rows) == {"ok": count * 9 // 10, "error": count // 10}
    assert not list(tmp_path.rglob("*.tmp"))
    assert audit_runs.FACTORIES  # the fakes, and not the real ones, were at work
