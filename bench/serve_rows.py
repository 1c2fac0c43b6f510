"""The rows of one service: what is asked of it, and what whoever waits sees of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aosa_fast.bench.report import Report, Target
from aosa_fast.bench.serve_answers import Answers
from aosa_fast.bench.serve_process import STAGES

FLAT = 1.0  # MB per 1000 answers, as of an audit's clips
GRACE = 30.0  # seconds until it must have ended: the service's default
LEAVING = 0.1  # of the clients
DRAINED = (("answered", "%", Target(">=", 100)), ("until its end", "s", Target("<=", GRACE)),
           ("exit code", "code", Target("<=", 0)))  # fmt: skip


@dataclass
class Measured:
    """One service, by how it was loaded.

    Attributes:
        name: of its model.
        ready: seconds until it was.
        alone: one request at a time.
        results: the same, for each other kind of result.
        closed: by number of clients, each of which waits for its answer.
        opened: by requests a second over the peak.
        overload: at twice the peak.
        leaving: the same, while clients go away.
        idle: seconds after that until no place was taken.
        again: the last number of clients once more, at the end.
        drained: percent of those in flight at SIGTERM that were answered, seconds until the end, exit code.
        fault: what it said, where that holds a traceback.
    """

    name: str
    ready: float
    alone: Answers
    overload: Answers
    again: Answers
    leaving: Answers | None = None
    idle: float = float("nan")
    results: dict[str, Answers] = field(default_factory=dict)
    closed: dict[int, Answers] = field(default_factory=dict)
    opened: dict[float, Answers] = field(default_factory=dict)
    drained: tuple[float, float, float] = (float("nan"),) * 3
    fault: str = ""


def peak(alone: Answers, closed: dict[int, Answers]) -> float:
    """The best goodput of clients that wait for their answers."""
    return max(answers.goodput() for answers in (alone, *closed.values()))


def tell(report: Report, found: Measured) -> None:
    """Adds all rows."""
    _tell_alone(report, found)
    numbers = {f"{count} clients": answers for count, answers in found.closed.items()}
    for name, answers in {**numbers, f"{max(found.closed)} clients, again": found.again}.items():
        report.add(f"{found.name}, {name}", "goodput", "answers/s", [answers.goodput()])
        timed(report, f"{found.name}, {name}", answers)
    _tell_stages(report, f"{found.name}, {max(found.closed)} clients", found.closed[max(found.closed)])
    for factor, answers in found.opened.items():
        case = f"{found.name}, {factor:g}x the peak"
        report.add(case, "goodput / requests", "ratio", [answers.share(200) / 100])
        timed(report, case, answers)
        report.add(case, "refused (503)", "%", [answers.share(503)])
    _tell_overload(report, found)
    if found.leaving:
        case = f"{found.name}, 2x, {LEAVING:.0%} of the clients leave"
        # Held against what came just before: the machine's speed drifts.
        rest = found.leaving.goodput() / float(np.mean(found.overload.slices()[-3:]))
        report.add(case, "goodput of the rest / without", "ratio", [rest], Target(">=", 1 - LEAVING))
        report.add(case, "neither answer nor 503", "%", [100 - found.leaving.share(200, 503)], Target("<=", 0))
        report.add(case, "all places free after", "s", [found.idle], Target("<=", 1))
    for (metric, unit, target), value in zip(DRAINED, found.drained, strict=True):
        report.add(f"{found.name}, SIGTERM, 8 requests in flight", metric, unit, [value], target)


def timed(report: Report, case: str, answers: Answers, status: int = 200) -> None:
    """Their median time, and the 99th percentile."""
    times = answers.times(status)
    kind = {200: "time", 503: "time of a 503"}[status]
    if len(times):
        report.add(case, kind, "ms", list(times))
        report.add(case, f"{kind}, p99", "ms", [float(np.percentile(times, 99))], note=f"{len(times)} requests")


def _tell_alone(report: Report, found: Measured) -> None:
    case, alone = f"{found.name}, one at a time", found.alone
    report.add(found.name, "until it is ready", "s", [found.ready])
    report.add(case, "goodput", "answers/s", [alone.goodput()])
    timed(report, case, alone)
    _tell_stages(report, case, alone)
    for name, answers in found.results.items():
        timed(report, f"{case}, {name}", answers)


def _tell_stages(report: Report, case: str, answers: Answers) -> None:
    """Where the time of an answer goes, in the mean."""
    for stage in STAGES:
        report.add(case, f"mean of {stage}", "ms", [answers.stages[stage]])
    rest = float(np.mean(answers.times())) - sum(answers.stages[stage] for stage in STAGES)
    report.add(case, "mean of all else", "ms", [rest])
    report.add(case, "mean of a batch", "clips", [answers.stages["batch"]])


def _tell_overload(report: Report, found: Measured) -> None:
    """What issue 16 asks for comes first."""
    answers, best = found.overload, peak(found.alone, found.closed)
    case, count = f"{found.name}, 2x the peak, {answers.seconds:g} s", len(answers.times())
    report.add(case, "goodput / peak", "ratio", [answers.goodput() / best], Target(">=", 0.9),
               note=f"peak {best:.4g} answers/s")  # fmt: skip
    report.add(case, "goodput of 10 s / peak", "ratio", [value / best for value in answers.slices()])
    report.add(case, "neither answer nor 503", "%", [100 - answers.share(200, 503)], Target("<=", 0))
    report.add(case, "refused (503)", "%", [answers.share(503)])
    if answers.share(503):
        report.add(case, "until the first 503", "s", [answers.first(503)])
    timed(report, case, answers)
    timed(report, case, answers, 503)
    report.add(case, "client, sent late, p99", "ms", [float(np.percentile(answers.late(), 99))])
    report.add(case, "client, processor time", "% of one", [100 * answers.spent / answers.seconds])
    _tell_stages(report, case, answers)
    for role, held in zip(("server", "decoders"), answers.memory.T[1:], strict=True):
        tenth = max(1, len(held) // 10)
        name = f"{case}, {role}"
        report.add(name, "memory after 10 %", "MB", list(held[tenth : 2 * tenth]))
        report.add(name, "memory at the end", "MB", list(held[-tenth:]))
        if count >= 1000:  # fewer answers say nothing of a thousand
            line = np.polyfit(answers.memory[tenth:, 0], held[tenth:], 1)
            growth = float(line[0]) * answers.seconds * 1000 / count
            report.add(name, "growth by line", "MB/1000", [growth], Target("<=", FLAT))
