"""A random part of each class' clips, the same whoever wrote which of them first."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable

from aosa_fast.audit.findings.sources import number_sources
from aosa_fast.audit.tasks import Row

SOURCE = ("group", "frame_hash", "appearance")  # what tells a clip's source
_SPARE = 4  # times as many rows as are wanted, before each source counts once


class Draw:
    """Takes rows, and keeps some of each class: those whose ids have the smallest hashes."""

    def __init__(self, most: int, seed: int) -> None:
        self._most, self._seed = most, seed
        self._rows: dict[Hashable, list[tuple[bytes, Row]]] = {}

    def add(self, key: Hashable, row: Row) -> None:
        """Takes a row of a class, with the columns `id` and `SOURCE`."""
        digest = hashlib.blake2b(f"{self._seed}:{row['id']}".encode("utf-8", "backslashreplace"), digest_size=8)
        rows = self._rows.setdefault(key, [])
        rows.append((digest.digest(), row))
        if len(rows) >= 2 * _SPARE * self._most:
            rows.sort(key=lambda entry: entry[0])
            del rows[_SPARE * self._most :]

    def rows(self, key: Hashable) -> list[Row]:
        """At most so many rows of a class as are wanted, one of each source."""
        ranked = sorted(self._rows.get(key, ()), key=lambda entry: entry[0])
        return once([row for _, row in ranked[: _SPARE * self._most]])[: self._most]

    @property
    def classes(self) -> tuple[Hashable, ...]:
        """Those that have rows."""
        return tuple(self._rows)


def once(rows: list[Row]) -> list[Row]:
    """The first row of each source."""
    first: dict[int, Row] = {}
    for number, row in zip(number_sources(*([row[name] for row in rows] for name in SOURCE)), rows, strict=True):
        first.setdefault(int(number), row)
    return list(first.values())
