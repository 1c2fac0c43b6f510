"""Every operator on its own: launch to launch, as kernels alone, and against the bandwidth of the memory."""

from __future__ import annotations

from functools import partial

from aosa_fast.bench.gpu.bench import Bench
from aosa_fast.bench.gpu.cases import Case, flow_cases, operator_cases
from aosa_fast.bench.gpu.clock import Call
from aosa_fast.bench.report import Report


def copy(report: Report, bench: Bench) -> None:
    """What the device's memory gives, read and written bytes together."""
    report.section("Device-to-device copy")
    clock = bench.clock
    report.add(f"copy of {clock.copied / 2**20:g} MiB", "read and written", "GB/s", [b / 1e9 for b in clock.copies])


def operators(report: Report, bench: Bench) -> None:
    """All but the optical flow."""
    plan = bench.plan
    report.section(f"Operators, {plan.frames}x{plan.side}x{plan.side}, C=3, K=3, box {plan.box}, smooth random flow")
    for case in operator_cases(plan):
        if case.floor:
            _time(report, bench, case)


def flow(report: Report, bench: Bench) -> None:
    """Farnebäck's."""
    report.section("Optical flow")
    for case in flow_cases(bench.plan):
        _time(report, bench, case)


def _time(report: Report, bench: Bench, case: Case) -> None:
    clock, plan = bench.clock, bench.plan
    sets = [case.on(clock.device) for _ in range(clock.sets(case.floor))]
    calls: list[Call] = [partial(bench.functions[case.operator], *arguments, **case.options) for arguments in sets]
    note = f"{len(sets)} input sets, {case.floor / 1e6:.3g} MB"
    seconds = clock.queue(calls, plan.repeats)
    _add(report, case, "queue of calls", seconds, note)
    try:
        kernels = clock.replay(calls, plan.replays)
    except RuntimeError as error:
        print(f"  {case.name}: no graph, so figures of the queue; {str(error).splitlines()[0]}", flush=True)
        kernels = seconds
        if "kernels" in case.targets:  # an upper bound
            _add(report, case, "kernels", seconds, "of the queue: an upper bound")
    else:
        _add(report, case, "kernels", kernels)
    share = [100 * case.floor / (s * clock.bandwidth) for s in kernels]
    report.add(case.name, "of copy bandwidth", "%", share, case.targets.get("of copy bandwidth"))


def _add(report: Report, case: Case, metric: str, seconds: list[float], note: str = "") -> None:
    report.time(case.name, seconds, "us", case.targets.get(metric), metric=metric, note=note)
