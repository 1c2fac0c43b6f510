from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audit_models
from aosa_fast.audit.settings import AuditSettings, Setup
from aosa_fast.audit.workers.attempts import Attempts
from aosa_fast.audit.workers.channel import BrokenChannelError, Inbox, Kind, Outbox, pack, unpack
from aosa_fast.audit.workers.child import summarize_stderr
from aosa_fast.audit.workers.groups import Groups
from aosa_fast.audit.workers.pool import Pool
from aosa_fast.audit.workers.supervisor import Supervisor
from aosa_fast.data import Dataset, Sample, open_dataset
from aosa_fast.errors import InputError
from audit_processes import attempts, by_id, samples, until

if not Path("/proc/self/stat").exists():
    pytest.skip("looks for processes in /proc", allow_module_level=True)

__all__ = ["attempts"]  # the fixture

MakePool = Callable[..., Pool]


def children(parent: int | None = None) -> set[int]:
    """The processes that this one, or another one, has started and that run, but for torch's compiler's own."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, of = stat.read_text().rpartition(")")[2].split()[:2]
            command = stat.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if int(of) == (parent or os.getpid()) and state not in "ZX" and b"torch/_inductor" not in command:
            found.add(int(stat.parent.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def role_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2].decode()


@pytest.fixture
def make_pool(attempts: Attempts) -> Iterator[MakePool]:
    """Pools of stand-ins, of which nothing may remain."""
    before, made = children(), []

    def make(model: str = "", *, devices: int = 1, readers: int = 1, threads: int = 0, **settings: Any) -> Pool:
        setup = Setup(model, AuditSettings(**{"batch": 4, "clip_seconds": 30.0, **settings}), None, (), "data")
        dataset = Dataset("data", None, tuple(samples("not", "wanted")))
        names = [f"device{i}" for i in range(devices)]
        pool = Pool(
            setup if not threads else Setup(model, setup.settings, None, (), "data", threads=threads),
            dataset,
            devices=names,
            readers=readers,
            factories=audit_models.FACTORIES,
        )
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.close()
    assert children() == before


class TestUndisturbed:
    def test_clips_are_explained_with_their_neighbours_in_the_data_whichever_was_read_first(
        self, make_pool: MakePool, attempts: Attempts
    ) -> None:
        delays = [60, 0, 5, 0, 0, 30, 0, 0, 90, 0, 0]
        ids = [f"{number}/s{delay}" for number, delay in enumerate(delays)]
        groups = list(make_pool(readers=2).run(samples(*ids), attempts))
        assert sorted([row["id"] for row in group] for group in groups) == [ids[0:4], ids[4:8], ids[8:11]]
        for group in groups:
            assert all(row["batch"] == [row["id"] for row in group] for row in group)

    def test_prepared_clips_arrive_whole_and_processes_share_the_work(
        self, make_pool: MakePool, attempts: Attempts
    ) -> None:
        pool = make_pool("size=3000001,wait=0.02", devices=2, readers=2, batch=2)
        rows: list[dict[str, Any]] = []

        def everybody_works() -> bool:
            return len({row["read_by"] for row in rows}) == 4 and len({row["explained_by"] for row in rows}) == 2

        more = itertools.takewhile(
            lambda sample: not everybody_works(), (Sample(f"{i}/s20", None, None) for i in range(999))
        )
        for group in pool.run(more, attempts):
            rows += group
        assert everybody_works()
        assert {(row["size"], row["whole"]) for row in rows} == {(3_000_001, True)}

    def test_no_samples_give_no_rows_and_a_pool_can_run_again(self, make_pool: MakePool, attempts: Attempts) -> None:
        pool = make_pool()
        assert list(pool.run([], attempts)) == []
        first, second = by_id(pool.run(samples("a"), attempts)), by_id(pool.run(samples("b", "c"), attempts))
        assert [*first, *second] == ["a", "b", "c"]
        assert len({row["explained_by"] for row in (first | second).values()}) == 1

    def test_the_first_device_says_it_is_ready_and_threads_are_set_before_libraries_look(
        self, make_pool: MakePool, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        pool = make_pool(threads=3)
        ready = pool.start()
        assert ready.device == "device0"
        assert ready.versions["OMP_NUM_THREADS"] == "3"
        assert ready.versions["OMP_WAIT_POLICY"] == "passive"
        assert by_id(pool.run(samples("a"), attempts))["a"]["read_threads"] == "1"

    def test_samples_are_taken_only_as_there_is_room(self, make_pool: MakePool, attempts: Attempts) -> None:
        taken = itertools.count()
        endless = (Sample(f"{next(taken)}", None, None) for _ in itertools.count())
        with make_pool(readers=2, batch=2) as pool:
            run = pool.run(endless, attempts)
            for done in range(1, 20):
                assert len(next(run)) == 2
                # Two batches at the explainer, two more, and one for the readers.
                assert done * 2 <= next(taken) <= (done + 5) * 2 + done
            run.close()
            assert children() == set()

    def test_the_driver_keeps_nothing_of_clips_that_are_done(self, make_pool: MakePool, attempts: Attempts) -> None:
        run = make_pool("size=20000", readers=1, batch=8).run(
            (Sample(str(i), None, None) for i in range(2000)), attempts
        )
        sizes = []
        gc.disable()  # what only a collection would free piles up between collections
        tracemalloc.start()
        try:
            for number, _ in enumerate(run):
                if number in (50, 249):
                    sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
            gc.enable()
        assert sizes[1] - sizes[0] < 200_000  # of 32 MB that passed in between


ACTS = {  # what a clip does in the process that has it, to what its row says of it
    "segfault": "killed by SIGSEGV: Segmentation fault < __init__.py:",
    "hang": "time limit of 0.5 s: Aborted < audit_models.py:",
    "hang-with-lock": "time limit of 0.5 s: Aborted < audit_models.py:",
    "stop": "time limit of 0.5 s",
    "exit": "ended with exit code 0",
    "shout": "ended with exit code 3: ",
    "fork": "killed by SIGKILL",
    "close-pipes": "stopped answering",
}
DEVICE = {
    "cuda": "ended with exit code 70: RuntimeError: CUDA error: an illegal memory access was encountered",
    "accelerator": "ended with exit code 70: AcceleratorError: the device is gone",
}
HARMLESS = ("print", "sigint", "once-kill")
DEADLY = [("read", act) for act in ACTS] + [("explain", act) for act in ("segfault", "hang", "exit")]


@pytest.fixture(scope="module")
def after_deaths(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Rows of a run in which every third clip ends its process, and the clips with a death to their name after it."""
    folder = tmp_path_factory.mktemp("deaths")
    acts = [f"{stage}-{act}" for stage, act in DEADLY]
    acts += [f"{stage}-{act}" for act in HARMLESS for stage in ("read", "explain")]
    acts += [f"explain-{act}" for act in DEVICE]
    ids = [id for number, act in enumerate(acts) for id in (f"good{number}", act, f"fine{number}")]
    setup = Setup("", AuditSettings(batch=2, clip_seconds=0.5), None, (), "data")
    with (
        Attempts(folder, (1, 1)) as attempts,
        Pool(
            setup,
            Dataset("data", None, ()),
            devices=["cpu"],
            readers=2,
            factories=audit_models.FACTORIES,
        ) as pool,
    ):
        rows = by_id(pool.run(samples(*ids, folder=folder), attempts))
        assert sorted(rows) == sorted(ids)
        forked = [int(file.read_text()) for file in folder.glob("forked-*")]
        assert len(forked) == 2
        until(lambda: not any(map(runs, forked)))  # what a process started ends with it
        return rows, attempts.suspects()


