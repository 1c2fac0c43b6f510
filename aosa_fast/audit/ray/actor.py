"""What runs on the machines of a Ray cluster during an audit: actors, each with a pool of processes of its own.

Clips are read and explained in the pool's processes, so that one which crashes, hangs or exits ends one of these, and
never an actor.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.workers.attempts import Suspects
from aosa_fast.audit.workers.pool import Pool
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.audit.settings import Ready, Setup
    from aosa_fast.audit.tasks import Row
    from aosa_fast.data import Dataset, Sample

Line = dict[str, Any]  # of the record of deaths, as `Suspects` writes it


class Explainers:
    """An actor: explains groups of clips with a pool, which stays as long as the actor does."""

    def __init__(
        self, setup: Setup, dataset: Dataset, pool: Mapping[str, Any], folder: str, path: Sequence[str]
    ) -> None:
        """Does nothing yet: what goes wrong here could not be told to the driver.

        Args:
            setup, dataset, pool: the arguments of `Pool`, the last ones by name.
            folder: that relative paths start from, where this machine has it.
            path: where modules are looked for, as far as this machine has it.
        """
        self._setup, self._dataset, self._arguments = setup, dataset, pool
        self._folder, self._path = folder, path
        self._pool: Pool | None = None

    def start(self) -> Ready:
        """As `Pool.start`."""
        if self._pool is None:
            if os.path.isdir(self._folder):
                os.chdir(self._folder)
            sys.path.extend(place for place in self._path if place not in sys.path and os.path.exists(place))
            self._pool = Pool(self._setup, self._dataset, **self._arguments)
        return self._pool.start()

    def explain(
        self, weights: str | None, groups: Sequence[Sequence[Sample]], known: Iterable[Line]
    ) -> Iterator[tuple[list[Row], list[Line]]]:
        """Yields the rows of each group as it is done, and what is new of deaths.

        Args:
            weights: hash of those that the model must have.
            groups: of `settings.batch` samples, the last one maybe of fewer.
            known: of earlier deaths over these clips.

        Raises:
            InputError: nothing can be done here at all.
        """
        try:
            found = self.start().weights
            if found != weights:
                raise InputError(
                    f"model={self._setup.model} must be the same on all machines; its weights are {weights} and {found}"
                )
            assert self._pool is not None
            news: list[Line] = []
            deaths = Suspects(lambda line, sync: news.append(line))
            for line in known:
                deaths.take(line)
            for rows in self._pool.run((sample for group in groups for sample in group), deaths):
                yield rows, news[:]
                news.clear()
        except InputError as error:
            raise InputError(f"{error} (on {socket.gethostname()})") from None
