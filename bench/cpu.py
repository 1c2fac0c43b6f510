"""The CPU benchmark: checks every operator against the reference, then times it; `python bench/cpu.py --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import flows
import memory
import network
import operators
import stream
import stream_soak
import torch
import warm
from harness import Report, quiet_openmp
from verify import MismatchError, verify

SECTIONS = (
    *("operators", "together", "partners", "yardstick", "approx", "memory", "flow", "exact", "dual", "warm"),
    *("stream", "soak"),
)


def main() -> int:
    """0: done; 1: an operator is wrong, nothing was timed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="run this section only; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a few repeats of everything, in less than a minute")
    parser.add_argument("--record", action="store_true", help="write the rows to bench/results.csv")
    parser.add_argument("--overwrite", action="store_true", help="with --record, replace rows that exist")
    options = parser.parse_args()
    if options.quick and options.record:
        parser.error("--quick must not be recorded: its figures rest on too few repeats")
    report = Report("cpu")
    print(f"{report.machine}\n{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.2f}")
    try:
        verify((8,) if options.quick else (8, 4))
    except MismatchError as error:
        print(f"not timed: {error}", file=sys.stderr)
        return 1
    for name in options.only or SECTIONS:
        sections(report, options.quick)[name]()
        if options.record:
            report.record(overwrite=options.overwrite)
    report.summary()
    return 0


def sections(report: Report, quick: bool) -> dict[str, Callable[[], None]]:
    """What runs under each name, with its number of repeats."""
    many = 5 if quick else 100
    return {
        "operators": lambda: operators.single_operators(report, many),
        "together": lambda: operators.together(report, many),
        "partners": lambda: operators.partners(report, 3 if quick else 50),
        "yardstick": lambda: operators.yardstick(report, 1 if quick else 5, (8,) if quick else (8, 4)),
        "approx": lambda: network.approx(report, 2 if quick else 41),
        "exact": lambda: network.exact(report, 1 if quick else 3, quick),
        "dual": lambda: network.dual(report, 1 if quick else 7),
        "warm": lambda: warm.warm(report, quick),
        "stream": lambda: stream.stream(report, quick),
        "soak": lambda: stream_soak.soak(report, quick),
        "memory": lambda: memory.memory(report, 1 if quick else 3),
        "flow": lambda: flows.flows(report, 1 if quick else 7, quick),
    }


if __name__ == "__main__":
    quiet_openmp()
    sys.exit(main())
