from __future__ import annotations

import importlib.util
import io
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import audit_models
from aosa_fast.audit.driver import AuditRequest, audit
from aosa_fast.audit.ray import cluster as ray_cluster
from aosa_fast.audit.ray import engine as ray_engine
from aosa_fast.audit.ray.actor import Explainers, Hands
from aosa_fast.audit.ray.cluster import Share, share_out
from aosa_fast.audit.ray.engine import RayEngine
from aosa_fast.audit.ray.stream import ClusterError, cut
from aosa_fast.audit.ray.tasks import Answer, Group, Work
from aosa_fast.audit.settings import AuditSettings, Setup
from aosa_fast.audit.store.parts import read_rows
from aosa_fast.audit.tasks import failed_row
from aosa_fast.audit.workers.attempts import Attempts
from aosa_fast.data import Dataset, Sample
from aosa_fast.errors import InputError
from audit_processes import attempts, by_id, samples, until

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray", allow_module_level=True)
if not Path("/proc/self/stat").exists():
    pytest.skip("looks for processes in /proc", allow_module_level=True)

__all__ = ["attempts"]  # the fixture


def parents() -> dict[int, int]:
    """Of all processes that run."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(stat.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> set[int]:
    of, found, new = parents(), set(), {pid}
    while new := {child for child, parent in of.items() if parent in new} - found:
        found |= new
    return found


def make_request(**changes: Any) -> AuditRequest:
    settings = {"batch": 4, "clip_seconds": 30.0, **changes.pop("settings", {})}
    fixed = {"data": "data", "model": "", "out": Path("not made"), "engine": "ray", "readers": 2}
    return AuditRequest(**{**fixed, **changes, "settings": AuditSettings(**settings)})


def make_setup(request: AuditRequest) -> Setup:
    return Setup(request.model, request.settings, None, (), "data", threads=request.threads)


class TestSharing:
    @pytest.mark.parametrize(
        ("nodes", "actors", "gpu", "share"),
        [
            ([(8, 0)], 0, False, Share(1, 7, 0)),
            ([(8, 0)], 2, False, Share(2, 3, 0)),  # 7 / 2, in whole CPUs
            ([(2, 0)], 2, False, Share(2, 0.5, 0)),
            ([(3, 0)], 3, False, Share(3, 0.66, 0)),
            ([(1, 0)], 1, False, Share(1, 0.5, 0)),
            ([(4, 0), (4, 0), (0, 0)], 0, False, Share(2, 3, 0)),  # a head node that computes nothing
            ([(4, 0), (16, 0)], 3, False, Share(3, 5, 0)),
            ([(2, 0), (16, 0)], 18, False, Share(18, 0.5, 0)),
            ([(16, 4), (64, 0)], 0, True, Share(4, 3, 1)),
            ([(16, 4), (8, 1)], 0, True, Share(5, 3, 1)),
            ([(16, 4)], 2, True, Share(2, 7, 1)),
            ([(4, 8)], 8, True, Share(8, 0.37, 1)),
        ],
    )
    def test_actors_get_what_is_there_and_leave_something(
        self, nodes: list[tuple[float, int]], actors: int, gpu: bool, share: Share
    ) -> None:
        assert share_out(nodes, actors, gpu) == share
        assert share.actors * share.cpus <= sum(cpus for cpus, _ in nodes) - 0.5

    @pytest.mark.parametrize(
        ("nodes", "actors", "gpu", "says"),
        [
            ([(2, 0), (1, 0)], 4, False, "actors must be at most 3, one per CPU of the Ray cluster; got 4"),
            ([(64, 2)], 3, True, "actors must be at most 2, one per GPU of the Ray cluster; got 3"),
            ([(64, 0)], 0, True, "the Ray cluster must have a GPU for each actor; it has none"),
            ([(0, 2)], 0, True, "the Ray cluster must have a GPU for each actor; it has none"),
            ([], 0, False, "the Ray cluster must have a CPU for each actor; it has none"),
        ],
    )
    def test_too_many_are_refused(self, nodes: list[tuple[float, int]], actors: int, gpu: bool, says: str) -> None:
        with pytest.raises(InputError, match=f"^{says}$"):
            share_out(nodes, actors, gpu)


class TestRequests:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"gpus": 2, "actors": 3}, "actors must equal gpus, or be left out; got actors=3 gpus=2"),
            ({"gpus": 2, "device": "cpu"}, "device must be auto or cuda where gpus is given; got cpu"),
            ({"device": "cuda:1"}, "device must be auto, cpu or cuda with engine=ray, which assigns GPUs; got cuda:1"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, changes: dict[str, Any], says: str) -> None:
        request = make_request(**changes)
        with pytest.raises(InputError, match=f"^{says}$"):
            RayEngine(make_setup(request), Dataset("data", None, ()), request)

    def test_a_missing_library_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        request = make_request()
        with pytest.raises(
            InputError, match=r"^engine=ray must have ray; it is missing: pip install aosa-fast\[ray\]$"
        ):
            RayEngine(make_setup(request), Dataset("data", None, ()), request).start()


class TestAddresses:
    def refusal(self, address: str) -> str:
        request = make_request(address=address)
        engine, begin = RayEngine(make_setup(request), Dataset("data", None, ()), request), time.monotonic()
        with pytest.raises(InputError) as error:
            engine.start()
        assert time.monotonic() - begin < 60  # with the library's import; Ray itself would try for two minutes
        return str(error.value)

    def test_where_nobody_listens(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        says = self.refusal(address)
        assert says == f"address must be of a Ray cluster; {address} does not answer: Connection refused"

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (b"", "address must be of a Ray cluster; {} does not answer: timed out"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "address must be of a Ray cluster; what is at {} is something else"),
        ],
    )
    def test_where_something_else_listens(self, monkeypatch: pytest.MonkeyPatch, answer: bytes, says: str) -> None:
        monkeypatch.setattr(ray_cluster, "_REACH", 0.5)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            clients = []

            def serve() -> None:
                clients.append(server.accept()[0])
                clients[0].sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            address = f"127.0.0.1:{server.getsockname()[1]}"
            try:
                assert self.refusal(address) == says.format(address)
            finally:
                thread.join()
                clients[0].close()

    @pytest.mark.parametrize("address", ["here", "host:port", "host:1:2", "host:70000"])
    def test_what_is_none(self, address: str) -> None:
        assert self.refusal(address) == f"address must be HOST:PORT, or auto; got {address}"

    def test_of_another_kind(self) -> None:
        says = "address must be HOST:PORT of a cluster that this machine belongs to, or auto; got ray://127.0.0.1:10001"
        assert self.refusal("ray://127.0.0.1:10001") == says


def make_groups(*sizes: int) -> list[Group]:
    return [Group(i, tuple(samples(*(f"{i}.{j}" for j in range(size))))) for i, size in enumerate(sizes)]


class TestHandingOut:
    """What the driver does with answers, whatever the cluster does."""

    @pytest.fixture
    def engine(self, monkeypatch: pytest.MonkeyPatch) -> RayEngine:
        request = make_request(settings={"batch": 2})
        engine = RayEngine(make_setup(request), Dataset("data", None, ()), request)
        engine._share = Share(1, 1, 0)
        monkeypatch.setattr(engine, "start", lambda: None)
        return engine

    @staticmethod
    def answer(group: Group, *record: dict[str, Any], status: str = "ok") -> Answer:
        return Answer(group.number, tuple(failed_row(s, "read", "", status=status) for s in group.samples), record)

    def test_tasks_are_large_at_first_and_small_at_the_end(self) -> None:
        groups = make_groups(*[4] * 1000)
        tasks = list(cut(groups, 2))
        assert [group.number for task in tasks for group in task] == list(range(1000))
        sizes = [len(task) for task in tasks]
        # 1000 / 16 is above 32, as long as 512 groups are left: after (1000 - 512) / 32 = 15.25 tasks, thus 16.
        assert sizes[:16] == [32] * 16
        assert sizes[16:] == sorted(sizes[16:], reverse=True)
        assert sizes[16] == (1000 - 512) // 16
        assert sizes[-16:] == [1] * 16

    def test_a_short_group_is_the_last_of_its_task(self) -> None:
        tasks = [[group.number for group in task] for task in cut(make_groups(4, 4, 1, *[4] * 38), 1)]
        assert list(itertools.chain(*tasks)) == list(range(41))
        assert tasks[:2] == [[0, 1, 2], [3, 4, 5, 6]]  # not 41 / 8; then 38 / 8

    def test_answers_that_come_twice_count_once_and_missing_ones_are_asked_for_again(
        self, engine: RayEngine, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rounds = []

        def stream(groups: list[Group], tasks: Iterator[int]) -> Iterator[Answer]:
            rounds.append([group.number for group in groups])
            for group in groups:
                if group.number == 2 and len(rounds) == 1:
                    continue
                if group.number == 3 and len(rounds) == 2:
                    raise ClusterError("a machine is gone")
                yield self.answer(group)
                yield self.answer(group)

        monkeypatch.setattr(engine, "_stream", stream)
        monkeypatch.setattr(ray_engine, "_WINDOW", 3)
        rows = by_id(engine.run(samples(*"abcdefghi"), attempts))
        assert sorted(rows) == list("abcdefghi")
        assert rounds == [[0, 1, 2], [2, 3, 4], [3, 4]]

    def test_a_cluster_that_gets_nothing_done_ends_the_run(
        self, engine: RayEngine, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(groups: list[Group], tasks: Iterator[int]) -> Iterator[Answer]:
            raise ClusterError("all machines are gone")
            yield

        monkeypatch.setattr(engine, "_stream", fail)
        with pytest.raises(InputError, match=r"^the Ray cluster must get clips done; it fails: all machines are gone$"):
            list(engine.run(samples("a"), attempts))
        monkeypatch.setattr(engine, "_stream", lambda groups, tasks: (answer for answer in ()))
        with pytest.raises(InputError, match=r"it fails: answers are missing$"):
            list(engine.run(samples("a"), attempts))

    def test_an_actor_that_can_do_nothing_ends_the_run(
        self, engine: RayEngine, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal = Answer(None, refusal="model must load")
        monkeypatch.setattr(engine, "_stream", lambda groups, tasks: (refusal for _ in groups))
        with pytest.raises(InputError, match=r"^model must load$"):
            list(engine.run(samples("a"), attempts))

    def test_of_an_endless_list_a_part_is_taken(
        self, engine: RayEngine, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken = itertools.count()
        endless = (Sample(str(next(taken)), None, None) for _ in itertools.count())
        monkeypatch.setattr(engine, "_stream", lambda groups, tasks: (self.answer(group) for group in groups))
        monkeypatch.setattr(ray_engine, "_WINDOW", 5)
        with closing(engine.run(endless, attempts)) as run:
            for _ in range(12):
                next(run)
        assert next(taken) == 3 * 5 * 2

    def test_deaths_are_recorded_here_and_known_to_actors(
        self, engine: RayEngine, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts.record(["d"], "read", "an earlier run")
        seen = []

        def stream(groups: list[Group], tasks: Iterator[int]) -> Iterator[Answer]:
            seen.extend(group.deaths for group in groups)
            died = {"died": ["a", "b"], "stage": "explain", "reason": "killed"}
            yield self.answer(groups[0], died, died, status="quarantined")
            # "c" was forgiven by an actor that was lost; of "d" nothing more was heard
            yield self.answer(groups[1], {"died": ["c"], "stage": "read", "reason": "killed"})
            for _ in range(2):  # the second time the rows are there already
                yield self.answer(groups[2], {"died": ["e"], "stage": "read", "reason": "killed"}, {"forgiven": "e"})

        monkeypatch.setattr(engine, "_stream", stream)
        list(engine.run(samples(*"abcdef"), attempts))
        assert seen == [(), (("d", 1, "read", "an earlier run"),), ()]
        assert attempts.suspects() == {"a", "b"}
        assert attempts.quarantine_row(samples("b")[0])["error"] == "killed"


class TestActors:
    """What an actor does with tasks, in this process."""

    @pytest.fixture
    def work(self) -> Work:
        request = make_request()
        here = tuple(sys.path)
        return Work(make_setup(request), Dataset("data", None, ()), "cpu", 2, audit_models.FACTORIES, os.getcwd(), here)

    @pytest.fixture
    def make_actor(self) -> Iterator[Callable[..., Explainers]]:
        made: list[Explainers] = []

        def make(work: Work) -> Explainers:
            made.append(Explainers(work, None))
            return made[-1]

        yield make
        for actor in made:
            if actor._pool is not None:
                actor._pool.close()

    def test_answers_come_in_the_order_of_the_groups(self, work: Work, make_actor: Callable[..., Explainers]) -> None:
        groups = [Group(7, tuple(samples("a", "s900", "c", "d"))), Group(8, tuple(samples(*"efgh")))]
        groups += [Group(9, tuple(samples("i")))]
        answers = list(make_actor(work).explain(groups, False))
        assert [answer.number for answer in answers] == [7, 8, 9]
        for group, answer in zip(groups, answers, strict=True):
            ids = [sample.id for sample in group.samples]
            assert [row["id"] for row in answer.rows] == ids
            assert [row["batch"] for row in answer.rows] == [ids] * len(ids)

    def test_deaths_are_known_and_told(self, work: Work, make_actor: Callable[..., Explainers]) -> None:
        known = (("a", 1, "read", "died before"), ("b", 2, "explain", "died twice before"))
        groups = [Group(0, tuple(samples("a", "b", "read-exit", "d")), known)]
        (answer,) = make_actor(work).explain(groups, False)
        assert [row["status"] for row in answer.rows] == ["ok", "quarantined", "quarantined", "ok"]
        assert [row["attempts"] for row in answer.rows] == [2, 2, 2, 1]
        assert answer.rows[1]["error"] == "died twice before"
        assert [line.get("died", line.get("forgiven")) for line in answer.record] in (
            [["read-exit"], ["read-exit"], "a"],
            [["read-exit"], "a", ["read-exit"]],
            ["a", ["read-exit"], ["read-exit"]],
        )

    def test_what_nobody_thought_of_costs_one_group(
        self, work: Work, make_actor: Callable[..., Explainers], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        actor = make_actor(work)
        run = actor._run

        def fail(todo: Iterable[Sample], deaths: Any) -> Iterator[list[dict[str, Any]]]:
            for rows in run(todo, deaths):
                if rows[0]["id"] == "e":
                    raise OSError("too many open files")
                yield rows

        monkeypatch.setattr(actor, "_run", fail)
        groups = [Group(i, tuple(samples(*ids))) for i, ids in enumerate(("abcd", "efgh", "ijkl"))]
        answers = list(actor.explain(groups, False))
        assert [[row["status"] for row in answer.rows] for answer in answers] == [["ok"] * 4, ["error"] * 4, ["ok"] * 4]
        assert [answer.number for answer in answers] == [0, 1, 2]
        assert {row["error"] for row in answers[1].rows} == {"too many open files"}

    def test_other_weights_than_elsewhere_are_refused(
        self, work: Work, make_actor: Callable[..., Explainers], tmp_path: Path
    ) -> None:
        (tmp_path / "weights").write_text("other")
        setup = replace(work.setup, model=f"weights={tmp_path / 'weights'}")
        with pytest.raises(InputError, match=r"must be the same on all machines; its weights are these and other$"):
            list(make_actor(replace(work, setup=setup, weights="these")).explain(make_groups(4), False))

    def test_what_is_in_hand_is_counted_until_it_is_done(self) -> None:
        hands = Hands()
        assert [hands.take("a"), hands.take("a"), hands.take("b"), hands.take("a")] == [0, 1, 0, 2]
        hands.drop("a")
        assert [hands.take("a"), hands.take("b")] == [0, 1]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class Cluster:
    """Of one machine with 3 CPUs and a GPU, all of them on paper only."""

    def __init__(self, folder: str) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        log = Path(folder, "log")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
        command += ["--num-cpus=3", "--num-gpus=1", "--object-store-memory=100000000", f"--temp-dir={folder}"]
        command += ["--include-dashboard=false", "--disable-usage-stats"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
                start_new_session=True,
            )
        try:
            until(lambda: "block forever" in log.read_text() or self._process.poll() is not None, 120)
            assert self._process.poll() is None, log.read_text()
        except BaseException:
            self.close()
            raise

    def actors(self) -> set[int]:
        """The processes of actors that an audit started, and their children."""
        found = set()
        for pid in descendants(self._process.pid):
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if line.startswith(("ray::MapWorker", "ray::Hands", "ray::Greeter")) or "aosa_fast.audit" in line:
                    found.add(pid)
        return found

    def close(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """Without it, others on the network could use the cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def short_folder() -> Iterator[str]:
    """For Ray's files: the names of its sockets must not be long."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(token: None, short_folder: str) -> Iterator[Cluster]:
    cluster = Cluster(short_folder)
    yield cluster
    cluster.close()


def make_engine(cluster: Cluster, model: str = "", reader: str = "audit_models:Reader", **changes: Any) -> RayEngine:
    request = make_request(**{"model": model, "address": cluster.address, "device": "cpu", **changes})
    factories = {"read": reader, "explain": audit_models.FACTORIES["explain"]}
    return RayEngine(make_setup(request), Dataset("data", None, ()), request, factories=factories)


KILLER = """
import os, signal
import audit_models

