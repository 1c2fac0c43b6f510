"""Samples that are kept on the disk instead of in memory: a list of a million clips takes 12 MB."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import weakref
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from aosa_fast.data.dataset import Sample

_BLOCK = 1 << 16  # bytes that are written at once


class Spool:
    """Takes samples one after the other, into a file without a name that goes with the last who reads it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=_BLOCK)  # noqa: SIM115 - closed with the last who reads it
        self._ends = array("Q", [0])
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, sample: Sample) -> None:
        """Keeps a sample, but its label. Raises OSError."""
        content = pickle.dumps(tuple(vars(sample).values()), pickle.HIGHEST_PROTOCOL)
        self._file.write(content)
        self._ends.append(self._ends[-1] + len(content))

    def samples(self, labels: NDArray[np.int32]) -> SpooledSamples:
        """All samples, with their labels; -1: not known."""
        self._file.flush()
        return SpooledSamples(self, labels)

    def read(self, place: int, label: int) -> Sample:
        """A sample, with its label."""
        begin, end = self._ends[place : place + 2]
        if sys.platform == "win32":
            self._file.seek(begin)
            content = self._file.read(end - begin)
        else:  # processes that were forked share the place where the file is read next
            content = os.pread(self._file.fileno(), end - begin, begin)
        id, path, _, *others = pickle.loads(content)
        return Sample(id, path, None if label < 0 else label, *others)


class SpooledSamples(Sequence[Sample]):
    """Samples of a `Spool`, made when they are asked for; whoever pickles them gets a plain tuple."""

    def __init__(self, spool: Spool, labels: NDArray[np.int32], order: NDArray[np.int64] | None = None) -> None:
        """Of the spool's samples, those at the places `order`; None: all."""
        self._spool, self._labels, self._order = spool, labels, order

    def __len__(self) -> int:
        return len(self._labels if self._order is None else self._order)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...

    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        places = range(len(self))[index]
        return self._at(places) if isinstance(places, int) else tuple(map(self._at, places))

    def __iter__(self) -> Iterator[Sample]:
        return map(self._at, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)

    def take(self, places: NDArray[np.int64]) -> SpooledSamples:
        """The samples at these places, in this order."""
        return SpooledSamples(self._spool, self._labels, places if self._order is None else self._order[places])

    def count_labels(self) -> Counter[int]:
        """How many samples each label has."""
        labels = self._labels if self._order is None else self._labels[self._order]
        values, counts = np.unique(labels[labels >= 0], return_counts=True)
        return Counter(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def _at(self, index: int) -> Sample:
        place = index if self._order is None else int(self._order[index])
        return self._spool.read(place, int(self._labels[place]))
