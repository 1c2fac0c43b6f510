"""Rows of an evaluation, one per clip and method, as tables with intervals (paper: Tables I to IV)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aosa_fast.evaluation.bootstrap import Estimate
from aosa_fast.evaluation.measured import COLUMNS, Measured
from aosa_fast.evaluation.metrics import Column, Row
from aosa_fast.methods.registry import METHODS

# A method that ran on fewer of the clips than this share is not compared: its clips may have been easier.
SHARE_TO_COMPARE = 0.9


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
    data = Measured(rows)
    summaries = []
    for method in methods:
        n = len(data.by_method.get(method, {}))
        estimates = {key: data.estimate(column, *data.numbers(column, method), seed) for key, column in COLUMNS.items()}
        summaries.append(Summary(method, n, len(data.clips) - n, estimates))
    return summaries


def markdown_table(summaries: Sequence[Summary]) -> str:
    """A table in GitHub's Markdown: the best of each column in bold, the second best underlined.

    Methods compare by the printed digits; of several best ones all are bold, and none is underlined. Those that
    know no model come last and are never marked, nor is a method with under 90 % of the clips of the fullest one.
    Columns without any value are left out; a line names those that not all clips have a value for.
    """
    ordered = sorted(summaries, key=lambda summary: is_baseline(summary.method))
    shown = [column for key, column in COLUMNS.items() if any(summary.estimates[key].n for summary in ordered)]
    names = [summary.method for summary in ordered]
    parts = [names, [_count(summary) for summary in ordered], *(_cells(column, ordered) for column in shown)]
    table = grid(["method", "n", *(column.heading for column in shown)], list(zip(*parts, strict=True)))
    most = {column: max(summary.estimates[column.key].n for summary in ordered) for column in shown}
    fewer = [f"{plain_heading(column)} {n}" for column, n in most.items() if n < max(summary.n for summary in ordered)]
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
    data, what = Measured(rows), COLUMNS[column]
    found = {}
    for method in methods:
        for reference in references:
            found[method, reference] = data.difference(what, method, reference, seed)
    most = max((e.n for (method, reference), e in found.items() if method != reference), default=0)

    def cell(method: str, reference: str) -> str:
        estimate = found[method, reference]
        if method == reference:
            return ""
        text = estimate.text(what.decimals, sign=True)
        text = f"**{text}**" if estimate.excludes_zero else text
        return f"{text} (n = {estimate.n})" if 0 < estimate.n < most else text

    lines = [[method, *(cell(method, reference) for reference in references)] for method in methods]
    title = plain_heading(what)
    note = f"{title}: the row's method less the column's, on {most} clips; bold: the 95 % interval excludes 0."
    return grid(["method", *references], sorted(lines, key=lambda line: is_baseline(line[0]))) + f"\n{note}\n"


def is_baseline(name: str) -> bool:
    """Whether the method of an entry knows nothing of the model: last in every table, and never the best."""
    method = METHODS.get(name.partition(":")[0])
    return method is not None and not method.knows_model


def plain_heading(column: Column) -> str:
    """A column's heading without its arrow."""
    return column.heading.rstrip(" ↑↓")


def _count(summary: Summary) -> str:
    return f"{summary.n} of {summary.n + summary.missing}" if summary.missing else str(summary.n)


def _cells(column: Column, summaries: Sequence[Summary]) -> list[str]:
    """A column's cells, the best ones marked."""
    estimates = [summary.estimates[column.key] for summary in summaries]
    least = SHARE_TO_COMPARE * max(estimate.n for estimate in estimates)
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


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown that can also be read as text: columns of equal width."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in [head, *lines]]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in [cells[0], rule, *cells[1:]]
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in padded)
