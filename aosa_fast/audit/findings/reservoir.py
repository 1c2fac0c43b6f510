"""A sample of an audit's clips, the same in whatever order and parts their rows come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SPARE = 4  # places beyond those wanted: a quarter, so that few batches need an eviction

Integers = NDArray[np.int64]
Keys = NDArray[np.uint64]


class Reservoir:
    """Of each class the clips with the smallest keys, and as many of each as `most` clips in all allow.

    What it holds of a clip is a row of each of its arrays; where all clips fit, they are in the order in which they
    came, else in that of their keys.
    """

    def __init__(self, most: int) -> None:
        """`most` clips at the end, and a quarter more on the way."""
        room = most + max(most // _SPARE, 1)
        self._most = most
        self._arrays: dict[str, NDArray[Any]] = {}
        self._keys = np.zeros(room, np.uint64)
        self._classes, self._rows = np.zeros(room, np.int64), np.zeros(room, np.int64)
        self._filled = 0
        self._limits: dict[int, np.uint64] = {}  # of the classes that lost clips: what a key must stay below

    def add(self, classes: Integers, keys: Keys, rows: Integers, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes clips: the class, the key and the number of each, and its row of each array."""
        for name, values in arrays.items():
            # Pages of memory that nothing was written to are not taken.
            self._arrays.setdefault(name, np.zeros((len(self._keys), *values.shape[1:]), values.dtype))
        left = np.arange(len(keys))
        while len(left := left[self._below(classes[left], keys[left])]):
            some = left[: len(self._keys) - self._filled]
            left = left[len(some) :]
            places = slice(self._filled, self._filled + len(some))
            self._classes[places], self._keys[places], self._rows[places] = classes[some], keys[some], rows[some]
            for name, values in arrays.items():
                self._arrays[name][places] = values[some]
            self._filled += len(some)
            if self._filled == len(self._keys):
                self._evict()

    def finish(self) -> tuple[Integers, dict[str, NDArray[Any]]]:
        """The numbers of the clips, and their arrays; the reservoir is empty after it."""
        if self._filled > self._most:
            self._evict()
        order = np.argsort(self._keys[: self._filled]) if self._limits else np.arange(self._filled)
        arrays = {}
        for name in list(self._arrays):  # one after the other: a copy of all would be the peak
            values = self._arrays.pop(name)[: self._filled]
            arrays[name] = values[order] if self._limits else values
        return self._rows[: self._filled][order], arrays

    def _below(self, classes: Integers, keys: Keys) -> NDArray[np.bool_]:
        if not self._limits:
            return np.ones(len(keys), bool)
        own, place = np.unique(classes, return_inverse=True)
        highest = np.iinfo(np.uint64).max
        limits = np.array([self._limits.get(int(label), highest) for label in own], np.uint64)
        return np.asarray(keys < limits[place])

    def _evict(self) -> None:
        """Makes room: the places of clips that go are taken by the last of those that stay."""
        classes, keys = self._classes[: self._filled], self._keys[: self._filled]
        kept = smallest(classes, keys, self._most)
        for label in np.unique(classes[~kept]):
            own = keys[kept & (classes == label)]
            self._limits[int(label)] = own.max() if len(own) else np.uint64(0)
        count = int(kept.sum())
        holes, movers = np.flatnonzero(~kept[:count]), count + np.flatnonzero(kept[count:])
        for values in (self._classes, self._keys, self._rows, *self._arrays.values()):
            values[holes] = values[movers]
        self._filled = count


def smallest(groups: Integers, keys: Keys, most: int) -> NDArray[np.bool_]:
    """(n,) which of n are among the smallest of their group, of each group as many as `most` in all allow."""
    _, members, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((keys, members))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    # What each group may have is found by halving.
    low, high = 0, int(counts.max()) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= most else (low, middle)
    return ranks < low
