"""Whole explanations on the GPU, pictures in main memory to the map in main memory, beside what the network costs.

Every call that is compared runs in one process, in interleaved rounds, and ends with the device idle.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np

from aosa_fast import pipeline
from aosa_fast.bench.gpu.bench import Bench
from aosa_fast.bench.gpu.clock import Clock
from aosa_fast.bench.gpu.networks import Network, Ready
from aosa_fast.bench.harness import Cases, interleave, ratios
from aosa_fast.bench.report import Report, Target
from aosa_fast.inference.call import input_format
from aosa_fast.inference.timing import Timings

FLOWS = {"farneback": "", "farneback-opencv": ", OpenCV flow"}


def approx(report: Report, bench: Bench) -> None:
    """AOSA-approx end to end, beside one forward + one input-backward in the same rounds."""
    for network in bench.setup.networks:
        report.section(f"AOSA-approx, {network.name}, from uint8 pictures on the host to the map on the host")
        ready = Ready(network, bench.clock)
        cases: Cases = {}
        for dtype in bench.setup.dtypes:
            cases[f"forward + input-backward, {network.name}, {dtype}"] = partial(ready.bare, dtype)
            for stride, flow in _choices(network):
                call = partial(ready.explain, "aosa-approx", stride, dtype, flow)
                cases[_approx(network, stride, dtype, flow)] = call
            cases[_warm(network, dtype)] = ready.warm(network.strides[0], dtype)
        timed = interleave(cases, network.rounds, warmup=3 if network.rounds > 1 else 1)
        for dtype in bench.setup.dtypes:
            base = timed[f"forward + input-backward, {network.name}, {dtype}"]
            report.time(f"forward + input-backward, {network.name}, {dtype}", base)
            for stride, flow in _choices(network):
                case = _approx(network, stride, dtype, flow)
                target = None if FLOWS[flow] else network.limit
                note = network.note("aosa-approx", stride)
                report.time(case, timed[case], target=target, metric="host to host", note=note)
                report.add(case, "total / (fwd + bwd)", "ratio", ratios(timed[case], base))
            report.time(_warm(network, dtype), timed[_warm(network, dtype)], metric="host to host")
            report.add(
                _warm(network, dtype), "total / (fwd + bwd)", "ratio", ratios(timed[_warm(network, dtype)], base)
            )


def stages(report: Report, bench: Bench) -> None:
    """Where the time goes, in explanations of their own: the device is idle before and after each stage.

    Waiting takes time, so the stages together take longer than `approx` says. OpenCV's flow works in a thread beside
    the model, so those stages overlap, and theirs are no shares of a whole.
    """
    dtype = bench.setup.dtypes[0]
    for network in bench.setup.networks:
        report.section(f"Stages of AOSA-approx, {network.name}, {dtype}, waiting at every border")
        ready = Ready(network, bench.clock)
        for stride, flow in _choices(network):
            case = _approx(network, stride, dtype, flow)
            with patch.object(pipeline, "Timings", partial(Waiting, bench.clock)):
                found = [ready.explain("aosa-approx", stride, dtype, flow) for _ in range(bench.setup.stages + 1)][1:]
            taken = [one.metadata["seconds"] for one in found]
            whole = [one["total"] for one in taken]
            columns = {stage: [one[stage] for one in taken] for stage in taken[0] if stage != "total"}
            if not FLOWS[flow]:
                columns["the rest"] = [
                    total - sum(parts) for total, *parts in zip(whole, *columns.values(), strict=True)
                ]
            for stage, seconds in columns.items():
                report.time(case, seconds, metric=f"stage: {stage}")
                if not FLOWS[flow]:
                    report.add(case, f"share: {stage}", "%", [100 * share for share in ratios(seconds, whole)])


def memory(report: Report, bench: Bench) -> None:
    """The most that AOSA-approx holds on the device at once, the model's weights not counted."""
    report.section("Peak memory of AOSA-approx beyond the model")
    for network in bench.setup.networks:
        ready = Ready(network, bench.clock)
        for dtype in bench.setup.dtypes:
            case = f"forward + input-backward, {network.name}, {dtype}"
            report.add(case, "peak beyond the model", "MB", [bench.clock.peak(partial(ready.bare, dtype))])
            for stride in network.strides:
                call = partial(ready.explain, "aosa-approx", stride, dtype)
                case = _approx(network, stride, dtype, "farneback")
                report.add(case, "peak beyond the model", "MB", [bench.clock.peak(call)])


def exact(report: Report, bench: Bench) -> None:
    """Exact AOSA of every tube, beside the bare model's best throughput over batch sizes."""
    network, stride = bench.setup.networks[0], bench.setup.networks[0].strides[0]
    report.section(f"Exact AOSA, {network.name}, s={stride}, from uint8 pictures on the host to the map on the host")
    ready = Ready(network, bench.clock)
    clips = max(bench.setup.batches)  # in every timed call of the bare model
    for dtype in bench.setup.dtypes:
        many = ready.video.repeat(clips, 1, 1, 1, 1).to(input_format(ready.model, dtype)[0])
        sizes = [size for size in bench.setup.batches if ready.fits(many, size, dtype)]
        cases: Cases = {f"{size}": partial(ready.forwards, many, size, dtype) for size in sizes}
        cases["sweep"] = partial(ready.explain, "aosa", stride, dtype)
        tubes = ready.explain("aosa", stride, dtype).scores.shape[1]
        timed = interleave(cases, bench.setup.sweeps, warmup=1)
        sweep = timed.pop("sweep")
        rates = {size: [clips / s for s in seconds] for size, seconds in timed.items()}
        for size, values in rates.items():
            report.add(f"bare {network.name}, batch {size}, {dtype}", "throughput", "clips/s", values)
        best = max(rates, key=lambda size: float(np.median(rates[size])))
        case = f"exact AOSA, {network.name} s={stride}, {dtype}"
        target = Target("<=", 100) if dtype == "bfloat16" else None
        report.time(case, sweep, target=target, metric="host to host", note=network.note("aosa", stride))
        share = [tubes / clips * b / s for s, b in zip(sweep, timed[best], strict=True)]
        report.add(case, "of the best bare model", "ratio", share, note=f"{tubes} tubes; batch {best}")


class Waiting(Timings):
    """Stages that begin and end with the device idle; other threads do not wait, for the model is not theirs."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Times one stage."""
        wait = threading.current_thread() is threading.main_thread()
        if wait:
            self._clock.synchronize()
        with super().__call__(stage):
            yield
            if wait:
                self._clock.synchronize()


def _choices(network: Network) -> list[tuple[int, str]]:
    return [(stride, flow) for stride in network.strides for flow in FLOWS]


def _approx(network: Network, stride: int, dtype: str, flow: str) -> str:
    return f"AOSA-approx, {network.name} s={stride}, {dtype}{FLOWS[flow]}"


def _warm(network: Network, dtype: str) -> str:
    return f"{_approx(network, network.strides[0], dtype, 'farneback')}, warm"