class TestDeaths:
    @pytest.mark.parametrize(("stage", "act"), DEADLY)
    def test_a_clip_that_ends_its_process_twice_is_quarantined(self, after_deaths: Any, stage: str, act: str) -> None:
        row = after_deaths[0][f"{stage}-{act}"]
        assert (row["status"], row["stage"], row["attempts"]) == ("quarantined", stage, 2)
        assert row["error"].startswith(ACTS[act])
        assert len(row["error"]) <= 540

    @pytest.mark.parametrize("act", DEVICE)
    def test_a_broken_device_takes_its_process_with_it(self, after_deaths: Any, act: str) -> None:
        row = after_deaths[0][f"explain-{act}"]
        assert (row["status"], row["stage"], row["attempts"]) == ("quarantined", "explain", 2)
        assert row["error"].startswith(DEVICE[act])

    @pytest.mark.parametrize("stage", ["read", "explain"])
    @pytest.mark.parametrize("act", HARMLESS)
    def test_a_clip_that_does_no_lasting_harm_is_done(self, after_deaths: Any, stage: str, act: str) -> None:
        assert after_deaths[0][f"{stage}-{act}"]["status"] == "ok"

    def test_the_neighbours_are_done_and_nothing_is_held_against_them(self, after_deaths: Any) -> None:
        rows, suspects = after_deaths
        assert all(row["status"] == "ok" for id, row in rows.items() if id.startswith(("good", "fine")))
        assert suspects == {id for id, row in rows.items() if row["status"] == "quarantined"}

    def test_the_end_of_standard_error_is_the_last_of_many_lines(self, after_deaths: Any) -> None:
        assert after_deaths[0]["read-shout"]["error"].endswith(" | the last words")

    def test_what_was_said_of_another_clip_is_no_reason(self, make_pool: MakePool, attempts: Attempts) -> None:
        (rows,) = make_pool().run(samples("read-print", "read-exit"), attempts)
        assert rows[1]["error"] == "ended with exit code 0"
        assert attempts.path.read_text().count('"ended with exit code 0"') == 2  # of the process that printed, too

    def test_what_died_once_is_done_alone_and_the_others_together(
        self, make_pool: MakePool, attempts: Attempts
    ) -> None:
        attempts.record(["b"], "explain", "killed by an earlier run")
        attempts.record(["c"], "read", "killed by an earlier run")
        attempts.record(["c"], "read", "killed by it twice")
        (rows,) = make_pool().run(samples("a", "b", "c", "d"), attempts)
        assert [row.get("batch") for row in rows] == [["a", "d"], ["b"], None, ["a", "d"]]
        assert [row["attempts"] for row in rows] == [1, 2, 2, 1]
        assert (rows[2]["status"], rows[2]["error"]) == ("quarantined", "killed by it twice")
        assert attempts.suspects() == {"c"}

    def test_the_batch_that_waits_is_not_blamed_and_stays_together(
        self, make_pool: MakePool, attempts: Attempts, tmp_path: Path
    ) -> None:
        ids = ["a", "b", "explain-once-kill", "d", *"efgh"]
        rows = by_id(make_pool("wait=0.1").run(samples(*ids, folder=tmp_path), attempts))
        assert [rows[id]["batch"] for id in ids] == [[id] for id in ids[:4]] + [ids[4:]] * 4
        assert [rows[id]["attempts"] for id in ids] == [2] * 4 + [1] * 4

    def test_deaths_one_after_the_other_end_the_run_with_the_last_reason(
        self, make_pool: MakePool, attempts: Attempts
    ) -> None:
        pool = make_pool(max_restarts=2)
        with pytest.raises(
            InputError, match=r"^processes must be able to read clips; 3 died .* the last one: ended with"
        ):
            list(pool.run(samples(*(f"{i}/read-exit" for i in range(9))), attempts))
        assert children() == set()
        assert len(attempts.suspects()) == 3

    @pytest.mark.parametrize("stage", ["read", "explain"])
    def test_many_bad_clips_in_a_row_do_not_end_the_run(
        self, make_pool: MakePool, attempts: Attempts, stage: str
    ) -> None:
        ids = ["good", *(f"{i}/{stage}-exit" for i in range(3)), "fine"]
        rows = by_id(make_pool(max_restarts=1, batch=1).run(samples(*ids), attempts))
        assert [rows[id]["status"] for id in ids] == ["ok", *["quarantined"] * 3, "ok"]

    def test_deaths_with_work_in_between_begin_no_probe(self, make_pool: MakePool, attempts: Attempts) -> None:
        ids = [id for i in range(5) for id in (f"{i}/explain-exit", f"{i}", f"{i}b")]
        rows = by_id(make_pool(max_restarts=4, batch=1).run(samples(*ids), attempts))
        assert Counter(row["status"] for row in rows.values()) == {"ok": 10, "quarantined": 5}
        first_calls: dict[int, int] = {}
        for row in rows.values():
            if row["status"] == "ok":
                first_calls[row["explained_by"]] = min(row["calls"], first_calls.get(row["explained_by"], 99))
        assert set(first_calls.values()) == {1}

    def test_a_machine_that_breaks_ends_the_run(self, make_pool: MakePool, attempts: Attempts, tmp_path: Path) -> None:
        fuse = tmp_path / "fuse"
        run = make_pool(f"fuse={fuse}", max_restarts=2).run((Sample(str(i), None, None) for i in range(100)), attempts)
        assert next(run)[0]["status"] == "ok"
        fuse.touch()
        with pytest.raises(InputError, match=r"must be able to explain clips; 4 died one after the other, .* code 5"):
            list(run)


