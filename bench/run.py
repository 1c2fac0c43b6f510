"""Runs suites: checks every answer first, then times what was asked for, row after row."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from aosa_fast.bench.check import MismatchError
from aosa_fast.bench.machine import load
from aosa_fast.bench.registry import Part
from aosa_fast.bench.report import Report
from aosa_fast.errors import InputError
from aosa_fast.inference.precision import resolve_device
from aosa_fast.kernels import jit
from aosa_fast.libraries import check_libraries
from aosa_fast.progress import show_progress
from aosa_fast.registry import import_object

if TYPE_CHECKING:
    from aosa_fast.bench.gpu.bench import Bench

Checked = list[str]  # what is wrong, a line each; nothing is timed then


def run_parts(parts: Sequence[Part], device: str, quick: bool, json: Path | None) -> int:
    """Runs parts on a device, prints their figures, and writes them to a file as they are made.

    Returns:
        0: done; 1: an answer is wrong, and nothing was timed, or a part failed, which the others outlive.

    Raises:
        InputError: there is no such device, or a GPU is asked for and Triton is missing, or its interpreter is on.
    """
    place = resolve_device(device)
    if place.type == "cuda":
        check_libraries("triton", extra="bench")
        if os.environ.get("TRITON_INTERPRET", "0") not in ("", "0"):
            raise InputError("device=cuda must have TRITON_INTERPRET unset: the interpreter is not the GPU")
        from aosa_fast.bench.gpu.bench import on_device

        with torch.cuda.device(place):
            return run_on(on_device(quick), parts, quick, json)
    report = Report(json=json, quick=quick)
    checks = [part.check for part in parts if part.check]
    return _run(
        report, parts, lambda: check_answers(checks, quick), lambda part: import_object(part.run)(report, quick)
    )


def run_on(bench: Bench, parts: Sequence[Part], quick: bool = False, json: Path | None = None) -> int:
    """The same on a GPU, or on what stands in for it."""
    from aosa_fast.bench.gpu.check import check

    clock = bench.clock
    report = Report("", clock.accelerator, clock.remark, json, quick)
    return _run(report, parts, lambda: check(bench), lambda part: import_object(part.cuda)(report, bench))


def check_answers(checks: Sequence[str], quick: bool) -> Checked:
    """Each of these once."""
    try:
        for place in dict.fromkeys(checks):
            import_object(place)(quick)
    except MismatchError as error:
        return [str(error)]
    return []


@show_progress(False, "bench")  # a bar's time is not the work's
def _run(report: Report, parts: Sequence[Part], check: Callable[[], Checked], time: Callable[[Part], None]) -> int:
    print(f"{report.machine}\n{torch.get_num_threads()} threads, load {load():.2f}", flush=True)
    jit.preload().join()  # what is timed is what a long run does: compiled code from the first call on
    wrong = check()
    for line in wrong:
        print(f"not timed: {line}", file=sys.stderr)
    if wrong:
        return 1
    failed = []
    for part in parts:
        report.part = part.name
        try:
            time(part)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - others may still work, and a machine is not had every day
            if isinstance(error, InputError | SystemExit):
                print(f"{part.name}: {error}", file=sys.stderr)
            else:
                traceback.print_exc()
            failed.append(part.name)
    report.summary()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
