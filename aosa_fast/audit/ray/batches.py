"""Which clips the actors on a Ray cluster get next, and how one is found with which actors are lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aosa_fast.audit.tasks import QUARANTINED, Row, failed_row, row_id

if TYPE_CHECKING:
    from aosa_fast.data import Sample

LOSSES = 2  # actors that may be lost with the same clips before each is tried alone, and then with that one alone
_MOST = 32  # batches at once: when they are done, the actor's processes have nothing to do for a moment
_CALLS_EACH = 8  # calls that an actor gets at least, as long as there are clips enough, so that all end together


@dataclass(eq=False)
class Batch:
    """Clips that are explained together: a group of clips that follow each other, or one of them."""

    samples: Sequence[Sample]
    rows: dict[str, Row | None]  # of the whole group by id, in its order; None until they are known
    losses: int = 0  # actors that were lost with it


class Batches:
    """The clips of a run that have no row yet.

    Attributes:
        losses: actors that were lost since a row was last known.
    """

    def __init__(self, samples: Sequence[Sample], size: int, actors: int) -> None:
        """Cuts nothing yet; `size` is that of a group, `actors` how many share them."""
        self.losses = 0
        self._samples, self._size, self._actors = samples, size, actors
        self._begun = self._open = 0  # samples that were handed out once, groups of theirs without all rows
        self._again: deque[Batch] = deque()  # of actors that were lost

    @property
    def waiting(self) -> int:
        """How many batches no actor has."""
        return len(self._again) + math.ceil((len(self._samples) - self._begun) / self._size)

    @property
    def finished(self) -> bool:
        """Whether all rows are known."""
        return not self.waiting and not self._open

    def take(self) -> list[Batch]:
        """What an actor gets next: much at first, little at the end, where actors would wait for each other.

        A batch with which an actor was lost comes by itself, so that no other one is lost with it again.
        """
        if self._again:
            return [self._again.popleft()]
        count = min(max(self.waiting // (_CALLS_EACH * self._actors), 1), _MOST)
        begin, self._begun = self._begun, min(self._begun + count * self._size, len(self._samples))
        groups = [self._samples[i : i + self._size] for i in range(begin, self._begun, self._size)]
        self._open += len(groups)
        return [Batch(group, dict.fromkeys(map(row_id, group))) for group in groups]

    def done(self, batch: Batch, rows: Iterable[Row]) -> list[Row]:
        """Takes the rows of a batch, and returns those of its group once all are there; else none."""
        self.losses = 0
        batch.rows.update((row["id"], row) for row in rows)
        group = [row for row in batch.rows.values() if row is not None]
        if len(group) < len(batch.rows):
            return []  # together, so that a later run that goes on here forms the other groups as before
        self._open -= 1
        return group

    def lost(self, batches: Sequence[Batch]) -> list[list[Row]]:
        """Takes back what an actor had that was lost, and returns the rows of groups that this completes.

        Those that come again are done one after the other: what the first of them does to actors is known the sooner.
        """
        self.losses += 1
        complete = []
        for batch in reversed(batches):
            batch.losses += 1
            if batch.losses == LOSSES:
                self._again.extendleft(Batch([sample], batch.rows, LOSSES) for sample in reversed(batch.samples))
            elif batch.losses < 2 * LOSSES:
                self._again.appendleft(batch)
            else:
                alone = batch.losses - LOSSES
                text = f"{batch.losses} actors were lost with it, {alone} of them while they had no other clip"
                row = failed_row(batch.samples[0], "explain", text, status=QUARANTINED, attempts=alone)
                complete.append(self.done(batch, [row]))
        return [rows for rows in complete if rows]