class TestFailures:
    def test_what_cannot_be_read_has_its_error_and_leaves_a_gap(self, make_pool: MakePool, attempts: Attempts) -> None:
        acts = ["read-input-error", "read-os-error", "read-bug", "read-system-exit"]
        (rows,) = make_pool(batch=6).run(samples("a", *acts, "b"), attempts)
        assert [row["status"] for row in rows] == ["ok", *["error"] * 4, "ok"]
        assert rows[0]["batch"] == ["a", "b"]
        assert [row["error"].partition(" (audit")[0] for row in rows[1:5]] == [
            "FILE: must be a video",
            "[Errno 2] No such file or directory: 'gone.mp4'",
            "ValueError: a bug in the decoder",
            "SystemExit: 3",
        ]
        assert all((row["stage"], row["attempts"]) == ("read", 1) for row in rows[1:5])
        assert attempts.suspects() == set()

    def test_of_a_batch_that_raises_each_clip_is_tried_alone(self, make_pool: MakePool, attempts: Attempts) -> None:
        (rows,) = make_pool().run(samples("a", "explain-bug", "b"), attempts)
        assert [row["status"] for row in rows] == ["ok", "error", "ok"]
        assert [row.get("batch") for row in rows] == [["a"], None, ["b"]]
        assert (rows[1]["stage"], rows[1]["error"][:35]) == ("explain", "ValueError: a bug in the decoder (a")
        (rows,) = make_pool().run(samples("a", "explain-fewer-rows", "b"), attempts)
        assert [row["status"] for row in rows] == ["ok", "error", "ok"]
        assert rows[1]["error"].startswith("RuntimeError: 0 rows for 1 clips")
        assert attempts.suspects() == set()

    def test_rows_that_cannot_be_read_end_their_process(self, make_pool: MakePool, attempts: Attempts) -> None:
        (rows,) = make_pool().run(samples("a", "explain-strange-row", "b"), attempts)
        assert [row["status"] for row in rows] == ["ok", "quarantined", "ok"]
        assert rows[1]["error"] == "sent a message that cannot be read: ValueError"

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("load-input-error", "^FILE: must be a video$"),
            ("load-bug", "^the process that is to explain clips cannot begin; ValueError: a bug in the decoder"),
            ("load-system-exit", "^the process that is to explain clips cannot begin; SystemExit: 3"),
            ("load-die-at-start", "^processes must be able to explain clips; 2 died one after the other, .* code 4"),
        ],
    )
    def test_a_model_that_cannot_be_loaded_is_refused_in_one_line(
        self, make_pool: MakePool, model: str, message: str
    ) -> None:
        with pytest.raises(InputError, match=message) as caught:
            make_pool(model, max_restarts=1).start()
        assert "\n" not in str(caught.value)
        assert children() == set()

    def test_a_model_that_changes_during_the_run_is_refused(
        self, make_pool: MakePool, attempts: Attempts, tmp_path: Path
    ) -> None:
        weights = tmp_path / "weights"
        weights.write_text("abc")
        pool = make_pool(f"weights={weights}")
        pool.start()
        weights.write_text("def")
        with pytest.raises(InputError, match="must stay the same during an audit; its weights were abc and are def"):
            list(pool.run(samples("explain-kill"), attempts))

    def test_an_error_of_the_samples_ends_the_processes(self, make_pool: MakePool, attempts: Attempts) -> None:
        def broken() -> Iterator[Sample]:
            yield from samples(*"abcd")
            raise OSError("the list is gone")

        with pytest.raises(OSError, match="the list is gone"):
            list(make_pool().run(broken(), attempts))
        assert children() == set()

    @pytest.mark.parametrize(("count", "readers"), [(0, 1), (1, -1)])
    def test_processes_of_each_kind_are_needed(self, make_pool: MakePool, count: int, readers: int) -> None:
        with pytest.raises(InputError, match="must"):
            make_pool(devices=count, readers=readers)


