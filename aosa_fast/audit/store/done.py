"""The clips that have a row, and what became of them: 16 bytes each, in a file where they are many."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.tasks import ERROR, OK, QUARANTINED
from aosa_fast.files import disk_error, write_all

_CODES = {OK: b"o", ERROR: b"e", QUARANTINED: b"q"}
_STATUSES = {code: status for status, code in _CODES.items()}
_DIGEST = 15  # bytes; the 16th is the status. Two of 1e9 ids share them once in 1e18 audits
_ENTRY = np.dtype("S16")
_RECENT = 8192  # entries that are not sorted in yet
_IN_MEMORY = 1 << 16  # entries; more are mapped from a file, of which the system keeps in memory what it has room for


class DoneIds:
    """A mapping of ids to statuses that knows an id when it is asked for, and lists none.

    Entries lie in sorted arrays, each more than twice as long as the next, so that a million are in fewer than ten.
    """

    def __init__(self, folder: Path) -> None:
        """Begins without any; `folder` holds the files, which have no names and end with this process."""
        self._folder = folder
        self._recent: dict[bytes, bytes] = {}
        self._sorted: list[NDArray[Any]] = []

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))

    def __contains__(self, id: str) -> bool:
        return self.get(id) is not None

    def __setitem__(self, id: str, status: str) -> None:
        """Takes an id that is not there yet. Raises InputError where the disk is full."""
        self._recent[_digest(id)] = _CODES[status]
        if len(self._recent) >= _RECENT:
            self._sort_in()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and all(self.get(id) == status for id, status in other.items())

    def get(self, id: str) -> str | None:
        """What became of a clip; None if it has no row."""
        digest = _digest(id)
        if digest in self._recent:
            return _STATUSES[self._recent[digest]]
        for entries in self._sorted:
            place = entries.searchsorted(np.bytes_(digest))
            if place < len(entries) and (entry := bytes(entries[place])).startswith(digest):
                return _STATUSES[entry[_DIGEST:]]
        return None

    def _sort_in(self) -> None:
        self._sorted.append(np.sort(np.array([digest + code for digest, code in self._recent.items()], _ENTRY)))
        self._recent = {}
        while len(self._sorted) > 1 and len(self._sorted[-2]) <= 2 * len(self._sorted[-1]):
            both = self._together(*self._sorted[-2:])
            both.sort()
            self._sorted[-2:] = [both]

    def _together(self, one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
        if len(one) + len(other) <= _IN_MEMORY:
            return np.concatenate([one, other])
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                # Written, not mapped and filled: a full disk would end the process there.
                write_all(file.write, one.view(np.uint8))
                write_all(file.write, other.view(np.uint8))
                file.flush()
                return np.frombuffer(mmap.mmap(file.fileno(), 0), _ENTRY)
        except OSError as error:
            raise disk_error(self._folder, error) from None


def _digest(id: str) -> bytes:
    return hashlib.blake2b(id.encode("utf-8", "surrogateescape"), digest_size=_DIGEST).digest()
