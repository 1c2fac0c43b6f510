"""Which method is first depends on the question: ranks in each of the main columns, and how far these agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aosa_fast.evaluation.bootstrap import Floats
from aosa_fast.evaluation.measured import COLUMNS
from aosa_fast.evaluation.metrics import MAIN_COLUMNS
from aosa_fast.evaluation.table import SHARE_TO_COMPARE, Summary, grid, is_baseline, plain_heading
from aosa_fast.metrics.similarity import average_ranks


def rank_markdown(summaries: Sequence[Summary]) -> str:
    """Ranks by the printed means, ties by their mean rank; the best mean rank first. Nothing for fewer than two.

    Without the controls, and without methods that lack a column or have it on under 90 % of the clips of the fullest.
    """
    keys = [key for key in MAIN_COLUMNS if any(summary.estimates[key].n for summary in summaries)]
    most = {key: max(summary.estimates[key].n for summary in summaries) for key in keys}
    ranked = [
        summary
        for summary in summaries
        if not is_baseline(summary.method)
        and all(summary.estimates[key].n >= SHARE_TO_COMPARE * most[key] for key in keys)
    ]
    if len(ranked) < 2 or len(keys) < 2:
        return ""
    ranks = np.array([_ranks([summary.estimates[key].mean for summary in ranked], key) for key in keys])
    headings = [plain_heading(COLUMNS[key]) for key in keys]
    means = ranks.mean(0)
    lines = [
        [ranked[i].method, *(f"{rank:g}" for rank in ranks[:, i]), f"{means[i]:.1f}"]
        for i in np.argsort(means, kind="stable")
    ]
    firsts: dict[str, list[str]] = {}
    for heading, own in zip(headings, ranks, strict=True):
        names = [summary.method for summary, rank in zip(ranked, own, strict=True) if rank == own.min()]
        firsts.setdefault(" and ".join(names), []).append(heading)
    if len(firsts) == 1:
        first = f"First in every column: {next(iter(firsts))}."
    else:
        first = f"First is {'; '.join(names + ' in ' + ', '.join(own) for names, own in firsts.items())}."
    note = f"Agreement of the columns, Kendall's W: {kendall_w(ranks):.2f} (1: all rank alike, 0: none does). {first}"
    return f"## Ranks\n\n{grid(['method', *headings, 'mean'], lines)}\n{note}"


def kendall_w(ranks: Floats) -> float:
    """Kendall's coefficient of concordance of ranks (m, n), corrected for ties; NaN where all ranks are tied."""
    m, n = ranks.shape
    spread = float(((ranks.sum(0) - m * (n + 1) / 2) ** 2).sum())
    ties = sum(float((counts**3 - counts).sum()) for counts in (np.unique(row, return_counts=True)[1] for row in ranks))
    whole = m * m * (n**3 - n) - m * ties
    return 12 * spread / whole if whole > 0 else math.nan


def _ranks(means: Sequence[float], key: str) -> Floats:
    column = COLUMNS[key]
    return average_ranks(np.round(means, column.decimals or 0) * -column.better)
