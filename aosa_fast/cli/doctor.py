"""`aosa-fast doctor`: what is installed, fast, missing or broken here. Nothing heavy is loaded into this process."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from typing import Annotated

import typer
from rich.console import Console

from aosa_fast.cli.terminal import consoles, write_line
from aosa_fast.doctor import Check, examine, is_healthy, report

_TITLES = {
    "libraries": "What is installed",
    "paths": "What works here, and what is fast",
    "extras": "What can be added",
}
_TEXT = 40  # the column where it begins
_COLOURS = {"ok": "green", "slow": "yellow", "missing": "dim", "broken": "red"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Write it as JSON, for machines.", rich_help_panel="Output")
    ] = False,
) -> None:
    """Say what is installed, which ways are fast here, what is missing or broken, and what is to be run then.

    Each line is ok, slow (it works, but could be faster), missing (something optional) or broken. What it calls tried
    was imported or run here, in processes of their own: operators are held against their references, and the embedded
    clip is read and explained. What was only found is called so.

    Where the command line itself cannot start, `python -m aosa_fast.doctor` writes the JSON.

    Exit codes: 0 nothing that explain needs is broken, 1 something is, 2 bad argument.
    """
    console, errors = consoles()
    with errors.status("trying what is installed"):
        checks = examine()
    if as_json:
        write_line(console, json.dumps(report(checks), indent=2))
    else:
        for group, title in _TITLES.items():
            write_line(console, title)
            for check in checks:
                if check.group == group:
                    _write(console, check)
        counts = Counter[str](check.state for check in checks)
        told = ", ".join(f"{counts[state]} {state}" for state in _COLOURS)
        write_line(console, f"{told}: explain {'works' if is_healthy(checks) else 'does not work'} here")
    raise typer.Exit(0 if is_healthy(checks) else 1)


def _write(console: Console, check: Check) -> None:
    console.print(f"  {check.state:<8}", style=_COLOURS[check.state], end="")
    text = f"{'tried' if check.tried else 'found'}  {check.name:<22} {check.text}"
    if console.is_terminal:  # a file has a line for each check, at any length
        width, indent = max(console.width, _TEXT + 20), " " * _TEXT
        text = textwrap.fill(" " * 10 + text, width, subsequent_indent=indent, break_long_words=False)[10:]
    write_line(console, text)
    if check.command:
        write_line(console, f"{'':{_TEXT}}{check.command}")
