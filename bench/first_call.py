"""What the first explanation of a process costs beyond torch, the model, and a later explanation.

    python bench/first_call.py             # fresh processes: 196, 784 and 4096 anchors, with and without kept code
    python bench/first_call.py --record    # write the rows to bench/results.csv

`--child` is such a process: it prints its seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
        command = [sys.executable, "-P", str(Path(__file__)), "--child", str(anchors), way]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **own})
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures in rounds, so that drift hits all alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the rows to bench/results.csv")
    parser.add_argument("--overwrite", action="store_true", help="with --record, replace rows that exist")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(int(options.child[0]), options.child[1])))
        return
    from harness import Report, Target

    report = Report("first_call")
    report.section("the first explanation of a process, embedded model, 16 frames")
    cases = [(anchors, *way) for anchors in SIZES for way in WAYS]
    rounds = [{case: measure(*case) for case in cases} for _ in range(options.repeats)]
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
    if options.record:
        report.record(overwrite=options.overwrite)
    report.summary()


if __name__ == "__main__":
    if "--child" not in sys.argv:
        from harness import quiet_openmp

        quiet_openmp()
    main()