class TestFromOutside:
    def test_ten_kills_at_random_moments_lose_no_clip_and_double_none(
        self, make_pool: MakePool, attempts: Attempts
    ) -> None:
        chance, killed, ids = random.Random(0), [], []

        def kill() -> None:
            while len(killed) < 10:
                time.sleep(chance.uniform(0, 0.3))
                living = sorted(children())
                if living:
                    killed.append(chance.choice(living))
                    os.kill(killed[-1], signal.SIGKILL)

        def while_killing() -> Iterator[Sample]:
            while len(killed) < 10 or len(ids) % 4:
                ids.append(f"{len(ids)}/s10")
                yield Sample(ids[-1], None, None)

        pool = make_pool("wait=0.01,size=1000000", readers=2, max_restarts=20)  # some hit processes that just begin
        pool.start()
        killer = threading.Thread(target=kill)
        killer.start()
        rows = by_id(pool.run(while_killing(), attempts))
        killer.join()
        assert sorted(rows) == sorted(ids)
        wrong = {id for id, row in rows.items() if row["status"] != "ok"}
        assert wrong == attempts.suspects()  # those that were hit twice
        assert len(wrong) <= 3
        assert all(row["whole"] for row in rows.values() if row["status"] == "ok")

    def test_processes_that_are_stopped_are_replaced(self, make_pool: MakePool, attempts: Attempts) -> None:
        pool = make_pool("size=3000000", clip_seconds=0.5, batch=2)
        pool.start()
        assert len(by_id(pool.run(samples("a"), attempts))) == 1
        stopped = children()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        rows = by_id(pool.run(samples(*"bcdefgh"), attempts))
        assert [rows[id]["status"] for id in "bcdefgh"] == ["ok"] * 7
        # None had said that it begins: no clip is to blame.
        assert all(row["attempts"] == 1 for row in rows.values())
        assert not stopped & children()

    def test_killed_half_way_through_a_message(self, make_pool: MakePool, attempts: Attempts) -> None:
        pool = make_pool("size=5000000", readers=3, batch=1)
        rows: list[dict[str, Any]] = []
        killed: list[int] = []
        taken: list[str] = []

        def take() -> Iterator[Sample]:
            for number in itertools.takewhile(lambda number: not killed, itertools.count()):
                taken.append(f"{number}/s200")
                yield Sample(taken[-1], None, None)

        for group in pool.run(take(), attempts):
            rows += group
            if not killed and len({row["read_by"] for row in rows}) == 3:
                time.sleep(1)  # nobody listens: the readers are left with what the pipe does not take
                killed += [pid for pid in children() if role_of(pid) == "read"]
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
        assert len(killed) == 3
        assert sorted(by_id([rows])) == sorted(taken)
        assert {(row["status"], row.get("size"), row.get("whole")) for row in rows} == {("ok", 5_000_000, True)}
        assert 1 <= sum(row["attempts"] == 2 for row in rows) <= 3

    def test_a_caller_who_is_away_costs_no_process(self, make_pool: MakePool, attempts: Attempts) -> None:
        pool = make_pool("size=5000000", readers=2, batch=1, clip_seconds=1.2)
        run = pool.run(samples(*map(str, range(6))), attempts)
        rows = [*next(run)]
        before = children()
        time.sleep(2.5)
        rows += [row for group in run for row in group]
        assert children() == before
        assert [row["attempts"] for row in rows] == [1] * 6

    def test_the_clock_of_time_limits_goes_only_while_the_driver_listens(self) -> None:
        supervisor = Supervisor(lambda child, kind, body: None, lambda child, reason: None)
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            supervisor.listen()
        assert supervisor.clock >= 0.4
        listened = supervisor.clock
        time.sleep(1.5)
        supervisor.listen()
        assert supervisor.clock <= listened + 1.0

    @pytest.mark.parametrize("model", ["", "load-hang"])
    def test_ctrl_c_ends_the_processes(self, make_pool: MakePool, attempts: Attempts, model: str) -> None:
        pool = make_pool(model)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # of a job in the background, it is ignored
        try:
            threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                list(pool.run(samples("a", "read-hang", "b"), attempts))
        finally:
            signal.signal(signal.SIGINT, before)
        assert children() == set()

    def test_nothing_outlives_a_driver_that_was_killed(self, tmp_path: Path) -> None:
        script = f"""
            import sys
            sys.path.insert(0, {str(Path(audit_models.__file__).parent)!r})
            from pathlib import Path
            import audit_models
            from aosa_fast.audit.workers.attempts import Attempts
            from aosa_fast.audit.workers.pool import Pool
            from aosa_fast.audit.settings import AuditSettings, Setup
            from aosa_fast.data import Dataset, Sample
            setup = Setup("wait=100", AuditSettings(batch=1, clip_seconds=float(sys.argv[1])), None, (), "data")
            pool = Pool(setup, Dataset("data", None, ()),
                        devices=["cpu"], readers=3, factories=audit_models.FACTORIES)
            assert "torch" not in sys.modules
            ids = ("busy", "read-hang", "read-hang-with-lock", "idle")
            attempts = Attempts(Path({str(tmp_path)!r}), (1, 1))
            list(pool.run([Sample(id, {str(tmp_path)!r}, None) for id in ids], attempts))
        """
        driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), "1"])
        try:
            for part in ("read-hang", "read-hang-with-lock"):
                until((tmp_path / f"begun-{part}").exists)
            started = children(driver.pid)
        finally:
            driver.kill()
            driver.wait()
        assert len(started) == 4
        until(lambda: sum(map(runs, started)) <= 1, 1.5)
        # One holds the interpreter's lock and cannot see that its driver is gone: its own time limit ends it.
        until(lambda: not any(map(runs, started)), 10)


