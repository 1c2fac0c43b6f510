"""How many requests are under way at once, and what a request does until it is answered or nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeVar

from aosa_fast.service.errors import OverloadedError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Result = TypeVar("Result")


class GoneError(Exception):
    """The client has gone: there is nobody to answer."""


class Places:
    """Places for requests. Used by the event loop's thread alone.

    Attributes:
        taken: how many are.
        closed: why no more are given, where that is so.
    """

    def __init__(self, count: int, full: str, closed: str | None = None) -> None:
        """`full`: what to say where all `count` are taken."""
        self._count, self._full = count, full
        self.taken = 0
        self.closed = closed

    @contextmanager
    def take(self) -> Iterator[None]:
        """Takes a place while the block runs.

        Raises:
            OverloadedError: there is none.
        """
        if self.closed is not None:
            raise OverloadedError(self.closed)
        if self.taken >= self._count:
            raise OverloadedError(f"{self._count} {self._full}")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Does something while the client is there; where it goes, that is cancelled.

    Raises:
        GoneError: it went.
    """
    doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise GoneError
        return doing.result()
    finally:
        for task in (doing, watching):
            task.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
