"""How a clip becomes an answer: read, decoded, explained and rendered, as long as there is time and somebody waits."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers

from aosa_fast.service.answers import render
from aosa_fast.service.arguments import Arguments
from aosa_fast.service.engine import Engine
from aosa_fast.service.errors import OverloadedError, RequestError
from aosa_fast.service.forms import Body
from aosa_fast.service.metrics import ServiceMetrics
from aosa_fast.service.places import GoneError, Places, Receive, Result, Send, unless_gone
from aosa_fast.service.requests import check_length, read_body
from aosa_fast.service.settings import Limits
from aosa_fast.service.uploads import Decoders

_CHUNK = 2**16
_RENDERERS = 2
_PATIENCE = 5.0  # seconds for the model to end what nobody waits for
_BEGINNING, _ENDING = "the model is being made ready", "the service is about to end"
_SHARE = 0.8  # of the time limit that a clip may have to wait for the model, by what the last ones took


class Work:
    """All that a service has to answer with.

    Attributes:
        engine: with the model.
        limits: of everything.
        metrics: of everything.
        busy: whether the model was still running when all had ended.
    """

    def __init__(self, engine: Engine, decoders: Decoders, limits: Limits, metrics: ServiceMetrics) -> None:
        self.engine, self.limits, self.metrics = engine, limits, metrics
        self._decoders = decoders
        self._places = Places(
            limits.concurrency, "requests are under way, which is all that this service takes at once", _BEGINNING
        )
        # Who would wait for the model behind too many, or for too long, is told so before anything is read or decoded.
        self._clips = Places(limits.queue + 1, "clips wait for the model already: try again soon")
        self._pool = ThreadPoolExecutor(_RENDERERS, thread_name_prefix="aosa_fast-render")
        self._folder: Path | None = None
        self._ends = self.busy = False

    @asynccontextmanager
    async def running(self, warmup: bool, say: Callable[[str], None]) -> AsyncIterator[None]:
        """While the block runs, there are answers."""
        self._folder = Path(tempfile.mkdtemp(prefix="aosa_fast-serve-"))
        try:
            await self._decoders.start()
            if warmup:
                self.busy = True
                say(await _aside(self.engine.warmup))
                self.busy = False
            self._places.closed = _ENDING if self._ends else None
            yield
        finally:
            self.drain()
            await self._decoders.close()
            try:
                async with asyncio.timeout(_PATIENCE):
                    await _aside(self.engine.close)
            except TimeoutError:
                self.busy = True
            self._pool.shutdown(wait=False, cancel_futures=True)
            self.clean()

    @property
    def unready(self) -> str | None:
        """Why there are no answers, where that is so."""
        return self._places.closed or (None if self._decoders.ready else "the decoders are being started")

    @property
    def under_way(self) -> int:
        """How many requests are."""
        return self._places.taken

    def drain(self) -> None:
        """Takes no more requests: those that have a place are answered."""
        self._ends = True
        self._places.closed = _ENDING

    def clean(self) -> None:
        """Removes what was sent."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def explain(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it.

        Raises:
            RequestError: it is refused, or cannot be answered.
            GoneError: nobody waits for the answer.
            TimeoutError: the answer is not taken.
        """
        headers = Headers(scope=scope)
        arguments = Arguments.read(scope["query_string"].decode("ascii", "replace"), headers.get("accept", ""))
        check_length(headers, self.limits)
        watch = _Watch(self.metrics)
        try:
            with self._places.take(), watch.waiting:
                ahead = self._clips.taken
                if ahead and self.engine.seconds(ahead) > _SHARE * self.limits.timeout:
                    raise OverloadedError(f"{ahead} clips wait for the model, which is slow: try again later")
                watch.waiting.enter_context(self._clips.take())
                self.metrics.in_flight.inc()
                try:
                    end = asyncio.get_running_loop().time() + self.limits.timeout
                    answer = await self._answer(headers, receive, arguments, watch, end)
                    async with asyncio.timeout_at(end):
                        await _send(send, *answer)
                finally:
                    self.metrics.in_flight.dec()
        except (RequestError, GoneError, TimeoutError) as error:
            reason = {503: "draining" if self._ends else "overload", 504: "deadline"}
            known = reason.get(error.status) if isinstance(error, RequestError) else "gone"
            if known is not None and not watch.queued:  # else the engine has counted it
                self.metrics.dropped(known)
            raise

    async def _answer(
        self, headers: Headers, receive: Receive, arguments: Arguments, watch: _Watch, end: float
    ) -> tuple[bytes, dict[str, str]]:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            body = await read_body(receive, headers, folder, self.limits, end)
            watch.stage("body")
            async with asyncio.timeout_at(end):
                return await unless_gone(receive, self._explained(body, arguments.updated(body.fields), watch))
        except TimeoutError:
            raise RequestError(504, f"the answer was not there in {self.limits.timeout:g} s") from None
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _explained(self, body: Body, arguments: Arguments, watch: _Watch) -> tuple[bytes, dict[str, str]]:
        upload = await self._decoders.decode(body.path, body.media)
        watch.stage("decode")
        watch.queued = True
        future = self.engine.submit(upload.pictures, arguments.target, deadline=watch.started + self.limits.timeout)
        explanation = await asyncio.wrap_future(future)
        watch.queued = False
        watch.explained(explanation.metadata["service"])
        answer = await asyncio.get_running_loop().run_in_executor(
            self._pool, render, explanation, upload.display, upload.facts, arguments, watch.seconds
        )
        watch.stage("render")
        return answer


class _Watch:
    """What each stage of a request took.

    Attributes:
        started: when the request was let in, on the monotonic clock.
        seconds: by stage.
        queued: whether the engine has the clip.
        waiting: its place among those that wait for the model.
    """

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics
        self.started = self._last = time.monotonic()
        self.seconds: dict[str, float] = {}
        self.queued = False
        self.waiting = ExitStack()

    def stage(self, name: str) -> None:
        """One has ended."""
        now = time.monotonic()
        self.seconds |= {name: now - self._last, "total": now - self.started}
        self._metrics.stage(name, self.seconds[name])
        self._last = now

    def explained(self, facts: dict[str, Any]) -> None:
        """The map is there; the engine has counted its own stages."""
        self.waiting.close()
        self._last = time.monotonic()
        total = self._last - self.started
        self.seconds |= {"queue": facts["queue"], "model": facts["model"], "total": total}
        self._metrics.age(total)


async def _aside(function: Callable[[], Result]) -> Result:
    """Runs it in a thread that nothing waits for, should it never end: the model may be stuck."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - for whoever awaits it
            future.set_exception(error)

    future.set_running_or_notify_cancel()  # it cannot be cancelled any more
    threading.Thread(target=run, name="aosa_fast-aside", daemon=True).start()
    return await asyncio.wrap_future(future)


async def _send(send: Send, content: bytes, headers: dict[str, str]) -> None:
    """In pieces: whoever takes nothing is waited for after each, and does not fill the memory."""
    fields = {**headers, "content-length": str(len(content)), "cache-control": "no-store"}
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})
    for at in range(0, len(content), _CHUNK):
        more = at + _CHUNK < len(content)
        await send({"type": "http.response.body", "body": content[at : at + _CHUNK], "more_body": more})
        await asyncio.sleep(0)  # where the client has gone, the server comes to know it
