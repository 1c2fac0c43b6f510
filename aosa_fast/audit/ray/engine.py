"""The engine of an audit that works on a Ray cluster: the driver's side.

Tasks, several groups of clips each, stream through Ray Data to actors; rows stream back, and are written by the driver,
as with the local engine. What is done, how, and which clips are explained together is the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.ray.actor import Greeter, Hands
from aosa_fast.audit.ray.cluster import Cluster, Share
from aosa_fast.audit.ray.stream import ClusterError, stream
from aosa_fast.audit.ray.tasks import Answer, Group, Work
from aosa_fast.audit.tasks import QUARANTINED
from aosa_fast.audit.workers.pool import FACTORIES
from aosa_fast.audit.workers.worker import describe
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.audit.request import AuditRequest
    from aosa_fast.audit.settings import Ready, Setup
    from aosa_fast.audit.tasks import Row
    from aosa_fast.audit.workers.attempts import Attempts
    from aosa_fast.data import Dataset, Sample

PLACE_SECONDS = 120.0  # to find room for an actor on the cluster, and to start it
_WINDOW = 2048  # groups per actor that are handed to Ray at once, so that an endless list takes no more memory


class RayEngine:
    """Actors on a Ray cluster, as long as they are needed.

    A process that a clip ends is replaced by the pool of its actor; an actor that is lost is started again by Ray, and
    does its tasks once more; what is missing after a larger failure is handed out again, as long as clips get done.
    """

    def __init__(
        self, setup: Setup, dataset: Dataset, request: AuditRequest, *, factories: Mapping[str, str] = FACTORIES
    ) -> None:
        """Starts nothing yet.

        Args:
            setup: for the processes; its device gives way to what Ray assigns.
            dataset: of which samples will be read.
            request: see there; address, actors, gpus, readers and device count here.
            factories: as in `aosa_fast.audit.workers.pool.Pool`.

        Raises:
            InputError: the request contradicts itself.
        """
        if request.gpus and request.actors not in (0, request.gpus):
            raise InputError(f"actors must equal gpus, or be left out; got actors={request.actors} gpus={request.gpus}")
        if request.gpus and request.device not in ("auto", "cuda"):
            raise InputError(f"device must be auto or cuda where gpus is given; got {request.device}")
        if request.device.startswith("cuda:"):
            raise InputError(
                f"device must be auto, cpu or cuda with engine=ray, which assigns GPUs; got {request.device}"
            )
        self._setup, self._dataset, self._request = setup, replace(dataset, samples=()), request
        self._factories = dict(factories)
        self._cluster: Cluster | None = None
        self._hands: Any = None
        self._work: Work | None = None
        self._share: Share | None = None
        self._ready: Ready | None = None

    def start(self) -> Ready:
        """Connects to the cluster, and loads the model there once.

        Returns:
            What the process that loaded it says of it.

        Raises:
            InputError: no cluster, no room on it for the actors, or the model cannot be loaded there.
        """
        if self._ready is None:
            try:
                self._cluster = Cluster(self._request.address)
                self._ready = self._greet()
            except BaseException:
                self.close()
                raise
        return self._ready

    def run(self, samples: Iterable[Sample], attempts: Attempts) -> Iterator[list[Row]]:
        """Reads and explains samples.

        Args:
            samples: with different ids, taken as there is room for them.
            attempts: record of the clips over which processes died; kept here, with what the actors report.

        Yields:
            The rows of a group of `settings.batch` samples that follow each other; groups in any order. Every sample
            has exactly one row.

        Raises:
            InputError: the model cannot be loaded everywhere, processes die though no clip is to blame, or the cluster
                fails before any more clips are done.
        """
        self.start()
        assert self._share is not None
        groups, tasks = self._groups(samples, attempts), count()
        left: list[Group] = []
        while window := left + list(islice(groups, self._share.actors * _WINDOW - len(left))):
            waiting = {group.number: group for group in window}
            failure = ""
            try:
                with closing(self._stream(window, tasks)) as answers:
                    for answer in answers:
                        if answer.number is None:
                            raise InputError(answer.refusal)
                        group = waiting.pop(answer.number, None)
                        _record(answer, group, attempts)
                        if group is not None:  # else an actor that was lost has given it, too
                            yield list(answer.rows)
            except ClusterError as error:
                failure = str(error)
            left = list(waiting.values())
            if len(left) == len(window):
                raise InputError(f"the Ray cluster must get clips done; it fails: {failure or 'answers are missing'}")

    def close(self) -> None:
        """Ends the actors, and the cluster if it was started here; a second call does nothing."""
        cluster, self._cluster = self._cluster, None
        hands, self._hands, self._ready = self._hands, None, None
        if cluster is not None:
            if hands is not None:
                with suppress(Exception):
                    cluster.ray.kill(hands)
            cluster.close()

    def _greet(self) -> Ready:
        assert self._cluster is not None
        ray, request = self._cluster.ray, self._request
        gpu = request.device == "cuda" or request.gpus > 0 or (request.device == "auto" and self._cluster.gpus > 0)
        self._share = share = self._cluster.share(request.gpus or request.actors, gpu)
        self._work = Work(
            setup=self._setup,
            dataset=self._dataset,
            device="cuda" if gpu else "cpu" if request.device == "auto" else request.device,
            readers=request.readers or max(int(share.cpus), 1),
            factories=self._factories,
            folder=os.getcwd(),
            path=tuple(os.path.abspath(place) for place in sys.path),
        )
        with _mute():  # once per process Ray warns of actors made like this, as Ray Data makes its own
            self._hands = ray.remote(Hands).options(num_cpus=0, max_restarts=-1).remote(ray.put(None))
        greeter = ray.remote(Greeter).options(num_cpus=share.cpus, num_gpus=share.gpus).remote()
        try:
            if not ray.wait([greeter.here.remote()], timeout=PLACE_SECONDS)[0]:
                free = ray.available_resources()
                has = ", ".join(f"{free.get(what, 0):g} {what}" for what in ("CPU", "GPU"))
                needs = f"{share.cpus:g} CPU" + (" and a GPU" if gpu else "")
                raise InputError(
                    f"the Ray cluster must have {needs} free for an actor within {PLACE_SECONDS:g} s; it has {has}"
                )
            ready, refusal = ray.get(greeter.greet.remote(self._work))
        except ray.exceptions.RayError as error:
            raise InputError(f"the Ray cluster must be able to load the model; {describe(error)}") from None
        finally:
            with suppress(Exception):
                ray.kill(greeter)
        if ready is None:
            raise InputError(refusal)
        self._work = replace(self._work, weights=ready.weights)
        return ready

    def _stream(self, groups: list[Group], tasks: Iterator[int]) -> Generator[Answer, None, None]:
        assert self._cluster is not None
        assert self._work is not None
        assert self._share is not None
        return stream(self._cluster.ray, self._work, self._hands, self._share, groups, tasks)

    def _groups(self, samples: Iterable[Sample], attempts: Attempts) -> Iterator[Group]:
        rest = iter(samples)
        for number in count():
            group = tuple(islice(rest, self._setup.settings.batch))
            if not group:
                return
            deaths = []
            for sample in group:
                if times := attempts.deaths(sample.id):
                    row = attempts.quarantine_row(sample)
                    deaths.append((sample.id, times, row["stage"], row["error"]))
            yield Group(number, group, tuple(deaths))


def _record(answer: Answer, group: Group | None, attempts: Attempts) -> None:
    """Writes down what an actor reports of deaths, and that all is forgiven to clips that were done after all."""
    for line in answer.record:
        if "forgiven" in line:
            attempts.forgive(line["forgiven"])
        else:
            attempts.record(line["died"], line["stage"], line["reason"])
    for sample, row in zip(group.samples, answer.rows, strict=True) if group is not None else ():
        if row["status"] != QUARANTINED:  # an actor that was lost took with it that it had forgiven
            attempts.forgive(sample.id)


@contextmanager
def _mute() -> Iterator[None]:
    """Keeps what is not Python's from writing to the terminal."""
    try:
        terminal, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # there is none
        yield
        return
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nothing)
