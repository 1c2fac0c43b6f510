"""The process that reads clips, or explains them, for an audit: `python -m ...workers.worker read|explain`.

It takes tasks from its standard input and answers over what was its standard output, see `channel`.
Whatever a decoder or a model prints goes to its standard error. Where its input ends, its driver is gone, and so is it.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from aosa_fast.audit.workers.channel import Bytes, Inbox, Kind, Outbox, dump_arrays, load_arrays, unpack
from aosa_fast.errors import InputError, is_broken_device

BROKEN_DEVICE = 70  # exit code: no later computation on the device can succeed in this process
_LONGEST = 1e6  # seconds; faulthandler takes no infinite time
_GRACE = 5.0  # seconds beyond the time limit, within which the driver acts if it is there

Task = tuple[Kind, memoryview]
Answer = tuple[Kind, list[Bytes]]


def main(role: str) -> None:
    """Works until the input ends.

    Args:
        role: "read" or "explain".
    """
    inbox, outbox = Inbox(os.dup(0)), Outbox(os.dup(1))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # a program that a decoder starts would eat the tasks
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    faulthandler.enable()
    with suppress(ImportError, ValueError, OSError):
        import resource

        # Gigabytes for every bad clip, if the system keeps them.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # for the driver to act on; one sent to all would blame a clip
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ignore_signal)
            signal.siginterrupt(getattr(signal, name), False)
    tasks: SimpleQueue[Task] = SimpleQueue()
    threading.Thread(target=_take, args=(inbox, tasks), daemon=True).start()
    _, setup = tasks.get()
    try:
        factory, arguments, limit = pickle.loads(setup)
        module, _, name = factory.partition(":")
        worker = getattr(importlib.import_module(module), name)(*arguments)
        ready = pickle.dumps(worker.ready if role == "explain" else None, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # noqa: BLE001 - all that keeps it from working is told to the driver
        text = error_line(error)
        if not isinstance(error, InputError):
            text = f"the process that is to {role} clips cannot begin; {text}"
        outbox.send(Kind.REFUSED, [_encode(text)])
        os._exit(1)
    outbox.send(Kind.READY, [ready])
    work = _explain if role == "explain" else _read
    while True:
        task = tasks.get()
        outbox.send(Kind.BEGIN)
        answer = _do(work, worker, task, limit)
        del task  # as large as all of its clips
        outbox.send(*answer)
        del answer


def error_line(error: BaseException) -> str:
    """An error in one line: the message of one that the data can cause, with its kind and place for any other."""
    text = " ".join(str(error).split())
    if isinstance(error, (InputError, OSError)) and text:
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _do(work: Callable[[Any, memoryview], Answer], worker: Any, task: Task, limit: float) -> Answer:
    kind, body = task
    count = len(unpack(body)) if kind == Kind.BATCH else 1
    with suppress(OSError):
        os.ftruncate(2, 0)  # what it says from here on is about this task
    # The driver ends a task that takes too long. This ends it where the driver was killed and the task also holds the
    # interpreter's lock, so that the end of the input goes unseen.
    faulthandler.dump_traceback_later(min(limit * count + _GRACE, _LONGEST), exit=True)
    try:
        return work(worker, body)
    except BaseException as error:  # noqa: BLE001 - one clip's failure, an exit that a library asks for among them
        if is_broken_device(error):
            sys.stderr.write(f"{error_line(error)}\n")
            sys.stderr.flush()
            os._exit(BROKEN_DEVICE)
        return Kind.FAILED, [_encode(error_line(error))]
    finally:
        faulthandler.cancel_dump_traceback_later()


def _read(preparer: Any, body: memoryview) -> Answer:
    return Kind.PREPARED, dump_arrays(preparer.prepare(pickle.loads(body)))


def _explain(explainer: Any, body: memoryview) -> Answer:
    clips = [load_arrays(part) for part in unpack(body)]
    rows = explainer.explain(clips)
    if len(rows) != len(clips):
        raise RuntimeError(f"{len(rows)} rows for {len(clips)} clips")
    return Kind.ROWS, [pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)]


def _take(inbox: Inbox, tasks: SimpleQueue[Task]) -> None:
    """Queues tasks as they come, so that the next one is here when the current one is done."""
    try:
        for task in inbox.receive():
            tasks.put(task)
            del task  # as large as all of its clips
    finally:
        if os.getpgrp() == os.getpid():  # with the programs that a decoder may have started
            os.killpg(0, signal.SIGKILL)
        os._exit(0)


def _ignore_signal(number: int, frame: object) -> None:
    """Takes a signal without a change; unlike with SIG_IGN, programs started from here do get it."""


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # names of files may be any bytes


if __name__ == "__main__":
    main(sys.argv[1])
