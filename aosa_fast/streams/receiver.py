"""Keeps a reader process at work: listens to it, kills it where it is silent, and starts it anew."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from aosa_fast.errors import InputError
from aosa_fast.processes import search_path, widen
from aosa_fast.streams.buffer import Buffer, Frame
from aosa_fast.streams.messages import ORDERS, SilenceError, receive
from aosa_fast.streams.source import Source

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds between attempts: twice as long each time
_START = 120.0  # seconds for the process itself, on a busy machine
_REAP = 2.0  # seconds; a process that a camera's driver holds back cannot even be killed


class Receiver:
    """Fills a buffer with a source's frames, from a thread of its own.

    Attributes:
        frames: that came, so far.
        damaged: packets and frames that could not be decoded.
        connections: how often the source was opened, and frames came.
        error: why there will be no more frames, where that is not because the source has ended.
    """

    def __init__(
        self,
        source: Source,
        buffer: Buffer,
        *,
        stride: int = 1,
        timeout: float = 10.0,
        retries: int | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Starts it.

        Args:
            source: see there.
            buffer: for the frames; closed when the source has ended.
            stride: every so manieth frame is wanted.
            timeout: seconds after which a silent reader is killed.
            retries: how many times in a row a live source is tried anew; None: again and again.
            tell: called from the thread with what happens to the connection.

        Raises:
            InputError: an argument out of its range.
        """
        if stride < 1 or not timeout > 0 or (retries is not None and retries < 0):
            raise InputError(
                f"frame_stride must be at least 1, timeout above 0, and retries at least 0; "
                f"got {stride}, {timeout:g} and {retries}"
            )
        self._source, self._buffer, self._tell = source, buffer, tell
        self._stride, self._timeout, self._retries = stride, timeout, retries
        self.frames = self.damaged = self.connections = 0
        self.error: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aosa_fast-receiver", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread.start()

    def stop(self) -> None:
        """Ends the process and the thread; frames that have come can still be taken."""
        self._stopped.set()
        self._buffer.close()
        if self._process is not None:
            self._process.kill()
        self._thread.join(2 * _REAP)

    def _run(self) -> None:
        error: str | None = "what receives it broke down"
        try:
            error = self._connect()
        except InputError as failed:  # whoever is told cannot write it down
            error = str(failed)
        finally:
            self.error = error
            self._buffer.close()

    def _connect(self) -> str | None:
        """Again and again, as long as the source is live: None where it has ended, or why there is no more of it."""
        failures = 0
        while not self._stopped.is_set():
            before = self.frames
            failed = self._receive()
            failures = 1 if self.frames > before else failures + 1
            if failed is None or self._stopped.is_set():
                break
            if not self._again or (self._retries is not None and failures > self._retries):
                return failed
            wait = find_wait(failures)
            self._tell(f"{self._source.name}: {failed}; again in {wait:g} s")
            self._stopped.wait(wait)
        return None

    def _receive(self) -> str | None:
        """One connection, from its beginning to its end: None where that is the source's own, or why it ceased."""
        self._again = self._source.live
        frames, damaged = self.frames, self.damaged
        try:
            process = self._start()
        except OSError as error:
            return f"the system must allow a process to read it; {error.strerror}"
        assert process.stdout is not None
        timeout: float | None = _START
        try:
            while message := receive(process.stdout.fileno(), timeout):
                facts, content = message
                timeout = None if self._source.patient else self._timeout
                self.damaged = damaged + facts["damaged"] if "damaged" in facts else self.damaged
                if facts["kind"] == "failed":
                    return str(facts["reason"])
                if facts["kind"] == "end" and not self._again:
                    return None if self.frames else "must have frames that can be decoded; it has none"
                if facts["kind"] == "end":
                    return "the stream ended"
                if facts["kind"] == "open":
                    self._again = facts["endless"]
                if facts["kind"] != "frame":
                    continue
                if self.frames == frames:
                    self.connections += 1
                    if self.connections > 1:
                        self._tell(f"{self._source.name}: there again")
                self.frames += 1
                image = content.reshape(facts["shape"])
                number, time, stamp = facts["number"], facts["time"], facts["stamp"]
                self._buffer.put(Frame(image, number, time, stamp, self.connections - 1))
            return f"its reader ended with code {process.wait(_REAP)}"
        except SilenceError:
            return f"silent for {timeout:g} s"
        except subprocess.TimeoutExpired:
            return "its reader does not end"
        finally:
            _end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        orders = json.dumps({**dataclasses.asdict(self._source), "stride": self._stride, "parent": os.getpid()})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "aosa_fast.streams.reader"],
            bufsize=0,
            stdin=None if self._source.address == "pipe:0" else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search_path(), ORDERS: orders},
            process_group=0,  # Ctrl-C is not for it
        )
        assert self._process.stdout is not None
        widen(self._process.stdout.fileno())
        if self._stopped.is_set():
            self._process.kill()
        return self._process


def find_wait(failures: int) -> float:
    """Seconds until the next attempt, after so many in a row that failed."""
    return min(_FIRST_WAIT * 2 ** min(failures - 1, 10), _LONGEST_WAIT)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_REAP)
    if process.stdout is not None:
        process.stdout.close()
