"""Clips that fail, named as they do, but no flood of them."""

from __future__ import annotations

from rich.console import Console

from aosa_fast.audit.tasks import Row
from aosa_fast.cli.terminal import write_line
from aosa_fast.errors import brief

SHOWN = 20


class Failures:
    """A line for each of the first clips that fail; on leaving, one that says how many more there were."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._count = 0

    def __call__(self, row: Row) -> None:
        """Takes the row of a clip."""
        self._count += 1
        if self._count <= SHOWN:
            reason = str(row["error"]).removeprefix(f"{row['path']}: ").removeprefix(f"{row['id']}: ")
            write_line(self._console, f"failed: {brief(row['id'])}: {brief(reason)}")

    def __enter__(self) -> Failures:
        return self

    def __exit__(self, *error: object) -> None:
        if self._count > SHOWN:
            write_line(self._console, f"failed: {self._count - SHOWN} more, whose rows say why")
