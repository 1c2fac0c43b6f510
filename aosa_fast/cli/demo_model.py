"""The model where none is given: the embedded one, and the line that says what it knows."""

from __future__ import annotations

from rich.console import Console

from aosa_fast.cli.terminal import write_fact
from aosa_fast.models.registry import MOTIONS

DEFAULT_MODEL = "demo"
_MADE_FOR_IT = ("rendered", "planted")  # kinds of data


def tell_of_default(model: object, console: Console, data: str = "") -> None:
    """Where no model was given and the clips are not made for the embedded one: what that knows, and what to give."""
    if not model and data.partition(":")[0] not in _MADE_FOR_IT:
        text = f"{DEFAULT_MODEL}, as none was given: it knows {MOTIONS}. Your own: --model SPEC, see "
        write_fact(console, "model", f"{text}aosa-fast list models")
