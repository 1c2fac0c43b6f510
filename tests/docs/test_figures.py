"""Figures of the site are those on record: rows of bench/results.csv, and the tables of docs/evaluation.md."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from aosa_fast.bench.rows import RESULTS

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"\| ([^|]+) \| `([^`|]+; [^`|]+)` \|$", re.MULTILINE)


def test_figures_of_how_it_is_fast_are_rows_of_the_results():
    with open(RESULTS, encoding="utf-8", newline="") as file:
        found = {(row["part"], row["case"], row["metric"], row["threads"]): row for row in csv.DictReader(file)}
    figures = ROW.findall((DOCS / "fast.md").read_text(encoding="utf-8"))
    assert len(figures) >= 20
    for text, name in figures:
        part, case, metric, *threads = name.split("; ")
        row = found[part, case, metric, threads[0].split()[0] if threads else "2"]
        value, low, high = (f"{float(row[column]):.3g}" for column in ("value", "p20", "p80"))
        assert text.strip() == f"{value} ({low} to {high})", name


def test_figures_of_which_method_when_are_those_of_the_tables():
    quoted = DOCS.parent / "bench" / "README.md", DOCS / "evaluation.md"
    known = {figure for path in quoted for figure in re.findall(r"[\d.]*\.\d+", path.read_text(encoding="utf-8"))}
    figures = re.findall(r"[\d.]*\.\d+", (DOCS / "which.md").read_text(encoding="utf-8"))
    assert len(figures) >= 40
    assert set(figures) <= known
