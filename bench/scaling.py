"""How time and memory of everything but the network grow, with the exponents that were fitted beside those expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from aosa_fast.bench.harness import Cases, Seconds, interleave, threads
from aosa_fast.bench.inputs import SIDE, Operands, operands
from aosa_fast.bench.operators import explain_part
from aosa_fast.bench.report import Report
from aosa_fast.kernels.partners import select_partners

LEAST = 1.0  # MB: what is less is lost in what the allocator keeps


@dataclass(frozen=True)
class Sweep:
    """One size that grows.

    Attributes:
        name: of the size.
        values: that it has.
        make: what is called for a value, ready to be timed.
        expected: the exponent of the time, by count; of the memory, where that is another one.
        memory: as said; None: the memory is too small to tell.
        threads: whether the value is the number of threads.
    """

    name: str
    values: Sequence[int]
    make: Callable[[int], Callable[[], object]]
    expected: float
    memory: float | None = None
    threads: bool = False


def scaling(report: Report, quick: bool) -> None:
    """Every sweep, its sizes in turns."""
    for sweep in sweeps():
        report.section(f"{sweep.name}: {', '.join(map(str, sweep.values))}; 16x112x112, C=3, K=3, box 16 but for that")
        made = {value: sweep.make(value) for value in sweep.values}
        repeats = 3 if quick else 31
        timed: dict[int, Seconds] = {}
        if sweep.threads:
            for value in sweep.values:
                with threads(value):
                    timed[value] = interleave({"": made[value]}, repeats)[""]
        else:
            cases: Cases = {str(value): run for value, run in made.items()}
            timed = {int(name): seconds for name, seconds in interleave(cases, repeats).items()}
        for value, seconds in timed.items():
            with threads(value if sweep.threads else torch.get_num_threads()):
                report.time(f"{sweep.name}={value}", seconds)
        medians = [float(np.median(seconds)) for seconds in timed.values()]
        report.add(sweep.name, f"exponent of time, expected {sweep.expected:g}", "power", [fit(sweep.values, medians)])
        peaks = [seconds.peak or 0.0 for seconds in timed.values()]
        if sweep.memory is not None and min(peaks) >= LEAST:
            wanted = f"exponent of memory, expected {sweep.memory:g}"
            report.add(sweep.name, wanted, "power", [fit(sweep.values, peaks)])


def sweeps() -> list[Sweep]:
    """Field, scores and map of AOSA-approx, and its choice of partners, which alone grows with the anchors' square."""
    return [
        Sweep("N, scores and map", (196, 784, 3136), lambda n: _of(operands(_stride(n))), 1.0),
        Sweep("N, partners", (196, 784, 3136), lambda n: _partners(operands(_stride(n))), 2.0),
        Sweep("T, scores and map", (8, 16, 32, 64), lambda t: _of(operands(8, frames=t)), 1.0, 1.0),
        Sweep("T, partners", (8, 16, 32, 64), lambda t: _partners(operands(4, frames=t)), 1.0),
        Sweep("H W, scores and map", (56**2, 112**2, 224**2), lambda p: _of(_pixels(p)), 1.0, 1.0),
        Sweep("K, scores and map", (1, 3, 7), lambda k: _of(operands(8, partners=k)), 1.0),
        Sweep("box, scores and map", (4, 8, 16, 32, 56), lambda box: _of(operands(4, box)), 0.0),
        Sweep("clips, scores and map", (1, 2, 4, 8), lambda b: _of(_repeated(operands(8), b)), 1.0, 1.0),
        Sweep("threads, scores and map", _thread_counts(), lambda _: _of(operands(4)), -1.0, threads=True),
    ]


def fit(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The exponent of a power law, by least squares of the logarithms; NaN for one size."""
    if len(sizes) < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _of(o: Operands) -> Callable[[], object]:
    return partial(explain_part, o)


def _partners(o: Operands) -> Callable[[], object]:
    return partial(select_partners, o.tracks, o.members.shape[2] - 1)


def _stride(anchors: int) -> int:
    return SIDE // round(anchors**0.5)


def _pixels(count: int) -> Operands:
    """196 anchors in frames of so many pixels, with boxes that grow with them."""
    side = round(count**0.5)
    return operands(side // 14, side // 7, side=side)


def _repeated(o: Operands, clips: int) -> Operands:
    def many(values: torch.Tensor) -> torch.Tensor:
        return values.repeat(clips, *[1] * (values.dim() - 1))

    video, grad, flow, tracks, alive = map(many, (o.video, o.grad, o.flow, o.tracks, o.alive))
    return Operands(video, grad, flow, tracks, alive, many(o.boxes), many(o.members), o.stride, o.box)


def _thread_counts() -> list[int]:
    most = max(torch.get_num_threads(), 2)
    return [count for count in (1, 2, 4, 8, 16, 32) if count <= most]
