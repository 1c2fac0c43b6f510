"""Optical flow per frame pair, one thread and two."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from aosa_fast import _C
from aosa_fast.bench.harness import Cases, interleave, ratios, threads
from aosa_fast.bench.inputs import FRAMES, moving_frames
from aosa_fast.bench.report import Report, Target
from aosa_fast.errors import InputError
from aosa_fast.methods.flow import optical_flow

FAST = ("farneback", "farneback-opencv", "dis-ultrafast", "dis-fast", "dis-medium")
SLOW = ("tvl1", "pcaflow", "deepflow", "simpleflow", "rlof")


def flows(report: Report, quick: bool) -> None:
    """The fast methods on a whole clip, the slow ones on one pair; our Farnebäck over OpenCV's."""
    report.section("Optical flow")
    repeats = 1 if quick else 7
    for side in (112,) if quick else (112, 256):
        clip = moving_frames(FRAMES, side)
        for count in (1, 2):
            with threads(count):
                cases: Cases = {f"{method}, {side} px": partial(optical_flow, clip, method) for method in FAST}
                timed = interleave(cases, repeats, warmup=1)
                for name, seconds in timed.items():
                    report.time(name, seconds, metric="time per pair", per=FRAMES - 1)
                ratio = ratios(timed[f"farneback-opencv, {side} px"], timed[f"farneback, {side} px"])
                target = Target(">=", 3.0) if count == 1 else None
                report.add(f"farneback, {side} px", "OpenCV's time / ours", "ratio", ratio, target)
        with threads(1):
            _older_processors(report, clip, repeats)
    pair = moving_frames()[:, :2]
    for method in () if quick else SLOW:
        try:
            seconds = interleave({method: partial(optical_flow, pair, method)}, 3, warmup=1)[method]
        except InputError as error:
            print(f"  {error}")
            continue
        report.time(f"{method}, 112 px, one pair", seconds, metric="time per pair")


def _older_processors(report: Report, clip: NDArray[np.uint8], repeats: int) -> None:
    """Our Farnebäck without the best instruction set, over OpenCV's, which chooses its own."""
    best, side = _C.simd_level(), clip.shape[2]

    def ours(level: str) -> None:
        _C.set_simd_level(level)
        try:
            optical_flow(clip)
        finally:
            _C.set_simd_level(best)

    levels = ["baseline", "avx2", "avx512"]
    cases: Cases = {level: partial(ours, level) for level in levels[: levels.index(best)]}
    timed = interleave({"OpenCV": partial(optical_flow, clip, "farneback-opencv"), **cases}, repeats, warmup=1)
    for level in cases:
        values = ratios(timed["OpenCV"], timed[level])
        report.add(f"farneback, {side} px, {level}", "OpenCV's time / ours", "ratio", values)
