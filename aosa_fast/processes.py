"""What processes of ours have in common, whatever they are for. torch is not loaded here."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from aosa_fast.errors import InputError

_PIPE = 1 << 20  # bytes; what Linux grants without privileges


def cores() -> int:
    """Those that this process may use, where the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse_windows(what: str) -> None:
    """Raises InputError on Windows, whose pipes, signals and limits are too different for what watches processes."""
    if sys.platform == "win32":
        raise InputError(f"{what} must run on Linux or macOS; got Windows")


def search_path() -> str:
    """Where this process finds its modules: those that made its classes and its model must be found again."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path if os.pathsep not in path)


def widen(pipe: int) -> None:
    """Gives a pipe room for a megabyte, where the system has it: a sixteenth of the switches between processes."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


def end_with(parent: int) -> None:
    """For a thread: ends this process where its parent was killed, though a library may be waiting for somebody."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)
