"""Commands that a later run goes on from: what they say when they are interrupted."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it ahead of the end: it stops a command as Ctrl-C does."""


@contextmanager
def resumable(console: Console, kept: Callable[[], str]) -> Iterator[None]:
    """Around the work: where Ctrl-C or SIGTERM ends it, says what is kept and how to go on.

    Args:
        console: where to say it.
        kept: says what is kept, when it is asked.

    Raises:
        KeyboardInterrupt: as it came, on Ctrl-C.
        SystemExit: on SIGTERM.
    """
    # Signals are for the main thread; whoever has set something else for this one, means it.
    takes = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if takes:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        console.print(f"interrupted: {kept()}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"to go on: {command_line()}", highlight=False, markup=False, soft_wrap=True)
        if isinstance(stop, _Terminated):
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        if takes:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def command_line() -> str:
    """The command as a shell takes it."""
    return shlex.join(["aosa-fast", *sys.argv[1:]])


def _terminate(*_: object) -> NoReturn:
    raise _Terminated
