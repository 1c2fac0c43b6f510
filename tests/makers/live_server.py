"""A live source on this machine: MPEG-TS over TCP at its own pace, from a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import waiting

wait_for = partial(waiting.wait_for, seconds=120)  # what is waited for starts processes


class LiveServer:
    """Serves one client after the other; each gets a stream of its own, of the size that is set at that time."""

    def __init__(self, width: int = 64, height: int = 48, fps: float = 25.0) -> None:
        self.size, self.fps = (width, height), fps
        self.hang = False  # accept, and say nothing
        self.accepted = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._closed, self._cut = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Ends the connection that there is."""
        self._cut.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self.accepted += 1
                self._cut.clear()
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, av.error.FFmpegError):
            if self.hang:
                self._closed.wait()
                return
            start = time.monotonic()
            with av.open(_Sent(client), "w", format="mpegts", options={"flush_packets": "1"}) as container:
                stream: Any = container.add_stream("libx264", rate=round(self.fps))
                stream.width, stream.height = self.size
                stream.pix_fmt = "yuv420p"
                stream.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "10"}
                number = 0
                while not (
                    self._cut.is_set() or self._closed.wait(max(0, start + number / self.fps - time.monotonic()))
                ):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, *self.size), "rgb24")))
                    number += 1

    def close(self) -> None:
        self._closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Sent:
    """A file for PyAV that keeps nothing back, as a socket's own does."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def write(self, content: bytes) -> int:
        self._client.sendall(content)
        return len(content)


def picture(number: int, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: waves that move."""
    y, x = np.mgrid[:height, :width]
    wave = 128 + 100 * np.sin((x + 2 * number) / 5) * np.cos((y - number) / 7)
    return np.repeat(wave[..., None], 3, 2).astype(np.uint8)


def readers(address: str) -> list[str]:
    """The command lines of the processes that read this address, which does not stand in them."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            assert address not in line or "streams.reader" not in line
            if "aosa_fast.streams.reader" in line and address.encode() in (place / "environ").read_bytes():
                found.append(line)
    return found
