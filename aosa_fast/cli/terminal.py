"""What is said on stdout and stderr: in any encoding, and whether or not somebody still listens."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from rich.console import Console


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Goes on in silence: whoever reads the first lines only, as `head` does, still wants the results."""
        self.quiet = True
        silence(self.file.fileno())


def silence(descriptor: int = 1) -> None:
    """Sends to nowhere what is still to be written to stdout, or to another descriptor."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def consoles() -> tuple[Console, Console]:
    """Stdout and stderr."""
    return _Console(), _Console(stderr=True)


def escape_what_cannot_be_encoded() -> None:
    """Lets stdout and stderr write what their encoding lacks as escapes, such as \\u65e5, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_line(console: Console, text: str) -> None:
    """A line as it is: names of files and classes are no markup, and a terminal wraps them, not we."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def write_fact(console: Console, name: str, text: str) -> None:
    """A line of a name and what is to be said of it."""
    write_line(console, f"{name:<16} {text}")


def say(text: str) -> None:
    """A line on stderr, whatever names of files and classes the text holds."""
    with suppress(OSError):
        print(" ".join(text.split()), file=sys.stderr)  # noqa: T201 - warnings and errors must not be wrapped or marked up
