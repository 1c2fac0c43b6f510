"""Time and memory on a CUDA device, and what stands in for them in a rehearsal: the only place that knows which."""

from __future__ import annotations

import gc
import math
import subprocess
import time
from collections.abc import Callable
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import torch
import triton

Call = Callable[[], object]

# Input sets in rotation hold so many times what the L2 cache does, so that a call finds nothing of its own there.
ROTATION = 2
# At most: the smallest operands stay in the cache all the same, as they do behind the operator that made them.
MOST_SETS = 64
COPIED = 2**30  # bytes of the copy that shows the memory's bandwidth


class Clock:
    """A CUDA device."""

    rehearsal = False
    remark = ""
    copied = COPIED

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        properties = torch.cuda.get_device_properties(self.device)
        self.cache = int(getattr(properties, "L2_cache_size", 0)) or 64 * 2**20
        self.accelerator = f"{properties.name}, driver {driver_version()}, Triton {triton.__version__}"

    def synchronize(self) -> None:
        """Waits for the device."""
        torch.cuda.synchronize(self.device)

    def sets(self, size: int) -> int:
        """How many input sets to rotate for calls that move `size` bytes."""
        return min(max(math.ceil(ROTATION * self.cache / max(size, 1)), 2), MOST_SETS)

    def queue(self, calls: list[Call], repeats: int) -> list[float]:
        """Seconds from one call's end to the next one's on the device; the calls rotate, and are never waited for.

        That is the device's time where the device is slower than Python, and Python's where Python is.
        """
        kept = [call() for call in calls]  # results rotate as well
        for i in range(8):
            kept[i % len(calls)] = calls[i % len(calls)]()
        return self._between(
            [partial(_keep, kept, i % len(calls), calls[i % len(calls)]) for i in range(repeats)], per_mark=1
        )

    def replay(self, calls: list[Call], repeats: int) -> list[float]:
        """Seconds per call in a CUDA graph of all calls: kernels alone, one behind the other.

        Raises:
            RuntimeError: the calls can't be captured. They must have run before, so that nothing is left to compile.
        """
        graph = torch.cuda.CUDAGraph()
        self.synchronize()
        with torch.cuda.graph(graph):
            kept = [call() for call in calls]  # so that results are not written over one another
        for _ in range(2):
            graph.replay()
        seconds = self._between([graph.replay] * repeats, per_mark=len(calls))
        del kept, graph
        return seconds

    def peak(self, call: Call) -> float:
        """The most memory that a call holds beyond what is held before it, MB of 1e6 bytes."""
        call()
        gc.collect()
        self.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        call()
        self.synchronize()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 1e6

    @cached_property
    def copies(self) -> list[float]:
        """Bytes per second, read and written, of one large copy after the other."""
        first = torch.randint(0, 255, (self.copied,), dtype=torch.uint8, device=self.device)
        second = torch.empty_like(first)
        seconds = self.queue([partial(second.copy_, first), partial(first.copy_, second)], 21)
        return [2 * self.copied / s for s in seconds]

    @cached_property
    def bandwidth(self) -> float:
        """Median of `copies`."""
        return float(np.median(self.copies))

    def _between(self, calls: list[Call], per_mark: int) -> list[float]:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(calls) + 1)]
        gc.collect()
        gc.disable()
        try:
            self.synchronize()
            marks[0].record()
            for call, mark in zip(calls, marks[1:], strict=True):
                call()
                mark.record()
            self.synchronize()
        finally:
            gc.enable()
        return [a.elapsed_time(b) / 1e3 / per_mark for a, b in pairwise(marks)]


class Rehearsal(Clock):
    """The CPU in its place: everything is run, and nothing measured means anything."""

    rehearsal = True
    remark = "meaningless: a rehearsal"
    copied = 2**20

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.cache = 0
        self.accelerator = f"no GPU, Triton {triton.__version__} in its interpreter"

    def synchronize(self) -> None:
        """Nothing is under way."""

    def sets(self, size: int) -> int:
        """One: the interpreter is slow."""
        return 1

    def queue(self, calls: list[Call], repeats: int) -> list[float]:
        """Wall clock."""
        self._last = []
        for i in range(repeats):
            start = time.perf_counter()
            calls[i % len(calls)]()
            self._last.append(time.perf_counter() - start)
        return self._last

    def replay(self, calls: list[Call], repeats: int) -> list[float]:
        """The queue's seconds: the interpreter is slow."""
        return self._last

    def peak(self, call: Call) -> float:
        """Runs it; 0."""
        call()
        return 0.0


def _keep(kept: list[object], place: int, call: Call) -> None:
    kept[place] = call()


def driver_version() -> str:
    """Of NVIDIA's driver, as nvidia-smi says it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        found = []
    return found[0] if found else "unknown"
