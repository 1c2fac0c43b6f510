"""What the command `stream` does, once its arguments are read."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from aosa_fast.cli.demo_model import DEFAULT_MODEL, tell_of_default
from aosa_fast.cli.run_explain import changed
from aosa_fast.cli.stream import Stream
from aosa_fast.cli.terminal import write_line
from aosa_fast.errors import InputError
from aosa_fast.models.loading import load_on
from aosa_fast.processes import refuse_windows
from aosa_fast.streams.buffer import Buffer
from aosa_fast.streams.explainer import StreamingExplainer, StreamWarning
from aosa_fast.streams.follow import Sink, follow
from aosa_fast.streams.metrics import Metrics, Tally
from aosa_fast.streams.page import Page
from aosa_fast.streams.receiver import Receiver
from aosa_fast.streams.recording import Recording
from aosa_fast.streams.source import Source, parse_source

_EVERY = 30.0  # seconds between lines about how far it is, where there is no terminal


def run_stream(request: Stream, console: Console, errors: Console) -> None:
    """Explains the source until it ends, and says what was done.

    Raises:
        InputError: anything about the system, the arguments, the source or the model that cannot be.
        typer.Exit: it was interrupted before the end.
    """
    refuse_windows("stream")
    source = parse_source(request.source, size=request.size, pixel=request.pixel, fps=request.fps)
    if request.out is None and request.serve is None and request.metrics is None:
        raise InputError("out, serve or metrics must be given; got none, so nothing would be left of the maps")
    policy = request.policy or ("drop-oldest" if source.live else "wait")
    consumption = request.consume or ("eager" if source.live else "lazy")
    buffer = Buffer(policy, consumption, request.queue)
    classifier = changed(
        load_on(request.model or DEFAULT_MODEL, request.device), stride=request.frame_stride, resize=request.resize
    )
    stride = classifier.preprocessing.stride
    seen = changed(classifier, stride=1)  # frames that the model does not see stay in the reader
    with ExitStack() as stack, stopping() as signals:
        stream = stack.enter_context(
            StreamingExplainer(seen, hop=request.hop, target=request.target, config=request.config)
        )
        sinks: list[Sink] = []
        # What may be refused comes before what takes the place of an earlier file.
        if request.serve is not None:
            page = Page(request.serve)
            stack.callback(page.close)
            sinks.append(page)
        if request.out is not None:
            recording = Recording(request.out, live=source.live)
            stack.callback(recording.close)
            sinks.append(recording)
        metrics = None if request.metrics is None else Metrics(request.metrics)
        if metrics is not None:
            stack.callback(metrics.close)
        if request.serve is not None:
            write_line(console, f"page: {page.address}")
        tell_of_default(request.model, console)
        if request.warmup:
            write_line(errors, str(stream.explainer.warmup()))

        def tell(text: str) -> None:
            write_line(errors, text)
            if metrics is not None:
                metrics.event(text)

        stack.enter_context(_telling_of_sizes())
        receiver = Receiver(source, buffer, stride=stride, timeout=request.timeout, retries=request.retries, tell=tell)
        stack.callback(receiver.stop)
        with _Line(errors, source.name) as line:
            tally = follow(
                receiver, buffer, stream, seen, sinks=sinks, metrics=metrics, stopped=lambda: bool(signals),
                report=line.show,
            )  # fmt: skip
    least = "" if tally.maps else f"; a map needs {seen.preprocessing.frames} in a row"
    _end(request, source, tally, least, receiver.error, signals, console)


def _end(
    request: Stream, source: Source, tally: Tally, least: str, error: str | None, signals: list[int], console: Console
) -> None:
    if error is not None and not tally.frames:
        raise InputError(f"{source.name}: {error}")
    how = "interrupted" if signals else "ended"
    where = [str(path) for path in (request.out if tally.maps else None, request.metrics) if path is not None]
    behind = f", at most {tally.oldest:.2f} s behind" if tally.maps else least
    write_line(console, f"{how}: {tally}{behind}" + (f"; {' and '.join(where)}" if where else ""))
    if error is not None:
        raise InputError(f"{source.name}: {error}")
    if signals and not source.live:
        raise typer.Exit(128 + signals[0])


@contextmanager
def stopping() -> Iterator[list[int]]:
    """Gives a list that gets the number of the first SIGINT or SIGTERM; another one ends the process as usual."""
    got: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield got
        return

    def stop(number: int, _: object) -> None:
        if got:
            raise KeyboardInterrupt
        got.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _telling_of_sizes() -> Iterator[None]:
    """Each time that frames change their size, not only the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", StreamWarning)
        yield


class _Line:
    """How far a stream is: a line that changes on a terminal, a line every half minute elsewhere."""

    def __init__(self, console: Console, name: str) -> None:
        self._console, self._name = console, name
        self._status = Status(Text(name), console=console) if console.is_terminal else None
        self._said, self._frames = time.monotonic(), 0

    def show(self, tally: Tally) -> None:
        """Says it, if the last time was long ago."""
        passed = time.monotonic() - self._said
        if passed < (0.5 if self._status else _EVERY):
            return
        rate = (tally.frames - self._frames) / passed
        text = f"{self._name}: {tally}, {rate:.1f} frames/s"
        if tally.maps:
            text += f", {tally.age:.2f} s behind: {tally.said}"
        self._said, self._frames = time.monotonic(), tally.frames
        if self._status:
            self._status.update(Text(text))
        else:
            write_line(self._console, text)

    def __enter__(self) -> _Line:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()
