"""Whole audits of video files against the bare network's forward and backward, in turns and in fresh processes."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.compute as pc

from aosa_fast.audit.store.parts import read_rows
from aosa_fast.bench.audit.child import CHILD, Answer
from aosa_fast.bench.audit.files import write_clips
from aosa_fast.bench.fresh import fresh
from aosa_fast.bench.harness import ratios, threads
from aosa_fast.bench.report import Report, Target

BATCH = 8
SETTINGS = {  # readers and threads of an audit; 0: whatever the defaults are
    "defaults": (0, 0),
    "2 readers, 2 threads": (2, 2),
    "1 reader, 2 threads": (1, 2),
    "2 readers, 1 thread": (2, 1),
    "1 reader, 1 thread": (1, 1),
}
# A bare run lies beside those that it is compared with.
TURNS = ("bare 2", *list(SETTINGS)[:3], "bare 1", *list(SETTINGS)[3:])


@dataclass(frozen=True)
class Network:
    """A model; clips of audits with the defaults, and of the others; seconds that a bare run takes at least."""

    spec: str
    name: str
    clips: int
    compared: int
    seconds: float
    target: Target | None


NETWORKS = (
    Network("torchvision:r3d_18:random", "r3d_18", 100, 32, 40.0, Target(">=", 0.9)),
    Network("demo", "demo network", 400, 400, 10.0, None),
)


def throughput(report: Report, quick: bool) -> None:
    """Clips per second of audits over those of the bare network, round by round."""
    with tempfile.TemporaryDirectory() as folder:
        networks = [replace(n, clips=16, compared=8, seconds=0.0) for n in NETWORKS] if quick else NETWORKS
        write_clips(Path(folder) / "clips", max(network.clips for network in networks))
        for network in networks:
            report.section(f"{network.name}: audits of videos, batches of {BATCH}, and the bare network, in turns")
            found: dict[str, list[Answer]] = defaultdict(list)
            for round_ in range(1 if quick else 3):
                for name in TURNS[:: -1 if round_ % 2 else 1]:
                    found[name].append(_turn(network, name, Path(folder), round_))
            _tell(report, network, found)


def _turn(network: Network, name: str, folder: Path, round_: int) -> Answer:
    if name.startswith("bare"):
        count = int(name.split()[1])
        return fresh(f"{CHILD}:pure", model=network.spec, batch=BATCH, threads=count, seconds=network.seconds, least=2)
    readers, count = SETTINGS[name]
    out, whole = folder / f"{network.name}, {name}, {round_}", name == "defaults"
    answer = fresh(
        f"{CHILD}:audit", data=str(folder / "clips"), model=network.spec, out=str(out), device="cpu",
        limit=network.clips if whole else network.compared, readers=readers, threads=count,
        # Checks against exact scores come in a few batches only: in the long runs, as many as there should be.
        settings={"batch": BATCH, **({} if whole else {"check_share": 0.0})},
    )  # fmt: skip
    rows = read_rows(out)
    if answer["ok"] != len(rows) or answer["new"] != len(rows):
        raise SystemExit(f"all {len(rows)} clips must be ok; {answer['ok']} are")
    spent = {step: pc.mean(rows[f"seconds_{step}"]).as_py() for step in ("read", "flow", "motion", "model", "measures")}
    size = sum(path.stat().st_size for path in (out / "clips").iterdir()) / len(rows)
    return {**answer, **spent, "checked": len(rows) - rows["taylor_error"].null_count, "size": size}


def _tell(report: Report, network: Network, found: dict[str, list[Answer]]) -> None:
    bare = {count: [answer["rate"] for answer in found[f"bare {count}"]] for count in (1, 2)}
    for count, rates in bare.items():
        with threads(count):
            case, spent = f"{network.name}, forward + input-backward", [a["processor"] for a in found[f"bare {count}"]]
            report.add(case, "throughput", "clips/s", rates)
            report.add(case, "processor time", "ms/clip", [1e3 * seconds for seconds in spent])
    for name, (_, count) in SETTINGS.items():
        case, answers = f"{network.name}, audit, {name}", found[name]
        used = count or os.cpu_count() or 1
        below, rates = bare[min(used, 2)], [answer["rate"] for answer in answers]
        target, note = (network.target, f"{answers[0]['checked']} clips checked") if not count else (None, "")
        with threads(used):
            report.add(case, "throughput", "clips/s", rates, note=f"{answers[0]['new']} clips")
            report.add(case, "audit / (fwd + bwd)", "ratio", ratios(rates, below), target, note=note)
            # Unlike the time of day, it hardly feels what else the machine does.
            beyond = ratios([a["explainer"] for a in answers], [a["processor"] for a in found[f"bare {min(used, 2)}"]])
            report.add(case, "processor time, explainer / bare", "ratio", beyond)
            if not count:
                _tell_more(report, case, answers, below)


def _tell_more(report: Report, case: str, answers: list[Answer], below: list[float]) -> None:
    steady = [answer["steady"] for answer in answers]
    report.add(case, "without the first batch", "ratio", ratios(steady, below))
    report.add(case, "before the first clip", "s", [answer["startup"] for answer in answers])
    for step in ("read", "flow", "motion", "model", "measures"):
        report.add(case, f"row's seconds, {step}", "ms/clip", [1e3 * answer[step] for answer in answers])
    for process in ("driver", "readers", "explainer"):
        report.add(case, f"processor time, {process}", "ms/clip", [1e3 * answer[process] for answer in answers])
    report.add(case, "part on disk", "kB/clip", [answer["size"] / 1e3 for answer in answers])
