"""The command `serve`: a dataclass whose docstring is the help, and whose fields are the options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from aosa_fast.cli.options import Device, Model, Resize, Start, option
from aosa_fast.cli.terminal import consoles
from aosa_fast.config import Config
from aosa_fast.registry import import_object
from aosa_fast.service.settings import Limits


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve predictions and their maps by HTTP: one process, one model.

    [bold]Examples[/bold]

    aosa-fast serve      and then a browser at http://127.0.0.1:8000/

    curl -F clip=@clip.mp4 -F target=pred http://127.0.0.1:8000/explain

    aosa-fast serve --host 0.0.0.0 --token-file FILE --allow-host maps.example.org

    What is too much is refused at once with status 503. SIGTERM and Ctrl-C let what is under way be answered.

    Exit codes: 0 ended by a signal, all answered; 1 some were not; 2 bad argument.
    """

    model: Model = None
    device: Device = "auto"
    resize: Resize = None
    start: Start = "center"
    warmup: Annotated[bool, option("Measure first how this machine runs the model fastest.", "run")] = True
    host: Annotated[
        str, option("Address to listen on; a token must be given for others than this machine.", "http")
    ] = "127.0.0.1"
    port: Annotated[int, option("Port to listen on; 0 for any.", "http", min=0, max=65535)] = 8000
    token_file: Annotated[
        Path | None,
        option(
            "Its content must be sent: Authorization: Bearer TOKEN. Or the variable AOSA_TOKEN.", "http", metavar="FILE"
        ),
    ] = None
    allow_host: Annotated[
        list[str], option("A name that the service is called by; several times for several.", "http", metavar="NAME")
    ] = ()  # type: ignore[assignment]
    allow_origin: Annotated[
        list[str],
        option("Pages from elsewhere that may use it: https://example.org; likewise.", "http", metavar="ORIGIN"),
    ] = ()  # type: ignore[assignment]
    quiet: Annotated[bool, option("No line for each request.", "http")] = False
    max_megabytes: Annotated[float, option("Of an upload.", "limits")] = Limits.megabytes
    max_megapixels: Annotated[float, option("Of a frame.", "limits")] = Limits.megapixels
    max_frames: Annotated[int, option("Frames in a file.", "limits")] = Limits.frames
    max_seconds: Annotated[float, option("Duration of a file.", "limits")] = Limits.seconds
    timeout: Annotated[float, option("Seconds from a request to its answer.", "limits")] = Limits.timeout
    decode_timeout: Annotated[float, option("Seconds to decode an upload.", "limits")] = Limits.decode_timeout
    decode_memory: Annotated[int, option("MiB that decoding an upload may take.", "limits")] = Limits.decode_memory
    concurrency: Annotated[
        int, option("Requests that are read, explained or answered at once; one more is refused.", "limits")
    ] = Limits.concurrency
    queue: Annotated[int, option("Clips that wait for the model.", "limits")] = Limits.queue
    batch: Annotated[int, option("Clips that go through the model together, at most.", "limits")] = Limits.batch
    wait_ms: Annotated[float, option("How long the first clip of a batch waits for others.", "limits")] = Limits.wait_ms
    decoders: Annotated[int, option("Processes that decode.", "limits")] = Limits.decoders
    grace: Annotated[float, option("Seconds to answer what is under way when it is to end.", "limits", min=1.0)] = 30.0
    config: Config

    def run(self) -> None:
        """Does it."""
        import_object("aosa_fast.cli.run_serve:run_serve")(self, *consoles())

    def limits(self) -> Limits:
        """Those of the service."""
        return Limits(
            megabytes=self.max_megabytes,
            megapixels=self.max_megapixels,
            frames=self.max_frames,
            seconds=self.max_seconds,
            timeout=self.timeout,
            decode_timeout=self.decode_timeout,
            decode_memory=self.decode_memory,
            concurrency=self.concurrency,
            queue=self.queue,
            batch=self.batch,
            wait_ms=self.wait_ms,
            decoders=self.decoders,
        )
