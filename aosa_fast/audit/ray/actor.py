"""What runs on the machines of a Ray cluster during an audit: actors, each with a pool of processes of its own.

Clips are read and explained in the pool's processes, so that one which crashes, hangs or exits ends one of these, and
never an actor: Ray would start that again, with the same clips, for ever.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.ray.tasks import Answer, Deaths, Group, Work, dump, load
from aosa_fast.audit.tasks import QUARANTINED, Row, failed_row, row_id
from aosa_fast.audit.workers.worker import describe
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    import pyarrow

    from aosa_fast.audit.settings import Ready
    from aosa_fast.audit.workers.pool import Pool
    from aosa_fast.data import Sample

LOSSES = 2  # actors that may be lost with the same clips in their hands, before a clip is held to be the reason
_PATIENCE = 60.0  # seconds to wait for the list of clips in hand, without which the work goes on


class Hands:
    """A list, kept by an actor of its own, of what the others have in their hands, so that it outlives them."""

    def __init__(self, _: object = None) -> None:
        self._taken: Counter[str] = Counter()

    def take(self, key: str) -> int:
        """Notes that work has begun, and returns how often it had begun before without an end."""
        self._taken[key] += 1
        return self._taken[key] - 1

    def drop(self, key: str) -> None:
        """Notes that it has ended."""
        self._taken.pop(key, None)


class Greeter:
    """An actor that loads the model once, to say what it is."""

    def here(self) -> bool:
        """Whether it runs."""
        return True

    def greet(self, work: Work) -> tuple[Ready | None, str]:
        """What the process that explains says of the model, or why it cannot be loaded."""
        try:
            with work.make_pool() as pool:
                return pool.start(), ""
        except InputError as error:
            return None, str(error)


class Explainers:
    """An actor of Ray Data: takes tasks, several groups each, and gives an answer for each group.

    Answers come in the order of the groups: when an actor is lost, Ray does the task once more, and passes over as
    many answers as it has, whatever is in them.
    """

    def __init__(self, work: Work, hands: Any) -> None:
        """Does nothing yet: what goes wrong here would be tried again and again.

        Args:
            work: see there.
            hands: handle of the actor that is a `Hands`.
        """
        self._work, self._hands = work, hands
        self._pool: Pool | None = None

    def __call__(self, batch: pyarrow.Table) -> Iterator[pyarrow.Table]:
        """Explains the groups of tasks.

        Args:
            batch: tables with the columns "number" of the task, "groups": from `dump`.

        Yields:
            A table with the column "answer", an `Answer` from `dump`, for each group.
        """
        import pyarrow

        for task in batch.to_pylist():
            key = f"task {task['number']}"
            suspect = self._take(key) >= LOSSES
            try:
                for answer in self.explain(load(task["groups"]), suspect):
                    yield pyarrow.table({"answer": pyarrow.array([dump(answer)], pyarrow.binary())})
            except InputError as error:
                refusal = Answer(None, refusal=f"{error} (on {socket.gethostname()})")
                yield pyarrow.table({"answer": pyarrow.array([dump(refusal)], pyarrow.binary())})
            self._drop(key)

    def explain(self, groups: Sequence[Group], suspect: bool) -> Iterator[Answer]:
        """Explains the groups of a task.

        Args:
            groups: of which only the last one may have fewer samples than `settings.batch`.
            suspect: whether actors were lost with them: then one clip is done at a time.

        Yields:
            An answer for each group, in their order.

        Raises:
            InputError: nothing can be done here at all.
        """
        left, deaths = deque(groups), Deaths(groups)
        while left:
            work = list(left)
            try:
                for rows in self._one_by_one(work, deaths) if suspect else self._together(work, deaths):
                    yield Answer(left.popleft().number, tuple(rows), deaths.news())
            except InputError:
                raise
            except Exception as error:  # noqa: BLE001 - an exception would end the whole job
                group, text = left.popleft(), describe(error)
                rows = [failed_row(sample, "explain", text) for sample in group.samples]
                yield Answer(group.number, tuple(rows), deaths.news())

    def _together(self, groups: Sequence[Group], deaths: Deaths) -> Iterator[Sequence[Row]]:
        """Rows of each group, in the order of the groups."""
        place = {row_id(group.samples[0]): i for i, group in enumerate(groups)}
        ready: dict[int, list[Row]] = {}
        done = 0
        for rows in self._run((sample for group in groups for sample in group.samples), deaths):
            ready[place[rows[0]["id"]]] = rows
            while done in ready:
                yield ready.pop(done)
                done += 1

    def _one_by_one(self, groups: Sequence[Group], deaths: Deaths) -> Iterator[Sequence[Row]]:
        """The same, with one clip in this actor's hands at a time, so that it is known which one it was lost with."""
        for group in groups:
            rows: list[Row] = []
            for sample in group.samples:
                key = f"clip {sample.id}"
                lost = self._take(key)
                if lost >= LOSSES:
                    text = f"{LOSSES + lost} actors were lost with it, {lost} of them while they had no other clip"
                    rows.append(failed_row(sample, "explain", text, status=QUARANTINED, attempts=lost))
                else:
                    rows += [row for some in self._run([sample], deaths) for row in some]
                self._drop(key)
            yield rows

    def _run(self, samples: Iterable[Sample], deaths: Deaths) -> Iterator[list[Row]]:
        if self._pool is None:
            self._pool = self._work.make_pool()
        weights = self._pool.start().weights
        if weights != self._work.weights:
            raise InputError(
                f"model={self._work.setup.model} must be the same on all machines; "
                f"its weights are {self._work.weights} and {weights}"
            )
        return self._pool.run(samples, deaths)

    def _take(self, key: str) -> int:
        import ray

        try:
            return int(ray.get(self._hands.take.remote(key), timeout=_PATIENCE))
        except ray.exceptions.RayError:
            return 0  # its machine is lost; the worst that follows is one more try

    def _drop(self, key: str) -> None:
        self._hands.drop.remote(key)
