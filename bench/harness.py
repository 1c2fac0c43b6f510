"""Timing in interleaved repeats."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch

from aosa_fast.bench.processes import forget_peak, memory

Cases = dict[str, Callable[[], object]]


class Seconds(list[float]):
    """Of every round, and `peak`: the most memory that one call held beyond what was held before it, MB."""

    peak: float | None = None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's number of threads, which is also that of the operators."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleave(cases: Cases, repeats: int, warmup: int = 2, settle: bool = False) -> dict[str, Seconds]:
    """Seconds of every case in every round: A B C, C B A, A B C, so that drift hits all alike and ratios hold.

    With `settle`, each timed call follows an untimed one of the same case: a network's call leaves the heap in a state
    that costs the next one of another kind some 30 ms of page faults (64 000 a call), which is neither's to pay.
    """
    seconds = {name: Seconds() for name in cases}
    for number in range(warmup):
        for name, run in cases.items():
            if number == warmup - 1:
                seconds[name].peak = peak_of(run)
            else:
                run()
    gc.collect()
    gc.disable()
    try:
        for round_ in range(repeats):
            for name in list(cases)[:: -1 if round_ % 2 else 1]:
                if settle:
                    cases[name]()
                start = time.perf_counter()
                cases[name]()
                seconds[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return seconds


def peak_of(run: Callable[[], object]) -> float | None:
    """The most resident memory that a call holds beyond what is held before it, MB; None where it cannot be seen."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # glibc has it alone
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls have given back, but the C library still holds
    try:
        before = memory()
        forget_peak()
    except OSError:
        run()
        return None
    run()
    return max(memory(what="VmHWM") - before, 0.0)


def ratios(above: list[float], below: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]
