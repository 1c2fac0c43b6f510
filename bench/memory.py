"""Peak memory of AOSA-approx beyond the model's: one fresh process for every figure."""

from __future__ import annotations

import torch
from torch import nn

import aosa_fast
from aosa_fast.bench.fresh import fresh
from aosa_fast.bench.inputs import MEAN, STD, moving_frames, normalised
from aosa_fast.bench.network import forward_and_backward
from aosa_fast.bench.processes import memory as memory_of
from aosa_fast.bench.r3d50 import r3d50
from aosa_fast.bench.report import Report, Target


def child(what: str, threads: int) -> float:
    """Peak resident memory, MB, of a process that does only `what`: "model", or "explain"."""
    torch.set_num_threads(threads)
    model = r3d50()
    # Compiles and loads everything once, on tubes too small to matter.
    tiny = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    small = normalised(moving_frames(4, 48))
    aosa_fast.explain(tiny, small, stride=8, mean=MEAN, std=STD)
    video = normalised(moving_frames())
    if what == "explain":
        aosa_fast.explain(model, video, method="aosa-approx", stride=4, mean=MEAN, std=STD)
    else:
        forward_and_backward(model, video)
    return memory_of(what="VmHWM")


def memory(report: Report, quick: bool) -> None:
    """The difference of the peaks of pairs of processes."""
    report.section("Peak resident memory, AOSA-approx on R3D-50, s=4, in fresh processes")
    peaks: dict[str, list[float]] = {"model": [], "explain": []}
    for _ in range(1 if quick else 3):
        for what, values in peaks.items():
            values.append(fresh("aosa_fast.bench.memory:child", what=what, threads=torch.get_num_threads()))
    report.add("forward + input-backward", "peak memory", "MB", peaks["model"])
    report.add("AOSA-approx, s=4", "peak memory", "MB", peaks["explain"])
    beyond = [b - a for a, b in zip(peaks["model"], peaks["explain"], strict=True)]
    report.add("AOSA-approx, s=4", "beyond the model", "MB", beyond, Target("<=", 40))
