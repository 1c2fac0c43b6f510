"""A source that brings twice what can be explained: what is shown stays young, or it is said how old it is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from live_server import LiveServer
from torch import Tensor, nn

from aosa_fast import StreamingExplainer
from aosa_fast.models import Classifier
from aosa_fast.streams.buffer import Buffer
from aosa_fast.streams.follow import follow
from aosa_fast.streams.lateness import Lateness
from aosa_fast.streams.metrics import Metrics, Tally
from aosa_fast.streams.receiver import Receiver
from aosa_fast.streams.source import parse_source
from small_nets import make_net, make_preprocessing

FPS, FRAMES, HOP = 20.0, 16, 4
SECONDS = 2 * HOP / FPS  # a map takes twice as long as its frames take to come


class Slow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def forward(self, video: Tensor) -> Tensor:
        time.sleep(SECONDS)
        return self.net(video)


def run(policy: str, consumption: str, path: Path, maps: int) -> tuple[Tally, list[dict[str, Any]]]:
    classifier = Classifier(Slow().eval(), make_preprocessing(FRAMES, crop=(32, 32)))
    buffer, metrics = Buffer(policy, consumption, HOP), Metrics(path)
    done: list[Tally] = []
    with LiveServer(fps=FPS) as server, StreamingExplainer(classifier, hop=HOP, stride=16) as stream:
        receiver = Receiver(parse_source(server.address), buffer)
        try:
            tally = follow(
                receiver, buffer, stream, classifier, metrics=metrics, report=done.append,
                stopped=lambda: bool(done) and done[-1].maps >= maps,
            )  # fmt: skip
        finally:
            receiver.stop()
            metrics.close()
    return tally, [line for line in map(json.loads, path.read_text().splitlines()) if line["kind"] == "map"]


@pytest.mark.parametrize(
    ("policy", "consumption"),
    [("drop-oldest", "eager"), ("drop-oldest", "lazy"), ("drop-newest", "eager")],
)
def test_frames_are_dropped_and_the_delay_is_less_than_a_window(policy, consumption, tmp_path):
    tally, maps = run(policy, consumption, tmp_path / "lines.jsonl", 6)
    # Of the time of a map and of its frames, two thirds are the map's; what comes then is dropped, but for the buffer.
    assert tally.dropped >= 6
    # The first forwards are more than one, as the model is looked at.
    ages = [line["age"] for line in maps[2:]]
    assert max(ages) < FRAMES / FPS + (HOP / FPS if consumption == "lazy" else 0)
    # It does not grow.
    assert ages[-1] < ages[0] + HOP / FPS


def test_where_all_frames_wait_the_delay_grows_and_is_said(tmp_path):
    tally, maps = run("wait", "lazy", tmp_path / "lines.jsonl", 6)
    assert tally.dropped == 0
    ages = [line["age"] for line in maps[2:]]
    assert ages[-1] > FRAMES / FPS
    assert ages == sorted(ages)


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


def test_a_window_has_frames_of_one_connection(tmp_path):
    """The map that is due 4 frames after the last waits for 16 where the source was away."""
    classifier = Classifier(make_net(), make_preprocessing(FRAMES, crop=(32, 32)))
    buffer, metrics = Buffer("drop-oldest", "lazy", 64), Metrics(tmp_path / "lines.jsonl")
    cut: list[int] = []

    def report(tally: Tally) -> None:
        if tally.maps == 2 and not cut:
            cut.append(tally.frames)
            server.cut()

    with LiveServer(fps=FPS) as server, StreamingExplainer(classifier, hop=HOP, stride=16) as stream:
        receiver = Receiver(parse_source(server.address), buffer, timeout=60)
        try:
            follow(
                receiver, buffer, stream, classifier, metrics=metrics, report=report,
                stopped=lambda: '"map", "connection": 1' in (tmp_path / "lines.jsonl").read_text(),
            )  # fmt: skip
        finally:
            receiver.stop()
            metrics.close()
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert buffer.dropped == 0
    assert [line["number"] for line in lines if line["kind"] == "map"][-1] == FRAMES - 1