class TestGroups:
    def test_a_run_that_goes_on_forms_the_batches_that_one_run_would(self, attempts: Attempts) -> None:
        all_samples = samples(*(f"{i}{'bad' if i % 5 == 2 else ''}" for i in range(43)))

        def work(todo: list[Sample], chance: random.Random, until_done: int) -> tuple[set[tuple[str, ...]], set[str]]:
            groups, reading, batches, done = Groups(todo, attempts, size=4, most=3), [], set(), set()
            while not groups.finished and len(done) < until_done:
                groups.fill()
                reading += [groups.to_read.popleft() for _ in range(len(groups.to_read))]
                if reading:
                    clip = reading.pop(chance.randrange(len(reading)))
                    if "bad" in clip.sample.id:
                        groups.failed([clip], "read", "bad")
                    else:
                        groups.prepared(clip, memoryview(b"."))
                while groups.to_explain:
                    clips = groups.to_explain.popleft()
                    batches.add(tuple(clip.sample.id for clip in clips))
                    groups.explained(clips, [{"id": clip.sample.id} for clip in clips])
                while (rows := groups.take_rows()) is not None:
                    done |= {row["id"] for row in rows}
            return batches, done

        expected, everything = work(all_samples, random.Random(0), 99)
        assert len(everything) == 43
        assert ("0", "1", "3") in expected
        for seed in range(20):
            first, done = work(all_samples, random.Random(seed), 15)
            second, rest = work([sample for sample in all_samples if sample.id not in done], random.Random(seed), 99)
            assert not done & rest
            assert first | second == expected


