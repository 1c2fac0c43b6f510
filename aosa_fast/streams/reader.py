"""The process that decodes a stream: `python -m aosa_fast.streams.reader`, with its orders in JSON in a variable.

FFmpeg waits for a silent server for ever, and a broken stream can take a process down; so it is one that may be killed.
torch is not loaded here.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import av
from av.video.reformatter import VideoReformatter

from aosa_fast.boundary import reason
from aosa_fast.errors import InputError
from aosa_fast.processes import end_with
from aosa_fast.streams.lateness import Lateness
from aosa_fast.streams.messages import ORDERS, send
from aosa_fast.video.clip import check_pixels
from aosa_fast.video.opening import find_decoder
from aosa_fast.video.pixels import find_display, to_rgb


def main() -> None:
    """Sends what it decodes to stdout, until the source ends or nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever reads this process
    orders = json.loads(os.environ.pop(ORDERS))
    channel = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no message
    threading.Thread(target=end_with, args=(orders["parent"],), daemon=True).start()
    with suppress(BrokenPipeError):
        send(channel, {"kind": "ready"})
        try:
            _decode(channel, orders)
        except InputError as error:
            send(channel, {"kind": "failed", "reason": str(error)})
        except (av.error.FFmpegError, UnicodeError) as error:
            # Its whole text would name the address, with a password that is in it.
            send(channel, {"kind": "failed", "reason": getattr(error, "strerror", None) or reason(error)})


def _decode(channel: int, orders: dict[str, Any]) -> None:
    with av.open(
        orders["address"], format=orders["format"], options=orders["options"], metadata_errors="replace"
    ) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
            raise InputError("it has no video stream that a decoder knows")
        stream.thread_type = "SLICE"  # threads over frames would each hold one back
        # What has no end that is known is live, whatever its address looks like.
        endless = container.duration is None and orders["live"]
        send(channel, {"kind": "open", "endless": endless})
        check_pixels(orders["name"], stream.codec_context.height, stream.codec_context.width)
        decoder, display, damaged, number, late = find_decoder(stream), None, 0, 0, Lateness()
        reformatter = VideoReformatter()
        for packet in container.demux(stream):
            # Also where no frame comes of it, as before a stream's first key frame: it is not silent.
            send(channel, {"kind": "packet", "damaged": damaged})
            try:
                frames = decoder.decode(packet)
            except av.error.FFmpegError:
                damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    damaged += 1
                    continue
                stamp, number = time.monotonic(), number + 1
                stamp -= late(frame.time, stamp) if endless else 0.0
                if (number - 1) % orders["stride"]:
                    continue
                check_pixels(orders["name"], frame.height, frame.width)
                display = find_display(frame) if display is None else display
                image = to_rgb(frame, display, display.shown(frame), reformatter)
                facts = {
                    "kind": "frame", "number": number - 1, "time": frame.time, "stamp": stamp, "shape": image.shape
                }  # fmt: skip
                send(channel, facts, image)
        send(channel, {"kind": "end", "damaged": damaged})


if __name__ == "__main__":
    main()
