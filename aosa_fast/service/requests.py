"""The body of a request, which goes to the disk as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.multipart import parse_options_header

from aosa_fast.service.arguments import short
from aosa_fast.service.errors import RequestError
from aosa_fast.service.forms import FORM, Body, Form
from aosa_fast.service.places import GoneError, Receive
from aosa_fast.service.settings import Limits

_PATIENCE = 10.0  # seconds without a byte
_WRITE = 2**20  # bytes at a time
_OTHERS = ("application/octet-stream", "application/mp4", "application/ogg", "application/x-npy")


def check_length(headers: Mapping[str, str], limits: Limits) -> None:
    """Refuses a body that says that it is too long. Raises RequestError."""
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > _bytes(limits):
        raise _too_long(limits)


def _bytes(limits: Limits) -> int:
    return int(limits.megabytes * 1e6)


def _too_long(limits: Limits) -> RequestError:
    return RequestError(413, f"body must have at most {limits.megabytes:g} MB (10^6 bytes)")


async def read_body(receive: Receive, headers: Mapping[str, str], folder: Path, limits: Limits, end: float) -> Body:
    """Reads it into a folder of its own.

    Args:
        receive: of ASGI.
        headers: with names in lower case.
        folder: empty.
        limits: that it must keep.
        end: when it must be there, by the event loop's clock.

    Raises:
        RequestError: it is too long, too slow, or of a type that nobody reads.
        GoneError: the client went away meanwhile.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestError(415, "Content-Encoding must not be given: the body as it is")
    kind, options = parse_options_header(headers.get("content-type", "application/octet-stream"))
    media = kind.decode("latin-1")
    sink = Form(folder, options.get(b"boundary", b"")) if media == FORM else _Raw(folder, media)
    loop = asyncio.get_running_loop()
    count, held = 0, bytearray()
    try:
        more = True
        while more:
            try:
                async with asyncio.timeout_at(min(end, loop.time() + _PATIENCE)):
                    message = await receive()
            except TimeoutError:
                raise RequestError(408, "body must come faster: it was not there in time") from None
            if message["type"] == "http.disconnect":
                raise GoneError
            data, more = message.get("body", b""), message.get("more_body", False)
            count += len(data)
            if count > _bytes(limits):
                raise _too_long(limits)
            held += data
            if len(held) >= _WRITE or not more:  # to change threads takes milliseconds where they are busy
                await _finish(sink.write, bytes(held))
                held.clear()
        return sink.end()
    finally:
        sink.close()


async def _finish(function: Any, *arguments: Any) -> None:
    """Runs it in a thread, and does not go on before it is done, even where this is cancelled: its file is closed."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


class _Raw:
    """A body that is the clip."""

    def __init__(self, folder: Path, media: str) -> None:
        if not (media.startswith(("video/", "image/")) or media in _OTHERS):
            raise RequestError(
                415,
                "Content-Type must be video/..., image/..., application/octet-stream, application/x-npy or "
                f"{FORM}; got {short(media)}",
            )
        self._path, self._media = folder / "clip", media
        self._file: BinaryIO = self._path.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def end(self) -> Body:
        if not self._file.tell():
            raise RequestError(400, "body must be a clip; got no bytes")
        self._file.flush()
        return Body(self._path, self._media, {})

    def close(self) -> None:
        self._file.close()
