"""The engine of an audit that works on a Ray cluster: the driver's side.

Actors are called with several groups of clips each, and hand back the rows of each group as it is done; the driver
writes them, as with the local engine. What is done, how, and which clips are explained together is the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.ray.actor import Explainers, Line
from aosa_fast.audit.ray.batches import LOSSES, Batch, Batches
from aosa_fast.audit.ray.cluster import Cluster
from aosa_fast.audit.tasks import QUARANTINED, row_id
from aosa_fast.audit.workers.child import START_SECONDS
from aosa_fast.audit.workers.pool import FACTORIES
from aosa_fast.audit.workers.worker import error_line
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.audit.request import AuditRequest
    from aosa_fast.audit.settings import Ready, Setup
    from aosa_fast.audit.tasks import Row
    from aosa_fast.audit.workers.attempts import Attempts
    from aosa_fast.data import Dataset, Sample

PLACE_SECONDS = 120.0  # to find room for an actor on the cluster, and to start it
_FAILS = "the Ray cluster must get clips done; it fails"
_TRIES = 4  # times that a group may take as long as it may


@dataclass(eq=False)
class _Actor:
    """An actor, and the batches in its hands by the id of their first row."""

    handle: Any
    batches: dict[str, Batch] = field(default_factory=dict)


class RayEngine:
    """Actors on a Ray cluster, as long as they are needed.

    A process that a clip ends is replaced by the pool of its actor. An actor that is lost is replaced, and what it had
    in its hands is handed out again, as long as clips get done.
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
        self._ready: Ready | None = None
        self._most = 0  # actors at once
        self._make: Callable[[], Any]  # starts an actor
        self._idle: list[_Actor] = []
        self._busy: dict[Any, _Actor] = {}  # by the stream of their answers

    def start(self) -> Ready:
        """Connects to the cluster, and loads the model there once, in the first actor.

        Raises:
            InputError: no cluster, no room on it for the actors, or the model cannot be loaded there.
        """
        if self._ready is None:
            try:
                self._cluster = Cluster(self._request.address)
                self._ready = self._start_first(self._cluster)
            except BaseException:
                self.close()
                raise
        return self._ready

    def run(self, samples: Sequence[Sample], attempts: Attempts) -> Iterator[list[Row]]:
        """As `aosa_fast.audit.driver.Engine`; what the actors report of deaths is recorded here.

        Raises:
            InputError: the model cannot be loaded everywhere, processes die though no clip is to blame, or the cluster
                fails before any more clips are done.
        """
        self.start()
        batches = Batches(samples, self._setup.settings.batch, self._most)
        most = min(self._most, batches.waiting)
        try:
            while not batches.finished:
                while batches.waiting and self._idle:
                    self._call(self._idle.pop(), batches.take(), attempts)
                if batches.waiting and len(self._busy) < most:
                    # Without clips at first: nothing waits for an actor that finds no room or cannot load the model.
                    self._call(_Actor(self._make()), [], attempts)
                else:
                    yield from self._listen(batches, attempts)
        except BaseException:  # an error, Ctrl-C, or a caller who wants no more
            self.close()
            raise

    def close(self) -> None:
        """Ends the actors, and the cluster if it was started here; a second call does nothing."""
        cluster, self._cluster, self._ready = self._cluster, None, None
        if cluster is not None:
            for actor in (*self._idle, *self._busy.values()):
                with suppress(Exception):
                    cluster.ray.kill(actor.handle)
            cluster.close()
        self._idle, self._busy = [], {}

    def _start_first(self, cluster: Cluster) -> Ready:
        ray, request = cluster.ray, self._request
        gpu = True if request.gpus or request.device == "cuda" else None if request.device == "auto" else False
        share = cluster.share(request.gpus or request.actors, gpu)
        pool = {
            "devices": ["cuda" if share.gpus else "cpu" if request.device == "auto" else request.device],
            "readers": request.readers or max(int(share.cpus), 1),
            "factories": self._factories,
        }
        path = tuple(os.path.abspath(place) for place in sys.path)
        options = ray.remote(Explainers).options(num_cpus=share.cpus, num_gpus=share.gpus)
        self._make = partial(options.remote, self._setup, self._dataset, pool, os.getcwd(), path)
        self._most = share.actors
        actor = _Actor(self._make())
        self._idle.append(actor)
        try:
            if not ray.wait([actor.handle.__ray_ready__.remote()], timeout=PLACE_SECONDS)[0]:
                free = ray.available_resources()
                has = ", ".join(f"{free.get(what, 0):g} {what}" for what in ("CPU", "GPU"))
                needs = f"{share.cpus:g} CPU" + (" and a GPU" if share.gpus else "")
                raise InputError(
                    f"the Ray cluster must have {needs} free for an actor within {PLACE_SECONDS:g} s; it has {has}"
                )
            ready: Ready = _get(ray, actor.handle.start.remote())
        except ray.exceptions.RayError as error:
            raise InputError(f"the Ray cluster must be able to load the model; {error_line(error)}") from None
        return ready

    def _call(self, actor: _Actor, batches: Sequence[Batch], attempts: Attempts) -> None:
        """Has an actor explain batches, with what is known of earlier deaths over their clips."""
        assert self._ready is not None
        known: list[Line] = []
        for sample in (sample for batch in batches for sample in batch.samples):
            if times := attempts.deaths(sample.id):
                row = attempts.quarantine_row(sample)
                known.append({"died": [sample.id] * times, "stage": row["stage"], "reason": row["error"]})
        actor.batches = {row_id(batch.samples[0]): batch for batch in batches}
        groups = [batch.samples for batch in batches]
        self._busy[actor.handle.explain.remote(self._ready.weights, groups, known)] = actor

    def _listen(self, batches: Batches, attempts: Attempts) -> Iterator[list[Row]]:
        """Waits for an actor's next answer, its end or its loss, and gives the rows of groups that this completes."""
        assert self._cluster is not None
        ray, settings = self._cluster.ray, self._setup.settings
        longest = START_SECONDS + _TRIES * settings.batch * settings.clip_seconds
        heard, _ = ray.wait(list(self._busy), timeout=longest)
        if not heard:
            raise InputError(f"{_FAILS}: nothing was heard of it for {longest:g} s")
        actor = self._busy.pop(answers := heard[0])
        try:
            rows, news = _get(ray, next(answers))
        except StopIteration:
            if not actor.batches:
                self._idle.append(actor)
                return
            reason = "answers are missing"
        except ray.exceptions.RayError as error:
            reason = error_line(error)
        else:
            self._busy[answers] = actor  # behind the others
            batch = actor.batches.pop(rows[0]["id"])
            _record(batch, rows, news, attempts)
            if group := batches.done(batch, rows):
                yield group
            return
        with suppress(Exception):
            ray.kill(actor.handle)
        yield from batches.lost(list(actor.batches.values()))
        if batches.losses > self._most * max(settings.max_restarts, 2 * LOSSES):
            raise InputError(f"{_FAILS}: {reason}")


def _get(ray: Any, answer: Any) -> Any:
    """What an actor returned; an `InputError` that it raised is raised here as it was there."""
    try:
        return ray.get(answer)
    except InputError as error:
        raise InputError(str(getattr(error, "cause", error))) from None


def _record(batch: Batch, rows: Sequence[Row], news: Sequence[Line], attempts: Attempts) -> None:
    """Writes down what an actor reports of deaths, and that all is forgiven to clips that were done after all."""
    for line in news:
        if "forgiven" in line:
            attempts.forgive(line["forgiven"])
        else:
            attempts.record(line["died"], line["stage"], line["reason"])
    for sample, row in zip(batch.samples, rows, strict=True):
        if row["status"] != QUARANTINED:  # an actor that was lost took with it that it had forgiven
            attempts.forgive(sample.id)
