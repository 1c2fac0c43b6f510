"""What /proc says of a process: the memory that it holds, the processor time it took, and the processes it started."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

# The command as a user runs it, by this Python.
AOSA_FAST = (sys.executable, "-P", "-c", "from aosa_fast.cli.main import main; main()")


def memory(pid: int | str = "self", what: str = "VmRSS") -> float:
    """Resident memory, MB of 1e6 bytes: "VmRSS" now, "VmHWM" at its peak.

    Raises:
        OSError: there is no such process, or it has just ended.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"process {pid} has ended")


def forget_peak() -> None:
    """Begins a new peak of this process, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def processor_seconds(pid: int) -> float:
    """User's and system's, of all threads. Raises OSError as `memory`."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def workers(pid: int) -> dict[str, int]:
    """The audit's processes that `pid` started: "explainer 1", "reader 1", "reader 2", ... as they were started."""
    found: dict[str, int] = {}
    with suppress(OSError):
        for child in sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
            with suppress(OSError):
                words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
                if "aosa_fast.audit.workers.worker" in words:
                    role = "explainer" if "explain" in words else "reader"
                    number = 1 + sum(name.startswith(role) for name in found)
                    found[f"{role} {number}"] = child
    return found


def descendants(pid: int) -> list[int]:
    """Processes that a process started, by whichever of its threads, and those that these started."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found
