"""The command `stream`: a dataclass whose docstring is the help, and whose fields are the arguments and options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from aosa_fast.cli.options import Device, Model, Resize, option
from aosa_fast.cli.terminal import consoles
from aosa_fast.config import Config
from aosa_fast.registry import import_object


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Explain what a classifier sees in a stream, while it goes on: a map of the newest frames, again and again.

    [bold]Examples[/bold]

    aosa-fast stream camera:0 --serve 8000           a camera, on a page here

    aosa-fast stream rtsp://camera/live --serve 8000 --metrics ages.jsonl

    aosa-fast stream long.mp4 --out maps.mp4         every frame of a file

    ffmpeg ... -pix_fmt rgb24 -f rawvideo - | aosa-fast stream - --size WxH ...

    Where a live source brings more than can be explained, frames are dropped, so that what is shown is never old. What
    is left out is counted, and how far behind it is stands on every picture.

    Exit codes: 0 the source has ended, or a live one was interrupted; 2 bad argument or source; 130 or 143 interrupted.
    """

    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video file, a camera (/dev/video0 or camera:0), an address (rtsp://HOST/PATH ...), or - for raw "
            "frames on stdin.",
        ),
    ]
    model: Model = None
    device: Device = "auto"
    target: Annotated[str, option("The class to explain: pred, an index, or a name.", "what", metavar="CLASS")] = "pred"
    hop: Annotated[int, option("A map every so many frames that the model sees.", "clip")] = 8
    frame_stride: Annotated[
        int | None, option("Every so manieth frame is what the model sees. Default: the model's.", "clip")
    ] = None
    resize: Resize = None
    size: Annotated[
        str | None, option("Size of raw frames, which they need, or of a camera's.", "clip", metavar="WxH")
    ] = None
    pixel: Annotated[
        str, option("How the pixels of raw frames are stored, as FFmpeg names it.", "clip", metavar="rgb24|bgr24|...")
    ] = "rgb24"
    fps: Annotated[float, option("Frames per second of raw frames.", "clip", min=0.1)] = 25.0
    policy: Annotated[
        str | None,
        option(
            "What a decoded frame does where the queue is full. Default: drop-oldest for live sources, else wait.",
            "run",
            metavar="wait|drop-oldest|drop-newest",
        ),
    ] = None
    consume: Annotated[
        str | None,
        option(
            "Which frame is taken from the queue: the next, or the newest, and those before it are dropped. Default: "
            "eager for live sources, else lazy.",
            "run",
            metavar="lazy|eager",
        ),
    ] = None
    queue: Annotated[int, option("Most decoded frames that wait.", "run")] = 8
    timeout: Annotated[
        float, option("Seconds after which a silent source is given up, and a live one opened again.", "run")
    ] = 10.0
    retries: Annotated[
        int | None,
        option("How many times in a row a live source is opened again. Default: again and again.", "run"),
    ] = None
    warmup: Annotated[bool, option("Measure first how this machine runs the model fastest.", "run")] = False
    out: Annotated[
        Path | None,
        option("A video of all frames that have a map; it can be played while it grows.", "out", metavar="FILE.mp4"),
    ] = None
    serve: Annotated[
        int | None,
        option("A page on 127.0.0.1 that shows them as they come; 0 for any port.", "out", metavar="PORT"),
    ] = None
    metrics: Annotated[
        Path | None, option("A line of JSON for each frame, with its age, and for each map.", "out", metavar="FILE")
    ] = None
    config: Config

    def run(self) -> None:
        """Does it."""
        import_object("aosa_fast.cli.run_stream:run_stream")(self, *consoles())
