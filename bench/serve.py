"""The service under load: how long an answer takes, how many it can give, and what is left of that at twice the load.

The service is a process of `aosa-fast serve` with its defaults, the clients are another one (`serve_client.py`), and
every request is one H.264 file of 48 frames of 340x256, to be answered with JSON that holds the map.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aosa_fast.bench.audit.files import write_clips
from aosa_fast.bench.report import Report
from aosa_fast.bench.serve_answers import CLIENT, Answers, read_answers, start_client
from aosa_fast.bench.serve_process import Service, free_port
from aosa_fast.bench.serve_rows import GRACE, LEAVING, Measured, peak, tell, timed

PATH = "/explain?result=json&include=npz"
WHOLE = '"files"'  # which an answer to it must hold
RESULTS = {"JSON alone": "json", "npz": "npz", "PNG": "png", "mp4": "mp4"}


@dataclass(frozen=True)
class Plan:
    """A model, and seconds of each load, as of `Measured`; 0: leave it out. `clients` are the numbers of `closed`."""

    spec: str
    name: str
    options: tuple[str, ...]
    alone: float
    result: float
    closed: float
    clients: tuple[int, ...]
    opened: float
    overload: float
    leaving: float


def serve(report: Report, quick: bool) -> None:
    """Ten minutes, five of them at twice what it can carry; quick: every row in half a minute, of too few requests."""
    faults = ""
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), 1)
        (clip,) = Path(folder).rglob("*.mp4")
        client(report, clip, 1.0 if quick else 4.0)
        for plan in plans(quick):
            report.section(f"the service, {plan.name}, default limits")
            with Service(plan.spec, plan.options) as service:
                found = measure(service, clip, plan)
            # Not before it has ended: whose work the cores did is known of ended processes only.
            tell(report, found)
            faults += found.fault
    if faults:
        raise SystemExit(f"a service had a fault of its own:\n{faults[-4000:]}")


def plans(quick: bool) -> list[Plan]:
    """All of it on a network that hardly costs anything, and the main rows on one that does."""
    if quick:
        return [Plan("demo", "demo", (), 2.0, 0.5, 2.0, (2, 8), 2.0, 4.0, 2.0)]
    return [
        Plan("demo", "demo", (), 10.0, 3.0, 8.0, (2, 4, 8), 10.0, 300.0, 12.0),
        # What its warmup tries takes a minute, and would be refused: random weights do not bear another arithmetic.
        Plan("torchvision:r3d_18:random", "r3d_18", ("--no-warmup",), 15.0, 0.0, 20.0, (4, 8), 0.0, 60.0, 0.0),
    ]


def client(report: Report, clip: Path, seconds: float) -> None:
    """What the clients cost by themselves, and how late they are where every core has something else to do."""
    report.section("the clients, with a server that reads the clip and does nothing")
    port = free_port()
    loads: dict[str, dict[str, Any]] = {"1": {"clients": 1}, "8": {"clients": 8}, "cores busy": {"rate": 50.0}}
    found: dict[str, Answers] = {}
    processes = [_side("null", f'{{"port": {port}}}')]
    try:
        time.sleep(0.5)
        for name, load in loads.items():
            if "busy" in name:
                processes += [_side("busy", "{}") for _ in range(os.cpu_count() or 1)]
            with tempfile.TemporaryDirectory() as folder:
                started = start_client(Path(folder), port=port, path="/", body=str(clip), seconds=seconds, **load)
                found[name] = read_answers(*started, seconds)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for name, answers in found.items():
        case = f"clients alone, {name}"
        report.add(case, "answers", "answers/s", [answers.goodput()])
        timed(report, case, answers)
        report.add(case, "processor time", "ms/request", [1e3 * answers.spent / len(answers.rows)])
        report.add(case, "sent late, p99", "ms", [float(np.percentile(answers.late(), 99))])


def _side(what: str, arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", str(CLIENT), what, arguments, os.devnull])


def measure(service: Service, clip: Path, plan: Plan) -> Measured:
    """Loads a service in each way, one after the other, and ends it."""

    def send(name: str, seconds: float, path: str = PATH, **load: Any) -> Answers:
        expected = WHOLE if path == PATH else ""
        answers = service.send(clip, path, seconds=seconds, expected=expected, **load)
        counts = {int(s): int(n) for s, n in zip(*np.unique(answers.rows[:, 3], return_counts=True), strict=True)}
        broken = "".join(f"; {count} x {why}" for why, count in answers.broken.items())
        print(f"  {name}: {answers.goodput():.2f} answers/s, by status {counts}{broken}", flush=True)
        return answers

    alone = send("one at a time", plan.alone, clients=1)
    kinds = RESULTS if plan.result else {}
    results = {name: send(name, plan.result, f"/explain?result={kind}", clients=1) for name, kind in kinds.items()}
    closed = {count: send(f"{count} clients", plan.closed, clients=count) for count in plan.clients}
    best = peak(alone, closed)
    if not best:
        raise SystemExit(f"some requests must be answered within {plan.closed:g} s; none was")
    factors = (0.5, 0.9) if plan.opened else ()
    opened = {factor: send(f"{factor}x the peak", plan.opened, rate=factor * best) for factor in factors}
    overload = send("2x the peak", plan.overload, rate=2 * best)
    leaving, idle = None, float("nan")
    if plan.leaving:
        within = float(np.median(overload.times())) / 1e3
        leaving = send("2x, some leave", plan.leaving, rate=2 * best, leaving=LEAVING, within=within)
        idle = service.until_idle(10.0)
    again = send(f"{max(closed)} clients, again", plan.closed, clients=max(closed))
    found = Measured(plan.name, service.before, alone, overload, again, leaving, idle, results, closed, opened,
                     drain(service, clip))  # fmt: skip
    said = service.said()
    found.fault = said if "Traceback" in said else ""
    return found


def drain(service: Service, clip: Path, clients: int = 8) -> tuple[float, float, float]:
    """Percent of the requests in flight at SIGTERM that are answered, seconds until the process ends, and its code."""
    load = {"port": service.port, "path": PATH, "body": str(clip), "seconds": 60.0, "expected": WHOLE}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(20):  # until all are seen under way at once
            process, out = start_client(Path(folder), clients=clients, count=1, **load)
            seen = 0.0
            while seen < clients and process.poll() is None:
                seen = service.in_flight()
            if seen >= clients:
                break
            process.wait()
        start = time.monotonic()
        service.process.terminate()
        try:
            code = service.process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:
            code = -1
        taken = time.monotonic() - start
        answered = read_answers(process, out, 60.0).share(200) if seen >= clients else float("nan")
        return answered, taken, float(abs(code))
