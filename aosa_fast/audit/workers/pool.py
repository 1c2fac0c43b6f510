"""The processes of an audit on one machine: readers and explainers, fed, watched, and replaced when they die.

One loop in the caller's thread does all of it, and waits for no single process.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.workers.channel import BrokenChannelError, Bytes, Kind, pack
from aosa_fast.audit.workers.child import Child
from aosa_fast.audit.workers.groups import Groups
from aosa_fast.audit.workers.supervisor import Supervisor
from aosa_fast.errors import InputError
from aosa_fast.processes import cores, refuse_windows

if TYPE_CHECKING:
    from aosa_fast.audit.settings import Ready, Setup
    from aosa_fast.audit.tasks import Row
    from aosa_fast.audit.workers.attempts import Suspects
    from aosa_fast.audit.workers.groups import PooledClip
    from aosa_fast.data import Dataset, Sample

READ, EXPLAIN = "read", "explain"
_TASKS = {READ: Kind.SAMPLE, EXPLAIN: Kind.BATCH}
FACTORIES = {READ: "aosa_fast.audit.clip.prepare:Preparer", EXPLAIN: "aosa_fast.audit.clip.explainer:Explainer"}

_AHEAD = 2  # batches in an explainer's hands, so that the next one is there when it needs it
_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}  # threads that spin steal the other processes' cores
_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


class Pool:
    """Readers and explainers, as long as they are needed.

    A process that dies, or takes longer for a task than it may, is replaced. The clips in the hands of a dead one are
    tried once more, each alone; a clip over which a second process dies gets a row with the status "quarantined".

    Where `settings.max_restarts` die one after the other, with no task done in between, the next one is probed with a
    clip that was done before: if it does that, the clips were to blame, a folder of files with the same defect
    perhaps; if it dies, or none was done before, it is the machine, and the run ends.
    """

    def __init__(
        self,
        setup: Setup,
        dataset: Dataset,
        *,
        devices: Sequence[str],
        readers: int,
        factories: Mapping[str, str] = FACTORIES,
    ) -> None:
        """Starts nothing yet.

        Args:
            setup: for the processes; its device gives way to those below.
            dataset: of which samples will be read.
            devices: one process that explains is started for each.
            readers: processes that read, for each device; 0: one per core of this machine, in all.
            factories: "module:name" of what reads and of what explains, by role.

        Raises:
            InputError: no device, readers below 0, or a system that is not supported.
        """
        refuse_windows("an audit")
        if readers < 0:
            raise InputError(f"readers must be at least 1, or 0 for one per core; got {readers}")
        if not devices:
            raise InputError("devices must name at least one; got none")
        self._setup, self._dataset, self._factories = setup, replace(dataset, samples=()), factories
        self._devices, self._readers = tuple(devices), readers * len(devices) or cores()
        self._supervisor = Supervisor(self._handle, self._replace)
        self._groups: Groups | None = None
        self._ready: Ready | None = None
        self._worked: set[str] = set()  # roles of which a process has begun to work
        self._deaths = dict.fromkeys(FACTORIES, 0)  # in a row, without a task done in between
        self._probes: dict[str, list[Bytes]] = {}  # by role: body of a task that can be done

    def start(self) -> Ready:
        """Starts the processes that explain, waits until their model is loaded, then starts those that read.

        Returns:
            What the first device's process says of the model.

        Raises:
            InputError: the model cannot be loaded, with the reason that the process gives.
        """
        try:
            if not self._supervisor.children:
                self._deaths = dict.fromkeys(FACTORIES, 0)
                for device in self._devices:
                    self._add(EXPLAIN, device)
                while not all(child.ready for child in self._supervisor.children):
                    self._supervisor.listen()
                for _ in range(self._readers):
                    self._add(READ)
        except BaseException:
            self.close()
            raise
        assert self._ready is not None
        return self._ready

    def run(self, samples: Iterable[Sample], attempts: Suspects) -> Iterator[list[Row]]:
        """Reads and explains samples.

        They are explained together in groups of `settings.batch` that follow each other, whatever comes first, so
        that the same samples give the same batches, and on one kind of processor the same values to the last digit.
        Only a clip over which a process died is explained by itself, which may round otherwise.

        Args:
            samples: with different ids. They are taken in the caller's thread, as there is room for them: as many
                groups as keep all processes busy are under way at once.
            attempts: record of the clips over which processes died.

        Yields:
            The rows of a group, in the order of its samples, when all of them are there; groups in any order. Every
            sample has exactly one row. While the caller works on the rows, time limits stand still.

        Raises:
            InputError: process after process dies, though the clips are not to blame.
        """
        self.start()
        size = self._setup.settings.batch
        most = _AHEAD * len(self._devices) + 2 + self._readers // size
        self._groups = groups = Groups(samples, attempts, size=size, most=most)
        try:
            while True:
                groups.fill()
                self._assign_tasks(groups)  # first, so that there is work while the caller has rows to write
                rows = groups.take_rows()
                if rows is not None:
                    yield rows
                    continue
                if groups.finished:
                    break
                self._supervisor.listen()
        except BaseException:  # an error, Ctrl-C, or a caller who wants no more
            self.close()
            raise
        finally:
            self._groups = None

    def close(self) -> None:
        """Ends all processes at once; a second call does nothing."""
        self._supervisor.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, role: str, device: str = "", *, probing: bool = False) -> None:
        settings = self._setup.settings
        arguments: tuple[Any, ...]
        if role == READ:
            assert self._ready is not None
            arguments, threads = (self._dataset, self._ready.preprocessing, settings), 1
        else:
            arguments, threads = (replace(self._setup, device=device),), self._setup.threads
        environment = {name: os.environ.get(name, value) for name, value in _WAITING.items()}
        if threads:
            environment.update(dict.fromkeys(_THREADS, str(threads)))
        setup = _dump((self._factories[role], arguments, settings.clip_seconds))
        limit, clock = settings.clip_seconds, self._supervisor.clock
        self._supervisor.children.append(Child(role, setup, environment, limit, clock, device, probing))

    def _assign_tasks(self, groups: Groups) -> None:
        """Gives every reader that has nothing a sample, and every explainer a batch more than it is at."""
        able = [child for child in self._supervisor.children if child.takes_tasks]
        for child in able:
            if child.probing:
                if not child.tasks:
                    child.assign(_TASKS[child.role], self._probes[child.role], [], self._supervisor.clock)
            elif child.role == READ and not child.tasks and groups.to_read:
                clip = groups.to_read.popleft()
                child.assign(Kind.SAMPLE, [_dump(clip.sample)], [clip], self._supervisor.clock)
        explainers = [child for child in able if child.role == EXPLAIN and not child.probing]
        while groups.to_explain and explainers:
            child = min(explainers, key=lambda child: len(child.tasks))
            if len(child.tasks) >= _AHEAD:
                return
            clips = groups.to_explain.popleft()
            child.assign(Kind.BATCH, _batch(clips), clips, self._supervisor.clock)

    def _handle(self, child: Child, kind: Kind, body: memoryview) -> None:
        if kind is Kind.READY:
            self._mark_ready(child, _load(body))
        elif kind is Kind.REFUSED:
            if child.role not in self._worked:
                raise InputError(bytes(body).decode())
            child.mark_failed(bytes(body).decode())
        elif not child.tasks or self._groups is None:
            raise BrokenChannelError(f"{kind.name} without a task")
        elif kind is Kind.BEGIN:
            child.begin()
        else:
            rows = _load(body) if kind is Kind.ROWS else []  # before the task counts as done
            clips = child.finish()
            self._deaths[child.role] = 0
            if clips and kind is Kind.PREPARED:
                self._probes[READ] = [_dump(clips[0].sample)]
                self._groups.prepared(clips[0], body)
            elif clips and kind is Kind.ROWS:
                self._probes[EXPLAIN] = _batch(clips[:1])
                self._groups.explained(clips, rows)
            elif clips:
                self._groups.failed(clips, child.role, bytes(body).decode())

    def _mark_ready(self, child: Child, ready: Ready | None) -> None:
        if ready is not None:
            if self._ready is None:
                self._ready = ready
            elif ready.weights != self._ready.weights:
                raise InputError(
                    f"model={self._setup.model} must stay the same during an audit; "
                    f"its weights were {self._ready.weights} and are {ready.weights}"
                )
        child.mark_ready()
        self._worked.add(child.role)

    def _replace(self, child: Child, reason: str) -> None:
        """Puts another process in the place of one that is gone, and takes care of what it had in its hands."""
        current, waiting = child.unfinished()
        if self._groups is not None:
            for clips in reversed(waiting):
                if clips:
                    self._groups.give_back(clips, child.role)
            if current:
                self._groups.died(current, child.role, reason)
        self._deaths[child.role] += 1
        dying = self._deaths[child.role] > self._setup.settings.max_restarts
        if dying and (child.probing or child.role not in self._probes):
            raise InputError(
                f"processes must be able to {child.role} clips; "
                f"{self._deaths[child.role]} died one after the other, the last one: {reason}"
            )
        self._add(child.role, child.device, probing=dying)


def _batch(clips: Sequence[PooledClip]) -> list[Bytes]:
    return pack([clip.prepared for clip in clips if clip.prepared is not None])


def _dump(value: Any) -> bytes:
    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def _load(body: memoryview) -> Any:
    try:
        return pickle.loads(body)
    except Exception as error:  # noqa: BLE001 - bytes of a process whose memory may be damaged
        raise BrokenChannelError(f"a message that cannot be read: {type(error).__name__}") from None
