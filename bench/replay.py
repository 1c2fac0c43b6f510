"""Makes published figures again, and says whether they hold here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aosa_fast.bench.compare import error_of
from aosa_fast.bench.registry import Part, check_installed, part_named
from aosa_fast.bench.rows import RESULTS, Row, find_rows, name_of, read_rows
from aosa_fast.errors import InputError
from aosa_fast.registry import import_object

TOLERANCE = 0.1  # of the published figure
SURE = 1.96  # standard errors of the difference


def verify(text: str | None, device: str, quick: bool, json: Path | None = None) -> tuple[int, list[str]]:
    """Runs the parts that published rows are of, and compares.

    Args:
        text: a row's name, or words of it; None: all ratios.
        device: where, "cpu" or a GPU.
        quick: with few rounds; then some rows are not made again.
        json: where what is measured is written.

    Returns:
        The exit code, 0 if all hold, and a line for each row.

    Raises:
        InputError: there is no such row, no part makes it on this device any more, or a library is missing.
    """
    cuda = device != "cpu"
    published = [row for row in read_rows(RESULTS) if (";" in str(row["machine"])) == cuda]
    if not published:
        raise InputError(f"device must be one that results.csv has figures of; got {device}")
    wanted = [row for row in published if row["unit"] == "ratio"] if text is None else find_rows(published, text)
    parts = parts_of(wanted, cuda)
    if not parts:
        raise InputError(f"row must be one that a suite makes on {device}; got {name_of(wanted[0])}")
    check_installed(parts)
    with tempfile.TemporaryDirectory() as folder:
        made = json or Path(folder) / "run.json"
        code: int = import_object("aosa_fast.bench.run:run_parts")(parts, device, quick, made)
        found = read_rows(made) if made.exists() else []
    lines, held = judge(wanted, found)
    return code or int(not held), lines


def parts_of(rows: Sequence[Row], cuda: bool) -> list[Part]:
    """The parts that make these rows on the CPU or on a GPU."""
    parts = [part_named(name) for name in dict.fromkeys(str(row["part"]) for row in rows)]
    return [part for part in parts if part is not None and (part.cuda if cuda else part.run)]


def judge(published: Sequence[Row], found: Sequence[Row]) -> tuple[list[str], bool]:
    """A line for each published row, and whether all that were made again hold."""
    lines, count = [], 0
    for row in published:
        own = _same(row, found)
        if own is None:
            lines.append(f"not made here: {name_of(row)}")
            continue
        apart = own["value"] - row["value"]
        error = error_of(own)
        # How far so few rounds may be off is known from the published ones.
        errors = np.nan_to_num([error_of(row), error_of(row, own["repeats"]) if np.isnan(error) else error])
        holds = abs(apart) <= max(TOLERANCE * abs(row["value"]), SURE * float(np.hypot(*errors)))
        count += holds
        share = f" ({100 * apart / row['value']:+.1f} %)" if row["value"] else ""
        verdict = "holds" if holds else "DIFFERS"
        there = "" if own["threads"] == row["threads"] else f" on {own['threads']} threads"
        values = f"{row['value']:.4g} published, {own['value']:.4g} here{there}, {row['unit']}{share}"
        lines.append(f"{verdict}: {name_of(row)}: {values}")
    made = sum(not line.startswith("not made") for line in lines)
    return [*lines, f"{count} of {made} hold; {len(lines) - made} were not made here"], count == made > 0


def _same(row: Row, found: Sequence[Row]) -> Row | None:
    """The row of that case, with as many threads if there is one."""
    alike = [own for own in found if all(own[key] == row[key] for key in ("part", "case", "metric"))]
    return next((own for own in alike if own["threads"] == row["threads"]), alike[0] if alike else None)
