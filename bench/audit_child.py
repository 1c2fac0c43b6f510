"""One fresh process of the audit's benchmark: `python bench/audit_child.py WHAT JSON`; the last line it prints is JSON.

It imports nothing that is not needed, so that an audit's driver is here what it is on the command line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from audit_memory import forget_peak, memory, processor_seconds, workers

Answer = dict[str, Any]


def command(what: str, **arguments: Any) -> list[str]:
    """The command line of a function below."""
    return [sys.executable, str(Path(__file__)), what, json.dumps(arguments)]


def fresh(what: str, **arguments: Any) -> Answer:
    """What a function below gives in a process of its own."""
    done = subprocess.run(command(what, **arguments), stdout=subprocess.PIPE, text=True, check=True)
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


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

    def report(done: int, total: int, words: str) -> None:
        spent = {name: processor_seconds(pid) for name, pid in workers(os.getpid()).items()}
        looks.append((done, time.monotonic(), {**spent, "driver": time.process_time()}))
        if done == total:
            peaks.update(
                {name: memory(pid, "VmHWM") for name, pid in {**workers(os.getpid()), "driver": "self"}.items()}
            )
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


def reading(paths: list[str], rounds: int) -> Answer:
    """CPU ms a clip of what a reader of an audit does, step after step, and of reading as `evaluate` does."""
    import audit_reading

    return audit_reading.spent(paths, rounds)


def step(name: str, argument: str, small: str) -> Answer:
    """A function of `audit_steps`: its seconds, and the MB that it takes at most, and keeps.

    It is done with something small before, which loads all that it needs.
    """
    import audit_steps

    make = getattr(audit_steps, name)
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

    from aosa_fast.cli.run_audit import run_report

    start = time.perf_counter()
    run_report(Path(folder), None, 999, 0, 200, None, Console(quiet=True), Console(quiet=True))
    return {"seconds": time.perf_counter() - start, "peak": memory(what="VmHWM")}


if __name__ == "__main__":
    tasks = {
        "pure": pure, "audit": audit, "decode": decode, "reading": reading, "step": step, "report": report,
    }  # fmt: skip
    print(json.dumps(tasks[sys.argv[1]](**json.loads(sys.argv[2]))))
