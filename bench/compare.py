"""What differs between two runs by more than chance: intervals of medians, from the rounds of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

from aosa_fast.bench.rows import Row, name_of, read_rows
from aosa_fast.errors import InputError

LEVEL = 0.95  # that no row is named where nothing has changed, all rows together
FEWEST = 6  # rounds without which a spread says nothing
_DRAWS = 400
# Of a normal distribution: p80 - p20 in standard deviations, and the median's error over the mean's.
_WIDTH, _MEDIAN = 1.683, 1.2533


@dataclass(frozen=True)
class Change:
    """From one run to another.

    Attributes:
        name: of the row.
        unit: of its values.
        before: the median of one run.
        after: that of the other.
        margin: beyond which their difference is no chance; NaN where there are too few rounds.
    """

    name: str
    unit: str
    before: float
    after: float
    margin: float

    @property
    def is_real(self) -> bool:
        """Whether it is beyond noise."""
        return abs(self.after - self.before) > self.margin

    def text(self) -> str:
        """A line."""
        values = f"{self.before:.4g} -> {self.after:.4g} {self.unit}"
        if self.before <= 0:
            return f"{self.name}: {values}"
        low, ratio, high = ((self.after + d) / self.before for d in (-self.margin, 0, self.margin))
        return f"{self.name}: {values}, {ratio:.3f} times ({low:.3f} to {high:.3f})"


def compare(before: Path, after: Path) -> list[str]:
    """Lines: what has changed, the largest change first, and how many rows have not, or cannot tell.

    Raises:
        InputError: a file cannot be read, or the two have no row in common.
    """
    first, second = ({name_of(row): row for row in read_rows(path)} for path in (before, after))
    both = [name for name in first if name in second]
    if not both:
        raise InputError(f"{before} and {after} must have rows in common; they have none")
    changes = [change(name, first[name], second[name], len(both)) for name in both]
    real = sorted((c for c in changes if c.is_real), key=lambda c: -abs(c.after - c.before) / max(abs(c.before), 1e-12))
    unknown = sum(np.isnan(c.margin) for c in changes)
    lines = [f"{len(real)} of {len(both)} rows have changed beyond noise", *(f"  {c.text()}" for c in real)]
    if unknown:
        lines.append(f"fewer than {FEWEST} rounds, so that none can tell: {unknown} of them")
    for path, one, other in ((before, first, second), (after, second, first)):
        alone = len(one.keys() - other.keys())
        if alone:
            lines.append(f"in {path} only: {alone} more")
    machines = {str(rows[name]["machine"]) for rows in (first, second) for name in both}
    if len(machines) > 1:
        lines.append(f"on different machines, so that ratios can be compared and times cannot: {'; '.join(machines)}")
    return lines


def change(name: str, before: Row, after: Row, among: int) -> Change:
    """Of one row in two runs, as one of so many that are looked at together."""
    quantile = NormalDist().inv_cdf(1 - (1 - LEVEL) / among / 2)
    margin = quantile * float(np.hypot(error_of(before), error_of(after)))
    return Change(name, before["unit"], before["value"], after["value"], margin)


def error_of(row: Row, rounds: int | None = None) -> float:
    """The standard error of a median: by resampling its rounds, or from its p20 and p80; NaN for too few rounds.

    Or that of so many other rounds like these.
    """
    if row["repeats"] < FEWEST:
        return float("nan")
    if row["rounds"] is None or rounds is not None:
        return float(_MEDIAN * (row["p80"] - row["p20"]) / _WIDTH / np.sqrt(rounds or row["repeats"]))
    values = np.array(row["rounds"], float)
    drawn = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    return float(np.median(values[drawn], axis=1).std(ddof=1))
