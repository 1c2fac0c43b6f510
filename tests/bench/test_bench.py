from __future__ import annotations

import csv
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def test_every_recorded_row_says_how_it_was_measured():
    with (BENCH / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert all(row[name] for name in ("bench", "case", "metric", "unit", "value", "p20", "p80", "repeats"))
        assert all(row[name] for name in ("threads", "load", "machine", "torch", "commit", "utc"))
    keys = [tuple(row[name] for name in ("bench", "case", "metric", "threads", "machine")) for row in rows]
    assert len(keys) == len(set(keys))
