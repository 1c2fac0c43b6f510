"""Evaluating explanations: methods, metrics and data together (paper IV).

Names are imported when first used: the list of the metrics does without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosa_fast.lazy import lazy

if TYPE_CHECKING:
    from aosa_fast.evaluation.entries import DEFAULT_METHODS, Entry, parse_entries
    from aosa_fast.evaluation.measure import Settings
    from aosa_fast.evaluation.metrics import METRICS
    from aosa_fast.evaluation.results import write_results
    from aosa_fast.evaluation.run import Evaluation, evaluate

__all__ = [
    "DEFAULT_METHODS", "METRICS", "Entry", "Evaluation", "Settings", "evaluate", "parse_entries", "write_results",
]  # fmt: skip

__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("DEFAULT_METHODS", "Entry", "parse_entries"), "entries"),
        **dict.fromkeys(("Evaluation", "evaluate"), "run"),
        "METRICS": "metrics",
        "Settings": "measure",
        "write_results": "results",
    },
)
