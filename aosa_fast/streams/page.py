"""A page on this machine that shows a stream with its maps, as it goes, to whoever looks at it."""

from __future__ import annotations

import io
import math
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from aosa_fast.errors import InputError
from aosa_fast.streams.overlay import Painted

_HOST = "127.0.0.1"
_CLIENTS = 8  # at most, that look at a time
_CONNECTIONS = 32  # at most; each has a thread
_PATIENCE = 5.0  # seconds until a client that takes nothing is given up
_AGAIN = 1.0  # seconds
_PAGE = b"""<!doctype html>
<meta charset="utf-8"><title>aosa-fast stream</title>
<style>body { margin: 0; background: #111; display: grid; place-items: center; min-height: 100vh }
img { max-width: 100vw; max-height: 100vh; min-width: min(60vw, 60vh) }</style>
<img src="/stream" alt="The stream with its maps">
"""


class Page:
    """Serves pictures as they come (MJPEG), by HTTP, to browsers on this machine only.

    Whoever is too slow misses pictures: nobody keeps the stream, or each other, waiting.

    Attributes:
        address: of the page.
    """

    def __init__(self, port: int) -> None:
        """Starts it.

        Args:
            port: of 127.0.0.1; 0 for one that is free.

        Raises:
            InputError: the port is taken, or out of range.
        """
        try:
            self._server = _Server((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"serve must be a port that is free on {_HOST}; got {port}: {error}") from None
        self.address = f"http://{_HOST}:{self._server.server_port}/"
        self._fresh = threading.Condition()
        self._waiting: list[Painted] = []
        self._start = 0.0  # what to add to a frame's stamp for when to show it
        self._closed = False
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), name="aosa_fast-page", daemon=True),
            threading.Thread(target=self._play, name="aosa_fast-player", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def show(self, frames: list[Painted]) -> None:
        """Shows frames at the pace at which they came; those before that were not shown yet never are."""
        with self._fresh:
            self._waiting = frames[::-1]
            self._start = time.monotonic() - frames[0].stamp
            self._fresh.notify_all()

    def _play(self) -> None:
        painted: Painted | None = None
        while True:
            with self._fresh:
                left = self._until_due()
                # The last picture is shown again each second, as it gets older.
                shown = time.monotonic()
                while left > 0 and time.monotonic() < shown + _AGAIN and not self._closed:
                    self._fresh.wait(min(left, _AGAIN))
                    left = self._until_due()
                if self._closed:
                    return
                painted = self._waiting.pop() if left <= 0 else painted
            if painted is not None and self._server.clients:
                picture = io.BytesIO()
                image = Image.fromarray(painted.labelled(time.monotonic() - painted.stamp))
                image.save(picture, "JPEG", quality=85)
                self._server.publish(picture.getvalue())

    def _until_due(self) -> float:
        """Seconds until the next picture is to be shown; inf where none waits."""
        return self._start + self._waiting[-1].stamp - time.monotonic() if self._waiting else math.inf

    def close(self) -> None:
        """Ends it, and all who look at it."""
        with self._fresh:
            self._closed = True
            self._fresh.notify_all()
        self._server.publish(None)
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.clients = 0
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self.news = threading.Condition()
        self._picture: bytes | None = b""
        self.count = 0
        super().__init__(address, handler)

    def publish(self, picture: bytes | None) -> None:
        """A new picture for everybody; None: there will be no more."""
        with self.news:
            self._picture, self.count = picture, self.count + 1
            self.news.notify_all()

    def next_picture(self, after: int) -> tuple[bytes | None, int]:
        """The newest picture and its number, which is more than `after`."""
        with self.news:
            self.news.wait_for(lambda: self.count > after or self._picture is None)
            return self._picture, self.count

    def process_request(self, request: Any, client_address: Any) -> None:
        """Takes a connection, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Frees its place once it is over."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing: a browser that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in (_HOST, "localhost"):  # a foreign page whose name was made to lead here
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path == "/":
            self._send(_PAGE)
        elif self.path == "/stream":
            self._stream()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        with self.server.news:
            full = self.server.clients >= _CLIENTS
            self.server.clients += not full
        if full:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            count = self.server.count  # what was shown when nobody looked is too old
            while True:
                picture, count = self.server.next_picture(count)
                if picture is None:
                    return
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
        finally:
            with self.server.news:
                self.server.clients -= 1

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: stderr is the command's."""
