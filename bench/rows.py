"""Figures on record: a run as JSON, with every round, and results.csv, what is published; free of torch."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aosa_fast.errors import InputError, brief
from aosa_fast.files import atomic_path

RESULTS = Path(__file__).parent / "results.csv"
KEY = ("part", "case", "metric", "threads", "machine")
COLUMNS = (
    *("part", "case", "metric", "unit", "value", "p20", "p80", "repeats", "peak_mb", "threads", "load", "others"),
    *("machine", "python", "torch", "numba", "opencv", "aosa_fast", "commit", "utc"),
)
_NUMBERS = {"value": float, "p20": float, "p80": float, "peak_mb": float, "repeats": int, "threads": int}
_SCHEMA = 1

# One figure: the columns, and "rounds", the values of all of them, where they are known.
Row = dict[str, Any]


def name_of(row: Row) -> str:
    """As `bench verify` takes it."""
    return f"{row['part']}: {row['case']}, {row['metric']}, {row['threads']} threads"


def read_rows(path: Path) -> list[Row]:
    """The rows of a run (.json) or of a table (.csv).

    Raises:
        InputError: it is neither, or cannot be read.
    """
    try:
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                return [_typed(row) for row in csv.DictReader(file)]
        found = json.loads(path.read_text("utf-8"))
        if found["schema"] != _SCHEMA:
            raise InputError(f"{path}: schema must be {_SCHEMA}; got {brief(found['schema'])}")
        return [_typed(row) for row in found["rows"]]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} must be what bench --json wrote, or a table like results.csv; got {error!r}"
        ) from error


def _typed(row: Row) -> Row:
    if any(row.get(name) in (None, "") for name in ("part", "case", "metric", "value")):
        raise ValueError("a row without part, case, metric or value")
    typed = {name: kind(row[name]) if row.get(name) not in (None, "") else None for name, kind in _NUMBERS.items()}
    return {"rounds": None, **row, **typed}


def write_run(path: Path, rows: Sequence[Row], quick: bool) -> None:
    """Writes a run, in place of what was there. Raises OSError."""
    with atomic_path(path) as part:
        part.write_text(json.dumps({"schema": _SCHEMA, "quick": quick, "rows": rows}, indent=1) + "\n")


def publish(run: Path, table: Path, overwrite: bool) -> tuple[int, int]:
    """Adds the rows of a run to a table: how many were written, and how many were there and stay without `overwrite`.

    Raises:
        InputError: the run cannot be read, or was a quick one, whose figures rest on too few rounds.
    """
    rows = read_rows(run)
    if run.suffix == ".json" and json.loads(run.read_text("utf-8"))["quick"]:
        raise InputError(f"{run} must be a run without --quick: its figures rest on too few rounds")
    known = {_key(row): row for row in read_rows(table)} if table.exists() else {}
    new = [row for row in rows if overwrite or _key(row) not in known]
    known |= {_key(row): row for row in new}
    write_table(table, known.values())
    return len(new), len(rows) - len(new)


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Writes a table, in place of what was there. Raises OSError."""
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
        )


def find_rows(rows: Sequence[Row], text: str) -> list[Row]:
    """The rows of that name, or whose names have all of these words.

    Raises:
        InputError: there is none.
    """
    exact = [row for row in rows if name_of(row) == text]
    words = text.lower().split()
    found = exact or [row for row in rows if all(word in name_of(row).lower() for word in words)]
    if not found:
        raise InputError(f"row must be named as in results.csv, such as {name_of(rows[0])!r}; got {brief(text)}")
    return found


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)
