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
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest

from aosa_fast.audit.driver import audit, make_setup
from aosa_fast.audit.ray import cluster as ray_cluster
from aosa_fast.audit.ray import engine as ray_engine
from aosa_fast.audit.ray.batches import Batches
from aosa_fast.audit.ray.cluster import Share, share_out
from aosa_fast.audit.ray.engine import RayEngine
from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.settings import AuditSettings
from aosa_fast.audit.store.parts import read_rows
from aosa_fast.audit.workers.attempts import Attempts
from aosa_fast.data import Dataset
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


def make_engine(module: str = "audit_models", **changes: Any) -> RayEngine:
    request, dataset = make_request(**changes), Dataset("data", None, ())
    factories = {"read": f"{module}:Reader", "explain": f"{module}:Explainer"}
    return RayEngine(make_setup(request, dataset), dataset, request, factories=factories)


class TestSharing:
    @pytest.mark.parametrize(
        ("nodes", "actors", "gpu", "share"),
        [
            ([(8, 0)], 0, False, Share(1, 7, 0)),
            ([(8, 0)], 2, False, Share(2, 3, 0)),  # 7 / 2, in whole CPUs
            ([(2, 0)], 2, False, Share(2, 0.5, 0)),
            ([(1, 0)], 1, False, Share(1, 0.5, 0)),
            ([(4, 0), (4, 0), (0, 0)], 0, False, Share(2, 3, 0)),  # a head node that computes nothing
            ([(4, 0), (16, 0)], 3, False, Share(3, 5, 0)),
            ([(2, 0), (16, 0)], 18, False, Share(18, 0.5, 0)),
            ([(16, 4), (64, 0)], 0, True, Share(4, 3, 1)),
            ([(16, 4), (8, 1)], 0, True, Share(5, 3, 1)),
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
        with pytest.raises(InputError, match=f"^{says}$"):
            make_engine(**changes)

    def test_a_missing_library_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        says = r"^engine=ray must have ray; it is missing: pip install .aosa-fast\[ray\].$"
        with pytest.raises(InputError, match=says):
            make_engine().start()


class TestAddresses:
    def refusal(self, address: str) -> str:
        engine, begin = make_engine(address=address), time.monotonic()
        with pytest.raises(InputError) as error:
            engine.start()
        assert time.monotonic() - begin < 60  # with the library's import; Ray itself would try for two minutes
        return str(error.value)

    def test_where_nobody_listens(self) -> None:
        says = "address must be of a Ray cluster; {} does not answer: Connection refused"
        assert self.refusal(address := f"127.0.0.1:{free_port()}") == says.format(address)

    @pytest.mark.parametrize(
        ("answer", "says"),
        [
            (b"", "address must be of a Ray cluster; {} does not answer: timed out"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "address must be of a Ray cluster; what is at {} is something else"),
        ],
    )
    def test_where_something_else_listens(self, monkeypatch: pytest.MonkeyPatch, answer: bytes, says: str) -> None:
        monkeypatch.setattr(ray_cluster, "_REACH", 0.5)
        with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as threads:
            client = threads.submit(server.accept)
            client.add_done_callback(lambda accepted: accepted.result()[0].sendall(answer))
            address = f"127.0.0.1:{server.getsockname()[1]}"
            assert self.refusal(address) == says.format(address)
            client.result()[0].close()

    @pytest.mark.parametrize("address", ["here", "host:port", "host:1:2", "host:70000", "ray://127.0.0.1:10001"])
    def test_what_is_none(self, address: str) -> None:
        what = "HOST:PORT of a cluster that this machine belongs to" if "://" in address else "HOST:PORT"
        assert self.refusal(address) == f"address must be {what}, or auto; got {address}"


class TestBatches:
    def test_calls_are_large_at_first_and_small_at_the_end(self) -> None:
        batches = Batches(samples(*map(str, range(3999))), 4, 2)
        calls = []
        while batches.waiting:
            calls.append([sample.id for batch in batches.take() for sample in batch.samples])
        assert list(itertools.chain(*calls)) == [str(i) for i in range(3999)]
        groups = [-(-len(call) // 4) for call in calls]
        assert groups == sorted(groups, reverse=True)
        # 1000 / 16 is above 32, as long as 512 groups are left: after (1000 - 512) / 32 = 15.25 calls, thus 16.
        assert groups[:17] == [32] * 16 + [(1000 - 512) // 16]
        assert groups[-16:] == [1] * 16

    @pytest.mark.parametrize(
        ("harmful", "losses"), [([9], 4), ([9, 10], 2 + 4), ([9, 10, 30], 1 + 2 + 6), (range(40), 1 + 10 + 80)]
    )
    def test_clips_with_which_actors_are_lost_are_found_and_no_other_has_to_suffer(
        self, harmful: Sequence[int], losses: int
    ) -> None:
        ids = [str(i) for i in range(400)]  # in calls of 12 groups at first, which are lost together once
        batches, lost, rows = Batches(samples(*ids), 4, 1), 0, []
        while not batches.finished:
            call = batches.take()
            while call and not any(int(sample.id) in harmful for sample in call[0].samples):
                batch = call.pop(0)
                rows += batches.done(batch, [{"id": sample.id, "n": len(batch.samples)} for sample in batch.samples])
            if call:
                lost += 1
                rows += itertools.chain(*batches.lost(call))
                assert batches.losses <= 4  # since a row was last known, so that the run is not given up
        assert [int(row["id"]) // 4 for row in rows[::4]] == [int(row["id"]) // 4 for row in rows[3::4]]  # groups whole
        assert sorted(ids) == sorted(row["id"] for row in rows)
        assert [row["id"] for row in rows if row.get("status") == "quarantined"] == [str(i) for i in harmful]
        assert {int(row["id"]) // 4 for row in rows if row.get("n") != 4} == {i // 4 for i in harmful}
        assert lost == losses


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
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

    def engine(self, module: str = "audit_models", **changes: Any) -> RayEngine:
        return make_engine(module, **{"device": "cpu", "address": self.address, **changes})

    def actors(self) -> set[int]:
        """The processes of actors that an audit started, and their children."""
        found = set()
        for pid in descendants(self._process.pid):
            with suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if line.startswith("ray::Explainers") or "aosa_fast.audit" in line:
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


KILLER = """
import os, signal
import audit_models

class Reader(audit_models.Reader):
    def prepare(self, sample):
        if "actor-kill" in sample.id:
            os.kill(os.getppid(), signal.SIGKILL)
        return super().prepare(sample)

class Explainer(audit_models.Explainer):
    def __init__(self, setup):
        super().__init__(setup)
        if self.fuse and os.path.exists(self.fuse):
            os.kill(os.getppid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where the actors' processes find the module above."""
    folder = tmp_path_factory.mktemp("killers")
    (folder / "ray_killer.py").write_text(KILLER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def eventful(
    cluster: Cluster, killers: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], Any, set[str]]:
    """Ids, rows and suspects of a run on all CPUs, in which clips and a stranger kill what they can."""
    folder = tmp_path_factory.mktemp("eventful")
    ids = [f"good{i}" for i in range(48)]
    acts = {5: "read-segfault", 14: "explain-segfault", 23: "read-bug", 30: "actor-kill"}
    for place, act in {**acts, 36: "known-once", 38: "known-twice"}.items():
        ids[place] = act
    killed, said = 0, io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), Attempts(folder, (1, 1)) as attempts:
        attempts.record(["known-once", "known-twice"], "read", "died before")
        attempts.record(["known-twice"], "read", "died twice before")
        groups = []
        with closing(cluster.engine("ray_killer", model="wait=0.1", actors=3)) as engine:
            for rows in engine.run(samples(*ids), attempts):
                groups.append(rows)
                of = parents()
                actors = [of[row["explained_by"]] for row in rows if row.get("explained_by") in of]
                if actors and not killed:
                    killed = actors[0]
                    os.kill(killed, signal.SIGKILL)
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
            ("known-twice", "quarantined", "read", "died twice before"),
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

    def test_processes_that_died_are_on_record_and_actors_know_of_it(self, eventful: Any) -> None:
        assert eventful[2] == {"read-segfault", "explain-segfault", "known-twice"}
        once = eventful[1]["known-once"]
        assert (once["status"], once["attempts"], once["batch"]) == ("ok", 2, ["known-once"])

    def test_nothing_is_left(self, eventful: Any, cluster: Cluster) -> None:
        until(lambda: not cluster.actors(), 30)


class TestRefusals:
    def test_other_weights_than_elsewhere(self, cluster: Cluster, attempts: Attempts, tmp_path: Path) -> None:
        (tmp_path / "weights").write_text("these")
        model = f"wait=0.5,weights={tmp_path / 'weights'}"
        with closing(cluster.engine(model=model, actors=2)) as engine:
            assert engine.start().weights == "these"
            (tmp_path / "weights").write_text("other")
            says = f"^model={model} must be the same on all machines; its weights are these and other \\(on "
            with pytest.raises(InputError, match=says):
                list(engine.run(samples(*map(str, range(40))), attempts))

    def test_a_cluster_that_loses_actor_after_actor(
        self, cluster: Cluster, killers: None, attempts: Attempts, tmp_path: Path
    ) -> None:
        fuse = tmp_path / "fuse"
        with closing(cluster.engine("ray_killer", model=f"fuse={fuse}", settings={"max_restarts": 1})) as engine:
            engine.start()
            fuse.touch()
            with pytest.raises(InputError, match=r"^the Ray cluster must get clips done; it fails: ActorDiedError: "):
                list(engine.run(samples("actor-kill"), attempts))


KILLED_AUDIT = """
import os
import signal
import sys
sys.path[:0] = {tests!r}
from pathlib import Path
from aosa_fast.audit.store.parts import PartWriter
from test_audit_ray import audit, make_request
PartWriter.__init__.__kwdefaults__["rows"] = 4
def report(done, total, what=""):
    if done >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
audit(make_request(**{of!r}, out=Path({out!r})), report)
"""


def unmeasured(folder: Path) -> list[Any]:
    """The rows of an audit, but for the seconds that they took."""
    table = read_rows(folder).sort_by("id")
    return table.drop_columns([name for name in table.column_names if name.startswith("seconds_")]).to_pylist()


class TestCluster:
    def test_rows_are_those_of_the_local_engine_and_a_second_run_has_nothing_to_do(
        self, cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        of = {"data": "rendered", "model": "demo", "limit": 24, "threads": 1, "readers": 1, "device": "cpu"}
        local = audit(make_request(**of, engine="local", out=tmp_path / "local"))
        request = make_request(**of, address=cluster.address, out=tmp_path / "ray")
        done = audit(request)
        assert (local.new, done.new) == (24, 24)
        ours, theirs = unmeasured(tmp_path / "local"), unmeasured(tmp_path / "ray")
        assert {row["status"] for row in ours} == {"ok"}
        assert repr(theirs) == repr(ours)  # NaN is itself there
        again = audit(request)
        assert (again.new, again.counts) == (0, {"ok": 24, "error": 0, "quarantined": 0})
        assert capfd.readouterr() == ("", "")

    def test_three_actors_whose_driver_is_killed_and_started_again_give_the_rows_of_one(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        of: dict[str, Any] = {"data": "rendered", "model": "demo", "limit": 12, "threads": 1, "readers": 1}
        of |= {"device": "cpu", "address": cluster.address}
        assert audit(make_request(**of, actors=1, out=tmp_path / "one")).new == 12
        of |= {"actors": 3}
        script = KILLED_AUDIT.format(tests=sys.path, of=of, out=str(tmp_path / "three"))
        killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        until(lambda: not cluster.actors(), 60)
        kept = read_rows(tmp_path / "three").num_rows
        assert 4 <= kept < 12
        assert audit(make_request(**of, out=tmp_path / "three")).new == 12 - kept
        assert repr(unmeasured(tmp_path / "three")) == repr(unmeasured(tmp_path / "one"))

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
        with closing(cluster.engine(**changes)) as engine, pytest.raises(InputError, match=f"^{says}$"):
            engine.start()

    def test_a_gpu_is_used_where_there_is_one_and_signals_are_handled_as_before(self, cluster: Cluster) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        with closing(cluster.engine(device="auto")) as engine:
            assert engine.start().device == "cuda"
        assert signal.getsignal(signal.SIGTERM) is handler  # Ray would leave its own

    def test_a_cluster_in_use_says_so_and_a_connection_of_others_is_left_open(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        engine = cluster.engine()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            busy = ray.remote(type("Busy", (), {})).options(num_cpus=3).remote()
            assert ray.get(busy.__ray_ready__.remote())
            monkeypatch.setattr(ray_engine, "PLACE_SECONDS", 2.0)
            with pytest.raises(InputError, match=r"must have 2 CPU free for an actor within 2 s; it has 0 CPU, 1 GPU$"):
                engine.start()
            engine.close()
            assert ray.get(busy.__ray_ready__.remote())
        finally:
            ray.shutdown()


SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # of a job in the background, it is ignored
sys.path[:0] = {tests!r}
from pathlib import Path
from test_audit_ray import Attempts, make_engine, samples
engine = make_engine(model="wait=0.3", address={address!r})
try:
    for rows in engine.run(samples(*map(str, range(400))), Attempts(Path({folder!r}), (1, 1))):
        print("rows", flush=True)
finally:
    engine.close()
"""


def run_until_rows(folder: Path, address: str | None, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A driver in a process, and a group, of its own, in the middle of its work."""
    with (folder / "errors").open("w") as errors:
        driver = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(tests=sys.path, address=address, folder=str(folder))],
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
            assert len(actors) >= 4  # the actor, and its three processes
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