class Reader(audit_models.Reader):
    def prepare(self, sample):
        if "actor-kill" in sample.id:
            os.kill(os.getppid(), signal.SIGKILL)
        return super().prepare(sample)
"""


@pytest.fixture(scope="module")
def eventful(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Any, set[str]]:
    """Ids, rows and suspects of a run on all CPUs, in which clips and a stranger kill what they can."""
    folder = tmp_path_factory.mktemp("eventful")
    (folder / "ray_killer.py").write_text(KILLER)
    ids = [f"good{i}" for i in range(48)]
    for place, act in ((5, "read-segfault"), (14, "explain-segfault"), (23, "read-bug"), (30, "actor-kill")):
        ids[place] = act
    killed, said = 0, io.StringIO()
    with (
        redirect_stdout(said),
        redirect_stderr(said),
        pytest.MonkeyPatch.context() as patch,
        Attempts(folder, (1, 1)) as attempts,
    ):
        patch.syspath_prepend(folder)  # the actors' processes must find it
        engine = make_engine(cluster, "wait=0.1", "ray_killer:Reader", actors=3)
        groups = []
        try:
            for rows in engine.run(samples(*ids), attempts):
                groups.append(rows)
                of = parents()
                actors = [of[row["explained_by"]] for row in rows if row.get("explained_by") in of]
                if actors and not killed:
                    killed = actors[0]
                    os.kill(killed, signal.SIGKILL)
        finally:
            engine.close()
        suspects = attempts.suspects()
    assert killed
    assert said.getvalue() == ""
    return ids, by_id(groups), suspects


class TestEvents:
    def test_every_clip_has_one_row_and_those_that_do_no_harm_are_done(self, eventful: Any) -> None:
        ids, rows, _ = eventful
        assert sorted(rows) == sorted(ids)
        assert all(rows[id]["status"] == "ok" for id in ids if id.startswith("good"))

    @pytest.mark.parametrize(
        ("id", "status", "stage", "says"),
        [
            ("read-segfault", "quarantined", "read", "killed by SIGSEGV: Segmentation fault"),
            ("explain-segfault", "quarantined", "explain", "killed by SIGSEGV: Segmentation fault"),
            ("read-bug", "error", "read", "ValueError: a bug in the decoder"),
            ("actor-kill", "quarantined", "explain", "4 actors were lost with it, 2 of them while they had no other"),
        ],
    )
    def test_those_that_do_have_their_error(self, eventful: Any, id: str, status: str, stage: str, says: str) -> None:
        row = eventful[1][id]
        assert (row["status"], row["stage"]) == (status, stage)
        assert row["error"].startswith(says)

    def test_the_others_are_explained_with_their_neighbours_whichever_actor_does_it(self, eventful: Any) -> None:
        ids, rows, _ = eventful
        for begin in range(0, len(ids), 4):
            group = ids[begin : begin + 4]
            if all(id.startswith("good") for id in group):
                assert [rows[id]["batch"] for id in group] == [group] * 4
        assert len({row["explained_by"] for row in rows.values() if "explained_by" in row}) >= 3

    def test_processes_that_died_are_on_record(self, eventful: Any) -> None:
        assert eventful[2] == {"read-segfault", "explain-segfault"}

    def test_nothing_is_left(self, eventful: Any, cluster: Cluster) -> None:
        until(lambda: not cluster.actors(), 30)


class TestCluster:
    def test_rows_are_those_of_the_local_engine_and_a_second_run_has_nothing_to_do(
        self, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        of = {"data": "rendered", "model": "demo", "limit": 24, "threads": 1, "readers": 1, "device": "cpu"}
        local = audit(make_request(**of, engine="local", out=tmp_path / "local"))
        request = make_request(**of, address=cluster.address, out=tmp_path / "ray")
        done = audit(request)
        assert (local.new, done.new) == (24, 24)
        tables = [read_rows(tmp_path / name).sort_by("id") for name in ("local", "ray")]
        measured = [name for name in tables[0].column_names if name.startswith("seconds_")]
        ours, theirs = (table.drop_columns(measured).to_pylist() for table in tables)
        assert {row["status"] for row in ours} == {"ok"}
        assert repr(theirs) == repr(ours)  # NaN is itself there
        again = audit(request)
        assert (again.new, again.counts) == (0, {"ok": 24, "error": 0, "quarantined": 0})
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"actors": 4}, "actors must be at most 3, one per CPU of the Ray cluster; got 4"),
            ({"gpus": 2, "device": "auto"}, "actors must be at most 1, one per GPU of the Ray cluster; got 2"),
            ({"model": "load-input-error"}, "FILE: must be a video"),
        ],
    )
    def test_what_cannot_work_is_refused_before_it_begins(
        self, cluster: Cluster, changes: dict[str, Any], says: str
    ) -> None:
        engine = make_engine(cluster, **changes)
        with pytest.raises(InputError, match=f"^{says}$"):
            engine.start()
        engine.close()

    def test_a_gpu_is_used_where_there_is_one_and_signals_are_handled_as_before(self, cluster: Cluster) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        engine = make_engine(cluster, device="auto")
        try:
            assert engine.start().device == "cuda"
        finally:
            engine.close()
        assert signal.getsignal(signal.SIGTERM) is handler  # Ray would leave its own

    def test_a_cluster_in_use_says_so_and_a_connection_of_others_is_left_open(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        class Busy:
            def works(self) -> bool:
                return True

        engine = make_engine(cluster)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            busy = ray.remote(Busy).options(num_cpus=3).remote()
            assert ray.get(busy.works.remote())
            monkeypatch.setattr(ray_engine, "PLACE_SECONDS", 2.0)
            with pytest.raises(InputError, match=r"must have 2 CPU free for an actor within 2 s; it has 0 CPU, 1 GPU$"):
                engine.start()
            engine.close()
            assert ray.get(busy.works.remote())
        finally:
            ray.shutdown()


SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # of a job in the background, it is ignored
sys.path[:0] = {tests!r}
from pathlib import Path
from test_audit_ray import Attempts, Dataset, RayEngine, audit_models, make_request, make_setup, samples
request = make_request(model="wait=0.3", address={address!r})
engine = RayEngine(make_setup(request), Dataset("data", None, ()), request, factories=audit_models.FACTORIES)
try:
    for rows in engine.run(samples(*map(str, range(400))), Attempts(Path({folder!r}), (1, 1))):
        print("rows", flush=True)
finally:
    engine.close()
"""


