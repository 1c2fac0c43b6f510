"""Rows of an evaluation, one per clip and method, as tables with intervals (paper: Tables I to IV)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import Estimate, Floats, rate_interval
from aosa_fast.evaluation.metrics import FACTS, METRICS, Column, Row
from aosa_fast.methods.registry import METHODS

# A method that ran on fewer of the clips than this share is not compared: its clips may have been easier.
_SHARE_TO_COMPARE = 0.9

_SHARED = [column for metric in METRICS.values() if not metric.title for column in metric.columns]
COLUMNS = {column.key: column for column in (*_SHARED, *FACTS) if column.heading and column.kind != "reals"}
"""What the main table can hold, by key and in its order."""


@dataclass(frozen=True)
class Summary:
    """What one method reached.

    Attributes:
        method: its name.
        n: clips that it explained.
        missing: clips of the evaluation that it has no result for: failed, or not asked for.
        estimates: per key of `COLUMNS`; `Estimate.n` is the number of clips that had this value (and boxes).
    """

    method: str
    n: int
    missing: int
    estimates: dict[str, Estimate]


def summarise(rows: Sequence[Row], methods: Sequence[str], *, seed: int = 0) -> list[Summary]:
    """Means over clips with their intervals, per method, in the order of `methods`.

    Args:
        rows: `clip`, `method`, and what was measured: see `evaluation.metrics`; any of it may be missing, None or NaN.
            Rows whose `status` is neither "ok" nor None count as missing. Of two rows of one clip and method, the later
            holds. Their order is no matter.
        methods: the methods to summarise.
        seed: of the bootstrap.

    Raises:
        InputError: rows without clip or method, values that are no numbers, or infinite.
    """
    data = _Data(rows)
    summaries = []
    for method in methods:
        n = len(data.by_method.get(method, {}))
        estimates = {key: data.estimate(column, *data.numbers(column, method), seed) for key, column in COLUMNS.items()}
        summaries.append(Summary(method, n, len(data.clips) - n, estimates))
    return summaries


def markdown_table(summaries: Sequence[Summary]) -> str:
    """A table in GitHub's Markdown: the best of each column in bold, the second best underlined.

    Methods compare by the printed digits; of several best ones all are bold, and none is underlined. `random` and
    `centre` come last and are never marked, nor is a method with under 90 % of the clips of the fullest one. Columns
    without any value are left out; a line names those that not all clips have a value for.
    """
    ordered = sorted(summaries, key=lambda summary: is_baseline(summary.method))
    shown = [column for key, column in COLUMNS.items() if any(summary.estimates[key].n for summary in ordered)]
    names = [summary.method for summary in ordered]
    parts = [names, [_count(summary) for summary in ordered], *(_cells(column, ordered) for column in shown)]
    table = _grid(["method", "n", *(column.heading for column in shown)], list(zip(*parts, strict=True)))
    most = {column: max(summary.estimates[column.key].n for summary in ordered) for column in shown}
    fewer = [f"{_name(column)} {n}" for column, n in most.items() if n < max(summary.n for summary in ordered)]
    return table + (f"\nOn the clips that have it only: {', '.join(fewer)}.\n" if fewer else "")


def paired_markdown(
    rows: Sequence[Row],
    methods: Sequence[str],
    references: Sequence[str],
    column: str = "overall_fill",
    *,
    seed: int = 0,
) -> str:
    """Differences of methods on the clips that both have: the row's method less the column's.

    Args:
        rows: see `summarise`.
        methods: the rows of the table.
        references: its columns.
        column: a key of `COLUMNS`.
        seed: of the bootstrap.

    Returns:
        A table in GitHub's Markdown, bold where the interval excludes 0 (which is never said of fewer than 6 clips),
        and a line that explains it. A cell names its number of clips where it is not that of the fullest cell.

    Raises:
        InputError: see `summarise`.
    """
    data, what = _Data(rows), COLUMNS[column]
    found = {}
    for method in methods:
        for reference in references:
            (mine, count), (other, other_count) = data.numbers(what, method), data.numbers(what, reference)
            # A clip whose frames with boxes differ was not measured alike.
            common = np.where(count == other_count, count, np.nan)
            found[method, reference] = data.estimate(what, mine - other, common, seed)
    most = max((e.n for (method, reference), e in found.items() if method != reference), default=0)

    def cell(method: str, reference: str) -> str:
        estimate = found[method, reference]
        if method == reference:
            return ""
        text = estimate.text(what.decimals, sign=True)
        text = f"**{text}**" if estimate.excludes_zero else text
        return f"{text} (n = {estimate.n})" if 0 < estimate.n < most else text

    lines = [[method, *(cell(method, reference) for reference in references)] for method in methods]
    note = f"{_name(what)}: the row's method less the column's, on {most} clips; bold: the 95 % interval excludes 0."
    return _grid(["method", *references], sorted(lines, key=lambda line: is_baseline(line[0]))) + f"\n{note}\n"


def is_baseline(name: str) -> bool:
    """Whether the method of an entry knows nothing of the model: last in every table, and never the best."""
    method = METHODS.get(name.partition(":")[0])
    return method is not None and not method.knows_model


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


class _Data:
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

    def estimate(self, column: Column, values: Floats, counts: Floats, seed: int) -> Estimate:
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


def _name(column: Column) -> str:
    return column.heading.rstrip(" ↑↓")


def _count(summary: Summary) -> str:
    return f"{summary.n} of {summary.n + summary.missing}" if summary.missing else str(summary.n)


def _cells(column: Column, summaries: Sequence[Summary]) -> list[str]:
    """A column's cells, the best ones marked."""
    estimates = [summary.estimates[column.key] for summary in summaries]
    least = _SHARE_TO_COMPARE * max(estimate.n for estimate in estimates)
    values, texts = [], []
    for summary, estimate in zip(summaries, estimates, strict=True):
        compared = column.better and estimate.n and estimate.n >= least and not is_baseline(summary.method)
        digits = ".3g" if column.decimals is None else f".{column.decimals}f"
        values.append(float(format(estimate.mean, digits)) * column.better if compared else None)
        decimals = column.decimals
        if decimals is None and estimate.n and estimate.mean:
            decimals = min(max(2 - math.floor(math.log10(abs(estimate.mean))), 0), 6)
        texts.append(estimate.text(decimals))
    ranks = sorted({value for value in values if value is not None}, reverse=True)
    if len(ranks) < 2:  # one method, or all alike
        return texts
    marks: dict[float | None, str] = {ranks[0]: "**{}**"}
    if values.count(ranks[0]) == 1:
        marks[ranks[1]] = "<u>{}</u>"
    return [marks.get(value, "{}").format(text) for value, text in zip(values, texts, strict=True)]


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown that can also be read as text: columns of equal width."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in [head, *lines]]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in [cells[0], rule, *cells[1:]]
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)
