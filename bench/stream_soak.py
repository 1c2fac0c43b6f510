"""A stream for a long time: whether memory stays flat."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import suppress
from itertools import count
from threading import Thread

import numpy as np

from aosa_fast import StreamingExplainer, models
from aosa_fast.bench.audit.soak import describe
from aosa_fast.bench.processes import AOSA_FAST, descendants, memory
from aosa_fast.bench.report import Report, Target
from aosa_fast.data import open_dataset

FLAT = 0.5  # MB per 1000 frames; a frame of 160x120 that is kept has 58 kB
WIDTH, HEIGHT = 160, 120
TIMES = 10  # as fast as the model


def stream_soak(report: Report, quick: bool) -> None:
    """Frames that are pushed, and a live source that brings ten times what can be explained, with all outputs."""
    pushed(report, 2000 if quick else 20_000)
    live(report, 8 if quick else 60)


def pushed(report: Report, frames: int) -> None:
    """What this process holds while so many frames go through `StreamingExplainer`."""
    report.section(
        f"{frames} frames through StreamingExplainer, demo network, 16x64x64, a map every 32: resident memory"
    )
    classifier = models.load("demo")
    data = open_dataset("rendered:1")
    clip = data.read(data.samples[0], classifier.preprocessing).frames
    samples = []
    with StreamingExplainer(classifier, hop=32) as stream:
        for number in range(frames):
            stream.push(clip[number % len(clip)])
            if not number % (frames // 100):
                samples.append((number, memory("self", "RssAnon")))
    _add(report, "stream, pushed", samples)


def live(report: Report, seconds: float) -> None:
    """What the command and its reader hold, with a video, a page that is looked at, and one client that hangs."""
    report.section(
        f"aosa-fast stream for {seconds:g} s, a map every frame, the source {TIMES} times as fast: resident memory"
    )
    pace = TIMES * _pace()
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        sent: list[int] = [0]
        Thread(target=_serve, args=(server, pace, sent), daemon=True).start()
        words = ["stream", f"tcp://127.0.0.1:{server.getsockname()[1]}", "--hop", "1", "--serve", "0"]
        # Numba, which comes after half a second of work in NumPy, takes 40 MB once; with --warmup, before any frame.
        more = ["--warmup", "--out", f"{folder}/maps.mp4", "--metrics", f"{folder}/lines.jsonl"]
        process = subprocess.Popen(
            [*AOSA_FAST, *words, *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        address = process.stdout.readline().removeprefix("page: ").strip()
        Thread(target=_look, args=(address,), daemon=True).start()
        idle = _hang(address)
        samples: dict[str, list[tuple[int, float]]] = {"command": [], "reader": []}
        while not sent[0] and process.poll() is None:
            time.sleep(0.1)
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            time.sleep(0.25)
            # The one process that it starts, if that is there, decodes.
            for role, pid in zip(samples, [process.pid, *descendants(process.pid)], strict=False):
                samples[role].append((sent[0], memory(pid, "RssAnon")))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
        idle.close()
    found = re.match(r"interrupted: ([0-9]+) frames, ([0-9]+) maps, ([0-9]+) dropped, at most ([0-9.]+) s behind", said)
    if found is None:
        raise SystemExit(f"the stream must end by its interruption; it said {said!r}")
    taken, maps, dropped = map(int, found.groups()[:3])
    note = f"{sent[0]} frames at {pace:.0f} frames/s, {maps} maps"
    report.add("stream, live", "frames dropped", "%", [100 * dropped / (taken + dropped)], note=note)
    for role, one in samples.items():
        _add(report, f"stream, live, {role}", one)


def _add(report: Report, case: str, samples: list[tuple[int, float]]) -> None:
    done, held = np.array(samples, float).T
    growth, later = describe(done, held, done.max() / 10)
    report.add(case, "peak memory, no file's", "MB", [float(held.max())], note=f"{len(held)} samples")
    report.add(case, "growth by line", "MB/1000", [growth], Target("<=", FLAT))
    report.add(case, "last - second decile", "MB", [later])


def _pace() -> float:
    """Frames per second that can be explained one by one."""
    frames = np.random.default_rng(0).integers(0, 256, (16, HEIGHT, WIDTH, 3), np.uint8)
    with StreamingExplainer(models.load("demo"), hop=1) as stream:
        stream.explainer.warmup()
        for frame in frames:
            stream.push(frame)
        start = time.perf_counter()
        for frame in frames:
            stream.push(frame)
    return len(frames) / (time.perf_counter() - start)


def _serve(server: socket.socket, pace: float, sent: list[int]) -> None:
    """One client: frames that need no encoder, each when it is due."""
    pictures = np.random.default_rng(0).integers(0, 256, (16, HEIGHT * WIDTH * 3 // 2), np.uint8)
    client, _ = server.accept()
    with client, suppress(OSError):
        client.sendall(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{round(pace)}:1 Ip A1:1 C420jpeg\n".encode())
        start = time.monotonic()
        for number in count():
            time.sleep(max(0.0, start + number / pace - time.monotonic()))
            client.sendall(b"FRAME\n" + pictures[number % len(pictures)].tobytes())
            sent[0] = number + 1


def _look(address: str) -> None:
    with suppress(OSError), urllib.request.urlopen(f"{address}stream", timeout=60) as stream:
        while stream.read(65536):
            pass


def _hang(address: str) -> socket.socket:
    host, port = address.removeprefix("http://").strip("/").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(f"GET /stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return client