class TestChannel:
    @pytest.fixture
    def pipe(self) -> Iterator[tuple[int, int]]:
        ends = os.pipe()
        os.set_blocking(ends[0], False)
        os.set_blocking(ends[1], False)
        yield ends
        for end in ends:
            with suppress(OSError):
                os.close(end)

    def test_messages_come_through_a_pipe_that_takes_a_little_at_a_time(self, pipe: tuple[int, int]) -> None:
        inbox, outbox = Inbox(pipe[0]), Outbox(pipe[1])
        parts = [np.random.default_rng(i).bytes(length) for i, length in enumerate((1_000_003, 0, 1, 70_000))]
        outbox.send(Kind.BATCH, pack(parts))
        outbox.send(Kind.BEGIN)
        outbox.send(Kind.FAILED, [b"text"])
        got = []
        for _ in range(1000):
            outbox.flush()
            got += inbox.receive()
        assert not outbox
        assert [kind for kind, _ in got] == [Kind.BATCH, Kind.BEGIN, Kind.FAILED]
        assert [bytes(part) for part in unpack(got[0][1])] == parts
        assert bytes(got[2][1]) == b"text"
        assert not inbox.ended

    def test_of_a_sender_that_ends_half_way_what_was_whole_counts(self, pipe: tuple[int, int]) -> None:
        inbox, outbox = Inbox(pipe[0]), Outbox(pipe[1])
        outbox.send(Kind.BEGIN)
        outbox.send(Kind.FAILED, [b"all of it"])
        whole = os.read(pipe[0], 100)
        got = []
        for byte in whole[:-1]:
            os.write(pipe[1], bytes([byte]))
            got += inbox.receive()
        os.close(pipe[1])
        got += inbox.receive()
        assert [kind for kind, _ in got] == [Kind.BEGIN]
        assert inbox.ended

    def test_to_a_receiver_that_is_gone_everything_can_be_sent(self, pipe: tuple[int, int]) -> None:
        outbox = Outbox(pipe[1])
        outbox.send(Kind.SAMPLE, [bytes(1_000_000)])
        assert outbox
        os.close(pipe[0])
        outbox.flush()
        assert not outbox

    @pytest.mark.parametrize("header", [b"\x63" + bytes(8), b"\x01" + b"\xff" * 8])
    def test_what_is_no_message_is_refused(self, pipe: tuple[int, int], header: bytes) -> None:
        os.write(pipe[1], header)
        with pytest.raises(BrokenChannelError, match=header.hex()):
            list(Inbox(pipe[0]).receive())


