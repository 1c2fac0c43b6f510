"""Evaluating explanations: methods, metrics and data together (paper IV)."""

from __future__ import annotations

from aosa_fast.evaluation.entries import DEFAULT_METHODS, Entry, parse_entries
from aosa_fast.evaluation.evaluate import Evaluation, evaluate
from aosa_fast.evaluation.measure import METRICS, Settings
from aosa_fast.evaluation.results import write_results

__all__ = [
    "DEFAULT_METHODS",
    "METRICS",
    "Entry",
    "Evaluation",
    "Settings",
    "evaluate",
    "parse_entries",
    "write_results",
]
