"""What it takes to read a video for an audit: processor time by step, memory, and the rate beside bare decoding."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aosa_fast.bench.audit.child import CHILD, Answer
from aosa_fast.bench.fresh import answer, command, fresh
from aosa_fast.bench.harness import ratios
from aosa_fast.bench.report import Report, Target
from aosa_fast.processes import cores

HEIGHT, WIDTH, FRAMES = 480, 852, 61
FIRST, LAST = 15, 45  # of the window in the middle: 16 frames, each second one
DIFFERENT = 8
NETWORKS = {"demo network": "demo", "r3d_18": "torchvision:r3d_18:random"}
STEPS = ("open", "time stamps", "decode", "scale and colour", "flow", "the rest: motion, hash")


def reading(report: Report, quick: bool) -> None:
    """Processor time of one process, then whole audits in turns with bare decoding and the bare network."""
    report.section(f"reading H.264 of {WIDTH}x{HEIGHT}, {FRAMES} frames, for a network that sees 16x112x112")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_videos(Path(folder) / "clips" / "all", DIFFERENT)
        found = fresh("aosa_fast.bench.audit.reading:spent", paths=paths, rounds=2 if quick else 9)
        for step in STEPS:
            report.add("an audit reads", f"processor time, {step}", "ms/clip", found[step])
        report.add("an audit reads", "processor time, up to flow", "ms/clip", found["flowed"], Target("<=", 50.0))
        report.add("an audit reads", "processor time, all", "ms/clip", found["prepared"])
        report.add("evaluate reads", "processor time, up to colour", "ms/clip", found["whole"])
        report.add("PyAV and resize by hand", "processor time, up to colour", "ms/clip", found["by hand"])
        for name, other in (("evaluate reads", "whole"), ("by hand", "by hand")):
            beside = ratios(found["scaled"], found[other])
            report.add(f"an audit reads / {name}", "processor time, up to colour", "ratio", beside)
        report.add("scaled by the decoder or afterwards", "mean difference", "levels", [found["difference"]])
        for path in paths:
            for copy in range(1, 2 if quick else 12):
                os.link(path, f"{path[:-4]} {copy}.mp4")
        for name, model in NETWORKS.items():
            _rates(report, name, model, paths, Path(folder), quick)


def _rates(report: Report, name: str, model: str, paths: list[str], folder: Path, quick: bool) -> None:
    report.section(f"{name}: whole audits of these videos, bare decoding and the bare network, in turns")
    count, seconds = cores(), 0.0 if quick else 10.0
    rates: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, list[float]] = defaultdict(list)
    for round_ in range(1 if quick else 3):
        rates["decode"].append(_decode(paths, count, seconds))
        out = str(folder / f"{name} {round_}")
        clips, settings = str(folder / "clips"), {"check_share": 0.0}
        audit = fresh(f"{CHILD}:audit", data=clips, model=model, out=out, device="cpu", settings=settings)
        rates["audit"].append(audit["rate"])
        rates["network"].append(
            fresh(f"{CHILD}:pure", model=model, batch=8, threads=count, seconds=seconds, least=2)["rate"]
        )
        for process, peak in audit["peaks"].items():
            peaks[process.split()[0]].append(peak)
    report.add(name, f"decoding, {count} processes", "clips/s", rates["decode"])
    report.add(name, "forward + input-backward", "clips/s", rates["network"])
    report.add(name, "audit", "clips/s", rates["audit"])
    slower = [min(pair) for pair in zip(rates["decode"], rates["network"], strict=True)]
    report.add(name, "audit / the slower of both", "ratio", ratios(rates["audit"], slower), Target(">=", 0.9))
    # Where both share the cores, no audit can do more than one clip in the time of both.
    both = [1 / (1 / one + 1 / other) for one, other in zip(rates["decode"], rates["network"], strict=True)]
    report.add(name, "audit / both one after the other", "ratio", ratios(rates["audit"], both))
    report.add(name, "peak resident memory, reader", "MB", peaks["reader"], Target("<=", 200.0))
    report.add(name, "peak resident memory, driver", "MB", peaks["driver"], Target("<=", 150.0))


def _decode(paths: list[str], processes: int, seconds: float) -> float:
    words = command(f"{CHILD}:decode", paths=paths, last=LAST, seconds=seconds)
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(answer(one.communicate()[0])["rate"]) for one in running)


def spent(paths: list[str], rounds: int) -> Answer:
    """CPU ms a clip, a mean over the files for each round: of each step, and of all up to one."""
    import av
    import cv2

    from aosa_fast.audit.clip.prepare import Preparer
    from aosa_fast.audit.settings import AuditSettings
    from aosa_fast.data import Dataset, Sample
    from aosa_fast.methods.flow import dense_flow
    from aosa_fast.models.preprocess import Preprocessing
    from aosa_fast.video.decoding import Source
    from aosa_fast.video.opening import open_video
    from aosa_fast.video.timeline import scan

    cv2.setNumThreads(1)
    whole = Preprocessing(16, 2, 128, (112, 112), (0.43,) * 3, (0.22,) * 3)
    scaled, data = whole.for_audits(), Dataset("files", None, ())

    def opened(path: str, through: str) -> None:
        with open_video(path) as video:
            video[1].codec_context.thread_count = 1
            if through == "open":
                return
            source = Source(*video)
            stamps = scan(source).stamps
            if through == "decode":
                list(source.decode_from(stamps[0], stamps[LAST + 1], set(stamps[FIRST : LAST + 1 : 2])))

    def flowed(path: str) -> None:
        dense_flow(data.read(Sample(path, path, None), scaled).frames[None])

    def by_hand(path: str) -> None:
        with av.open(path) as video:
            for number, frame in enumerate(video.decode(video=0)):
                if number in range(FIRST, LAST + 1, 2):
                    whole.cropped(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)[None])
                if number == LAST:
                    break

    ways: dict[str, Callable[[str], object]] = {
        "open": lambda path: opened(path, "open"),
        "time stamps": lambda path: opened(path, "time stamps"),
        "decode": lambda path: opened(path, "decode"),
        "scaled": lambda path: data.read(Sample(path, path, None), scaled),
        "flowed": flowed,
        # A new one, which has not yet hashed the file.
        "prepared": lambda path: Preparer(data, scaled, AuditSettings()).prepare(Sample(path, path, None)),
        "whole": lambda path: data.read(Sample(path, path, None), whole),
        "by hand": by_hand,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for path in paths:
                way(path)
            if round_:
                taken[name].append(1e3 * (time.process_time() - start) / len(paths))
    through = list(taken.values())[:6]
    steps = [through[0], *([b - a for a, b in zip(*pair, strict=True)] for pair in pairwise(through))]
    frames = [[data.read(Sample(path, path, None), way).frames.astype(float) for path in paths]
              for way in (scaled, whole)]  # fmt: skip
    difference = float(np.abs(np.subtract(*map(np.stack, frames))).mean())
    return {**taken, **dict(zip(STEPS, steps, strict=True)), "difference": difference}


def write_videos(folder: Path, count: int) -> list[str]:
    """Writes rendered videos, with a little noise of a camera's."""
    import av
    import cv2

    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    paths = []
    for number in range(count):
        resize = partial(cv2.resize, dsize=(WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        large = np.stack([resize(frame) for frame in _rendered(number)])
        paths.append(str(folder / f"{number}.mp4"))
        with av.open(paths[-1], "w") as video:
            stream = video.add_stream("libx264", rate=30)  # as data sets are encoded: with x264's defaults
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for image in np.clip(large + noise.normal(0, 3, large.shape), 0, 255).astype(np.uint8):
                video.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            video.mux(stream.encode())
    return paths


def _rendered(number: int) -> NDArray[np.uint8]:
    from aosa_fast.demo import CLASS_NAMES
    from aosa_fast.demo.render import render_clip

    clip = render_clip(number, label=number % len(CLASS_NAMES), frames=FRAMES, size=340, pan=0.3)
    return clip.frames[:, 74:266]
