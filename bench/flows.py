"""Optical flow per frame pair, one worker and two."""

from __future__ import annotations

from functools import partial

from harness import Cases, Report, interleave
from inputs import FRAMES, moving_frames

from aosa_fast.errors import InputError
from aosa_fast.flow import optical_flow

FAST = ("farneback", "dis-ultrafast", "dis-fast", "dis-medium")
SLOW = ("tvl1", "pcaflow", "deepflow", "simpleflow", "rlof")


def flows(report: Report, repeats: int, quick: bool = False) -> None:
    """The fast methods on a whole clip, the slow ones on one pair."""
    report.section("Optical flow")
    for side in (112,) if quick else (112, 256):
        clip = moving_frames(FRAMES, side)
        cases: Cases = {
            f"{method}, {side} px, {workers} worker{'s' if workers > 1 else ''}": partial(
                optical_flow, clip, method, workers=workers
            )
            for method in FAST
            for workers in (1, 2)
        }
        for name, seconds in interleave(cases, repeats, warmup=1).items():
            report.add(name, "time per pair", "ms", [1e3 * s / (FRAMES - 1) for s in seconds])
    pair = moving_frames()[:, :2]
    for method in () if quick else SLOW:
        try:
            seconds = interleave({method: partial(optical_flow, pair, method)}, 3, warmup=1)[method]
        except InputError as error:
            print(f"  {error}")
            continue
        report.add(f"{method}, 112 px, one pair", "time per pair", "ms", [1e3 * s for s in seconds])
