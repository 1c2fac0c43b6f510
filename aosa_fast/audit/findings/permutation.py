"""Whether a class differs from all others: a permutation test over classes and cells at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEAST_CLIPS = 5  # of a class, to be tested
_FLOOR = 1e-3  # of a cell's standard deviation: shares that hardly vary are not evidence


@dataclass(frozen=True, eq=False)
class Test:
    """What a test says of C classes and p cells."""

    __test__ = False  # pytest, this is no test case

    classes: NDArray[np.int64]  # (C,), those tested
    excess: Floats  # (C, p), mean of the class, above the quantile of the other classes' means
    significant: NDArray[np.bool_]  # (C, p), above the 95 % point of the largest value that permuted labels give
    p_values: Floats  # (C,), of the class' largest cell, corrected for all classes and cells


def compare_classes(
    values: NDArray[np.floating], labels: NDArray[np.int64], sources: NDArray[np.int64] | None = None, *,
    quantile: float = 0.5, permutations: int = 999, per_class: int = 200, seed: int = 0,
) -> Test | None:  # fmt: skip
    """Holds the mean of each class in each cell against the other classes.

    The statistic of a class and a cell is the class' mean less a quantile of the other classes' means, in standard
    errors from the spread over all clips; no mean of them, so that a few odd classes do not make the others look odd.
    Its distribution comes from permuted labels, of which the largest value over all classes and cells counts: p-values
    are corrected for both (Westfall and Young's maxT), as those of scipy.stats.permutation_test are not.

    Args:
        values: (n, p).
        labels: (n,) class of each clip.
        sources: (n,) what each clip was cut from; clips of one class and one source count once, by their mean.
        quantile: of the other classes' means: 0.5, where few of them are odd; less, where many may be.
        permutations: how many; the least p-value is 1 / (1 + permutations).
        per_class: at most so many clips of each class are used, the choice being random.
        seed: of the choice and of the permutations.

    Returns:
        The test, or None where fewer than two classes have `LEAST_CLIPS` clips, or sources.
    """
    from scipy.sparse import csc_array

    rng = np.random.default_rng(seed)
    if sources is not None:
        values, labels = _by_source(values, labels, sources)
    classes, counts = np.unique(labels, return_counts=True)
    classes = classes[counts >= LEAST_CLIPS]
    if len(classes) < 2:
        return None
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in classes]
    sizes = np.array([len(own) for own in chosen])
    used = np.asarray(values[np.concatenate(chosen)], np.float64)
    spread = np.maximum(used.std(0), _FLOOR) / np.sqrt(sizes)[:, None]
    members = np.repeat(np.arange(len(classes)), sizes)

    def excess(order: NDArray[np.int64] | slice = slice(None)) -> Floats:
        # A product of the classes' membership with the values reads these as they lie in memory, where to permute them
        # would fetch each from elsewhere: five to eight times as fast.
        of_rows = np.empty_like(members)
        of_rows[order] = members
        membership = csc_array((np.ones(len(used)), of_rows, np.arange(len(used) + 1)), shape=(len(classes), len(used)))
        means = membership @ used / sizes[:, None]
        return np.asarray(means - quantile_of_others(means, quantile))

    found = excess()
    statistic = found / spread
    largest = np.array([(excess(rng.permutation(len(used))) / spread).max() for _ in range(permutations)])
    exceed = (largest[None] >= statistic.max(1)[:, None]).sum(1)
    critical = np.quantile(largest, 0.95)
    return Test(classes, found, statistic > critical, (1 + exceed) / (1 + permutations))


def _by_source(
    values: NDArray[np.floating], labels: NDArray[np.int64], sources: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """The mean of each class' clips of each source, and its class."""
    pairs, members, counts = np.unique(
        np.stack([labels, sources], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    if len(pairs) == len(values):
        return np.asarray(values, np.float64), labels
    order = np.argsort(members.ravel(), kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.add.reduceat(np.asarray(values, np.float64)[order], starts, axis=0) / counts[:, None], pairs[:, 0]


def quantile_of_others(means: Floats, quantile: float = 0.5) -> Floats:
    """For each row of (C, p), a quantile over all other rows, as numpy.quantile interpolates; C is at least 2."""
    count = len(means)
    order = np.argsort(means, axis=0, kind="stable")
    ranked = np.take_along_axis(means, order, axis=0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(count)[:, None], axis=0)

    def without_own(i: int) -> Floats:
        """The i-th smallest of the others: of all, or the next where one's own is among those before."""
        return np.where(rank > i, ranked[i], ranked[min(i + 1, count - 1)])

    place = quantile * (count - 2)
    below = int(place)
    part = place - below
    if not part:
        return without_own(below)
    return np.asarray((1 - part) * without_own(below) + part * without_own(below + 1))
