"""Whole explanations of R3D-50 against what the network alone costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import aosa_fast
from aosa_fast.bench.harness import Cases, interleave, ratios
from aosa_fast.bench.inputs import MEAN, STD, moving_frames, normalised
from aosa_fast.bench.r3d50 import r3d50
from aosa_fast.bench.report import Report, Target
from aosa_fast.config import Config
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.timing import Timings
from aosa_fast.methods.fills import make_fill
from aosa_fast.methods.flow import optical_flow
from aosa_fast.methods.sweep import first_of_twins, occlusion_sweep
from aosa_fast.methods.tubes import make_tubes

BATCHES = (1, 2, 4, 8, 16)
ANCHORS = 48  # of the 196: the part of the sweep that is interleaved with the bare model


def forward_and_backward(model: nn.Module, video: Tensor) -> Tensor:
    """The least that a gradient explanation costs: d(probability of the best class) / d(input)."""
    leaf = video.clone().requires_grad_()
    probabilities = model(leaf).softmax(-1)
    (grad,) = torch.autograd.grad(probabilities[:, probabilities[0].argmax()].sum(), leaf)
    return grad


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """Logits only."""
    with torch.no_grad():
        return model(batch)


def in_batches(run: Callable[[nn.Module, Tensor], object], model: nn.Module, clips: Tensor, size: int) -> None:
    """One call for each batch of so many clips."""
    for batch in clips.split(size):
        run(model, batch)


def approx(report: Report, quick: bool) -> None:
    """AOSA-approx end to end ÷ (one forward + one input-backward)."""
    report.section("AOSA-approx on R3D-50, 16x112x112, flow included")
    model = r3d50()
    frames = moving_frames()
    video = normalised(frames)
    stages: dict[str, list[float]] = {}

    def explain(stride: int) -> None:
        found = aosa_fast.explain(model, video, method="aosa-approx", stride=stride, mean=MEAN, std=STD)
        for stage, seconds in found.metadata["seconds"].items():
            stages.setdefault(f"s={stride}, {stage}", []).append(seconds)

    cases: Cases = {
        "forward + input-backward": partial(forward_and_backward, model, video),
        # The same once more: how far its ratio is from 1 is what the machine lets be seen.
        "forward + input-backward, again": partial(forward_and_backward, model, video),
        "AOSA-approx, s=8": partial(explain, 8),
        "AOSA-approx, s=4": partial(explain, 4),
    }
    cpu: dict[str, list[float]] = {name: [] for name in cases}

    def counted(name: str, run: Callable[[], object]) -> None:
        start = time.process_time()
        run()
        cpu[name].append(time.process_time() - start)

    timed = interleave(
        {name: partial(counted, name, run) for name, run in cases.items()}, 2 if quick else 41, 1, settle=True
    )
    for name, seconds in timed.items():
        report.time(name, seconds)
        # What both cores did; unlike the time of day, it hardly feels what else the machine does.
        report.time(name, cpu[name], metric="processor time")
    base = timed["forward + input-backward"]
    again = ratios(timed["forward + input-backward, again"], base)
    report.add("forward + input-backward, again", "total / (fwd + bwd)", "ratio", again)
    for stride in (8, 4):
        values = ratios(timed[f"AOSA-approx, s={stride}"], base)
        report.add(f"AOSA-approx, s={stride}", "total / (fwd + bwd)", "ratio", values, Target("<=", 1.05))
        busy = ratios(cpu[f"AOSA-approx, s={stride}"], cpu["forward + input-backward"])
        report.add(f"AOSA-approx, s={stride}", "processor time / (fwd + bwd)", "ratio", busy)
    for stage, taken in stages.items():
        report.time(f"stage, {stage}", taken)


def dual(report: Report, quick: bool) -> None:
    """AOSA-dual end to end ÷ its passes of the bare model, in batches as large."""
    report.section("AOSA-dual on R3D-50, 16x112x112, s=8, flow included")
    model = r3d50()
    video = normalised(moving_frames())

    def passes() -> None:
        for size in (4, 4, 1):  # 4 points on the way to the fill, 5 on the way to the clip without its motion
            forward_and_backward(model, video.repeat(size, 1, 1, 1, 1))
        forward(model, video)
        for _ in range(3):  # two scores of each of three details
            forward(model, video.repeat(2, 1, 1, 1, 1))

    cases: Cases = {
        "9 gradients, 7 forwards": passes,
        "AOSA-dual": lambda: aosa_fast.explain(model, video, method="aosa-dual", mean=MEAN, std=STD),
    }
    timed = interleave(cases, 1 if quick else 7, 1, settle=True)
    for name, seconds in timed.items():
        report.time(name, seconds, "s")
    values = ratios(timed["AOSA-dual"], timed["9 gradients, 7 forwards"])
    report.add("AOSA-dual", "total / its passes", "ratio", values, Target("<=", 1.05))


def exact(report: Report, quick: bool) -> None:
    """Exact AOSA's sweep against the bare model's best batched throughput."""
    report.section(f"exact AOSA on R3D-50, s=8: {ANCHORS} of 196 tubes a round, then one whole explanation")
    model = r3d50()
    frames = moving_frames()
    video = normalised(frames)
    config = Config(method="aosa", stride=8)
    tubes = make_tubes(optical_flow(frames), config, Timings())
    fill = make_fill(video, config, MEAN, STD)
    anchors = list(np.linspace(0, tubes.members.shape[1] - 1, 8 if quick else ANCHORS).astype(int))
    batches = (1, 2) if quick else BATCHES
    clips = max(batches)  # in every timed call of the bare model
    bare = partial(in_batches, forward, model, video.repeat(clips, 1, 1, 1, 1))
    members = tubes.members[0]
    forwards = len(first_of_twins(members[anchors], members.new_zeros(len(anchors)))[0])
    distinct = len(first_of_twins(members, members.new_zeros(len(members)))[0])
    report.add("tubes with the members of another", "share", "share", [1 - distinct / len(members)])

    def sweep() -> None:
        occlusion_sweep(model, video, fill, tubes, config, BatchSize(0, video.device), anchors=[anchors])

    cases: Cases = {f"bare model, batch {size}": partial(bare, size) for size in batches}
    cases["sweep"] = sweep
    timed = interleave(cases, 1 if quick else 3, warmup=0, settle=not quick)  # each call is many forwards
    rates = {
        name: [(forwards if name.startswith("sweep") else clips) / s for s in seconds]
        for name, seconds in timed.items()
    }
    for name, values in rates.items():
        report.add(name, "throughput", "clips/s", values)
    best = max((name for name in rates if name.startswith("bare")), key=lambda name: float(np.median(rates[name])))
    print(f"  the best batch: {best}")
    share = ratios(rates["sweep"], rates[best])
    report.add("sweep / best bare model", "throughput ratio", "ratio", share, Target(">=", 0.97))
    if quick:
        return
    before = interleave({"bare": partial(bare, int(best.split()[-1]))}, 2, warmup=0)["bare"]
    start = time.perf_counter()
    found = aosa_fast.explain(model, video, method="aosa", stride=8, mean=MEAN, std=STD)
    total = time.perf_counter() - start
    after = interleave({"bare": partial(bare, int(best.split()[-1]))}, 2, warmup=0)["bare"]
    rate = clips / float(np.median(before + after))
    report.time("explain, exact, all 196 tubes", [total], "s")
    report.add("explain's sweep / best bare model", "throughput ratio", "ratio",
               [distinct / found.metadata["seconds"]["sweep"] / rate])  # fmt: skip
    report.add("explain, all of it / best bare model", "throughput ratio", "ratio", [distinct / total / rate])
