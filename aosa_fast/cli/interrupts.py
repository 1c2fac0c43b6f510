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

from aosa_fast.cli.terminal import write_line
from aosa_fast.errors import InputError


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems send it ahead of the end: it stops a command as Ctrl-C does."""


@contextmanager
def resumable(console: Console, kept: Callable[[], str], begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Around the work: where Ctrl-C, SIGTERM or an error ends it, says what is kept and how to go on.

    Args:
        console: where to say it.
        kept: says what is kept, when it is asked.
        begun: whether the work itself had begun; before that, an error is about what was asked for, and says enough.

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
        _say(console, f"interrupted: {kept()}")
        if isinstance(stop, _Terminated):
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    except InputError:
        if begun():
            _say(console, f"stopped: {kept()}")
        raise
    finally:
        if takes:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _say(console: Console, text: str) -> None:
    for line in (text, f"to go on: {command_line()}"):
        write_line(console, line)


def command_line() -> str:
    """The command as a shell takes it."""
    return shlex.join(["aosa-fast", *sys.argv[1:]])


def _terminate(*_: object) -> NoReturn:
    raise _Terminated
