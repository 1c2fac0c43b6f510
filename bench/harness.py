"""Timing in interleaved repeats, and one recorded row per figure."""

from __future__ import annotations

import csv
import gc
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numba
import numpy as np
import torch

import aosa_fast
from aosa_fast.kernels import jit

jit.preload().join()  # what is timed is what a long run does: compiled code from the first call on

RESULTS = Path(__file__).parent / "results.csv"
KEY = ("bench", "case", "metric", "threads", "machine")
COLUMNS = (
    *("bench", "case", "metric", "unit", "value", "p20", "p80", "repeats", "threads", "load", "others", "machine"),
    *("python", "torch", "numba", "opencv", "aosa_fast", "commit", "utc"),
)
Cases = dict[str, Callable[[], object]]


def quiet_openmp(**forced: str) -> None:
    """Starts the script anew with OpenMP and BLAS threads that sleep while they wait; it is read at load only.

    Spinning threads slow a machine with another busy process by a factor of 30 or more. `forced` are further variables
    of the environment, which replace what is set.
    """
    wanted = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    missing |= {name: value for name, value in forced.items() if os.environ.get(name) != value}
    if missing:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | missing)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's number of threads, which is also that of the operators."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleave(cases: Cases, repeats: int, warmup: int = 2, settle: bool = False) -> dict[str, list[float]]:
    """Seconds of every case in every round: A B C, C B A, A B C, so that drift hits all alike and ratios hold.

    With `settle`, each timed call follows an untimed one of the same case: a network's call leaves the heap in a state
    that costs the next one of another kind some 30 ms of page faults (64 000 a call), which is neither's to pay.
    """
    for _ in range(warmup):
        for run in cases.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    gc.collect()
    gc.disable()
    try:
        for round_ in range(repeats):
            for name in list(cases)[:: -1 if round_ % 2 else 1]:
                if settle:
                    cases[name]()
                start = time.perf_counter()
                cases[name]()
                seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def peak_rss() -> float:
    """The largest resident memory of this process so far, MB of 1e6 bytes.

    Not `ru_maxrss` where there is a choice: Linux starts that at the peak of the process that started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


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
        own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        try:
            ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return time.perf_counter(), float("nan"), own
        return time.perf_counter(), (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own


@dataclass(frozen=True)
class Target:
    """What issue 2 asks for: `sign` is "<=" or ">="."""

    sign: str
    value: float

    def met(self, value: float) -> bool:
        """Whether the figure reaches it; NaN does not."""
        return value <= self.value if self.sign == "<=" else value >= self.value


class Report:
    """Prints each figure as it comes, its target beside it, and keeps the rows."""

    def __init__(self, bench: str, accelerator: str = "", remark: str = "") -> None:
        """`accelerator` comes first in the rows' machine; `remark` is printed behind every figure."""
        self.bench = bench
        self.remark = remark
        self.rows: list[dict[str, str]] = []
        self.targets: list[tuple[str, float, str, Target]] = []
        self.load = os.getloadavg()[0]
        self._other_work = OtherWork()
        self._fixed = describe_machine()
        if accelerator:
            self._fixed["machine"] = f"{accelerator}; {self._fixed['machine']}"
        self.machine = ", ".join(f"{name} {value}" for name, value in self._fixed.items())

    def section(self, title: str) -> None:
        """Prints a heading; the load on record is that of the section."""
        self.load = os.getloadavg()[0]
        self._other_work = OtherWork()
        print(f"\n{title}\n{'':2}{'case':46} {'metric':24} {'p50':>9} {'p20':>9} {'p80':>9} unit     thr  target")

    def add(
        self, case: str, metric: str, unit: str, values: list[float], target: Target | None = None, note: str = ""
    ) -> float:
        """Adds one figure from its repeats, and gives back its median; `note` is only printed."""
        p20, p50, p80 = (float(v) for v in np.percentile(values, [20, 50, 80]))
        verdict = ""
        if target:
            verdict = f"{target.sign} {target.value:g}: {'met' if target.met(p50) else 'MISSED'}"
            self.targets.append((f"{case}, {metric}", p50, unit, target))
        count = torch.get_num_threads()
        words = "; ".join(word for word in (verdict, note, self.remark) if word)
        print(f"  {case:46} {metric:24} {p50:9.4g} {p20:9.4g} {p80:9.4g} {unit:8} {count:3}  {words}", flush=True)
        figures = {"value": f"{p50:.5g}", "p20": f"{p20:.5g}", "p80": f"{p80:.5g}", "repeats": str(len(values))}
        state = {"threads": str(count), "load": f"{self.load:.2f}", "others": f"{self._other_work.cores():.2f}"}
        names = {"bench": self.bench, "case": case, "metric": metric, "unit": unit}
        stamp = {"utc": datetime.now(UTC).isoformat(timespec="seconds")}
        self.rows.append({**names, **figures, **state, **self._fixed, **stamp})
        return p50

    def summary(self) -> None:
        """Prints the targets again, together."""
        print("\nTargets")
        for name, value, unit, target in self.targets:
            verdict = f"{'met' if target.met(value) else 'MISSED'} {self.remark}".rstrip()
            print(f"  {name:72} {value:9.4g} {unit:6} {target.sign} {target.value:<6g} {verdict}")

    def record(self, path: Path = RESULTS, overwrite: bool = False) -> None:
        """Writes the rows since the last call; a row that exists is replaced only with `overwrite`."""
        known: dict[tuple[str, ...], dict[str, str]] = {}
        if path.exists():
            with path.open(newline="") as file:
                known = {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}
        kept = 0
        for row in self.rows:
            key = tuple(row[name] for name in KEY)
            if key in known and not overwrite:
                kept += 1
            else:
                known[key] = row
        part = path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(known.values())
        part.replace(path)
        print(f"  {len(self.rows) - kept} rows written, {kept} kept as they were (--overwrite replaces them)")
        self.rows.clear()


def describe_machine() -> dict[str, str]:
    """Versions and hardware, the same for every row of a run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    commit, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain")
    return {
        "machine": f"{model}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "opencv": cv2.__version__,
        "aosa_fast": aosa_fast.__version__,
        "commit": (commit or "none") + ("+changes" if changed else ""),
    }


def git(*arguments: str) -> str:
    """What git says about this checkout; nothing where there is no git, or no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
