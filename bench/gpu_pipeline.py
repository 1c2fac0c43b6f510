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
from gpu_clock import Clock
from gpu_networks import Network, Ready, Setup
from harness import Cases, Report, Target, interleave, ratios

from aosa_fast import pipeline
from aosa_fast.inference.call import input_format
from aosa_fast.inference.timing import Timings

FLOWS = {"farneback": "", "farneback-opencv": ", OpenCV flow"}


def approx(report: Report, clock: Clock, setup: Setup) -> None:
    """AOSA-approx end to end, beside one forward + one input-backward in the same rounds."""
    for network in setup.networks:
        report.section(f"AOSA-approx, {network.name}, from uint8 pictures on the host to the map on the host")
        ready = Ready(network, clock)
        cases: Cases = {}
        for dtype in setup.dtypes:
            cases[f"forward + input-backward, {network.name}, {dtype}"] = partial(ready.bare, dtype)
            for stride, flow in _choices(network):
                call = partial(ready.explain, "aosa-approx", stride, dtype, flow)
                cases[_approx(network, stride, dtype, flow)] = call
            cases[_warm(network, dtype)] = ready.warm(network.strides[0], dtype)
        timed = interleave(cases, network.rounds, warmup=3 if network.rounds > 1 else 1)
        for dtype in setup.dtypes:
            base = timed[f"forward + input-backward, {network.name}, {dtype}"]
            report.add(f"forward + input-backward, {network.name}, {dtype}", "time", "ms", _milliseconds(base))
            for stride, flow in _choices(network):
                case = _approx(network, stride, dtype, flow)
                target = None if FLOWS[flow] else network.limit
                note = network.note("aosa-approx", stride)
                report.add(case, "host to host", "ms", _milliseconds(timed[case]), target, note)
                report.add(case, "total / (fwd + bwd)", "ratio", ratios(timed[case], base))
            report.add(_warm(network, dtype), "host to host", "ms", _milliseconds(timed[_warm(network, dtype)]))
            report.add(
                _warm(network, dtype), "total / (fwd + bwd)", "ratio", ratios(timed[_warm(network, dtype)], base)
            )


def stages(report: Report, clock: Clock, setup: Setup) -> None:
    """Where the time goes, in explanations of their own: the device is idle before and after each stage.

    Waiting takes time, so the stages together take longer than `approx` says. OpenCV's flow works in a thread beside
    the model, so those stages overlap, and theirs are no shares of a whole.
    """
    dtype = setup.dtypes[0]
    for network in setup.networks:
        report.section(f"Stages of AOSA-approx, {network.name}, {dtype}, waiting at every border")
        ready = Ready(network, clock)
        for stride, flow in _choices(network):
            case = _approx(network, stride, dtype, flow)
            with patch.object(pipeline, "Timings", partial(Waiting, clock)):
                found = [ready.explain("aosa-approx", stride, dtype, flow) for _ in range(setup.stages + 1)][1:]
            taken = [one.metadata["seconds"] for one in found]
            whole = [one["total"] for one in taken]
            columns = {stage: [one[stage] for one in taken] for stage in taken[0] if stage != "total"}
            if not FLOWS[flow]:
                columns["the rest"] = [
                    total - sum(parts) for total, *parts in zip(whole, *columns.values(), strict=True)
                ]
            for stage, seconds in columns.items():
                report.add(case, f"stage: {stage}", "ms", _milliseconds(seconds))
                if not FLOWS[flow]:
                    report.add(case, f"share: {stage}", "%", [100 * share for share in ratios(seconds, whole)])


def memory(report: Report, clock: Clock, setup: Setup) -> None:
    """The most that AOSA-approx holds on the device at once, the model's weights not counted."""
    report.section("Peak memory of AOSA-approx beyond the model")
    for network in setup.networks:
        ready = Ready(network, clock)
        for dtype in setup.dtypes:
            case = f"forward + input-backward, {network.name}, {dtype}"
            report.add(case, "peak beyond the model", "MB", [clock.peak(partial(ready.bare, dtype))])
            for stride in network.strides:
                call = partial(ready.explain, "aosa-approx", stride, dtype)
                case = _approx(network, stride, dtype, "farneback")
                report.add(case, "peak beyond the model", "MB", [clock.peak(call)])


def exact(report: Report, clock: Clock, setup: Setup) -> None:
    """Exact AOSA of every tube, beside the bare model's best throughput over batch sizes."""
    network, stride = setup.networks[0], setup.networks[0].strides[0]
    report.section(f"Exact AOSA, {network.name}, s={stride}, from uint8 pictures on the host to the map on the host")
    ready = Ready(network, clock)
    clips = max(setup.batches)  # in every timed call of the bare model
    for dtype in setup.dtypes:
        many = ready.video.repeat(clips, 1, 1, 1, 1).to(input_format(ready.model, dtype)[0])
        sizes = [size for size in setup.batches if ready.fits(many, size, dtype)]
        cases: Cases = {f"{size}": partial(ready.forwards, many, size, dtype) for size in sizes}
        cases["sweep"] = partial(ready.explain, "aosa", stride, dtype)
        tubes = ready.explain("aosa", stride, dtype).scores.shape[1]
        timed = interleave(cases, setup.sweeps, warmup=1)
        sweep = timed.pop("sweep")
        rates = {size: [clips / s for s in seconds] for size, seconds in timed.items()}
        for size, values in rates.items():
            report.add(f"bare {network.name}, batch {size}, {dtype}", "throughput", "clips/s", values)
        best = max(rates, key=lambda size: float(np.median(rates[size])))
        case = f"exact AOSA, {network.name} s={stride}, {dtype}"
        target = Target("<=", 100) if dtype == "bfloat16" else None
        report.add(case, "host to host", "ms", _milliseconds(sweep), target, network.note("aosa", stride))
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


def _milliseconds(seconds: list[float]) -> list[float]:
    return [1e3 * s for s in seconds]
