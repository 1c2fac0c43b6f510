"""The frames between the reader and whoever explains them: never more than so many, and every drop counted."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError

POLICIES = ("wait", "drop-oldest", "drop-newest")
CONSUMPTIONS = ("lazy", "eager")


@dataclass(frozen=True, eq=False)
class Frame:
    """A decoded frame.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        number: in its connection, counted from 0 with those that the model does not see.
        time: in the source, seconds, or None.
        stamp: when it was decoded, or, of a live source, would have been if it were as prompt as others were, on the
            monotonic clock, seconds.
        connection: how often the source had been opened before.
    """

    image: NDArray[np.uint8]
    number: int
    time: float | None
    stamp: float
    connection: int = 0


class Buffer:
    """A queue of frames between two threads, for decoded frames only: what is dropped would else break the decoder.

    Attributes:
        dropped: frames that were, so far.
    """

    def __init__(self, policy: str, consumption: str, size: int) -> None:
        """Makes an empty one.

        Args:
            policy: what happens to a new frame where the buffer is full: it waits ("wait"), or takes the place of the
                oldest one ("drop-oldest"), or is dropped ("drop-newest").
            consumption: which frame is taken: the next one ("lazy"), or the newest, and all before it are dropped
                ("eager").
            size: most frames, at least 1.

        Raises:
            InputError: an argument is none of these.
        """
        for name, value, known in (("policy", policy, POLICIES), ("consume", consumption, CONSUMPTIONS)):
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}; got {value}")
        if size < 1:
            raise InputError(f"queue must be at least 1; got {size}")
        self._policy, self._eager, self._size = policy, consumption == "eager", size
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Adds a frame, as the policy says; nothing once the buffer is closed."""
        with self._changed:
            while self._policy == "wait" and len(self._frames) >= self._size and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            if len(self._frames) >= self._size:
                self.dropped += 1
                if self._policy == "drop-newest":
                    return
                self._frames.popleft()
            self._frames.append(frame)
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Frame | None:
        """The next frame, or the newest; None where none came in time, or the buffer is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed, timeout)
            if not self._frames:
                return None
            frame = self._frames.popleft()
            if self._eager:
                self.dropped += len(self._frames)
                frame = self._frames.pop() if self._frames else frame
                self._frames.clear()
            self._changed.notify_all()
            return frame

    def close(self) -> None:
        """No frame will come any more; those that are here can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """Whether it is closed, and empty."""
        with self._changed:
            return self._closed and not self._frames

    @property
    def is_full(self) -> bool:
        """Whether the next frame would have to wait, or be dropped, or drop another."""
        with self._changed:
            return len(self._frames) >= self._size
