"""A stream against `Explainer`, and at twice the load."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from aosa_fast import Explainer, StreamingExplainer, models
from aosa_fast.bench.harness import Cases, interleave, ratios
from aosa_fast.bench.inputs import MEAN, STD, moving_frames
from aosa_fast.bench.r3d50 import r3d50
from aosa_fast.bench.report import Report, Target
from aosa_fast.data import open_dataset
from aosa_fast.methods.flow import optical_flow
from aosa_fast.models import Classifier, Preprocessing
from aosa_fast.streams.buffer import Buffer, Frame
from aosa_fast.streams.follow import follow
from aosa_fast.streams.metrics import Tally

HOP = 8
POLICIES = (("drop-oldest", "eager"), ("drop-oldest", "lazy"), ("drop-newest", "lazy"), ("wait", "lazy"))


def stream(report: Report, quick: bool) -> None:
    """Everything of issue 16's rows about streams."""
    hop(report, 2 if quick else 31)
    load(report, 3 if quick else 20)


def hop(report: Report, repeats: int) -> None:
    """A map of a stream, with all that its new frames cost ÷ a warm explainer's of the same window."""
    report.section(f"a stream on R3D-50, 16x112x112, s=8, a map every {HOP} frames, flow included")
    frames = moving_frames()[0]
    classifier = Classifier(
        r3d50(), Preprocessing(len(frames), 1, min(frames.shape[1:3]), frames.shape[1:3], MEAN, STD)
    )
    offline = Explainer(classifier, stride=8)
    window = torch.from_numpy(frames[None])
    print("  " + str(offline.warmup(window)).replace("\n", "\n  "))
    pairs = count()
    ours = StreamingExplainer(classifier, hop=HOP, config=offline.config)
    # What a warmup finds belongs to the explainer: with the same one, the two differ by the stream alone.
    ours.explainer = offline
    forth_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
    place = count()

    def push(frames_: int) -> Any:
        for _ in range(frames_):
            found = ours.push(frames[forth_and_back[next(place) % len(forth_and_back)]])
        return found

    first = push(len(frames))
    assert torch.equal(first.saliency, offline(window).saliency)
    cases: Cases = {"Explainer": partial(offline, window), f"stream, {HOP} frames": partial(push, HOP)}
    timed = interleave(cases, repeats, 1, settle=True)
    for name, seconds in timed.items():
        report.add(name, "time", "ms", [1e3 * s for s in seconds])
    report.add(f"stream, {HOP} frames", "time / Explainer", "ratio", ratios(*reversed(timed.values())),
               Target("<=", 1.05))  # fmt: skip
    pair = frames[None, :2]
    flow = interleave({"window": partial(optical_flow, frames[None]), "pair": partial(optical_flow, pair)}, repeats, 1)
    asked: list[int] = []

    def counted(two: np.ndarray) -> torch.Tensor:
        asked.append(next(pairs))
        return optical_flow(two[None])[0]

    with StreamingExplainer(classifier, hop=HOP, config=offline.config, flow=counted) as other:
        for _ in range(3):
            for frame in frames:
                other.push(frame)
    per_frame = len(asked) / (3 * len(frames) - 1)
    report.add("flow of a frame", "pairs / those of a window", "ratio", [per_frame / (len(frames) - 1)],
               Target("<=", 1 / (len(frames) - 1)))  # fmt: skip
    report.add("flow of a frame", "time / that of a window", "ratio", ratios(flow["pair"], flow["window"]))
    offline.close()


def load(report: Report, maps: int) -> None:
    """Frames that come twice as fast as they can be explained: what is dropped, and how old what is shown is."""
    report.section(f"a stream at twice the load, demo network, 16x64x64, a map every {HOP // 2} frames")
    classifier = models.load("demo")
    data = open_dataset("rendered:1")
    frames = data.read(data.samples[0], classifier.preprocessing).frames
    length = len(frames)
    with StreamingExplainer(classifier, hop=HOP // 2) as ours:
        ours.explainer.warmup(torch.from_numpy(frames[None]))
        for frame in [*frames] * 3:
            ours.push(frame)
        start = time.perf_counter()
        for frame in [*frames] * 3:
            ours.push(frame)
        pace = 2 * 3 * length / (time.perf_counter() - start)
        for policy, consumption in POLICIES:
            name = f"{policy}, {consumption}, {pace:.0f} frames/s"
            ours.restart()
            ages, tally, brought = fed(ours, classifier, frames, pace, Buffer(policy, consumption, HOP // 2), maps)
            target = None if policy == "wait" else Target("<=", 1.0)
            report.add(
                f"{policy}, {consumption}", "largest delay / window", "ratio", [max(ages) * pace / length], target
            )
            report.add(f"{policy}, {consumption}", "frames dropped", "%", [100 * tally.dropped / brought], note=name)


def fed(
    ours: StreamingExplainer, classifier: Classifier, frames: np.ndarray, pace: float, buffer: Buffer, maps: int
) -> tuple[list[float], Tally, int]:
    """Ages of the newest frame of each map but the first, what was done, and how many frames came."""
    ages: list[float] = []
    done = threading.Event()
    brought = count()

    def feed() -> None:
        start = time.monotonic()
        for number in brought:
            if done.wait(max(0.0, start + number / pace - time.monotonic())):
                return
            # Its age begins when it is due, whether or not it had to wait to come in.
            buffer.put(Frame(frames[number % len(frames)], number, None, start + number / pace))

    def report(tally: Tally) -> None:
        if tally.maps > len(ages):
            ages.append(tally.age)

    thread = threading.Thread(target=feed)
    thread.start()
    receiver: Any = SimpleNamespace(damaged=0, connections=1)
    tally = follow(receiver, buffer, ours, classifier, stopped=lambda: len(ages) > maps, report=report)
    done.set()
    buffer.close()
    thread.join()
    return ages[1:], replace(tally), next(brought)
