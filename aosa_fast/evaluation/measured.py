"""Rows of an evaluation by method and clip, and their numbers: what tables, ranks and comparisons are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import Estimate, Floats, rate_interval
from aosa_fast.evaluation.metrics import FACTS, METRICS, Column, Row

_RATES = ("micro", "macro")
_SHARED = [
    column for metric in METRICS.values() for column in metric.columns if not metric.title or column.kind in _RATES
]
COLUMNS = {column.key: column for column in (*_SHARED, *FACTS) if column.heading and column.kind != "reals"}
"""What the main table can hold, by key and in its order."""


def rows_by_method(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """The rows that have a result, by method and then by clip, clips in the order of their names.

    Raises:
        InputError: rows without clip or method.
    """
    for row in rows:
        if row.get("clip") is None or row.get("method") is None:
            raise InputError(f"rows must name clip and method; got {row.get('clip')!r} and {row.get('method')!r}")
    found: dict[str, dict[str, Row]] = {}
    for row in sorted(rows, key=lambda row: str(row["clip"])):
        own = found.setdefault(str(row["method"]), {})
        own.pop(str(row["clip"]), None)  # of two rows the later holds, also where it failed
        if row.get("status") in (None, "ok"):
            own[str(row["clip"])] = row
    return found


class Measured:
    """Rows by method and clip, and their numbers in the order of the clips' names."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.by_method = rows_by_method(rows)
        self.clips = sorted({str(row["clip"]) for row in rows})
        labels = {clip: row.get("label") for own in self.by_method.values() for clip, row in own.items()}
        self._labels = np.array([_text_or_empty(labels.get(clip)) for clip in self.clips], dtype=str)

    def numbers(self, column: Column, method: str) -> tuple[Floats, Floats]:
        """What is summed up and how often it counts, (clips,) each; NaN where there is none."""
        own = self.by_method.get(method, {})
        keys = (column.key,) if column.kind == "real" else column.parts
        values, *counts = (
            np.array([_number(own[clip], key) if clip in own else math.nan for clip in self.clips]) for key in keys
        )
        return values, counts[0] if counts else np.ones(len(values))

    def count(self, column: Column, method: str) -> int:
        """How many clips of a method have a value."""
        values, counts = self.numbers(column, method)
        return int((~np.isnan(values) & (counts > 0)).sum())

    def difference(
        self, column: Column, method: str, reference: str, seed: int, its_column: Column | None = None
    ) -> Estimate:
        """A method less another one, or another column of that, on the clips that both have."""
        (mine, count), (other, other_count) = (
            self.numbers(column, method), self.numbers(its_column or column, reference),
        )  # fmt: skip
        # A clip whose frames with boxes differ was not measured alike.
        return self.estimate(column, mine - other, np.where(count == other_count, count, np.nan), seed)

    def estimate(self, column: Column, values: Floats, counts: Floats, seed: int) -> Estimate:
        """The mean or rate with its interval."""
        if column.kind != "macro":
            return rate_interval(values, counts, seed=seed)
        return rate_interval(np.where(self._labels == "", np.nan, values), counts, self._labels, seed=seed)


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        raise InputError(f"{key} must be a finite number; got {value!r} for {row['clip']}, {row['method']}")
    return number


def _text_or_empty(label: Any) -> str:
    missing = label is None or (isinstance(label, float) and math.isnan(label))
    return "" if missing else str(label)
