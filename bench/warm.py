"""A warm explainer against the plain model."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import nn

from aosa_fast import Explainer, explain, models
from aosa_fast.bench.harness import Cases, interleave, ratios
from aosa_fast.bench.inputs import MEAN, STD, moving_frames, normalised
from aosa_fast.bench.network import forward, forward_and_backward, in_batches
from aosa_fast.bench.processes import memory
from aosa_fast.bench.r3d50 import r3d50
from aosa_fast.bench.report import Report, Target
from aosa_fast.data import open_dataset

Runs = dict[str, Callable[[nn.Module, torch.Tensor], object]]
BATCHES = (1, 2, 4, 8)
TOGETHER = (1, 2, 4)  # clips that are explained at once
STEPS = 8


def warm(report: Report, quick: bool) -> None:
    """AOSA-approx, AOSA-path and exact AOSA on R3D-50; then call after call on the demo network."""
    model = r3d50()
    video = normalised(moving_frames())
    approx(report, model, video, 2 if quick else 31)
    path(report, model, video, 1 if quick else 9)
    exact(report, model, video, 1 if quick else 5)
    calls(report, 20 if quick else 1000)


def explainer(model: nn.Module, video: torch.Tensor, **options: Any) -> Explainer:
    """A warm one; what it tried is printed."""
    made = Explainer(model, mean=MEAN, std=STD, **options)
    print("  " + str(made.warmup(video)).replace("\n", "\n  "))
    return made


def approx(report: Report, model: nn.Module, video: torch.Tensor, repeats: int) -> None:
    """AOSA-approx ÷ (one forward + one input-backward of the plain model), batch 1."""
    report.section("a warm AOSA-approx on R3D-50, 16x112x112, flow included")
    first = explainer(model, video, stride=8)
    second = Explainer(model, mean=MEAN, std=STD, config=replace(first.config, stride=4))
    cases: Cases = {
        "forward + input-backward": partial(forward_and_backward, model, video),
        "AOSA-approx, warm, s=8": partial(first, video),
        "AOSA-approx, warm, s=4": partial(second, video),
    }
    timed = interleave(cases, repeats, 1, settle=True)
    for name, seconds in timed.items():
        report.time(name, seconds)
    base = timed.pop("forward + input-backward")
    for name, seconds in timed.items():
        report.add(name, "total / (fwd + bwd)", "ratio", ratios(seconds, base), Target("<=", 0.8))


def path(report: Report, model: nn.Module, video: torch.Tensor, repeats: int) -> None:
    """AOSA-path ÷ Captum's integrated gradients, both with as many points on the way."""
    report.section(f"a warm AOSA-path on R3D-50, {STEPS} steps, flow included")
    ours = explainer(model, video, method="aosa-path", steps=STEPS)
    target = int(forward(model, video).argmax())
    attribution = IntegratedGradients(lambda clips: model(clips).softmax(-1))
    cases: Cases = {
        "Captum's integrated gradients": lambda: attribution.attribute(video, target=target, n_steps=STEPS),
        "AOSA-path, warm": partial(ours, video),
    }
    for size in (1, 2, 4):
        cases[f"Captum's, {size} at once"] = lambda size=size: attribution.attribute(  # type: ignore[misc]
            video, target=target, n_steps=STEPS, internal_batch_size=size
        )
    timed = interleave(cases, repeats, 1)
    for name, seconds in timed.items():
        report.time(name, seconds, "s")
    own = timed.pop("AOSA-path, warm")
    report.add("AOSA-path, warm", "total / Captum's", "ratio", ratios(own, timed["Captum's integrated gradients"]),
               Target("<=", 0.9))  # fmt: skip
    best = min(timed.values(), key=lambda seconds: float(np.median(seconds)))
    report.add("AOSA-path, warm", "total / the best of Captum's", "ratio", ratios(own, best))


def exact(report: Report, model: nn.Module, video: torch.Tensor, repeats: int) -> None:
    """Tubes per second of a whole exact explanation ÷ clips per second of the plain model's best batch."""
    report.section("a warm exact AOSA on R3D-50, s=16, flow and map included")
    ours = explainer(model, video, method="aosa", stride=16)
    tubes = ours(video).scores.shape[1]
    clips = max(BATCHES)
    many = video.repeat(clips, 1, 1, 1, 1)
    cases: Cases = {f"bare model, batch {size}": partial(in_batches, forward, model, many, size) for size in BATCHES}
    cases["exact AOSA, warm"] = partial(ours, video)
    timed = interleave(cases, repeats, 0)
    rates = {name: [(tubes if "AOSA" in name else clips) / s for s in seconds] for name, seconds in timed.items()}
    for name, values in rates.items():
        report.add(name, "throughput", "clips/s", values)
    own = rates.pop("exact AOSA, warm")
    best = max(rates.values(), key=lambda values: float(np.median(values)))
    report.add(f"exact AOSA, warm, {tubes} tubes", "throughput / best bare model", "ratio", ratios(own, best),
               Target(">=", 1.25))  # fmt: skip


