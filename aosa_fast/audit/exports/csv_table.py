"""A table of all clips."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from aosa_fast.audit.exports.clips import FLAT, Audit


def write_csv(audit: Audit, folder: Path) -> int:
    """Writes clips.csv: a row's columns but for grids and maps, and `tags` and `findings`; lists with | between."""
    count = 0
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*FLAT, "tags", "findings"])
        for clip in audit.clips(FLAT):
            count += 1
            values = [clip.row[name] for name in FLAT]
            table.writerow([_text(value) for value in (*values, clip.tags, [found.text for found in clip.findings])])
    return count


def _text(value: Any) -> Any:
    return "|".join(map(str, value)) if isinstance(value, list) else value
