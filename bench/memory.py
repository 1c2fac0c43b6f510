"""Peak memory of AOSA-approx beyond the model's: one fresh process for every figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from harness import Report, Target, peak_rss
from inputs import MEAN, STD, moving_frames, normalised
from network import forward_and_backward
from r3d50 import r3d50
from torch import nn

import aosa_fast


def child(what: str) -> float:
    """Peak resident memory, MB, of a process that does only `what`: "model", or "explain"."""
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
    return peak_rss()


def memory(report: Report, repeats: int) -> None:
    """The difference of the peaks of pairs of processes."""
    report.section("Peak resident memory, AOSA-approx on R3D-50, s=4, in fresh processes")
    peaks: dict[str, list[float]] = {"model": [], "explain": []}
    for _ in range(repeats):
        for what, values in peaks.items():
            command = [sys.executable, str(Path(__file__)), what, str(torch.get_num_threads())]
            values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    report.add("forward + input-backward", "peak memory", "MB", peaks["model"])
    report.add("AOSA-approx, s=4", "peak memory", "MB", peaks["explain"])
    beyond = [b - a for a, b in zip(peaks["model"], peaks["explain"], strict=True)]
    report.add("AOSA-approx, s=4", "beyond the model", "MB", beyond, Target("<=", 40))


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(child(sys.argv[1]))