PLACE = "container.py:12 decode < <frozen runpy>:88 _run_code"


def test_the_end_of_standard_error_names_a_crash_and_its_place_or_is_the_last_lines() -> None:
    crash = textwrap.dedent(
        """\
        a warning
        Fatal Python error: Segmentation fault

        Thread 0x00007f1 (most recent call first):
          File "/lib/threading.py", line 320 in wait

        Current thread 0x00007f2 (most recent call first):
          File "/site packages/av/container.py", line 12 in decode
          File "<frozen runpy>", line 88 in _run_code

        Extension modules: numpy._core (total: 1)
        """
    )
    assert summarize_stderr(crash) == (f"Segmentation fault < {PLACE}", False)
    late = crash.replace("Fatal Python error: Segmentation fault", "Timeout (0:00:07)!").replace("Current t", "T")
    assert summarize_stderr(late) == (f"Timeout (0:00:07)! < {PLACE}", True)
    assert summarize_stderr("\n".join(map(str, range(9)))) == ("4 | 5 | 6 | 7 | 8", False)
    assert summarize_stderr("x" * 999) == ("x" * 500, False)
    assert summarize_stderr("") == ("", False)


def test_the_real_processes_explain_rendered_clips(attempts: Attempts) -> None:
    dataset = open_dataset("rendered").select(limit=6)
    labels = tuple(range(len(dataset.class_names or ())))
    setup = Setup("demo", AuditSettings(batch=4), dataset.class_names, labels, dataset.name, threads=1)
    with Pool(setup, dataset, devices=["cpu"], readers=1) as pool:
        ready = pool.start()
        assert ready.class_names == dataset.class_names
        groups = list(pool.run(dataset.samples, attempts))
    assert [[row["id"] for row in group] for group in groups] == [
        [sample.id for sample in dataset.samples[:4]],
        [sample.id for sample in dataset.samples[4:]],
    ]
    for row in by_id(groups).values():
        assert row["status"] == "ok"
        assert np.isclose(sum(row["grid"]), 1)
    assert attempts.suspects() == set()
