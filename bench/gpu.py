"""The GPU benchmark: checks every operator against the reference, then times it; `python bench/gpu.py --help`.

Exit codes: 0 done; 1 an operator is wrong, and nothing was timed, or a section failed; 2 it cannot run here.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

# Only what Python brings: whether the rest is there is looked up first, and said in one line.
if TYPE_CHECKING:
    from gpu_clock import Clock
    from gpu_functions import Functions
    from gpu_plan import Plan
    from harness import Report

SECTIONS = ("operators", "flow", "approx", "stages", "memory", "exact")
NEEDED = ("torch", "triton", "numba", "cv2", "aosa_fast._C", "aosa_fast.kernels.field")
INTERPRET = "TRITON_INTERPRET"


def main(arguments: Sequence[str] | None = None) -> int:
    """Looks whether it can run, starts anew with what must be set before libraries load, and runs."""
    options = parse(arguments)
    obstacle = find_obstacle(options.rehearse)
    if obstacle:
        print(f"gpu.py: {obstacle}", file=sys.stderr)
        return 2
    from harness import quiet_openmp

    quiet_openmp(**({INTERPRET: "1"} if options.rehearse else {}))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return run(options)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="run this section only; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a few repeats of everything")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes without a GPU; every figure is meaningless")
    parser.add_argument("--record", action="store_true", help="write the rows to bench/results.csv")
    parser.add_argument("--overwrite", action="store_true", help="with --record, replace rows that exist")
    options = parser.parse_args(arguments)
    if options.record and (options.quick or options.rehearse):
        parser.error("--record must come without --quick and --rehearse: their figures rest on too few repeats")
    return options


def find_obstacle(rehearse: bool) -> str | None:
    """Why it cannot run here, in one line; None if it can."""
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError as error:
            reason = " ".join(str(error).split())
            return f"{name} must be importable, and aosa_fast installed with its extension; got {reason}"
    if rehearse:
        return None
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} must find a CUDA device; it finds none (--rehearse runs without one)"
    if os.environ.get(INTERPRET, "0") not in ("", "0"):
        return f"{INTERPRET} must not be set: the interpreter is not the GPU"
    return None


def run(options: argparse.Namespace, functions: Functions | None = None) -> int:
    """The benchmark, with these operators; default: the package's, or in a rehearsal their interpreted twins."""
    import gpu_plan
    import torch
    from gpu_check import check
    from gpu_clock import Clock, Rehearsal
    from gpu_functions import interpreted, public
    from harness import Report

    start = time.perf_counter()
    clock = Rehearsal() if options.rehearse else Clock()
    functions = functions or (interpreted() if options.rehearse else public())
    plan = gpu_plan.REHEARSAL if options.rehearse else gpu_plan.QUICK if options.quick else gpu_plan.FULL
    report = Report("gpu", clock.accelerator, clock.remark)
    print(f"{report.machine}\n{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.2f}")
    failures = check(functions, plan, clock)
    for failure in failures:
        print(f"not timed: {failure}", file=sys.stderr)
    if failures:
        return 1
    print(f"  checked in {time.perf_counter() - start:.0f} s")
    failed = []
    for name, section in sections(options, report, clock, plan, functions).items():
        if name in (options.only or SECTIONS) or name == "copy":
            try:
                section()
            except Exception:  # noqa: BLE001 - the other sections may still work, and a GPU is not had every day
                traceback.print_exc()
                failed.append(name)
            if options.record:
                report.record(overwrite=options.overwrite)
    report.summary()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    print(f"\n{time.perf_counter() - start:.0f} s {clock.remark}")
    return 1 if failed else 0


def sections(
    options: argparse.Namespace, report: Report, clock: Clock, plan: Plan, functions: Functions
) -> dict[str, Callable[[], None]]:
    """What runs under each name; the copy always does."""
    import gpu_networks
    import gpu_operators
    import gpu_pipeline

    setup = gpu_networks.REHEARSAL if options.rehearse else gpu_networks.FULL
    setup = setup.quick() if options.quick else setup
    return {
        "copy": lambda: gpu_operators.copy(report, clock),
        "operators": lambda: gpu_operators.operators(report, clock, plan, functions),
        "flow": lambda: gpu_operators.flow(report, clock, plan, functions),
        "approx": lambda: gpu_pipeline.approx(report, clock, setup),
        "stages": lambda: gpu_pipeline.stages(report, clock, setup),
        "memory": lambda: gpu_pipeline.memory(report, clock, setup),
        "exact": lambda: gpu_pipeline.exact(report, clock, setup),
    }


if __name__ == "__main__":
    sys.exit(main())
