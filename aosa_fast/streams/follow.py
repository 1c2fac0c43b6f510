"""The loop: frames from a source, maps of the newest, and whoever shows them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from aosa_fast.models.classifier import Classifier
from aosa_fast.streams.buffer import Buffer
from aosa_fast.streams.explainer import StreamingExplainer
from aosa_fast.streams.metrics import Metrics, Tally
from aosa_fast.streams.overlay import Painted, Painter
from aosa_fast.streams.receiver import Receiver

_PATIENCE = 0.25  # seconds between looks at whether to stop


class Sink(Protocol):
    """Shows frames with their maps."""

    def show(self, frames: list[Painted]) -> None:
        """Takes the next frames."""


def follow(
    receiver: Receiver,
    buffer: Buffer,
    stream: StreamingExplainer,
    classifier: Classifier,
    *,
    sinks: Sequence[Sink] = (),
    metrics: Metrics | None = None,
    stopped: Callable[[], bool] = lambda: False,
    report: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Explains what comes, until the source ends or `stopped`.

    Args:
        receiver: fills the buffer, with the frames that the model sees.
        buffer: see there.
        stream: explains them; the stride of its model is 1.
        classifier: its model.
        sinks: show them; without any, nothing is painted.
        metrics: notes them.
        stopped: asked again and again.
        report: called after each frame, and while there is none.

    Returns:
        What was done.

    Raises:
        InputError: as `StreamingExplainer.push`, or a sink cannot be written.
    """
    tally, painter = Tally(), Painter(classifier.preprocessing)
    stamps: deque[float] = deque(maxlen=classifier.preprocessing.frames)
    connection = 0
    while not stopped():
        frame = buffer.take(_PATIENCE)
        tally.dropped, tally.damaged, tally.connections = buffer.dropped, receiver.damaged, receiver.connections
        if frame is None:
            if buffer.is_closed:
                break
            report(tally)
            continue
        start = time.monotonic()
        if frame.connection != connection:
            connection = frame.connection
            stream.restart()
        if metrics is not None:
            metrics.frame(frame, start - frame.stamp, tally.dropped)
        if sinks:
            painter.keep(stream.pushed, frame)
        stamps.append(frame.stamp)
        explanation = stream.push(frame.image)
        tally.frames += 1
        if explanation is not None:
            if sinks:
                painted = painter.paint(explanation)
                for sink in sinks:
                    sink.show(painted)
            now = time.monotonic()
            tally.maps, tally.age = tally.maps + 1, now - frame.stamp
            tally.oldest = max(tally.oldest, tally.age)
            tally.said = f"{explanation.metadata['target'][0]} ({explanation.metadata['probability'][0]:.2f})"
            if metrics is not None:
                metrics.map(frame, explanation, tally.age, now - stamps[0], now - start)
        report(tally)
    tally.dropped, tally.damaged, tally.connections = buffer.dropped, receiver.damaged, receiver.connections
    return tally
