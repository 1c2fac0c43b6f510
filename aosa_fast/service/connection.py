"""A connection of a client: it may not take its time with headers, and there are not too many of them."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from aosa_fast.service.gate import ABORT

if sys.platform != "win32":
    import resource

_HEADERS = 10.0  # seconds for the headers of a request


def _most_connections() -> int:
    """How many there may be: half of the files that a process may open, the other half being for what they bring."""
    return max(32, min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))


class Connection(H11Protocol):
    """uvicorn's, with a time limit for headers, a limit of connections, and a way to end one at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes it, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > _most_connections():
            transport.abort()
            return
        self._arm(_HEADERS)

    def handle_events(self) -> None:
        """As uvicorn's; a request gets a way to end its connection."""
        scope: Any = self.scope
        super().handle_events()
        if self.scope is not None and self.scope is not scope:
            extensions: dict[str, Any] = {ABORT: self.transport.abort}
            self.scope["extensions"] = extensions

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, which gives whoever sends a part of the headers all the time there is."""
        waiting = self.timeout_keep_alive_task
        due = None if waiting is None else waiting.when()
        idle = self.cycle is None or self.cycle.response_complete
        super().data_received(data)
        still = self.cycle is None or self.cycle.response_complete
        if idle and still and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            # A part of the headers: what is left of the time goes on.
            left = _HEADERS if due is None else max(due - self.loop.time(), 0)
            self._arm(left)

    def _arm(self, seconds: float) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Closes it; whoever does not take what is left to be sent is not waited for."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(_HEADERS, self.transport.abort)

    def shutdown(self) -> None:
        """Closes it where nothing is under way; likewise."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(1.0, self.transport.abort)
