"""One process of an audit, as its driver sees it: started, given tasks, listened to, ended; never waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from aosa_fast.audit.workers.channel import Bytes, Inbox, Kind, Outbox
from aosa_fast.errors import InputError
from aosa_fast.processes import search_path, widen

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from aosa_fast.audit.workers.groups import PooledClip

START_SECONDS = 900.0  # to import, and to load a model, maybe from a busy file server
_GRACE = 0.5  # seconds of grace, in which a process that took too long may say where it was
_REAP = 2.0  # seconds to wait for the end of a process that was killed; a read from a dead server can outlast it
_KEPT, _READ = 1 << 20, 1 << 16  # bytes of a process' standard error that are kept, and of these, read in the end
_LINES, _FRAMES, _LENGTH = 5, 5, 500  # lines of it, or of where it was, and characters, in a reason
_FRAME = re.compile(r'File ".*?([^/"]*)", line (\d+) in (.*)')
_FATAL, _TOO_LONG = "Fatal Python error: ", "Timeout ("  # how faulthandler begins


class Child:
    """A process that reads or explains.

    Attributes:
        ready: whether it has said that its tasks may come.
        tasks: the clips of each task that it has, in the order in which it does them; no clip in that of a probe.
        pid: of the process, and of the group of what it starts.
        reads, writes: this process' ends of its pipes.
        inbox, outbox: what goes through them.
    """

    def __init__(
        self,
        role: str,
        setup: bytes,
        environment: dict[str, str],
        limit: float,
        clock: float,
        device: str = "",
        probing: bool = False,
    ) -> None:
        """Starts it.

        Args:
            role: "read" or "explain".
            setup: body of its first message.
            environment: what differs from this process' environment.
            limit: seconds that a task may take per clip.
            clock: as in `check_timeout`.
            device: for the caller.
            probing: whether its first task is one that another process has done.

        Raises:
            InputError: the system refuses another process.
        """
        self.role, self.device, self.probing, self._limit = role, device, probing, limit
        self.ready = self._begun = False
        self.tasks: deque[list[PooledClip]] = deque()
        self._failure: str | None = None  # why it was killed from here
        self._kill_at: float | None = None
        self._moved, self._since = 0, clock
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
            # Appending, so that either side can cut it back to nothing without a hole.
            fcntl.fcntl(self._stderr, fcntl.F_SETFL, os.O_APPEND | fcntl.fcntl(self._stderr, fcntl.F_GETFL))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "aosa_fast.audit.workers.worker", role],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, **environment, "PYTHONPATH": search_path()},
                start_new_session=True,  # Ctrl-C is not for it, and what a decoder starts ends with it
            )
        except OSError as error:
            raise InputError(f"the system must allow another process to {role} clips; {error.strerror}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.reads, self.writes = self._process.stdout.fileno(), self._process.stdin.fileno()
        for pipe in (self.reads, self.writes):
            os.set_blocking(pipe, False)
            widen(pipe)
        self.inbox, self.outbox = Inbox(self.reads), Outbox(self.writes)
        self.outbox.send(Kind.SETUP, [setup])

    def assign(self, kind: Kind, parts: Sequence[Bytes], clips: list[PooledClip], clock: float) -> None:
        """Hands it a task, which is sent as far as it takes it."""
        if not self.tasks:
            self._since = clock
        self.tasks.append(clips)
        self.outbox.send(kind, parts)

    def mark_ready(self) -> None:
        """Its tasks may come."""
        self.ready = True

    def begin(self) -> None:
        """It begins the first of its tasks."""
        self._begun = True

    def finish(self) -> list[PooledClip]:
        """It has done, or failed at, the first of its tasks, whose clips are returned."""
        self._begun = self.probing = False
        return self.tasks.popleft()

    def unfinished(self) -> tuple[list[PooledClip], list[list[PooledClip]]]:
        """The clips of the task at which it was when it ended, and those of the tasks that it had not begun."""
        tasks = list(self.tasks)
        return (tasks[0], tasks[1:]) if self._begun else ([], tasks)

    def check_timeout(self, clock: float) -> None:
        """Ends it if it has not been heard of for longer than its task may take; first, it may write where it was.

        Args:
            clock: seconds; passes only while the driver listens.
        """
        if self._moved != self.inbox.moved:
            self._moved, self._since = self.inbox.moved, clock
        if self._kill_at is not None:
            if clock > self._kill_at:
                self.kill()
        elif (self.tasks or not self.ready) and clock - self._since > self._allowed:
            self.mark_failed(_time_limit(self._allowed))
            self._kill_at = clock + _GRACE
            self._signal(signal.SIGABRT)

    @property
    def takes_tasks(self) -> bool:
        """Whether it may be given one."""
        return self.ready and self._failure is None

    def mark_failed(self, reason: str) -> None:
        """Notes why it is to be ended; the first reason counts."""
        self._failure = self._failure or reason

    def has_ended(self) -> bool:
        """Whether the process is gone; what it had sent can still be received."""
        return self._process.poll() is not None

    def trim(self) -> None:
        """Keeps what it writes to its standard error from filling the disk."""
        if os.fstat(self._stderr.fileno()).st_size > _KEPT:
            os.ftruncate(self._stderr.fileno(), 0)

    def kill(self) -> None:
        """Kills it and all that it started."""
        self._signal(signal.SIGKILL)

    def reap(self) -> str:
        """Kills it if it still runs, gives back what it used, and says what it died of, in one line."""
        if self._failure is None and not self._ends_within(_GRACE):
            self.mark_failed("stopped answering")
        self.kill()
        self._ends_within(_REAP)
        stderr = self._stderr.fileno()
        start = max(os.fstat(stderr).st_size - _READ, 0)
        said, itself = summarize_stderr(os.pread(stderr, _READ, start).decode("utf-8", "replace"))
        reason = self._failure or (_time_limit(self._allowed) if itself else _cause(self._process.returncode))
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            assert pipe is not None
            pipe.close()
        return reason + (f": {said}" if said else "")

    def _ends_within(self, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.has_ended()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def _allowed(self) -> float:
        return self._limit * max(len(self.tasks[0]), 1) if self.ready and self.tasks else START_SECONDS


def summarize_stderr(text: str) -> tuple[str, bool]:
    """What a process said last, in one line of 500 characters at most: of a crash what and where it was.

    Returns:
        That, and whether the crash was faulthandler's answer to a task that took too long.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    crash = next((i for i in reversed(range(len(lines))) if lines[i].startswith((_FATAL, _TOO_LONG))), None)
    if crash is None:
        return " | ".join(lines[-_LINES:])[-_LENGTH:], False
    threads = [i for i in range(crash, len(lines)) if lines[i].startswith(("Thread 0x", "Current thread"))]
    current = [i for i in threads if lines[i].startswith("Current thread")]
    place = (current or threads or [crash])[-1]  # without a current one, the main thread, which comes last
    frames = [frame.expand(r"\1:\2 \3") for line in lines[place + 1 :] if (frame := _FRAME.match(line))]
    said = " < ".join([lines[crash].removeprefix(_FATAL), *frames[:_FRAMES]])[:_LENGTH]
    return said, lines[crash].startswith(_TOO_LONG)


def _time_limit(seconds: float) -> str:
    return f"time limit of {seconds:g} s"


def _cause(code: int | None) -> str:
    if code is None:
        return "stopped answering"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
