"""Where figures come from: hardware, versions, and what else the machine was doing."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import numba
import torch

import aosa_fast
from aosa_fast.libraries import cv2


class OtherWork:
    """How many cores other processes (and the hypervisor) keep busy; NaN where there is no /proc/stat."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float:
        """Mean since construction."""
        (wall, busy, own), (wall0, busy0, own0) = self._now(), self._start
        return max(0.0, (busy - busy0) - (own - own0)) / max(wall - wall0, 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        own = sum(os.times()[:4])  # of this process and of its children
        try:
            ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return time.perf_counter(), float("nan"), own
        return time.perf_counter(), (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own


def load() -> float:
    """The mean number of busy processes in the last minute; NaN on Windows, which does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def describe_machine(accelerator: str = "") -> dict[str, str]:
    """Hardware and versions, the same for every row of a run; the accelerator comes first in the machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    machine = f"{model}, {os.cpu_count()} cores"
    return {
        "machine": f"{accelerator}; {machine}" if accelerator else machine,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "opencv": cv2.__version__,
        "aosa_fast": aosa_fast.__version__,
        "commit": _commit(),
    }


def _commit() -> str:
    """Of the checkout; "none" where the package is installed."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return "none"
    commit, changed = _git(folder, "rev-parse", "--short", "HEAD"), _git(folder, "status", "--porcelain")
    return (commit or "none") + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
