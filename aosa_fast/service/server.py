"""The HTTP server around a service: its port, its connections, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn

from aosa_fast.errors import InputError
from aosa_fast.service.connection import Connection
from aosa_fast.service.gate import Gate
from aosa_fast.service.work import Work

_KEEP = 5  # seconds that an idle connection is kept
_BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """A port that is listened on: whoever comes before there is a server waits.

    Raises:
        InputError: it is taken, or there is no such host or port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"port must be free on host={host}; got {port}: {reason}") from None
    return listener


class Server:
    """Serves until a signal ends it, or `stop`."""

    def __init__(
        self,
        app: Gate,
        work: Work,
        listener: socket.socket,
        say: Callable[[str], None],
        *,
        warmup: bool = True,
        grace: float = 30.0,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Makes it; nothing is served yet.

        Args:
            app: what is served.
            work: of it.
            listener: of `listen`.
            say: what to do with a line for whoever runs the service.
            warmup: whether the model is warmed up first.
            grace: seconds in which requests under way may be answered after the signal.
            ready: called once there can be requests.
        """
        self._work, self._listener, self._say, self._warmup, self._ready = work, listener, say, warmup, ready
        self._server = _Server(app, work, grace)
        self._starting = True

    def run(self) -> int:
        """Serves.

        Returns:
            How many requests were left unanswered.

        Raises:
            InputError: the model cannot be used.
        """
        return asyncio.run(self._serve())

    def stop(self) -> None:
        """As the first signal: what is under way is answered. From any thread."""
        self._server.stop()

    async def _serve(self) -> int:
        over = asyncio.Event()
        serving = asyncio.ensure_future(self._server.serve(sockets=[self._listener]))
        holding = asyncio.ensure_future(self._hold(over))
        await asyncio.wait({serving, holding}, return_when=asyncio.FIRST_COMPLETED)
        self._server.should_exit = True
        try:
            await serving
        finally:
            over.set()
            if self._starting:  # there is nothing under way, and warming up may take minutes
                holding.cancel()
            with suppress(asyncio.CancelledError):
                await holding
        return self._server.lost

    async def _hold(self, over: asyncio.Event) -> None:
        """Keeps the service running until the server has ended."""
        async with self._work.running(self._warmup, self._say):
            self._starting = False
            if not self._server.should_exit:
                self._ready()
            await over.wait()


class _Server(uvicorn.Server):
    """uvicorn's, which ends with exit code 0 where all was answered, and at once on a second signal."""

    def __init__(self, app: Gate, work: Work, grace: float) -> None:
        # What uvicorn would say is said by us, in our own words, or is of no use to anybody.
        for name in ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                proxy_headers=False,
                timeout_keep_alive=_KEEP,
                timeout_graceful_shutdown=max(1, round(grace)),
                backlog=_BACKLOG,
                h11_max_incomplete_event_size=2**15,
            )
        )
        self._work = work
        self.lost = 0

    def stop(self) -> None:
        """Takes nothing more."""
        self._work.drain()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes SIGINT and SIGTERM; unlike uvicorn's, does not raise them again at the end."""
        try:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first one drains; the second one ends the process as it is, but for what would be left on the disk."""
        if self.should_exit:
            self._work.clean()
            os._exit(128 + sig)
        self.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; counts who was left."""
        end = asyncio.get_running_loop().time() + (self.config.timeout_graceful_shutdown or 0)
        await super().shutdown(sockets)
        self.lost = self._work.under_way if asyncio.get_running_loop().time() >= end else 0
