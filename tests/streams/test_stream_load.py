"""A source that brings more than can be explained, or goes away: what is shown stays young, and its age is said."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_server import LiveServer, readers
from torch import Tensor, nn

from aosa_fast import StreamingExplainer
from aosa_fast.models import Classifier
from aosa_fast.streams.buffer import CONSUMPTIONS, POLICIES, Buffer, Frame
from aosa_fast.streams.follow import follow
from aosa_fast.streams.lateness import Lateness
from aosa_fast.streams.metrics import Metrics, Tally
from aosa_fast.streams.overlay import Painted
from aosa_fast.streams.receiver import Receiver
from aosa_fast.streams.recording import Recording
from aosa_fast.streams.source import parse_source
from aosa_fast.video import read_clip
from small_nets import make_net, make_preprocessing

FRAMES, HOP = 16, 4


class Brought(Buffer):
    """With a source whose clock counts frames: it goes on where somebody says so, or where there is no frame."""

    def __init__(self, policy: str, consumption: str) -> None:
        super().__init__(policy, consumption, HOP)
        self.now = self.brought = self.taken = 0
        self.holds = policy == "wait"

    def go_on(self, frames: int) -> None:
        self.now += frames
        while self.brought < self.now and not (self.holds and self.is_full):
            self.put(Frame(np.full((32, 32, 3), self.brought % 256, np.uint8), self.brought, None, time.monotonic()))
            self.brought += 1

    def take(self, timeout: float | None = None) -> Frame | None:
        self.go_on(0)
        frame = super().take(0)
        if frame is None:
            self.go_on(1)
            frame = super().take(0)
        assert frame is not None
        self.taken = frame.number
        return frame


@pytest.mark.parametrize("consumption", CONSUMPTIONS)
@pytest.mark.parametrize("policy", POLICIES)
def test_at_twice_the_load_the_delay_is_at_most_a_window_but_where_all_frames_wait(policy, consumption):
    """A map takes twice as long as its frames take to come."""
    classifier = Classifier(make_net(), make_preprocessing(FRAMES, crop=(32, 32)))
    buffer, ages = Brought(policy, consumption), []

    class Slow:
        def show(self, frames: list[Painted]) -> None:
            buffer.go_on(2 * HOP)
            ages.append(buffer.now - buffer.taken)

    source: Any = SimpleNamespace(damaged=0, connections=1)
    with StreamingExplainer(classifier, hop=HOP, stride=16) as stream:
        tally = follow(source, buffer, stream, classifier, sinks=[Slow()], stopped=lambda: len(ages) >= 30)
    if (policy, consumption) == ("wait", "lazy"):
        assert tally.dropped == 0
        assert ages == sorted(ages)
        assert ages[-1] > 5 * FRAMES
    else:
        assert max(ages) <= FRAMES
        # All that came and was not explained, but for what still waits.
        assert 0 <= buffer.brought - tally.frames - tally.dropped <= HOP
        assert tally.dropped > 29 * HOP


class Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def forward(self, video: Tensor) -> Tensor:
        time.sleep(0.3)
        return self.net(video)


def test_what_a_map_takes_is_in_the_age_of_its_frames_and_is_said(tmp_path):
    classifier = Classifier(Slow().eval(), make_preprocessing(FRAMES, crop=(32, 32)))
    buffer, done = Buffer("drop-oldest", "eager", HOP), []
    with LiveServer() as server, StreamingExplainer(classifier, hop=HOP, stride=16) as stream:
        metrics, receiver = Metrics(tmp_path / "lines.jsonl"), Receiver(parse_source(server.address), buffer)
        try:
            tally = follow(
                receiver, buffer, stream, classifier, metrics=metrics, report=done.append,
                stopped=lambda: bool(done) and done[-1].maps >= 3,
            )  # fmt: skip
        finally:
            receiver.stop()
            metrics.close()
    found = lines(tmp_path / "lines.jsonl")
    maps = [line for line in found if line["kind"] == "map"]
    assert len(maps) == 3
    assert all(line["oldest"] > line["age"] >= line["seconds"] >= 0.3 for line in maps)
    assert tally.oldest == pytest.approx(max(line["age"] for line in maps), abs=1e-5)
    last = [line for line in found if line["kind"] == "frame"][-1]
    assert tally.dropped >= last["dropped"] >= last["number"] + 1 - tally.frames > 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_frame_is_as_late_as_the_stream_itself_says():
    late = Lateness()
    assert [late(t / 10, 100 + t / 10) for t in range(5)] == [0.0] * 5
    # Half a second is lost on the way, and half of that made good again.
    assert [late(0.5, 101.0), late(0.6, 101.1), late(0.7, 100.95)] == pytest.approx([0.5, 0.5, 0.25], abs=0.002)
    # A frame that is more prompt than all before is what the others are held against.
    assert [late(0.8, 100.7), late(0.9, 100.9)] == pytest.approx([0.0, 0.1], abs=0.002)
    # It stood still for 20 seconds.
    assert late(1.0, 120.9) == pytest.approx(20, abs=0.05)
    # The stream's clock is set, forth and back.
    assert [late(500.0, 121.0), late(500.1, 121.1), late(3.0, 121.2)] == pytest.approx([0.0] * 3, abs=0.002)
    assert late(None, 200.0) == 0.0


def test_clocks_may_drift_apart():
    """By 50 in a million, as those of cameras do: four seconds a day."""
    late = Lateness()
    assert max(late(t, t * (1 + 5e-5)) for t in range(86400)) < 0.01


def test_a_source_that_comes_back_with_another_size_begins_a_new_window(tmp_path):
    """The map that is due 4 frames after the last waits for 16 where the source was away."""
    classifier = Classifier(make_net(), make_preprocessing(FRAMES, crop=(32, 32)))
    buffer, metrics = Buffer("wait", "lazy", 64), Metrics(tmp_path / "lines.jsonl")
    recording, said = Recording(tmp_path / "maps.mp4", live=True), []
    cut: list[int] = []

    def report(tally: Tally) -> None:
        if tally.maps == 2 and not cut:
            cut.append(tally.frames)
            server.size = 96, 64
            server.cut()

    with LiveServer() as server, StreamingExplainer(classifier, hop=HOP, stride=16) as stream:
        receiver = Receiver(parse_source(server.address), buffer, timeout=60, tell=said.append)
        try:
            tally = follow(
                receiver, buffer, stream, classifier, metrics=metrics, report=report, sinks=[recording],
                stopped=lambda: '"map", "connection": 1' in (tmp_path / "lines.jsonl").read_text(),
            )  # fmt: skip
        finally:
            receiver.stop()
            metrics.close()
            recording.close()
        assert readers(server.address) == []
    assert said == [f"{server.address}: the stream ended; again in 0.5 s", f"{server.address}: there again"]
    maps = [line for line in lines(tmp_path / "lines.jsonl") if line["kind"] == "map"]
    assert [line["number"] for line in maps if line["connection"] == 1] == [FRAMES - 1]
    assert tally.connections == 2
    # Each frame of a window once, all in the size of the first.
    count = 2 * FRAMES + HOP * (len(maps) - 2)
    video = read_clip(tmp_path / "maps.mp4", count, stride=1, start=0)
    assert video.total_frames == count
