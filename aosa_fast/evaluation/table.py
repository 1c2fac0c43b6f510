"""Rows of an evaluation, one per clip and method, as tables with intervals (paper: Tables I to IV)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import RESAMPLES, Estimate, Floats, macro_interval, ratio_interval

Row = Mapping[str, Any]

BASELINES = ("random", "centre")
"""Methods that know nothing of the model: last in every table, and never the best."""

# A method that ran on fewer of the clips than this share is not compared: its clips may have been easier.
_SHARE_TO_COMPARE = 0.9


@dataclass(frozen=True)
class Column:
    """A quantity of the tables.

    Attributes:
        key: its name in `Summary.estimates`.
        title: its heading, with an arrow to the better side.
        better: 1 where larger is better, -1 where smaller is, 0 for neither.
        decimals: None gives the mean three digits.
        kind: "mean" over clips, "micro" (hits over frames, all clips together) or "macro" (mean of the classes' rates).
    """

    key: str
    title: str
    better: int
    decimals: int | None = 3
    kind: str = "mean"


COLUMNS = (
    Column("deletion", "Deletion ↓", -1),
    Column("insertion", "Insertion (blur) ↑", 1),
    Column("overall", "Over-all (blur) ↑", 1),
    Column("insertion_fill", "Insertion (fill) ↑", 1),
    Column("overall_fill", "Over-all (fill) ↑", 1),
    Column("spt_micro", "S-PT (micro) ↑", 1, kind="micro"),
    Column("spt_macro", "S-PT (macro) ↑", 1, kind="macro"),
    Column("energy", "Energy ↑", 1),
    Column("energy_chance", "Energy by chance", 0),
    Column("iou", "IoU ↑", 1),
    Column("seconds", "s/clip ↓", -1, decimals=None),
)
_BY_KEY = {column.key: column for column in COLUMNS}
_USUAL = tuple(column.key for column in COLUMNS if column.key != "energy_chance")


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


def summarise(
    rows: Sequence[Row], methods: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Summary]:
    """Means over clips with their intervals.

    Args:
        rows: `clip`, `method`, and what was measured: the keys of `COLUMNS`, `spt_hits` and `spt_frames` for S-PT,
            `label` for its macro rate. Any of them may be missing, None or NaN. Rows whose `status` is neither "ok"
            nor None count as missing. Of two rows of one clip and method, the later holds. Their order is no matter.
        methods: the methods to summarise, in the order of the result.
        seed: of the bootstrap.
        resamples: see `bootstrap.interval`.

    Raises:
        InputError: rows without clip or method, values that are no numbers, or infinite.
    """
    data = _Data(rows)
    summaries = []
    for method in methods:
        n = len(data.by_method.get(method, {}))
        estimates = {
            column.key: data.estimate(column, *data.numbers(column, method), seed, resamples) for column in COLUMNS
        }
        summaries.append(Summary(method, n, len(data.clips) - n, estimates))
    return summaries


def markdown_table(summaries: Sequence[Summary], columns: Sequence[str] | None = None) -> str:
    """A table in GitHub's Markdown: the best of each column in bold, the second best underlined.

    Methods compare by the printed digits; of several best ones all are bold, and none is underlined. `random` and
    `centre` come last and are never marked, nor is a method with under 90 % of the clips of the fullest one. Columns
    without any value are left out; a line names those that not all clips have a value for.

    Args:
        summaries: see `summarise`.
        columns: keys of `COLUMNS`, in this order; None for all but `energy_chance`.

    Raises:
        InputError: an unknown column.
    """
    ordered = sorted(summaries, key=lambda summary: _baseline(summary.method))
    shown = [_column(key) for key in (_USUAL if columns is None else columns)]
    shown = [column for column in shown if any(summary.estimates[column.key].n for summary in ordered)]
    cells = [[summary.method, _count(summary)] for summary in ordered]
    for column in shown:
        marks = _marks(column, ordered)
        for line, summary, mark in zip(cells, ordered, marks, strict=True):
            line.append(mark.format(_text(column, summary.estimates[column.key])))
    table = _grid(["method", "n", *(column.title for column in shown)], cells)
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
    resamples: int = RESAMPLES,
) -> str:
    """Differences of methods on the clips that both have: the row's method less the column's.

    Args:
        rows: see `summarise`.
        methods: the rows of the table.
        references: its columns.
        column: a key of `COLUMNS`.
        seed: of the bootstrap.
        resamples: see `bootstrap.interval`.

    Returns:
        A table in GitHub's Markdown, bold where the interval excludes 0 (which is never said of fewer than 6 clips),
        and a line that explains it. A cell names its number of clips where it is not that of the fullest cell.

    Raises:
        InputError: an unknown column; or see `summarise`.
    """
    data, what = _Data(rows), _column(column)
    found = {}
    for method in methods:
        for reference in references:
            (mine, count), (other, other_count) = data.numbers(what, method), data.numbers(what, reference)
            # A clip whose frames with boxes differ was not measured alike.
            common = np.where(count == other_count, count, np.nan)
            found[method, reference] = data.estimate(what, mine - other, common, seed, resamples)
    most = max((e.n for (method, reference), e in found.items() if method != reference), default=0)
    lines = []
    for method in sorted(methods, key=_baseline):
        line = [method]
        for reference in references:
            estimate = found[method, reference]
            text = "" if method == reference else estimate.text(what.decimals, sign=True)
            text = f"**{text}**" if text and estimate.excludes_zero else text
            line.append(f"{text} (n = {estimate.n})" if text and 0 < estimate.n < most else text)
        lines.append(line)
    note = f"{_name(what)}: the row's method less the column's, on {most} clips; bold: the 95 % interval excludes 0."
    return _grid(["method", *references], lines) + f"\n{note}\n"


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
        if column.kind == "mean":
            values = [_number(own[clip], column.key) if clip in own else math.nan for clip in self.clips]
            return np.array(values), np.ones(len(values))
        hits, frames = (
            np.array([_number(own[clip], key) if clip in own else math.nan for clip in self.clips])
            for key in ("spt_hits", "spt_frames")
        )
        return hits, frames

    def estimate(self, column: Column, values: Floats, counts: Floats, seed: int, resamples: int) -> Estimate:
        if column.kind == "macro":
            values = np.where(self._labels == "", np.nan, values)
            return macro_interval(values, counts, self._labels, seed=seed, resamples=resamples)
        return ratio_interval(values, counts, seed=seed, resamples=resamples)


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


def _column(key: str) -> Column:
    if key not in _BY_KEY:
        raise InputError(f"column must be one of {', '.join(_BY_KEY)}; got {key}")
    return _BY_KEY[key]


def _name(column: Column) -> str:
    return column.title.rstrip(" ↑↓")


def _text(column: Column, estimate: Estimate) -> str:
    decimals = column.decimals
    if decimals is None and estimate.n and estimate.mean:
        decimals = min(max(2 - math.floor(math.log10(abs(estimate.mean))), 0), 6)
    return estimate.text(decimals)


def _baseline(method: str) -> bool:
    return method.partition(":")[0] in BASELINES


def _count(summary: Summary) -> str:
    return f"{summary.n} of {summary.n + summary.missing}" if summary.missing else str(summary.n)


def _marks(column: Column, summaries: Sequence[Summary]) -> list[str]:
    """A format for each cell of a column."""
    estimates = [summary.estimates[column.key] for summary in summaries]
    least = _SHARE_TO_COMPARE * max(estimate.n for estimate in estimates)
    values: list[float | None] = []
    for summary, estimate in zip(summaries, estimates, strict=True):
        compared = column.better and estimate.n and estimate.n >= least and not _baseline(summary.method)
        digits = ".3g" if column.decimals is None else f".{column.decimals}f"
        values.append(float(format(estimate.mean, digits)) * column.better if compared else None)
    ranks = sorted({value for value in values if value is not None}, reverse=True)
    if len(ranks) < 2:  # one method, or all alike
        return ["{}"] * len(values)
    second = ranks[1] if values.count(ranks[0]) == 1 else None
    return ["**{}**" if v == ranks[0] else "<u>{}</u>" if v is not None and v == second else "{}" for v in values]


def _grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown that can also be read as text: columns of equal width."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in [head, *lines]]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in [cells[0], rule, *cells[1:]]
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)
