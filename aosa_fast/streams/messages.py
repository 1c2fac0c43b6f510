"""Messages from a reader process: facts in JSON, and the bytes of a frame, over a pipe."""

from __future__ import annotations

import json
import os
import select
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERS = "AOSA_FAST_ORDERS"
"""Variable with a reader's orders. Addresses may have passwords, and other users see the arguments of processes."""

_HEADER = struct.Struct("<II")
_LARGEST = 1 << 31  # bytes; a message that claims more is none
_LONGEST = 1e9  # milliseconds; poll takes an int


class SilenceError(Exception):
    """Nothing came for too long."""


def send(descriptor: int, facts: dict[str, Any], frame: NDArray[np.uint8] | None = None) -> None:
    """Writes one message; waits where nobody reads.

    Raises:
        BrokenPipeError: nobody will.
    """
    text = json.dumps(facts).encode()
    parts: list[bytes | memoryview] = [_HEADER.pack(len(text), 0 if frame is None else frame.nbytes) + text]
    if frame is not None:
        parts.append(frame.data.cast("B"))
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


def receive(
    descriptor: int, timeout: float | None, most: int = _LARGEST
) -> tuple[dict[str, Any], NDArray[np.uint8]] | None:
    """Reads one message, as facts and bytes; None where the writer has gone.

    Args:
        descriptor: of the pipe.
        timeout: seconds in which there must be something new; None: however long it takes.
        most: bytes of a message; the writer of a larger one is taken to have gone.

    Raises:
        SilenceError: there was not.
    """
    header = _read(descriptor, _HEADER.size, timeout)
    if header is None:
        return None
    length, size = _HEADER.unpack(header.data)
    if length + size > most:
        return None
    text, content = _read(descriptor, length, timeout), _read(descriptor, size, timeout)
    if text is None or content is None:
        return None
    return json.loads(text.tobytes()), content


def _read(descriptor: int, count: int, timeout: float | None) -> NDArray[np.uint8] | None:
    content = np.empty(count, np.uint8)
    view = content.data
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while view:
        if not poll.poll(None if timeout is None else min(1000 * timeout, _LONGEST)):
            raise SilenceError
        got = os.readv(descriptor, [view])
        if not got:
            return None
        view = view[got:]
    return content
