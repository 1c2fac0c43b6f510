"""A guard without a clock: instructions that each C++ and Numba operator takes, counted by Valgrind's callgrind.

Counts of one compiler are the same on every machine and under any load: callgrind's processor has AVX2 and no AVX-512,
whatever it runs on, and Numba compiles for the same one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba

from aosa_fast import _C
from aosa_fast.bench.harness import threads
from aosa_fast.bench.report import Report
from aosa_fast.bench.rows import RESULTS, read_rows
from aosa_fast.errors import InputError

TOLERANCE = 0.05  # of a recorded count
_MARK = "(anonymous namespace)::simd_level()"
_PROCESSOR = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2", "PYTHONHASHSEED": "0"}


def instructions(report: Report, quick: bool) -> None:
    """One call of each operator on one thread, held against what is recorded of the same compilers."""
    report.section("Instructions of the C++ and Numba operators, 8x64x64, C=3, K=3, s=8, one thread, AVX2")
    known, apart = recorded(), []
    with threads(1):
        for name, count in counted().items():
            change = count / known[name] - 1 if name in known else None
            note = "not recorded" if change is None else f"{change:+.1%} of what is recorded"
            report.add(name, metric(), "count", [count], note=note)
            if change is not None and abs(change) > TOLERANCE:
                apart.append(f"{name} {change:+.1%}")
    if apart:
        raise SystemExit(f"instructions must be within {TOLERANCE:.0%} of what is recorded; got {', '.join(apart)}")


def counted() -> dict[str, int]:
    """By operator.

    Raises:
        InputError: there is no Valgrind, or the extension has no names of functions in it.
    """
    if shutil.which("valgrind") is None:
        raise InputError("the part instructions must have valgrind; it is missing: apt-get install valgrind")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **_PROCESSOR, "NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-P", "-m", "aosa_fast.bench.counted"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)  # Numba's cache
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/count", f"--dump-before={_MARK}"]
        run = subprocess.run([*tool, *command], env=environment, check=True, capture_output=True, text=True)
        # Of two dumps for each operator, the second is of what it took.
        dumps = {name: Path(folder, f"count.{2 * i + 2}") for i, name in enumerate(run.stdout.split())}
        if not all(dump.is_file() for dump in dumps.values()):
            raise InputError("the extension aosa_fast._C must have the names of its functions in it; it was stripped")
        return {name: _total(dump) for name, dump in dumps.items()}


def recorded() -> dict[str, int]:
    """What was counted before with these compilers, by operator."""
    rows = (row for row in read_rows(RESULTS) if row["part"] == "instructions")
    return {row["case"]: round(row["value"]) for row in rows if row["metric"] == metric()}


def metric() -> str:
    """What is counted, by name of the compilers that made it."""
    content = Path(_C.__file__).read_bytes()
    compiler = "an unknown compiler"
    # Clang last: what it links has parts that GCC made.
    for name, mark in (("GCC", rb"GCC: [^\x00]*? (\d+)\.\d+\.\d+\x00"), ("Clang", rb"clang version (\d+)\.")):
        if found := re.search(mark, content):
            compiler = f"{name} {found[1].decode()}"
    return f"instructions, {compiler}, Numba {'.'.join(numba.__version__.split('.')[:2])}"


def _total(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
