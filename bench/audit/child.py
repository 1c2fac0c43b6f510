"""What the audit's benchmark does in processes of their own.

It imports nothing that is not needed, so that an audit's driver is here what it is on the command line.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from aosa_fast.bench.processes import forget_peak, memory, processor_seconds, workers
from aosa_fast.registry import import_object

CHILD = "aosa_fast.bench.audit.child"
Answer = dict[str, Any]


def pure(model: str, batch: int, threads: int, seconds: float, least: int) -> Answer:
    """Forward and backward to the input, and nothing else: clips per second, after one batch that does not count."""
    import torch

    from aosa_fast.models.loading import load_on

    torch.set_num_threads(threads)
    classifier = load_on(model, "cpu")
    network: Any = classifier.network
    preprocessing = classifier.preprocessing
    video = torch.randn(batch, 3, preprocessing.frames, *preprocessing.crop)

    def once() -> float:
        start = time.perf_counter()
        leaf = video.clone().requires_grad_()
        logits = network(leaf)
        torch.autograd.grad(logits.gather(1, logits.argmax(1, keepdim=True)).sum(), leaf)
        return time.perf_counter() - start

    once()
    taken: list[float] = []
    spent = time.process_time()
    while len(taken) < least or sum(taken) < seconds:
        taken.append(once())
    clips = batch * len(taken)
    return {"rate": clips / sum(taken), "processor": (time.process_time() - spent) / clips}


def audit(settings: dict[str, Any], shows: bool = False, **request: Any) -> Answer:
    """A whole audit with the local engine; with `shows`, the number of clips done is printed as they are."""
    from aosa_fast.audit import AuditRequest, driver
    from aosa_fast.audit.settings import AuditSettings

    looks: list[tuple[int, float, dict[str, float]]] = []  # clips done, time of day, processor time of each process
    peaks: dict[str, float] = {}  # resident MB at most, of each process

    def report(done: int, total: int, words: str = "") -> None:
        spent = {name: processor_seconds(pid) for name, pid in workers(os.getpid()).items()}
        looks.append((done, time.monotonic(), {**spent, "driver": time.process_time()}))
        if done == total:
            everybody = {**workers(os.getpid()), "driver": os.getpid()}
            peaks.update({name: memory(pid, "VmHWM") for name, pid in everybody.items()})
        if shows:
            print(done, flush=True)

    where = Path(request.pop("out"))
    result = driver.audit(AuditRequest(out=where, settings=AuditSettings(**settings), **request), report)
    (first, begun, spent), (last, ended, all_spent) = looks[0], looks[-1]
    clips = max(last - first, 1)
    processor = {name: (seconds - spent.get(name, 0.0)) / clips for name, seconds in all_spent.items()}
    return {
        "new": result.new,
        "ok": result.counts["ok"],
        "rate": result.new / result.busy,
        # From the first batch on, for which the model has to wait, and which finds it cold.
        "steady": clips / max(ended - begun, 1e-9),
        "startup": result.seconds - result.busy,
        "driver": processor["driver"],
        "peaks": peaks,
        "explainer": processor["explainer 1"],
        "readers": sum(seconds for name, seconds in processor.items() if name.startswith("reader")),
    }


def decode(paths: list[str], last: int, seconds: float) -> Answer:
    """Nothing but decoding through a frame, as PyAV does it by itself: clips per second, looped over."""
    import av

    done, start = 0, time.perf_counter()
    while done < len(paths) or time.perf_counter() - start < seconds:
        with av.open(paths[done % len(paths)]) as video:
            for number, _ in enumerate(video.decode(video=0)):
                if number == last:
                    break
        done += 1
    return {"rate": done / (time.perf_counter() - start)}


def step(name: str, argument: str, small: str) -> Answer:
    """A function of `steps`: its seconds, and the MB that it takes at most, and keeps.

    It is done with something small before, which loads all that it needs.
    """
    from aosa_fast.bench.audit import steps

    make = getattr(steps, name)
    make(small)()
    run = make(argument)
    before = memory()
    forget_peak()
    start = time.perf_counter()
    kept = run()
    seconds = time.perf_counter() - start
    found = {"seconds": seconds, "peak": memory(what="VmHWM") - before, "kept": memory() - before}
    del kept
    return found


def report(folder: str) -> Answer:
    """`audit-report` with its page and tables: seconds, and the MB that the process takes at most."""
    from rich.console import Console

    run_report = import_object("aosa_fast.cli.run_audit:run_report")  # it is what the command does that is measured
    start = time.perf_counter()
    run_report(Path(folder), None, 999, 0, 200, None, Console(quiet=True), Console(quiet=True))
    return {"seconds": time.perf_counter() - start, "peak": memory(what="VmHWM")}
