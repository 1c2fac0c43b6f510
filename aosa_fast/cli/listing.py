"""`aosa-fast list`: what can be asked for by name, from the records that everything else is made of; without torch."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aosa_fast.cli.terminal import consoles
from aosa_fast.errors import InputError
from aosa_fast.methods.registry import PATTERNS
from aosa_fast.registry import Record, Registry, import_object, nearest

REGISTRIES = {
    "methods": "aosa_fast.methods.registry:METHODS",
    "models": "aosa_fast.models.registry:FAMILIES",
    "data": "aosa_fast.data.registry:KINDS",
    "metrics": "aosa_fast.evaluation.metrics:METRICS",
    "exports": "aosa_fast.audit.exports.registry:EXPORTS",
    "suites": "aosa_fast.bench.registry:SUITES",
}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("list")(show)


def show(
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[methods|models|data|metrics|exports|suites]...", help="What to list; all of it."),
    ] = None,
) -> None:
    """List the methods, models, data sets, metrics, formats and suites that there are, other packages' among them."""
    for kind in what or REGISTRIES:
        if kind not in REGISTRIES:
            raise InputError(f"list must name {', '.join(REGISTRIES)}; got {kind}{nearest(kind, REGISTRIES)}")
    for kind in what or REGISTRIES:
        _print(consoles()[0], kind, import_object(REGISTRIES[kind]))


def _print(console: Console, kind: str, registry: Registry[Record]) -> None:
    table = Table(title=kind, title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", max_width=44)
    table.add_column(overflow="fold")
    for name in registry:
        try:
            record = registry.find(name)
            table.add_row(str(getattr(record, "spec", name)), record.help)
        except InputError as error:  # of another package: it stops nobody who uses another one
            table.add_row(name, f"error: {error}")
    for pattern in PATTERNS.values() if kind == "methods" else ():
        table.add_row(pattern.name, pattern.help)
    console.print(table, markup=False)
