"""Ten thousand clips through a whole audit: whether its processes' memory stays flat."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import numpy as np

from aosa_fast.audit.store.parts import read_rows
from aosa_fast.bench.audit.child import CHILD, Answer
from aosa_fast.bench.fresh import command
from aosa_fast.bench.processes import memory, processor_seconds, workers
from aosa_fast.bench.report import Report, Target

FLAT = 1.0  # MB per 1000 clips
_EVERY = 1.0  # seconds between samples


@dataclass
class Watched:
    """A process of an audit.

    Attributes:
        pid: of it.
        samples: (clips done by the audit, resident MB, MB of these that are no file's), once a second from the first
            clip done on. The system may take pages of files back at any time, which would hide a growth.
        seconds: of processor time, in all.
    """

    pid: int
    samples: list[tuple[int, float, float]] = field(default_factory=list)
    seconds: float = 0.0


def soak(report: Report, quick: bool) -> None:
    """Audits rendered clips of 16x64x64 with the embedded network, and looks at every process once a second."""
    clips = 200 if quick else 10_000
    report.section(f"{clips} rendered clips of 16x64x64 through an audit, embedded network: resident memory")
    with tempfile.TemporaryDirectory() as folder:
        words = command(
            f"{CHILD}:audit", data="rendered", model="demo", out=folder, limit=clips, settings={}, shows=True
        )
        answer, found = _watch(words)
        rows = read_rows(Path(folder), ["id", "status"])
    ok = rows["status"].to_pylist().count("ok")
    if not len(rows) == ok == answer["new"] == clips:
        raise SystemExit(f"must end with {clips} ok rows; got {len(rows)}, of which {ok} are ok")
    report.add("audit, soak", "throughput", "clips/s", [answer["rate"]], note=f"{ok} ok rows, each id once")
    for role, one in found.items():
        done, *kinds = np.array(one.samples, float).T
        report.add(f"audit, soak, {role}", "processor time", "ms/clip", [1e3 * one.seconds / clips])
        for kind, held in zip(("resident", "resident, no file's"), kinds, strict=True):
            growth, later = describe(done, held, clips / 10)
            case = f"audit, soak, {role}, {kind}"
            report.add(case, "peak memory", "MB", [float(held.max())], note=f"{len(held)} samples")
            report.add(case, "growth by line", "MB/1000", [growth], Target("<=", FLAT))
            report.add(case, "last - second decile", "MB", [later])


def describe(done: np.ndarray, held: np.ndarray, after: float) -> tuple[float, float]:
    """How much the memory of a process grew, and by how much it held more at the end.

    Args:
        done: (n,) clips done at each sample.
        held: (n,) MB.
        after: clips done before which samples do not count for the growth: all is loaded by then.

    Returns:
        MB per 1000 clips, of a straight line; mean of the last tenth of the samples less that of the second tenth.
    """
    late = done >= after
    growth = float(np.polyfit(done[late] / 1000, held[late], 1)[0]) if len(set(done[late])) > 1 else float("nan")
    tenth = max(len(held) // 10, 1)
    return growth, float(held[-tenth:].mean() - held[tenth : 2 * tenth].mean())


def _watch(words: list[str]) -> tuple[Answer, dict[str, Watched]]:
    """Runs an audit, and gives its answer and what became of each process, by role."""
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    last = ["0"]
    listener = Thread(target=_keep_last, args=(driver, last), daemon=True)
    listener.start()
    found: dict[str, Watched] = {}
    while driver.poll() is None:
        for role, pid in {"driver": driver.pid, **workers(driver.pid)}.items():
            one = found.setdefault(role, Watched(pid))
            if one.pid != pid:
                raise SystemExit(f"{role} must live as long as the audit; it was replaced")
            try:
                done, held, own = int(last[0]), memory(pid), memory(pid, "RssAnon")
                one.seconds = processor_seconds(pid)
            except (OSError, ValueError):  # it has just ended; or the last line is the answer
                continue
            if done:
                one.samples.append((done, held, own))
        time.sleep(_EVERY)
    listener.join()
    if driver.returncode:
        sys.exit(f"the audit ended with exit code {driver.returncode}")
    answer: Answer = json.loads(last[0])
    return answer, found


def _keep_last(driver: subprocess.Popen[str], last: list[str]) -> None:
    assert driver.stdout is not None
    for line in driver.stdout:
        last[0] = line
