"""The benchmark of whole audits: speed, memory, and what rows cost; `python bench/audit.py --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from harness import Report, quiet_openmp

import audit_cues
import audit_parts
import audit_reading
import audit_soak
import audit_throughput

SECTIONS = ("throughput", "reading", "soak", "parts")
CUES = "cues"  # takes fifteen minutes, and footage that is not part of the project: only where it is asked for


def main() -> int:
    """0: done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", choices=(*SECTIONS, CUES), action="append", help="run this section only; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="a few clips of everything, in some three minutes")
    parser.add_argument("--clips", type=int, default=10_000, help="of the soak run")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="where the soak run writes what it saw, as csv")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the largest report; others have 1/10 and 1/100")
    parser.add_argument("--rounds", type=int, default=3, help="of the throughput and the reading")
    parser.add_argument("--footage", type=Path, metavar="DIR", help="the Weizmann clips, for the cues")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the cues")
    parser.add_argument("--steps", type=int, default=300, help="of a training on cues")
    parser.add_argument("--out", type=Path, default=Path("out/cues"), help="where the rows of the cues are kept")
    parser.add_argument("--record", action="store_true", help="write the rows to bench/results.csv")
    parser.add_argument("--overwrite", action="store_true", help="with --record, replace rows that exist")
    options = parser.parse_args()
    if options.quick and options.record:
        parser.error("--quick must not be recorded: its figures rest on too few clips")
    if CUES in (options.only or ()) and options.footage is None:
        parser.error("--footage must be given for the cues")
    if not sys.platform.startswith("linux"):
        parser.error("it must run on Linux: memory and processor time of other processes are read from /proc")
    report = Report("audit", remark="of too few clips" if options.quick else "")
    print(f"{report.machine}\nload {os.getloadavg()[0]:.2f}")
    for name in options.only or SECTIONS:
        sections(report, options)[name]()
        if options.record:
            report.record(overwrite=options.overwrite)
    report.summary()
    return 0


def sections(report: Report, options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """What runs under each name."""
    quick = options.quick
    return {
        "throughput": lambda: audit_throughput.throughput(report, 1 if quick else options.rounds, quick),
        "reading": lambda: audit_reading.reading(report, 1 if quick else options.rounds, quick),
        "soak": lambda: audit_soak.soak(report, 200 if quick else options.clips, options.samples),
        CUES: lambda: audit_cues.cues(report, options.footage, options.seeds, options.steps, options.out),
        "parts": lambda: audit_parts.parts(report, 10_000 if quick else options.rows, quick),
    }


if __name__ == "__main__":
    quiet_openmp()
    sys.exit(main())
