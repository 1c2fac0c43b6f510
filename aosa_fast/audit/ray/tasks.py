"""What the driver of an audit and its actors on a Ray cluster hand to each other."""

from __future__ import annotations

import os
import pickle
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.settings import Setup
from aosa_fast.audit.tasks import Row
from aosa_fast.audit.workers.attempts import Suspects
from aosa_fast.audit.workers.pool import Pool

if TYPE_CHECKING:
    from aosa_fast.data import Dataset, Sample


@dataclass(frozen=True)
class Work:
    """What an actor needs to begin.

    Attributes:
        setup: for its pool.
        dataset: without samples.
        device: where its model is put.
        readers: processes that read.
        factories: of what reads and explains, see `aosa_fast.audit.workers.pool.Pool`.
        folder: that relative paths start from, where the machine has it.
        path: where modules are looked for, as far as the machine has it.
        weights: hash of the weights that the model must have; None at first.
    """

    setup: Setup
    dataset: Dataset
    device: str
    readers: int
    factories: Mapping[str, str]
    folder: str
    path: tuple[str, ...]
    weights: str | None = None

    def make_pool(self) -> Pool:
        """A pool, not started yet, in a process that finds files and modules as the driver does."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        sys.path.extend(place for place in self.path if place not in sys.path and os.path.exists(place))
        return Pool(
            self.setup, self.dataset, devices=[self.device], readers=self.readers, factories=dict(self.factories)
        )


@dataclass(frozen=True)
class Group:
    """Samples that are explained together.

    Attributes:
        number: of the group.
        samples: in the order of the data.
        deaths: (id, how many, stage, reason) of processes that died over its clips in earlier runs.
    """

    number: int
    samples: tuple[Sample, ...]
    deaths: tuple[tuple[str, int, str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What became of a group.

    Attributes:
        number: of the group; None if nothing can be done here at all.
        rows: of its samples, in their order.
        record: processes that died over clips, or that were forgiven, as `workers.attempts` writes them.
        refusal: why nothing can be done.
    """

    number: int | None
    rows: tuple[Row, ...] = ()
    record: tuple[dict[str, Any], ...] = ()
    refusal: str = ""


class Deaths(Suspects):
    """The record of deaths of one task, without a file: the driver writes down what comes with the answers."""

    def __init__(self, groups: Sequence[Group]) -> None:
        """Begins with what is known of earlier runs."""
        super().__init__(lambda line, sync: self._news.append(line))
        self._news: list[dict[str, Any]] = []
        for group in groups:
            for id, count, stage, reason in group.deaths:
                for _ in range(count):
                    self.take({"died": [id], "stage": stage, "reason": reason})

    def news(self) -> tuple[dict[str, Any], ...]:
        """What was recorded since this was last asked."""
        news, self._news = self._news, []
        return tuple(news)


def dump(value: Any) -> bytes:
    """As few bytes as quickly make up a value: names and paths of clips have much in common."""
    return zlib.compress(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), 1)


def load(content: bytes) -> Any:
    """What `dump` was given."""
    return pickle.loads(zlib.decompress(content))
