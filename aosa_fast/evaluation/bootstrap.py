"""How sure a mean over clips is: percentile bootstrap (Efron, 1979), clips drawn with replacement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aosa_fast.errors import InputError

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95

# Of one sign by chance alone: 2 / 2**5 = 6 % of all sets of 5 clips, and then every resample excludes 0.
_FEWEST_FOR_A_CLAIM = 6
_DRAWS = 1 << 20  # held at a time


@dataclass(frozen=True)
class Estimate:
    """A mean (or rate) over clips with its interval; written as mean ± half the width of the interval.

    Attributes:
        mean: of the clips at hand, NaN where there is none.
        low: lower end of the interval. Equal to the mean for one clip, which says nothing of its spread.
        high: upper end.
        n: clips that had a value.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval, which need not lie evenly about the mean."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval; never with fewer than 6 clips, whose intervals are too narrow."""
        return self.n >= _FEWEST_FOR_A_CLAIM and (self.low > 0 or self.high < 0)

    def text(self, decimals: int | None = None, *, sign: bool = False) -> str:
        """For tables: "0.489 ± 0.012", without the ± for a single clip, "-" for none.

        Args:
            decimals: None gives ± two digits; what is smaller than 1e-4 is then written with a power of ten.
            sign: write + before positive means.
        """
        if not self.n or math.isnan(self.mean):
            return "-"
        plus = "+" if sign else ""
        if decimals is None and 0 < max(abs(self.mean), self.half) < 1e-4:
            mean, half = f"{self.mean:{plus}.2e}", f"{self.half:.1e}"
        else:
            places = self._decimals() if decimals is None else decimals
            mean, half = f"{self.mean:{plus}.{places}f}", f"{self.half:.{places}f}"
        if not mean.strip("+-0."):
            mean = mean.lstrip("+-")  # -0.000 is no number
        return mean if self.n == 1 else f"{mean} ± {half}"

    def _decimals(self) -> int:
        """As many as give ± two digits, or, where all clips agree, the mean three."""
        size, digits = (self.half, 2) if self.half > 1e-12 * abs(self.mean) else (abs(self.mean), 3)
        return min(max(digits - 1 - math.floor(math.log10(size)), 0), 6) if size > 0 else digits

    def __str__(self) -> str:
        return self.text()


