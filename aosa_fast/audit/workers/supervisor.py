"""The processes of an audit: listened to without waiting for any of them, timed while they are listened to, and ended.

One that is stopped, hangs, or dies half-way through a message costs its own task some time, and nothing else.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from aosa_fast.audit.workers.channel import BrokenChannelError, Kind
from aosa_fast.audit.workers.child import Child

_TICK = 0.2  # seconds between looks at the processes
_LONGEST_STEP = 1.0  # seconds that count at most between two looks; the rest, the driver was away and heard nobody


class Supervisor:
    """Listens to the processes that were started, and reaps those that end.

    Attributes:
        children: those that, as far as is known, live.
        clock: seconds during which they were listened to.
    """

    def __init__(self, heard: Callable[[Child, Kind, memoryview], None], ended: Callable[[Child, str], None]) -> None:
        """Begins without any.

        Args:
            heard: takes a message of a process; raises `BrokenChannelError` if it makes no sense.
            ended: takes a process that is gone, and the reason in one line.
        """
        self.children: list[Child] = []
        self.clock = 0.0
        self._heard, self._ended = heard, ended
        self._looked = time.monotonic()

    def listen(self) -> None:
        """Takes what the processes say, for a moment at most, and looks after those that are silent."""
        poll, by_pipe = select.poll(), {}
        for child in self.children:
            by_pipe[child.reads] = by_pipe[child.writes] = child
            poll.register(child.reads, select.POLLIN)
            if child.outbox:
                poll.register(child.writes, select.POLLOUT)
        for pipe, _ in poll.poll(_TICK * 1000):
            child = by_pipe[pipe]
            if child not in self.children:
                continue  # it ended at an event before this one
            if pipe == child.writes:
                child.outbox.flush()
            else:
                self._hear(child)
        now = time.monotonic()
        if now - self._looked < _TICK:
            return
        self.clock += min(now - self._looked, _LONGEST_STEP)
        self._looked = now
        for child in tuple(self.children):
            child.trim()
            child.check_timeout(self.clock)
            if child.has_ended():  # seen here where a program that it started keeps its pipe open
                self._hear(child)
                if child in self.children:
                    self._end(child)

    def close(self) -> None:
        """Ends all processes at once."""
        children, self.children = self.children, []
        for child in children:
            child.mark_failed("closed")
            child.kill()
        for child in children:
            child.reap()

    def _hear(self, child: Child) -> None:
        try:
            for kind, body in child.inbox.receive():
                self._heard(child, kind, body)
        except BrokenChannelError as error:
            child.mark_failed(f"sent {error}")
            self._end(child)
            return
        if child.inbox.ended:
            self._end(child)

    def _end(self, child: Child) -> None:
        self.children.remove(child)
        self._ended(child, child.reap())
