"""Requests to a service, on raw sockets, from a process of its own; and a server that does nothing, to know its cost.

    python -I serve_client.py WHAT JSON OUT    # a function below, its arguments, and the file for what it gives

It needs the standard library alone, and gives way to what it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NICE = 5
PATIENCE = 60.0  # seconds until a request without an answer is given up
BROKEN, LEFT = 0, -1  # in place of a status: no whole answer came; the client went away before one came


@dataclass
class Request(asyncio.Protocol):
    """One request on a connection of its own, which reads while it writes: a refusal may come before all is sent.

    Attributes:
        message: head and body.
        sent: how many bytes of it are sent.
        done: whether an answer came, or cannot come any more.
    """

    message: memoryview
    sent: int
    done: asyncio.Future[None]
    answer: bytearray = field(default_factory=bytearray)
    transport: asyncio.Transport | None = None
    why: str = ""

    def connection_made(self, transport: Any) -> None:
        """Sends it; what the socket does not take waits in the transport."""
        self.transport = transport
        transport.write(self.message[: self.sent])

    def data_received(self, data: bytes) -> None:
        """A whole answer ends it, whatever becomes of the connection."""
        self.answer += data
        if self.whole():
            self._end("")

    def connection_lost(self, error: Exception | None) -> None:
        """An answer of unknown length is whole now; any other is broken."""
        self._end("" if self.whole(True) else f"{type(error).__name__} after {len(self.answer)} bytes")

    def whole(self, closed: bool = False) -> bool:
        """Whether the answer is."""
        head, split, body = self.answer.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if lengths:
            return bool(split) and len(body) >= int(lengths[0].split(b":")[1])
        return closed and bool(split) and (b"chunked" not in head.lower() or body.endswith(b"0\r\n\r\n"))

    def _end(self, why: str) -> None:
        if not self.done.done():
            self.why = why
            self.done.set_result(None)


@dataclass
class Load:
    """Sends requests to one address, and keeps when each was due, sent and answered, in seconds from the start.

    Attributes:
        port: of this machine.
        path: and query.
        body: file that is sent.
        seconds: how long requests are sent; then what is under way is waited for.
        clients: how many send one request after the other; 0: requests come by themselves.
        count: how many each client sends at most; 0: no bound.
        rate: requests a second, at random moments (Poisson) that a seed fixes.
        leaving: share of the requests whose client goes away, half of them before their body is sent.
        within: seconds within which it goes.
        expected: what a body of status 200 must hold.
    """

    port: int
    path: str
    body: str
    seconds: float
    clients: int = 0
    count: int = 0
    rate: float = 0.0
    leaving: float = 0.0
    within: float = 0.0
    expected: str = ""

    def run(self) -> dict[str, Any]:
        """Rows (due, sent, done, status, leaves), why answers broke, and this process's seconds."""
        body = Path(self.body).read_bytes()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
        head += f"Content-Type: video/mp4\r\nContent-Length: {len(body)}\r\n\r\n"
        self._message = memoryview(head.encode() + body)
        self._random = random.Random(0)
        self._rows: list[tuple[float, float, float, int, bool]] = []
        self._broken: Counter[str] = Counter()
        before = time.process_time()
        asyncio.run(self._closed() if self.clients else self._open())
        spent = time.process_time() - before
        return {"rows": self._rows, "broken": self._broken, "spent": spent}

    async def _closed(self) -> None:
        self._start = time.monotonic()

        async def client() -> None:
            done = 0
            while time.monotonic() - self._start < self.seconds and not done == self.count > 0:
                await self._send(time.monotonic() - self._start)
                done += 1

        await asyncio.gather(*(client() for _ in range(self.clients)))

    async def _open(self) -> None:
        self._start = time.monotonic()
        due = self._random.expovariate(self.rate)
        async with asyncio.TaskGroup() as group:
            while due < self.seconds:
                # Even where it lags: a request that is late is late from when it was due on.
                await asyncio.sleep(max(0.0, self._start + due - time.monotonic()))
                group.create_task(self._send(due))
                due += self._random.expovariate(self.rate)

    async def _send(self, due: float) -> None:
        leaves = self._random.random() < self.leaving
        half = leaves and self._random.random() < 0.5
        patience = self._random.uniform(0, self.within) if leaves else PATIENCE
        loop = asyncio.get_running_loop()
        length = len(self._message) // 2 if half else len(self._message)
        request = Request(self._message, length, loop.create_future())
        sent, why, status = time.monotonic() - self._start, "", BROKEN
        try:
            async with asyncio.timeout(patience):
                await loop.create_connection(lambda: request, "127.0.0.1", self.port)
                await request.done
            status, why = self._read(request)
        except TimeoutError:
            status, why = (LEFT, "") if leaves else (BROKEN, f"no answer within {PATIENCE:g} s")
        except OSError as error:
            why = f"{type(error).__name__} instead of a connection"
        if request.transport:
            request.transport.abort()
        if why:
            self._broken[why] += 1
        self._rows.append((due, sent, time.monotonic() - self._start, status, leaves))

    def _read(self, request: Request) -> tuple[int, str]:
        if request.why:
            return BROKEN, request.why
        head, _, body = request.answer.partition(b"\r\n\r\n")
        status = int(head.split(None, 2)[1])
        if status == 200 and self.expected.encode() not in body:
            return BROKEN, f"no {self.expected} in an answer"
        return status, "" if status in (200, 503) else f"status {status}: {bytes(body[:120]).decode(errors='replace')}"


def load(**arguments: Any) -> dict[str, Any]:
    """What `Load` found."""
    os.nice(NICE)
    return Load(**arguments).run()


def null(port: int) -> None:
    """Answers every request at once when its body is there, without looking at it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", port, limit=2**20) as server:
            await server.serve_forever()

    asyncio.run(serve())


def busy() -> None:
    """Takes a core as long as its parent lives."""
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


if __name__ == "__main__":
    what, arguments, out = sys.argv[1:]
    functions: dict[str, Callable[..., object]] = {"load": load, "null": null, "busy": busy}
    Path(out).write_text(json.dumps(functions[what](**json.loads(arguments))))