def interval(
    values: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The mean over clips, weighted or not.

    Args:
        values: (n,) real, one per clip; NaN for a clip without one, which is left out.
        weights: (n,) real, at least 0, drawn together with the values; clips of weight 0 are left out.
        resamples: how often clips are drawn.
        seed: of the draws; equal arguments give equal estimates.
        level: share of the means of all resamples that lies within the interval.

    Raises:
        InputError: shapes that differ, infinite values, negative weights, other numbers out of range.
    """
    values = _vector(values, "values")
    weights = np.ones(len(values)) if weights is None else _vector(weights, "weights", len(values))
    return ratio_interval(values * weights, weights, resamples=resamples, seed=seed, level=level)


def ratio_interval(
    numerator: ArrayLike,
    denominator: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """A micro rate, sum(numerator) / sum(denominator) over clips: all frames count the same, but clips are drawn whole.

    Args:
        numerator: (n,) real, for example hits per clip.
        denominator: (n,) real, at least 0, for example frames per clip; clips with 0, or NaN in either, are left out.
        resamples, seed, level: see `interval`.

    Raises:
        InputError: see `interval`.
    """
    table = _table(numerator, denominator)
    return _estimate(_resample(table, _rate, resamples, seed), _rate(table.sum(0)), len(table), level)


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """The mean of a - b over the clips that have both: far surer than the difference of two means.

    Args:
        a: (n,) real, one per clip.
        b: (n,) real, of the same clips in the same order.
        resamples, seed, level: see `interval`.

    Raises:
        InputError: see `interval`.
    """
    first = _vector(a, "a")
    return interval(first - _vector(b, "b", len(first)), resamples=resamples, seed=seed, level=level)


def macro_interval(
    hits: ArrayLike,
    frames: ArrayLike,
    labels: Sequence[Any] | NDArray[Any],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Estimate:
    """The mean over classes of each class's own rate, sum(hits) / sum(frames); clips are drawn within their class.

    A class with one clip adds nothing to the width of the interval, which is then too narrow.

    Args:
        hits: (n,) real, per clip.
        frames: (n,) real, at least 0, per clip; clips with 0, or NaN in either, are left out.
        labels: (n,) numbers or texts.
        resamples, seed, level: see `interval`.

    Raises:
        InputError: see `interval`.
    """
    table, classes = _table(hits, frames, keep_all=True), np.asarray(labels)
    if classes.shape != (len(table),):
        raise InputError(f"labels must have shape ({len(table)},), one per clip; got {classes.shape}")
    counted = table[:, 1] > 0
    parts = [table[counted & (classes == label)] for label in np.unique(classes[counted])]
    if not parts:
        return _estimate(np.zeros(0), math.nan, 0, level)
    streams = np.random.SeedSequence(seed).spawn(len(parts))  # so that no two classes draw the same numbers
    rates = sum(_resample(part, _rate, resamples, stream) for part, stream in zip(parts, streams, strict=True))
    mean = float(np.mean([_rate(part.sum(0)) for part in parts]))
    return _estimate(np.asarray(rates) / len(parts), mean, int(counted.sum()), level)


def curve_intervals(
    curves: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> tuple[Floats, Floats, Floats]:
    """Mean of curves over clips, with an interval at each point of its own.

    Args:
        curves: (n, S) finite, n at least 1.
        resamples, seed, level: see `interval`.

    Returns:
        The mean and the ends of the intervals, each (S,) float64.

    Raises:
        InputError: another shape, values that are not finite; or see `interval`.
    """
    values = np.asarray(curves, np.float64)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise InputError(f"curves must be finite and have shape (n, S), not empty; got {values.shape}")
    means = _resample(values, lambda sums: sums / len(values), resamples, seed)
    low, high = _ends(means, level)
    return values.mean(0), low, high


def _rate(sums: Floats) -> Any:
    """Numerator over denominator of (..., 2) sums; NaN for no clips."""
    return sums[..., 0] / sums[..., 1] if np.all(sums[..., 1]) else math.nan


def _resample(
    table: Floats,
    statistic: Callable[[Floats], Floats],
    resamples: int,
    seed: int | np.random.SeedSequence,
) -> Floats:
    """The statistic of the column sums of as many tables whose rows are drawn from those of `table` (n, k)."""
    if resamples < 1:
        raise InputError(f"resamples must be at least 1; got {resamples}")
    n = len(table)
    if not n:
        return np.zeros(0)
    rng, parts = np.random.default_rng(seed), []
    step = max(1, _DRAWS // n)
    for begin in range(0, resamples, step):
        count = min(step, resamples - begin)
        draws = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        times = np.bincount(draws.ravel(), minlength=count * n).reshape(count, n)
        parts.append(statistic(times @ table))
    return np.concatenate(parts)


def _estimate(resampled: Floats, mean: float, n: int, level: float) -> Estimate:
    if n < 2:
        return Estimate(float(mean), float(mean), float(mean), n)
    low, high = _ends(resampled, level)
    return Estimate(float(mean), float(low), float(high), n)


def _ends(resampled: Floats, level: float) -> Any:
    if not 0 < level < 1:
        raise InputError(f"level must be above 0 and below 1; got {level}")
    return np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _table(numerator: ArrayLike, denominator: ArrayLike, *, keep_all: bool = False) -> Floats:
    """(n, 2) both, without the clips that count nothing, or with zeros in their place."""
    top = _vector(numerator, "numerator")
    bottom = _vector(denominator, "denominator", len(top))
    if (bottom < 0).any():
        raise InputError(f"weights, frames and denominators must be at least 0; got {np.nanmin(bottom)}")
    counted = (bottom > 0) & ~np.isnan(top)
    table = np.where(counted[:, None], np.stack([top, bottom], axis=1), 0.0)
    return table if keep_all else table[counted]


def _vector(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    vector = np.asarray(values, np.float64)
    if vector.ndim != 1 or (length is not None and len(vector) != length):
        raise InputError(f"{name} must have shape ({'n' if length is None else length},); got {vector.shape}")
    if np.isinf(vector).any():
        raise InputError(f"{name} must be finite, or NaN where there is none; got infinity")
    return vector