def run_until_rows(folder: Path, address: str | None, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A driver in a process, and a group, of its own, in the middle of its work."""
    script = SCRIPT.format(tests=sys.path, address=address, folder=str(folder))
    with (folder / "errors").open("w") as errors:
        driver = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "rows\n", (folder / "errors").read_text()
    return driver


class TestEnds:
    def test_no_actor_outlives_a_driver_that_was_killed(self, cluster: Cluster, tmp_path: Path) -> None:
        with run_until_rows(tmp_path, cluster.address, dict(os.environ)) as driver:
            actors = cluster.actors()
            assert len(actors) >= 5  # the actor, its three processes, and the one that keeps the list
            environments = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in actors]
            assert any(b"CUDA_VISIBLE_DEVICES=0" in environment for environment in environments)
            driver.kill()
        until(lambda: not cluster.actors(), 30)

    def test_ctrl_c_ends_a_cluster_that_was_started_here(self, tmp_path: Path, short_folder: str) -> None:
        home = tmp_path / "home"
        home.mkdir()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"HOME": str(home), "RAY_TMPDIR": short_folder}
        with run_until_rows(tmp_path, None, environment) as driver:
            started = descendants(driver.pid)
            assert len(started) >= 8
            os.killpg(driver.pid, signal.SIGINT)
            driver.wait(60)
        until(lambda: not started & set(parents()), 30)
        lines = (tmp_path / "errors").read_text().splitlines()
        assert lines[0].startswith("Traceback")  # nothing was said before
        assert lines[-1] == "KeyboardInterrupt"
        assert list(home.iterdir()) == []
