"""One pass over an audit's rows: what adds up over parts, and a sample of the clips for what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aosa_fast.audit.findings.clips import COLUMNS, GRIDS, Clips, Floats, PlainClips, read_clips
from aosa_fast.audit.findings.reservoir import Reservoir
from aosa_fast.audit.findings.sources import number_sources
from aosa_fast.audit.store.parts import STATUSES, iter_rows, read_rows
from aosa_fast.audit.tasks import OK
from aosa_fast.boundary import reading
from aosa_fast.errors import InputError

# Clips whose grids are kept, 4.4 kB each: 400 of each of 100 classes, as many as are clustered.
SAMPLE = 40_000
_SOURCE = ("group", "frame_hash", "appearance")
_ERRORS, _NAMED = 20, 5  # messages that are told, and clips of each
_MESSAGES = 10_000  # different ones that are counted at once


class ClassMeans:
    """The mean grids of each class, of its clips that have a map, as sums."""

    def __init__(self) -> None:
        self._index: dict[int, int] = {}
        self._counts = np.zeros(0, np.int64)
        self._sums = {name: np.zeros((0, *shape)) for name, shape in GRIDS.items()}

    def add(self, clips: Clips) -> ClassMeans:
        """Counts more clips, and gives back itself."""
        use = np.flatnonzero(clips.has_map)
        own = use[np.argsort(clips.target[use], kind="stable")]
        classes, starts, counts = np.unique(clips.target[own], return_index=True, return_counts=True)
        places = [self._index.setdefault(label, len(self._index)) for label in classes.tolist()]
        more = len(self._index) - len(self._counts)
        self._counts = np.append(self._counts, np.zeros(more, np.int64))
        self._counts[places] += counts
        for name, grid in clips.grids.items():
            sums = self._sums[name]
            self._sums[name] = sums = np.concatenate([sums, np.zeros((more, *sums.shape[1:]))]) if more else sums
            if len(own):
                sums[places] += np.add.reduceat(grid[own], starts, axis=0)
        return self

    def mean(self, name: str, label: int) -> Floats:
        """Of one grid of one class; 0 where no clip has a map."""
        place = self._index.get(label)
        if place is None:
            return np.zeros(GRIDS[name], np.float32)
        return np.asarray(self._sums[name][place] / self._counts[place], np.float32)


@dataclass
class _Failures:
    """Clips by status, and the commonest errors."""

    counts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(STATUSES, 0)))
    messages: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, batch: pa.RecordBatch) -> None:
        self.counts.update(batch["status"].to_pylist())
        failed = batch.filter(pa.compute.not_equal(batch["status"], OK))
        for name, message in zip(failed["id"].to_pylist(), failed["error"].to_pylist(), strict=True):
            # The same fault of many clips: each message begins with the clip's own name or path.
            count, ids = self.messages.get(str(message), (0, []))
            self.messages[str(message)] = count + 1, [*ids, name][:_NAMED]
        if len(self.messages) > 2 * _MESSAGES:
            self.messages = dict(self._ranked(_MESSAGES))

    def commonest(self) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
        return tuple((message, count, tuple(ids)) for message, (count, ids) in self._ranked(_ERRORS))

    def _ranked(self, most: int) -> list[tuple[str, tuple[int, list[str]]]]:
        return sorted(self.messages.items(), key=lambda item: -item[1][0])[:most]


@dataclass(frozen=True, eq=False)
class Sums:
    """What a report is made of.

    Attributes:
        rows: all explained clips; numbers are float32 where there are more than `clips`.
        clips: those whose grids are kept: all of them in their order, or a sample.
        means: of the grids of all clips.
        counts: clips by status.
        errors: for the commonest error messages: (message, how many, ids of a few).
    """

    rows: PlainClips
    clips: Clips
    means: ClassMeans
    counts: dict[str, int]
    errors: tuple[tuple[str, int, tuple[str, ...]], ...]


def sum_rows(folder: Path, *, seed: int = 0, most: int = SAMPLE) -> Sums:
    """Reads an audit's rows once.

    Args:
        folder: of the audit.
        seed: of the sample.
        most: clips of the sample, the same number of each class, or all that a class has. Which ones does not depend
            on how the rows are spread over parts.

    Raises:
        InputError: there is no explained clip, the folder is no audit, or a clip has two rows.
    """
    means, failures, sample, columns = ClassMeans(), _Failures(), Reservoir(most), _Columns()
    keys: list[NDArray[np.uint64]] = []
    for batch in iter_rows(folder, [*COLUMNS, "error", *_SOURCE]):
        keys.append(_keys(batch["id"], seed))
        failures.add(batch)
        with reading(folder, "must hold rows as an audit writes them"):
            clips = read_clips(batch)
        if not len(clips):
            continue
        means.add(clips)
        explained = batch["status"].to_numpy(zero_copy_only=False) == OK
        told = batch.filter(pa.array(explained))
        arrays = {**clips.grids, **{name: np.array(told[name].to_pylist(), object) for name in _SOURCE}}
        sample.add(clips.target, keys[-1][explained], columns.count + np.arange(len(clips)), arrays)
        columns.add(clips.columns, np.dtype(np.float64 if columns.count + len(clips) <= most else np.float32))
    if not columns.count:
        raise InputError(f"{folder}: must hold at least one explained clip; got none")
    _check_unique(folder, keys)
    rows = PlainClips(columns.join())
    chosen, arrays = sample.finish()
    some = rows.columns if len(chosen) == len(rows) else {name: own[chosen] for name, own in rows.columns.items()}
    with reading(folder, "must hold rows as an audit writes them"):
        source = number_sources(*(arrays.pop(name).tolist() for name in _SOURCE))
    kept = Clips({**some, "source": source}, arrays)
    everyone = kept if len(kept) == len(rows) else rows
    return Sums(everyone, kept, means, dict(failures.counts), failures.commonest())


def iter_clips(folder: Path) -> Iterator[Clips]:
    """The explained clips of an audit, a few at a time; without their sources. Raises InputError as `sum_rows`."""
    for batch in iter_rows(folder, COLUMNS):
        with reading(folder, "must hold rows as an audit writes them"):
            clips = read_clips(batch)
        if len(clips):
            yield clips


class _Columns:
    """Columns that grow, each in one piece: of many small ones the heap would keep the gaps."""

    def __init__(self) -> None:
        self.count = 0
        self._held: dict[str, NDArray[Any]] = {}

    def add(self, columns: dict[str, NDArray[Any]], number: np.dtype[Any]) -> None:
        """PlainClips, by column; `number` is the type that floats are kept in from now on."""
        end = self.count + len(columns["id"])
        for name, values in columns.items():
            kind = number if values.dtype.kind == "f" else values.dtype
            if name == "id":
                kind = np.dtypes.StringDType()  # half of what Python's texts take
            held = self._held.get(name, np.empty(0, kind))
            if len(held) < end or held.dtype != kind:
                grown = np.empty(max(2 * self.count, end), kind)
                grown[: self.count] = held[: self.count]
                self._held[name] = held = grown
            held[self.count : end] = values
        self.count = end

    def join(self) -> dict[str, NDArray[Any]]:
        return {name: held[: self.count] for name, held in self._held.items()}


def _keys(ids: pa.Array, seed: int) -> NDArray[np.uint64]:
    """A hash of each id and the seed."""
    salt = str(seed).encode()[-blake2b.SALT_SIZE :]
    texts = ids.cast(pa.binary()).to_pylist()
    return np.frombuffer(b"".join(blake2b(text, digest_size=8, salt=salt).digest() for text in texts), np.uint64)


def _check_unique(folder: Path, keys: list[NDArray[np.uint64]]) -> None:
    together = np.sort(np.concatenate(keys))
    if (together[1:] == together[:-1]).any():
        read_rows(folder, ["id"])  # says which clip has two rows, and where, unless it is the hashes that are equal
