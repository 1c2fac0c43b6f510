"""How sure a mean over clips is: percentile bootstrap (Efron, 1979), clips drawn with replacement.

Not by `scipy.stats.bootstrap`: SciPy is no dependency, it draws other numbers, and it knows no rate of class by class.
"""

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
LEVEL = 0.95  # of all resamples, the share whose statistic lies within the interval

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


def interval(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean over clips of values (n,), NaN for a clip without one; else as `rate_interval`."""
    values = _vector(values, "values")
    return rate_interval(values, np.ones(len(values)), resamples=resamples, seed=seed)


def rate_interval(
    hits: ArrayLike,
    frames: ArrayLike,
    labels: Sequence[Any] | NDArray[Any] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A rate, sum(hits) / sum(frames) over clips: all frames count the same, but clips are drawn whole.

    With labels it is the mean over classes of each class's own rate; clips are drawn within their class. A class with
    one clip adds nothing to the width of the interval, which is then too narrow.

    Args:
        hits: (n,) real, per clip.
        frames: (n,) real, at least 0, per clip; clips with 0, or NaN in either, are left out.
        labels: (n,) numbers or texts.
        resamples: how often clips are drawn.
        seed: of the draws; equal arguments give equal estimates.

    Raises:
        InputError: shapes that differ, infinite values, negative frames, no resamples.
    """
    top = _vector(hits, "hits")
    bottom = _vector(frames, "frames", len(top))
    if (bottom < 0).any():
        raise InputError(f"frames must be at least 0; got {np.nanmin(bottom)}")
    counted = (bottom > 0) & ~np.isnan(top)
    table = np.stack([top, bottom], axis=1)[counted]
    parts, seeds = [table], [np.random.SeedSequence(seed)]
    if labels is not None:
        classes = np.asarray(labels)
        if classes.shape != top.shape:
            raise InputError(f"labels must have shape ({len(top)},), one per clip; got {classes.shape}")
        classes = classes[counted]
        parts = [table[classes == label] for label in np.unique(classes)] or parts
        seeds = seeds[0].spawn(len(parts))  # so that no two classes draw the same numbers
    rates = sum(_resample(part, _rate, resamples, own) for part, own in zip(parts, seeds, strict=True))
    mean = float(np.mean([_rate(part.sum(0)) for part in parts])) if len(table) else math.nan
    low, high = _ends(np.asarray(rates) / len(parts)) if len(table) > 1 else (mean, mean)
    return Estimate(mean, float(low), float(high), len(table))


def curve_intervals(curves: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Mean of curves (n, S) over clips, and the ends of an interval at each point of its own, (S,) each.

    Raises:
        InputError: another shape, nothing in it, values that are not finite.
    """
    values = np.asarray(curves, np.float64)
    if values.ndim != 2 or 0 in values.shape or not np.isfinite(values).all():
        raise InputError(f"curves must be finite and have shape (n, S), not empty; got {values.shape}")
    low, high = _ends(_resample(values, lambda sums: sums / len(values), RESAMPLES, np.random.SeedSequence(0)))
    return values.mean(0), low, high


def _rate(sums: Floats) -> Any:
    """Numerator over denominator of (..., 2) sums; NaN for no clips."""
    return sums[..., 0] / sums[..., 1] if np.all(sums[..., 1]) else math.nan


def _resample(
    table: Floats, statistic: Callable[[Floats], Floats], resamples: int, seed: np.random.SeedSequence
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


def _ends(resampled: Floats) -> Any:
    return np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _vector(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    vector = np.asarray(values, np.float64)
    if vector.ndim != 1 or (length is not None and len(vector) != length):
        raise InputError(f"{name} must have shape ({'n' if length is None else length},); got {vector.shape}")
    if np.isinf(vector).any():
        raise InputError(f"{name} must be finite, or NaN where there is none; got infinity")
    return vector
