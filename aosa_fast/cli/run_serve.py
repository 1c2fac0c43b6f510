"""What the command `serve` does, once its arguments are read."""

from __future__ import annotations

import os
import queue
import sys
import threading
from contextlib import suppress
from pathlib import Path

import typer
from rich.console import Console

from aosa_fast.boundary import read_bytes, reading
from aosa_fast.cli.demo_model import DEFAULT_MODEL, tell_of_default
from aosa_fast.cli.run_explain import changed
from aosa_fast.cli.serve import Serve
from aosa_fast.cli.terminal import write_line
from aosa_fast.libraries import check_libraries
from aosa_fast.models.loading import load_on
from aosa_fast.processes import refuse_windows

_LINES = 1000  # that may wait for whoever reads them


def run_serve(request: Serve, console: Console, errors: Console) -> None:
    """Serves until a signal ends it.

    Raises:
        InputError: anything about the system, the arguments, the port or the model that cannot be.
        typer.Exit: requests were left unanswered.
    """
    refuse_windows("serve")
    check_libraries("fastapi", "uvicorn", "prometheus_client", "python_multipart", extra="serve")
    from aosa_fast.service.access import Access
    from aosa_fast.service.app import make_app
    from aosa_fast.service.engine import Engine
    from aosa_fast.service.metrics import ServiceMetrics
    from aosa_fast.service.server import Server, listen
    from aosa_fast.service.uploads import Decoders
    from aosa_fast.service.work import Work

    limits = request.limits()
    access = Access(
        host=request.host,
        token=_token(request.token_file),
        hosts=tuple(name.lower() for name in request.allow_host),
        origins=tuple(origin.rstrip("/") for origin in request.allow_origin),
    )
    with listen(request.host, request.port) as listener:
        classifier = changed(load_on(request.model or DEFAULT_MODEL, request.device), resize=request.resize)
        metrics = ServiceMetrics()
        engine = Engine(classifier, limits, metrics, config=request.config)
        decoders = Decoders(classifier.preprocessing, limits, start=request.start)
        speaker = _Speaker(errors)
        work = Work(engine, decoders, limits, metrics)
        app = make_app(work, access, speaker.say, log=not request.quiet)
        port = listener.getsockname()[1]
        name = f"[{request.host}]" if ":" in request.host else request.host

        def ready() -> None:
            write_line(console, f"ready: http://{name}:{port}/")
            tell_of_default(request.model, console)

        server = Server(app, work, listener, speaker.say, warmup=request.warmup, grace=request.grace, ready=ready)
        lost = server.run()
        speaker.close()
    write_line(console, "ended" + (f": {lost} requests were left unanswered" if lost else ""))
    if work.busy:  # the interpreter would not end before the model does
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1 if lost else 0)
    if lost:
        raise typer.Exit(1)


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get("AOSA_TOKEN") or None
    with reading(path, "must be a file with a token"):
        return read_bytes(path).decode().strip()


class _Speaker:
    """Says lines from a thread of its own: nobody waits for a stderr that nobody reads; what is too much is dropped."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: queue.Queue[str | None] = queue.Queue(_LINES)
        self._thread = threading.Thread(target=self._speak, name="aosa_fast-log", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """Says it, soon."""
        with suppress(queue.Full):
            self._lines.put_nowait(text)

    def close(self) -> None:
        """Says what is still to be said."""
        self._lines.put(None)
        self._thread.join(1.0)

    def _speak(self) -> None:
        while (text := self._lines.get()) is not None:
            write_line(self._console, text)
