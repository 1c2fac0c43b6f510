"""What every request passes, whatever it asks for: who may ask, errors in one line of JSON, counts and a log."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.datastructures import Headers

from aosa_fast.service.access import Access
from aosa_fast.service.answers import json_bytes
from aosa_fast.service.errors import OverloadedError, RequestError
from aosa_fast.service.metrics import ServiceMetrics
from aosa_fast.service.places import Message, Receive, Send

App = Callable[[Any, Receive, Send], Awaitable[None]]

GONE = 499
"""What is counted where nobody was there any more to be answered; other servers use this number, too."""

ABORT = "aosa_fast.abort"
"""Extension of ASGI: a function that ends the connection, whatever is still to be sent."""

_PROBES = ("/health", "/ready", "/metrics")  # asked every few seconds: a line is worth it where something is wrong
_LINGER = 2.0  # seconds in which a client that is refused may go on sending, so that it comes to read the answer
_SHORT = 2**20  # bytes of a body that is not worth a new connection
_ALWAYS = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}


def error_headers(error: RequestError) -> dict[str, str]:
    """Those that a refusal has."""
    if isinstance(error, OverloadedError):
        return {"retry-after": "1"}
    return {"www-authenticate": "Bearer"} if error.status == 401 else {}


class Gate:
    """The outermost layer of the application."""

    def __init__(
        self, app: App, access: Access, metrics: ServiceMetrics, say: Callable[[str], None], log: bool
    ) -> None:
        self._app, self._access, self._metrics, self._say, self._log = app, access, metrics, say, log

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        exchange = _Exchange(Headers(scope=scope), receive, send)
        try:
            await self._answer(scope, exchange)
        finally:
            seconds = time.monotonic() - started
            self._metrics.request(exchange.status, seconds)
            if self._log and not (exchange.status == 200 and scope["path"] in _PROBES):
                client = (scope.get("client") or ("-",))[0]
                path = scope.get("raw_path", b"?").decode("ascii", "backslashreplace")[:200]
                said = exchange.status if exchange.status != GONE else "gone"
                self._say(f"{client} {scope['method']} {path} {said} {exchange.sent} B {seconds:.3f} s")

    async def _answer(self, scope: Any, exchange: _Exchange) -> None:
        try:
            self._access.check(scope["method"], scope["path"], exchange.headers)
            await self._app(scope, exchange.receive, exchange.send)
        except RequestError as error:
            await exchange.refuse(error)
        except asyncio.CancelledError:  # the service ends, and has waited for long enough
            await exchange.refuse(OverloadedError("the service ended before the answer was there"))
        except TimeoutError:  # the answer is not taken
            exchange.status = GONE
        except Exception:  # noqa: BLE001 - a bug of ours is not to end the service
            self._say(traceback.format_exc())
            await exchange.refuse(RequestError(500, "internal error"))
        finally:
            if not exchange.ended:
                exchange.abort(scope)


class _Exchange:
    """A request and its answer: a body that nobody has read is let come for a moment, behind the answer."""

    def __init__(self, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        self.headers, self._receive, self._send = headers, receive, send
        self.status = self.sent = 0
        self.ended = False
        length = headers.get("content-length")
        self._unread = length not in (None, "0") or "transfer-encoding" in headers
        self._short = length is not None and length.isdigit() and int(length) <= _SHORT
        if headers.get("expect", "").lower() == "100-continue":
            self._short = False  # whoever waits to be asked sends nothing now
        self._gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
        elif not message.get("more_body", False):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = {name.encode(): value.encode() for name, value in _ALWAYS.items()} | dict(message["headers"])
            if self._unread and not self._short:
                headers[b"connection"] = b"close"
            message = {**message, "headers": list(headers.items())}
        else:
            self.sent += len(message.get("body", b""))
            if self._unread and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await self._linger()
                message = {"type": "http.response.body", "body": b""}
        await self._send(message)
        self.ended = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def refuse(self, error: RequestError) -> None:
        """Answers with an error, if nothing was answered yet."""
        if self.status:
            return
        self._short &= error.status != 408
        body = json_bytes({"error": error.reason})
        headers = {"content-type": "application/json", "content-length": str(len(body)), **error_headers(error)}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    async def _linger(self) -> None:
        """Lets the rest of the body come: a connection that is closed before loses the answer that was sent."""
        if self.headers.get("expect", "").lower() == "100-continue":
            return  # it waits to be asked
        try:
            async with asyncio.timeout(_LINGER):
                while self._unread and not self._gone:
                    await self.receive()
        except TimeoutError:
            pass

    def abort(self, scope: Any) -> None:
        """Ends the connection: there is nobody, or an answer that cannot be ended."""
        abort = scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
