"""What the first explanation of a process costs beyond torch, the model, and a later explanation."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING

from aosa_fast.bench.fresh import fresh

if TYPE_CHECKING:  # the process that is measured imports torch when it is told to
    from aosa_fast.bench.report import Report

SIZES = {196: (112, 8), 784: (112, 4), 4096: (128, 2)}  # anchors: side of the frame, stride; pixels
# Where Numba's compiled code is, and whether Numba is loaded beside torch and the model.
WAYS = (("kept", "explain"), ("empty", "explain"), ("nowhere", "explain"), ("kept", "preloaded"))


def child(anchors: int, way: str) -> dict[str, float]:
    """Seconds of this process: torch and the model, from there to the end of the first explanation, and a later one."""
    start = time.perf_counter()
    if way == "preloaded":
        from aosa_fast.kernels import jit

        jit.preload()
    import torch

    from aosa_fast.models import load

    torch.set_num_threads(2)
    side, stride = SIZES[anchors]
    model = load("demo").network
    video = torch.rand(1, 3, 16, side, side, generator=torch.Generator().manual_seed(0))
    loaded = time.perf_counter()
    import aosa_fast

    def explain() -> float:
        begin = time.perf_counter()
        aosa_fast.explain(model, video, 0, stride=stride)
        return time.perf_counter() - begin

    explain()
    done = time.perf_counter()
    second = explain()
    from aosa_fast.kernels import jit

    jit.preload().join()
    return {
        "torch and model": loaded - start,
        "to the first": done - start,
        "second": second,
        "later": sorted(explain() for _ in range(5))[2],
    }


def measure(anchors: int, cache: str, way: str) -> dict[str, float]:
    """What `child` says in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"NUMBA_CACHE_DIR": folder} if cache == "empty" else {}
        if cache == "nowhere":
            own["NUMBA_CACHE_LOCATOR_CLASSES"] = "IPythonCacheLocator"
        found: dict[str, float] = fresh("aosa_fast.bench.first_call:child", own, anchors=anchors, way=way)
    return found


def first_call(report: Report, quick: bool) -> None:
    """Measures in rounds, so that drift hits all alike."""
    from aosa_fast.bench.report import Target

    report.section("the first explanation of a process, embedded model, 16 frames")
    cases = [(anchors, *way) for anchors in list(SIZES)[: 1 if quick else None] for way in WAYS]
    rounds = [{case: measure(*case) for case in cases} for _ in range(1 if quick else 7)]
    for anchors, cache, way in cases:
        found = [own[anchors, cache, way] for own in rounds]
        # What is loaded beside torch and the model makes these slower: held against a process that loads nothing else.
        base = [own[anchors, cache, "explain"]["torch and model"] for own in rounds]
        beyond = [own["to the first"] - alone for own, alone in zip(found, base, strict=True)]
        name = f"N={anchors}, code {cache}, {way}"
        extra = [value - own["later"] for value, own in zip(beyond, found, strict=True)]
        report.add(name, "first less a later one", "s", extra, None if way == "preloaded" else Target("<=", 0.3))
        for metric in ("torch and model", "second", "later"):
            report.add(name, metric, "s", [own[metric] for own in found])
