"""AOSA within a time: how far a call goes beyond it, and what a batch costs beside its forwards."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aosa_fast import explain
from aosa_fast.bench.harness import Cases, interleave, threads
from aosa_fast.bench.inputs import cell_weights, operands
from aosa_fast.bench.report import Report, Target
from aosa_fast.data import open_dataset
from aosa_fast.kernels.field import field
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from aosa_fast.methods.regression import Regression, choose
from aosa_fast.models import load

BUDGETS = (100, 200, 400, 800)  # milliseconds
SMALL: dict[str, Any] = {"stride": 5, "box": 9}  # for clips of 64 pixels a side


def overshoot(report: Report, quick: bool) -> None:
    """How far explanations go beyond their time, in milliseconds and in batches of four tubes."""
    calls = 8 if quick else 200
    classifier, data = load("demo"), open_dataset("rendered:31")
    read = [data.read(sample, classifier.preprocessing).frames[None] for sample in data.samples[:10]]
    pictures = [torch.from_numpy(np.ascontiguousarray(frames)) for frames in read]
    explain(classifier, pictures[0], method="aosa", budget_ms=1000, **SMALL)
    report.section(f"Beyond the time, demo network, {calls} calls")
    over, share, tubes = defaultdict(list), [], defaultdict(list)
    for i in range(calls):
        budget = BUDGETS[i % len(BUDGETS)]
        start = time.perf_counter()
        found = explain(classifier, pictures[i % len(pictures)], method="aosa", budget_ms=budget, **SMALL)
        over[budget].append(1e3 * (time.perf_counter() - start) - budget)
        known = found.metadata["self_check"]["budget"][0]["exact_tubes"]
        tubes[budget].append(known)
        if known:
            share.append(over[budget][-1] / (1e3 * found.metadata["seconds"]["sweep"] / np.ceil(known / 4)))
    for budget, values in over.items():
        note = f"{np.median(tubes[budget]):.0f} exact tubes"
        report.add(f"budget {budget} ms", "beyond the time", "ms", values, note=note)
        report.add(f"budget {budget} ms, p99", "beyond the time", "ms", [float(np.percentile(values, 99))])
    report.add("all budgets, p50", "beyond the time / a batch", "ratio", share)
    worst = float(np.percentile(share, 99))
    report.add("all budgets, p99", "beyond the time / a batch", "ratio", [worst], Target("<=", 1))


def estimate(report: Report, quick: bool) -> None:
    """What a batch costs beside its forwards: overlaps once for a clip, choice and fit each time."""
    report.section("Overlaps and regression, 16x112x112, K=3, box 16")
    for stride in (8, 4):
        o = operands(stride)
        weights = cell_weights(field(o.video, o.grad))
        overlaps = tube_overlaps(weights, o.boxes, o.members)[0].double()
        draw = torch.Generator().manual_seed(1)
        prior, exact = torch.randn(2, len(overlaps), generator=draw, dtype=torch.float64)
        cases: Cases = {"tube_overlaps": partial(tube_overlaps, weights, o.boxes, o.members)}
        for known in (16, 64):
            cases[f"choice and fit, M={known}"] = partial(batch, prior, overlaps, exact, known)
        for count in (1, 2):
            with threads(count):
                for name, seconds in interleave(cases, 3 if quick else 41).items():
                    limit = {8: 6, 4: 60}[stride] if name == "tube_overlaps" else None
                    target = Target("<=", limit) if limit else None
                    report.time(f"{name}, s={stride}", seconds, target=target)


def batch(prior: Tensor, overlaps: Tensor, exact: Tensor, known: int) -> None:
    """The start, of no cost, then one fit to so many answers and the choice of four more tubes."""
    regression = Regression(prior, overlaps, torch.ones_like(prior))
    first = list(range(known))
    regression.tell(first, exact[first])
    choose([regression], 4)