def batches(report: Report, quick: bool) -> None:
    """Clips explained together ÷ the bare model's best batch of forward and backward."""
    for name, model in {"R3D-50": r3d50(), "r2plus1d_18": _r2plus1d_18()}.items():
        report.section(f"AOSA-approx of several clips at once, {name}, 16x112x112, s=8, flow included")
        many = normalised(moving_frames()).repeat(max(TOGETHER), 1, 1, 1, 1)
        warmed = Explainer(model, mean=MEAN, std=STD, stride=8, clips=max(TOGETHER))
        print("  " + str(warmed.warmup(many[:1])).replace("\n", "\n  "))
        best = f"{name}, AOSA-approx, warm, {len(many)} clips"
        cases: Cases = {best: partial(warmed, many)}
        for size in TOGETHER:
            explained = partial(explain, stride=8, mean=MEAN, std=STD, batch_size=size)
            runs: Runs = {"forward + input-backward": forward_and_backward, "AOSA-approx": explained}
            for what, run in runs.items():
                cases[f"{name}, {what}, batch {size}"] = partial(in_batches, run, model, many, size)
        timed = interleave(cases, 1 if quick else 9, 1)
        rates = {case: [len(many) / s for s in seconds] for case, seconds in timed.items()}
        for case, values in rates.items():
            report.add(case, "throughput", "clips/s", values, peak=timed[case].peak)
        bare = max((rates[case] for case in rates if "backward" in case), key=np.median)
        ours = {size: rates[f"{name}, AOSA-approx, batch {size}"] for size in TOGETHER}
        known = "explained / best (fwd + bwd)"
        report.add(best, known, "ratio", ratios(rates[best], bare), Target(">=", 0.97))
        together = max(ours.values(), key=np.median)
        report.add(f"{name}, AOSA-approx, best batch", known, "ratio", ratios(together, bare), Target(">=", 0.97))
        for size in TOGETHER[1:]:
            case = f"{name}, AOSA-approx, batch {size}"
            report.add(case, "throughput / batch 1", "ratio", ratios(ours[size], ours[TOGETHER[0]]))


def _r2plus1d_18() -> nn.Module:
    network = models.load("torchvision:r2plus1d_18:random").network
    assert isinstance(network, nn.Module)
    return network


def calls(report: Report, count: int) -> None:
    """Call after call on the demo network: how even they are, what piles up, what they cost beyond the model."""
    report.section(f"{count} calls of a warm AOSA-approx on the demo network, 16x64x64")
    classifier = models.load("demo")
    data = open_dataset("rendered:3")
    clips = [torch.from_numpy(data.read(sample, classifier.preprocessing).frames[None]) for sample in data.samples[:10]]
    ours = Explainer(classifier)
    print("  " + str(ours.warmup(clips[0])).replace("\n", "\n  "))
    video = classifier.preprocessing.to_input(clips[0][0].numpy())
    route = ours._ready()
    assert isinstance(route.network, nn.Module)
    network = route.network

    def bare() -> None:
        with route.mode():
            forward_and_backward(network, video)

    for clip in clips * 3:
        ours(clip)
        bare()
    gc.collect()
    before = held()
    seconds, model = [], []
    for i in range(count):
        start = time.perf_counter()
        ours(clips[i % len(clips)])
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        bare()
        model.append(time.perf_counter() - start)
    gc.collect()
    after = held()
    report.time("warm calls", seconds)
    report.add("warm calls", "overhead beyond the model", "ms",
               [1e3 * (a - b) for a, b in zip(seconds, model, strict=True)], Target("<=", 4))  # fmt: skip
    tail = float(np.percentile(seconds, 99) / np.percentile(seconds, 50))
    report.add("warm calls", "p99 / p50", "ratio", [tail], Target("<=", 1.5))
    report.add("the model alone", "p99 / p50", "ratio", [float(np.percentile(model, 99) / np.percentile(model, 50))])
    report.add("warm calls", "growth of memory", "MB", [after[0] - before[0]], Target("<=", 2))
    report.add("warm calls", "growth of file descriptors", "files", [float(after[1] - before[1])], Target("<=", 0))


def held() -> tuple[float, int]:
    """Resident memory of this process, MB of 1e6 bytes, and its open files."""
    return memory(), len(os.listdir("/proc/self/fd"))
