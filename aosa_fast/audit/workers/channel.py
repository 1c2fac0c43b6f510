"""Messages between the driver and a process that it started: a kind, a length, and so many bytes, over a pipe.

The driver's pipes do not block, so that a process that stopped half-way through a message holds up nobody else. The
process' own pipes do, as it may wait for the driver.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import islice
from typing import Any

import numpy as np

_HEADER = struct.Struct("<BQ")
_COUNT = struct.Struct("<I")
_ALIGN = 16  # bytes; what memory begins at anyway, and arrays of any type may begin at
_PIECES = 64  # buffers per write; systems take 1024 or more
_LARGEST = 1 << 34  # bytes; a message that claims more is none: something else came down the pipe

Bytes = bytes | memoryview


class Kind(IntEnum):
    """What a message says."""

    SETUP = 1  # to a process: pickled (factory, its arguments, time limit of a clip in seconds)
    SAMPLE = 2  # to a reader: a pickled Sample
    BATCH = 3  # to an explainer: the bodies of several PREPARED, by `pack`
    READY = 4  # from a process: its tasks may come; a pickled `Ready` of an explainer, None of a reader
    REFUSED = 5  # it cannot begin; text
    BEGIN = 6  # it begins the task that came first of those it has
    PREPARED = 7  # the task is done: a Prepared by `dump_arrays`, which the driver passes on as it is
    ROWS = 8  # the task is done: a pickled list of rows
    FAILED = 9  # the task is done, by an exception; text


class BrokenChannelError(Exception):
    """What came down the pipe is no message."""


def allocate(length: int) -> memoryview:
    """Bytes to be written over, from a multiple of 16 on.

    Those of a bytearray are zeroed first, which takes as long as to receive them.
    """
    return np.empty(length, np.uint8).data


def pack(parts: Sequence[Bytes]) -> list[Bytes]:
    """Several byte strings as the pieces of one, in which each begins at a multiple of 16 bytes."""
    head = _COUNT.pack(len(parts)) + struct.pack(f"<{len(parts)}Q", *map(len, parts))
    return [piece for part in (head, *parts) for piece in (part, bytes(-len(part) % _ALIGN))]


def unpack(body: memoryview) -> list[memoryview]:
    """The byte strings of `pack`, without copies."""
    (count,) = _COUNT.unpack_from(body)
    lengths = struct.unpack_from(f"<{count}Q", body, _COUNT.size)
    end, parts = _COUNT.size + 8 * count, []
    for length in lengths:
        place = end + -end % _ALIGN
        end = place + length
        parts.append(body[place:end])
    return parts


def dump_arrays(value: object) -> list[Bytes]:
    """Pickles something with large arrays, whose values are not copied: they must not change until they are sent."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=arrays.append)
    return pack([head, *(array.raw() for array in arrays)])


def load_arrays(body: memoryview) -> Any:
    """What `dump_arrays` pickled; its arrays lie in `body`, which they keep, and may be written to."""
    head, *arrays = unpack(body)
    return pickle.loads(head, buffers=arrays)


class Outbox:
    """Messages on their way through a pipe, written as far as it takes them."""

    def __init__(self, pipe: int) -> None:
        """Takes the writing end of a pipe."""
        self._pipe = pipe
        self._pieces: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        """Whether something is left to be written."""
        return bool(self._pieces)

    def send(self, kind: Kind, parts: Sequence[Bytes] = ()) -> None:
        """Sends a message, whose body is the parts one after the other; they must not change until they are sent."""
        header = _HEADER.pack(kind, sum(map(len, parts)))
        self._pieces.extend(memoryview(piece) for piece in (header, *parts) if piece)
        self.flush()

    def flush(self) -> None:
        """Writes what the pipe takes now; one whose other end is gone takes, and loses, everything."""
        while self._pieces:
            try:
                done = os.writev(self._pipe, list(islice(self._pieces, _PIECES)))
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._pieces.clear()
                return
            while done:
                piece = self._pieces.popleft()
                if done < len(piece):
                    self._pieces.appendleft(piece[done:])
                done = max(done - len(piece), 0)


class Inbox:
    """Messages that come through a pipe, of which any part may have come.

    Attributes:
        ended: whether the other end is closed; what came before is complete.
        moved: bytes that have come, in all.
    """

    def __init__(self, pipe: int) -> None:
        """Takes the reading end of a pipe."""
        self.ended = False
        self.moved = 0
        self._pipe = pipe
        self._header = allocate(_HEADER.size)
        self._kind: Kind | None = None  # of the message whose body is being read
        self._target = self._header
        self._filled = 0

    def receive(self) -> Iterator[tuple[Kind, memoryview]]:
        """The messages that are whole by now; of a pipe that blocks, all until the other end is closed.

        Raises:
            BrokenChannelError: what came is no message.
        """
        while True:
            while self._filled < len(self._target):
                try:
                    count = os.readv(self._pipe, [self._target[self._filled :]])
                except BlockingIOError:
                    return
                if not count:
                    self.ended = True
                    return
                self._filled += count
                self.moved += count
            self._filled = 0
            if self._kind is None:
                self._kind, length = _parse(self._header)
                self._target = allocate(length)
            else:
                message = self._kind, self._target
                self._kind, self._target = None, self._header
                yield message
                del message  # as large as all the clips of a task


def _parse(header: memoryview) -> tuple[Kind, int]:
    kind, length = _HEADER.unpack(header)
    if kind not in Kind.__members__.values() or length > _LARGEST:
        raise BrokenChannelError(f"bytes {header.hex()} where a message should begin")
    return Kind(kind), length
