"""One process that decodes uploads, as the service sees it: nothing that it sends is trusted."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError, ModelError, brief
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.views import DISPLAY_SIDE
from aosa_fast.processes import search_path, widen
from aosa_fast.service.settings import Limits
from aosa_fast.streams.messages import SilenceError, receive, send
from aosa_fast.video.clip import Window

_START = 120.0  # seconds for the process itself, on a busy machine
_TEXT = 1 << 16  # bytes of what is said beside pictures
_REAP = 2.0  # seconds
_NUMBERS = ("height", "width", "total_frames", "fps", "damaged_packets")
_LISTS = ("frame_indices", "frame_times", "replaced_frames")


class GoneError(Exception):
    """The process has ended, or says what it cannot mean."""


class Decoder:
    """A process that decodes one upload after the other. All of it blocks, but for `kill`."""

    def __init__(self, preprocessing: Preprocessing, window: Window, limits: Limits) -> None:
        """Starts it.

        Raises:
            InputError: the system refuses.
        """
        self._frames, self._crop, self._last = preprocessing.frames, preprocessing.crop, False
        self._lock = threading.Lock()
        self._patience = limits.decode_timeout + 1.0  # for what it may have started, which holds its pipe
        self._setup = pickle.dumps((preprocessing, window, limits))
        command = [sys.executable, "-P", "-m", "aosa_fast.service.decoder_process", str(os.getpid())]
        # Arenas of malloc take address space, of which there is little.
        environment = {**os.environ, "PYTHONPATH": search_path(), "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                start_new_session=True,  # Ctrl-C is not for it, and what a decoder starts ends with it
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"the system must allow a process that decodes; {error.strerror}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._channel = self._process.stdin.fileno(), self._process.stdout.fileno()
        widen(self._channel)

    def begin(self) -> None:
        """Waits until it is ready.

        Raises:
            InputError: it will not be; the model's preprocessing may be what cannot be had there.
        """
        try:
            with suppress(BrokenPipeError):
                send(self._orders, {}, np.frombuffer(self._setup, np.uint8))
            facts, _ = self._receive("ready", 0, _START)
        except GoneError as error:
            raise InputError(f"a process that decodes must start; {error}") from None
        if facts["kind"] == "failed":
            raise InputError(f"a process that decodes must start; {brief(facts['reason'])}")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process can decode another upload."""
        return not self._last and self._process.poll() is None

    def decode(self, path: str, media: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
        """Its pictures, those to display, and the facts about them.

        Raises:
            ModelError: the model's own preprocessing failed.
            InputError: it cannot be used, and why.
            GoneError: the process has ended.
        """
        with self._lock:
            return self._decode(path, media)

    def _decode(self, path: str, media: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
        with suppress(BrokenPipeError):
            send(self._orders, {"path": path, "media": media})
        shape = (self._frames, *self._crop, 3)
        facts, content = self._receive("pictures", math.prod(shape))
        if facts["kind"] == "failed":
            raise (ModelError if facts.get("model") else InputError)(brief(facts["reason"], 1000))
        pictures = _shaped(content, shape)
        facts, content = self._receive("display", self._frames * DISPLAY_SIDE * DISPLAY_SIDE * 3)
        try:
            t, height, width, channels = (int(side) for side in facts["shape"])
        except (KeyError, TypeError, ValueError):
            raise GoneError("its decoder sent no pictures") from None
        if not (0 < height <= DISPLAY_SIDE and 0 < width <= DISPLAY_SIDE) or (t, channels) != (self._frames, 3):
            raise GoneError("its decoder sent no pictures")
        return pictures, _shaped(content, (t, height, width, 3)), _plain(facts.get("facts"), self._frames)

    def kill(self) -> None:
        """Ends the process, and what it started: a call that waits for it then fails."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the process, and waits until it has."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_REAP)
        with self._lock:  # who reads a pipe that is closed, may read what is opened next
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()

    def _receive(self, kind: str, size: int, timeout: float = 0.0) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        """The next message, which is of this kind or "failed"; no more than `size` bytes come with it."""
        try:
            message = receive(self._channel, timeout or self._patience, size + _TEXT)
        except SilenceError:
            raise GoneError("nothing came from its decoder") from None
        except (ValueError, RecursionError):
            raise GoneError("its decoder sent no message") from None
        if message is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_REAP)
            raise GoneError(_ending(self._process.returncode))
        facts, content = message
        if not isinstance(facts, dict) or facts.get("kind") not in (kind, "failed"):
            raise GoneError("its decoder sent no message")
        if facts["kind"] == "failed" and not isinstance(facts.get("reason"), str):
            raise GoneError("its decoder sent no message")
        self._last = bool(facts.get("last"))
        return facts, content


def _ending(code: int | None) -> str:
    if code is None:
        return "its decoder sent no message"
    if code >= 0:
        return f"its decoder ended with code {code}"
    with suppress(ValueError):
        return f"its decoder was ended by {signal.Signals(-code).name}"
    return f"its decoder was ended by signal {-code}"


def _shaped(content: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if content.size != math.prod(shape):
        raise GoneError("its decoder sent no pictures")
    return content.reshape(shape)


def _plain(given: Any, count: int) -> dict[str, Any]:
    """The facts, if they are what they must be: numbers, and lists of no more numbers than there are frames."""
    try:
        facts: dict[str, Any] = {name: _number(given[name]) for name in _NUMBERS}
        for name in _LISTS:
            if not isinstance(given[name], list) or len(given[name]) > count:
                raise GoneError("its decoder sent no facts")
            facts[name] = [_number(value) for value in given[name]]
        return {"reader": brief(given["reader"], 20), **facts}
    except (KeyError, TypeError, ValueError):
        raise GoneError("its decoder sent no facts") from None


def _number(value: Any) -> int | float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return value
