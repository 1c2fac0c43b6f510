"""Comma-separated files for people's spreadsheets, which must not take a clip's name for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a new file, in UTF-8; texts that a spreadsheet would take for formulas have an apostrophe before them."""
    with path.open("x", encoding="utf-8", errors="replace", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows({name: _defused(row[name]) for name in columns} for row in rows)


def plain(cell: str) -> str:
    """The text of a cell that `write_csv` wrote, or that anybody else did."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _defused(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
